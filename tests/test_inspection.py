"""``idaa inspect`` and ``idaa calibrate`` on real images and weights; the report, opened in a real browser."""

import html
import json
import re
import shutil
import subprocess

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
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


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


PROBE = """
<body><script>
const page = PAGE, told = {};
onload = async () => {
  for (const width of [400, 800, 1400]) {
    const frame = document.body.appendChild(document.createElement("iframe"));
    frame.style.width = width + "px";
    const loaded = new Promise(done => frame.onload = done);
    frame.srcdoc = page;
    await loaded;
    const inside = frame.contentDocument, style = frame.contentWindow.getComputedStyle(inside.body);
    const fits = [...inside.querySelectorAll(".scroll, svg")].every(e => e.getBoundingClientRect().right <= width);
    told[width] = {
      overflow: inside.documentElement.scrollWidth - inside.documentElement.clientWidth, fits,
      images: [...inside.images].map(i => i.naturalWidth), ink: style.color, paper: style.backgroundColor,
      plots: [...inside.querySelectorAll("svg")].map(e => e.getBoundingClientRect().width),
      labels: [...inside.querySelectorAll("svg text")].map(e => frame.contentWindow.getComputedStyle(e).fill),
    };
  }
  document.title = JSON.stringify(told);
}
</script></body>
"""


def luminance(colour):
    """Of ``rgb(r, g, b)``, as the Web Content Accessibility Guidelines define it."""
    parts = [int(v) / 255 for v in re.findall(r"\d+", colour)[:3]]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_inspect_writes_one_page_that_a_browser_shows(options, tmp_path, capsys):
    """At each width, in each colour scheme: nothing is wider than the page, all pictures are there, text is legible."""
    main(["inspect", "cifar10-vae-z128", *options, "--images", "16"])
    out = tmp_path / "inspect-out"
    answer = json.loads((out / "report.json").read_text())
    page = (out / "report.html").read_text("utf-8")
    assert answer["answer"] in capsys.readouterr().out
    assert answer["answer"] in page
    assert sorted(file.name for file in out.iterdir()) == ["report.html", "report.json"]
    assert not re.search(r"(src|href)=.https?://|<script|<link", page)  # nothing from elsewhere

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser among {', '.join(BROWSERS)}")
    (tmp_path / "probe.html").write_text(PROBE.replace("PAGE", json.dumps(page)), "utf-8")
    start = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    for scheme, number in (("dark", 0), ("light", 1)):
        flag = f"--blink-settings=preferredColorScheme={number}"
        command = [*start, flag, (tmp_path / "probe.html").as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
        told = json.loads(html.unescape(re.search("<title>(.*?)</title>", dom)[1]))
        assert set(told) == {"400", "800", "1400"}
        for seen in told.values():
            assert seen["overflow"] <= 0
            assert seen["fits"]
            assert len(seen["images"]) == 9
            assert min(seen["images"]) > 200
            assert len(seen["plots"]) == 2
            assert min(seen["plots"]) > 200
            assert len(seen["labels"]) > 20
            paper = luminance(seen["paper"])
            for ink in map(luminance, {seen["ink"], *seen["labels"]}):
                assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7
                assert (paper < ink) == (scheme == "dark")


def test_calibrate_saves_into_a_folder(options, capsys):
    IDAATransform(hub.load("cifar10-vae-z128")[0], 0.7).save_pretrained("mine")
    attack = ["--eps", "1", "--norm", "l2", "--eps-unit", "posterior", "--steps", "2"]
    main(["calibrate", "mine", *options, *attack, "--keep", "1", "--save"])
    out = capsys.readouterr().out
    found = re.search(r"eps = ([\d.]+) keeps retrieval_at_1 of at least 1", out)
    again = IDAATransform.from_pretrained("./mine")
    assert again.eps == pytest.approx(float(found[1]), rel=1e-3)
    assert (again.norm, again.eps_unit, again.steps) == ("l2", "posterior", 2)
    rows = [line.split() for line in out.splitlines() if re.match(r" +[\d.]+ ", line)]
    kept = [float(row[2]) for row in rows]
    assert max(kept) == 1
    assert kept[0] >= kept[-1]


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


def test_a_folder_of_pictures_is_used_whole_and_too_few_are_refused_at_once(options, capsys):
    """64 pictures are 64 images, since nothing is trained on any; they are too few for 0.95, and enough for all."""
    IDAATransform(hub.load("cifar10-vae-z128")[0], 0.7).save_pretrained("mine")
    run = ["calibrate", "mine", "--data", "pictures", "--reference", "my_models:reference", "--eps", "0.01"]
    line, _ = said(capsys, *run, "--save")
    assert re.match(r"idaa: 64 images are too few to save .* use 215 or more, or leave out --save$", line)
    line, _ = said(capsys, *run, "--save", "--keep", "1", "--images", "9")
    assert re.match(r"idaa: 9 images are too few .* use 61 or more \(--images\), or leave out --save$", line)
    main([*run, "--save", "--keep", "1"])
    assert "(64 images)" in capsys.readouterr().out
