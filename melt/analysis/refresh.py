"""How often a sensor makes its value anew, told from reads that are more frequent than that.

A period is told only where the times of the changes keep step with it, or where reads are so many that the periods
between two changes can be counted; otherwise there is a sentence that says why it is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.trace import Series

if TYPE_CHECKING:
    from melt.analysis.events import Float64s, Int64s

LEAST_CHANGES = 8
"""Of fewer new values no refresh period is told."""
_EVERY_READ = 0.85
"""A value that is new in so many of the reads may be made oftener than it is read."""
_AT_ONCE, _SELDOM_LATE, _LATE_READS = 0.05, 0.25, 4
"""The share of changes at once that are taken for late ones: more of them where a period of so many reads is seen."""
_MOST_CHANGES = 400
_IN_STEP = 0.55
"""How alike the phases are, from 0 to 1: reads twice in a period leave 0.64."""
_FEW_AN_EDGE = 2
"""A value with no more changes for each edge of the load changes with the load, and seldom else."""
_COUNTED = 4
"""Reads in a period, from which on the periods between two changes can be counted."""
_RAGGED = 0.2
"""How far intervals may be off whole periods, as a share of one (whatever is random would be 0.29 off)."""


@dataclass(frozen=True)
class Load:
    """A square wave: the pulses during which the device was kept busy, begin and end in ns, in order."""

    begin: Int64s
    end: Int64s

    def busy_s(self, times: Float64s) -> Float64s:
        """The busy time (s) from the first pulse to each of `times` (s since the first pulse's begin)."""
        edges = (self.edges - self.begin[0]) * 1e-9
        spent = np.repeat(np.cumsum(edges[1::2] - edges[0::2]), 2)
        spent[0::2] -= edges[1::2] - edges[0::2]
        return np.asarray(np.interp(times, edges, spent), dtype=np.float64)

    @property
    def period_s(self) -> float:
        """From one pulse's begin to the next one's."""
        return float(np.median(np.diff(self.begin))) * 1e-9 if self.begin.size > 1 else 0.0

    @property
    def edges(self) -> Int64s:
        """The begin and end of every pulse (ns), in order."""
        return np.stack([self.begin, self.end], axis=1).ravel()


@dataclass(frozen=True)
class Refresh:
    """How often a value was new: `refresh_s`, or `reason` why that is not known.

    With `at_most` nearly every read found a new value: it is made that often at least.
    """

    refresh_s: float | None
    error_s: float | None
    read_s: float
    """How often it was read."""
    reads: int
    changes: int
    at_most: bool = False
    reason: str | None = None


def new_values(series: Series) -> tuple[Series, float]:
    """The values that differ from the one read before, at the middle of the two reads, and the median read period (s).

    When a value was made is known to within the two reads.
    """
    if len(series) < 2:  # noqa: PLR2004 - a change needs two
        return Series(series.t[:0], series.v[:0]), 0.0
    gaps = np.diff(series.t)
    at = np.flatnonzero(np.diff(series.v) != 0)
    return Series(series.t[at + 1] - gaps[at] // 2, series.v[at + 1]), float(np.median(gaps)) * 1e-9


def refresh(series: Series, load: Load | None = None) -> Refresh:
    """How often the value of a channel is made anew, from reads that are more frequent than that.

    Where it changes seldom but with the load, periods that the load itself keeps are left out.
    """
    new, read_s = new_values(series)
    reads, changes = len(series), len(new)
    none = Refresh(None, None, read_s, reads, changes)
    if changes < LEAST_CHANGES:
        length_s = (int(series.t[-1]) - int(series.t[0])) * 1e-9 if reads else 0.0
        times = {0: "did not change", 1: "changed once"}.get(changes, f"changed {changes} times only")
        return _because(none, f"its value {times} in {length_s:.0f} s")
    t = (new.t - new.t[0]).astype(np.float64) * 1e-9
    intervals = np.diff(t)
    few = load is not None and changes <= _FEW_AN_EDGE * 2 * load.begin.size
    edges = (load.edges - new.t[0]) * 1e-9 if load is not None and few else None
    told = _regular(t[:_MOST_CHANGES], read_s, edges)
    # no sensor that is slower than two reads changes from one read to the next, unless it or the read was late
    at_once = float(np.mean(intervals < 1.5 * read_s))
    slower = told is not None and told[0] >= _LATE_READS * read_s and not few
    if at_once > (_SELDOM_LATE if slower else _AT_ONCE):
        bound_s = read_s if changes >= _EVERY_READ * (reads - 1) else 2 * read_s
        return Refresh(bound_s, None, read_s, reads, changes, at_most=True)
    told = told or (None if few else _ragged(intervals, read_s))
    if told is None and few:
        return _because(none, "its value changed with the load, and too seldom else")
    if told is None:
        low, high = np.quantile(intervals, (0.1, 0.9))
        return _because(none, f"its value changes irregularly, mostly {low:.2g} to {high:.2g} s after the one before")
    return Refresh(*told, read_s, reads, changes)


def _regular(t: Float64s, read_s: float, edges: Float64s | None) -> tuple[float, float] | None:
    """The longest period with which the times (s) keep step, and its error; None where they keep step with none.

    Reads that are too far apart for a count of periods still tell it: many times have one phase. Two reads in a period
    are the least (Nyquist), and chance must not look like it among all the periods that are tried.
    """
    shortest_s, longest_s = 2 * read_s, float(np.diff(t).max())
    step = 1 / (4 * t[-1])
    rates = np.arange(1 / longest_s * 0.95, 1 / shortest_s, step)
    if not rates.size:
        return None
    alike = _in_step(t, rates)
    if edges is not None:
        alike[_in_step(edges, rates) > _IN_STEP / 2] = 0.0
    if alike.max() < max(_IN_STEP, float(np.sqrt(np.log(100 * rates.size) / t.size))):
        return None
    first = int(np.flatnonzero(alike >= 0.93 * alike.max())[0])
    near = alike[first : first + 8]
    period_s = 1 / float(rates[first + int(np.argmax(near))])
    phase = float(np.angle(np.exp(2j * np.pi * t / period_s).mean())) / (2 * np.pi)
    number = np.round(t / period_s - phase)
    fitted = np.polyfit(number, t, 1)
    rest = t - np.polyval(fitted, number)
    error_s = float(np.std(rest)) / (float(np.std(number)) * np.sqrt(t.size))
    return float(fitted[0]), error_s


def _in_step(t: Float64s, rates: Float64s) -> Float64s:
    """How alike the phases of the times are at each rate: 1 for all the same, about 0 for any."""
    return np.array([np.abs(np.exp(2j * np.pi * rate * t).mean()) for rate in rates])


def _ragged(intervals: Float64s, read_s: float) -> tuple[float, float] | None:
    """The period of which the intervals are about whole multiples, and its error, for a sensor that keeps no step."""
    base = {*np.quantile(intervals, (0.1, 0.25, 0.5, 0.75)), float(intervals.mean())}
    guesses = [guess for value in base for guess in (value, value / 2, value / 3) if guess >= _COUNTED * read_s]
    tried = [_counted(intervals, guess) for guess in guesses]
    period_s, off, periods = min(tried, key=lambda one: one[1], default=(0.0, 1.0, 0.0))
    if off > _RAGGED or period_s < _COUNTED * read_s:
        return None
    return period_s, float(np.hypot(off * period_s, read_s) / np.sqrt(periods))


def _counted(intervals: Float64s, guess_s: float) -> tuple[float, float, float]:
    """The period near `guess_s`, how far the intervals are off its multiples as a share of it, and the periods."""
    period_s = guess_s
    for _ in range(20):
        periods = np.maximum(1.0, np.round(intervals / period_s))
        better_s = float(intervals.sum() / periods.sum())
        if better_s == period_s:
            break
        period_s = better_s
    off = float(np.sqrt(np.mean((intervals - periods * period_s) ** 2))) / period_s
    return period_s, off, float(periods.sum())


def _because(found: Refresh, reason: str) -> Refresh:
    return Refresh(None, None, found.read_s, found.reads, found.changes, reason=reason)
