"""Today's analysis on the raw data of stored runs. `run.json` stays as it is; what is new lies in a file beside it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

import melt
from melt.analysis.analysed import analysed, one_a_code, tokens
from melt.analysis.energy import idle_power
from melt.analysis.events import Asked
from melt.analysis.verdict import verdict
from melt.engines.adapters import ADAPTERS, Printed
from melt.errors import ParseError, UsageError
from melt.job import read_trace
from melt.meters import channels as metered_channels
from melt.records import METRIC_VERSION, IdlePower, ReasonCode, gap
from melt.run.changes import Change, alike, changed
from melt.run.pins import held_clocks
from melt.store import Analysis, StoredRun, Unreadable, found_below, keep_analysis, read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pandas as pd

    from melt.analysis.analysed import Analysed
    from melt.analysis.events import RunEvents
    from melt.records import EnergyBasis, Metric, Reason, RunRecord

EVENTS, TRACE = "events.jsonl", "trace.parquet"
_SEEN_BY_THE_HOST = frozenset(
    {
        *(ReasonCode.NO_SPACE, ReasonCode.REBOOTED, ReasonCode.LINK_LOST, ReasonCode.PRECHECK, ReasonCode.LOCKED),
        ReasonCode.OUTPUT_MISMATCH,
    }
)
"""Reasons that stand in no raw data of the run: they are kept."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MODES: tuple[Literal["burst", "sustained"], ...] = ("burst", "sustained")
_PRINTED = ("stdout.log", "stderr.log", "result.txt")
"""What a program of its own words leaves in the folder."""
_MAX_PRINTED_BYTES = 64 << 20
Idles = dict[tuple["Path", str], IdlePower | None]
"""The idle power that a run of a session has measured, by today's analysis; None where there is none to be had."""


@dataclass
class Outcome:
    """What became of the runs of a folder."""

    analysed: int = 0
    kept: int = 0
    """How many analyses were written, or would be."""
    without_raw: int = 0
    """Runs that have no raw data: those that never began, and imported ones whose figures are their importer's."""
    changes: list[Change] = field(default_factory=list)
    """Of the runs whose figures or verdict differ from those shown until now."""
    failed: list[Unreadable] = field(default_factory=list)
    """Runs that could not be analysed, and why."""


def analyse_runs(path: Path, *, keep: bool = True, on_run: Callable[[int, int], None] = lambda *_: None) -> Outcome:
    """Analyses every run at or below a folder again, one at a time, and puts what differs beside its record.

    `on_run` is told how many are done, and of how many. Stopped anywhere, each analysis is there whole or not at all.
    Raises UsageError for a folder of no results, and where an analysis cannot be written.
    """
    outcome, idles = Outcome(), Idles()
    folders, closed = found_below(path)
    outcome.failed += closed
    for number, folder in enumerate(folders):
        on_run(number, len(folders))
        run = read_run(folder)
        if isinstance(run, Unreadable):
            outcome.failed += [run] if folder.exists() else []
            continue
        try:
            made = again(run, idles)
        except UsageError as error:
            outcome.failed.append(Unreadable(folder, str(error)))
            continue
        if made is None:
            outcome.without_raw += 1
            continue
        outcome.analysed += 1
        change = changed(run, made)
        if change.metrics or change.verdict:
            outcome.changes.append(change)
        if change.to_be_kept:
            outcome.kept += 1
            if keep:
                keep_analysis(run, made)
    on_run(len(folders), len(folders))
    return outcome


def again(run: StoredRun, idles: Idles) -> Analysis | None:
    """Today's analysis of a run's raw data; None for a run that has none. `idles` is kept between runs of a folder.

    Raises UsageError, naming the file, where raw data is gone or is not what it was, or where a newer melt has made
    the record, for what this one would say of it nobody would ever be shown.
    """
    record = run.original
    if record.status == "skipped" or not {EVENTS, TRACE} & {*record.files}:
        return None
    if record.metric_version > METRIC_VERSION:
        raise UsageError(
            f"{run.path / 'run.json'} is of metric version {record.metric_version}, newer than this melt's "
            f"{METRIC_VERSION}: analyse it with the newer melt"
        )
    check_digests(run)
    try:
        made = _analysed(run, idles)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, pa.ArrowException) as error:
        words = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise UsageError(f"{run.path}: its raw data cannot be analysed: {words}") from None
    metrics, carried = (made.metrics, made.carried) if record.imported is None else _of_importer(record, made)
    reasons = _reasons(run, made)
    return Analysis(
        metric_version=METRIC_VERSION,
        melt=melt.__version__,
        run_id=record.run_id,
        verdict=verdict(record.status, reasons, tokens(metrics)),
        reasons=reasons,
        metrics={
            name: metric if metric.version else metric.model_copy(update={"version": record.metric_version})
            for name, metric in metrics.items()
        },
        carried=carried,
        energy=made.energy,
    )


def check_digests(run: StoredRun) -> None:
    """Raises UsageError for a raw file of the run that is gone, is not what it was, or is not the run's at all."""
    files = run.original.files
    for name in (EVENTS, TRACE):
        if name not in files and (run.path / name).exists():
            raise UsageError(f"{run.path / name} is not among the files that run.json names: remove it")
    for name, digest in files.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"{run.path / 'run.json'}: key 'files' names {name!r}, which is no file of the run's")
        try:
            with (run.path / name).open("rb") as data:
                found = f"sha256:{hashlib.file_digest(data, 'sha256').hexdigest()}"
        except OSError as error:
            raise UsageError(f"{run.path / name} cannot be read: {error.strerror}: put it back") from None
        if found != digest:
            raise UsageError(
                f"{run.path / name} is not what it was when the run was stored (its SHA-256 differs from run.json's): "
                "put it back"
            )


