"""Flax NNX layers: Dropout, a drop-in for flax.nnx.Dropout, and the MLP of the dropout papers."""

from dropout_jax.layers.dropout import Dropout as Dropout
from dropout_jax.layers.mlp import MLP as MLP
