"""The Python that makes the same view, to copy."""

from __future__ import annotations

from .models import Models
from .pictures import Sample, Upload
from .view import Setup


def code_of(picture: Sample | Upload, setup: Setup, models: Models) -> str:
    """A script that runs as it stands, in the folder of the picture. It prints the losses, and what the judge says.

    ``found`` in the end is an :class:`~idaa_transforms.Explanation`, ``found.views`` the view.
    """
    imports, line = picture.code(setup.size)
    saved = models.weights(setup.weights)[1]
    said = "".join(f", {name}={value!r}" for name, value in setup.options(saved).items())
    guard = "" if setup.guard is None else f", guard=Guard(judge, {setup.guard!r})"
    names = "IDAATransform, objectives" if setup.guard is None else "Guard, IDAATransform, objectives"
    judge = "judge = network" if setup.judge == setup.network else _load("judge", setup.judge, models)
    network = _load("network", setup.network, models)
    head = [
        *(["import torch"] if "manual_seed" in network + judge else []),
        f"from idaa_transforms import {names}",
        "from idaa_transforms.measure import load_model",
        *imports,
    ]
    body = [
        line,
        network,
        judge,
        f"aug = IDAATransform.from_pretrained({setup.weights!r}{said}{guard})",
        "",
        "labels = network(x).argmax(1)  # what it sees in x",
        "found = aug.explain(x, loss_fn=objectives.supervised(network, labels))",
        'print(f"loss {found.loss_before.item():.4f}, of the view {found.loss_after.item():.4f}")',
        'for name, image in (("x", x), ("view", found.views)):',
        "    share, classes = judge(image)[0].softmax(0).sort(descending=True)",
        "    print(name, classes[:3].tolist(), share[:3].tolist())",
    ]
    return "\n".join([*head, "", *body, ""])


def _load(role: str, name: str, models: Models) -> str:
    if models.is_trained(name):
        return f"{role} = load_model({name!r}, logits=True)"
    seed = "torch.manual_seed(0)  # no pretrained weights are here: random ones\n"
    return f"{seed}{role} = load_model({name!r}, logits=True, pretrained=False)"
