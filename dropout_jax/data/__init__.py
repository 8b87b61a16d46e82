"""Data sets as NumPy arrays: digits, MNIST, Fashion-MNIST, UCI regression."""

from dropout_jax.data.idx import DataError as DataError
from dropout_jax.data.sets import Dataset as Dataset
from dropout_jax.data.sets import load as load
from dropout_jax.data.sets import load_digits as load_digits
from dropout_jax.data.sets import load_fashion_mnist as load_fashion_mnist
from dropout_jax.data.sets import load_mnist as load_mnist
from dropout_jax.data.sets import split_validation as split_validation
from dropout_jax.data.uci import load_uci as load_uci
