"""The cost of ImageNet on paper: a step has the passes that the table says, and what is sent adds up."""

import pytest
import torch
from config import configure
from conftest import tiny_vae
from network import Model
from step import augmentations, learn, make_attack, random_views
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import loading, scale
from idaa_transforms import IDAATransform, cli

CONVOLUTIONS = {torch.ops.aten.convolution, torch.ops.aten.convolution_backward}


class Convolved(TorchDispatchMode):
    """FLOPs of convolutions: all of the backbone's, and none of the heads'."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in CONVOLUTIONS:
            self.flops += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def convolved(case):
    with Convolved() as counted:
        case()
    return counted.flops


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    IDAATransform(tiny_vae(16)).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("view", scale.VIEWS)
def test_a_step_has_the_passes_of_the_table(view, vae):
    name, *form = view.replace(",", "").split()
    dual = [] if "both" in form else ["--dual-bn"]
    options = ["--scale", "smoke", "--view", name, *form, *(dual or ["--no-dual-bn"]), "--weights", str(vae)]
    config = configure([*options, "--maxpool", "--crop", "1"])
    model = Model(config, 32)
    attack = make_attack(config, model)
    x = torch.rand(4, 3, 32, 32)
    views = random_views(model, augmentations(config, x.shape[1:]), x, slice(None))
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    whole = convolved(lambda: learn(model, attack, optimiser, [views], 0.1))

    leaf = views[0][0].detach().requires_grad_()
    out = model.encode(leaf)
    weights = list(model.backbone.parameters())
    parts = {
        "forward": convolved(lambda: model.encode(leaf)),
        "weights": convolved(lambda: torch.autograd.grad(out.sum(), weights, retain_graph=True, allow_unused=True)),
        "input": convolved(lambda: torch.autograd.grad(out.sum(), leaf)),
    }
    if name.startswith("idaa"):
        parts["encode"] = convolved(lambda: attack.codec.encode(leaf.detach()))
        z = attack.codec.encode(leaf.detach()).detach().requires_grad_()
        parts["decode"] = convolved(lambda: attack.codec.decode(z, leaf.shape))
        decoded = attack.codec.decode(z, leaf.shape).sum()
        parts["back"] = convolved(lambda: torch.autograd.grad(decoded, z))
    said = sum(many * parts[part] for part, many in scale.VIEWS[view][0].items())
    assert whole == pytest.approx(said, rel=0.05)  # of the first layer the way back to the image, or not


def test_what_is_sent_by_hand():
    """Two views of a ViT on 8 GPUs, 32 images each: gradients in a ring, features twice forward and twice back."""
    weights = 85_798_656 + scale.HEADS
    count, sent = scale.messages("ViT-B/16", "none", 8, 32)
    assert count == 1 + 4
    assert sent == pytest.approx(2 * 7 / 8 * 4 * weights + (2 + 2 * 2) * 7 * 32 * 768 * 4)
    assert scale.messages("ViT-B/16", "none", 1, 256) == (0, 0.0)
    counted = scale.network("ViT-B/16")
    assert counted.parameters == 85_798_656
    assert counted.parts["forward"].flops == pytest.approx(2 * 17.5e9, rel=0.02)  # 17.5 G multiplications, as is known


def test_what_is_kept_is_what_autograd_keeps():
    """A ResNet-50: inputs of convolutions and batch norms, the ReLUs' outputs, and a stem of 112 x 112 x 64."""
    counted = scale.network("ResNet-50")
    assert len(counted.norms) == 53
    assert counted.parts["forward"].flops == pytest.approx(2 * 4.09e9, rel=0.01)
    assert scale.memory("ResNet-50", "none", 256) == pytest.approx(
        12 * (23_508_032 + scale.HEADS) + 2 * 256 * counted.kept
    )
    assert 2 * sum(counted.norms) * 49 < counted.kept < 60e6


def test_more_gpus_are_faster_and_never_by_more_than_their_number():
    for name in scale.NETWORKS:
        for view in scale.VIEWS:
            one, eight, many = (scale.run(name, view, gpus) for gpus in scale.GPUS)
            assert one.rate < eight.rate <= 8 * one.rate
            assert eight.rate < many.rate <= 8 * eight.rate
            assert many.held <= eight.held <= one.held < scale.GIGABYTES


@pytest.mark.slow
def test_what_is_measured(tmp_path, monkeypatch):
    import json

    import numpy as np
    from idaa_transforms.training.pack import pack
    from picture_files import PICTURES

    np.savez(tmp_path / "a.npz", x_train=np.stack(PICTURES[:41]), y_train=np.arange(41))
    pack(str(tmp_path / "a.npz"), tmp_path / "shards")
    monkeypatch.setattr(loading.harness, "RESULTS", tmp_path)
    monkeypatch.setattr(loading, "LOADING", tmp_path / "speed" / "loading.json")
    monkeypatch.setattr(loading, "VAES", tmp_path / "vae-scale.json")
    small = ["--latent-dim", "8", "--width", "8", "--epochs", "2", "--batch-size", "16"]
    cli.main(["train-vae", str(tmp_path / "shards"), "--out", str(tmp_path / "vae"), *small])
    monkeypatch.setattr("sys.argv", ["loading", str(tmp_path / "shards"), "--vaes", str(tmp_path / "vae")])
    loading.main()
    (vae,) = json.loads(loading.VAES.read_text())["rows"]
    assert (vae["size"], vae["pictures"], len(vae["log"])) == ("32x32", "38", 2)
    assert f"| 32x32 | {vae['parameters']} | 38 | 2 | {float(vae['log'][0]['loss']):,.0f} |" in loading.vaes()
    (row,) = json.loads(loading.LOADING.read_text())["rows"]
    assert (row["pictures"], row["pixels"]) == (38, 32 * 32)
    milliseconds = row["decode_ms_a_megapixel"] * loading.IMAGENET_PIXELS / 1e6 + 2 * row["crop_ms"]
    assert f"| a picture of ImageNet's mean size, two crops | {milliseconds:.1f} |" in loading.workers()