def _analysed(run: StoredRun, idles: Idles) -> Analysed:
    record = run.original
    told, trace = _raw(run)
    earlier = {
        name: m if m.version else m.model_copy(update={"version": record.metric_version})
        for name, m in record.metrics.items()
    }
    asked = _asked(record, told, _basis(run, idles))
    return analysed(told, trace, record.sensors, asked, record.run_id, adopted=_adopted(run), earlier=earlier)


def _raw(run: StoredRun) -> tuple[RunEvents, pd.DataFrame]:
    trace = run.trace()
    return run.events(), trace if len(trace.columns) else read_trace(run.path / "trace.csv", ())


def _asked(record: RunRecord, told: RunEvents, energy: EnergyBasis) -> Asked:
    """What was asked of the run, of its record. Raises ValueError for a mode that there is not."""
    resolved = record.resolved.get("protocol.mode")
    wanted = _MODES[0] if resolved is None else resolved.value
    mode = next((mode for mode in _MODES if mode == wanted), None)
    if mode is None:
        raise ValueError(f"run.json, key 'resolved.protocol.mode' is {wanted!r}, and not one of {', '.join(_MODES)}")
    return Asked(mode=mode, energy=energy, pins=held_clocks(told.landmarks))


def _basis(run: StoredRun, idles: Idles) -> EnergyBasis:
    """What the run's energy stands on. An idle power that its own idle window gave is left to the analysis.

    One that another run of the session gave is that run's by today's analysis, as far as its raw data is there.
    """
    basis = run.original.energy
    if basis.idle is None or run.original.imported is not None:  # an importer may know of an idle window by other means
        return basis
    if basis.idle.run_id == run.original.run_id:
        return basis.model_copy(update={"idle": None})
    key = (run.path.parent, basis.idle.run_id)
    if key not in idles:
        idles[key] = _idle_of(*key)
    return basis.model_copy(update={"idle": idles[key] or basis.idle})


def _idle_of(session: Path, run_id: str) -> IdlePower | None:
    run = read_run(session / run_id) if _NAME.fullmatch(run_id) else None
    if not isinstance(run, StoredRun):
        return None
    try:
        check_digests(run)
        told, trace = _raw(run)
        asked = _asked(run.original, told, run.original.energy.model_copy(update={"idle": None}))
        found = idle_power(told, trace, run.original.sensors, asked, run.original.run_id)
    except (UsageError, OSError, ValueError, LookupError, TypeError, ArithmeticError, pa.ArrowException):
        return None  # it is told where that run itself is analysed
    return found if isinstance(found, IdlePower) else None


def _adopted(run: StoredRun) -> Mapping[str, Metric]:
    """What a program told in words of its own, read again by today's adapter."""
    output = run.original.resolved.get("params.output")
    is_command = run.original.fingerprint.hard.get("engine") == "command"
    adapter = ADAPTERS.get(str(output.value)) if is_command and output and run.original.imported is None else None
    if adapter is None:
        return {}
    try:
        return adapter.parse(Printed(*(_printed(run.path / name) for name in _PRINTED))).metrics
    except ParseError as error:
        return dict.fromkeys(adapter.names, gap(f"no_output: {error}"))


def _printed(file: Path) -> bytes:
    if not file.exists():
        return b""
    with file.open("rb") as data:
        return data.read(_MAX_PRINTED_BYTES)


def _reasons(run: StoredRun, made: Analysed) -> tuple[Reason, ...]:
    """Those of the raw data, and of the record those that no raw data has. An importer's own are kept."""
    record = run.original
    if record.imported is not None:
        theirs, ours = ({r.code: r for r in reasons} for reasons in (record.reasons, made.reasons))
        of_today = record.metric_version == METRIC_VERSION
        return tuple(({**theirs, **ours, **theirs} if of_today else {**theirs, **ours}).values())
    seen = [reason for reason in record.reasons if reason.code in _SEEN_BY_THE_HOST]
    last = [reason for reason in seen if reason.code is ReasonCode.OUTPUT_MISMATCH]
    first = [reason for reason in seen if reason not in last]
    return one_a_code([*first, *metered_channels(run.path).reasons, *made.reasons, *last])


def _of_importer(record: RunRecord, made: Analysed) -> tuple[Mapping[str, Metric], tuple[str, ...]]:
    """The figures of an imported run: its importer's stand before those of its raw series.

    Where the record is of this metric version, a figure that differs from that of the series is the importer's. Of an
    older record that cannot be told: there a value takes the place of a value, and a gap stays what it is, for an
    importer makes one of what its tool cannot know.
    """
    of_today = record.metric_version == METRIC_VERSION
    metrics, theirs = dict(made.metrics), set(made.carried)
    for name, new in made.metrics.items():
        old = record.metrics.get(name)
        if old is None:
            if new.value is None:
                del metrics[name]
        elif not alike(old, new) and (of_today or new.value is None or old.value is None):
            metrics[name] = old
            theirs.add(name)
    return metrics, tuple(sorted(theirs))
