"""Several melts that write one suite's index, as programs: ones that store and refresh, and ones killed at every step.

`python index_writers.py write SUITE NUMBER RUNS` · `… read SUITE` until its stdin ends · `… killed ROOT`
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from made_results import Results, make

from melt.history import COLUMNS, INDEX, refresh

OF_WRITER = Results(blocks=1)
_STEPS = frozenset({"open", "os.rename", "os.remove", "fcntl.flock"})


def write(suite: Path, number: int, runs: int) -> None:
    """Puts one session after the other into the suite, and refreshes its index after each."""
    for run in range(runs):
        begin = OF_WRITER.begin.replace(year=2027 + number, minute=run)
        make(suite, replace(OF_WRITER, seed=1000 * number + run, begin=begin))
        notes = refresh(suite).notes
        if notes:
            raise SystemExit(" ".join(notes))


def read(suite: Path) -> None:
    """Reads the index without a lock, again and again, as any program may that opens it once; prints how often."""
    times = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        with (suite / INDEX).open("rb") as opened:  # given a name, pyarrow opens it twice, and may find two files
            table = pq.read_table(opened)
        table.validate(full=True)
        if not table.schema.equals(COLUMNS) or table.num_rows % 22:
            raise SystemExit(f"half an index of {table.num_rows} rows was read")
        times += 1
    print(times)


def killed(root: Path) -> None:
    """A process for each step of a refresh, killed by SIGKILL before it; prints each one's folder and how it ended."""
    first = make(root / "first", OF_WRITER)
    refresh_elsewhere(first, step=None)
    make(first, replace(OF_WRITER, seed=2, begin=OF_WRITER.begin.replace(year=2027)))
    for step in range(1000):
        suite = root / f"{step:03d}" / "first"
        shutil.copytree(first, suite)
        status = refresh_elsewhere(suite, step)
        print(suite, "killed" if os.WIFSIGNALED(status) else "ended" if status == 0 else "failed", flush=True)
        if not os.WIFSIGNALED(status):
            break


def refresh_elsewhere(suite: Path, step: int | None) -> int:
    """Refreshes in a process of its own, which no thread of this one's libraries was in; its exit status."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(event: str, details: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in _STEPS and (event != "open" or "index" in str(details[0])):
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1

        sys.addaudithook(count)
        refresh(suite)
        os._exit(0)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "write":
        write(Path(words[0]), int(words[1]), int(words[2]))
    else:
        {"read": read, "killed": killed}[what](Path(words[0]))
