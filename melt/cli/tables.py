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
    """Prints as many of the table's columns as fit, and below what a reader must know of a row or a figure."""
    shown = [i for i, _ in enumerate(table.columns) if any(not row.cells[i].startswith("–") for row in table.rows)]
    while len(shown) > _FEWEST and _width(_rich(table, shown)) > out.width:
        shown.pop()
    out.print(_rich(table, shown))
    for row in table.rows:
        for note in row.notes:
            out.print(f"[dim]{plain(row.cells[0])}, {plain(row.cells[1])}: {plain(note)}[/]", soft_wrap=True)
    for number, text in enumerate(table.footnotes, 1):
        out.print(f"[dim]{number} {plain(text)}[/]", soft_wrap=True)
    left_out = [column.header for i, column in enumerate(table.columns) if i not in shown]
    if left_out:
        out.print(f"[dim]in the report, not here: {plain(', '.join(left_out))}[/]", soft_wrap=True)


def _width(rich: RichTable) -> int:
    """How wide the table would like to be."""
    return Measurement.get(out, out.options.update(max_width=10_000), rich).maximum


def _rich(table: Table, shown: Sequence[int]) -> RichTable:
    rich = RichTable()
    for column in (table.columns[i] for i in shown):
        unit = f"\n({column.unit})" if column.unit else ""
        rich.add_column(plain(column.header) + unit, justify="right" if column.right else "left")
        rich.columns[-1].no_wrap = True
    for row in table.rows:
        rich.add_row(*(plain(row.cells[i]) for i in shown))
    return rich
