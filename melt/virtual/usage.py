"""How many cores the processes of one folder keep busy, at little cost.

The kernel counts a process's CPU time, that of its ended threads too, behind a clock that anybody may read: one system
call and no file for each process (clock_getcpuclockid's numbering, Linux's include/linux/posix-timers.h).
"""

from __future__ import annotations

import contextlib
import os
import time

_PER_PROCESS = 2
"""CPUCLOCK_SCHED, of the whole process."""
_WATCH_NEW_S = 2.0
"""How long a new process may take to move into its folder."""


class Usage:
    """The CPU time of every process whose working folder is below `folder`, since it was first seen there."""

    def __init__(self, folder: str) -> None:
        self._mark = f"{folder}/"
        self._ours: dict[int, int] = {}
        self._new: dict[int, float] = {}
        self._known: set[str] = set()
        self._newest = b""

    def spent_ns(self, now_s: float) -> int:
        """What they spent since the last call, all of them together."""
        self._look(now_s)
        spent = 0
        for pid, before in list(self._ours.items()):
            try:
                ticks = time.clock_gettime_ns(~pid << 3 | _PER_PROCESS)
            except OSError:  # it has ended
                del self._ours[pid]
                continue
            spent += ticks - before
            self._ours[pid] = ticks
        return spent

    def _look(self, now_s: float) -> None:
        """Finds processes that are new, and those of the new ones that have moved into the folder."""
        with open("/proc/loadavg", "rb") as file:  # noqa: PTH123 - many times a second
            newest = file.read().split()[-1]  # the process or thread that was made last
        if newest == self._newest and not self._new:
            return
        self._newest = newest
        names = {name for name in os.listdir("/proc") if name[0] <= "9"}  # noqa: PTH208 - many times a second
        for name in names - self._known:
            self._new[int(name)] = now_s
        self._known = names
        for pid, since in list(self._new.items()):
            if now_s - since > _WATCH_NEW_S:
                del self._new[pid]
            with contextlib.suppress(OSError):
                where = os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115 - many times a second
                if f"{where}/".startswith(self._mark):
                    self._ours[pid] = 0
                    self._new.pop(pid, None)
