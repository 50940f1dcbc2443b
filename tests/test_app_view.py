"""What the app computes, without its page: views, the Python that it shows, uploads, HTML, and what it offers."""

import shutil
import sys

import pytest
import torch
from PIL import Image

from idaa_transforms import IDAATransform, hub
from idaa_transforms.app import view
from idaa_transforms.app.models import Models
from idaa_transforms.app.page import describe, message_html, pictures_html, predictions_html
from idaa_transforms.app.view import SAMPLES, SIZES, code_of, make_view, read, sample
from idaa_transforms.cli import main

SMALL = "cifar10-vae-small"
CHOICES = (SMALL, "cifar10-classifier", "cifar10-reference", 0.1, 1)
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
    noise = torch.rand(60, 90, 3, generator=torch.Generator().manual_seed(3))
    Image.fromarray((255 * noise).byte().numpy()).resize((300, 240)).save("mine.png")
    (tmp_path / "networks.py").write_text(MODULES)
    return tmp_path


def run(code):
    """What a script leaves behind."""
    names = {}
    exec(compile(code, "shown", "exec"), names)
    return names


@pytest.mark.parametrize(("size", "eps", "steps"), [(32, 0.1, 1), (64, 0.3, 3)])
def test_the_python_that_is_shown_makes_the_same_view(place, capsys, size, eps, steps):
    models, choices = Models([SMALL]), (*CHOICES[:3], eps, steps)
    for picture in (sample(SAMPLES[3]), read(place / "mine.png")):
        result = make_view(picture.at(size), models, *choices)
        names = run(code_of(picture, size, models, *choices))
        assert torch.equal(names["found"].views[0], result.view)
        assert f"loss {result.loss_before:.4f}, of the view {result.loss_after:.4f}" in capsys.readouterr().out
        shares = names["reference"](names["found"].views).softmax(1)[0]
        assert list(result.reference.after.values()) == pytest.approx(shares.tolist(), abs=1e-5)


def test_a_view_of_a_sample():
    result = make_view(sample(3).at(32), Models([SMALL]), *CHOICES)
    assert result.loss_after > result.loss_before
    torch.testing.assert_close(result.reconstruction + result.residual, result.x)
    assert max(result.reference.before, key=result.reference.before.get) == "airplane"
    page = predictions_html(result, is_sample=True)
    assert f'<b id="after">{result.loss_after:.4f}</b>' in page
    assert f"{100 * result.reference.after['airplane']:.1f} %" in page
    assert "It knows airplane, automobile, bird," in page
    figures = pictures_html(result, "a<b")
    assert "a&lt;b" in figures
    assert figures.count("<img ") == figures.count('alt="') == 5


def test_settings_of_the_weights_give_way_to_what_is_chosen(place):
    folder = shutil.copytree(hub.find(SMALL), place / "mine")
    mean, std = [0.5] * 3, [0.2] * 3
    IDAATransform.from_pretrained(folder, steps=4, p=0.2, mean=mean, std=std).save_pretrained(folder)
    models = Models(["./mine", SMALL])
    views = [make_view(sample(3).at(32), models, name, *CHOICES[1:]).view for name in models.weights]
    torch.testing.assert_close(*views, rtol=0, atol=1e-5)  # to rounding: one of them divides by a std of 1
    assert torch.equal(run(code_of(sample(3), 32, models, "./mine", *CHOICES[1:]))["found"].views[0], views[0])


class TestNetworks:
    def test_of_the_users_own(self, place):
        torch.manual_seed(0)
        name = "networks.py:scores"
        result = make_view(sample(3).at(32), Models([SMALL], [name]), SMALL, name, *CHOICES[2:])
        page = predictions_html(result, is_sample=True)
        assert "&lt;b&gt;, two, three, four, and nothing else" in page
        assert "<b></th>" not in page

    def test_it_abstains_on_pictures_that_may_be_of_no_class_it_knows(self, place):
        result = make_view(read(place / "mine.png").at(32), Models([SMALL]), *CHOICES)
        page = predictions_html(result, is_sample=False)
        assert page.count("abstains") == 2
        assert "%" not in page
        sure, unsure = (
            view.Prediction("network", {"cat": p, "dog": 1 - p}, {"cat": 0.9, "dog": 0.1}) for p in (0.95, 0.6)
        )
        assert "95.0 %" not in predictions_html(result._replace(reference=sure, network=unsure), is_sample=False)
        assert "95.0 %" in predictions_html(result._replace(reference=sure, network=sure), is_sample=False)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("networks.py:features", r"the network networks.py:features gave \(1, 3, 32, 32\) for 1 images"),
            ("networks.py:broken", "the network networks.py:broken failed on images"),
        ],
    )
    def test_that_cannot_be_used(self, place, name, message):
        with pytest.raises(ValueError, match=message):
            make_view(sample(3).at(32), Models([SMALL], [name]), SMALL, name, *CHOICES[2:])


class TestUploads:
    def test_squares_upright_in_colour(self, tmp_path):
        exif = Image.Exif()
        exif[274] = 6  # lies on its side
        picture = Image.new("L", (40, 20))
        picture.paste(255, (0, 0, 20, 20))
        picture.save(tmp_path / "grey.jpg", exif=exif)
        x = read(tmp_path / "grey.jpg").at(32)
        assert x.shape == (1, 3, 32, 32)
        assert x[..., :12, :].min() > 0.8
        assert x[..., 20:, :].max() < 0.2
        assert set(read(tmp_path / "grey.jpg").squares) == set(SIZES)

    @pytest.mark.parametrize("content", [b"", b"GIF89a and no more", b"\x89PNG\r\n\x1a\n" + bytes(50)])
    def test_broken(self, tmp_path, content):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"^bad.png: ") as error:
            read(tmp_path / "bad.png")
        assert str(tmp_path) not in str(error.value)

    def test_huge(self, place, monkeypatch):
        monkeypatch.setattr(view, "MAX_PIXELS", 1000)
        with pytest.raises(ValueError, match=r"^mine.png: is 300 x 240 pixels; scale it down to 1,000 pixels"):
            read(place / "mine.png")


def test_errors():
    assert "&lt;script&gt;" in message_html("<script>")
    assert describe(ValueError("eps=\n-1")) == "eps= -1"
    assert describe(KeyError("x")) == "KeyError: 'x'; please report this"


def test_the_command_says_what_is_wrong_before_anything_is_served(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["app", "--port", "70000"])
    assert "70000 is not a port from 1 to 65535" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match=r"gradio is needed for this: pip install 'idaa_transforms\[app\]'"):
        main(["app"])
    with pytest.raises(hub.WeightsError, match=r"there is no folder './none'"):
        Models(["./none"])
    with pytest.raises(ValueError, match="no_such_network"):
        Models([SMALL], ["no_such_network"])
