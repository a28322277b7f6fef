"""An import is there whole or not at all: its sessions are made in a hidden folder, and moved at its end.

One that is broken off leaves nothing that anybody reads, and the next one removes it; one that was broken off while it
moved its sessions is finished by the next. Two imports into one suite never run at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.store import Session, StoredRun, new_session, sessions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from melt.store import SessionRecord

_STAGE = ".importing"
_LOCK = ".importing.lock"
_WHOLE = "whole"
"""A file in the stage from when every session in it is whole."""
_HIDDEN = ".part-"
"""How the store calls a run's folder that nobody is to read yet."""


@dataclass
class Stage:
    """The sessions of one import until they are moved into the suite's folder."""

    suite: Path
    _runs: list[tuple[Session, StoredRun]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.suite / _STAGE

    def session(self, record: SessionRecord) -> Session:
        """A new session, by a name that is free in the suite and here. Raises UsageError when it cannot be written."""
        taken = {path.name for path in (*sessions(self.suite), *sessions(self.folder / self.suite.name))}
        name, number = record.session, 1
        while name in taken:
            number += 1
            name = f"{record.session}-{number}"
        return new_session(self.folder, record.model_copy(update={"session": name}))

    def hide(self, session: Session, run: StoredRun) -> Path:
        """Takes a run out of everybody's sight until its import is whole, and gives the folder where it lies."""
        hidden = run.path.rename(run.path.with_name(f"{_HIDDEN}{run.path.name}"))
        self._runs.append((session, run))
        return hidden

    def runs(self) -> list[StoredRun]:
        """Every run where it lies once the import is whole."""
        return [
            StoredRun(self.suite / session.path.name / run.path.name, run.as_stored or run.record)
            for session, run in self._runs
        ]


@contextlib.contextmanager
def staged(suite: Path, seen: frozenset[str]) -> Iterator[Stage]:
    """A stage for an import into the folder of a suite whose sessions were `seen` when it was planned.

    Its sessions are moved into the suite where the block ends, and are gone where it raises. Raises UsageError where
    another import is under way, or has been there since the plan, and where nothing can be written.
    """
    stage = Stage(suite)
    try:
        suite.mkdir(parents=True, exist_ok=True)
        with _alone(suite):
            try:
                _mend(suite)
                if {path.name for path in sessions(suite)} != seen:
                    raise UsageError(
                        f"{suite} has got sessions of another import meanwhile: import again, and what is there already"
                        " is left out"
                    )
                stage.folder.mkdir()
                yield stage
                _synced(stage.folder / _WHOLE)
                _move(suite)
            finally:
                if not (stage.folder / _WHOLE).exists():
                    shutil.rmtree(stage.folder, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"{suite} cannot be written: {error.strerror}: mend that and import again") from None


@contextlib.contextmanager
def _alone(suite: Path) -> Iterator[None]:
    with (suite / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{suite} is being imported into by another melt: wait for it to end") from None
        yield


def _mend(suite: Path) -> None:
    """Finishes the import before, where it was broken off while it moved whole sessions; else removes what it left."""
    if (suite / _STAGE / _WHOLE).exists():
        _move(suite)
    shutil.rmtree(suite / _STAGE, ignore_errors=True)


def _move(suite: Path) -> None:
    """Each staged session into the suite; again after it was broken off, for what was moved is no more there."""
    for session in sessions(suite / _STAGE / suite.name):
        for run in session.glob(f"{_HIDDEN}*"):
            run.rename(run.with_name(run.name.removeprefix(_HIDDEN)))
        (session / "lock").unlink(missing_ok=True)
        session.rename(suite / session.name)
    descriptor = os.open(suite, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    shutil.rmtree(suite / _STAGE)


def _synced(file: Path) -> None:
    with file.open("w") as whole:
        os.fsync(whole.fileno())
