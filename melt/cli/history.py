"""`melt history`: a metric over the nights, and where its level changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from melt.analysis.fingerprint import axis_keys
from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson
from melt.errors import UsageError
from melt.history import read
from melt.report.history_chart import chart, night_lines
from melt.report.history_files import history_data, write_history
from melt.report.history_table import History, histories, metrics_of

EXAMPLE = "Example: **melt history results/nightly --metric decode_tok_per_s**"
_LISTED = 4
"""Of so many series each night has its line; of more only the chart is shown."""
_MOST_NIGHTS = 30


def history(
    results: Annotated[Path, typer.Argument(help="A folder of results: a suite's, or all.")],
    metric: Annotated[
        str | None, typer.Option("--metric", help="What to show, such as decode_tok_per_s or latency_p50_s.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="Only this device.")] = None,
    cell: Annotated[str | None, typer.Option("--cell", help="Only this cell, or the cells of this workload.")] = None,
    axis: Annotated[
        str | None,
        typer.Option("--axis", help="The one key that may change from night to night, such as engine_version."),
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Also write history.png, .pdf, .csv and .json into this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a metric of each cell over the nights, with the nights in which its level changed.

    A series reaches back to the last change of what has to be the same: the model, the engine, the device and so on,
    but for what --axis names.
    """
    index = read(results, say=say)
    if metric is None:
        known = ", ".join(sorted(metrics_of(index))) or "none, as no run that counts has a value"
        raise UsageError(f"name what to show with --metric; {results} has: {known}")
    varying = axis_keys(axis) if axis else frozenset[str]()
    found = histories(index, metric, device=device, cell=cell, varying=varying)
    if not found:
        raise UsageError(f"{results} has no series of '{metric}': no run that counts has a value of it")
    title = results.resolve().name
    notes = [*index.notes, *(f"not read: {one.path.name}: {one.why}" for one in index.unreadable)]
    written = write_history(found, out_folder, title, notes) if out_folder else None
    if as_json:
        files = {"files": [str(file) for file in written.files]} if written else {}
        print_json({**history_data(found, title, [*notes, *(written.notes if written else ())]), **files})
        return
    for one in found:
        _print(one, one.heading(found), listed=len(found) <= _LISTED)
    if len(found) > _LISTED:
        _dim(f"the nights of {len(found)} series are not listed: --device and --cell choose one, --json has all")
    for note in notes:
        _dim(note)
    if written:
        for note in written.notes:
            _dim(note)
        for file in written.files:
            out.print(plain(file), soft_wrap=True)


def _print(one: History, heading: str, *, listed: bool) -> None:
    of = one.series
    words = [heading, f"{of.metric} ({of.unit})", *one.tags]
    out.print(f"[bold]{plain('  '.join(words))}[/]", soft_wrap=True)
    for line in chart(one, out.width):
        out.print(plain(line), soft_wrap=True)
    for night in one.steps:
        change = "" if night.step is None else f"{night.step.change:+.1%}"
        out.print(plain(f"a new level since night {night.name}: {change}"), soft_wrap=True)
    for line in ["", *night_lines(one, out.width, _MOST_NIGHTS)] if listed else []:
        out.print(plain(line), soft_wrap=True)
    if of.total:
        _dim(f"the energy is of {of.total}")
    for note in of.notes:
        _dim(note)
    out.print()


def _dim(sentence: str) -> None:
    out.print(Text.from_markup(plain(sentence), style="dim"), soft_wrap=True)
