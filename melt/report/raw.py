"""What the pictures need of a run's raw data; a file that cannot be read is a sentence, not an error.

A small model leaves millions of inferences. A picture has room for some thousands: no more are kept, so that a report
of many runs fits in memory. The figures beside them are of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.events import Asked, first_t
from melt.analysis.generation import gaps, requests
from melt.analysis.measured import measure
from melt.analysis.trace import Trace, by_channel
from melt.report.kinds import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.analysis.events import Bools, Float64s, Inferences, Int64s, Phases, RunEvents, Window
    from melt.records import Event
    from melt.report.kinds import Kind
    from melt.store import StoredRun

MOST_RANKS = 100_000
MOST_POINTS = 20_000


@dataclass(frozen=True)
class Latencies:
    """The measured latencies (s) of a run, of a language model the gaps between its tokens.

    There are `n`, of which `values` are the whole or evenly spaced ranks.
    """

    n: int
    values: Float64s


@dataclass(frozen=True)
class Points:
    """Latencies over time: when each inference ended (ns), what it took (s), whether it is `steady`.

    Of `n` inferences these are all, or those that show the same picture: some of every stretch, its fastest and its
    slowest among them. `median` and `p99` (s) are of all that are steady, of all where none is.
    """

    n: int
    end: Int64s
    seconds: Float64s
    steady: Bools
    median: float
    p99: float


@dataclass(frozen=True)
class Raw:
    """A run's latencies and trace. `begin` and `end` (ns) span the engine's life; `problem`: what is unreadable.

    `stretches` are what the measured window of a language model consists of, by name: the windows of each.
    """

    kind: Kind

    points: Points
    phases: Phases
    stretches: Mapping[str, Sequence[Window]]
    trace: Trace
    begin: int
    end: int
    problem: str | None


def latencies(run: StoredRun) -> Latencies:
    """The measured latencies of a run, warm-up left out; none when its events hold none."""
    try:
        seconds = _samples(run, run.events())[1].seconds
    except OSError:
        return Latencies(0, np.array([], dtype=np.float64))
    return Latencies(seconds.size, _ranks(seconds))


def raw(run: StoredRun) -> Raw | None:
    """Events and trace of a run; None when it has no inference at all."""
    try:
        events = run.events()
    except OSError:
        return None
    others = events.landmarks
    done, kept, phases = _samples(run, events)
    if not len(done):
        return None
    channels, problem = Trace({}, {}), None
    try:
        frame = run.trace()
        if not frame.empty:
            channels = by_channel(frame, run.record.sensors)
    except (OSError, ValueError, KeyError, TypeError):
        problem = "trace.parquet cannot be read"
    begin = first_t(others, "agent.engine.start") or first_t(others, "load.begin") or int(done.begin[0])
    end = first_t(others, "agent.engine.end") or int(done.end.max())
    begin = min(begin, int(done.begin[0]))
    end = max(end, int(done.end.max()), begin + 1)
    kind = kind_of(run.record)
    return Raw(kind, _points(done, kept), phases, _stretches(kind, others, phases), channels, begin, end, problem)


def _samples(run: StoredRun, events: RunEvents) -> tuple[Inferences, Inferences, Phases]:
    """What a picture shows of a run, one by one; what of it the figures stand on; and the run's phases."""
    measured = measure(events, Asked())
    if kind_of(run.record) != "generate":
        return events.inferences, measured.kept, measured.phases
    done, window = gaps(requests(events.landmarks)), measured.phases.measure
    return done, done.within(window) if window else done.after(len(done)), measured.phases


def _stretches(kind: Kind, events: Sequence[Event], phases: Phases) -> dict[str, list[Window]]:
    """Prefill and decode of every request of the measured window, or llama-bench's two parts of a repetition."""
    found: dict[str, list[Window]] = {}
    if kind == "generate":
        made = [r for r in requests(events) if r.prefill_end is not None]
        found["prefill"] = [(r.prefill_begin, r.prefill_end) for r in made if r.prefill_end is not None]
        found["decode"] = [(r.prefill_end, r.tokens[-1]) for r in made if r.prefill_end is not None and r.tokens]
    elif kind == "bench":
        for name in ("pp", "tg"):
            begins = [event.t for event in events if event.ev == f"bench.{name}.begin"]
            ends = [event.t for event in events if event.ev == f"bench.{name}.end"]
            found[name] = list(zip(begins, ends, strict=False))  # the last one of a run that died has no end
    low, high = phases.measure or (1, 0)
    inside = {name: [w for w in windows if low <= w[0] < w[1] <= high] for name, windows in found.items()}
    return {name: windows for name, windows in inside.items() if windows}


def _ranks(values: Float64s) -> Float64s:
    """The values, or `MOST_RANKS` of them in order of size, from the least to the largest at even distances."""
    if values.size <= MOST_RANKS:
        return values
    at = np.linspace(0, values.size - 1, MOST_RANKS).round().astype(np.intp)
    return np.asarray(np.sort(values)[at], dtype=np.float64)


def _points(done: Inferences, kept: Inferences) -> Points:
    seconds = done.seconds
    span = (int(kept.begin[0]), int(kept.begin[-1])) if len(kept) else (1, 0)
    steady = (done.begin >= span[0]) & (done.begin <= span[1])
    basis = seconds[steady] if steady.any() else seconds
    median, p99 = (float(v) for v in np.percentile(basis, (50, 99)))
    at = _telling(seconds)
    return Points(len(done), done.end[at], seconds[at], steady[at], median, p99)


def _telling(values: Float64s) -> Int64s:
    """Places of `MOST_POINTS` values at most: of each of equal stretches the first, middle, least and largest one."""
    if values.size <= MOST_POINTS:
        return np.arange(values.size, dtype=np.int64)
    length = -(-values.size // (MOST_POINTS // 4))
    starts = np.arange(0, values.size, length)
    padded = np.full(starts.size * length, np.nan)
    padded[: values.size] = values
    table = padded.reshape(-1, length)
    extremes = np.concatenate((starts + np.nanargmin(table, axis=1), starts + np.nanargmax(table, axis=1)))
    middles = np.minimum(starts + length // 2, values.size - 1)
    return np.asarray(np.unique(np.concatenate((starts, middles, extremes))), dtype=np.int64)
