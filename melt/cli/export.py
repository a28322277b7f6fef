"""`melt export`: results in the formats of other tools."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson
from melt.errors import UsageError, nearest
from melt.history import read
from melt.places import write_whole
from melt.report.exports import BINARY, FORMATS, Format, export

EXAMPLE = "Example: **melt export results/demo --format csv-long --out demo.csv**"


def export_results(
    results: Annotated[Path, typer.Argument(help="A folder of results: a suite's, a session's, or all.")],
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")] = "csv-long",
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="NAME", help="Only this metric; may be given again.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="The file to write; by default text goes to the terminal.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export runs and metrics, with the fingerprint's keys as columns, for other programs to read."""
    chosen = _format(form)
    if file is None and (as_json or chosen in BINARY):
        why = f"{chosen} is no text" if chosen in BINARY else "--json tells of a file that is written"
        raise UsageError(f"{why}: name a file for it, as in --out results.{chosen}")
    index = read(results)
    for broken in index.unreadable:
        say(f"{broken.path} cannot be read and is left out: {broken.why}")
    for note in index.notes:
        say(note)
    made = export(index.frame, chosen, metric or ())
    if file is None:
        _print(made)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, made)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}: name another with --out") from None
    if as_json:
        print_json({"file": str(file), "format": chosen, "bytes": len(made), "unreadable": len(index.unreadable)})
    else:
        out.print(plain(file), soft_wrap=True)


def _format(name: str) -> Format:
    for form in FORMATS:
        if form == name:
            return form
    raise UsageError(f"format '{name}' is not one that melt exports: {nearest(name, FORMATS)}")


def _print(made: bytes) -> None:
    """Text as it is, without what a console would do to it."""
    try:
        sys.stdout.write(made.decode("utf-8", "replace"))
        sys.stdout.flush()
    except BrokenPipeError:
        out.on_broken_pipe()
