"""Training in examples/detection: it learns, goes on where it was, and two processes do what one does."""

from dataclasses import asdict
from pathlib import Path

import config as ssl
import network as ssl_network
import pytest
import torch
from conftest import randomise
from PIL import Image
from toy_coco import write

from examples.detection import evaluate, picture
from examples.detection.config import configure
from examples.detection.network import FrozenNorm, build, start
from examples.detection.train import learning_rate, train

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A toy COCO folder, and a checkpoint of examples/ssl with dual batch norm."""
    folder = tmp_path_factory.mktemp("detection")
    write(folder / "toy")
    config = ssl.configure(["--scale", "smoke", "--view", "third"])
    torch.manual_seed(0)
    model = randomise(ssl_network.Model(config, 32))
    (folder / "simclr").mkdir()
    torch.save({"model": model.state_dict(), "config": asdict(config)}, folder / "simclr" / "checkpoint.pt")
    return folder, model


@pytest.fixture
def options(places):
    folder, _ = places
    return ["--scale", "smoke", "--data", str(folder / "toy"), "--backbone", str(folder / "simclr")]


def run(options, out, *more):
    return train(configure([*options, "--out", str(out), *map(str, more)]))


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same(one, two):
    for key, value in checkpoint(one)["model"].items():
        assert torch.equal(value, checkpoint(two)["model"][key]), key


def test_the_backbone_is_the_clean_half_of_the_checkpoint(places, options):
    _, model = places
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = start(configure(options))
    with torch.no_grad():
        assert torch.equal(found.network(x), model.eval().backbone(x))
    detector = build(configure([*options, "--norm", "frozen"]), found, 3).train()
    state = {key: value.clone() for key, value in detector.backbone.body.state_dict().items()}
    expected = model.backbone.state_dict()
    assert torch.equal(state["layer1.0.conv1.weight"], expected["layer1.0.conv1.weight"])
    assert torch.equal(state["bn1.running_var"], expected["bn1.clean.running_var"])
    detector.backbone(x)
    assert all(torch.equal(state[key], value) for key, value in detector.backbone.body.state_dict().items())


def test_from_scratch_nothing_but_the_shape_is_left(places, options):
    _, model = places
    fresh, state = start(configure([*options, "--scratch"])).network.state_dict(), model.backbone.state_dict()
    assert not torch.equal(fresh["layer1.0.conv1.weight"], state["layer1.0.conv1.weight"])
    assert (fresh["bn1.running_var"] == 1).all()


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--neck", "c4", "--norm", "frozen", "--model", "faster", "--proposals", "100", "--sizes", "64"],
        ["--scratch", "--optimiser", "sgd", "--lr", "0.01", "--crop", "40", "--train-images", "1", "--test", "train"],
    ],
)
def test_every_kind_runs_and_says_what_it_is(more, options, tmp_path):
    result = run(options, tmp_path, *more)
    kinds = ("box",) if "faster" in more else ("box", "mask")
    assert set(result["metrics"]) == {f"{kind}_{name}" for kind in kinds for name in ("AP", "AP50", "AP75")}
    assert [row["iterations"] for row in result["log"]] == [2, 4]
    one = "--train-images" in more
    assert result["images"] == {"train": 1, "test": 1} if one else {"train": 6, "test": 3}
    assert result["backbone"] == {} if one else result["backbone"]["view"] == "third"
    assert (result["log"][0]["loss_mask"] > 0) == ("faster" not in more)


def test_frozen_parts_stay_and_others_move(options, tmp_path):
    config = configure([*options, "--freeze", "2", "--out", str(tmp_path)])
    before = start(config).network
    train(config)
    after = checkpoint(tmp_path)["model"]
    moved = {key: not torch.equal(value, after[f"backbone.body.{key}"]) for key, value in before.state_dict().items()}
    still = [key for key, value in moved.items() if not value and "num_batches" not in key]
    assert {key.split(".")[0] for key in still} == {"conv1", "bn1", "layer1"}
    assert all(moved[f"layer{i}.0.conv1.weight"] for i in (2, 3, 4))
    detector = build(config, start(config), 3).train()
    assert isinstance(detector.backbone.body.layer1[0].bn1, FrozenNorm)


def test_an_interrupted_run_ends_with_the_same_weights(options, tmp_path):
    whole = run(options, tmp_path / "whole")
    assert run(options, tmp_path / "parts", "--stop-after", 1) == {}
    torch.manual_seed(99)  # a new process starts elsewhere
    parts = run(options, tmp_path / "parts")
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert parts["metrics"] == whole["metrics"] == evaluate.main(tmp_path / "parts")
    with pytest.raises(ValueError, match=r"made with lr 0\.001, not 0\.5; use another --out"):
        run(options, tmp_path / "parts", "--lr", 0.5)


def test_it_learns_to_find_and_to_cut_out(options, tmp_path):
    """Two pictures by heart."""
    more = ["--width", "32", "--head", "64", "--iterations", 80, "--every", 80, "--batch-size", 2, "--pass-size", 2]
    learn = ["--lr", "2e-3", "--warmup", 10, "--train-images", 2, "--test", "train", "--scratch"]
    metrics = run(options, tmp_path, *more, *learn)["metrics"]
    assert metrics["box_AP50"] > 0.5
    assert metrics["mask_AP50"] > 0.5
    picture.main(tmp_path, tmp_path / "found.png", [0, 1])
    with Image.open(tmp_path / "found.png") as drawn:
        assert drawn.size == (2 * 70 + 6, 2 * 70 + 6)
        colours = len(drawn.convert("RGB").getcolors(10_000))
    assert colours > 8  # masks of annotations and of detections


def test_learning_rates_of_the_schedules():
    one, two = configure([]), configure(["--schedule", "2x"])
    steps = (0, 499, 1000, 59_999, 60_000, 79_999, 80_000)
    expected = [0.001, 0.5, 1, 1, 0.1, 0.1, 0.01]
    assert [learning_rate(one, step) / 0.02 for step in steps] == pytest.approx(expected)
    steps = (119_999, 120_000, 159_999, 160_000)
    assert [learning_rate(two, step) / 0.02 for step in steps] == pytest.approx([1, 0.1, 0.1, 0.01])
