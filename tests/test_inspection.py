"""``idaa inspect`` and ``idaa calibrate`` on real images and weights; the report, opened in a real browser."""

import json
import re
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest
import torch

from idaa_transforms import IDAATransform, hub
from idaa_transforms.cli import main
from idaa_transforms.util.sample import cifar10_sample

MODELS = """
import torch
from torch import nn


def judge():
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(192, 32))


model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(16))
model(torch.zeros(1, 3, 32, 32))
"""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Real images as an .npz, and models of the user's in the working folder."""
    images = (cifar10_sample()[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "images.npz", x_train=images, x_test=images)
    (tmp_path / "my_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return ["--data", "images.npz", "--judge", "my_models:judge", "--model", "my_models:model", "--images", "16"]


def test_inspect_writes_one_page_that_a_browser_shows(options, tmp_path, capsys):
    main(["inspect", "cifar10-vae-z128", *options])
    out = tmp_path / "inspect-out"
    answer = json.loads((out / "report.json").read_text())
    page = (out / "report.html").read_text()
    assert answer["answer"] in capsys.readouterr().out
    assert answer["answer"] in page
    assert f"{answer['curve'][0]['retrieved']:.3f}" in page
    for name in ("views", "curves", "bound"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert page.count("<img") == page.count('src="data:image/png;base64,') == 3
    assert not re.search(r"https?://|<script|<link", page)  # nothing from elsewhere

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser among {', '.join(BROWSERS)}")
    probe = "<script>onload = () => { document.title = [...document.images].map(i => i.naturalWidth > 300) }</script>"
    (out / "probe.html").write_text(page.replace("</body>", f"{probe}</body>"))

    def run(*arguments):
        start = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000"]
        done = subprocess.run([*start, *arguments], capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    dom = run("--dump-dom", (out / "probe.html").as_uri())
    assert "<title>true,true,true</title>" in dom
    run(f"--screenshot={out / 'shot.png'}", "--window-size=1100,1400", (out / "report.html").as_uri())
    shot = np.asarray(PIL.Image.open(out / "shot.png").convert("RGB"))
    assert shot.shape == (1400, 1100, 3)
    assert len(np.unique(shot[400:].reshape(-1, 3), axis=0)) > 5000  # photographs, not text on white


def test_calibrate_saves_into_a_folder(options, tmp_path, capsys):
    IDAATransform(hub.load("cifar10-vae-z128")[0], 0.7).save_pretrained("mine")
    attack = ["--eps", "4", "--norm", "l2", "--scale", "posterior", "--steps", "2"]
    main(["calibrate", "mine", *options, *attack, "--keep", "0.8", "--save"])
    out = capsys.readouterr().out
    found = re.search(r"eps = ([\d.]+) keeps retrieved of at least 0.8", out)
    assert found
    again = IDAATransform.from_pretrained("mine")
    assert again.eps == pytest.approx(float(found[1]), rel=1e-3)
    assert (again.norm, again.scale, again.steps) == ("l2", "posterior", 2)
    rows = [line.split() for line in out.splitlines() if re.match(r" +[\d.]+ ", line)]
    kept = [float(row[2]) for row in rows]
    assert max(kept) >= 0.8
    assert kept[0] >= kept[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate", "cifar10-vae", "--save"], "belongs to the package; save it to a folder of your own first"),
        (["inspect", "cifar10-vae", "--model", "no_such_file:model"], "'no_such_file:model' cannot be imported"),
        (["inspect", "cifar10-vae", "--model", "my_models:nobody"], "has no attribute 'nobody'"),
        (["inspect", "cifar10-vae", "--model", "nobody"], "timm has no pretrained model 'nobody'"),
    ],
)
def test_what_is_said_of_wrong_arguments(options, arguments, message):
    del options[4:6]
    with pytest.raises(SystemExit, match=f"idaa: .*{message}"):
        main([*arguments[:2], *options, *arguments[2:]])


def test_models_are_frozen(options):
    from idaa_transforms.measure.models import load_model

    model = load_model("my_models:judge")
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 32)
