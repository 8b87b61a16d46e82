"""Train networks for regression for as many updates as the authors of the UCI experiments do."""

import jax
import jax.numpy as jnp
import optax

from dropout_jax import predict, train
from dropout_jax.typing import Array
from experiments.nets.regression import Net, loss

MEMBERS, BATCH = 5, 128


def trained(config, key, rate, tau, x: Array, y: Array, member: Array | int = 0) -> tuple:
    """A network of `config` after its updates, and the mean loss of the last epoch.

    The order of the training cases depends on `member` alone. Under `vmap` over splits, each of
    which numbers its cases at random, it is then drawn once: sorting would take more time than all
    the rest.
    """
    batch, steps, epochs = lengths(config.epochs, len(x))
    traced = isinstance(rate, jax.Array)
    hyper = {"tau": tau} | ({"rate": rate} if traced else {})

    def build(rngs, hyper):
        return Net(config, hyper.get("rate", rate), hyper["tau"], x, y, rngs)

    loop = train.make_loop(
        build, lambda hyper: optax.adam(1e-3), batch_size=batch, loss=loss, metrics={}
    )
    order_key = jax.random.fold_in(jax.random.key(0), member)

    def epoch(state, number):
        order = jax.random.permutation(jax.random.fold_in(order_key, number), len(x))
        rows = order[: steps * batch].reshape(steps, batch)
        return jax.lax.scan(lambda state, rows: loop.step(state, x[rows], y[rows]), state, rows)

    state = loop.init(key, hyper, {"train": (x, y)})
    state, losses = jax.lax.scan(epoch, state, jnp.arange(epochs, dtype=jnp.int32))
    return state.model(), losses[-1].mean()


def lengths(epochs: int, cases: int) -> tuple[int, int, int]:
    """The size of a batch, the batches of an epoch, and the epochs of as many updates.

    The authors' last batch of an epoch is smaller. Ours is left out, for more epochs.
    """
    batch = min(BATCH, cases)
    steps = cases // batch
    return batch, steps, -(-epochs * -(-cases // batch) // steps)


def members(config, key, tau, fit, x: Array) -> Array:
    """Predictions (members, cases) of networks without dropout that differ in their seed."""

    def member(number):
        net, _ = trained(config, jax.random.fold_in(key, number), 0.0, tau, *fit, member=number)
        return predict.predict_scaled(net, x, output=lambda outputs: outputs)[:, 0]

    return jax.vmap(member)(jnp.arange(MEMBERS))
