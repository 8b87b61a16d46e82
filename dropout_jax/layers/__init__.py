"""Flax NNX layers: Dropout, a drop-in for flax.nnx.Dropout, its family, and the papers' MLP."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
