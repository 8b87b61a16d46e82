"""Dropout for Flax Linen: a drop-in for flax.linen.Dropout, and models with theirs replaced."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
