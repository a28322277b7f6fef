"""Run folders, read: the record, the newest analysis beside it, and its raw data on demand."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from melt.errors import UsageError
from melt.job import read_events
from melt.records import METRIC_VERSION, RunRecord
from melt.store.files import first_line, json_of, kept_in, write_text
from melt.store.records import Analysis

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from melt.analysis.events import RunEvents

_ANALYSIS = re.compile(r"analysis-([1-9][0-9]{0,5})\.json")
_RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
_RAW = frozenset({"events.jsonl", "trace.parquet", "agent.log"})
HALF = "it has no run.json: half a run's folder, such as an interrupted copy leaves"


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
    """Analyses beside it that cannot be read or are of a newer melt, and so are not applied."""

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


def read_run(path: Path) -> StoredRun | Unreadable:
    """The run in a folder with its newest analysis applied, or why it is not one."""
    try:
        record = RunRecord.model_validate(json_of(path / "run.json"))
        named = [_ANALYSIS.fullmatch(file.name) for file in path.iterdir()]
    except (OSError, ValueError, RecursionError) as error:
        return Unreadable(path, first_line(error))
    damaged: list[Unreadable] = []
    for version in sorted((int(found[1]) for found in named if found), reverse=True):
        if version > METRIC_VERSION:
            newer = f"metric version {version} is newer than this melt's {METRIC_VERSION}"
            damaged.append(
                Unreadable(analysis_file(path, version), f"{newer}: run {record.run_id} is taken without it")
            )
        if not record.metric_version <= version <= METRIC_VERSION:
            continue
        read = _read_analysis(analysis_file(path, version), record.run_id, version)
        if isinstance(read, Analysis):
            return StoredRun(path, read.applied_to(record), record, tuple(damaged))
        damaged.append(read)
    return StoredRun(path, record, None, tuple(damaged))


def keep_analysis(run: StoredRun, analysis: Analysis) -> None:
    """Puts an analysis beside the run's record, whole or not at all; one of that version is replaced.

    Raises UsageError when the results cannot be written.
    """
    file = analysis_file(run.path, analysis.metric_version)
    try:
        text = analysis.model_dump_json(indent=1, by_alias=True)
    except ValueError:  # half a character, which JSON can hold as an escape alone
        text = json.dumps(analysis.model_dump(by_alias=True), indent=1)
    with kept_in(run.path):
        write_text(file, text + "\n")


def analysis_file(run: Path, version: int) -> Path:
    """Where the analysis of a metric version lies in a run's folder."""
    return run / f"analysis-{version}.json"


def _read_analysis(file: Path, run_id: str, version: int) -> Analysis | Unreadable:
    try:
        read = Analysis.model_validate(json_of(file))
    except (OSError, ValueError, RecursionError) as error:
        return Unreadable(file, f"{first_line(error)}: run {run_id} is taken without it; 'melt analyse' makes it anew")
    if (read.run_id, read.metric_version) != (run_id, version):
        why = f"it is of run {read.run_id} and metric version {read.metric_version}: run {run_id} is taken without it"
        return Unreadable(file, f"{why}; 'melt analyse' makes it anew")
    return read


def read_runs(path: Path) -> tuple[list[StoredRun], list[Unreadable]]:
    """Every run at or below a folder (a run, a session, a suite or the results), oldest first, and what is unreadable.

    A run that is there twice, as copies of a folder leave it, is taken once. An analysis that is damaged is among the
    unreadable; its run is there all the same. Raises UsageError when `path` is no folder.
    """
    folders, closed = found_below(path)
    read = [run for run in map(read_run, folders) if isinstance(run, StoredRun) or run.path.exists()]
    runs, copies = _each_once([run for run in read if isinstance(run, StoredRun)])
    broken = [run for run in read if isinstance(run, Unreadable)]
    return runs, [*broken, *closed, *copies, *(one for run in runs for one in run.damaged)]


def run_folders(path: Path) -> list[Path]:
    """The folder of every run at or below a folder, oldest first. Raises UsageError when that is none."""
    return found_below(path)[0]


def found_below(path: Path) -> tuple[list[Path], list[Unreadable]]:
    """The folder of every run at or below a folder, oldest first; half ones, and folders that may not be looked into.

    What is hidden or being written is left out. A link is followed where sessions or runs lie behind it. Raises
    UsageError when `path` is no folder.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder of results: name one, such as results/demo")
    folders: list[Path] = []
    unreadable: list[Unreadable] = []
    seen: set[str] = set()
    waiting: list[tuple[Path, bool]] = [(path, False)]
    links: list[tuple[Path, bool]] = []
    while waiting or links:
        folder, in_session = waiting.pop() if waiting else links.pop()  # a real folder goes before a link to it
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            continue  # it was there a moment ago
        except OSError as error:
            unreadable.append(Unreadable(folder, f"it cannot be listed: {error.strerror}"))
            continue
        names = {entry.name for entry in entries}
        if "run.json" in names:
            folders.append(folder)
        elif in_session and half_a_run(folder.name, names):
            unreadable.append(Unreadable(folder, HALF))
        for entry in entries:
            if entry.name.startswith("."):
                continue
            one = (folder / entry.name, "session.json" in names)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(one)
            elif entry.is_symlink() and _holds_results(one[0]):
                links.append(one)
    unreadable.sort(key=lambda one: one.path.name)
    return sorted(folders, key=lambda one: one.name), unreadable


def half_a_run(name: str, files: Collection[str]) -> bool:
    """Whether a folder of a session, of that name and with those files, is one of a run that lacks its record."""
    return "run.json" not in files and (_RUN_ID.fullmatch(name) is not None or not _RAW.isdisjoint(files))


def _holds_results(link: Path) -> bool:
    """Whether runs or sessions lie behind a link, so that no link leads through the whole computer."""
    try:
        return link.is_dir() and any(
            (link / one).exists() or next(link.glob(f"*/{one}"), None) for one in ("session.json", "run.json")
        )
    except OSError:
        return False


def _each_once(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[Unreadable]]:
    """The runs without copies: the one in its own session's folder is taken, or the first by its path."""
    chosen: dict[tuple[str, str, str], StoredRun] = {}
    for run in sorted(runs, key=_away):
        chosen.setdefault(_identity(run.record), run)
    copies = [run for run in runs if chosen[_identity(run.record)] is not run]
    told = [
        Unreadable(run.path, f"it is run {run.record.run_id} again: {_place(chosen, run)} is taken") for run in copies
    ]
    return [run for run in runs if chosen[_identity(run.record)] is run], told


def _identity(record: RunRecord) -> tuple[str, str, str]:
    return record.suite.name, record.session, record.run_id


def _place(chosen: Mapping[tuple[str, str, str], StoredRun], run: StoredRun) -> Path:
    return chosen[_identity(run.record)].path


def _away(run: StoredRun) -> tuple[bool, bool, bool, str]:
    """Of copies, the least of this is where `publish` put the run, or what is most like it."""
    suite, session, run_id = _identity(run.record)
    parts = run.path.resolve().parts
    return parts[-1:] != (run_id,), parts[-2:-1] != (session,), parts[-3:-2] != (suite,), str(run.path)
