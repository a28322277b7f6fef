"""How fast a history of 10,000 runs of 22 metrics is read: the index from nothing, and a comparison of two halves.

The results are made, without raw data, which an index never opens; they have just been written, so the files are in
memory and no disk is measured. A comparison is a new process of `melt compare`, from its start to its end, its
verdicts of every metric printed as JSON. For `compare_speed_s` both suites have their index, as every `melt run` leaves
them; for `compare_without_index_s` there is none. `compare_peak_bytes` is the most memory that the latter takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness import Figure
from melt.errors import DeviceError
from melt.history import INDEX, rebuild

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.harness import Round

RUNS = 10_000
_LONGEST_S = 600


@dataclass(frozen=True)
class Compared:
    """One comparison: how long it took, and the most memory that its process held."""

    took_s: float
    peak_bytes: int


def made(folder: Path, runs: int = RUNS) -> tuple[Path, Path]:
    """Two suites of `runs` runs together, made once for each figure."""
    from history.made_results import two_sides  # noqa: PLC0415 - a module of the tests, which are on the path by then

    if not (folder / "b").exists():
        two_sides(folder, runs)
    return folder / "a", folder / "b"


def reindex_rate(this: Round, runs: int = RUNS) -> float:
    """Runs a second, from no index to one that is written."""
    sides = made(this.folder, runs)
    begun = time.perf_counter()
    rows = [rebuild(side).frame["run_id"].nunique() for side in sides]
    rate = sum(rows) / (time.perf_counter() - begun)
    if sum(rows) != runs:
        raise DeviceError(f"the index holds {sum(rows)} of {runs} runs")
    return rate


def compared(folder: Path, *, indexed: bool, runs: int = RUNS) -> Compared:
    """`melt compare` of the two suites as a person calls it. Raises DeviceError when it gives no verdict."""
    sides = made(folder, runs)
    for side in sides:
        if indexed:
            rebuild(side)
        else:
            (side / INDEX).unlink(missing_ok=True)
    argv = [sys.executable, "-m", "melt", "compare", *map(str, sides), "--axis", "threads", "--metric", "all", "--json"]
    with (folder / "verdicts.json").open("wb") as out, (folder / "said.txt").open("wb") as said:
        begun = time.perf_counter()
        process = subprocess.Popen(argv, stdout=out, stderr=said)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        took_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    said_text = (folder / "said.txt").read_text(encoding="utf-8", errors="replace")
    if process.returncode != 0 or not _verdicts(folder / "verdicts.json"):
        raise DeviceError(f"melt compare ended with {process.returncode}: {' '.join(said_text.split())[-300:]}")
    return Compared(took_s, used.ru_maxrss * 1024)


def _verdicts(file: Path) -> bool:
    """Whether it printed anything that a program can read."""
    try:
        return bool(json.loads(file.read_bytes()))
    except ValueError:
        return False


FIGURES = (
    Figure("reindex_rate", "1/s", (500.0, None), 3, reindex_rate),
    Figure("compare_speed_s", "s", (None, 5.0), 3, lambda this: compared(this.folder, indexed=True).took_s),
    Figure("compare_without_index_s", "s", (None, None), 3, lambda this: compared(this.folder, indexed=False).took_s),
    Figure(
        "compare_peak_bytes",
        "bytes",
        (None, 1e9),
        3,
        lambda this: float(compared(this.folder, indexed=False).peak_bytes),
    ),
)
