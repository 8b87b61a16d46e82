"""Flax NNX layers: Dropout, a drop-in for flax.nnx.Dropout, its family, and the papers' MLP."""

from dropout_jax.layers.alpha import AlphaDropout as AlphaDropout
from dropout_jax.layers.alpha import FeatureAlphaDropout as FeatureAlphaDropout
from dropout_jax.layers.attention import dot_product_attention as dot_product_attention
from dropout_jax.layers.block import DropBlock as DropBlock
from dropout_jax.layers.concrete import ConcreteDropout as ConcreteDropout
from dropout_jax.layers.connect import DropConnectLinear as DropConnectLinear
from dropout_jax.layers.dropout import Dropout as Dropout
from dropout_jax.layers.gaussian import GaussianDropout as GaussianDropout
from dropout_jax.layers.gaussian import GaussianNoise as GaussianNoise
from dropout_jax.layers.kl import total_kl as total_kl
from dropout_jax.layers.mlp import MLP as MLP
from dropout_jax.layers.path import DropPath as DropPath
from dropout_jax.layers.replace import replace_dropout as replace_dropout
from dropout_jax.layers.scheduled import ScheduledDropout as ScheduledDropout
from dropout_jax.layers.sparse import SparseLinear as SparseLinear
from dropout_jax.layers.spatial import SpatialDropout1D as SpatialDropout1D
from dropout_jax.layers.spatial import SpatialDropout2D as SpatialDropout2D
from dropout_jax.layers.spatial import SpatialDropout3D as SpatialDropout3D
from dropout_jax.layers.variational import VariationalDropout as VariationalDropout
from dropout_jax.layers.zoneout import Zoneout as Zoneout
