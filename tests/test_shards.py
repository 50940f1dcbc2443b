"""Shards: what is packed comes back, in an order that is known, and what is wrong with a file is said in one line."""

import io
import os
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from picture_files import PICTURES, write

from examples.shared.stream import Cropped, RandomCrops, epoch_order, load, open_pictures, random_crop
from idaa_transforms import cli
from idaa_transforms.training import data, reading
from idaa_transforms.training.data import load_images, shuffled
from idaa_transforms.training.pack import pack
from idaa_transforms.training.reading import Part
from idaa_transforms.training.run import TrainingError, fingerprint
from idaa_transforms.training.shards import INDEX, Shards, open_shards, write_index


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes, to train on and to test on, in files of several formats."""
    folder = tmp_path_factory.mktemp("pictures")
    for part, many in (("train", 9), ("test", 4)):
        for i, name in enumerate(("ant", "bee", "cat")):
            write(folder / part / name, PICTURES[i * 9 : i * 9 + many], size=(40 + i, 32))
    return folder


@pytest.fixture
def shards(folder, tmp_path):
    pack(str(folder), tmp_path / "shards", per_shard=10)
    return tmp_path / "shards"


def pixels(images, labels):
    """Images and labels, in an order of their own."""
    return sorted((label, image.numpy().tobytes()) for image, label in zip(images, labels.tolist(), strict=True))


def test_what_is_packed_comes_back(folder, shards):
    before, after = (load_images(str(place), 32) for place in (folder, shards))
    assert pixels(after.train, after.train_labels) == pixels(before.train, before.train_labels)
    assert pixels(after.test, after.test_labels) == pixels(before.test, before.test_labels)
    assert (after.found.classes, after.found.sizes) == (before.found.classes, before.found.sizes)
    names = sorted(file.name for file in shards.iterdir())
    assert names == [INDEX, "test-000000.tar", "test-000001.tar", *(f"train-00000{i}.tar" for i in range(3))]
    with tarfile.open(shards / "train-000002.tar") as archive:  # 27 pictures: the last shard has seven
        assert archive.getnames()[:3] == ["000000020.png", "000000020.cls", "000000021.png"]
        assert len(archive.getnames()) == 14


def test_files_are_packed_as_they_are_and_twice_the_same(folder, shards, tmp_path):
    pack(str(folder), tmp_path / "again", per_shard=10)
    for file in shards.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    content = {file.read_bytes() for file in folder.rglob("*.png")}
    with tarfile.open(shards / "train-000000.tar") as archive:
        packed = {archive.extractfile(name).read() for name in archive.getnames() if name.endswith("png")}
    assert len(packed) == 10
    assert packed <= content


def test_arrays_without_a_test_set(tmp_path, capsys):
    x = np.stack(PICTURES[:41])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(41))
    cli.main(["pack", str(tmp_path / "a.npz"), str(tmp_path / "out"), "--per-shard", "16"])
    assert "train 38 pictures in 3 shards\ntest  3 pictures in 1 shards" in capsys.readouterr().out
    images = load_images(str(tmp_path / "out"))
    assert sorted(images.test_labels.tolist()) == [0, 20, 40]
    for image, label in zip(images.train, images.train_labels.tolist(), strict=True):
        assert torch.equal(image, torch.from_numpy(x[label]).permute(2, 0, 1))


def tar(file, members):
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_shards_of_others(folder, tmp_path, capsys):
    """As webdataset writes them: folders within, JSON beside, other names for the test set."""
    png = (folder / "train" / "ant" / "000.png").read_bytes()
    members = {"n01/a.b.png": png, "n01/a.png": png, "n01/a.cls": b"7\n", "n01/a.json": b"{}", "n02/a.PNG": png}
    tar(tmp_path / "imagenet-train-0000.tar", members)
    tar(tmp_path / "imagenet-validation-00.tar", {"x.png": png, "x.cls": b"3"})
    with pytest.raises(SystemExit, match=rf"{INDEX}: there is no such file beside the shards; make it: idaa pack "):
        cli.main(["check-data", str(tmp_path)])
    cli.main(["pack", str(tmp_path)])
    train, test, _ = open_shards(tmp_path)
    assert (train.labels, test.labels) == ([7, -1], [3])
    assert torch.equal(train.read(0, 3)[0], test.read(0, 3)[0])


def test_an_order_reads_few_shards_at_a_time(shards, monkeypatch):
    monkeypatch.setattr(reading, "WINDOW", 2)
    samples = torch.zeros(1000, 7, dtype=torch.int64)
    samples[:, 0] = torch.arange(1000) // 101  # ten shards, the last one shorter
    part = Part(Shards(shards, [], samples), list(range(1000)))
    orders = [shuffled(part, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    for order in orders:
        assert order.sort().values.tolist() == list(range(1000))
        within = samples[order, 0]
        starts = [within.eq(shard).nonzero()[[0, -1], 0].tolist() for shard in range(10)]
        assert sum(last - first < 203 for first, last in starts) == 10
        assert len(within[:101].unique()) == 2  # and these are mixed


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 5), world=st.sampled_from([1, 2, 4]))
def test_processes_share_each_batch_and_all_have_the_same_steps(seed, steps, world):
    """Whatever the sizes of the shards."""
    generator = torch.Generator().manual_seed(seed)
    samples = torch.zeros(steps * 8 + int(torch.randint(8, (), generator=generator)), 7, dtype=torch.int64)
    samples[:, 0] = torch.randint(5, (len(samples),), generator=generator).sort().values
    part = Part(Shards(None, [], samples), list(range(len(samples))))
    order = epoch_order(part, seed, 3, 8)
    assert order.shape == (steps, 8)
    assert len(order.unique()) == 8 * steps
    assert torch.equal(torch.stack([order[:, rank::world] for rank in range(world)], 2).flatten(1), order)


def test_crops_are_the_same_wherever_they_are_made(shards):
    learning, _ = open_pictures(str(shards))
    rows = epoch_order(learning, 0, 0, 6)
    dataset = Cropped(learning, RandomCrops([(16, 2, (0.2, 1.0)), (8, 3, (0.05, 0.2))]), "0 0")
    whole = list(load(dataset, rows.tolist(), 0, 60))
    parts = [*load(dataset, rows[:1].tolist(), 2, 60), *load(dataset, rows[1:].tolist(), 1, 60)]
    assert len(whole) == 4
    for ((large, small), labels), ((again, small_again), _) in zip(whole, parts, strict=True):
        assert large.shape == (6, 2, 3, 16, 16)
        assert small.shape == (6, 3, 3, 8, 8)
        assert torch.equal(large, again)
        assert torch.equal(small, small_again)
        assert not torch.equal(large[:, 0], large[:, 1])
        assert len(labels) == 6
    other = Cropped(learning, dataset.crops, "0 1")
    assert not torch.equal(other[0][0][0], dataset[0][0][0])


class Dice:
    """A random crop takes area, ratio, top and left from it."""

    def __init__(self, *drawn):
        self.drawn = list(drawn)

    def uniform(self, low, high):
        return low + self.drawn.pop(0) * (high - low)

    def randint(self, low, high):
        return round(self.uniform(low, high))


def test_a_random_crop_by_hand():
    picture = torch.arange(12 * 16).view(1, 12, 16).byte()
    assert torch.equal(random_crop(picture, 6, (0.1875, 1.0), Dice(0, 0.5, 1, 1)), picture[:, 6:, 10:])
    assert torch.equal(random_crop(picture, 6, (0.1875, 1.0), Dice(0, 0.5, 0, 0.5)), picture[:, :6, 5:11])
    long = torch.zeros(1, 4, 100).byte()  # no such crop fits ten times: the largest that does
    assert random_crop(long, 6, (1.0, 1.0), Dice(*[0.5] * 22)).shape == (1, 6, 6)


def damaged(shards, how):
    shard = shards / "train-000001.tar"
    if how == "missing":
        shard.unlink()
    elif how == "empty":
        shard.write_bytes(b"")
    elif how == "cut off":
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    elif how == "grown":
        shard.write_bytes(shard.read_bytes() + bytes(512))
    elif how == "no index":
        (shards / INDEX).unlink()
    elif how == "other index":
        (shards / INDEX).write_bytes(b"nonsense")


DAMAGE = {
    "missing": r"train-000001\.tar: there is no such file",
    "empty": r"train-000001\.tar: is empty \(0 bytes\)",
    "cut off": r"train-000001\.tar: is cut off: [\d,]+ bytes of [\d,]+ are there; copy it again",
    "grown": r"train-000001\.tar: has [\d,]+ bytes, and index\.safetensors knows of [\d,]+: it is another file",
    "no index": r"index\.safetensors: there is no such file beside the shards; make it: idaa pack ",
    "other index": r"index\.safetensors: is damaged or of another program \(.*\); run `idaa pack` on the folder again",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_shards_are_named_at_the_door(how, shards, capsys):
    damaged(shards, how)
    with pytest.raises(SystemExit, match=DAMAGE[how]) as told:
        cli.main(["check-data", str(shards)])
    assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match=DAMAGE[how]):
        open_pictures(str(shards))


@pytest.mark.parametrize("how", ["grown", "no index", "other index"])
def test_the_cure_for_an_index_works(how, shards):
    damaged(shards, how)
    write_index(shards)
    assert len(open_shards(shards)[0]) == 27


WITHOUT_INDEX = {
    "empty": r"train-000001\.tar: is empty \(0 bytes\)",
    "cut off": r"train-000001\.tar: is cut off",
}


@pytest.mark.parametrize("how", WITHOUT_INDEX)
def test_damaged_shards_get_no_index(how, shards):
    before = (shards / INDEX).read_bytes()
    damaged(shards, how)
    with pytest.raises(ValueError, match=WITHOUT_INDEX[how]):
        write_index(shards)
    assert (shards / INDEX).read_bytes() == before


@pytest.mark.parametrize("missing", [1, 512, 513, 1024, 1025, 5000, 20000])
def test_a_shard_cut_anywhere_gets_no_index(missing, shards):
    """Also between two members, where a tar file looks whole but for the mark at its end."""
    shard = shards / "train-000001.tar"
    with tarfile.open(shard) as archive:
        mark = archive.getmembers()[-1].offset_data + 512 + 512  # a label takes one block, and so does the mark
    shard.write_bytes(shard.read_bytes()[:mark])
    write_index(shards)
    shard.write_bytes(shard.read_bytes()[: mark - missing])
    with pytest.raises(ValueError, match=r"train-000001\.tar: is cut off"):
        write_index(shards)


def test_what_holds_no_pictures(folder, tmp_path):
    with pytest.raises(ValueError, match=r"there are no shards \(\*\.tar\) in it"):
        write_index(folder)
    tar(tmp_path / "a.tar", {"x.txt": b"nothing"})
    with pytest.raises(ValueError, match=r"a\.tar: holds no pictures that can be read; remove it"):
        write_index(tmp_path)
    tar(tmp_path / "a.tar", {"x.png": b"nothing", "x.cls": b"one"})
    with pytest.raises(ValueError, match=r"a\.tar: x\.cls holds b'one', which is no whole number"):
        write_index(tmp_path)


def test_bad_pictures_are_left_out_when_asked(folder, tmp_path):
    png = (folder / "train" / "ant" / "000.png").read_bytes()
    tar(tmp_path / "a.tar", {"x.png": png[:60], "y.png": b"nothing", "z.png": png, "z.cls": b"1"})
    with pytest.raises(ValueError, match=r"a\.tar\[y\.png\]: .*; --skip-bad leaves out what cannot be read"):
        write_index(tmp_path)
    assert [line.partition(": ")[0][-6:] for line in write_index(tmp_path, skip_bad=True)] == ["y.png]"]
    with pytest.raises(ValueError, match=r"a\.tar\[0\]: .*cut off|a\.tar\[0\]: .*truncated"):
        load_images(str(tmp_path), 16)  # its header is there, its pixels are not


def test_a_shard_that_is_cut_off_while_it_is_read(shards):
    train, _, _ = open_shards(shards)
    damaged(shards, "cut off")
    with pytest.raises(ValueError, match=r"train-000001\.tar: is cut off: it ends before byte [\d,]+; copy it again"):
        [train.read(i, 3) for i in range(len(train))]


def test_nothing_is_overwritten(folder, shards, tmp_path):
    with pytest.raises(ValueError, match=r"shards is there and not empty, and nothing is overwritten"):
        pack(str(folder), shards)
    with pytest.raises(ValueError, match=r"has shards; `idaa pack .*shards` makes their index"):
        pack(str(shards), tmp_path / "more")
    with pytest.raises(ValueError, match=r"'a\.npz' is no folder of shards; say also where"):
        pack("a.npz", None)
    np.savez(tmp_path / "c.npz", x_train=np.zeros((3, 8, 8, 5), np.uint8))
    with pytest.raises(ValueError, match="one channel or three, and these have 5"):
        pack(str(tmp_path / "c.npz"), tmp_path / "c")


def test_shards_have_a_fingerprint_that_a_folder_of_them_keeps(shards, tmp_path):
    before = fingerprint(open_pictures(str(shards))[0])
    shards.rename(tmp_path / "moved")
    assert fingerprint(open_pictures(str(tmp_path / "moved"))[0]) == before
    assert fingerprint(open_pictures(str(tmp_path / "moved"), train=20)[0]) != before


class Dying(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        os._exit(1)


class Sleeping(Dying):
    def __getitem__(self, i):
        import time

        time.sleep(60)


@pytest.mark.parametrize(("dataset", "patience"), [(Dying(), 60), (Sleeping(), 1)])
def test_a_worker_that_dies_or_sleeps_is_one_line(dataset, patience):
    with pytest.raises(TrainingError, match=r"the workers that decode pictures ended, or took more than \d+ s") as told:
        list(load(dataset, [[0, 1], [2, 3]], 1, patience))
    assert "\n" not in str(told.value)


def test_a_vae_learns_from_shards_as_from_the_folder(folder, shards, tmp_path, monkeypatch, capsys):
    """In memory, and streamed with an interruption."""
    options = ["--image-size", "16", "--latent-dim", "8", "--width", "8", "--epochs", "2", "--batch-size", "8"]
    monkeypatch.setattr(data, "IN_MEMORY", 1)
    for name, more in (("whole", []), ("parts", ["--stop-after", "1"]), ("parts", [])):
        cli.main(["train-vae", str(shards), "--out", str(tmp_path / name), *options, *more])
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
    assert one == two
    assert "27 to train on, 12 to test on" in capsys.readouterr().out
    damaged(shards, "missing")
    with pytest.raises(SystemExit, match=DAMAGE["missing"]):
        cli.main(["train-vae", str(shards), "--out", str(tmp_path / "parts"), *options])
