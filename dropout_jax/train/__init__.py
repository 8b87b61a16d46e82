"""Train Flax NNX models with optax: the loop as pure functions, and a run with a progress bar."""

import lazy_loader

# The names stand in __init__.pyi, where type checkers look too; each is loaded on first use.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
