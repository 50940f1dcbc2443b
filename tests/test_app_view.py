"""What the app computes, without its page: views, the Python that it shows, uploads, HTML, and what is offered."""

import re
import shutil
import sys

import pytest
import torch
from PIL import Image

pytest.importorskip("timm")

from idaa_transforms import IDAATransform, hub
from idaa_transforms.app import pictures
from idaa_transforms.app.code import code_of
from idaa_transforms.app.models import Models
from idaa_transforms.app.page import error_html, heat, result_html, said
from idaa_transforms.app.pictures import SAMPLES, Sample, Upload, Uploads, read_upload
from idaa_transforms.app.view import Setup, make_view
from idaa_transforms.cli import main

SMALL = "cifar10-vae-small"
MODULES = """
from torch import nn


def scores():
    network = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(12, 4))
    network.classes = ["<b>", "two", "three", "four"]
    return network


def features():
    return nn.Identity()


def broken():
    return nn.Linear(7, 7)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a picture of the user's, and networks."""
    monkeypatch.chdir(tmp_path)
    colours = torch.rand(60, 90, 3, generator=torch.Generator().manual_seed(3))
    Image.fromarray((255 * colours).byte().numpy()).resize((300, 240)).save("mine.png")
    (tmp_path / "networks.py").write_text(MODULES)
    return tmp_path


def run(code):
    """What a script leaves behind."""
    names = {}
    exec(compile(code, "shown", "exec"), names)
    return names


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"size": 64, "steps": 3},
        {"norm": "l2", "eps": 6.0, "scale": "posterior"},
        {"target_gain": 0.1},
        {"guard": 0.999, "eps": 2.0},
        {"judge": "cifar10-classifier", "network": "cifar10-reference"},
    ],
    ids=str,
)
def test_the_python_that_is_shown_makes_the_same_view(place, capsys, chosen):
    setup, models = Setup(weights=SMALL, **chosen), Models([SMALL])
    for picture in (Sample(SAMPLES[3]), read_upload(place / "mine.png")):
        result = make_view(picture.at(setup.size), setup, models)
        found = run(code_of(picture, setup, models))["found"]
        assert torch.equal(found.views[0], result.view)
        assert torch.equal(found.reconstruction[0] + found.residual[0], result.reconstruction + result.residual)
        printed = capsys.readouterr().out
        assert f"loss {result.loss_before:.4f}, of the view {result.loss_after:.4f}" in printed
        likeliest = max(result.opinions[0].after.values())
        assert float(re.search(r"view \[.*\] \[([\d.e-]+)", printed)[1]) == pytest.approx(likeliest, abs=1e-5)


def test_what_a_result_holds():
    result = make_view(Sample(3).at(32), Setup(weights=SMALL), Models([SMALL]))
    assert result.loss_after > result.loss_before
    torch.testing.assert_close(result.reconstruction + result.residual, result.x)
    assert torch.equal(result.change, (result.view - result.x).abs().mean(0))
    judge, network = result.opinions
    assert (judge.network, network.network) == ("cifar10-reference", "cifar10-classifier")
    assert max(judge.before, key=judge.before.get) == "airplane"
    assert network.after[max(network.before, key=network.before.get)] < max(network.before.values())


def test_settings_that_came_with_weights_do_not_change_what_was_chosen(place):
    folder = shutil.copytree(hub.find(SMALL), place / "mine")
    aug = IDAATransform.from_pretrained(folder, norm="l2", steps=4, random_start=True, clip=(0, 1), p=0.2)
    aug.save_pretrained(folder)
    models = Models(["./mine", SMALL])
    results = [make_view(Sample(3).at(32), Setup(weights=name), models) for name in models.names]
    assert torch.equal(results[0].view, results[1].view)
    code = code_of(Sample(3), Setup(weights="./mine"), models)
    assert torch.equal(run(code)["found"].views[0], results[0].view)


