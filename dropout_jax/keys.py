"""Random keys for dropout: a key for each named place in a model, and one for each example."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from dropout_jax._checks import check_key, is_traced
from dropout_jax._sharding import sharding_of, spread
from dropout_jax.typing import Array, Key


def site_key(key: Key, site: str | int) -> Key:
    r"""The key of a named place in a model: stable in the name, not in the order of calls.

    $$\text{key}' = \text{fold\_in}(\text{key},\; h(\text{site})),$$
    where h is the first 32 bits of BLAKE2s of the name: adding or removing another site changes
    nothing for this one. A number, such as that of a layer in a scan over layers, is folded into
    the key of the name "site", so that no number has the key of a name.

    Args:
      key: the step's key, from `jax.random.key`.
      site: the name of the place, such as "hidden1"; or an integer from 0 to 2^32 - 1, traced or
        not.

    Returns:
      A typed key.

    Raises:
      TypeError: `key` is not a key, or `site` is neither a string nor an integer.
      ValueError: a concrete integer outside that range.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> step_key = jax.random.key(0)
      >>> h = dj.dropout(dj.site_key(step_key, "hidden1"), jnp.ones(8), 0.5)
      >>> def block(x, layer):
      ...     return dj.dropout(dj.site_key(step_key, layer), x, 0.5), None
      >>> jax.lax.scan(block, jnp.ones(8), jnp.arange(3))[0].shape
      (8,)
    """
    key = check_key(key)
    if isinstance(site, str):
        return _named(key, site)
    number = site if isinstance(site, (jax.Array, np.ndarray, np.generic)) else np.asarray(site)
    if not jnp.issubdtype(number.dtype, jnp.integer) or number.shape != ():
        raise TypeError(f"site is {site!r}; write a name, such as 'hidden1', or an integer.")
    if not is_traced(number) and not 0 <= int(number) < 2**32:
        raise ValueError(f"site is {site}; write an integer from 0 to 2^32 - 1.")
    return jax.random.fold_in(_named(key, "site"), number.astype(np.uint32))


def _named(key: Key, site: str) -> Key:
    digest = hashlib.blake2s(site.encode(), digest_size=4).digest()
    return jax.random.fold_in(key, int.from_bytes(digest, "little"))


def per_example_keys(key: Key, example_ids: Array) -> Key:
    r"""One key an example, so that its mask depends on nothing but (key, example id).

    $$\text{key}_i = \text{fold\_in}(\text{key},\; \text{id}_i).$$
    The masks are then the same however the batch is ordered, split into micro-batches, or laid
    out over devices.

    Args:
      key: usually `site_key(step_key, site)`.
      example_ids: integers (batch,), the examples' indices in the data set, from 0 to 2^32 - 1.
        On a mesh with explicit axes they are sharded as the examples' rows are.

    Returns:
      Typed keys (batch,), to map over.

    Raises:
      TypeError: `key` is not a key, or the ids are not integers.
      ValueError: concrete ids of 64 bits outside that range, two of which might have one key.

    Example:
      >>> import dropout_jax as dj, jax, jax.numpy as jnp
      >>> keys = dj.per_example_keys(jax.random.key(0), jnp.arange(4))
      >>> y = jax.vmap(dj.dropout, (0, 0, None))(keys, jnp.ones((4, 8)), 0.5)
      >>> y.shape
      (4, 8)
    """
    key = check_key(key)
    ids = example_ids if isinstance(example_ids, jax.Array) else np.asarray(example_ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"example_ids has dtype {ids.dtype}; write the examples' integer indices.")
    if ids.size and ids.dtype.itemsize == 8 and not is_traced(ids):
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= 2**32:
            raise ValueError(
                f"example_ids run from {low} to {high}, and a key takes 32 bits of them; write "
                "indices from 0, such as np.unique(ids, return_inverse=True)[1] of all ids."
            )
    ids = jnp.asarray(ids.astype(np.uint32))
    return spread(sharding_of(ids), _folded, key, ids)


def _folded(key, ids):
    return jax.vmap(jax.random.fold_in, (None, 0))(key, ids.reshape(-1)).reshape(ids.shape)
