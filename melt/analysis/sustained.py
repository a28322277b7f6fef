"""What is left of the speed of a long run: its curve in three figures. In a sustained cell they are the result.

A rate is work ÷ the time spent on it, so that the prompts between two answers, or a pause of the engine, are not in
it. The run counts from its first measured inference (token), warm-up and all: heat makes the curve, and the fastest
part comes first.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.analysis.generation import gaps, requests
from melt.analysis.trace import Series
from melt.records import Metric, gap

if TYPE_CHECKING:
    from melt.analysis.events import Asked, Float64s, Inferences, RunEvents
    from melt.analysis.measured import Measured

NAMES = ("sustained_ratio", "time_to_10pct_drop_s", "change_points")
MIN_RUN_S = 600.0
BEST_OVER_S = 30.0
DROP = 0.10
MIN_IN_BEST = 3
BIN_S = 5.0
SMALLEST_CHANGE = 0.03
"""Smaller changes of the rate are no change points: that much the rate wanders by itself."""
_MIN_BINS = 3
_PENALTY = 6.0
"""× the variance of a bin × the log of their number: bins of one run are no independent samples."""
_MIN_IN_BIN = 8


def sustained(events: RunEvents, measured: Measured, asked: Asked) -> dict[str, Metric]:
    """The metrics of `NAMES` for a run of a sustained cell; none for any other."""
    if asked.mode != "sustained":
        return {}
    steps, what = _steps(events, measured)
    if not len(steps):
        return dict.fromkeys(NAMES, gap("no_measurement: nothing ended in the measured phase"))
    length_s = float(steps.end.max() - steps.begin[0]) * 1e-9
    if length_s < MIN_RUN_S:
        short = f"window_too_short: the run measured {length_s:.3g} s, a sustained rate needs {MIN_RUN_S:g} s"
        return dict.fromkeys(NAMES, gap(short))
    rates = _sliding(steps)
    if not len(rates):
        few = f"too_few_samples: under {MIN_IN_BEST} {what} end in {BEST_OVER_S:g} s"
        return dict.fromkeys(NAMES, gap(few))
    return {
        "sustained_ratio": _ratio(steps, rates, what),
        "time_to_10pct_drop_s": _first_drop(steps, rates, what),
        "change_points": _change_points(steps, what),
    }


def _steps(events: RunEvents, measured: Measured) -> tuple[Inferences, str]:
    """What the rate is the rate of: tokens of a language model, else inferences."""
    phase = measured.phases.measure
    made = requests(measured.landmarks)
    done = events.inferences
    if made:
        kept = [r for r in made if phase is not None and phase[0] <= r.prefill_begin <= phase[1]]
        return gaps(kept), "tokens"
    return (done.within(phase) if phase else done.after(len(done))), "inferences"


def _sliding(steps: Inferences) -> Series:
    """The rate (1/s) over 30 s from the begin of each step on, at the middle of the 30 s; only whole ones."""
    width_ns = int(BEST_OVER_S * 1e9)
    busy_s = np.concatenate(([0.0], np.cumsum(steps.seconds)))
    first = np.flatnonzero(steps.begin + width_ns <= steps.end[-1])
    after = np.searchsorted(steps.end, steps.begin[first] + width_ns, "right")
    number = after - first
    enough = number >= MIN_IN_BEST
    first, after, number = first[enough], after[enough], number[enough]
    return Series(steps.begin[first] + width_ns // 2, number / (busy_s[after] - busy_s[first]))


def _ratio(steps: Inferences, rates: Series, what: str) -> Metric:
    begin, end = int(steps.begin[0]), int(steps.end[-1])
    last = steps.seconds[steps.begin >= begin + (end - begin) * 2 // 3]
    if not last.size:
        return gap(f"no_measurement: no {what} in the last third of the run")
    best = float(rates.v.max())
    note = (
        f"{what}: {last.size / last.sum():.4g} a second over the last third, {best:.4g} over the best {BEST_OVER_S:g} s"
    )
    return Metric(value=float(last.size / last.sum()) / best, n=int(last.size), note=note)


def _first_drop(steps: Inferences, rates: Series, what: str) -> Metric:
    """When the rate over 30 s first lay a tenth under the best one before it, in seconds since the run's begin."""
    fallen = np.flatnonzero(rates.v <= (1 - DROP) * np.maximum.accumulate(rates.v))
    if not fallen.size:
        return gap(f"no_drop: the rate of {what} over {BEST_OVER_S:g} s never fell by {DROP:.0%}")
    at_s = float(rates.t[fallen[0]] - steps.begin[0]) * 1e-9
    return Metric(
        value=at_s, note=f"{what}; the middle of the first {BEST_OVER_S:g} s that lie so far under the best before"
    )


def _change_points(steps: Inferences, what: str) -> Metric:
    """How often the rate changed for good, by at least 3 %: penalised least squares on the logs of 5 s each (PELT)."""
    from ruptures import Pelt  # type: ignore[import-untyped]  # noqa: PLC0415  # half a second, for few runs

    at_s, logs = _bins(steps)
    if logs.size < 4 * _MIN_BINS:
        return gap(f"too_few_samples: under {4 * _MIN_BINS} parts of {_MIN_IN_BIN} {what} or more")
    spread = float(np.median(np.abs(np.diff(logs)))) / 0.6745
    penalty = _PENALTY * max(spread**2 / 2, 1e-8) * float(np.log(logs.size))
    search: Any = Pelt(model="l2", min_size=_MIN_BINS, jump=1)
    ends = [0, *search.fit(logs[:, None]).predict(pen=penalty)]
    ends = _large(logs, ends)
    levels = [float(logs[a:b].mean()) for a, b in pairwise(ends)]
    told = [
        f"{at_s[end]:.0f} s ({np.expm1(after - before):+.1%})"
        for end, before, after in zip(ends[1:-1], levels, levels[1:], strict=False)
    ]
    note = f"rate of {what}, " + (f"changed at {', '.join(told)}" if told else "one level throughout")
    return Metric(value=float(len(told)), n=int(logs.size), note=note)


def _bins(steps: Inferences) -> tuple[Float64s, Float64s]:
    """The log of the rate by parts of the run, and when each part begins (s)."""
    since_s = (steps.begin - steps.begin[0]) * 1e-9
    width_s = max(BIN_S, _MIN_IN_BIN * float(np.median(steps.seconds)))
    which = (since_s / width_s).astype(np.int64)
    number = np.bincount(which)
    busy_s = np.bincount(which, weights=steps.seconds)
    full = number >= _MIN_IN_BIN / 2
    at_s = np.asarray(np.flatnonzero(full) * width_s, dtype=np.float64)
    return at_s, np.asarray(np.log(number[full] / busy_s[full]), dtype=np.float64)


def _large(logs: Float64s, ends: list[int]) -> list[int]:
    """The borders between parts without those over which the rate changes by less than 3 %, the smallest first."""
    while len(ends) > 2:  # noqa: PLR2004  # the begin and the end of it all
        levels = [float(logs[a:b].mean()) for a, b in pairwise(ends)]
        changes = np.abs(np.expm1(np.diff(levels)))
        if changes.min() >= SMALLEST_CHANGE:
            break
        del ends[int(changes.argmin()) + 1]
    return ends
