"""Numbers stand in one place: the tables of the pages are those that their sources give."""

import json

import pytest

from benchmarks import tables


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
