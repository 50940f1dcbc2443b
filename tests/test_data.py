"""Where pictures come from: folders as they are found, shards, parquet, the Hub; in memory or streamed."""

import io
import os
import subprocess
import sys
import tarfile

import datasets
import numpy as np
import pytest
import torch
from hub_server import Hub
from picture_files import PICTURES, write
from PIL import Image

from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.training import images as door
from idaa_transforms.training.images import batches, load_images
from idaa_transforms.training.pictures import open_pictures
from idaa_transforms.training.vae import Recipe, train_vae


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def pixels(i):
    return torch.from_numpy(PICTURES[i]).permute(2, 0, 1)


def png(i):
    data = io.BytesIO()
    Image.fromarray(PICTURES[i]).save(data, "PNG")
    return data.getvalue()


class TestFolder:
    def test_flat_with_every_twentieth_for_the_test(self, tmp_path):
        write(tmp_path / "mine", PICTURES[:41])
        images = load_images(str(tmp_path / "mine"))
        assert images.test.shape == (3, 3, 32, 32)
        assert images.train.shape == (38, 3, 32, 32)
        assert torch.equal(images.test[1], pixels(20))
        assert images.train_labels.tolist() == [-1] * 38
        assert str(images) == "mine: 38 to train on, 3 to test on, 32x32, 3 channels"

    @pytest.mark.parametrize("test", ["valid", "val", "Testing", "dev"])
    def test_what_is_for_testing_is_not_trained_on(self, test, tmp_path):
        for part, names in (("Train", ("ant", "bee", "cat")), (test, ("bee", "cat", "dog")), ("extra", ("ant",))):
            for name in names:
                write(tmp_path / part / name / "deep", PICTURES[:2], size=(40, 30))
        images = load_images(str(tmp_path), 24)
        assert images.train.shape == images.test.shape == (6, 3, 24, 24)
        assert images.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert images.test_labels.tolist() == [1, 1, 2, 2, -1, -1]
        name = "test" if test.lower().startswith("test") else "validation"
        assert len(load_images(str(tmp_path), 24, split=name, only="all").test) == 6
        with pytest.raises(ValueError, match="has no split 'nothing'; it has"):
            open_pictures(str(tmp_path), split="nothing")

    def test_a_class_may_be_called_train(self, tmp_path):
        for name in ("bus", "car", "train"):
            write(tmp_path / name, PICTURES[:7])
        train, test = open_pictures(str(tmp_path))
        assert train.labels.tolist() == [*[0] * 6, *[1] * 7, *[2] * 6]
        assert test.labels.tolist() == [0, 2]

    def test_links_brackets_and_what_is_hidden(self, tmp_path):
        source, other = tmp_path / "se t[1]#é", tmp_path / "other"
        for place in ("a", "b*/x.jpg", ".hidden", "__MACOSX", "@eaDir"):
            write(source / place, PICTURES[:1])
        write(other, PICTURES[:1])
        (source / "._1.png").write_bytes(b"")
        (source / "a" / "folder.png").mkdir()
        (source / "a" / "note.txt").touch()
        os.mkfifo(source / "a" / "pipe.png")
        for link, target in {"linked": other, "a/up": source, "z": other, "lost.png": tmp_path / "nowhere"}.items():
            (source / link).symlink_to(target)
        images = load_images(str(source), only="all")
        assert images.test_labels.tolist() == [0, 1, 2]
        write(source / "a" / "large", PICTURES[:1], size=(40, 30))
        with pytest.raises(ValueError, match="are 30x40 to 32x32, not of one square size; say --image-size"):
            load_images(str(source), only="all")

    def test_channels(self, tmp_path):
        grey = PICTURES[0][..., 0]
        write(tmp_path, [grey] * 4)
        assert load_images(str(tmp_path)).train.shape == (3, 1, 32, 32)
        assert load_images(str(tmp_path), channels=3).train.shape == (3, 3, 32, 32)
        Image.fromarray(PICTURES[0]).save(tmp_path / "zz.png")
        images = load_images(str(tmp_path))
        assert images.train.shape == (4, 3, 32, 32)
        assert (images.test.numpy() == grey).all()

    def test_only_what_is_needed_is_read(self, tmp_path):
        """What would be an error if it were opened is not opened."""
        write(tmp_path, [np.full((8, 8), i, np.uint8) for i in range(64)])
        assert load_images(str(tmp_path), only="test").test[:, 0, 0, 0].tolist() == [0, 20, 40, 60]
        chosen = load_images(str(tmp_path), only="all", limit=10).test[:, 0, 0, 0].tolist()
        assert len(set(chosen)) == 10
        for i in set(range(64)) - set(chosen):
            (tmp_path / f"{i:03}.png").write_bytes(b"broken")
        assert load_images(str(tmp_path), only="all", limit=10).test[:, 0, 0, 0].tolist() == chosen


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_is_named_or_left_out(workers, tmp_path, monkeypatch):
    write(tmp_path, PICTURES[:25])
    (tmp_path / "007.png").write_bytes(png(0)[:-40])
    with pytest.raises(ValueError, match=rf"^{tmp_path}/007.png: .*truncated.*; skip_bad=True \(--skip-bad\)") as error:
        load_images(str(tmp_path), workers=workers)
    assert len(str(error.value).splitlines()) == 1
    images = load_images(str(tmp_path), workers=workers, skip_bad=True)
    assert (len(images.train), len(images.test), len(images.bad)) == (22, 2, 1)
    assert f"\nleft out: {tmp_path}/007.png: " in str(images)
    monkeypatch.setattr(door, "IN_MEMORY", 0)  # streamed
    train = load_images(str(tmp_path), workers=workers).train
    with pytest.raises(ValueError, match=r"^\S+/007.png: .*truncated.*; skip_bad=True \(--skip-bad\) leaves") as error:
        list(batches(train, 23, torch.Generator().manual_seed(0), 0, 1, workers))
    assert len(str(error.value).splitlines()) == 1
    images = load_images(str(tmp_path), workers=workers, skip_bad=True)
    (batch,) = batches(images.train, 22, torch.Generator().manual_seed(0), 0, 1, workers)
    assert batch.shape == (22, 3, 32, 32)
    assert len(images.bad) == 1


