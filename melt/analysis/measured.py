"""What a run's steady figures stand on: its measured inferences without the warm-up, and their window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.analysis.events import first_t, last, phases
from melt.analysis.roofline import repetitions, span
from melt.analysis.warmup import Warmup, warmup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.events import Asked, Inferences, Phases, RunEvents, Window
    from melt.records import Event


@dataclass(frozen=True)
class Measured:
    """`kept` is what `warmup` left of the measured phase; `window` (ns) spans it, None when nothing is left.

    `completed` counts every inference that ended; `landmarks` are the events that are no inferences. A roofline runs
    no model: its repetitions stand in for inferences in `window` and `completed`, and `kept` is empty.
    """

    landmarks: tuple[Event, ...]
    completed: int
    phases: Phases
    warmup: Warmup
    kept: Inferences
    window: Window | None
    alike: bool = True
    """Whether every inference was asked the same: else their times differ by nature, and tell no warm-up or slowing."""

    life: Window | None = None
    """Of a program that told of no inference and ended by itself, from its start to its end."""

    @property
    def watched(self) -> Window | None:
        """What heat, clocks and other programs are looked at in."""
        return self.window or self.life


def measure(events: RunEvents, asked: Asked) -> Measured:
    """Find the measured inferences of a run; those that the engine itself called warm-up are never among them."""
    done = events.inferences
    parts = phases(events.landmarks, done, asked)
    steady = done.within(parts.measure) if parts.measure else done.after(len(done))
    alike = not any(e.ev == "step.begin" and e.get("turn") not in (None, 0) for e in events.landmarks)
    # in a sustained run slowing is the result: a warm-up found by steadiness would take half of it away
    judged = alike and asked.mode == "burst"
    head = warmup(steady.seconds) if judged else Warmup(0, capped=False, tested=False)
    kept = steady.after(head.discarded)
    repeated = repetitions(events.landmarks)
    spanned = (int(kept.begin[0]), int(kept.end.max())) if len(kept) else span(repeated) or (0, 0)
    window = spanned if spanned[0] < spanned[1] else None
    return Measured(
        events.landmarks, len(done) + len(repeated), parts, head, kept, window, alike, _life(events.landmarks)
    )


def _life(events: Sequence[Event]) -> Window | None:
    done, begin, end = last(events, "done"), first_t(events, "agent.engine.start"), last(events, "agent.engine.end")
    by_itself = done is not None and done.get("by") == "exit status"
    return (begin, end.t) if by_itself and begin is not None and end is not None and begin < end.t else None
