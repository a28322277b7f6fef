"""The results folder, which is the truth: sessions, run folders written whole or not at all, and what is still open.

results/<suite>/<session>/session.json      what was to be done
results/<suite>/<session>/pending/<run id>  a job that was started and not yet collected
results/<suite>/<session>/<run id>/         one run: run.json and its raw data
results/<suite>/<session>/<run id>/analysis-<metric version>.json   what a later analysis of that raw data gives
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
from pydantic import Field, ValidationError

from melt.errors import UsageError, nearest
from melt.job import read_events
from melt.places import write_whole
from melt.records import (
    METRIC_VERSION,
    SCHEMA,
    EnergyBasis,
    Metric,
    Reason,
    Resolved,
    RunRecord,
    Strict,
    SuiteRef,
    Verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

    from melt.analysis.events import RunEvents

_PENDING = "pending"
_TEMPORARY = ".part-"
_ANALYSIS = re.compile(r"analysis-([1-9][0-9]{0,5})\.json")


class CellRecord(Strict):
    """A cell of the session: a workload with its parameters on one device, as resolved when the session began."""

    id: str
    workload: str
    device: str
    resolved: Mapping[str, Resolved]


class Slot(Strict):
    """One planned run: a cell in a block of its device's order."""

    device: str
    block: int
    cell: str


class SessionRecord(Strict):
    """`session.json`: what was to be done, with the text of every file it came from."""

    schema_: int = Field(SCHEMA, alias="schema")
    session: str
    suite: SuiteRef
    melt: str
    cells: tuple[CellRecord, ...]
    order: tuple[Slot, ...]
    sources: Mapping[str, str]
    """The suite's and the workloads' files as they were, by name."""
    canary: tuple[str, ...] = ()
    """The workloads that the suite names as frozen."""


class Pending(Strict):
    """A job that was given to a device: what is needed to adopt it after this computer died."""

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    slot: Slot
    started_utc: str
    address: str
    root: str
    """The device as it was reached, and melt's folder on it: the job is there and nowhere else."""
    idle_s: float
    host: Mapping[str, float]
    """Wall seconds of the steps before the start."""
    caveats: tuple[str, ...] = ()


class Analysis(Strict):
    """`analysis-<metric version>.json`: a later analysis of a run's raw data, beside run.json, which stays as it is."""

    schema_: int = Field(SCHEMA, alias="schema")
    metric_version: int = Field(ge=1)
    melt: str
    """The version of melt that made it."""
    run_id: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    metrics: Mapping[str, Metric]
    carried: tuple[str, ...] = ()
    """Metrics that raw data cannot give again: they are the record's, and keep the version that they had."""
    energy: EnergyBasis = EnergyBasis()
    """What the energy stands on, its idle power being of this analysis too."""

    def applied_to(self, record: RunRecord) -> RunRecord:
        """The record with what this analysis says in place of what it said."""
        fingerprint = record.fingerprint.model_copy(
            update={"hard": {**record.fingerprint.hard, "metric_version": self.metric_version}}
        )
        changes = {name: getattr(self, name) for name in ("metric_version", "verdict", "reasons", "metrics", "energy")}
        return record.model_copy(update={**changes, "fingerprint": fingerprint})


@dataclass(frozen=True)
class Unreadable:
    """A run folder, or an analysis in one, that could not be read, and why."""

    path: Path
    why: str


@dataclass(frozen=True)
class StoredRun:
    """A run folder that was read: the record, and its raw data on demand."""

    path: Path
    record: RunRecord
    """With the newest analysis applied that lies beside it and is not newer than this melt."""
    as_stored: RunRecord | None = None
    """What run.json says, where an analysis was applied."""
    damaged: tuple[Unreadable, ...] = ()
    """Analyses beside it that cannot be read, and so are not applied."""

    @property
    def original(self) -> RunRecord:
        """The record as run.json has it."""
        return self.as_stored or self.record

    def events(self) -> RunEvents:
        """What the run's events say; none for a run that never started."""
        return read_events(self.path / "events.jsonl")

    def trace(self) -> pd.DataFrame:
        """One row a channel and sample; empty for a run that never started. Columns: `melt.job.trace.COLUMNS`."""
        path = self.path / "trace.parquet"
        return pd.read_parquet(path) if path.exists() else pd.DataFrame()


