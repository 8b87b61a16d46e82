"""Dropout for JAX: exact masks, the whole dropout family, Flax layers, training and prediction."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
