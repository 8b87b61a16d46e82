"""What the oldest versions of JAX that the library takes cannot do."""

import jax
import pytest


def skip_fit_on_explicit_axes() -> None:
    """JAX 0.9 has no rule for the gradient of a dense layer on examples that are divided so."""
    if jax.__version_info__ < (0, 10):
        pytest.skip("fit on explicit axes needs JAX 0.10")
