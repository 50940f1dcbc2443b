"""``idaa inspect`` and ``idaa calibrate`` on real images and weights."""

import json
import re

import numpy as np
import PIL.Image
import pytest
from test_commands import said

from idaa_transforms import IDAATransform, hub
from idaa_transforms.cli import main
from idaa_transforms.sample import cifar10_sample

pytestmark = pytest.mark.slow

MODELS = """
import torch
from torch import nn


def reference():
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 32))


class AnySize(nn.Module):
    def forward(self, x):
        print("saw", *x.shape)
        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(16))
model(torch.zeros(1, 3, 32, 32))
"""


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Real images as an .npz and as pictures, and models of the user's in the working folder."""
    monkeypatch.chdir(tmp_path)
    images = (cifar10_sample()[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez("images.npz", x_train=images, x_test=images)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(images):
        PIL.Image.fromarray(image).save(tmp_path / "pictures" / f"{i}.png")
    (tmp_path / "my_models.py").write_text(MODELS)
    return ["--data", "images.npz", "--reference", "my_models.py:reference", "--model", "my_models.py:model"]


def test_inspect_writes_one_page_with_everything_in_it(options, tmp_path, capsys):
    main(["inspect", "cifar10-vae-small", *options, "--images", "16"])
    out = tmp_path / "inspect-out"
    answer = json.loads((out / "report.json").read_text())
    page = (out / "report.html").read_text("utf-8")
    assert answer["answer"] in capsys.readouterr().out
    assert answer["answer"] in page
    assert sorted(file.name for file in out.iterdir()) == ["report.html", "report.json"]
    assert not re.search(r"(src|href)=.https?://|<script|<link", page)  # nothing from elsewhere
    assert page.count('src="data:image/') == 9
    assert page.count("<svg") == 2


def test_images_are_measured_in_their_own_size_or_in_the_one_that_is_asked_for(options, tmp_path, capsys):
    """Not in that of the weights: a model trained at 224 pixels is measured at 224."""
    images = (cifar10_sample((52, 44))[0][:8] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez("large.npz", x_test=images)
    (tmp_path / "sizes").mkdir()
    for i, image in enumerate(images):
        PIL.Image.fromarray(image[: 40 + i]).save(tmp_path / "sizes" / f"{i}.png")
    run = ["calibrate", "cifar10-vae-small", "--reference", "my_models.py:AnySize", "--eps", "0.1", "--data"]
    for data, seen in ((["large.npz"], "8 3 52 44"), (["sizes", "--image-size", "40"], "8 3 40 40")):
        main([*run, *data])
        assert {line for line in capsys.readouterr().out.splitlines() if line.startswith("saw")} == {f"saw {seen}"}
    assert said(capsys, *run, "sizes")[0].endswith("say --image-size")


def test_a_folder_of_pictures_is_used_whole_and_saved_unless_they_are_too_few(options, capsys):
    """64 pictures are 64 images, since nothing is trained on any; they are too few for 0.95, and enough for all."""
    IDAATransform(hub.load("cifar10-vae-small")[0], 0.7).save_pretrained("mine")
    run = ["calibrate", "mine", "--data", "pictures", "--reference", "my_models:reference", "--eps", "0.01"]
    line, _ = said(capsys, *run, "--save")
    assert re.match(r"idaa: 64 images are too few to save .* use 215 or more, or leave out --save$", line)
    line, _ = said(capsys, *run, "--save", "--keep", "1", "--images", "9")
    assert re.match(r"idaa: 9 images are too few .* use 61 or more \(--images\), or leave out --save$", line)
    main([*run, "--save", "--keep", "1", "--norm", "l2", "--eps-unit", "posterior", "--steps", "2"])
    out = capsys.readouterr().out
    assert "(64 images)" in out
    again = IDAATransform.from_pretrained("./mine")
    assert again.eps == pytest.approx(float(re.search(r"eps = ([\d.]+) keeps", out)[1]), rel=1e-3)
    assert (again.norm, again.eps_unit, again.steps) == ("l2", "posterior", 2)
