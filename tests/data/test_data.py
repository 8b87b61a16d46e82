"""Loaders: right arrays from right files, and one clear error for anything else."""

import gzip
import hashlib
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pooch
import pytest

from dropout_jax import data
from dropout_jax.data import idx

NOBODY = "http://127.0.0.1:1/"  # a mirror that is down
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = idx.FILES


def idx_bytes(array, magic=None):
    """A gzipped IDX file of unsigned bytes."""
    magic = 0x0800 + array.ndim if magic is None else magic
    header = struct.pack(f">{1 + array.ndim}i", magic, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def labels_of_wrong_length(n):
    """n labels under a header that announces 12."""
    return gzip.compress(struct.pack(">2i", 0x0801, 12) + bytes(n), mtime=0)


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def arrays():
    """A small set in MNIST's format: 12 training and 5 test images of 28x28."""
    rng = np.random.default_rng(0)
    return {
        TRAIN_IMAGES: rng.integers(0, 256, (12, 28, 28)),
        TRAIN_LABELS: rng.integers(0, 10, 12),
        TEST_IMAGES: rng.integers(0, 256, (5, 28, 28)),
        TEST_LABELS: rng.integers(0, 10, 5),
    }


@pytest.fixture
def contents(arrays, monkeypatch, tmp_path):
    """The small set's files, in the place of MNIST's; no variable set, an empty cache."""
    contents = {file: idx_bytes(array) for file, array in arrays.items()}
    monkeypatch.setattr(idx, "FILES", {file: array.shape for file, array in arrays.items()})
    monkeypatch.setitem(idx.MD5, "mnist", tuple(md5(content) for content in contents.values()))
    monkeypatch.setitem(idx.MIRRORS, "mnist", (NOBODY,))
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    monkeypatch.delenv("DROPOUT_JAX_DATA", raising=False)
    return contents


def write(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    return folder


def assert_is_the_small_set(dataset, arrays):
    assert dataset.name == "mnist"
    for x, file in ((dataset.train_x, TRAIN_IMAGES), (dataset.test_x, TEST_IMAGES)):
        assert x.dtype == np.float32
        pixels = arrays[file].reshape(len(x), 784)
        np.testing.assert_array_equal(x, pixels.astype(np.float32) / np.float32(255))
        assert 0 <= x.min() < x.max() <= 1
    for y, file in ((dataset.train_y, TRAIN_LABELS), (dataset.test_y, TEST_LABELS)):
        assert y.dtype == np.int32
        np.testing.assert_array_equal(y, arrays[file])


@pytest.mark.parametrize("where", ["folder", "parent", "variable"])
def test_finds_local_files(where, contents, arrays, tmp_path, monkeypatch):
    folder = write(tmp_path / "mnist", contents)
    if where == "variable":
        monkeypatch.setenv("DROPOUT_JAX_DATA", str(tmp_path))
        dataset = data.load_mnist()
    else:
        dataset = data.load_mnist(folder if where == "folder" else tmp_path)
    assert_is_the_small_set(dataset, arrays)


def test_without_a_home_directory_one_line_says_what_to_set(contents, monkeypatch):
    def no_home(_):
        raise RuntimeError("could not determine the home directory for '~/.cache'")

    monkeypatch.setattr(pooch, "os_cache", no_home)
    with pytest.raises(data.DataError, match="set DROPOUT_JAX_DATA .* or HOME"):
        data.load("mnist")


def test_data_dir_wins_over_the_variable(contents, arrays, tmp_path, monkeypatch):
    write(tmp_path / "broken" / "mnist", dict.fromkeys(contents, b""))
    write(tmp_path / "good", contents)
    monkeypatch.setenv("DROPOUT_JAX_DATA", str(tmp_path / "broken"))
    assert_is_the_small_set(data.load("mnist", tmp_path / "good"), arrays)
    with pytest.raises(data.DataError, match="broken"):
        data.load("mnist")


def test_variable_must_name_a_folder(contents, tmp_path, monkeypatch):
    monkeypatch.setenv("DROPOUT_JAX_DATA", str(tmp_path / "misspelt"))
    with pytest.raises(data.DataError, match="DROPOUT_JAX_DATA is .*misspelt.*unset it"):
        data.load_mnist()


def test_variable_without_this_set_falls_through_to_the_cache(
    contents, arrays, tmp_path, monkeypatch
):
    monkeypatch.setenv("DROPOUT_JAX_DATA", str(tmp_path))
    write(tmp_path / "cache" / "mnist", contents)
    assert_is_the_small_set(data.load_mnist(), arrays)


@pytest.mark.parametrize("file", idx.FILES)
def test_missing_file_is_named(file, contents, tmp_path):
    folder = write(tmp_path, contents)
    (folder / file).unlink()
    with pytest.raises(data.DataError, match=f"{file} is missing"):
        data.load_mnist(folder)


@pytest.mark.parametrize("file", idx.FILES)
@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped bit", "longer"])
def test_damaged_file_is_named(file, damage, contents, tmp_path):
    good = contents[file]
    bad = {
        "empty": b"",
        "truncated": good[:-1],
        "flipped bit": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:],
        "longer": good + b"\0",
    }[damage]
    folder = write(tmp_path, contents | {file: bad})
    with pytest.raises(data.DataError, match=f"{file} is truncated, corrupted .*replace"):
        data.load_mnist(folder)


@pytest.mark.parametrize(
    ("one", "other"),
    [(TRAIN_IMAGES, TEST_IMAGES), (TRAIN_LABELS, TEST_LABELS), (TRAIN_IMAGES, TRAIN_LABELS)],
)
def test_swapped_files_are_recognised(one, other, contents, tmp_path):
    swapped = contents | {one: contents[other], other: contents[one]}
    with pytest.raises(data.DataError, match=f"{one} holds the bytes of mnist/{other}"):
        data.load_mnist(write(tmp_path, swapped))


def test_mnist_in_the_place_of_fashion_mnist_is_recognised(contents, tmp_path):
    folder = write(tmp_path / "fashion_mnist", contents)
    with pytest.raises(data.DataError, match=f"{TRAIN_IMAGES} holds the bytes of mnist/"):
        data.load_fashion_mnist(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (TRAIN_IMAGES, idx_bytes(np.zeros((12, 28, 28)), magic=0x0D03), "begins with 00000d03"),
        (TRAIN_IMAGES, idx_bytes(np.zeros((11, 28, 28))), "begins with .* instead of"),
        (TRAIN_IMAGES, idx_bytes(np.zeros((12, 28, 27))), "begins with .* instead of"),
        (TRAIN_LABELS, idx_bytes(np.zeros(11)), "begins with .* instead of"),
        (TRAIN_LABELS, idx_bytes(np.zeros((12, 1))), "begins with .* instead of"),
        (TRAIN_LABELS, labels_of_wrong_length(11), "holds 11 values"),
        (TRAIN_LABELS, labels_of_wrong_length(13), "holds 13 values"),
        (TRAIN_LABELS, gzip.compress(bytes(3), mtime=0), "begins with 000000 instead"),
        (TRAIN_LABELS, idx_bytes(np.zeros(12))[:-9], "no intact gzip file"),
        (TRAIN_LABELS, b"<html>Please log in</html>", "no intact gzip file"),
    ],
)
def test_content_is_checked_even_where_the_checksum_agrees(
    file, content, message, contents, tmp_path, monkeypatch
):
    contents = contents | {file: content}
    monkeypatch.setitem(idx.MD5, "mnist", tuple(md5(content) for content in contents.values()))
    with pytest.raises(data.DataError, match=f"{file}.*{message}"):
        data.load_mnist(write(tmp_path, contents))


