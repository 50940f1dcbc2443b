"""bfloat16 is used where the machine has it, and said to be missing where not."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
from conftest import tiny_vae

from idaa_transforms import IDAATransform
from idaa_transforms._util import precision
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.card import publish
from idaa_transforms.training.images import Images
from idaa_transforms.training.vae import Recipe

CPU = torch.device("cpu")


@pytest.fixture
def without(monkeypatch):
    """A CPU without the instructions. That oneDNN's answer follows its mask is tested in a process of its own."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    monkeypatch.setattr("idaa_transforms.transforms.has_bfloat16", lambda device: False)


@pytest.mark.slow
def test_a_masked_processor_has_none():
    program = "from idaa_transforms._util.precision import has_bfloat16, use_bfloat16 as use\n"
    program += "print(has_bfloat16('cpu'), use(None, 'cpu'), use(False, 'cpu'), use(True, 'cpu'))"
    masked = os.environ | {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", program], env=masked, check=True, capture_output=True, text=True)
    assert done.stdout == "False False False False\n"
    assert done.stderr == "cpu would emulate bfloat16, many times slower: this runs in float32\n"


@pytest.mark.parametrize("present", [True, False])
def test_a_card_says_what_was_used(present, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: present)
    images = (cifar10_sample()[0][:4] * 255).byte()
    vae = tiny_vae(32)
    for asked, used in ((True, present), (None, present), (False, False)):
        recipe = Recipe(epochs=1, bf16=asked).on(CPU)
        assert recipe.bf16 is used
        publish(vae, Images(images, images, "toy"), recipe, tmp_path, name="toy", about="")
        assert ("bfloat16 autocast" if used else "float32") in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("kind", [IDAATransform, RandomIDAA])
def test_a_transform_in_emulated_bfloat16_warns_once_with_the_factor(kind, without):
    aug = kind(tiny_vae())
    with pytest.warns(UserWarning, match="the CPU emulates bfloat16: views took 46 times as long") as caught:
        aug.bfloat16()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aug.to("cpu").bfloat16()
        aug.float()
    with pytest.warns(UserWarning, match="46 times"):
        aug.to(torch.bfloat16)
