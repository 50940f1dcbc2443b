"""Arrays in an .npz or .npy: any number of channels; what is wrong with them is one line."""

import numpy as np
import pytest
import torch

from idaa_transforms.training.images import load_images, statistics

X = np.random.default_rng(0).integers(0, 256, (41, 8, 8, 3)).astype(np.uint8)
Y = np.arange(41) % 3


def saved(folder, name="a.npz", **arrays):
    with (folder / name).open("wb") as file:  # np.savez adds an ending
        np.savez(file, **arrays)
    return str(folder / name)


@pytest.mark.parametrize("shape", [(41, 8, 8), (41, 8, 8, 1), (41, 8, 8, 5), (41, 8, 8, 13), (41, 6, 10, 3)])
def test_any_number_of_channels(shape, tmp_path):
    x = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    expected = torch.from_numpy(x.reshape(*shape[:3], -1)).permute(0, 3, 1, 2)
    images = load_images(saved(tmp_path, "A.NPZ", x_train=x, x_test=x[:7], y_train=Y, y_test=Y[:7, None]))
    assert torch.equal(images.train, expected)
    assert torch.equal(images.test, expected[:7])
    assert images.test_labels.tolist() == Y[:7].tolist()
    np.save(tmp_path / "a.npy", x)
    images = load_images(str(tmp_path / "a.npy"))
    assert torch.equal(images.test, expected[::20])
    assert len(images.train) == 38
    assert load_images(str(tmp_path / "a.npy"), only="all", limit=9).test.shape[0] == 9
    assert load_images(str(tmp_path / "a.npy"), 4).test.shape[2:] == (4, 4)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"a\.npy: mmap length is greater than file size"):
        load_images(str(tmp_path / "a.npy"))


def test_without_a_test_set_a_twentieth_is_held_out(tmp_path):
    images = load_images(saved(tmp_path, x_train=X, y_train=Y))
    assert images.test_labels.tolist() == [0, 20 % 3, 40 % 3]
    assert torch.equal(images.test[1], torch.from_numpy(X[20]).permute(2, 0, 1))
    assert len(images.train) == len(images.train_labels) == 38


def test_only_the_test_images_are_read(tmp_path):
    """x_train may be anything then, even empty, as in a set that is for judging only."""
    file = saved(tmp_path, x_train=X[:0], y_train=Y[:0], x_test=X, y_test=Y)
    images = load_images(file, only="test")
    assert (len(images.train), len(images.test), images.train_labels) == (0, 41, None)
    with pytest.raises(ValueError, match="has no x_train to train on"):
        load_images(file)


def test_values_of_other_types(tmp_path):
    for x, scale in ((X.astype(np.uint16) * 257, 1), (X / np.float32(255), 1), (X > 99, None)):
        images = load_images(saved(tmp_path, x_train=x, x_test=x[:5]))
        expected = torch.from_numpy(X if scale else (X > 99).astype(np.uint8) * 255).permute(0, 3, 1, 2)
        assert torch.equal(images.train, expected)


WRONG = {
    "no x": ({"images": X}, "has no x_train and no x_test; it holds images"),
    "no test": ({"x_train": X, "x_test": X[:0]}, "x_test has the shape .* and holds no images; leave it out"),
    "objects": ({"x_train": np.array([None, X], object)}, "allow_pickle=False"),
    "integers": ({"x_train": X.astype(int)}, "x_train holds int64; uint8, uint16 and floats in"),
    "floats": ({"x_train": X * 1.0}, r"floats from 0 to 255; only those in \[0, 1\] are read"),
    "order": ({"x_train": X.transpose(0, 3, 1, 2)}, r"like \(N, C, H, W\); save x.transpose\(0, 2, 3, 1\)"),
    "one picture": ({"x_train": X[0]}, r"has the shape \(8, 8, 3\), not \(N, H, W\)"),
    "flat": ({"x_train": X.reshape(41, -1)}, r"has the shape \(41, 192\), not \(N, H, W\) or \(N, H, W, C\)"),
    "labels": ({"x_train": X, "y_train": Y[:5]}, r"y_train holds int64 of shape \(5,\); labels are 41 whole numbers"),
    "sizes": (
        {"x_train": X, "x_test": X[:, :4, :4]},
        "x_train and x_test differ in size or channels: {'x_train': .8, 8, 3., 'x_test': .4, 4, 3.}; make them alike",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_arrays(kind, tmp_path):
    arrays, message = WRONG[kind]
    file = saved(tmp_path, **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load_images(file)
    assert str(error.value).startswith(f"{file}: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda whole: b"", "is neither an .npz nor an .npy"),
        (lambda whole: whole[:-30], "is cut off or damaged"),
        (lambda whole: whole[:1000], "is cut off or damaged"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer.*run: git lfs pull"),
        (lambda whole: b"x,y\n1,2\n", r"is neither an .npz nor an .npy; it starts with b'x,y"),
    ],
)
def test_files_that_are_broken(spoil, message, tmp_path):
    file = saved(tmp_path, x_train=X, x_test=X)
    (tmp_path / "a.npz").write_bytes(spoil((tmp_path / "a.npz").read_bytes()))
    with pytest.raises(ValueError, match=f"^{file}: {message}"):
        load_images(file)


def test_statistics_of_each_channel():
    images = torch.from_numpy(X).permute(0, 3, 1, 2)
    mean, std = statistics(images)
    assert mean == pytest.approx((X / 255).mean((0, 1, 2)))
    assert std == pytest.approx((X / 255).std((0, 1, 2)))
    assert statistics(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)) == ([0], [1 / 255])
