"""What the events of a run say: its phases, its inferences, how the engine and the agent ended.

Two writers' events stand together, the engine's and the agent's, and they may end anywhere (the process died). Nothing
here raises on a missing, doubled or odd event: it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from melt.records import EnergyBasis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.records import Event

Int64s = NDArray[np.int64]
Float64s = NDArray[np.float64]
Bools = NDArray[np.bool_]
Window = tuple[int, int]
"""Begin and end, CLOCK_MONOTONIC ns, begin < end."""


@dataclass(frozen=True)
class Asked:
    """What the analysis must know of what was asked of the run.

    In a `sustained` cell heat and slowing are the result, in a `burst` cell they are faults.
    `idle` is an idle window (ns) inside this trace, for a run whose events name none.
    """

    mode: Literal["burst", "sustained"] = "burst"
    idle: Window | None = None
    energy: EnergyBasis = field(default_factory=EnergyBasis)
    pins: Mapping[str, float] = field(default_factory=dict)
    """Clock channels that were held at a value (Hz) through the run."""


@dataclass(frozen=True)
class Inferences:
    """Completed inferences in the order they began: `i`, `begin` and `end` (ns), three arrays of one length.

    `died_in` is the number of inferences that began and never ended.
    """

    i: Int64s
    begin: Int64s
    end: Int64s
    died_in: int

    @property
    def seconds(self) -> Float64s:
        return (self.end - self.begin).astype(np.float64) * 1e-9

    def __len__(self) -> int:
        return int(self.begin.size)

    def within(self, window: Window) -> Inferences:
        """Those that began and ended inside `window`."""
        inside: Any = (self.begin >= window[0]) & (self.end <= window[1])
        at = np.flatnonzero(inside)
        if at.size and at[-1] - at[0] + 1 == at.size:  # without gaps, as ever but for a strange engine: no copy
            inside = slice(at[0], at[-1] + 1)
        return Inferences(self.i[inside], self.begin[inside], self.end[inside], 0)

    def after(self, n: int) -> Inferences:
        """All but the first `n`."""
        return Inferences(self.i[n:], self.begin[n:], self.end[n:], self.died_in)


@dataclass(frozen=True)
class RunEvents:
    """Everything that the event file of a run says.

    `landmarks` are the events that are no inferences, in the order of their stamps: a few, where inferences may be
    millions.
    """

    landmarks: tuple[Event, ...]
    inferences: Inferences


@dataclass(frozen=True)
class Phases:
    """The parts of a run as windows; None where the events do not hold both ends.

    `measure` of a run that died has its last completed inference as its end (`measure_cut` is then true).
    """

    idle: Window | None
    load: Window | None
    first: Window | None
    warmup: Window | None
    measure: Window | None
    measure_cut: bool = False


@dataclass(frozen=True)
class EngineEnd:
    """How the agent saw the engine process end, and what it had used; None where the agent did not say."""

    exit: int | None
    signal: int | None
    maxrss_bytes: int | None
    majflt: int | None


def phases(events: Sequence[Event], done: Inferences, asked: Asked) -> Phases:
    """The windows of the run, from its landmarks and its inferences."""
    measure_from = mark_t(events, "measure.begin")
    measure_to = mark_t(events, "measure.end")
    cut = measure_from is not None and measure_to is None
    if measure_from is not None and measure_to is None:
        later = done.end[done.begin >= measure_from]
        measure_to = int(later.max()) if later.size else None
    first = np.flatnonzero(done.i == 0)
    return Phases(
        idle=_window(first_t(events, "agent.idle.begin"), first_t(events, "agent.idle.end")) or asked.idle,
        load=_window(first_t(events, "load.begin"), first_t(events, "load.end")),
        first=_window(int(done.begin[first[0]]), int(done.end[first[0]])) if first.size else None,
        warmup=_window(mark_t(events, "warmup.begin"), measure_from),
        measure=_window(measure_from, measure_to),
        measure_cut=cut,
    )


def engine_end(events: Sequence[Event]) -> EngineEnd | None:
    event = last(events, "agent.engine.end")
    if event is None:
        return None
    maxrss_kb = whole(event.get("maxrss_kb"))
    return EngineEnd(
        exit=whole(event.get("exit")),
        signal=whole(event.get("signal")),
        maxrss_bytes=None if maxrss_kb is None else maxrss_kb * 1024,
        majflt=whole(event.get("majflt")),
    )


def suspend_s(events: Sequence[Event]) -> float | None:
    """How far CLOCK_BOOTTIME grew beyond CLOCK_MONOTONIC between agent.begin and agent.end: the device slept.

    None when the agent did not live to say. A reading of the two clocks is not one instant: differences of
    microseconds mean nothing.
    """
    return _drift_s(events, "boottime_ns")


def realtime_step_s(events: Sequence[Event]) -> float | None:
    """How far the wall clock was set (or slewed) against CLOCK_MONOTONIC over the run; None when not known."""
    return _drift_s(events, "realtime_ns")


def agent_cpu_share(events: Sequence[Event]) -> float | None:
    """CPU time of the agent as a share of one core over its life; None when it did not live to say."""
    begin, end = first(events, "agent.begin"), last(events, "agent.end")
    cpu_ns = None if end is None else whole(end.get("cpu_ns"))
    if begin is None or end is None or cpu_ns is None or end.t <= begin.t:
        return None
    return cpu_ns / (end.t - begin.t)


def first(events: Sequence[Event], ev: str) -> Event | None:
    return next((event for event in events if event.ev == ev and whole(event.t) is not None), None)


def last(events: Sequence[Event], ev: str) -> Event | None:
    return next((event for event in reversed(events) if event.ev == ev and whole(event.t) is not None), None)


def first_t(events: Sequence[Event], ev: str) -> int | None:
    event = first(events, ev)
    return None if event is None else event.t


def mark(events: Sequence[Event], name: str) -> Event | None:
    """The last `mark` of that name."""
    marks = (event for event in reversed(events) if event.ev == "mark" and event.get("name") == name)
    return next((event for event in marks if whole(event.t) is not None), None)


def mark_t(events: Sequence[Event], name: str) -> int | None:
    event = mark(events, name)
    return None if event is None else event.t


def whole(value: Any) -> int | None:
    """The integer that an event field holds, or None: a field is untrusted input, and arrays hold 64 bits."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62 else None


def _window(begin: int | None, end: int | None) -> Window | None:
    return (begin, end) if begin is not None and end is not None and begin < end else None


def _drift_s(events: Sequence[Event], key: str) -> float | None:
    begin, end = first(events, "agent.begin"), last(events, "agent.end")
    if begin is None or end is None:
        return None
    at_begin, at_end = whole(begin.get(key)), whole(end.get(key))
    if at_begin is None or at_end is None:
        return None
    return ((at_end - end.t) - (at_begin - begin.t)) * 1e-9
