"""Numbers stand in one place: the tables of the pages are those that their sources give."""

import json
import shutil

import pytest
import report
import sensitivity_report

from benchmarks import bench_report, estimate, identity_report, tables
from examples.detection import report as detection_report
from examples.semi import report as semi_report
from examples.transfer import report as transfer_report


@pytest.mark.parametrize("page", tables.PAGES)
def test_a_page_has_the_numbers_of_its_sources(page):
    text = (tables.ROOT / page).read_text()
    assert tables.render(text) == text, "run `make tables`"


def test_every_table_stands_somewhere():
    used = {name for page in tables.PAGES for _, name, *_ in tables.BLOCK.findall((tables.ROOT / page).read_text())}
    assert used == set(tables.TABLES)


def test_a_number_that_was_changed_by_hand_is_found():
    text = (tables.ROOT / "docs/weights.md").read_text()
    measured = tables.read(tables.ROOT / "docs/weights.md")[0]["squared error"]
    assert tables.render(text.replace(measured, "0.0001")) == text


def test_a_table_is_read_by_its_heading(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n# B\n\ntext\n\n| a | b |\n| --- | --- |\n| 3 | 4 |\n"
    )
    assert tables.read(page) == [{"a": "1", "b": "2"}]
    assert tables.read(page, "# B") == [{"a": "3", "b": "4"}]


def test_a_result_says_where_it_comes_from(tmp_path):
    run = {"command": "x", "commit": "abc", "machine": "m", "date": "d"}
    (tmp_path / "r.json").write_text(json.dumps({"run": run}))
    assert tables.run_of(tmp_path / "r.json") == "`x`, commit abc, m, d."


def copy_of(folder, tmp_path):
    """The results of ``folder`` where a page may be written beside them."""
    return shutil.copytree(tables.RESULTS / folder, tmp_path / folder)


def test_the_page_of_speed_is_that_of_its_results(tmp_path):
    page = bench_report.write(copy_of("speed", tmp_path))
    assert page.read_text() == tables.SPEED.read_text(), (
        "run python -m benchmarks.bench_report benchmarks/results/speed"
    )


def test_the_page_of_identity_is_that_of_its_results(tmp_path):
    file = tmp_path / "identity.json"
    shutil.copy(tables.RESULTS / "identity.json", file)
    identity_report.report(json.loads(file.read_text())["rows"], file)
    assert file.with_suffix(".md").read_text() == (tables.RESULTS / "identity.md").read_text()


def test_the_page_of_experiments_is_that_of_its_results(tmp_path):
    folder = copy_of("ssl", tmp_path)
    report.write(folder)
    written = (folder / "table.md").read_text()
    assert written == (tables.RESULTS / "ssl" / "table.md").read_text(), (
        "run python examples/ssl/report.py benchmarks/results/ssl"
    )


def test_the_page_of_figures_5_and_6_is_that_of_its_results(tmp_path):
    folder = copy_of("sensitivity", tmp_path)
    sensitivity_report.write(folder)
    written = (folder / "table.md").read_text()
    assert written == (tables.RESULTS / "sensitivity" / "table.md").read_text(), (
        "run python examples/ssl/sensitivity_report.py benchmarks/results/sensitivity"
    )


@pytest.mark.parametrize(
    "module", [detection_report, semi_report, transfer_report], ids=lambda m: m.__name__.split(".")[1]
)
def test_the_pages_of_examples_are_those_of_their_results(module, tmp_path):
    name = module.__name__.split(".")[1]
    folder = copy_of(name, tmp_path)
    module.write(folder)
    written = (folder / "table.md").read_text()
    assert written == (tables.RESULTS / name / "table.md").read_text(), (
        f"run python -m {module.__name__} benchmarks/results/{name}"
    )


def test_estimates_count_what_networks_are_known_to_cost():
    """Multiplications and additions: of a ResNet-50 4.1 billion (He et al., 2016), of a WRN-28-2 on CIFAR .2."""
    assert estimate.forward("resnet50", 224) / 2e9 == pytest.approx(4.1, rel=0.02)
    assert estimate.forward("wrn-28-2", 32) / 2e9 == pytest.approx(0.21, rel=0.03)
    one, two = (estimate.hours(estimate.SSL, view) for view in ("none", "third"))
    assert two == pytest.approx(1.5 * one)
    assert one == pytest.approx(300 * 50_000 * 6 * 2 * 0.5554e9 / 40e12 / 3600, rel=0.01)
