"""Strict flags, the real MNIST, and the few fixtures that every test file shares."""

import gc
import os
import signal
from pathlib import Path

# Before JAX starts its backends, and for the processes that tests start. Eight simulated devices:
# sharding is tested on one CPU (measured: nothing is slower for it on the first of them). Loops are
# written by LLVM's builder instead of MLIR's passes, in one module: half the time to compile.
FLAGS = {
    "--xla_force_host_platform_device_count": "8",
    "--xla_cpu_use_fusion_emitters": "false",
    "--xla_cpu_parallel_codegen_split_count": "1",
}
given = os.environ.get("XLA_FLAGS", "")
added = (f"{name}={value}" for name, value in FLAGS.items() if name not in given)
os.environ["XLA_FLAGS"] = " ".join([given, *added]).strip()
# A shell starts a job in the background with Ctrl-C ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Compiling is most of the suite's time: programs are kept for the next run, until --cache-clear.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache/d/jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Most tests ask what is computed, not how fast: LLVM's optimisations are a quarter of their time.
# (In the environment, because the processes that tests start have to compute the same bits.)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
CHEAP = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True)
def _optimised(request):
    """Compile as users do for a test that is marked `optimised`: it reads or times the program."""
    if "optimised" not in request.keywords:
        yield
        return
    jax.config.update(CHEAP, False)
    jax.clear_caches()
    yield
    jax.config.update(CHEAP, True)
    jax.clear_caches()


NO_MNIST = (
    "MNIST is absent: set DROPOUT_JAX_DATA to a folder that holds mnist/ "
    "with the four original files (train-images-idx3-ubyte.gz ...)"
)


@pytest.fixture
def key_reuse_checked():
    """Raise KeyReuseError wherever a key feeds jax.random twice.

    Not a global flag: JAX's checker counts the redraw of a mask in a backward pass, a remat, or a
    test's second call with the same key as reuse, and these are what much of the suite is about.
    """
    with jax.debug_key_reuse(True):
        yield


@pytest.fixture
def x64():
    """64-bit arrays for the test that asks for them."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def small_images(monkeypatch):
    """Instead of MNIST; the checks of its files are in test_data.py."""
    from helpers.small_data import images

    from dropout_jax import data
    from experiments.harness import grid

    monkeypatch.setattr(data, "load", lambda name, data_dir=None: images())
    monkeypatch.setattr(data, "load_mnist", lambda data_dir=None: images())
    monkeypatch.setattr(grid, "VALIDATION", 100)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder of the four MNIST files; the test is skipped where it is absent."""
    folder = Path(os.environ.get("DROPOUT_JAX_DATA") or "nowhere") / "mnist"
    if not folder.is_dir():
        pytest.skip(NO_MNIST)
    return folder


def pytest_collection_modifyitems(items):
    """A test that takes `mnist_dir` is an `mnist` test; the marker cannot be forgotten."""
    for item in items:
        if "mnist_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("mnist")


def pytest_collection_finish():
    """Modules and tests stay: the collector need not look at them again at every turn."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(NO_MNIST in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"MNIST tests SKIPPED: {count}. {NO_MNIST}.", yellow=True)
