"""Imported runs into the store: a session for each sitting, a folder for each run, the original files in it."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import pandas as pd

import melt
from melt.analysis.analysed import Analysed, analysed, of_today, one_a_code
from melt.analysis.events import realtime_step_s, suspend_s
from melt.analysis.verdict import verdict
from melt.errors import UsageError
from melt.importers.staging import staged
from melt.job import read_events
from melt.job.trace import COLUMNS
from melt.records import Clock, EnergyBasis, Harness, RunRecord, Undo
from melt.store import CellRecord, SessionRecord, Slot, new_run_id, utc_stamp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from melt.importers.base import ImportedRun
    from melt.importers.planning import Placed, Plan, Sitting
    from melt.store import Session, StoredRun

NO_PROFILE = "imported"
NO_TIME = "not told"
_OWN_FILES = ("run.json", "events.jsonl", "trace.parquet")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_MOST_SENTENCES = 200


def publish(plan: Plan, results: Path, problems: Sequence[str] = ()) -> list[StoredRun]:
    """Writes what was planned, all of it or nothing; `problems` stand in each session.json.

    Raises UsageError when the results cannot be written, when an original file is gone or another than it was when the
    import was planned, and when another import is under way or has been there since.
    """
    kept: dict[Path, Path] = {}
    with staged(results / plan.suite.name, plan.seen) as stage:
        for sitting in plan.sittings:
            session = stage.session(_session_record(plan, sitting, problems))
            for at, placed in enumerate(sitting.runs):
                stored = _publish_one(session, placed, at, kept)
                lies = stage.hide(session, stored)
                kept |= {original: lies / _kept_name(name) for name, original in placed.run.raw.items()}
    return stage.runs()


def _session_record(plan: Plan, sitting: Sitting, problems: Sequence[str]) -> SessionRecord:
    cells = {(placed.device, placed.cell): placed for placed in sitting.runs}
    said = {
        "imported": {placed.run.note.source: placed.digest for placed in sitting.runs},
        "problems": list(problems[:_MOST_SENTENCES]),
    }
    return SessionRecord(
        session=utc_stamp(sitting.began),
        suite=plan.suite,
        melt=melt.__version__,
        cells=tuple(
            CellRecord(id=cell, workload=placed.run.workload, device=device, resolved=placed.run.resolved)
            for (device, cell), placed in cells.items()
        ),
        order=tuple(Slot(device=one.device, block=one.block, cell=one.cell) for one in sitting.runs),
        sources={"import.json": json.dumps(said, indent=1)},
    )


def _publish_one(session: Session, placed: Placed, at: int, kept: Mapping[Path, Path]) -> StoredRun:
    """`kept` is where each original file lies already: the runs of one file share its bytes on the disk."""
    run = placed.run
    moment = placed.began or dt.datetime.now(dt.UTC)
    # an id orders the runs of a session by their milliseconds, and one file has but one time for all of its runs
    run_id = new_run_id(moment.replace(microsecond=min(at, 999) * 1000))
    with session.writing(run_id) as folder:
        for name, original in run.raw.items():
            _keep(original, folder / _kept_name(name), kept)
        found, clock = _analysed(run, folder, run_id)
        return session.publish(folder, _record(session, placed, run_id, found, clock))


def _kept_name(name: str) -> str:
    """A plain name, and none that melt itself writes."""
    plain = _NOT_PLAIN.sub("_", name)[:100]
    own = not plain[:1].isalnum() or plain in _OWN_FILES or plain.startswith("analysis-")
    return f"original-{plain}" if own else plain


def _writable(text: str) -> str:
    """A path as text: a file's name may hold bytes that are none."""
    return text.encode("utf-8", "replace").decode()


def _keep(original: Path, target: Path, kept: Mapping[Path, Path]) -> None:
    try:
        if original in kept:
            try:
                os.link(kept[original], target)
            except OSError:  # a file system without hard links
                shutil.copyfile(kept[original], target)
        else:
            shutil.copyfile(original, target)
    except OSError as error:
        raise UsageError(f"{original} cannot be kept in {target.parent.parent}: {error.strerror}") from None


def _analysed(run: ImportedRun, folder: Path, run_id: str) -> tuple[Analysed, Clock]:
    """The importer's figures, and what melt's own analysis makes of the raw data where it brought any."""
    if run.series is None:
        return Analysed(of_today(run.metrics), (), EnergyBasis()), Clock()
    series, events = run.series, folder / "events.jsonl"
    events.write_bytes(series.events)
    trace = series.trace if series.trace is not None else pd.DataFrame(columns=list(COLUMNS))
    trace.to_parquet(folder / "trace.parquet", index=False)
    told = read_events(events)
    clock = Clock(suspend_s=suspend_s(told.landmarks), realtime_step_s=realtime_step_s(told.landmarks))
    return analysed(told, trace, series.sensors, series.asked, run_id, adopted=run.metrics), clock


def _record(session: Session, placed: Placed, run_id: str, found: Analysed, clock: Clock) -> RunRecord:
    run = placed.run
    reasons = one_a_code((*found.reasons, *run.reasons))
    return RunRecord(
        melt=melt.__version__,
        run_id=run_id,
        session=session.record.session,
        suite=session.record.suite,
        workload=run.workload,
        cell=placed.cell,
        block=placed.block,
        device=placed.device,
        profile=run.profile or NO_PROFILE,
        profile_verified=False,
        simulated=run.simulated,
        synthetic_model=run.synthetic_model,
        started_utc=run.started_utc if placed.began and run.started_utc else NO_TIME,
        resolved=run.resolved,
        fingerprint=run.fingerprint,
        facts=run.facts,
        boot_id=run.boot_id,
        clock=clock,
        status=run.status,
        verdict=verdict(run.status, reasons),
        reasons=reasons,
        caveats=(*run.caveats, f"imported from {run.note.tool}: melt did not see the device while it ran"),
        metrics=found.metrics,
        engine=run.engine,
        sensors=run.series.sensors if run.series else {},
        energy=run.energy or found.energy,
        imported=run.note.model_copy(update={"source": _writable(run.note.source)}),
        harness=Harness(),
        undo=Undo(complete=True),
        files={},
    )
