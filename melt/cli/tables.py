"""A report's table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.measure import Measurement
from rich.table import Table as RichTable

from melt.cli.console import out, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.report import Table

_FEWEST = 4
"""Columns that are shown however narrow the terminal is: device, workload, runs, latency."""


def print_table(table: Table) -> None:
    """Prints the table as it fits: in rows, turned on its side, or with fewer columns; and its notes below."""
    shown = [i for i, _ in enumerate(table.columns) if any(not row.cells[i].startswith("–") for row in table.rows)]
    rich = _in_rows(table, shown)
    if not _fits(rich):
        rich = _on_its_side(table, shown)
    while len(shown) > _FEWEST and not _fits(rich):
        shown.pop()
        rich = _in_rows(table, shown)
    out.print(rich)
    for note in dict.fromkeys(note for row in table.rows for note in row.notes):
        about = [f"{row.cells[0]} {row.cells[1]}" for row in table.rows if note in row.notes]
        whose = "" if len(about) == len(table.rows) else f"{', '.join(about)}: "
        out.print(f"[dim]{plain(whose + note)}[/]", soft_wrap=True)
    for number, text in enumerate(table.footnotes, 1):
        out.print(f"[dim]{number} {plain(text)}[/]", soft_wrap=True)
    left_out = [column.header for i, column in enumerate(table.columns) if i not in shown]
    if left_out:
        out.print(f"[dim]in the report, not here: {plain(', '.join(left_out))}[/]", soft_wrap=True)


def _fits(rich: RichTable) -> bool:
    return Measurement.get(out, out.options.update(max_width=10_000), rich).maximum <= out.width


def _in_rows(table: Table, shown: Sequence[int]) -> RichTable:
    rich = RichTable()
    for column in (table.columns[i] for i in shown):
        unit = f"\n({column.unit})" if column.unit else ""
        rich.add_column(plain(column.header) + unit, justify="right" if column.right else "left", no_wrap=True)
    for row in table.rows:
        rich.add_row(*(plain(row.cells[i]) for i in shown))
    return rich


def _on_its_side(table: Table, shown: Sequence[int]) -> RichTable:
    """A column for each row of the table: for a narrow terminal and a few cells."""
    rich = RichTable()
    rich.add_column(plain(table.columns[shown[0]].header), no_wrap=True)
    for row in table.rows:
        rich.add_column(plain(row.cells[shown[0]]), justify="right", no_wrap=True)
    for i in shown[1:]:
        column = table.columns[i]
        unit = f" ({column.unit})" if column.unit else ""
        rich.add_row(plain(column.header) + unit, *(plain(row.cells[i]) for row in table.rows))
    return rich
