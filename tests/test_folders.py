"""Folders as they are found: which files are pictures, what is broken, and what is read at all."""

import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from idaa_transforms.cli import main
from idaa_transforms.training import data
from idaa_transforms.training.data import batches, load_images

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOUR = np.stack([GREY, 255 - GREY, GREY.T], 2)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


def saved(folder, name, picture):
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(folder / name)
    return folder / name


def png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 10)), (b"IEND", b""))
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


BROKEN = {
    "empty": (lambda whole: b"", r"is empty \(0 bytes\)"),
    "cut": (lambda whole: whole[:-40], "truncated"),
    "noise": (lambda whole: bytes(range(200)), "is no picture that Pillow can read"),
    "pointer": (lambda whole: LFS, "is a Git LFS pointer, not the file itself; run: git lfs pull"),
    "bomb": (lambda whole: png(30_000, 30_000), "has more than 89,478,485 pixels; scale it down"),
    "huge bomb": (lambda whole: png(300_000, 300_000), "has more than 89,478,485 pixels; scale it down"),
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_picture_is_named_or_left_out(kind, workers, tmp_path):
    for i in range(25):
        whole = saved(tmp_path, f"{i:02}.png", COLOUR)
    spoil, reason = BROKEN[kind]
    (tmp_path / "07.png").write_bytes(spoil(whole.read_bytes()))
    with pytest.raises(ValueError, match=f"^{tmp_path}/07.png: .*{reason}") as error:
        load_images(str(tmp_path), workers=workers)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).endswith("; skip_bad=True (--skip-bad) leaves out what cannot be read")
    images = load_images(str(tmp_path), workers=workers, skip_bad=True)
    assert (len(images.train), len(images.test)) == (22, 2)
    assert len(images.found.bad) == 1
    assert images.found.bad[0].startswith(f"{tmp_path}/07.png: ")
    assert f"unreadable 1\n  {tmp_path}/07.png: " in str(images.found)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_picture_in_a_set_that_streams(workers, tmp_path, monkeypatch):
    for i in range(25):
        whole = saved(tmp_path, f"{i:02}.png", COLOUR).read_bytes()
    (tmp_path / "07.png").write_bytes(whole[:-40])
    monkeypatch.setattr(data, "IN_MEMORY", 0)
    images = load_images(str(tmp_path), workers=workers)
    with pytest.raises(ValueError, match=r"^\S+/07.png: .*truncated.*; skip_bad=True \(--skip-bad\) leaves") as error:
        list(batches(images.train, 23, torch.Generator().manual_seed(0), 0, 1, workers))
    assert len(str(error.value).splitlines()) == 1
    images = load_images(str(tmp_path), workers=workers, skip_bad=True)
    (batch,) = batches(images.train, 22, torch.Generator().manual_seed(0), 0, 1, workers)
    assert batch.shape == (22, 3, 8, 8)
    assert len(images.found.bad) == 1


def test_only_what_is_a_picture_is_read(tmp_path):
    """Links to folders and files, in circles too; what is hidden, the system's, no file, or written by ourselves."""
    source, other = tmp_path / "set", tmp_path / "other"
    for place in ("a", "b/x.jpg", ".hidden", "__MACOSX", "@eaDir", ".ipynb_checkpoints", "run", "out", "b/deep/er"):
        (source / place).mkdir(parents=True)
        saved(source / place, "1.png", COLOUR)
    other.mkdir()
    saved(other, "2.png", COLOUR)
    saved(source, "._1.png", COLOUR)
    (source / "run" / "checkpoint.pt").touch()
    (source / "a" / "folder.png").mkdir()
    (source / "a" / "note.txt").touch()
    (source / "Thumbs.db").touch()
    os.mkfifo(source / "a" / "pipe.png")
    for link, target in {
        "linked": other,
        "a/up": source,
        "a/parent": tmp_path,
        "b/again": other,
        "linked.png": other / "2.png",
        "lost.png": tmp_path / "nowhere.png",
        "me.png": source / "me.png",
    }.items():
        (source / link).symlink_to(target)
    images = load_images(str(source), only="all", exclude=[source / "out"])
    left_out = [(str(path.relative_to(source)), reason) for path, reason in images.found.skipped]
    assert images.found.test == len(images.test) == 5
    assert images.found.classes == {"a": 1, "b": 2, "linked": 1}
    assert sorted(left_out) == sorted(
        [
            *((name, "hidden") for name in (".hidden", "._1.png", ".ipynb_checkpoints")),
            *((name, "of the system") for name in ("@eaDir", "__MACOSX", "Thumbs.db")),
            *((name, "output of a command") for name in ("run", "out")),
            *((name, "with a picture's name that are no files") for name in ("a/pipe.png", "lost.png", "me.png")),
            *((name, "link to a folder that is read anyway") for name in ("a/up", "a/parent", "b/again")),
            ("a/note.txt", "with the ending '.txt'"),
        ]
    )