class TestNetworks:
    def test_of_the_users_own(self, place):
        torch.manual_seed(0)
        name = "networks.py:scores"
        models = Models([SMALL], [name])
        assert models.networks[0] == name
        result = make_view(Sample(3).at(32), Setup(weights=SMALL, network=name), models)
        assert set(result.opinions[1].before) <= {"<b>", "two", "three", "four"}
        page = result_html(result, "a picture")
        assert "&lt;b&gt;" in page
        assert "<b></th>" not in page

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("networks.py:features", r"the network networks.py:features gave \(1, 3, 32, 32\) for 1 images"),
            ("networks.py:broken", "the network networks.py:broken failed on images"),
            ("networks.py:nobody", "'networks.py:nobody' cannot be imported"),
            ("nowhere.py:model", "'nowhere.py:model' cannot be imported: FileNotFoundError"),
            ("no_such_network", "timm has no model 'no_such_network' here"),
        ],
    )
    def test_that_cannot_be_used(self, place, name, message):
        with pytest.raises(ValueError, match=message):
            make_view(Sample(3).at(32), Setup(weights=SMALL, network=name), Models([SMALL], [name]))

    @pytest.mark.slow
    def test_of_timm_without_its_weights(self, place, monkeypatch):
        monkeypatch.setenv("HF_HUB_CACHE", str(place))
        setup, models = Setup(weights=SMALL, network="resnet10t"), Models([SMALL], ["resnet10t"])
        before = torch.get_rng_state()
        result = make_view(Sample(3).at(32), setup, models)
        assert torch.equal(torch.get_rng_state(), before)
        assert "resnet10t is not trained" in result.notes[0]
        code = code_of(Sample(3), setup, models)
        assert torch.equal(run(code)["found"].views[0], result.view)


class TestUploads:
    def test_only_squares_are_kept(self, place):
        upload = read_upload(place / "mine.png")
        assert {size: tuple(square.shape) for size, square in upload.squares.items()} == {
            size: (3, size, size) for size in pictures.SIZES
        }

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"^bad.png: is empty"),
            (b"GIF89a and no more", r"^bad.png: is no picture"),
            (b"\x89PNG\r\n\x1a\n" + bytes(50), r"^bad.png: "),
        ],
    )
    def test_broken(self, place, content, message):
        (place / "bad.png").write_bytes(content)
        with pytest.raises(ValueError, match=message) as error:
            read_upload(place / "bad.png")
        assert str(place) not in str(error.value)

    def test_huge(self, place, monkeypatch):
        Image.new("L", (5000, 4000)).save("wide.png")
        with pytest.raises(ValueError, match=r"^wide.png: is 5,000 x 4,000 pixels, and up to 16,000,000"):
            read_upload(place / "wide.png")
        monkeypatch.setattr(pictures, "MOST_BYTES", 1000)
        with pytest.raises(ValueError, match=r"^mine.png: has \d+ MB, and up to 0 are taken; scale it down"):
            read_upload(place / "mine.png")

    def test_each_visitor_has_the_own_one_until_leaving(self):
        uploads = Uploads(most=2)
        for visitor in "abc":
            uploads.keep(visitor, Upload(visitor, {}))
        assert [uploads.of(visitor).name for visitor in "bc"] == ["b", "c"]
        with pytest.raises(ValueError, match="upload it again"):
            uploads.of("a")
        uploads.forget("b")
        assert len(uploads) == 1


class TestPage:
    def test_colours_run_from_dark_to_bright(self):
        bright = heat(torch.linspace(0, 2, 21)[None], 2.0).float().sum(0)[0]
        assert (bright.diff() > 0).all()

    def test_numbers_and_notes(self):
        models = Models([SMALL])
        result = make_view(Sample(3).at(32), Setup(weights=SMALL, guard=1.0), models)
        page = result_html(result, "a<b")
        assert "the guard gave the picture back as it was" in page
        assert f'<b id="after">{result.loss_after:.4f}</b>' in page
        assert "a&lt;b" in page
        assert page.count("<img ") == page.count('alt="') == 5

    def test_errors(self):
        assert "&lt;script&gt;" in error_html("<script>")
        assert said(ValueError("eps=\n-1")) == "eps= -1"
        assert said(KeyError("x")) == "KeyError: 'x'; this was not foreseen, please report it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "/etc"}, "weights '/etc' are not offered here"),
        ({"network": "os:abort"}, "the network 'os:abort' is not offered here"),
        ({"size": 10_000}, "size=10000 is not one of"),
        ({"steps": 10**6}, "steps=1000000 are more than the 20"),
        ({"eps": -1.0}, "eps=-1.0"),
        ({"norm": "l3"}, "norm='l3'"),
    ],
)
def test_a_visitor_gets_nothing_else_than_what_is_offered(change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_view(Sample(3).at(32), Setup(**{"weights": SMALL} | change), Models([SMALL]))


def test_the_command_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match=r"gradio is needed for this: pip install 'idaa_transforms\[app\]'"):
        main(["app"])


def test_a_wrong_port(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["app", "--port", "70000"])
    assert "70000 is not a port from 1 to 65535" in capsys.readouterr().err


@pytest.mark.slow
def test_wrong_weights_are_told_before_anything_is_served():
    pytest.importorskip("gradio", reason="gradio is not installed: make app")
    with pytest.raises(SystemExit, match=r"there is no folder './none'"):
        main(["app", "--weights", "./none"])
