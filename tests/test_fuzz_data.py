"""Files as nobody would make them: whatever they hold, right pixels or one line that names the file and the reason.

``IDAA_FUZZ=100000 pytest tests/test_fuzz_data.py`` tries more of them; ``IDAA_FUZZ_SEED`` starts elsewhere.
"""

import io
import os
import signal
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from odd_files import FORMATS, damaged, picture
from PIL import Image

from idaa_transforms.training.data import load_images
from idaa_transforms.training.pictures import read_picture

pytestmark = pytest.mark.slow

INPUTS = int(os.environ.get("IDAA_FUZZ", 1500))
SEED = int(os.environ.get("IDAA_FUZZ_SEED", 0))


class HangError(BaseException):
    """Not an Exception: nothing on the way may take it for a broken picture."""


@contextmanager
def no_hang():
    def stop(*_):
        raise HangError("an input took a minute")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(file, read):
    """What is read, None where it is refused in one line with the file's name."""
    try:
        with no_hang():
            return read()
    except ValueError as error:
        line = str(error)
        assert line.startswith(str(file)), line
        assert len(line) > len(str(file)) + 8, line
        assert len(line.splitlines()) == 1, line
        return None


@pytest.mark.filterwarnings("error")
def test_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 20)  # sizes are flipped, too
    rng, tried = np.random.default_rng(SEED), Counter()
    for i in range(INPUTS * 2 // 3):
        whole, ending, seen = picture(rng)
        data, what = damaged(rng, whole)
        file = tmp_path / f"{i}.{rng.choice(list(FORMATS)) if rng.random() < 0.1 else ending}"
        file.write_bytes(data)
        read = outcome(file, lambda file=file: read_picture(file))
        context = f"input {i}: {what} {ending}"
        tried[what, read is None] += 1
        assert what != "whole" or read is not None, context
        if read is not None:
            assert read.dtype == torch.uint8, context
            assert read.ndim == 3, context
        if read is not None and what in ("whole", "cut"):
            if ending == "gif" and len(seen) == 1:  # has a palette, of greys
                seen = seen.repeat(len(read), 0)
            assert read.shape == seen.shape, context
            difference = np.abs(read.numpy().astype(int) - seen).max()
            assert difference <= 1, (context, difference)  # rounding
        assert file.read_bytes() == data, context
        file.unlink()
    assert all(tried[what, False] for what in ("whole", "cut", "flipped", "spliced"))
    assert all(tried[what, True] for what in ("cut", "flipped", "spliced", "noise"))


def arrays(rng):
    """A dict of arrays as somebody might save them, most of them right, and whether they are."""
    n, m, h, w = rng.integers(1, 30, 4)
    channels = [(), (1,), (2,), (3,), (4,), (5,), (13,)][rng.integers(7)]
    kind = rng.choice(["uint8", "uint8", "uint16", "float32", "float64", "bool"])
    if len(channels) == 1 and channels[0] > h != w:
        channels = (1,)  # else it could be (N, C, H, W)
    found = {"x_train": values(rng, (n, h, w, *channels), kind), "x_test": values(rng, (m, h, w, *channels), kind)}
    if not channels and w <= 4 < min(max(n, m), h):
        return None  # one picture, perhaps
    if rng.random() < 0.5:
        found |= {"y_train": rng.integers(0, 9, n).astype(rng.choice(["int64", "uint8", "int32"]))}
        found |= {"y_test": rng.integers(0, 9, (m, 1))}
    return found


def values(rng, shape, kind):
    if kind.startswith("float"):
        return rng.random(shape).astype(kind)
    return rng.integers(0, {"uint8": 256, "uint16": 65536, "bool": 2}[kind], shape).astype(kind)


def spoilt(rng, found):
    """One thing wrong with the arrays."""
    x = str(rng.choice(["x_train", "x_test"]))
    y, array = x.replace("x", "y"), found[x]
    wrong = {
        "type": lambda: {x: array.astype(rng.choice(["int64", "complex64", "U3", "O", "S2", "int8", "uint32"]))},
        "empty": lambda: {x: array[:0], y: np.zeros(0, np.int64)},
        "flat": lambda: {x: array.reshape(len(array), -1)},
        "deep": lambda: {x: array[None, None, None]},
        "outside": lambda: {x: array.astype(np.float32) * 300 - 1.5},
        "nan": lambda: {x: np.full_like(array, np.nan, np.float32)},
        "too many labels": lambda: {y: np.zeros(len(array) + 1, np.int64)},
        "one hot": lambda: {y: np.zeros((len(array), 7))},
        "other size": lambda: {x: np.concatenate([array] * 2, 1)},
        "structured": lambda: {x: np.zeros((3, 3, 3), [("a", "u1")])},
    }
    return found | wrong[str(rng.choice(list(wrong)))]()


def expected(array):
    scale = {"u1": 1, "u2": 1 / 257, "b1": 255}.get(array.dtype.str[1:], 255)
    array = np.rint(array * np.float64(scale)).astype(np.uint8)
    return (array[..., None] if array.ndim == 3 else array).transpose(0, 3, 1, 2)


@pytest.mark.filterwarnings("error")
def test_arrays(tmp_path):
    rng, tried = np.random.default_rng(SEED + 1), Counter()
    for i in range(INPUTS // 3):
        found = arrays(rng)
        if found is None:
            continue
        wrong, alone, data = rng.random() < 0.4, rng.random() < 0.2, io.BytesIO()
        found = spoilt(rng, found) if wrong and not alone else found
        save = np.save if alone else rng.choice([np.savez, np.savez_compressed])
        save(data, found["x_train"]) if alone else save(data, **found)
        data, what = damaged(rng, data.getvalue())
        file = tmp_path / f"{i}.{rng.choice(['npz', 'npy', 'NPZ'])}"
        file.write_bytes(data)
        read = outcome(file, lambda file=file: load_images(str(file)))
        context = f"input {i}: {what}, wrong: {wrong}, alone: {alone}"
        wrong = (wrong and not alone) or (alone and len(found["x_train"]) == 1)  # nothing to train on
        tried[what, wrong, read is None] += 1
        assert what != "whole" or (read is None) == wrong, context
        if read is not None and what in ("whole", "cut"):
            check_arrays(read, found, alone, context)
        assert file.read_bytes() == data, context
        file.unlink()
    assert tried["whole", False, False] > INPUTS / 20
    assert tried["whole", True, True] > INPUTS / 60
    assert tried["cut", False, True] > INPUTS / 60


def check_arrays(read, found, alone, context):
    train = expected(found["x_train"])
    test = train[::20] if alone or "x_test" not in found else expected(found["x_test"])
    train = np.delete(train, slice(None, None, 20), 0) if alone or "x_test" not in found else train
    assert np.abs(read.train.numpy().astype(int) - train).max() <= 1, context
    assert np.abs(read.test.numpy().astype(int) - test).max() <= 1, context
    if not alone and "y_test" in found:
        assert (read.test_labels.numpy() == found["y_test"].reshape(-1)).all(), context
