"""`melt report`: tables and pictures of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from melt.cli.console import out, plain, print_json
from melt.cli.options import AsJson
from melt.cli.tables import print_table
from melt.errors import UsageError
from melt.report import write_report
from melt.store import read_runs

EXAMPLE = "Example: **melt report results/demo**"


def report(
    results: Annotated[Path, typer.Argument(help="A folder of results: a suite's, a session's, or all.")],
    out_folder: Annotated[Path | None, typer.Option("--out", help="Where to write; by default RESULTS/report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the tables (CSV, Markdown, JSON) and pictures (PNG, PDF) of some results."""
    runs, unreadable = read_runs(results)
    if not runs and not unreadable:
        raise UsageError(f"{results} holds no runs: carry out a suite first, as in 'melt run workloads/demo.yaml'")
    written = write_report(runs, unreadable, out_folder or results / "report", results.resolve().name)
    if as_json:
        print_json({"folder": str(written.folder), "files": [str(f) for f in written.files]})
        return
    for table in written.tables:
        print_table(table)
    for file in written.files:
        out.print(plain(file), soft_wrap=True)
