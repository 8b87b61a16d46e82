"""Dropout masks as values: draw, pack to one bit an element, unpack, apply."""

from dropout_jax.masks.apply import apply_mask as apply_mask
from dropout_jax.masks.packed import PackedMask as PackedMask
from dropout_jax.masks.packed import bernoulli_mask as bernoulli_mask
from dropout_jax.masks.packed import packed_mask as packed_mask
