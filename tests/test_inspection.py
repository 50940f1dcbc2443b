"""``idaa inspect`` and ``idaa calibrate`` on real images and weights; the report, opened in a real browser."""

import html
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
    (tmp_path / "my_mistake.py").write_text("model = (")
    monkeypatch.chdir(tmp_path)
    return ["--data", "images.npz", "--judge", "my_models:judge", "--model", "my_models:model", "--images", "16"]


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
    const fits = [...inside.querySelectorAll(".scroll")].every(e => e.getBoundingClientRect().right <= width);
    told[width] = {
      overflow: inside.documentElement.scrollWidth - inside.documentElement.clientWidth, fits,
      images: [...inside.images].map(i => i.naturalWidth), ink: style.color, paper: style.backgroundColor,
      plots: [...inside.querySelectorAll("picture img")].map(i => i.currentSrc.length),
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
    main(["inspect", "cifar10-vae-z128", *options])
    out = tmp_path / "inspect-out"
    answer = json.loads((out / "report.json").read_text())
    page = (out / "report.html").read_text("utf-8")
    assert answer["answer"] in capsys.readouterr().out
    assert answer["answer"] in page
    assert "Measured on 16 images" in page
    assert sorted(file.name for file in out.iterdir()) == ["report.html", "report.json"]
    assert not re.search(r"https?://|<script|<link", page)  # nothing from elsewhere

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser among {', '.join(BROWSERS)}")
    (tmp_path / "probe.html").write_text(PROBE.replace("PAGE", json.dumps(page)), "utf-8")

    def run(*arguments):
        start = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
        done = subprocess.run([*start, *arguments], capture_output=True, text=True, check=True, timeout=120)
        return done.stdout

    plots = {}
    for scheme, number in (("dark", 0), ("light", 1)):
        flag = f"--blink-settings=preferredColorScheme={number}"
        dom = run(flag, "--dump-dom", (tmp_path / "probe.html").as_uri())
        told = json.loads(html.unescape(re.search("<title>(.*?)</title>", dom)[1]))
        assert set(told) == {"400", "800", "1400"}
        for seen in told.values():
            assert seen["overflow"] <= 0
            assert seen["fits"]
            assert len(seen["images"]) == page.count("<img") == 11
            assert min(seen["images"]) > 200
            ink, paper = luminance(seen["ink"]), luminance(seen["paper"])
            assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7
            assert (paper < ink) == (scheme == "dark")
        plots[scheme] = told["400"]["plots"]
    assert plots["dark"] != plots["light"]
    run(f"--screenshot={out / 'shot.png'}", "--window-size=1100,1400", (out / "report.html").as_uri())
    shot = np.asarray(PIL.Image.open(out / "shot.png").convert("RGB"))
    assert shot.shape == (1400, 1100, 3)
    assert len(np.unique(shot[400:].reshape(-1, 3), axis=0)) > 5000  # photographs, not text on white


def test_calibrate_saves_into_a_folder(options, tmp_path, capsys):
    IDAATransform(hub.load("cifar10-vae-z128")[0], 0.7).save_pretrained("mine")
    attack = ["--eps", "1", "--norm", "l2", "--scale", "posterior", "--steps", "2"]
    main(["calibrate", "mine", *options[:-1], "64", *attack, "--keep", "1", "--save"])
    out = capsys.readouterr().out
    found = re.search(r"eps = ([\d.]+) keeps retrieved of at least 1", out)
    assert found
    again = IDAATransform.from_pretrained("./mine")
    assert again.eps == pytest.approx(float(found[1]), rel=1e-3)
    assert (again.norm, again.scale, again.steps) == ("l2", "posterior", 2)
    rows = [line.split() for line in out.splitlines() if re.match(r" +[\d.]+ ", line)]
    kept = [float(row[2]) for row in rows]
    assert max(kept) == 1
    assert kept[0] >= kept[-1]


def test_images_are_measured_in_their_own_size_or_in_the_one_that_is_asked_for(options, tmp_path, capsys):
    """Not in that of the weights: what is trained at 224 pixels is judged at 224."""
    (tmp_path / "any_size_judge.py").write_text(
        "from torch import nn\n\nclass Judge(nn.Module):\n    def forward(self, x):\n"
        "        print('saw', *x.shape)\n        return nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)\n"
    )
    images = (cifar10_sample((52, 44))[0][:8] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez("large.npz", x_test=images)
    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(images):
        PIL.Image.fromarray(image[: 40 + i]).save(tmp_path / "pictures" / f"{i}.png")
    run = ["calibrate", "cifar10-vae-small", "--judge", "any_size_judge:Judge", "--eps", "0.1", "--data"]
    for data, seen in ((["large.npz"], "8 3 52 44"), (["pictures", "--image-size", "40"], "8 3 40 40")):
        main([*run, *data])
        assert {line for line in capsys.readouterr().out.splitlines() if line.startswith("saw")} == {f"saw {seen}"}
    with pytest.raises(SystemExit, match=r"images of 'pictures' are 40x44, 47x44 and such; say --image-size$"):
        main([*run, "pictures"])


def test_a_folder_of_pictures_is_used_whole_and_too_few_are_refused_at_once(options, tmp_path, capsys):
    """64 pictures are 64 images, since nothing is trained on any; they are too few for 0.95, and enough for all."""
    for i, image in enumerate((cifar10_sample()[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        PIL.Image.fromarray(image).save(tmp_path / "pictures" / f"{i}.png")
    IDAATransform(hub.load("cifar10-vae-z128")[0], 0.7).save_pretrained("mine")
    run = ["calibrate", "mine", "--data", "pictures", "--judge", "my_models:judge", "--eps", "0.01"]
    with pytest.raises(
        SystemExit,
        match=r"64 images are too few to save what keeps a share of 0.95: .* give 215 or more, or leave out --save$",
    ):
        main([*run, "--save"])
    assert capsys.readouterr().out == ""  # nothing was measured
    with pytest.raises(SystemExit, match=r"9 images are too few .*; give 61 or more \(--images\), or leave"):
        main([*run, "--save", "--keep", "1", "--images", "9"])
    main(run)
    assert re.search(r"eps = 0\.\d+ keeps .*\(64 images\)", capsys.readouterr().out)
    main([*run, "--save", "--keep", "1"])
    assert "(64 images)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate", "cifar10-vae", "--save"], "belongs to the package; save it to a folder of your own first"),
        (["inspect", "cifar10-vae", "--model", "no_such_file:model"], "'no_such_file:model' cannot be imported"),
        (["inspect", "cifar10-vae", "--model", "my_models:nobody"], "has no attribute 'nobody'"),
        (
            ["inspect", "cifar10-vae", "--model", "my_mistake:model"],
            "'my_mistake:model' cannot be imported: SyntaxError",
        ),
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
