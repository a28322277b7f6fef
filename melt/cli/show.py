"""`melt show`: one run, explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as RichTable

from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson
from melt.errors import UsageError, nearest
from melt.report import with_shares
from melt.run.changes import alike
from melt.store import StoredRun, Unreadable, read_run

if TYPE_CHECKING:
    from melt.records import Metric

EXAMPLE = "Example: **melt show results/demo/20261121T030000Z/20261121T031500Z-1a2b3c4d**"


def show(
    run: Annotated[str, typer.Argument(help="A run's folder, or its run id.", metavar="RUN")],
    results: Annotated[Path, typer.Option("--results", help="Where a run id is looked for.")] = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show one run: its verdict with the reasons, its metrics, and how it was measured."""
    stored = _find(run, results)
    record = stored.record
    for broken in stored.damaged:
        say(f"{broken.path} cannot be read: {broken.why}")
    if as_json:
        print_json(record.model_dump(mode="json", by_alias=True))
        return
    labels = [w for w, on in (("simulated", record.simulated), ("synthetic model", record.synthetic_model)) if on]
    out.print(f"[bold]{plain(record.cell)}[/] on [bold]{plain(record.device)}[/], block {record.block}", soft_wrap=True)
    out.print(f"{record.status}, {record.verdict}{''.join(f', {label}' for label in labels)}")
    for reason in record.reasons:
        out.print(f"  {reason.code}: {plain(reason.detail)}", soft_wrap=True)
    for caveat in record.caveats:
        out.print(f"  caveat: {plain(caveat)}", soft_wrap=True)
    if stored.as_stored is not None:
        first = f"run.json has version {stored.original.metric_version}"
        out.print(f"analysed again by metric version {record.metric_version}; {first}", soft_wrap=True)
    out.print(_metrics(stored))
    for key, resolved in record.resolved.items():
        out.print(f"{plain(key)} = {plain(resolved.value)}  [dim]({plain(resolved.source)})[/]", soft_wrap=True)
    out.print(f"folder: {plain(stored.path)}", soft_wrap=True)


def _metrics(stored: StoredRun) -> RichTable:
    """The metrics, and beside those that a later analysis has changed what they were at first."""
    shown, _ = with_shares([stored])
    first = {
        name: old
        for name, old in stored.original.metrics.items()
        if stored.as_stored is not None and not alike(old, stored.record.metrics.get(name))
    }
    table = RichTable()
    for heading in ("metric", "value", *(("as first analysed",) if first else ()), "n", "note"):
        table.add_column(heading)
    for name, metric in shown[0].record.metrics.items():
        old = (_value(first[name]) if name in first else "",) if first else ()
        count = "" if metric.n is None else str(metric.n)
        table.add_row(plain(name), _value(metric), *old, count, plain(metric.reason or metric.note or ""))
    for name in first.keys() - shown[0].record.metrics.keys():
        table.add_row(plain(name), "", _value(first[name]), "", "no longer given")
    return table


def _value(metric: Metric) -> str:
    return "–" if metric.value is None else f"{metric.value:.6g}"


def _find(run: str, results: Path) -> StoredRun:
    path = Path(run)
    if not (path / "run.json").exists():
        known = {file.parent.name: file.parent for file in results.rglob("run.json")}
        if run not in known:
            raise UsageError(f"there is no run '{run}' here or below {results}: {nearest(run, known)}")
        path = known[run]
    read = read_run(path)
    if isinstance(read, Unreadable):
        raise UsageError(f"{path / 'run.json'} cannot be read: {read.why}")
    return read
