"""A report's table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table as RichTable

from melt.cli.console import out, plain

if TYPE_CHECKING:
    from melt.report import Table


def print_table(table: Table) -> None:
    """Prints the table with its notes."""
    rich = RichTable(title=plain(table.title) if getattr(table, "title", "") else None)
    for column in table.columns:
        rich.add_column(plain(column))
    for row in table.rows:
        rich.add_row(*map(plain, row))
    out.print(rich)
