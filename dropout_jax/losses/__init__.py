"""Loss functions for `fit`: mean squared error, cross-entropy and more; R-Drop, multi-sample."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