def test_a_run_in_the_folder_of_its_pictures_leaves_its_own_out(tmp_path):
    for i in range(3):
        saved(tmp_path, f"{i}.png", COLOUR)
    (tmp_path / "checkpoint.pt").touch()
    saved(tmp_path, "progress.png", COLOUR)
    assert len(load_images(str(tmp_path), only="all").test) == 3


def test_channels_of_a_folder(tmp_path):
    for i in range(4):
        saved(tmp_path, f"{i}.png", GREY)
    assert load_images(str(tmp_path)).train.shape == (3, 1, 8, 8)
    assert load_images(str(tmp_path), channels=3).train.shape == (3, 3, 8, 8)
    saved(tmp_path, "colour.png", COLOUR)
    images = load_images(str(tmp_path), only="all")
    assert images.test.shape == (5, 3, 8, 8)
    assert (images.test[0].numpy() == GREY).all()
    assert load_images(str(tmp_path), channels=1, only="all").test.shape == (5, 1, 8, 8)


def test_only_what_is_needed_is_read(tmp_path):
    """What would be an error if it were opened is not opened."""
    for i in range(64):
        saved(tmp_path, f"{i:02}.png", np.full((8, 8), i, np.uint8))
    assert len(load_images(str(tmp_path), only="all").test) == 64
    assert load_images(str(tmp_path), only="test").test[:, 0, 0, 0].tolist() == [0, 20, 40, 60]
    chosen = load_images(str(tmp_path), only="all", limit=10).test[:, 0, 0, 0].tolist()
    assert len(set(chosen)) == 10
    for i in set(range(64)) - set(chosen):
        (tmp_path / f"{i:02}.png").write_bytes(b"broken")
    again = load_images(str(tmp_path), only="all", limit=10)
    assert again.test[:, 0, 0, 0].tolist() == chosen
    assert len(again.train) == 0
    with pytest.raises(ValueError, match="is no picture"):
        load_images(str(tmp_path), only="all")


def test_a_thin_picture_is_cropped_before_it_grows(tmp_path):
    values = np.zeros((2, 60_000), np.uint8)
    values[:, 29_999:30_001] = 255
    saved(tmp_path, "thin.png", values)
    assert (load_images(str(tmp_path), 64, only="all").test == 255).all()


def test_check_data_says_what_is_there(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(20):
            saved(tmp_path / "set" / name, f"{i:02}.png", COLOUR if i else GREY)
    saved(tmp_path / "set" / "dog", "large.png", Image.fromarray(COLOUR).resize((16, 12)))
    (tmp_path / "set" / "dog" / "03.png").write_bytes(BROKEN["cut"][0]((tmp_path / "set/dog/04.png").read_bytes()))
    (tmp_path / "set" / "dog" / "notes.heic").touch()
    with pytest.raises(SystemExit) as stopped:
        main(["check-data", str(tmp_path / "set")])
    assert stopped.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:7] == [
        "images     37 to train on, 3 to test on",
        "sizes      8x8 (40), 12x16 (1)",
        "pixels     RGB (39), L (2)",
        "channels   3",
        "classes    dog (21), cat (20)",
        "left out   1 with the ending '.heic'",
    ]
    assert lines[7:8] == ["unreadable 1"]
    assert lines[8].startswith(f"  {tmp_path}/set/dog/03.png: ")
    np.save(tmp_path / "a.npy", np.stack([COLOUR] * 21))
    main(["check-data", str(tmp_path / "a.npy")])
    assert (
        "images     19 to train on, 2 to test on\nsizes      8x8 (21)\npixels     uint8 (21)" in capsys.readouterr().out
    )


def test_train_and_test_folders_are_read_and_nothing_beside_them(tmp_path):
    for place in ("train/cat", "test/cat", "test/dog", "extra"):
        (tmp_path / place).mkdir(parents=True)
        for i in range(3):
            saved(tmp_path / place, f"{i}.png", COLOUR)
    images = load_images(str(tmp_path))
    assert (len(images.train), len(images.test)) == (3, 6)
    assert images.test_labels.tolist() == [0] * 3 + [-1] * 3
    assert images.found.skipped == [(tmp_path / "extra", "beside train and test")]
    assert len(load_images(str(tmp_path), only="all").test) == 6


def test_a_folder_without_a_picture_says_what_was_left_out(tmp_path):
    (tmp_path / "a.heic").touch()
    with pytest.raises(ValueError, match=r"no pictures in \S+; looked for .jpg, .*, 1 left out with the ending"):
        load_images(str(tmp_path))
