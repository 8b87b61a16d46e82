"""The version, for pyproject.toml and `dropout_jax.__version__`."""

__version__ = "0.2.0"
