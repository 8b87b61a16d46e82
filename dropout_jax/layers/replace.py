"""Our dropout in place of Flax's, in an NNX model that exists: Dropout and attention."""

import inspect
import warnings
from collections.abc import Iterator

from flax import nnx

from dropout_jax._checks import check_rate
from dropout_jax.layers.attention import dot_product_attention
from dropout_jax.layers.base import NoiseLayer
from dropout_jax.layers.dropout import Dropout

# What code holds that drops without a module: whose classes are named in the warning.
OWN_DROPOUT = ("random.bernoulli(", "dropout_rng=", "nnx.dropout(")


def replace_dropout(model: nnx.Module, *, attention: bool = True) -> int:
    """Turn Flax's dropout in a model into ours, in place: every `nnx.Dropout`, and attention.

    The Dropout objects stay, with their rate, broadcast_dims, rng_collection, stream and switch:
    what was shared stays shared, and no other attribute, parameter or stream changes. The masks are
    others. Only Flax's own class is replaced, not classes derived from it.

    Where a module, such as `nnx.MultiHeadAttention` or a model's own attention class, holds
    `nnx.dot_product_attention`, it gets `layers.dot_product_attention`: dropout of weights, and
    attention in memory that grows with the length alone. What drops in another way is named in a
    warning.

    Args:
      model: an NNX module; its modules are found wherever `model.eval()` finds them.
      attention: False leaves attention functions alone.

    Returns:
      How many were replaced, Dropout objects and attention functions; 0 the second time.

    Raises:
      TypeError: a model that is no NNX module.
      ValueError: a rate outside [0, 1], which Flax accepts; nothing is replaced then.

    Warns:
      UserWarning: what was left as it was, and why.

    Example:
      >>> from dropout_jax import layers
      >>> from flax import nnx
      >>> model = nnx.Sequential(
      ...     nnx.MultiHeadAttention(2, 4, dropout_rate=0.1, decode=False, rngs=nnx.Rngs(0)),
      ...     nnx.Dropout(0.5))
      >>> layers.replace_dropout(model)
      2
      >>> isinstance(model.layers[1], layers.Dropout)
      True
    """
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model is {type(model).__name__} and no nnx.Module; run a Linen model inside "
            "dropout_jax.linen.replace_dropout()."
        )
    nodes = [  # each once, where shared or in a cycle too
        (f"model.{'.'.join(map(str, path))}".rstrip("."), node)
        for path, node in nnx.iter_graph(model, graph=True)
        if isinstance(node, nnx.Module)
    ]
    dropouts = [(path, node) for path, node in nodes if type(node) is nnx.Dropout]
    functions = [
        (node, name)
        for _, node in nodes
        for name, value in vars(node).items()
        if attention and value is nnx.dot_product_attention
    ]
    for path, node in dropouts:
        try:
            check_rate(node.rate)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    for _, node in dropouts:
        # The class is changed, not the object: references to it may be many, and in tuples.
        # Past Flax's __setattr__, which would make the class one of the module's attributes.
        object.__setattr__(node, "__class__", Dropout)
    for node, name in functions:
        setattr(node, name, dot_product_attention)
    if left := list(_left(nodes, attention)):
        warnings.warn(f"left as they were: {'; '.join(left)}.", stacklevel=2)
    return len(dropouts) + len(functions)


def _left(nodes: list[tuple[str, nnx.Module]], attention: bool) -> Iterator[str]:
    """What was not replaced and drops in another way, and why."""
    for path, node in nodes:
        kind = type(node)
        if isinstance(node, NoiseLayer) or kind.__module__.startswith("flax."):
            if isinstance(node, nnx.bridge.ToNNX):
                yield f"{path} (a Linen module: call it inside linen.replace_dropout())"
            elif attention and getattr(node, "dropout_rate", 0):
                function = getattr(node, "attention_fn", dot_product_attention)
                if function is not dot_product_attention:
                    yield f"{path} (an attention_fn of its own)"
        elif isinstance(node, nnx.Dropout):
            yield f"{path} ({kind.__name__}, derived from nnx.Dropout)"
        elif found := [words for words in OWN_DROPOUT if words in _source(kind)]:
            yield f"{path} ({kind.__name__}, whose code has {found[0]}...)"


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # made in a notebook or by a program
        return ""
