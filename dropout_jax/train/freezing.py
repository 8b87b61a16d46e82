"""Freeze layers of a model: train the others alone."""

import jax
import jax.numpy as jnp
import optax

from dropout_jax.train.optimizers import adapted


def freeze(
    optimizer: optax.GradientTransformation, *places: str
) -> optax.GradientTransformationExtraArgs:
    """An optimizer that leaves the parameters at some places as they are.

    They have no momentum and no decay either. Frozen layers still have dropout, and a BatchNorm in
    them still updates its statistics, which are no parameters.

    Args:
      optimizer: what trains the other parameters.
      places: of layers or parameters, one or more: the attributes that lead there, such as
        "encoder" or "layers/0/kernel".

    Returns:
      An optax transformation.

    Raises:
      TypeError: an optimizer that is no optax transformation; no place, or one that is no string.
      ValueError: in its `init`, for a place without parameters.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp, optax
      >>> from flax import nnx
      >>> model = dj.layers.MLP((4, 8, 2), rates=0.5, rngs=nnx.Rngs(0))
      >>> before = model.linears[0].kernel[...]
      >>> optimizer = dj.freeze(optax.adam(1e-2), "linears/0")
      >>> history = dj.fit(model, optimizer, jnp.eye(4), jnp.array([0, 1, 1, 0]), epochs=3,
      ...                  batch_size=4, key=jax.random.key(0), progress=False)
      >>> bool((model.linears[0].kernel[...] == before).all())
      True
    """
    if not places or not all(isinstance(place, str) for place in places):
        raise TypeError(
            f"the places to freeze are {places!r}; write freeze(optax.adam(1e-3), 'encoder')."
        )

    def labels(params):
        paths = [_place(path) for path, _ in jax.tree.leaves_with_path(params)]
        for place in places:
            if not any(_is_in(path, place) for path in paths):
                raise ValueError(
                    f"the model has no parameters at {place!r}; it has {', '.join(paths[:8])}"
                    f"{', ...' if len(paths) > 8 else ''}."
                )

        def label(path, _):
            return "frozen" if any(_is_in(_place(path), place) for place in places) else "trained"

        return jax.tree.map_with_path(label, params)

    # Zeros like the parameters: an optimizer of private gradients gets one for each example.
    still = optax.stateless(lambda updates, params: jax.tree.map(jnp.zeros_like, params))
    return optax.partition({"frozen": still, "trained": adapted(optimizer)}, labels)


def _place(path) -> str:
    """A parameter's place, as "layers/0/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")


def _is_in(path: str, place: str) -> bool:
    return f"{path}/".startswith(f"{place.strip('/')}/")