def test_a_large_set_streams_and_trains(tmp_path, monkeypatch):
    for name in "ab":
        write(tmp_path / name, PICTURES, size=(40, 48))
    monkeypatch.setattr(door, "IN_MEMORY", 1000)
    images = load_images(str(tmp_path / "a"), 16)
    assert images.train[0].shape == (3, 16, 16)
    for name in ("one", "two"):
        torch.manual_seed(0)
        train_vae(ConvVAE(16, 4, width=8), images, Recipe(epochs=1, batch_size=20), tmp_path / name)
    logs = [(tmp_path / name / "log.csv").read_text().splitlines()[1].split(",")[:4] for name in ("one", "two")]
    assert logs[0] == logs[1]
    other = load_images(str(tmp_path / "b"), 16).train
    assert other.fingerprint() == images.train.fingerprint()
    (tmp_path / "b" / "001.png").write_bytes(png(5))
    assert other.fingerprint() != images.train.fingerprint()


def shard(file, numbers, cut=0):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for i in numbers:
            for name, content in ((f"{i:04}.png", png(i)[: -cut or None]), (f"{i:04}.cls", str(i % 3).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def test_shards(tmp_path):
    shard(tmp_path / "set [1]" / "imagenet-train-0000.tar", range(4))
    shard(tmp_path / "set [1]" / "imagenet-train-0001.tar", range(4, 6))
    shard(tmp_path / "set [1]" / "Valid" / "0.tar", range(6, 9))
    images = load_images(str(tmp_path / "set [1]"))
    assert images.train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert images.test_labels.tolist() == [0, 1, 2]
    assert torch.equal(images.train[5], pixels(5))
    shard(tmp_path / "bad.tar", range(3), cut=40)
    with pytest.raises(ValueError, match=r"^\S+bad.tar\[0\] \(0000.png\): .*truncated"):
        load_images(str(tmp_path / "bad.tar"), only="all")
    whole = (tmp_path / "set [1]" / "imagenet-train-0000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"^'\S+cut.tar' cannot be read \(.*\)$"):
        load_images(str(tmp_path / "cut.tar"))


@pytest.fixture
def parquet(tmp_path):
    """Three splits of which that for testing hides its labels, and a second column of pictures."""
    files = {}
    for name, numbers in (("train", range(12)), ("validation", range(12, 15)), ("test", range(15, 17))):
        labels = [-1 if name == "test" else i % 2 for i in numbers]
        columns = {"small": [{"bytes": png(i), "path": None} for i in numbers], "fine": labels}
        columns["large"] = [{"bytes": png(i + 1), "path": None} for i in numbers]
        features = {"small": datasets.Image(), "fine": datasets.ClassLabel(2), "large": datasets.Image()}
        table = datasets.Dataset.from_dict(columns, datasets.Features(features))
        files[f"data/{name}-00000-of-00001.parquet"] = tmp_path / "pq" / f"{name}.parquet"
        files[f"data/{name}-00000-of-00001.parquet"].parent.mkdir(exist_ok=True)
        table.to_parquet(files[f"data/{name}-00000-of-00001.parquet"])
    return files


def test_parquet(parquet, tmp_path):
    images = load_images(str(tmp_path / "pq"))
    assert images.train_labels.tolist() == [0, 1] * 6
    assert images.test_labels.tolist() == [0, 1, 0], "whose labels are not hidden"
    assert torch.equal(images.train[5], pixels(5))
    other = load_images(str(tmp_path / "pq" / "train.parquet"), column="large", split="train[:50%]", only="all")
    assert torch.equal(other.test[5], pixels(6))
    assert len(other.test) == 6
    with pytest.raises(ValueError, match="has no column 'x'; say --column: small, fine, large"):
        load_images(str(tmp_path / "pq"), column="x")


OF_THE_HUB = """
import sys
from idaa_transforms.training.images import load_images
for source, options in eval(sys.argv[1]):
    try:
        images = load_images(source, **options)
        print(images, images.test_labels.tolist(), images.test[0, :, 0, 0].tolist())
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_data_set_of_the_hub_by_name(parquet, tmp_path):
    """The real client, in a process of its own, against a Hub on localhost: at a revision, a split and a column."""
    server = Hub()
    old = server.commit("datasets/org/name", {name: file.read_bytes() for name, file in parquet.items()})
    server.commit("datasets/org/name", {"data/train-00000-of-00001.parquet": b"broken"})
    good = {"revision": old}
    cases = [("org/name", good), ("org/name", good | {"split": "train", "column": "large"}), ("org/name", {}),
             ("org/name", {"revision": "nothing"}), ("org/other", {})]  # fmt: skip
    env = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", OF_THE_HUB, repr(cases)], env=env, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        f"name: 12 to train on, 3 to test on, 32x32, 3 channels [0, 1, 0] {PICTURES[12][0, 0].tolist()}",
        f"name: 11 to train on, 1 to test on, 32x32, 3 channels [0] {PICTURES[1][0, 0].tolist()}",
    ]
    for (source, _), line in zip(cases[2:], lines[2:], strict=True):
        assert line.startswith(f"{source!r} is no file or folder, and no data set of the Hub that answers (")


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
        (lambda p: "nonsense", "'nonsense' is no file or folder; a data set of the Hub is called org/name"),
        (lambda p: p / "no.npz", "no.npz: there is no such file"),
        (lambda p: p, r"no pictures in \S+; looked for .*\.jpg, .*\.parquet"),
        (lambda p: write(p / "one", PICTURES[:1]) or p, "has too few pictures"),
    ],
)
def test_sources_that_are_none(make, message, tmp_path):
    with pytest.raises(ValueError, match=message) as error:
        load_images(str(make(tmp_path)))
    assert len(str(error.value).splitlines()) == 1