@dataclass(frozen=True)
class Session:
    """A session's folder."""

    path: Path
    record: SessionRecord

    @cached_property
    def cells(self) -> Mapping[str, CellRecord]:
        return {f"{cell.device}/{cell.id}": cell for cell in self.record.cells}

    def cell(self, slot: Slot) -> CellRecord:
        return self.cells[f"{slot.device}/{slot.cell}"]

    def runs(self) -> list[StoredRun]:
        """Every readable run of the session, oldest first."""
        return [run for run in map(read_run, _run_folders(self.path)) if isinstance(run, StoredRun)]

    def todo(self) -> list[Slot]:
        """The planned runs that have no record yet, in order; one that was skipped has not been run."""
        done = {
            (run.record.device, run.record.block, run.record.cell)
            for run in self.runs()
            if run.record.status != "skipped"
        }
        return [slot for slot in self.record.order if (slot.device, slot.block, slot.cell) not in done]

    def pending(self) -> list[Pending]:
        """Jobs that were given to a device and not yet collected, oldest first."""
        return [note for note in self._notes() if isinstance(note, Pending)]

    def damaged(self) -> list[Unreadable]:
        """Run folders and notes of jobs that cannot be read."""
        runs = list(map(read_run, _run_folders(self.path)))
        analyses = [broken for run in runs if isinstance(run, StoredRun) for broken in run.damaged]
        return [broken for broken in (*runs, *analyses, *self._notes()) if isinstance(broken, Unreadable)]

    def _notes(self) -> list[Pending | Unreadable]:
        return [_read_note(path) for path in sorted((self.path / _PENDING).glob("*.json"))]

    def discard_if_empty(self) -> None:
        """Removes the session when nothing was begun in it: a wrong parameter should leave no trace."""
        if not self.pending() and not self.damaged() and not _run_folders(self.path):
            shutil.rmtree(self.path, ignore_errors=True)

    def intend(self, pending: Pending) -> None:
        """Notes, on disk, that a job is about to be given to a device."""
        folder = self.path / _PENDING
        with _kept_in(folder):
            folder.mkdir(exist_ok=True)
            write_text(folder / f"{pending.run_id}.json", pending.model_dump_json(indent=1))

    def settle(self, run_id: str) -> None:
        """Forgets the note: the run is stored, or the job will not be."""
        (self.path / _PENDING / f"{run_id}.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, run_id: str) -> Iterator[Path]:
        """A folder to fill; `publish` makes it the run's. It is gone afterwards unless that was called."""
        folder = self.path / f"{_TEMPORARY}{run_id}"
        shutil.rmtree(folder, ignore_errors=True)
        with _kept_in(folder):
            folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, folder: Path, record: RunRecord) -> StoredRun:
        """Makes the filled folder the run's own: synced, then renamed, so that it is there whole or not at all.

        Raises UsageError when the results cannot be written.
        """
        target = self.path / record.run_id
        with _kept_in(target):
            digests = {p.name: f"sha256:{_digest(p)}" for p in sorted(folder.iterdir()) if p.name != "run.json"}
            whole = record.model_copy(update={"files": digests})
            (folder / "run.json").write_text(whole.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")
            for path in folder.iterdir():
                _sync(path)
            _sync(folder)
            folder.rename(target)
            _sync(self.path)
        return StoredRun(target, whole)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the session: two processes must not carry out the same one. Raises UsageError when one does already.

        What a melt that died left half written is removed.
        """
        with contextlib.ExitStack() as held:
            with _kept_in(self.path):
                lock = held.enter_context((self.path / "lock").open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UsageError(
                    f"session {self.path} is being carried out by another melt: wait for it to end"
                ) from None
            for left in self.path.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(left, ignore_errors=True)
            for left in (self.path / _PENDING).glob(".*.json.*"):
                left.unlink(missing_ok=True)
            yield


def new_session(root: Path, record: SessionRecord) -> Session:
    """Makes the folder of a new session below `root`/<suite>, its name being free. Raises UsageError when it cannot."""
    suite = root / record.suite.name
    with _kept_in(suite):
        suite.mkdir(parents=True, exist_ok=True)
    base = record.session
    for number in range(1, 1000):
        name = base if number == 1 else f"{base}-{number}"
        path = suite / name
        with _kept_in(path):
            try:
                path.mkdir()
            except FileExistsError:  # another melt, in this very moment
                continue
            named = record.model_copy(update={"session": name})
            write_text(path / "session.json", named.model_dump_json(indent=1, by_alias=True) + "\n")
            return Session(path, named)
    raise UsageError(f"{suite} has too many sessions of the second {base}: try again")


def open_session(path: Path) -> Session:
    """The session in a folder. Raises UsageError when it is not one, or of a newer schema."""
    file = path / "session.json"
    try:
        return Session(path, SessionRecord.model_validate(_json(file)))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read as a session: {_first_line(error)}") from None


def sessions(suite_folder: Path) -> list[Path]:
    """The folders of a suite's sessions, oldest first."""
    return sorted(file.parent for file in suite_folder.glob("*/session.json"))


def find_session(suite_folder: Path, name: str | None) -> Session:
    """The session of that name, or the last one that is unfinished. Raises UsageError when there is none."""
    found = sessions(suite_folder)
    if name is not None:
        if name not in (path.name for path in found):
            hint = nearest(name, [path.name for path in found])
            raise UsageError(f"there is no session '{name}' in {suite_folder}: {hint}")
        return open_session(suite_folder / name)
    damaged: list[UsageError] = []
    for path in reversed(found):
        try:
            session = open_session(path)
        except UsageError as error:
            damaged.append(error)  # another may be the one to go on with
            continue
        if session.todo() or session.pending():
            return session
    if damaged:
        raise damaged[0]
    raise UsageError(f"{suite_folder} has no unfinished session to resume: run without --resume to begin a new one")


def _read_note(path: Path) -> Pending | Unreadable:
    try:
        return Pending.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        return Unreadable(path, _first_line(error))


def read_run(path: Path) -> StoredRun | Unreadable:
    """The run in a folder with its newest analysis applied, or why it is not one."""
    try:
        record = RunRecord.model_validate(_json(path / "run.json"))
        named = [_ANALYSIS.fullmatch(file.name) for file in path.iterdir()]
    except (OSError, ValueError, RecursionError) as error:
        return Unreadable(path, _first_line(error))
    damaged: list[Unreadable] = []
    for version in sorted((int(found[1]) for found in named if found), reverse=True):
        if not record.metric_version <= version <= METRIC_VERSION:
            continue
        read = _read_analysis(_analysis_file(path, version), record.run_id, version)
        if isinstance(read, Analysis):
            return StoredRun(path, read.applied_to(record), record, tuple(damaged))
        damaged.append(read)
    return StoredRun(path, record, None, tuple(damaged))


def keep_analysis(run: StoredRun, analysis: Analysis) -> None:
    """Puts an analysis beside the run's record, whole or not at all; one of that version is replaced.

    Raises UsageError when the results cannot be written.
    """
    file = _analysis_file(run.path, analysis.metric_version)
    with _kept_in(run.path):
        write_text(file, analysis.model_dump_json(indent=1, by_alias=True) + "\n")


def _analysis_file(run: Path, version: int) -> Path:
    return run / f"analysis-{version}.json"


def _read_analysis(file: Path, run_id: str, version: int) -> Analysis | Unreadable:
    try:
        read = Analysis.model_validate(_json(file))
    except (OSError, ValueError, RecursionError) as error:
        return Unreadable(file, f"{_first_line(error)}: run {run_id} is taken without it; 'melt analyse' makes it anew")
    if (read.run_id, read.metric_version) != (run_id, version):
        why = f"it is of run {read.run_id} and metric version {read.metric_version}: run {run_id} is taken without it"
        return Unreadable(file, f"{why}; 'melt analyse' makes it anew")
    return read


def read_runs(path: Path) -> tuple[list[StoredRun], list[Unreadable]]:
    """Every run at or below a folder (a run, a session, a suite or the results), oldest first, and what is unreadable.

    An analysis that is damaged is among the latter; its run is there all the same.
    """
    read = [read_run(folder) for folder in run_folders(path)]
    runs = [run for run in read if isinstance(run, StoredRun)]
    return runs, [*(r for r in read if isinstance(r, Unreadable)), *(one for run in runs for one in run.damaged)]


def run_folders(path: Path) -> list[Path]:
    """The folder of every run at or below a folder, oldest first. Raises UsageError when that is none."""
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder of results: name one, such as results/demo")
    folders = [path] if (path / "run.json").exists() else [file.parent for file in path.rglob("run.json")]
    return sorted((folder for folder in folders if not _is_partial(folder)), key=lambda p: p.name)


def new_run_id(now: dt.datetime | None = None) -> str:
    """`20261121T031500Z-1a2b3c4d`: UTC time, and eight hexadecimal digits: its millisecond in three, the rest random.

    So the names of a session's runs stand in the order in which they began.
    """
    moment = now or dt.datetime.now(dt.UTC)
    return f"{utc_stamp(moment)}-{moment.microsecond // 1000:03x}{secrets.randbelow(1 << 20):05x}"


def utc_stamp(now: dt.datetime | None = None) -> str:
    """`20261121T031500Z`."""
    return (now or dt.datetime.now(dt.UTC)).strftime("%Y%m%dT%H%M%SZ")


def digest_of(texts: Mapping[str, str]) -> str:
    """The SHA-256 of some named texts, the same whatever their order."""
    return hashlib.sha256(json.dumps(dict(sorted(texts.items()))).encode()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Writes a small file, whole or not at all, and makes sure of its name as well."""
    write_whole(path, text.encode())
    _sync(path.parent)


@contextlib.contextmanager
def _kept_in(folder: Path) -> Iterator[None]:
    """Around what writes results: an error of this computer's file system is one that a person can mend."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"results folder {folder} cannot be written: {error.strerror}: mend that and call again"
        ) from None


def _run_folders(session: Path) -> Sequence[Path]:
    return sorted(file.parent for file in session.glob("*/run.json") if not _is_partial(file.parent))


def _is_partial(folder: Path) -> bool:
    return folder.name.startswith(_TEMPORARY)


def _json(path: Path) -> Any:
    data = json.loads(path.read_bytes())
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is not int or schema < 1:
        raise ValueError(f"it has no 'schema', a whole number, now {SCHEMA}")
    if schema > SCHEMA:
        raise ValueError(f"schema {schema} is newer than this melt, which reads up to {SCHEMA}")
    return data


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        return f"key '{'.'.join(map(str, problem['loc']))}': {problem['msg']}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
