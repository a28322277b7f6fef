"""What `melt compare` says of real runs of this computer, where the truth is known otherwise.

`aa_alike_share` is of a hundred sessions in which two workloads are the same thing: the share of those in which no
metric is called different. `ab_threads_right` and `ab_spin_right` are of ONNX Runtime with one and two threads, and
with threads that spin and that sleep: 1 where melt's verdict is that of a loop as a person writes one, timed in turns.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Figure
from benchmarks.ort import WORKLOAD, bare
from benchmarks.session import whole
from melt.analysis.contrast import DELTA
from melt.compare import Asked, compare_folders
from melt.engines import StopRules
from melt.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.harness import Round
    from melt.compare import Verdict

SESSIONS = 100
_BLOCKS = 5
_ALIKE = ("equivalent", "inconclusive")
_STOP = StopRules(warmup_s=0.2, warmup_n=5, min_s=1.0, min_n=64)
_TURNS = 8
_LEAST = 2
"""A truth of less than so many times δ may be called either way: who is to say on which side of δ it lies."""


def alike(this: Round) -> float:
    """The share of `SESSIONS` comparisons of a thing with itself in which nothing is called different."""
    sides = [{**WORKLOAD, "name": name} for name in ("side-a", "side-b")]
    protocol = {"runs": _BLOCKS, "min_s": 0.2, "min_n": 11, "warmup_s": 0.05}
    right = 0
    for _ in range(SESSIONS):
        session, said = whole(this.folder, sides, protocol)
        verdicts = _verdicts(session.path, "workload", said)
        right += all(one.word in _ALIKE for one in verdicts)
    return right / SESSIONS


def threads(this: Round) -> float:
    """Whether two threads against one get the right word."""
    return _right(this.folder, "threads", (1, 2), {})


def spin(this: Round) -> float:
    """Whether two threads that spin against two that sleep get the right word."""
    return _right(this.folder, "spin", (False, True), {"threads": 2})


def _right(folder: Path, key: str, values: Sequence[Any], params: dict[str, Any]) -> float:
    workload = {**WORKLOAD, "params": {**WORKLOAD["params"], **params}}
    protocol = {"runs": _TURNS, "min_s": _STOP.min_s, "warmup_s": _STOP.warmup_s, "min_n": _STOP.min_n}
    session, said = whole(folder, [workload], protocol, sweep={f"params.{key}": list(values)})
    (one,) = (v for v in _verdicts(session.path, key, said) if v.metric == "latency_p50_s")
    logs = [_log_ratio(folder, key, values, params, turn) for turn in range(_TURNS)]
    truth, limit = statistics.median(logs), math.log1p(one.delta)
    by_hand = "faster" if truth < -limit else "slower" if truth > limit else "equivalent"
    near = abs(truth) < _LEAST * math.log1p(DELTA)
    return float(one.word == by_hand or (near and one.word in _ALIKE))


def _log_ratio(folder: Path, key: str, values: Sequence[Any], params: dict[str, Any], turn: int) -> float:
    """ln of the second's p50 ÷ the first's, by hand, each going first as often as the other."""
    order = values if turn % 2 else values[::-1]
    took = {value: bare(folder, {**params, key: value}, _STOP) for value in order}
    return math.log(took[values[1]] / took[values[0]])


def _verdicts(session: Path, axis: str, said: Sequence[str]) -> tuple[Verdict, ...]:
    found = compare_folders(session, None, Asked(axis=axis)).verdicts
    if not found:
        raise DeviceError(f"there is nothing to compare: {'; '.join(said) or 'nothing was said'}")
    return found


FIGURES = (
    Figure("aa_alike_share", "1", (0.95, None), 1, alike),
    Figure("ab_threads_right", "1", (1.0, 1.0), 3, threads),
    Figure("ab_spin_right", "1", (1.0, 1.0), 3, spin),
)
