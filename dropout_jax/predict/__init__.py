"""Predict with dropout models: weight scaling, Monte Carlo dropout, geometric mean, moments."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