@pytest.fixture
def serve():
    """serve(answer) starts a mirror and returns its URL; answer(file) is (status, body, length)."""
    servers = []

    def start(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, body, length = answer(self.path.lstrip("/"))
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


FAULTS = {
    "404": lambda content: (404, b"gone", 4),
    "500": lambda content: (500, b"", 0),
    "truncated": lambda content: (200, content[:-3], len(content)),
    "short": lambda content: (200, content[:-3], len(content) - 3),
    "wrong bytes": lambda content: (200, b"<html>Please log in</html>", 26),
}


def good_mirror(contents):
    return lambda file: (200, contents[file], len(contents[file]))


def faulty_mirror(contents, fault):
    return lambda file: FAULTS[fault](contents[file])


def test_downloads_verifies_and_caches(serve, contents, arrays, tmp_path, monkeypatch):
    monkeypatch.setitem(idx.MIRRORS, "mnist", (serve(good_mirror(contents)),))
    assert_is_the_small_set(data.load_mnist(), arrays)
    assert {path.name for path in (tmp_path / "cache" / "mnist").iterdir()} == set(contents)
    # The second time needs no mirror.
    monkeypatch.setitem(idx.MIRRORS, "mnist", (NOBODY,))
    assert_is_the_small_set(data.load_mnist(), arrays)


@pytest.mark.parametrize("fault", FAULTS)
def test_next_mirror_is_tried_after_a_fault(fault, serve, contents, arrays, monkeypatch):
    mirrors = (serve(faulty_mirror(contents, fault)), serve(good_mirror(contents)))
    monkeypatch.setitem(idx.MIRRORS, "mnist", mirrors)
    assert_is_the_small_set(data.load_mnist(), arrays)


def test_each_failed_mirror_is_listed_and_the_cache_stays_clean(
    serve, contents, tmp_path, monkeypatch
):
    mirrors = [serve(faulty_mirror(contents, fault)) for fault in FAULTS]
    mirrors.append(NOBODY)
    monkeypatch.setitem(idx.MIRRORS, "mnist", tuple(mirrors))
    with pytest.raises(data.DataError, match="could not be downloaded") as caught:
        data.load_mnist()
    lines = str(caught.value).splitlines()[1:-1]
    reasons = ["404", "500", "IncompleteRead", "MD5", "MD5", "refused"]
    assert len(lines) == len(mirrors)
    for line, mirror, reason in zip(lines, mirrors, reasons, strict=True):
        assert f"{mirror}{TRAIN_IMAGES}" in line and reason in line
    assert "DROPOUT_JAX_DATA" in str(caught.value)
    assert list((tmp_path / "cache" / "mnist").iterdir()) == []


def test_damaged_cache_is_fetched_again(serve, contents, arrays, tmp_path, monkeypatch):
    write(tmp_path / "cache" / "mnist", contents | {TEST_LABELS: b"partial"})
    monkeypatch.setitem(idx.MIRRORS, "mnist", (serve(good_mirror(contents)),))
    assert_is_the_small_set(data.load_mnist(), arrays)


@pytest.mark.parametrize("name", idx.MD5)
def test_every_set_has_mirrors_and_a_checksum_for_every_file(name):
    assert len(set(idx.MIRRORS[name])) >= 2
    assert all(mirror.endswith("/") for mirror in idx.MIRRORS[name])
    assert len(set(idx.MD5[name])) == len(idx.FILES)


def test_digits_are_the_same_everywhere():
    digits = data.load_digits()
    assert digits.train_x.shape == (1437, 64) and digits.test_x.shape == (360, 64)
    assert digits.train_x.dtype == np.float32 and digits.train_y.dtype == np.int32
    assert digits.train_x.min() == 0 and digits.train_x.max() == 1
    # Stratified: between 34.9 and 36.7 of each class are a fifth of it.
    assert set(np.bincount(digits.test_y)) <= {35, 36, 37}
    assert digits.sha256 == "e9d9d1056afafeb8d001ea6f578b9618c8286274b5c0ecb072d5933b85807445"


def test_digits_training_and_test_sets_share_no_image():
    digits = data.load_digits()
    train = {x.tobytes() for x in digits.train_x}
    assert not any(x.tobytes() in train for x in digits.test_x)


def test_checksum_sees_values_labels_and_split(contents, arrays, tmp_path, monkeypatch):
    checksums = {data.load_mnist(write(tmp_path, contents)).sha256}
    for file in contents:
        changed = contents | {file: idx_bytes(arrays[file] ^ 1)}
        monkeypatch.setitem(idx.MD5, "mnist", tuple(md5(content) for content in changed.values()))
        checksums.add(data.load_mnist(write(tmp_path, changed)).sha256)
    assert len(checksums) == 1 + len(contents)


def test_validation_is_the_end_of_the_training_set():
    digits = data.load_digits()
    fitted, (x, y) = data.split_validation(digits, 400)
    np.testing.assert_array_equal(np.concatenate([fitted.train_x, x]), digits.train_x)
    np.testing.assert_array_equal(np.concatenate([fitted.train_y, y]), digits.train_y)
    assert len(x) == len(y) == 400
    np.testing.assert_array_equal(fitted.test_x, digits.test_x)
    assert fitted.sha256 == digits.sha256


@pytest.mark.parametrize("n", [0, -1, 1437, 2000])
def test_validation_size_is_checked(n):
    with pytest.raises(ValueError, match=f"n = {n}; take from 1 to 1436"):
        data.split_validation(data.load_digits(), n)


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match="'cifar'.*digits, mnist, fashion_mnist"):
        data.load("cifar")


