"""`freeze`: an optimizer that leaves layers of a model as they are.

What would make this wrong: a place that is misspelt and freezes nothing, a neighbour whose name
begins alike, weight decay or momentum that moves what is frozen, a run that cannot go on.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from optax import contrib

import dropout_jax as dj

X = jax.random.normal(jax.random.key(1), (48, 8))
Y = jnp.argmax(X[:, :3], axis=-1)


class Net(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.encoder, self.encoder2 = (nnx.Linear(8, 8, rngs=rngs) for _ in range(2))
        self.head = dj.layers.MLP((8, 8, 3), rates=0.5, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.encoder2(nnx.relu(self.encoder(x)))))


def fit(model, optimizer, **options):
    options = {"key": jax.random.key(0), "epochs": 2, "batch_size": 16} | options
    return dj.fit(model, optimizer, X, Y, progress=False, **options)


def moved(optimizer, **options):
    """The parameters that training moves, by their place."""
    before, model = nnx.state(Net(), nnx.Param), Net()
    fit(model, optimizer, **options)
    after = nnx.state(model, nnx.Param)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    return {
        "/".join(map(str, path)) for path, leaf in nnx.to_flat_state(changed) if leaf.get_value()
    }


EVERYTHING = {
    f"{layer}/{name}"
    for layer in ("encoder", "encoder2", "head/linears/0", "head/linears/1")
    for name in ("kernel", "bias")
}


@pytest.mark.parametrize(
    ("places", "frozen"),
    [
        (["encoder"], {"encoder/kernel", "encoder/bias"}),
        (["encoder2/kernel", "head/linears/1/"],
         {"encoder2/kernel", "head/linears/1/kernel", "head/linears/1/bias"}),
        (["encoder", "encoder2", "head/linears/0"],
         {p for p in EVERYTHING if "linears/1" not in p}),
    ],
)  # fmt: skip
def test_what_is_frozen_stays_and_the_rest_is_trained(places, frozen):
    assert moved(dj.freeze(optax.adamw(1e-2, weight_decay=0.1), *places)) == EVERYTHING - frozen


OPTIMIZERS = {
    "momentum and max-norm": lambda: optax.chain(optax.sgd(0.1, momentum=0.9), dj.max_norm(1.0)),
    "lookahead": lambda: optax.lookahead(optax.sgd(0.1), 2, 0.5),
    "plateau": lambda: optax.chain(optax.sgd(0.1), contrib.reduce_on_plateau(accumulation_size=3)),
    "dpsgd": lambda: contrib.dpsgd(0.1, 1.0, 0.1, 0),
}


# optax.contrib.dpsgd itself passes what optax has deprecated.
@pytest.mark.filterwarnings('ignore:"seed" is deprecated:DeprecationWarning')
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_kind_of_optimizer_can_leave_layers_alone(name):
    trained = moved(dj.freeze(OPTIMIZERS[name](), "encoder"))
    assert trained == EVERYTHING - {"encoder/kernel", "encoder/bias"}


def test_a_run_with_frozen_layers_goes_on_bitwise(tmp_path):
    straight, resumed = Net(), Net()
    fit(straight, dj.freeze(optax.adam(1e-2), "encoder"), epochs=4)
    for epochs in (2, 4):
        fit(resumed, dj.freeze(optax.adam(1e-2), "encoder"), epochs=epochs, checkpoint_dir=tmp_path)
    for a, b in zip(*(jax.tree.leaves(nnx.state(m, nnx.Param)) for m in (straight, resumed)),
                    strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)


def test_a_loop_of_one_s_own_takes_it():
    model = Net()
    before = model.encoder.kernel[...], model.encoder2.kernel[...]
    optimizer = nnx.Optimizer(model, dj.freeze(optax.adam(1e-2), "encoder"), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(dj.losses.cross_entropy)(model, X, Y))

    step(model, optimizer)
    assert (model.encoder.kernel[...] == before[0]).all()
    assert (model.encoder2.kernel[...] != before[1]).any()


def test_mistakes_say_what_to_write():
    with pytest.raises(ValueError, match="no parameters at 'encode'; it has encoder/bias, encoder"):
        fit(Net(), dj.freeze(optax.adam(1e-2), "encoder2", "encode"))
    with pytest.raises(TypeError, match=r"write freeze\(optax.adam\(1e-3\), 'encoder'\)"):
        dj.freeze(optax.adam(1e-2))
    with pytest.raises(TypeError, match=r"write one of optax's"):
        dj.freeze("encoder", "head")
