"""A result on terminals of every width, whatever the devices and workloads are called."""

from __future__ import annotations

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from melt.cli.tables import print_table
from melt.report import Column, Row, Table

COLUMNS = (
    Column("device", right=False),
    Column("workload", right=False),
    Column("runs"),
    Column("p50 [95 % interval]", "ms"),
    Column("p90", "ms"),
    Column("rate", "1/s"),
    Column("verdict", right=False),
    Column("load", "s"),
    Column("energy / inference", "mJ"),
)
LATENCIES = ("12.31 [12.08–12.55]", "1,234 [1,200–1,269]", "0.0523 [0.0501–0.0546]")
LONG = "provider coverage differs, engine 1.31.1 and 3 more"
HOSTILE = (
    "w" * 300,
    "[bold]x[/bold] [link=http://x.example]y[/]" * 5,
    "Ω日本語の模型🙂" * 20,
    "a\x1b[31m\x07b\r\nc\t" * 10,
    "m²¹ " * 40,
    "",
)


def table_of(*names: tuple[str, str], footnotes: tuple[str, ...] = ()) -> Table:
    rows = [
        Row(
            (device, workload, f"{at}/3", LATENCIES[at % 3], "13.2 ²", "81.2 ³", "2 valid, 1 skipped", "0.182", "–¹"),
            (f"note {at}", "a note about all"),
        )
        for at, (device, workload) in enumerate(names)
    ]
    return Table(COLUMNS, tuple(rows), footnotes or ("no sensor of energy", "about p90", "about rate"))


def printed(table: Table, width: int, **words: str) -> str:
    to = Console(width=width, file=io.StringIO(), highlight=False, force_terminal=False)
    print_table(table, to, **words)
    assert isinstance(to.file, io.StringIO)
    return to.file.getvalue()


def body(text: str) -> str:
    """The table without the notes below it."""
    return text.partition("\na note about all")[0].partition("\nnote 0")[0].partition(": note 0")[0]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("name", [LONG, *HOSTILE])
def test_device_workload_runs_and_latency_are_there_at_every_width(width: int, count: int, name: str) -> None:
    names = [(f"board-{at}{name}"[:64], f"vit-{at} ({name})") for at in range(count)]
    text = printed(table_of(*names), width)
    shown = body(text)
    for at in range(count):
        assert f"board-{at}" in shown
        assert f"vit-{at}" in shown
        assert f"{at}/3" in shown
        centre, _, interval = LATENCIES[at % 3].partition(" ")
        assert centre in shown
        assert interval in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    frame = [line for line in text.splitlines() if line.startswith(("│", "┃", "┏", "└", "┡"))]
    assert all(cell_len(line) <= width for line in frame)
    assert len(frame) <= 10 * (count + 2) + 4 * len(COLUMNS), "long names push everything else out of sight"


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_rows_of_one_workload_stay_told_apart(width: int) -> None:
    names = [("raspberry-pi-5", f"mobilenetv3[{'very-long-' * 20}] (engine 1.3{at}.1)") for at in range(6)]
    shown = re.sub(r"[│\s]", "", body(printed(table_of(*names), width)))
    assert all(f"1.3{at}.1)" in shown for at in range(6))
    assert "…" in shown


def test_a_wide_terminal_shows_names_whole() -> None:
    shown = body(printed(table_of(("local", f"mobilenetv3 ({LONG})"), ("pi5", "vit-tiny")), 200))
    assert f"mobilenetv3 ({LONG})" in shown
    assert "…" not in shown


def test_only_footnotes_of_shown_cells_are_printed_numbered_from_one() -> None:
    text = printed(table_of(("local", "mobilenetv3")), 80)
    assert "no sensor of energy" not in text
    assert "13.2 ¹" in text
    assert "\n1 about p90\n2 about rate\n" in text
    assert "in the report, not here: energy / inference" in text
    elsewhere = printed(table_of(("local", "mobilenetv3")), 80, elsewhere="with --json")
    assert "with --json, not here: energy / inference" in elsewhere


def test_a_superscript_in_a_name_is_no_mark() -> None:
    text = printed(table_of(("cm²", "model¹")), 200)
    assert "cm²" in text
    assert "model¹" in text
    assert "no sensor of energy" not in text


def test_a_note_about_some_rows_names_only_a_few() -> None:
    table = table_of(*((f"board-{at}", "mlp") for at in range(8)))
    rows = tuple(Row(row.cells, ("about seven",) if at else ()) for at, row in enumerate(table.rows))
    text = printed(Table(table.columns, rows, table.footnotes), 120)
    assert "board-1 mlp, board-2 mlp, board-3 mlp and 4 more: about seven" in text


def test_a_result_without_a_figure_still_has_its_needed_columns() -> None:
    table = table_of(("local", "mobilenetv3"))
    cells = ("local", "mobilenetv3", "0/3", "–¹", "–¹", "–¹", "3 skipped", "–¹", "–¹")
    text = printed(Table(COLUMNS, (Row(cells),), ("no run of this cell counts",)), 80)
    assert "p50" in text
    assert "–¹" in text
    assert "1 no run of this cell counts" in text
    assert len(table.columns) == len(cells)
