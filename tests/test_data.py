"""Images from arrays, folders and torchvision datasets; in memory or streamed."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from picture_files import PICTURES, write

from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.training import data
from idaa_transforms.training.data import batches, load_images
from idaa_transforms.training.vae import Recipe, train_vae


def test_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.stack(PICTURES), x_test=np.stack(PICTURES[:5]))
    images = load_images(str(tmp_path / "a.npz"))
    assert images.name == "a.npz"
    assert torch.equal(images.train[7], torch.from_numpy(PICTURES[7]).permute(2, 0, 1))
    assert images.test.shape == (5, 3, 32, 32)
    assert load_images(str(tmp_path / "a.npz"), 16).train.shape == (64, 3, 16, 16)
    assert images.train_labels is None
    np.savez(tmp_path / "b.npz", x_train=np.stack(PICTURES), x_test=np.stack(PICTURES[:5]), y_train=np.arange(64) % 3)
    images = load_images(str(tmp_path / "b.npz"))
    assert torch.equal(images.train_labels, torch.arange(64) % 3)
    assert images.test_labels is None


def test_a_flat_folder_keeps_every_twentieth_picture_for_the_test(tmp_path):
    write(tmp_path / "mine", PICTURES[:41])
    images = load_images(str(tmp_path / "mine"))
    assert images.test.shape == (3, 3, 32, 32)
    assert images.train.shape == (38, 3, 32, 32)
    assert torch.equal(images.test[1], torch.from_numpy(PICTURES[20]).permute(2, 0, 1))
    assert images.train_labels.tolist() == [-1] * 38


def test_class_folders_with_a_test_set_of_any_size(tmp_path):
    for part, pictures in (("train", PICTURES[:6]), ("val", PICTURES[6:9])):
        write(tmp_path / "set" / part / "cat", pictures, size=(40, 30))
        write(tmp_path / "set" / part / "dog", pictures)
    images = load_images(str(tmp_path / "set"), 24)
    assert images.train.shape == (12, 3, 24, 24)
    assert images.test.shape == (6, 3, 24, 24)
    assert images.train_labels.tolist() == [0] * 6 + [1] * 6
    with pytest.raises(ValueError, match=r"are 30x40, 32x32 and such; say --image-size"):
        load_images(str(tmp_path / "set"))


def test_labels_of_the_test_set_are_those_of_the_training_set(tmp_path):
    for part, names in (("train", ("ant", "bee", "cat")), ("test", ("bee", "cat", "dog"))):
        for name in names:
            write(tmp_path / "set" / part / name, PICTURES[:2])
    images = load_images(str(tmp_path / "set"))
    assert images.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.test_labels.tolist() == [1, 1, 2, 2, -1, -1]


def test_a_large_set_streams_and_trains(tmp_path, monkeypatch):
    write(tmp_path / "large", PICTURES, size=(40, 48))
    monkeypatch.setattr(data, "IN_MEMORY", 1000)
    images = load_images(str(tmp_path / "large"), 16)
    assert not isinstance(images.train, torch.Tensor)
    assert images.train[0].shape == (3, 16, 16)
    for name, workers in (("a", 0), ("b", 0)):
        torch.manual_seed(0)
        vae = ConvVAE(16, 4, width=8)
        train_vae(vae, images, Recipe(epochs=1, batch_size=20), tmp_path / name, workers=workers)
    logs = [(tmp_path / name / "log.csv").read_text().rsplit(",", 1)[0] for name in "ab"]
    assert logs[0] == logs[1]


def test_a_torchvision_dataset_by_name(tmp_path, monkeypatch):
    """No download here: FakeData behind the arguments of a dataset with train=."""
    from torchvision import datasets

    class Toy(datasets.FakeData):
        def __init__(self, root, train, download):
            assert download
            super().__init__(size=30 if train else 10, image_size=(3, 20, 20))

    monkeypatch.setattr(datasets, "Toy", Toy, raising=False)
    images = load_images("Toy", root=tmp_path)
    assert (images.train.shape, images.test.shape) == ((30, 3, 20, 20), (10, 3, 20, 20))
    assert images.test_labels.tolist() == [datasets.FakeData(10, (3, 20, 20))[i][1] for i in range(10)]


def test_a_torchvision_dataset_that_cannot_be_downloaded(tmp_path, monkeypatch):
    """CIFAR-10's own class, of five images and from a server that is not there; the cure is to copy its folder."""
    from torchvision import datasets

    x = (np.stack(PICTURES[:5]).transpose(0, 3, 1, 2)).reshape(5, -1)
    files = {
        "train": pickle.dumps({"data": x, "labels": [3, 1, 4, 1, 5]}),
        "test": pickle.dumps({"data": x[:2], "labels": [9, 2]}),
        "meta": pickle.dumps({"names": list("abcdefghij")}),
    }
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}

    class Small(datasets.CIFAR10):
        base_folder, url = "small-py", "http://127.0.0.1:9/small.tar.gz"
        train_list, test_list = (((name, md5[name]),) for name in ("train", "test"))
        meta = {"filename": "meta", "key": "names", "md5": md5["meta"]}  # noqa: RUF012

    monkeypatch.setattr(datasets, "Small", Small, raising=False)
    advice = rf"copy {tmp_path}/small-py from a machine that has it, or name an \.npz"
    for download, reason in ((True, "<urlopen error .*refused>"), (False, "which was forbidden")):
        with pytest.raises(ValueError, match=rf"could not be downloaded \({reason}\): {advice}") as error:
            load_images("Small", root=tmp_path, download=download)
        assert len(str(error.value).splitlines()) == 1
    (tmp_path / "small-py").mkdir()
    for name, content in files.items():
        (tmp_path / "small-py" / name).write_bytes(content)
    images = load_images("Small", root=tmp_path, download=False)
    assert (images.train[3].permute(1, 2, 0).numpy() == PICTURES[3]).all()
    assert images.train_labels.tolist() == [3, 1, 4, 1, 5]
    assert images.test_labels.tolist() == [9, 2]


