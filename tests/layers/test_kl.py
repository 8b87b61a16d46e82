"""What learned layers add to a loss: the sum over units and layers, however they are laid out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dropout_jax.layers import (
    ConcreteDropout,
    NoiseLayer,
    SparseLinear,
    VariationalDropout,
    total_kl,
)
from dropout_jax.noise.concrete import concrete_kl

ENTROPY = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))


def rngs(seed=0):
    return nnx.Rngs(jax.random.key(seed))


# Concrete dropout counts the units that feed a layer

INPUTS = {
    "Linear": (lambda: nnx.Linear(4, 8, rngs=rngs()), 4),
    "Conv": (lambda: nnx.Conv(4, 8, (3, 3), rngs=rngs()), 4),
    "Conv in groups": (lambda: nnx.Conv(4, 8, (3, 3), feature_group_count=4, rngs=rngs()), 4),
    "ConvTranspose": (lambda: nnx.ConvTranspose(4, 8, (3, 3), rngs=rngs()), 4),
    "ConvTranspose of a transposed kernel": (
        lambda: nnx.ConvTranspose(4, 8, (3, 3), transpose_kernel=True, rngs=rngs()),
        4,
    ),
    "LinearGeneral from two axes": (
        lambda: nnx.LinearGeneral((4, 8), 6, axis=(-2, -1), rngs=rngs()),
        32,
    ),
    "LinearGeneral to two axes": (lambda: nnx.LinearGeneral(6, (4, 8), rngs=rngs()), 6),
    "LinearGeneral, batched": (lambda: nnx.LinearGeneral(6, 8, batch_axis={0: 3}, rngs=rngs()), 18),
    "Einsum": (lambda: nnx.Einsum("nta,hab->nthb", (3, 4, 5), None, rngs=rngs()), 4),
    "Einsum over two axes": (lambda: nnx.Einsum("nha,hab->nb", (3, 4, 5), None, rngs=rngs()), 12),
    "LoRALinear": (lambda: nnx.LoRALinear(4, 6, lora_rank=2, rngs=rngs()), 4),
}


@pytest.mark.parametrize("name", INPUTS)
def test_concrete_kl_of_every_layer_with_a_kernel(name):
    make, inputs = INPUTS[name]
    layer = ConcreteDropout(make(), rate=0.1, length_scale=0.5)
    weights = 0.25 / 2 / 0.9 * (np.float64(layer.layer.kernel[...]) ** 2).sum()
    np.testing.assert_allclose(layer.kl(), weights - inputs * ENTROPY, rtol=1e-5)


def test_concrete_kl_of_the_function_with_inputs():
    kernel, logit = jnp.ones((3, 3, 1, 8)), np.log(0.1 / 0.9)
    found = concrete_kl(kernel, logit, length_scale=1.0, inputs=4)
    np.testing.assert_allclose(found, 36 / 0.9 - 4 * ENTROPY, rtol=1e-5)
    each = concrete_kl(jnp.ones((4, 2)), jnp.full(4, logit), length_scale=1.0)
    np.testing.assert_allclose(each, concrete_kl(jnp.ones((4, 2)), logit, length_scale=1.0))
    with pytest.raises(ValueError, match="logit_rate"):
        concrete_kl(jnp.ones((4, 2)), jnp.zeros(4), length_scale=1.0, inputs=4)
    with pytest.raises(ValueError, match="inputs is 0; write a whole number"):
        concrete_kl(jnp.ones((4, 2)), 0.0, length_scale=1.0, inputs=0)


# Stacks of layers, as for scan over layers

LAWS = {
    "concrete": lambda seed: ConcreteDropout(
        nnx.Linear(8, 16, rngs=rngs(seed)), rate=0.1 + 0.01 * seed, length_scale=1.0
    ),
    "concrete convolution": lambda seed: ConcreteDropout(
        nnx.Conv(4, 8, (3,), feature_group_count=4, rngs=rngs(seed)), length_scale=1.0
    ),
    "concrete, prior of each": lambda seed: ConcreteDropout(
        nnx.Linear(8, 16, rngs=rngs(seed)), length_scale=1.0 + seed
    ),
    "variational": lambda seed: VariationalDropout(8, rate=0.1 + 0.01 * seed),
    "sparse": lambda seed: SparseLinear(8, 16, rngs=rngs(seed)),
}


def stack(make, shape):
    """Layers by nnx.vmap over their constructor, nested for several axes."""
    for _ in shape:
        make = nnx.vmap(make)
    return make(jnp.arange(np.prod(shape)).reshape(shape))


@pytest.mark.parametrize("shape", [(8,), (4,), (1,), (2, 3), (2, 1, 2)], ids=str)
@pytest.mark.parametrize("law", LAWS)
def test_total_kl_of_a_stack_is_the_sum_over_its_layers(law, shape):
    stacked = stack(LAWS[law], shape)
    alone = sum(total_kl(LAWS[law](seed)) for seed in range(np.prod(shape)))
    np.testing.assert_allclose(total_kl(stacked), alone, rtol=1e-5)
    np.testing.assert_allclose(total_kl(nnx.Dict(blocks=stacked)), alone, rtol=1e-5)


def test_a_stack_in_another_axis_says_what_to_write():
    last = nnx.vmap(LAWS["concrete"], out_axes=-1)(jnp.arange(3))
    with pytest.raises(ValueError, match=r"stacked as \(3,\).*out_axes=0"):
        total_kl(last)


# The sum


def test_total_kl_of_a_law_of_your_own():
    class Mine(NoiseLayer):
        def kl(self):
            return jnp.float32(2)

    assert total_kl(nnx.List([Mine(), LAWS["sparse"](0), Mine()])) == 4 + LAWS["sparse"](0).kl()


def test_total_kl_keeps_float32_in_64_bit_mode_and_under_strict_promotion():
    model = nnx.List([make(0) for make in LAWS.values()])
    empty = nnx.Linear(2, 3, rngs=rngs())
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        assert total_kl(model).dtype == total_kl(empty).dtype == jnp.float32