def test_real_mnist(mnist_dir):
    mnist = data.load_mnist(mnist_dir)
    assert mnist.train_x.shape == (60_000, 784) and mnist.test_x.shape == (10_000, 784)
    assert mnist.train_x.dtype == np.float32 and mnist.train_y.dtype == np.int32
    assert mnist.train_x.min() == 0 and mnist.train_x.max() == 1
    # LeCun's first labels, and how often each digit occurs.
    assert mnist.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test_y[:5].tolist() == [7, 2, 1, 0, 4]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.train_y).tolist() == counts


@pytest.fixture
def uci(tmp_path):
    """Six rows; column 2 is the target; index files hold floats, as the real ones do."""
    files = tmp_path / "toy" / "data"
    files.mkdir(parents=True)
    table = np.arange(18.0).reshape(6, 3)
    np.savetxt(files / "data.txt", table)
    for name, values in {
        "index_features": [0, 1],
        "index_target": [2],
        "index_train_0": [5, 0, 3, 1],
        "index_test_0": [2, 4],
    }.items():
        np.savetxt(files / f"{name}.txt", np.array(values, float))
    return tmp_path / "toy"


def test_uci_in_the_home_folder(uci, monkeypatch):
    monkeypatch.setenv("HOME", str(uci.parent))
    np.testing.assert_array_equal(data.load_uci("~/toy", 0).train_x, data.load_uci(uci, 0).train_x)