def test_a_grey_torchvision_dataset_has_one_channel(tmp_path, monkeypatch):
    from torchvision import datasets

    class Grey(datasets.FakeData):
        def __init__(self, root, split, download):
            super().__init__(size=30 if split == "train" else 10, image_size=(1, 20, 20))

    monkeypatch.setattr(datasets, "Grey", Grey, raising=False)
    assert load_images("Grey", root=tmp_path).train.shape == (30, 1, 20, 20)
    assert load_images("Grey", root=tmp_path, channels=3).train.shape == (30, 3, 20, 20)


@pytest.mark.parametrize("world", [1, 2])
def test_batches_cover_an_epoch_once(world):
    train = torch.arange(22, dtype=torch.uint8).view(22, 1, 1, 1)
    epoch = lambda rank, seed: list(batches(train, 4, torch.Generator().manual_seed(seed), rank, world, 0))  # noqa: E731
    parts = [epoch(rank, 0) for rank in range(world)]
    assert all(len(batch) == 4 // world for part in parts for batch in part)
    seen = (torch.cat([torch.cat(part) for part in parts]) * 255).round().long().flatten().tolist()
    assert len(set(seen)) == len(seen) == 20
    assert not torch.equal(epoch(0, 0)[0], epoch(0, 1)[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: "nonsense", "'nonsense' is no .npz or .npy, no folder and no torchvision dataset"),
        (lambda p: p / "no.npz", "no.npz: there is no such file"),
        (lambda p: p, "no pictures in .*; looked for .jpg"),
        (lambda p: "FakeData", "torchvision's FakeData has no train and test split"),
    ],
)
def test_sources_that_are_none(make, message, tmp_path):
    with pytest.raises((ValueError, OSError, RuntimeError), match=message):
        load_images(str(make(tmp_path)), root=tmp_path)
