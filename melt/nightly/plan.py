"""The last night of a suite as its sessions planned it: which cells, which canaries, and how it was begun."""

from __future__ import annotations

import fcntl
import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.store import open_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.store import SessionRecord

_THIS_COMPUTER = "local"


@dataclass(frozen=True)
class Planned:
    """The records of the sessions of a night that can be read, oldest first, and what cannot."""

    records: tuple[SessionRecord, ...]
    unreadable: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    """Those that a melt is carrying out now."""

    @property
    def cells(self) -> dict[tuple[str, str], str]:
        """Every device and cell of the night, and the last session that planned it."""
        return {(cell.device, cell.id): one.session for one in self.records for cell in one.cells}

    @property
    def slots(self) -> set[tuple[str, str, str, int]]:
        """Every planned run: its session, device, cell and block."""
        return {(one.session, slot.device, slot.cell, slot.block) for one in self.records for slot in one.order}

    @property
    def canary(self) -> frozenset[str]:
        """The workloads that the suite names as frozen."""
        return frozenset(name for one in self.records for name in one.canary)

    def again(self, devices: Sequence[str], results: Path) -> str | None:
        """The command that runs the suite once more on some devices, as it was last run on them."""
        if not self.records:
            return None
        last = self.records[-1]
        file = next((name for name in last.sources if name.endswith((".yaml", ".yml"))), f"{last.suite.name}.yaml")
        words = ["melt", "run", PurePath(file).name, *devices]
        if any(device != _THIS_COMPUTER for device in devices):
            words += ["--lab", "lab.yaml"]
        said = {k: v.value for cell in last.cells for k, v in cell.resolved.items() if v.source == "command line"}
        for key, value in sorted(said.items()):
            words += ["--set", f"{key}={value}"]
        if results.name != "results":
            words += ["--results", str(results)]
        return shlex.join(words)


def planned_for(suite: Path, sessions: Sequence[str]) -> Planned:
    """What the sessions of a night planned."""
    records, unreadable = [], []
    running = tuple(name for name in sessions if _running(suite / name))
    for name in sessions:
        try:
            records.append(open_session(suite / name).record)
        except UsageError as error:
            unreadable.append(f"{error}: what it planned is not known, nor what is missing of it")
    return Planned(tuple(records), tuple(unreadable), running)


def _running(session: Path) -> bool:
    """Whether a melt holds the session (`Session.alone`). A lock that was got here is let go at once."""
    try:
        with (session / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # it was never held, or this user may not look
        return False
    return False