@pytest.mark.parametrize("inner", ["", "data"])
def test_uci_rows_columns_and_order(uci, inner):
    toy = data.load_uci(uci / inner, 0)
    table = np.arange(18.0, dtype=np.float32).reshape(6, 3)
    np.testing.assert_array_equal(toy.train_x, table[[5, 0, 3, 1], :2])
    np.testing.assert_array_equal(toy.train_y, table[[5, 0, 3, 1], 2])
    np.testing.assert_array_equal(toy.test_x, table[[2, 4], :2])
    np.testing.assert_array_equal(toy.test_y, table[[2, 4], 2])
    assert toy.name == "toy"
    assert toy.train_x.dtype == toy.train_y.dtype == np.float32


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("data.txt", "", "data.txt is empty"),
        ("data.txt", "1 2 3\n4 5\n", "data.txt is no table of numbers"),
        ("data.txt", "1 2 nan\n" * 6, "data.txt holds values that are not finite"),
        ("index_features.txt", "0\n3\n", "index_features.txt must hold whole numbers from 0 to 2"),
        ("index_features.txt", "0\n-1\n", "index_features.txt must hold whole numbers"),
        ("index_features.txt", "0\n0.5\n", "index_features.txt must hold whole numbers"),
        ("index_features.txt", "0\n2\n", "one column that is not a feature"),
        ("index_target.txt", "1\n2\n", "one column that is not a feature"),
        ("index_test_0.txt", "2\n3\n", "name each of the 6 rows"),
        ("index_test_0.txt", "2\n", "name each of the 6 rows"),
    ],
)
def test_malformed_uci_file_is_named(uci, file, text, message):
    (uci / "data" / file).write_text(text)
    with pytest.raises(data.DataError, match=message):
        data.load_uci(uci, 0)


def test_absent_uci_split_is_named(uci):
    with pytest.raises(data.DataError, match="index_train_7.txt is missing"):
        data.load_uci(uci, 7)
