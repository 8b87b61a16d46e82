"""Dropout for JAX: exact masks, the whole dropout family, Flax layers, training and prediction."""

import lazy_loader

# The names stand in __init__.pyi, where type checkers look too; each is loaded on first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
