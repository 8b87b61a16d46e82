"""Data sets as NumPy arrays: digits, MNIST, Fashion-MNIST, UCI regression."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
