"""`melt run`: carries out a suite."""

from __future__ import annotations

import shlex
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.live import Live
from rich.table import Table as RichTable

from melt.cli.console import err, out, plain, print_json, say
from melt.cli.options import AsJson, LabFile, lab_of
from melt.cli.tables import print_table
from melt.device import Moved
from melt.errors import MeltError, UsageError
from melt.files import load_suite, parse_assignment
from melt.history import after_session
from melt.lab import Plan, Progress, begin_session, carry_out_session, make_plan, resume_session
from melt.report import write_report
from melt.store import read_runs

EXAMPLE = "Example: **melt run workloads/demo.yaml local --set protocol.runs=5**"
LAST = "last"
_SHOWN = 12
_BAR = 20


def run(
    context: typer.Context,
    suite: Annotated[str, typer.Argument(help="The suite's file, such as workloads/demo.yaml.", metavar="SUITE")],
    devices: Annotated[
        list[str] | None, typer.Argument(help="Devices of the lab; this computer is 'local'.", metavar="DEVICE")
    ] = None,
    lab: LabFile = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", help="Go on with the last unfinished session, or the one named.", metavar="[SESSION]"),
    ] = None,
    results: Annotated[Path, typer.Option("--results", help="The folder for results.")] = Path("results"),
    preset: Annotated[str | None, typer.Option("--preset", help="quick, default or paper.")] = None,
    runs: Annotated[int | None, typer.Option("--runs", help="Runs of every cell.")] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE over what the files say.", metavar="KEY=VALUE")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read again what was delivered to a device before it is used.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Carry out a suite: every workload on every device, as jobs that the devices carry out by themselves.

    What was measured is kept run by run; Ctrl-C ends the run under way, and --resume goes on.
    """
    known = lab_of(lab, context, devices or (), start=not dry_run)
    plan = make_plan(*load_suite(suite), known, tuple(devices or ()), _assignments(assign, preset, runs))
    if dry_run:
        _print_plan(plan, as_json=as_json)
        return
    cancelled = threading.Event()
    if resume is None:
        session = begin_session(plan, results)
    else:
        session = resume_session(plan, results, None if resume == LAST else resume)
    try:
        with _Display() as display:
            outcome = carry_out_session(
                session, plan, known, say=display.say, on_progress=display.tell, cancelled=cancelled, verify=verify
            )
    except MeltError:
        session.discard_if_empty()
        raise
    found, unreadable = read_runs(session.path)
    for note in after_session(session.path.parent):
        say(note)
    if as_json:
        print_json(
            {
                "session": str(session.path),
                "runs": [r.record.model_dump(mode="json", by_alias=True) for r in found],
                "unreachable": outcome.unreachable,
                "refusing": outcome.refusing,
                "exit_code": outcome.exit_code,
            }
        )
    elif found and not outcome.interrupted:
        report = write_report(found, unreadable, session.path / "report", plan.suite.name)
        for table in report.tables:
            print_table(table)
        out.print(f"report: {plain(report.folder / 'report.md')}", soft_wrap=True)
        out.print(f"raw data: {plain(session.path)}", soft_wrap=True)
    if outcome.interrupted:
        say(f"interrupted; what was measured is kept; go on with: {_resuming(session.path.name)}")
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


def _resuming(session: str) -> str:
    """The command that goes on with this session: the one that was typed, and the session."""
    words = list(sys.argv[1:])
    if "--resume" in words:
        at = words.index("--resume")
        follows = at + 1 < len(words) and not words[at + 1].startswith("-") and words[at + 1][:1].isdigit()
        del words[at : at + (2 if follows else 1)]
    return shlex.join(["melt", *words, "--resume", session])


def _assignments(assign: list[str] | None, preset: str | None, runs: int | None) -> dict[str, Any]:
    values = dict(map(parse_assignment, assign or ()))
    if preset is not None:
        values["protocol.preset"] = preset
    if runs is not None:
        values["protocol.runs"] = runs
    for key in values:
        if key != "cpus" and "." not in key:
            raise UsageError(f"--set {key}=…: a key has a group, such as params.threads or protocol.runs")
    return values


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "suite": plan.suite.name,
                "cells": [cell.record.model_dump(mode="json", by_alias=True) for cell in plan.cells],
                "order": [slot.model_dump() for slot in plan.order],
            }
        )
        return
    table = RichTable(title=f"{plain(plan.suite.name)}: {len(plan.order)} runs")
    for heading in ("device", "cell", "engine", "runs", "min s", "params"):
        table.add_column(heading)
    for cell in plan.cells:
        params = [f"{k.removeprefix('params.')}={v.value}" for k, v in cell.resolved.items() if k.startswith("params.")]
        table.add_row(
            plain(cell.device),
            plain(cell.id),
            plain(cell.workload.engine),
            str(cell.setting("protocol.runs")),
            f"{cell.setting('protocol.min_s'):g}",
            plain(", ".join(params)),
        )
    out.print(table)
    for device in plan.devices:
        mine = [slot for slot in plan.order if slot.device == device]
        by_id = {cell.id: cell for cell in plan.cells if cell.device == device}
        least_s = sum(
            by_id[s.cell].setting("protocol.warmup_s") + by_id[s.cell].setting("protocol.min_s") for s in mine
        )
        shown = ", ".join(slot.cell for slot in mine[:_SHOWN]) + (" …" if len(mine) > _SHOWN else "")
        out.print(f"{plain(device)}: at least {least_s / 60:.1f} min of measuring, in this order: {plain(shown)}")


class _Display:
    """One line for each device on a terminal, replaced as the session goes on; plain sentences anywhere else."""

    def __init__(self) -> None:
        self._lines: dict[str, Progress] = {}
        self._lock = threading.Lock()
        self._live = Live(console=err, transient=True, auto_refresh=False) if err.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, sentence: str) -> None:
        say(sentence)

    def tell(self, progress: Progress) -> None:
        with self._lock:
            before = self._lines.get(progress.device)
            self._lines[progress.device] = progress
            if self._live is not None:
                self._live.update("\n".join(map(_line, self._lines.values())), refresh=True)
            elif progress.step == "done" and (before is None or before.done != progress.done):
                say(_line(progress))


def _line(progress: Progress) -> str:
    left = f"about {progress.left_s:.0f} s left" if progress.left_s else "nearly there"
    doing = "" if progress.step == "done" else f", {progress.step} {plain(progress.cell)}"
    if progress.moved is not None:
        doing += f" {_bar(progress.moved)}"
    return f"{plain(progress.device)}: {progress.done} of {progress.total} runs done{doing}, {left}"


def _bar(moved: Moved) -> str:
    """How far a delivery has come: a bar, the amount, the rate, and the time that is left at that rate."""
    filled = round(_BAR * moved.done_bytes / moved.total_bytes) if moved.total_bytes else _BAR
    bar = "━" * filled + "╌" * (_BAR - filled)
    left = f", {moved.left_s:.0f} s" if moved.left_s is not None else ", stalled"
    amount = f"{moved.done_bytes >> 20} of {moved.total_bytes >> 20} MiB"
    return f"{bar} {amount}, {moved.rate_bytes_per_s / 2**20:.1f} MiB/s{left}"
