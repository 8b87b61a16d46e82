"""`fit` on loaders of other libraries, as docs/guides/training.md writes them.

What would make this wrong: rows that are lost or come twice, an order that does not follow the
epoch, tensors that are not taken, a run on a loader that is not the run on the same batches.
"""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import dropout_jax as dj

X = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
Y = np.argmax(X[:, :3], axis=-1)
SIZE = 16  # the last batch is smaller


def trained(batches, **options):
    """The weights after two epochs, and the history."""
    model = dj.layers.MLP((8, 16, 3), rates=0.5, rngs=nnx.Rngs(0))
    options = {"key": jax.random.key(0), "epochs": 2, "progress": False} | options
    history = dj.fit(model, optax.adam(1e-2), batches, **options)
    return jax.tree.leaves(nnx.state(model, nnx.Param)), history


def resumed(batches, folder):
    """The weights after an epoch, and two more of a call that goes on."""
    trained(batches, epochs=1, checkpoint_dir=folder)
    return trained(batches, epochs=3, checkpoint_dir=folder)[0]


def rows(order):
    return [(X[order[i : i + SIZE]], Y[order[i : i + SIZE]]) for i in range(0, len(order), SIZE)]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_every_row_once(batches):
    seen = np.concatenate([np.asarray(x) for x, _ in batches])
    np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(X, axis=0))


# --- tf.data, by what it shares with any iterator of NumPy arrays


class Dataset:
    """As `tf.data.Dataset`: `as_numpy_iterator()` is a new iterator, shuffled anew."""

    def __init__(self):
        self.passes = 0

    def as_numpy_iterator(self):
        order = np.random.default_rng(self.passes).permutation(len(X))
        self.passes += 1
        return iter(rows(order))


def test_an_iterator_of_numpy_arrays_an_epoch():
    dataset = Dataset()
    found, history = trained(lambda epoch: dataset.as_numpy_iterator())
    orders = [np.random.default_rng(i).permutation(len(X)) for i in (1, 2)]  # the first to look
    expected, _ = trained(lambda epoch: rows(orders[epoch]))
    assert_same(found, expected)
    assert dataset.passes == 3 and history["loss"].shape == (2,)


# --- PyTorch


@pytest.fixture
def torch_data():
    torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[torch]'")
    return torch.utils.data, torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))


@pytest.mark.compare
def test_a_loader_of_pytorch_is_its_batches(torch_data):
    data, dataset = torch_data
    loader = data.DataLoader(dataset, batch_size=SIZE)
    assert_every_row_once(loader)
    found, history = trained(loader, validation_data=loader)
    expected, _ = trained(rows(np.arange(len(X))))
    assert_same(found, expected)
    model = dj.layers.MLP((8, 16, 3), rates=0.5, rngs=nnx.Rngs(0))
    assert dj.evaluate(model, loader) == pytest.approx(dj.evaluate(model, X, Y), rel=1e-5)
    assert history["val_loss"].shape == (2,)


@pytest.mark.compare
def test_an_order_of_pytorch_that_the_epoch_decides_resumes(torch_data, tmp_path):
    import torch

    data, dataset = torch_data

    def batches(epoch):
        order = torch.Generator().manual_seed(epoch)
        return data.DataLoader(dataset, SIZE, shuffle=True, generator=order)

    assert_every_row_once(batches(0))
    straight, _ = trained(batches, epochs=3)
    assert_same(resumed(batches, tmp_path), straight)


@pytest.mark.compare
def test_a_sampler_of_pytorch_is_told_the_epoch_and_resumes(torch_data, tmp_path):
    data, dataset = torch_data

    def loader():
        sampler = data.DistributedSampler(dataset, num_replicas=1, rank=0)
        return data.DataLoader(dataset, SIZE, sampler=sampler)

    straight, _ = trained(loader(), epochs=3)

    def of_epoch(epoch):
        batches = loader()
        batches.sampler.set_epoch(epoch)
        return batches

    assert_same(trained(of_epoch, epochs=3)[0], straight)
    trained(loader(), epochs=1, checkpoint_dir=tmp_path)
    found, _ = trained(loader(), epochs=3, checkpoint_dir=tmp_path)
    assert_same(found, straight)


@pytest.mark.compare
def test_a_loader_of_dicts_says_what_to_write_and_that_works(torch_data):
    data, _ = torch_data
    dicts = [{"image": x, "label": y} for x, y in zip(X, Y, strict=True)]
    loader = data.DataLoader(dicts, batch_size=SIZE)
    with pytest.raises(TypeError, match=r"dict with \['image', 'label'\]; .* for b in loader"):
        trained(loader)
    found, _ = trained(lambda epoch: ((b["image"], b["label"]) for b in loader))
    expected, _ = trained(rows(np.arange(len(X))))
    assert_same(found, expected)


# --- Grain


@pytest.mark.compare
def test_a_dataset_of_grain_is_shuffled_by_the_epoch_and_resumes(tmp_path):
    grain = pytest.importorskip("grain", reason="Grain is absent: pip install grain")
    dataset = grain.MapDataset.source(list(zip(X, Y, strict=True)))

    def batches(epoch):
        return dataset.seed(epoch).shuffle().batch(SIZE)

    assert_every_row_once(batches(0))
    assert not np.array_equal(next(iter(batches(0)))[0], next(iter(batches(1)))[0])
    straight, _ = trained(batches, epochs=3)
    assert_same(trained(lambda epoch: list(batches(epoch)), epochs=3)[0], straight)
    assert_same(resumed(batches, tmp_path), straight)


@pytest.mark.compare
def test_a_loader_of_grain_is_its_batches():
    grain = pytest.importorskip("grain", reason="Grain is absent: pip install grain")

    class Source:
        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return X[i], Y[i]

    loader = grain.DataLoader(
        data_source=Source(),
        sampler=grain.samplers.IndexSampler(
            len(X),
            num_epochs=1,
            shuffle=True,
            seed=0,
            shard_options=grain.sharding.NoSharding(),
        ),
        operations=[grain.transforms.Batch(SIZE, drop_remainder=False)],
    )
    assert_every_row_once(loader)
    assert_same(trained(loader)[0], trained(list(loader))[0])


# --- random access, which a map-style data set of any library has


class Pairs:
    """A data set by index, and nothing else."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], Y[i]


def test_a_data_set_by_index_goes_through_a_function_of_the_epoch(tmp_path):
    data = Pairs()

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(len(data))
        for i in range(0, len(data), SIZE):
            x, y = zip(*(data[j] for j in order[i : i + SIZE]), strict=True)
            yield np.stack(x), np.stack(y)

    straight, _ = trained(batches, epochs=3)
    assert_same(resumed(batches, tmp_path), straight)
