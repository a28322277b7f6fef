"""`melt analyse`: today's analysis on the raw data of stored runs."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from melt.cli.console import err, out, plain, print_json, say
from melt.cli.options import AsJson
from melt.errors import UsageError
from melt.records import METRIC_VERSION
from melt.run.again import analyse_runs
from melt.run.changes import by_metric

if TYPE_CHECKING:
    from melt.records import Metric
    from melt.run.again import Outcome
    from melt.run.changes import Change, MetricChange

EXAMPLE = "Example: **melt analyse results/old --dry-run**"
_TELL_EVERY_S = 10.0
_SHOWN = 20


def analyse(
    results: Annotated[Path, typer.Argument(help="A folder of results: a run's, a session's, a suite's, or all.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Analyse the raw data of stored runs again, with the definitions of this melt.

    No run.json is changed: what differs is put beside it, and every command then takes it; `melt show RUN` has both.
    """
    try:
        with _Display() as display:
            outcome = analyse_runs(results, keep=not dry_run, on_run=display.tell)
    except KeyboardInterrupt:
        say("stopped: what was analysed until now is kept; call again to go on")
        raise
    if not outcome.analysed and not outcome.without_raw and not outcome.failed:
        raise UsageError(f"{results} holds no runs: carry out a suite first, as in 'melt run workloads/demo.yaml'")
    if as_json:
        print_json(_data(outcome, dry_run=dry_run))
    else:
        _print(outcome, dry_run=dry_run)
    if outcome.failed:
        raise typer.Exit(1)


def _print(outcome: Outcome, *, dry_run: bool) -> None:
    if outcome.changes:
        out.print(_table(by_metric(outcome.changes)))
    verdicts = Counter(change.verdict for change in outcome.changes if change.verdict)
    for (old, new), runs in verdicts.items():
        out.print(f"verdict {old}, now {new}: {_runs(runs)}")
    files = f"{outcome.kept} analysis file{'' if outcome.kept == 1 else 's'}"
    would = "would be" if dry_run else "is" if outcome.kept == 1 else "are"
    out.print(
        f"{_runs(outcome.analysed)} analysed by metric version {METRIC_VERSION}, {len(outcome.changes)} with other "
        f"figures than before; {files} {would} put beside run.json",
        soft_wrap=True,
    )
    if outcome.without_raw:
        keep = "keeps" if outcome.without_raw == 1 else "keep"
        out.print(f"without raw data: {_runs(outcome.without_raw)}, which {keep} what the record says", soft_wrap=True)
    for broken in outcome.failed[:_SHOWN]:
        told = broken.why if str(broken.path) in broken.why else f"{broken.path} cannot be read: {broken.why}"
        say(f"not analysed: {told}")
    if len(outcome.failed) > _SHOWN:
        say(f"and {len(outcome.failed) - _SHOWN} more that could not be analysed: --json names them all")


def _table(changes: list[MetricChange]) -> RichTable:
    table = RichTable(caption="old and new are medians over the runs where the figure differs", caption_justify="left")
    for heading in ("metric", "runs", "old", "new", "largest change"):
        table.add_column(heading, justify="left" if heading == "metric" else "right", overflow="fold")
    for change in changes:
        share = "–" if change.largest is None else f"{change.largest:.3%}"
        if change.old == change.new and not change.largest and not change.found and not change.lost:
            share = "its words alone"
        table.add_row(plain(change.metric), str(change.runs), _value(change.old), _value(change.new), share)
    return table


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _data(outcome: Outcome, *, dry_run: bool) -> dict[str, Any]:
    return {
        "metric_version": METRIC_VERSION,
        "dry_run": dry_run,
        "analysed": outcome.analysed,
        "kept": outcome.kept,
        "without_raw": outcome.without_raw,
        "metrics": [vars(change) for change in by_metric(outcome.changes)],
        "runs": [_of_run(change) for change in outcome.changes],
        "failed": [{"folder": str(broken.path), "why": broken.why} for broken in outcome.failed],
    }


def _of_run(change: Change) -> dict[str, Any]:
    return {
        "folder": str(change.run.path),
        "verdict": {"old": change.run.record.verdict, "new": change.analysis.verdict},
        "reasons": {
            "old": [str(reason.code) for reason in change.run.record.reasons],
            "new": [str(reason.code) for reason in change.analysis.reasons],
        },
        "carried": list(change.analysis.carried),
        "metrics": {name: {"old": _of(old), "new": _of(new)} for name, (old, new) in change.metrics.items()},
    }


def _of(metric: Metric | None) -> dict[str, Any] | None:
    return None if metric is None else metric.model_dump(mode="json")


class _Display:
    """A bar with the time left on a terminal, and now and then a sentence anywhere else."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._began = self._told = time.monotonic()
        if err.is_terminal:
            columns = (TextColumn("analysing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=err, transient=True)
            self._task = self._bar.add_task("runs", total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def tell(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif done and now - self._told >= _TELL_EVERY_S:
            self._told = now
            left_s = (now - self._began) / done * (total - done)
            say(f"{done} of {total} runs analysed, about {left_s:.0f} s left")
