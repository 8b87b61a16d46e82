"""Train Flax NNX models with optax: the loop as pure functions, and a run with a progress bar."""

from dropout_jax._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
