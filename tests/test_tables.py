"""Numbers stand in one place: the tables of the pages are those that their sources give."""

import json
import shutil

import pytest
import torch
from config import configure
from network import Model
from step import backward, make_attack

from benchmarks import bench, estimate, identity_report, tables
from examples.detection import report as detection_report
from examples.semi import report as semi_report


def test_pages_have_the_numbers_of_their_sources():
    texts = {page: (tables.ROOT / page).read_text() for page in tables.PAGES}
    assert [page for page, text in texts.items() if tables.render(text) != text] == [], "run `make tables`"


def copy_of(folder, tmp_path):
    """The results of ``folder`` where a page may be written beside them."""
    return shutil.copytree(tables.RESULTS / folder, tmp_path / folder)


PAGES = {
    "speed": bench,
    "detection": detection_report,
    "semi": semi_report,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_results_is_that_of_its_runs(name, tmp_path):
    page = "speed.md" if name == "speed" else "table.md"
    PAGES[name].write(copy_of(name, tmp_path))
    assert (tmp_path / name / page).read_text() == (tables.RESULTS / name / page).read_text(), PAGES[name].__doc__


def test_the_page_of_identity_is_that_of_its_results(tmp_path, monkeypatch):
    monkeypatch.setattr(identity_report, "plot", lambda *_: None)
    file = tmp_path / "identity.json"
    shutil.copy(tables.RESULTS / "identity.json", file)
    identity_report.report(json.loads(file.read_text())["rows"], file)
    assert file.with_suffix(".md").read_text() == (tables.RESULTS / "identity.md").read_text()


def test_estimates_count_what_networks_are_known_to_cost():
    """Multiplications and additions: of a ResNet-50 4.1 billion (He et al., 2016), of a WRN-28-2 on CIFAR .2."""
    assert estimate.forward("resnet50", 224) / 2e9 == pytest.approx(4.1, rel=0.02)
    assert estimate.forward("wrn-28-2", 32) / 2e9 == pytest.approx(0.21, rel=0.03)
    one, two = (estimate.hours(estimate.SSL, view) for view in ("none", "third"))
    assert two == pytest.approx(1.5 * one)
    assert one == pytest.approx(300 * 50_000 * 6 * 2 * 0.5554e9 / 40e12 / 3600, rel=0.01)


@pytest.mark.parametrize("view", ["none", "third", "idaa", "idaa-grad"])
def test_a_step_computes_what_is_counted(view):
    """The passes of the table, against the operations of a step of examples/ssl with the backbone of the estimate."""
    config = configure(["--backbone", "resnet18", "--view", view, "--weights", "cifar10-vae"])
    torch.manual_seed(0)
    model = Model(config, 32)
    attack = make_attack(config, model) if view.startswith("idaa") else None
    x1, x2, *more = (model.normalise(torch.rand(2, 3, 32, 32)) for _ in range(3 if view == "third" else 2))
    with estimate.Counted() as counted:
        backward(model, attack, x1, x2, more)
    assert counted.flops / 1e12 == pytest.approx(estimate.SSL.teraflop(view, 2), rel=0.02)
