"""`melt show`: one run, explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as RichTable

from melt.cli.console import out, plain, print_json
from melt.cli.options import AsJson
from melt.errors import UsageError, nearest
from melt.report import with_shares
from melt.store import StoredRun, Unreadable, read_run

EXAMPLE = "Example: **melt show results/demo/20261121T030000Z/20261121T031500Z-1a2b3c4d**"


def show(
    run: Annotated[str, typer.Argument(help="A run's folder, or its run id.", metavar="RUN")],
    results: Annotated[Path, typer.Option("--results", help="Where a run id is looked for.")] = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show one run: its verdict with the reasons, its metrics, and how it was measured."""
    stored = _find(run, results)
    record = stored.record
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
    table = RichTable()
    shown, _ = with_shares([stored])
    for heading in ("metric", "value", "n", "note"):
        table.add_column(heading)
    for name, metric in shown[0].record.metrics.items():
        value = "–" if metric.value is None else f"{metric.value:.6g}"
        count = "" if metric.n is None else str(metric.n)
        table.add_row(plain(name), value, count, plain(metric.reason or metric.note or ""))
    out.print(table)
    for key, resolved in record.resolved.items():
        out.print(f"{plain(key)} = {plain(resolved.value)}  [dim]({plain(resolved.source)})[/]", soft_wrap=True)
    out.print(f"folder: {plain(stored.path)}", soft_wrap=True)


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
