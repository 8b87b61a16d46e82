"""Our Dropout in place of Flax's, in a model that exists."""

from flax import nnx

from dropout_jax._checks import check_rate
from dropout_jax.layers.dropout import Dropout


def replace_dropout(model: nnx.Module) -> int:
    """Turn every `flax.nnx.Dropout` in a model into ours, in place.

    The objects stay, with their rate, broadcast_dims, rng_collection, stream and switch: what was
    shared stays shared, and no other attribute, parameter or stream changes. The masks are others.
    Only Flax's own class is replaced, not classes derived from it.

    `nnx.MultiHeadAttention` drops attention weights in a function, without a Dropout module. For
    those too:
    `model.set_attributes(nnx.MultiHeadAttention, attention_fn=layers.dot_product_attention)`.

    Args:
      model: an NNX module; its modules are found wherever `model.eval()` finds them.

    Returns:
      How many were replaced; 0 the second time.

    Raises:
      TypeError: a model that is no NNX module.
      ValueError: a rate outside [0, 1], which Flax accepts; nothing is replaced then.

    Example:
      >>> from dropout_jax import layers
      >>> from flax import nnx
      >>> model = nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), nnx.Dropout(0.5))
      >>> layers.replace_dropout(model)
      1
      >>> isinstance(model.layers[1], layers.Dropout)
      True
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model is {type(model).__name__} and no nnx.Module; in a Linen model write "
            "dropout_jax.linen.Dropout instead of nn.Dropout."
        )
    nodes = nnx.iter_graph(model, graph=True)  # each once, where shared or in a cycle too
    found = [(path, node) for path, node in nodes if type(node) is nnx.Dropout]
    for path, node in found:
        try:
            check_rate(node.rate)
        except ValueError as error:
            raise ValueError(f"model.{'.'.join(map(str, path))}: {error}") from None
    for _, node in found:
        # The class is changed, not the object: references to it may be many, and in tuples.
        # Past Flax's __setattr__, which would make the class one of the module's attributes.
        object.__setattr__(node, "__class__", Dropout)
    return len(found)
