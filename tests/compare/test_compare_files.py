"""A comparison as files: what programs read is complete, what people read is escaped, and a stamp is in all of it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from made_index import index, noisy, runs

from melt.compare import Asked, Comparison, compared
from melt.errors import UsageError
from melt.report.compare_files import METHOD, compare_csv, compare_data, compare_md, refusal_data, write_comparison
from melt.report.compare_table import caveats_of_figures, headed_tables, in_short, overall_lines, title

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "20261122T030000Z"
REASON = "the board | has <b>one</b> clock"
EVIL = "=HYPERLINK(1)|`x`\u202e"


def made(**asked: Any) -> Comparison:
    """Two cells: one in four metrics, one with a gap; an override, a soft difference, and a cell of one side alone."""
    figures = {"latency_p50_s": noisy(0.01), "inferences_per_s": noisy(90.0), "peak_memory_bytes": 6e7}
    a = runs({**figures, "j_per_inference": noisy(2.0)}, hard={"governor": "performance"})
    a += runs(figures, cell="vit", n=2, hard={"governor": "performance"}) + runs(figures, cell=EVIL)
    b = runs({**figures, "latency_p50_s": noisy(0.012, seed=3), "j_per_inference": None}, session=OTHER)
    b += runs(figures, cell="vit", session=OTHER, soft={"kernel": "6.6"})
    return compared({"before": index(a), "after": index(b)}, [], Asked(allowed=(("governor", REASON),), **asked))


@pytest.fixture(scope="module")
def found() -> Comparison:
    return made()


def test_the_json_is_complete_and_strict(found: Comparison) -> None:
    data = json.loads(json.dumps(compare_data(found), allow_nan=False))
    assert (data["schema"], data["comparable"], data["method"]) == (1, True, METHOD)
    assert len(data["contrasts"]) == len(found.verdicts) == 7
    by = {(one["cell"], one["metric"]): one for one in data["contrasts"]}
    slower = by["toy", "latency_p50_s"]
    assert slower["verdict"] == "slower"
    assert slower["low"] < slower["ratio"] < slower["high"]
    assert slower["n_a"] == slower["n_b"] == 5
    assert slower["detectable"] > 0
    gap = by["toy", "j_per_inference"]
    assert (gap["verdict"], gap["ratio"], gap["b"]) == (None, None, None)
    assert "no_sensor" in gap["refused"]
    few = by["vit", "latency_p50_s"]
    assert (few["verdict"], few["low"]) == ("inconclusive", None)
    assert "an interval needs 3" in few["no_interval"]
    assert sum(data["verdicts"].values()) == 7
    assert data["only_on_one_side"][0]["side"] == "before"
    (differs,) = [cell["differs"] for cell in data["cells"] if cell["cell"] == "toy"]
    assert [(one["key"], one["a"], one["b"]) for one in differs] == [("governor", "performance", None)]


def test_the_csv_has_a_line_a_cell_and_metric_with_every_caveat(found: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(compare_csv(found))))
    assert len(rows) == 7
    by = {(row["cell"], row["metric"]): row for row in rows}
    one = by["toy", "latency_p50_s"]
    verdict = next(v for v in found.verdicts if (v.cell, v.metric) == ("toy", "latency_p50_s"))
    assert verdict.found is not None
    assert float(one["ratio"]) == verdict.found.ratio
    assert one["paired"] == "false"
    assert by["toy", "j_per_inference"]["ratio"] == ""
    assert all("kernel differs: 6.1 and 6.6" in row["caveats"] for row in rows if row["cell"] == "vit")
    assert not any("kernel" in row["caveats"] for row in rows if row["cell"] == "toy")
    assert all(REASON in row["allowed_unlike"] for row in rows)


def test_the_markdown_tells_everything_and_shows_no_text_of_others_as_markup(found: Comparison) -> None:
    text = compare_md(found, ["compare.png"])
    assert "UNLIKE, allowed by hand: governor" in text
    assert "<b>" not in text
    assert "\u202e" not in text
    assert "kernel differs: 6.1 and 6.6" in text
    assert "only in before: pi5" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") == 10, line


def test_the_table_shows_interval_detectable_effect_runs_and_delta(found: Comparison) -> None:
    ((heading, table),) = headed_tables(found)
    assert heading == "pi5: after (b) against before (a)"
    row = dict(zip((column.header for column in table.columns), table.rows[0].cells, strict=True))
    assert row["verdict"] == "slower"
    assert row["b ÷ a [95 % interval]"].startswith("1.2")
    assert (row["a"], row["runs"], row["δ"]) == ("9.99 ms", "5 + 5", "3.0")
    assert float(row["detectable"]) > 0
    refused = next(row.cells for row in table.rows if row.cells[2] == "refused")
    assert refused[3].startswith("– ")
    assert any("no_sensor" in note for note in table.footnotes)


def test_the_sentences_name_base_counts_and_both_ends(found: Comparison) -> None:
    assert title(found) == "after (b) against before (a)"
    assert in_short(found).startswith("2 cells on both sides: 1 slower, ")
    assert "1 refused" in in_short(found)
    line = next(line for line in overall_lines(found) if line.startswith("latency_p50_s"))
    assert "in the geometric mean of 2 cells (1 slower, 1 inconclusive), 0.9" in line
    assert "at least 0.83" in line
    assert "(pi5 toy: slower)" in line


def test_every_file_bears_the_stamp(found: Comparison, tmp_path: Path) -> None:
    (tmp_path / "compare-9.png").write_bytes(b"of an earlier one")
    (tmp_path / "latency.png").write_bytes(b"of a report")
    files = {path.name: path for path in write_comparison(found, tmp_path)}
    assert set(files) == {"compare.md", "compare.csv", "compare.json", "compare.png", "compare.pdf"}
    assert "has &lt;b&gt;one" in files["compare.md"].read_text()
    for name in ("compare.csv", "compare.json"):
        assert "UNLIKE, allowed by hand: governor" in files[name].read_text()
    assert files["compare.png"].read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "compare-9.png").exists()
    assert (tmp_path / "latency.png").exists()


def test_the_stamp_and_what_is_simulated_are_drawn(found: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    from melt.report import compare_picture  # noqa: PLC0415 - an optional extra
    from melt.report.canvas import Page  # noqa: PLC0415

    drawn: list[str] = []
    real = Page.text

    def text(self: Page, left: float, top: float, said: str, **more: Any) -> float:
        drawn.append(said)
        return real(self, left, top, said, **more)

    monkeypatch.setattr(Page, "text", text)
    labelled = dataclasses.replace(found, labels=("SIMULATED: a device is software",))
    assert len(compare_picture.forest_pages(labelled).pages) == 1
    assert any(REASON in said for said in drawn)
    assert any("SIMULATED" in said for said in drawn)
    assert any("kernel differs" in said for said in drawn)
    assert drawn.count("toy") == 3, "each metric with a ratio has its row"


def test_a_name_that_is_too_long_loses_its_middle() -> None:
    from melt.report import compare_picture  # noqa: PLC0415 - an optional extra
    from melt.report.canvas import Page  # noqa: PLC0415

    page = Page(9.6, 1)
    name = f"board · {'x' * 60}[threads=4]"
    cut = compare_picture._cut(page, name, 2.0)
    assert page.measure(cut, 8) <= 2.0
    assert cut.startswith("board")
    assert cut.endswith("[threads=4]")
    assert compare_picture._cut(page, "board · toy", 2.0) == "board · toy"


def test_a_picture_of_many_cells_has_pages_and_says_what_it_leaves_out(
    found: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    from melt.report import compare_picture  # noqa: PLC0415 - an optional extra

    drawn: list[int] = []

    def page(_comparison: Comparison, lines: list[object], _reach: float) -> tuple[bytes, bytes]:
        drawn.append(len(lines))
        return b"", b""

    monkeypatch.setattr(compare_picture, "_page", page)
    monkeypatch.setattr(compare_picture, "ROWS_A_PAGE", 4)
    monkeypatch.setattr(compare_picture, "MOST_PAGES", 2)
    pages = compare_picture.forest_pages(found)
    assert (len(pages.pages), drawn) == (2, [4, 4])
    assert pages.notes == ("The picture ends after 2 pages, without 1 row: see compare.csv.",)


def test_without_matplotlib_there_are_the_texts_and_how_to_get_the_picture(
    found: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "melt.report.compare_picture", None)
    files = [path.name for path in write_comparison(found, tmp_path)]
    assert files == ["compare.md", "compare.csv", "compare.json"]
    assert "pip install" in (tmp_path / "compare.md").read_text()


def test_a_folder_that_is_a_runs_or_cannot_be_written_is_told(
    found: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "melt.report.compare_picture", None)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="nothing may change"):
        write_comparison(found, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="name another folder with --out"):
        write_comparison(found, tmp_path / "file" / "below" / "more")


def test_a_refusal_for_a_program_names_each_key() -> None:
    data = refusal_data("they differ", [("pi5 toy", "governor", "a", "b", "read")])
    assert data["comparable"] is False
    assert data["differences"] == [{"cell": "pi5 toy", "key": "governor", "a": "a", "b": "b", "source": "read"}]


def test_a_caveat_of_single_figures_says_which() -> None:
    level, load = noisy(0.01, 0.002), noisy(0.3, 0.002, seed=2)
    a = runs({"latency_p50_s": level, "load_s": load}, n=10)
    two_groups = {"latency_p50_s": lambda block: level(block) * (1.5 if block % 2 else 1.0), "load_s": load}
    found = compared({"before": index(a), "after": index(runs(two_groups, n=10, session=OTHER))}, [], Asked())
    (told,) = [line for line in caveats_of_figures(found) if "two groups" in line]
    assert told.startswith("toy latency_p50_s: ")
