"""A report's table on a terminal: as it fits, and always with what was measured where, how often, and the latency."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from melt.cli.console import out, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from melt.report import Column, Table

_LAST_NEEDED = " % interval]"
"""Ends the column up to which a table is shown however narrow the terminal is: device, workload, runs, main figure."""
_ROOMY, _NARROWEST, _LINES = 22, 14, 3
"""Words have room for so many characters, or fewer where that saves a needed column, and for so many lines."""
_NAMED, _WHOSE = 72, 3
"""A note tells of so many rows at most whom it is about, in so many characters each."""


def print_table(table: Table, to: Console = out, *, elsewhere: str = "in the report") -> None:
    """Prints the table as it fits: in rows, on its side, with fewer columns, or line by line; and its notes below.

    Where columns are left out, `elsewhere` says what has them. Numbers are shown whole; words are folded, and long ones
    cut in their middle: their ends tell them apart.
    """
    table = _without_controls(table)
    full = [i for i, _ in enumerate(table.columns) if any(not row.cells[i].startswith("–") for row in table.rows)]
    needed = 1 + next(i for i, column in enumerate(table.columns) if column.header.endswith(_LAST_NEEDED))
    shown, rich = _fitting(table, sorted({*full, *range(needed)}), needed, to)
    to.print(rich if rich is not None else _line_by_line(shown, to.width))
    _print_notes(shown, to)
    left_out = [column.header for column in table.columns if column not in shown.columns]
    if left_out:
        to.print(Text(f"{elsewhere}, not here: {', '.join(left_out)}", "dim"), soft_wrap=True)


def _without_controls(table: Table) -> Table:
    def clean(texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(Text.from_markup(plain(text)).plain for text in texts)

    rows = tuple(replace(row, cells=clean(row.cells), notes=clean(row.notes)) for row in table.rows)
    return replace(table, rows=rows, footnotes=clean(table.footnotes))


def _print_notes(table: Table, to: Console) -> None:
    for note in dict.fromkeys(note for row in table.rows for note in row.notes):
        about = [_cut(f"{row.cells[0]} {row.cells[1]}", _NAMED) for row in table.rows if note in row.notes]
        more = f" and {len(about) - _WHOSE} more" if len(about) > _WHOSE else ""
        whose = "" if len(about) == len(table.rows) else f"{', '.join(about[:_WHOSE])}{more}: "
        to.print(Text(whose + note, "dim"), soft_wrap=True)
    for number, text in enumerate(table.footnotes, 1):
        to.print(Text(f"{number} {text}", "dim"), soft_wrap=True)


def _fitting(table: Table, full: Sequence[int], needed: int, to: Console) -> tuple[Table, RichTable | None]:
    """What is shown of the table, and how; None where not even the needed columns fit beside each other."""
    whole = table.only(full)
    for least in (None, _ROOMY):
        for layout in (_in_rows, _on_its_side):
            rich = layout(whole, to.width, least)
            if _fits(rich, to):
                return whole, rich
    for least in (_ROOMY, _NARROWEST):
        for count in range(len(full) - 1, needed - 1, -1):
            some = table.only(full[:count])
            rich = _in_rows(some, to.width, least)
            if _fits(rich, to):
                return some, rich
    return whole, None


def _fits(rich: RichTable, to: Console) -> bool:
    return Measurement.get(to, to.options.update(max_width=10_000), rich).maximum <= to.width


def _in_rows(table: Table, width: int, least: int | None) -> RichTable:
    rich = RichTable()
    cells = [[row.cells[i] for row in table.rows] for i, _ in enumerate(table.columns)]
    heads = [f"{column.header}\n({column.unit})" if column.unit else column.header for column in table.columns]
    natural = [max(map(cell_len, (*head.split("\n"), *texts))) for head, texts in zip(heads, cells, strict=True)]
    fixed = [n if column.right else 0 for n, column in zip(natural, table.columns, strict=True)]
    widths = _shared(natural, fixed, width, least)
    for head, column in zip(heads, table.columns, strict=True):
        rich.add_column(Text(head), justify="right" if column.right else "left", no_wrap=True)
    for row in table.rows:
        rich.add_row(*(Text(_folded(text, room)) for text, room in zip(row.cells, widths, strict=True)))
    return rich


def _on_its_side(table: Table, width: int, least: int | None) -> RichTable:
    """A column for each row of the table: for a narrow terminal and a few cells."""
    rich = RichTable()
    names = [table.columns[0].header, *map(_name, table.columns[1:])]
    of_names = max(map(cell_len, names))
    numbers = [i for i, column in enumerate(table.columns) if column.right]
    natural = [of_names, *(max(map(cell_len, row.cells)) for row in table.rows)]
    fixed = [of_names, *(max(cell_len(row.cells[i]) for i in numbers) for row in table.rows)]
    widths = _shared(natural, fixed, width, least)[1:]
    rich.add_column(Text(names[0]), no_wrap=True)
    for row, room in zip(table.rows, widths, strict=True):
        rich.add_column(Text(_folded(row.cells[0], room)), justify="right", no_wrap=True)
    for i, name in enumerate(names[1:], 1):
        texts = (_folded(row.cells[i], room) for row, room in zip(table.rows, widths, strict=True))
        rich.add_row(Text(name), *map(Text, texts))
    return rich


def _line_by_line(table: Table, width: int) -> Text:
    """A line for each figure: for a terminal in which not even the needed columns stand beside each other."""
    names = [_name(column).replace(" [95 % interval]", "") for column in table.columns]
    of_names = max(map(cell_len, names))
    room = max(width - of_names - 2, 8)
    lines = []
    for row in table.rows:
        for name, text, column in zip(names, row.cells, table.columns, strict=True):
            folded = "\n".join(_lines(text, room)) if column.right else _folded(text, room)
            first, *rest = folded.split("\n")
            lines += [f"{name.ljust(of_names)}  {first}", *(" " * (of_names + 2) + line for line in rest)]
        lines.append("")
    return Text("\n".join(lines[:-1]), no_wrap=True, overflow="ignore")


def _name(column: Column) -> str:
    return f"{column.header} ({column.unit})" if column.unit else column.header


def _shared(natural: Sequence[int], fixed: Sequence[int], width: int, least: int | None) -> list[int]:
    """The width of each column: `natural`, or where `least` is given no less than `fixed` and that, the widest first.

    Their sum is more than there is room for where even the least is too much.
    """
    widths = list(natural)
    if least is None:
        return widths
    room = width - 3 * len(widths) - 1  # a rule and two blanks a column, and the last rule
    while sum(widths) > room:
        spare = [w > max(f, least) for w, f in zip(widths, fixed, strict=True)]
        if not any(spare):
            break
        widest = max(range(len(widths)), key=lambda i: widths[i] if spare[i] else 0)
        widths[widest] -= 1
    return widths


def _folded(text: str, width: int) -> str:
    """The text on lines of `width` characters, its middle left out where they are too many."""
    kept, lines = min(len(text), _LINES * width), _lines(text, width)
    while len(lines) > _LINES:
        lines = _lines(_without_middle(text, kept), width)
        kept -= 1
    return "\n".join(lines)


def _lines(text: str, width: int) -> list[str]:
    return [line.plain.rstrip() for line in Text(text).wrap(out, width, overflow="fold")]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else _without_middle(text, most)


def _without_middle(text: str, most: int) -> str:
    head = most // 2
    return f"{text[:head].rstrip()}…{text[len(text) - (most - 1 - head) :].lstrip()}"
