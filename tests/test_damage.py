"""Configs and checkpoints spoiled at random: they load, or there is one clear line."""

import copy
import json
import random

import pytest
import torch
from conftest import tiny_vae
from toy_runs import RECIPE, SET, fresh

from idaa_transforms import IDAATransform
from idaa_transforms.hub.folder import CONFIG
from idaa_transforms.hub.registry import WeightsError
from idaa_transforms.training.vae import train_vae

pytestmark = pytest.mark.slow

ODD = [None, True, False, 0, -1, 1, 3, 10**30, -(10**18), 0.5, 1e308, float("nan"), float("inf"), "", "x", "0.5"]
ODD += [[], {}, [1], ["a"], [[0.5] * 3], {"class": "ConvVAE"}, [1e9] * 3, "ConvVAE"]


def places(config):
    """All keys and indices in nested JSON, as paths."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        yield (key,)
        yield from ((key, *rest) for rest in places(value))


def spoiled(config, chance):
    config = copy.deepcopy(config)
    for _ in range(chance.choice((1, 1, 2))):
        *way, last = chance.choice(list(places(config)))
        inside = config
        for key in way:
            inside = inside[key]
        if chance.random() < 0.2:
            del inside[last]
        else:
            inside[last] = copy.deepcopy(chance.choice(ODD))
    return config


def clear(said):
    """Whether nothing was said, or one line that a user can read."""
    return said is None or (10 < len(said) < 700 and "\n" not in said)


def test_configs(folder):
    """Values of the wrong type, missing and huge ones."""
    chance, whole = random.Random(0), json.loads((folder / CONFIG).read_text())
    text = json.dumps(whole)
    loaded = refused = 0
    for i in range(120):
        content = json.dumps(spoiled(whole, chance))
        if i % 8 == 0:  # not even JSON
            at = chance.randrange(len(text))
            content = text[:at] + chance.choice(("", "\0", "}", "[" * 5000)) + text[at + chance.randrange(3) :]
        (folder / CONFIG).write_text(content)
        said = None
        try:
            IDAATransform.from_pretrained(folder)
        except (WeightsError, ValueError, TypeError) as error:
            said = str(error)
        loaded, refused = loaded + (said is None), refused + (said is not None)
        assert clear(said), f"{content}: {said}"
    assert loaded > 5
    assert refused > 60


def test_checkpoints(tmp_path):
    """Truncated, with bytes changed, cut out or put in."""
    train_vae(fresh(), SET, RECIPE, tmp_path, stop_after=1)
    file, chance = tmp_path / "checkpoint.pt", random.Random(1)
    whole = file.read_bytes()
    expected = torch.load(file, weights_only=True)["vae"]
    refused = 0
    for i in range(60):
        data = bytearray(whole)
        at, length = chance.randrange(len(data)), chance.choice((1, 1, 8, 4096))
        if i % 4 == 0:
            del data[at:]
        elif i % 4 == 1:
            del data[at : at + length]
        elif i % 4 == 2:
            data[at:at] = chance.randbytes(length)
        else:
            data[at : at + length] = chance.randbytes(len(data[at : at + length]))
        file.write_bytes(data)
        vae, said = tiny_vae(seed=3), None
        try:
            train_vae(vae, SET, RECIPE, tmp_path, stop_after=1)
        except ValueError as error:
            said = str(error)
        if said is None:
            assert all(torch.equal(value, expected[key]) for key, value in vae.state_dict().items())
        else:
            assert clear(said), said
            assert "in another folder" in said or "use another folder" in said
            refused += 1
        assert file.read_bytes() == data
    assert refused > 40
