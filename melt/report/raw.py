"""What the pictures need of a run's raw data; a file that cannot be read is a sentence, not an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.events import Asked, Inferences, first_t, inferences
from melt.analysis.measured import Measured, measure
from melt.analysis.trace import Trace, by_channel

if TYPE_CHECKING:
    from melt.analysis.events import Float64s
    from melt.store import StoredRun


@dataclass(frozen=True)
class Raw:
    """A run's inferences and trace. `begin` and `end` (ns) span the engine's life; `problem`: what is unreadable."""

    done: Inferences
    measured: Measured
    trace: Trace
    begin: int
    end: int
    problem: str | None


def latencies(run: StoredRun) -> Float64s:
    """The measured latencies (s) of a run, warm-up left out; empty when its events hold none."""
    try:
        return measure(run.events(), Asked()).kept.seconds
    except OSError:
        return np.array([], dtype=np.float64)


def raw(run: StoredRun) -> Raw | None:
    """Events and trace of a run; None when it has no inference at all."""
    try:
        events = run.events()
    except OSError:
        return None
    done = inferences(events)
    if not len(done):
        return None
    channels, problem = Trace({}, {}), None
    try:
        frame = run.trace()
        if not frame.empty:
            channels = by_channel(frame, run.record.sensors)
    except (OSError, ValueError, KeyError, TypeError):
        problem = "trace.parquet cannot be read"
    begin = first_t(events, "agent.engine.start") or first_t(events, "load.begin") or int(done.begin[0])
    end = first_t(events, "agent.engine.end") or int(done.end.max())
    begin = min(begin, int(done.begin[0]))
    return Raw(done, measure(events, Asked()), channels, begin, max(end, int(done.end.max()), begin + 1), problem)
