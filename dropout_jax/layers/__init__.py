"""Dropout layers for Flax NNX: a drop-in for flax.nnx.Dropout, the rest of the family, an MLP."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
