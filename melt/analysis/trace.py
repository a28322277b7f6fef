"""The trace as one pair of arrays a channel, and what is asked of such a series over a window.

The names of channels that melt itself gives a meaning to stand here; every other channel is known by its quantity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from melt.analysis.events import Float64s, Int64s, Window
    from melt.records import Quantity, SensorNote

ENGINE_HWM = "engine.vm_hwm"
ENGINE_RSS: Mapping[str, str] = MappingProxyType(
    {"anon": "engine.rss_anon", "file": "engine.rss_file", "shmem": "engine.rss_shmem"}
)
ENGINE_SWAP = "engine.vm_swap"
ENGINE_MAJFLT = "engine.majflt"
ENGINE_CPU = "engine.cpu_s"
BUSY_CPU = "cpu.busy_s"
STOLEN_CPU = "cpu.steal_s"
AVAILABLE = "memory.available"
PAGED_IN = "vm.pswpin"

GAP_PERIODS = 5
"""A pause between two values of more than this many periods is a gap."""
_FASTER = 10
"""How many times faster than in its fastest tenth a counter may have grown where it wrapped."""


@dataclass(frozen=True)
class Series:
    """The values of one channel in time order: `t` (ns) and `v`, of one length, errors left out."""

    t: Int64s
    v: Float64s

    def __len__(self) -> int:
        return int(self.t.size)

    def within(self, window: Window) -> Series:
        """The samples inside `window`, both ends included."""
        low, high = np.searchsorted(self.t, window[0], "left"), np.searchsorted(self.t, window[1], "right")
        return Series(self.t[low:high], self.v[low:high])

    def covers(self, window: Window) -> bool:
        return len(self) > 0 and bool(self.t[0] <= window[0] and self.t[-1] >= window[1])

    def at(self, t: int) -> float:
        """The value at `t` (ns), as `along` gives it."""
        return float(self.along(np.array([t]))[0])

    def along(self, times: Int64s) -> Float64s:
        """The values at `times`, interpolated between neighbours and held at the ends; the series is not empty."""
        # relative to the first: a float64 holds nanoseconds since boot for 104 days only
        since = (self.t - self.t[0]).astype(np.float64)
        return np.asarray(np.interp((times - self.t[0]).astype(np.float64), since, self.v), dtype=np.float64)

    def grown(self, window: Window) -> float | None:
        """By how much a counter that does not wrap grew over `window`; None where it does not cover it."""
        return self.at(window[1]) - self.at(window[0]) if self.covers(window) else None

    def shared(self, window: Window) -> Window | None:
        """The part of `window` that the samples reach over; None when that is less than half of it.

        An engine's process is gone soon after its last inference, so its last sample lies inside the window.
        """
        if not len(self):
            return None
        begin, end = max(window[0], int(self.t[0])), min(window[1], int(self.t[-1]))
        return (begin, end) if end - begin >= (window[1] - window[0]) / 2 else None

    def mean(self, window: Window) -> float | None:
        """The time-weighted mean over `window`: trapezoids, interpolated at its edges, held where samples end.

        None without a sample inside.
        """
        inside = self.within(window)
        if not len(inside):
            return None
        t = np.concatenate(([window[0]], inside.t, [window[1]]))
        v = np.concatenate(([self.at(window[0])], inside.v, [self.at(window[1])]))
        return float(np.trapezoid(v, (t - window[0]) * 1e-9) / ((window[1] - window[0]) * 1e-9))

    def unwrapped(self, wraps_at: float | None) -> Series:
        """A cumulative counter without its wraps: a fall by more than half of `wraps_at` adds it once.

        That holds where the growth it would mean is no faster than the counter is known to grow. Any other fall is a
        reset, and a pause in which the counter may have wrapped unseen is as bad: only what follows the last one is
        kept. A single low value between two that go on from each other is a bad read, and left out.
        """
        told = self._without_dips()
        step = np.diff(told.v)
        if wraps_at is None:
            wraps = unseen = np.zeros(step.size, dtype=np.bool_)
        else:
            rate, since = _growth(told)
            wraps = (step < -wraps_at / 2) & (step + wraps_at <= _FASTER * rate * since)
            unseen = rate * np.diff(told.t) >= wraps_at
        broken = np.flatnonzero(((step < 0) & ~wraps) | unseen)
        start = int(broken[-1]) + 1 if broken.size else 0
        lifted = told.v + np.concatenate(([0.0], np.cumsum(wraps) * (wraps_at or 0.0)))[: len(told)]
        return Series(told.t[start:], lifted[start:])

    def _without_dips(self) -> Series:
        """The series without values below those beside them, where these go on from each other without a pause."""
        begins = np.concatenate(([0], np.flatnonzero(np.diff(self.v) != 0) + 1))
        if begins.size < 3:  # noqa: PLR2004  # one low value, and one on each side
            return self
        v, pauses = self.v[begins], np.diff(self.t)
        long = np.concatenate(([0], np.cumsum(pauses > GAP_PERIODS * np.median(pauses))))
        together = long[begins[2:]] == long[begins[1:-1] - 1]
        low = np.concatenate(([False], (v[1:-1] < v[:-2]) & (v[2:] >= v[:-2]) & together, [False]))
        if not low.any():
            return self
        good = ~np.repeat(low, np.diff(np.concatenate((begins, [len(self)]))))
        return Series(self.t[good], self.v[good])

    def longest_pause_s(self, window: Window) -> float:
        """The longest time between two neighbouring values that touches `window`; an edge beyond all values counts."""
        low = max(int(np.searchsorted(self.t, window[0], "right")) - 1, 0)
        high = int(np.searchsorted(self.t, window[1], "left")) + 1
        times = self.t[low:high]
        begin = min(window[0], int(times[0])) if times.size else window[0]
        end = max(window[1], int(times[-1])) if times.size else window[1]
        return float(np.diff(np.concatenate(([begin], times, [end]))).max()) * 1e-9


def _growth(counter: Series) -> tuple[float, Float64s]:
    """How fast a counter grows in its fastest tenth (an ns), and how long (ns) before each value the last new one came.

    That is at least as long as usual, for the first value may have come just before a new one.
    """
    step = np.diff(counter.v)
    new = np.concatenate(([True], step != 0))
    held = np.maximum.accumulate(np.where(new, np.arange(new.size), 0))[: len(counter)]
    since = (counter.t[1:] - counter.t[held[:-1]]).astype(np.float64)
    grew = step > 0
    if not grew.any():
        return 0.0, since
    since = np.maximum(since, np.median(since[grew]))
    return float(np.quantile(step[grew] / since[grew], 0.9, method="lower")), since


@dataclass(frozen=True)
class Trace:
    """A trace by channel; `notes` says what the channels are."""

    series: Mapping[str, Series]
    notes: Mapping[str, SensorNote]
    _none: Series = field(default_factory=lambda: Series(np.array([], dtype=np.int64), np.array([])))

    def __getitem__(self, channel: str) -> Series:
        """The series of a channel, empty where the trace has none."""
        return self.series.get(channel, self._none)

    def of(self, *quantities: Quantity) -> dict[str, Series]:
        """The channels of these quantities that gave a value, in the order of their names."""
        return {
            name: self.series[name]
            for name in sorted(self.notes)
            if self.notes[name].quantity in quantities and name in self.series
        }


def by_channel(trace: pd.DataFrame, notes: Mapping[str, SensorNote]) -> Trace:
    """Split a trace (columns as in trace.parquet) into its channels, in time linear in its rows."""
    value = trace["value"].to_numpy(dtype=np.float64)
    known = np.isfinite(value)
    codes, channels = trace["channel"].factorize()
    codes, t, value = codes[known], trace["t_ns"].to_numpy(dtype=np.int64)[known], value[known]
    order = np.argsort(codes, kind="stable")  # a radix sort: linear
    bounds = np.searchsorted(codes[order], np.arange(len(channels) + 1))
    series = {}
    for index, channel in enumerate(channels):
        rows = order[bounds[index] : bounds[index + 1]]
        if np.any(np.diff(t[rows]) < 0):
            rows = rows[np.argsort(t[rows], kind="stable")]
        if rows.size:
            series[str(channel)] = Series(t[rows], value[rows])
    return Trace(series, notes)


def is_cap(channel: str) -> bool:
    """Whether a clock channel is a limit (`cpu.policy0.cap`) and no clock."""
    return "cap" in re.split(r"[._-]", channel)
