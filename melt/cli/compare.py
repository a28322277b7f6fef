"""`melt compare`: two sets of runs along one axis, or why they may not be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as RichTable
from rich.text import Text

from melt.cli.console import err, out, plain, print_json
from melt.cli.options import AsJson
from melt.cli.tables import print_table
from melt.compare import Asked, compare_folders
from melt.errors import NotComparable, UsageError
from melt.report.compare_files import compare_data, refusal_data, write_comparison
from melt.report.compare_table import caveats_of_figures, delta_lines, headed_tables, in_short, overall_lines, title
from melt.report.numbers import significant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.compare import Comparison
    from melt.report.table import Table

EXAMPLE = "Example: **melt compare results/before results/after**"
_MOST_LINES = 24
_MOST_ROWS = 60
_WIDE = 110
"""Columns of a terminal that has room for the whole table."""
_VERDICT, _NO_DIFFERENCE = 2, ("equivalent", "inconclusive")
_LONGEST = 200
"""Of a reason: a picture has room for so much."""


def compare(
    a: Annotated[Path, typer.Argument(help="A folder of results: the base, or where the axis varies.")],
    b: Annotated[Path | None, typer.Argument(help="The folder to hold against it.")] = None,
    axis: Annotated[
        str, typer.Option("--axis", help="The one thing that varies: threads, engine, device …")
    ] = "session",
    base: Annotated[
        str | None, typer.Option("--base", help="Of one folder: the value that others are held against.")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="A metric to compare; 'all' for every one. May be repeated.")
    ] = None,
    allow_unlike: Annotated[
        list[str] | None,
        typer.Option("--allow-unlike", help="KEY=reason: let a key differ; everything made from it says so."),
    ] = None,
    delta: Annotated[
        float | None,
        typer.Option("--delta", help="What is no difference, as a share; by default from the history, 0.03 at least."),
    ] = None,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Write tables and pictures to this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two results along one declared axis: a verdict for each cell, with its interval."""
    asked = Asked(axis, base, tuple(metric or ()), _allowed(allow_unlike or ()), _delta(delta))
    try:
        found = compare_folders(a, b, asked)
    except NotComparable as error:
        if as_json:
            print_json(refusal_data(str(error), error.rows))
        else:
            _print_differences(error)
        raise
    files = write_comparison(found, out_folder) if out_folder is not None else ()
    if as_json:
        print_json({**compare_data(found), "files": [str(file) for file in files]})
        return
    _print(found)
    for file in files:
        out.print(plain(file), soft_wrap=True)


def _allowed(said: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for text in said:
        key, _, reason = (part.strip() for part in text.partition("="))
        if not key or not reason:
            raise UsageError(f"--allow-unlike {text}: say why as well: --allow-unlike KEY=reason")
        if len(reason) > _LONGEST:
            raise UsageError(f"--allow-unlike {key}: the reason has more than {_LONGEST} characters: say it in fewer")
        if key in (one for one, _ in pairs):
            raise UsageError(f"--allow-unlike {key}: it is there twice: leave one out")
        pairs.append((key, reason))
    return tuple(pairs)


def _delta(delta: float | None) -> float | None:
    if delta is not None and not 0 < delta < 1:
        raise UsageError(f"--delta {delta:g}: a share between 0 and 1, such as 0.03")
    return delta


def _print(found: Comparison) -> None:
    out.print(Text(_clean(title(found)), "bold"), soft_wrap=True)
    for stamp in found.stamps:
        out.print(Text(_clean(stamp), "bold red"), soft_wrap=True)
    for heading, table in headed_tables(found):
        out.print(plain(heading), soft_wrap=True)
        print_table(_most_telling(table), elsewhere="with --out or --json")
        if len(table.rows) > _MOST_ROWS:
            out.print(f"and {len(table.rows) - _MOST_ROWS} more rows: --out FOLDER or --json has all", soft_wrap=True)
    out.print(plain(in_short(found)), soft_wrap=True)
    if out.width < _WIDE:
        _print_some(_undecided(found))
    _print_some(overall_lines(found), "")
    alone = [f"only in {one.side}: {one.device} {one.cell} ({one.runs} runs): {one.why}" for one in found.unmatched]
    _print_some(alone)
    _print_some([f"caveat: {text}" for text in (*found.caveats, *caveats_of_figures(found))])
    _print_some([f"note: {text}" for text in (*delta_lines(found), *found.notes)])


def _most_telling(table: Table) -> Table:
    """A table that a terminal can show: of a long one the rows that name a difference go first."""
    if len(table.rows) <= _MOST_ROWS:
        return table
    kept = sorted(range(len(table.rows)), key=lambda at: table.rows[at].cells[_VERDICT] in _NO_DIFFERENCE)[:_MOST_ROWS]
    return replace(table, rows=tuple(table.rows[at] for at in sorted(kept)))


def _undecided(found: Comparison) -> list[str]:
    """What could have been detected where nothing was: a narrow terminal has no room for it in the table."""
    return [
        f"{one.device} {one.cell} {one.metric}: detectable is {significant(100 * one.found.detectable, 2)} %"
        for one in found.verdicts
        if one.word == "inconclusive" and one.found is not None and one.found.detectable is not None
    ]


def _print_some(lines: Sequence[str], style: str = "dim") -> None:
    for line in lines[:_MOST_LINES]:
        out.print(Text(_clean(line), style), soft_wrap=True)
    if len(lines) > _MOST_LINES:
        out.print(Text(f"and {len(lines) - _MOST_LINES} more of these: --out FOLDER writes all", "dim"), soft_wrap=True)


def _clean(text: str) -> str:
    """The text without control characters; Text takes no markup."""
    return Text.from_markup(plain(text)).plain


def _print_differences(error: NotComparable) -> None:
    if not error.rows:
        return
    table = RichTable()
    for name in ("cell", "key", "a", "b", "how it is obtained"):
        table.add_column(name, overflow="fold")
    for row in error.rows:
        table.add_row(*(Text(_clean(text)) for text in row))
    err.print(table)
