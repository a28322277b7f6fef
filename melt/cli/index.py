"""`melt index`: the table of all runs, made anew."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson
from melt.errors import UsageError
from melt.history import INDEX, rebuild, suites

EXAMPLE = "Example: **melt index results**"


def index(
    results: Annotated[Path, typer.Argument(help="A folder of results, or a suite's.")] = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Make index.parquet of each suite anew from its run folders: a row for each run and metric.

    Every command that needs it brings it up to date by itself; this one trusts nothing of what it holds.
    """
    found = [_made(suite) for suite in suites(results)]
    if as_json:
        print_json({"suites": found})
    for one in [] if as_json else found:
        out.print(
            f"{plain(one['index'])}: {one['runs']} runs in {one['rows']} rows, {one['runs_per_s']:.0f} runs/s",
            soft_wrap=True,
        )
    for one in found:
        for broken in one["unreadable"]:
            say(f"{broken['path']} cannot be read: {broken['why']}")
        for note in one["notes"]:
            say(note)
    unwritten = [one["index"] for one in found if not one["written"]]
    if unwritten:
        raise UsageError(f"{', '.join(unwritten)} could not be written: see above, mend that and call again")


def _made(suite: Path) -> dict[str, Any]:
    begun = time.monotonic()
    made = rebuild(suite, say=say)
    took_s = time.monotonic() - begun
    runs = made.frame["folder"].nunique()
    return {
        "index": str(suite / INDEX),
        "runs": runs,
        "rows": len(made.frame),
        "runs_per_s": runs / max(took_s, 1e-6),
        "written": made.kept,
        "unreadable": [{"path": str(one.path), "why": one.why} for one in made.unreadable],
        "notes": list(made.notes),
    }
