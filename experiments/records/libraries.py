"""The names of the libraries and floors that the benchmark's rows hold."""

FLOOR = "x * c"
NO_DROPOUT = "no dropout"
COPY = "copy"
OURS = "dropout_jax"
OURS_KEY = "dropout_jax residual=key"
OURS_KERNEL = "dropout_jax.kernel"
ATTENTION_TOO = "dropout_jax, attention too"
WEIGHTS_HELD, CAUSAL = "dropout_jax, weights held", "dropout_jax, causal"  # of attention
FLAX_NNX = "flax.nnx"
KERAS, TORCH = "keras", "torch"
PLAIN_LOOP = "nnx.jit loop"
DROPOUT, NORMAL = "dropout", "x * normal"  # the floors of the family
FLOORS = (FLOOR, NO_DROPOUT)


def thinned(steps: int, block: int) -> str:
    """Thinned training with so many updates a life and blocks of so many units."""
    return f"thin {steps}/{block}"
