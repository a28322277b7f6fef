"""Sessions: what is to be done, what is still open, and runs that are stored whole or not at all."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import secrets
import shutil
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from melt.errors import UsageError, nearest
from melt.store.files import TEMPORARY, digest, first_line, is_partial, json_of, kept_in, sync, write_text
from melt.store.records import CellRecord, Pending, SessionRecord, Slot
from melt.store.runs import StoredRun, Unreadable, read_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from melt.records import RunRecord

_PENDING = "pending"


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
        with kept_in(folder):
            folder.mkdir(exist_ok=True)
            write_text(folder / f"{pending.run_id}.json", pending.model_dump_json(indent=1))

    def settle(self, run_id: str) -> None:
        """Forgets the note: the run is stored, or the job will not be."""
        (self.path / _PENDING / f"{run_id}.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, run_id: str) -> Iterator[Path]:
        """A folder to fill; `publish` makes it the run's. It is gone afterwards unless that was called."""
        folder = self.path / f"{TEMPORARY}{run_id}"
        shutil.rmtree(folder, ignore_errors=True)
        with kept_in(folder):
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
        with kept_in(target):
            digests = {p.name: f"sha256:{digest(p)}" for p in sorted(folder.iterdir()) if p.name != "run.json"}
            whole = record.model_copy(update={"files": digests})
            (folder / "run.json").write_text(whole.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")
            for path in folder.iterdir():
                sync(path)
            sync(folder)
            folder.rename(target)
            sync(self.path)
        return StoredRun(target, whole)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the session: two processes must not carry out the same one. Raises UsageError when one does already.

        What a melt that died left half written is removed.
        """
        with contextlib.ExitStack() as held:
            with kept_in(self.path):
                lock = held.enter_context((self.path / "lock").open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"session {self.path} is being carried out by another melt: wait for it to end"
                ) from None
            except OSError as error:
                raise UsageError(
                    f"session {self.path} cannot be locked: {error.strerror}: name a results folder with --results "
                    "whose file system has locks"
                ) from None
            for left in self.path.glob(f"{TEMPORARY}*"):
                shutil.rmtree(left, ignore_errors=True)
            for left in (self.path / _PENDING).glob(".*.json.*"):
                left.unlink(missing_ok=True)
            yield


def new_session(root: Path, record: SessionRecord) -> Session:
    """Makes the folder of a new session below `root`/<suite>, its name being free. Raises UsageError when it cannot."""
    suite = root / record.suite.name
    with kept_in(suite):
        suite.mkdir(parents=True, exist_ok=True)
    base = record.session
    for number in range(1, 1000):
        name = base if number == 1 else f"{base}-{number}"
        path = suite / name
        with kept_in(path):
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
        return Session(path, SessionRecord.model_validate(json_of(file)))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file} cannot be read as a session: {first_line(error)}") from None


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
        return Unreadable(path, first_line(error))


def _run_folders(session: Path) -> Sequence[Path]:
    return sorted(file.parent for file in session.glob("*/run.json") if not is_partial(file.parent))


def new_run_id(now: dt.datetime | None = None) -> str:
    """`20261121T031500Z-1a2b3c4d`: UTC time, and eight hexadecimal digits: its millisecond in three, the rest random.

    So the names of a session's runs stand in the order in which they began.
    """
    moment = now or dt.datetime.now(dt.UTC)
    return f"{utc_stamp(moment)}-{moment.microsecond // 1000:03x}{secrets.randbelow(1 << 20):05x}"


def utc_stamp(now: dt.datetime | None = None) -> str:
    """`20261121T031500Z`."""
    return (now or dt.datetime.now(dt.UTC)).strftime("%Y%m%dT%H%M%SZ")
