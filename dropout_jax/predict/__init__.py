"""Predict with dropout models: MC dropout, weight scaling, moments; how sure they are."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
