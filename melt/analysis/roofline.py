"""A device's own ceiling: what the repetitions of a roofline run say, point by point.

A point is one kind of work with one number of threads, its figure the median over its repetitions. The ceiling of a
kind is its best point's. What a repetition did is its own count, not what was asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.events import mark, mark_t, whole
from melt.analysis.percentiles import MEDIAN, percentiles
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.analysis.events import Window
    from melt.records import Event

METRICS: Mapping[str, str] = {
    "read": "read_bytes_per_s",
    "fp32": "fp32_madd_per_s",
    "int8": "int8_madd_per_s",
}
"""What the events call a kind of work, and its ceiling's name; `.tN` beside it is that of N threads."""
NO_POINT = "no_measurement: no repetition of it ended in the measured phase"
_COUNTS: Mapping[str, str] = {"read": "bytes", "fp32": "madds", "int8": "madds"}
_ENOUGH_CACHES = 4
"""A buffer smaller than so many times the last level of cache is read from it in part."""


@dataclass(frozen=True)
class Repetition:
    """One repetition that ended: `what` as in `METRICS`, stamps in ns, `done` in bytes or multiply-adds."""

    what: str
    threads: int
    begin: int
    end: int
    done: int

    @property
    def per_s(self) -> float:
        return self.done / ((self.end - self.begin) * 1e-9)


def repetitions(events: Sequence[Event]) -> list[Repetition]:
    """The repetitions that count: in the measured phase, and none that only led in to a point."""
    since = mark_t(events, "measure.begin")
    began: dict[tuple[str, int], Event] = {}
    found = []
    for event in events if since is not None else ():
        if event.ev not in ("roof.begin", "roof.end") or event.t < (since or 0) or event.get("lead") is not None:
            continue
        what, threads = event.get("what"), whole(event.get("threads"))
        if not isinstance(what, str) or what not in METRICS or threads is None or threads < 1:
            continue
        if event.ev == "roof.begin":
            began[what, threads] = event
            continue
        begin, done = began.pop((what, threads), None), whole(event.get(_COUNTS[what]))
        if begin is None or begin.get("i") != event.get("i") or done is None or done <= 0 or begin.t >= event.t:
            continue
        found.append(Repetition(what, threads, begin.t, event.t, done))
    return found


def span(found: Sequence[Repetition]) -> Window | None:
    """The window (ns) from the first repetition's begin to the last one's end; None without any."""
    return (min(r.begin for r in found), max(r.end for r in found)) if found else None


def is_roofline(events: Sequence[Event]) -> bool:
    """Whether the engine was the roofline program, however far it came."""
    said = mark(events, "engine")
    return (said is not None and said.get("read_isa") is not None) or any(e.ev == "roof.begin" for e in events)


def roofline(events: Sequence[Event]) -> dict[str, Metric]:
    """The metrics of a roofline run by name: each kind's best point, and every point; none for any other run."""
    if not is_roofline(events):
        return {}
    rates: dict[str, dict[int, list[float]]] = {what: {} for what in METRICS}
    for one in repetitions(events):
        rates[one.what].setdefault(one.threads, []).append(one.per_s)
    said = mark(events, "engine")
    ceilings: dict[str, Metric] = {}
    points: dict[str, Metric] = {}
    for what, name in METRICS.items():
        of_kind = {threads: _point(values) for threads, values in sorted(rates[what].items())}
        known = {threads: metric for threads, metric in of_kind.items() if metric.value is not None}
        best = max(known, key=lambda threads: known[threads].value or 0.0, default=None)
        points |= {f"{name}.t{threads}": metric for threads, metric in of_kind.items()}
        if best is None:
            ceilings[name] = next(iter(of_kind.values()), gap(NO_POINT))
            continue
        about = "; ".join([_threads(best), *_about(said, what), known[best].note or ""])
        ceilings[name] = known[best].model_copy(update={"note": about})
    return {**ceilings, **points}


def _point(rates: Sequence[float]) -> Metric:
    """The median of a point's repetitions, or a gap where they are too few for one."""
    values = np.array(rates, dtype=np.float64)
    middle = percentiles(values)[MEDIAN]
    if middle.value is None:
        return middle
    low, high = np.percentile(values, (25, 75))
    return middle.model_copy(update={"note": f"the middle half of {values.size} lies from {low:.4g} to {high:.4g}"})


def _about(said: Event | None, what: str) -> list[str]:
    """What a reader must know of a ceiling: the instructions, and what makes it less of one."""
    if said is None:
        return []
    isa, cpus, threads = said.get(f"{what}_isa"), whole(said.get("cpus")), whole(said.get("threads"))
    told = [isa] if isinstance(isa, str) else []
    if cpus is not None and threads is not None and threads > cpus:
        told.append(f"{threads} threads were asked of {cpus} processors")
    size, cache = whole(said.get("read_bytes")), whole(said.get("cache_bytes"))
    if what == "read" and size is not None and cache is not None and size < _ENOUGH_CACHES * cache:
        told.append(f"the {size} bytes that were read are less than {_ENOUGH_CACHES} times the last level of cache")
    return told


def _threads(number: int) -> str:
    return "best with 1 thread" if number == 1 else f"best with {number} threads"
