"""dropout_jax: dropout for JAX, and experiments that reproduce what its literature claims."""

import lazy_loader

from dropout_jax.dropout import dropout as dropout
from dropout_jax.dropout import dropout_unscaled as dropout_unscaled
from dropout_jax.dropout import scale_for_inference as scale_for_inference
from dropout_jax.dropout import to_paper_convention as to_paper_convention
from dropout_jax.dropout import to_scaled_convention as to_scaled_convention
from dropout_jax.keys import per_example_keys as per_example_keys
from dropout_jax.keys import site_key as site_key
from dropout_jax.masks import PackedMask as PackedMask
from dropout_jax.masks import apply_mask as apply_mask
from dropout_jax.masks import bernoulli_mask as bernoulli_mask
from dropout_jax.masks import packed_mask as packed_mask
from dropout_jax.noise.alpha import alpha_dropout as alpha_dropout
from dropout_jax.noise.alpha import feature_alpha_dropout as feature_alpha_dropout
from dropout_jax.noise.attention import attention_dropout as attention_dropout
from dropout_jax.noise.block import drop_block as drop_block
from dropout_jax.noise.concrete import concrete_dropout as concrete_dropout
from dropout_jax.noise.concrete import concrete_kl as concrete_kl
from dropout_jax.noise.connect import drop_connect as drop_connect
from dropout_jax.noise.connect import drop_connect_dense as drop_connect_dense
from dropout_jax.noise.connect import drop_connect_moments as drop_connect_moments
from dropout_jax.noise.gaussian import gaussian_dropout as gaussian_dropout
from dropout_jax.noise.gaussian import gaussian_noise as gaussian_noise
from dropout_jax.noise.path import drop_path as drop_path
from dropout_jax.noise.path import drop_path_subset as drop_path_subset
from dropout_jax.noise.sparse import sparse_dense as sparse_dense
from dropout_jax.noise.sparse import sparse_kl as sparse_kl
from dropout_jax.noise.sparse import sparse_log_alpha as sparse_log_alpha
from dropout_jax.noise.sparse import sparse_mask as sparse_mask
from dropout_jax.noise.standout import standout as standout
from dropout_jax.noise.standout import standout_mean as standout_mean
from dropout_jax.noise.variational import variational_dense as variational_dense
from dropout_jax.noise.variational import variational_dropout as variational_dropout
from dropout_jax.noise.variational import variational_kl as variational_kl
from dropout_jax.noise.zoneout import zoneout as zoneout
from dropout_jax.noise.zoneout import zoneout_mean as zoneout_mean

# Loaded on first use: importing the functions costs no flax, optax or orbax.
__getattr__, _lazy_names, _ = lazy_loader.attach(
    __name__,
    submodules=[
        "checkpoint",
        "data",
        "kernel",
        "layers",
        "linen",
        "losses",
        "predict",
        "rates",
        "schedules",
        "train",
    ],
    submod_attrs={
        "constraints": ["max_norm"],
        "moments": ["moment_predict"],
        "predict": ["geometric_mean_predict", "mc_predict", "predict_scaled"],
        "runs": ["History", "NonFiniteLossError"],
        "saving": ["load", "save"],
        "thin": ["Thin"],
        "trainer": ["evaluate", "fit"],
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *_lazy_names()})
