"""One channel of power or energy as a curve of cumulative energy, and how well the curve is known along the clock.

Polls of a held register are reduced to its updates first. The stamp of a mean belongs to the middle of its interval,
and a lag is moved back. Power is then integrated by trapezoids; a counter is differenced, its wraps lifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.trace import Series
from melt.records import Response

if TYPE_CHECKING:
    from melt.analysis.events import Window
    from melt.analysis.trace import Trace
    from melt.records import SensorNote

FEW_CHANGES = 8
"""Fewer changes of value than this in a whole trace tell nothing of how often it is made anew."""
SPARE_PERIODS = 2
"""How many updates a window may reach beyond the curve: a job's trace ends soon after its engine."""
BEYOND = 1e15
"""No sensor of a device means so many watts or joules."""
_TOGETHER = 0.9
"""A mean of at least this share of the time between two updates leaves nothing of note out."""


@dataclass(frozen=True)
class Curve:
    """A channel's cumulative energy and its power, both at stamps that are moved to when it was so."""

    name: str
    note: SensorNote
    energy: Series
    """J, from the first stamp on."""
    power: Series
    """W: one value an update; of a counter the mean between two updates, in the middle between them."""
    response: Response
    refresh_s: float
    guessed: bool
    """Whether `refresh_s` was found in this trace instead of being known."""

    @property
    def spacing_s(self) -> float:
        """From one update that is seen to the next: a refresh, or a poll where that takes longer."""
        return max(self.refresh_s, self.note.period_s)

    @property
    def averages(self) -> bool:
        """Whether its values together leave no time out, so that a pulsing load cannot fall between them."""
        whole = self.refresh_s >= _TOGETHER * self.note.period_s
        return self.note.quantity == "energy" or (self.response.averages is True and whole)

    @property
    def edge_s(self) -> float:
        """How far off an edge of a window may be along this curve, at least half a refresh period."""
        lag_s = self.response.lag_error_s
        unknown_s = self.refresh_s / 2 if lag_s is None else lag_s
        if self.note.quantity == "power" and self.response.averages is None:
            unknown_s += self.refresh_s / 2  # its stamps may belong to the middle of an interval, or not
        seen_s = self.seen_s * (2 if self.guessed else 1)  # one that is guessed is not moved to the middle
        between_s = self.spacing_s / 4  # what a straight line between two updates misses of a step, at most
        return max(self.note.clock_bound_s + unknown_s + seen_s + between_s, self.refresh_s / 2)

    @property
    def seen_s(self) -> float:
        """Half of the time between the two polls that a new value came between, or of how old it was at a poll."""
        return min(self.refresh_s, self.note.period_s) / 2

    def outside_s(self, t: int) -> float:
        """How far `t` (ns) lies outside the curve; 0 inside."""
        return max(int(self.energy.t[0]) - t, t - int(self.energy.t[-1]), 0) * 1e-9

    def covers(self, window: Window) -> bool:
        """Whether the curve reaches over `window`, but for the last updates that a trace may lack."""
        return max(map(self.outside_s, window)) <= SPARE_PERIODS * self.spacing_s

    def spent(self, *windows: Window) -> float:
        """Energy (J) over windows that are covered, together; power beside the curve's ends is that at its ends."""
        edges = np.array(windows, dtype=np.int64).reshape(-1)
        joules = self.energy.along(edges)
        before_s = np.maximum(self.energy.t[0] - edges, 0) * 1e-9
        after_s = np.maximum(edges - self.energy.t[-1], 0) * 1e-9
        joules = joules - before_s * self.power.v[0] + after_s * self.power.v[-1]
        return float(np.diff(joules.reshape(-1, 2), axis=1).sum())

    def range_w(self, window: Window | None = None) -> float:
        """Highest less lowest power of the updates in `window`, the ones beside it included; without one, of all."""
        near = self.power if window is None else self._beside(window)
        return float(np.ptp(near.v)) if len(near) else 0.0

    def step_w(self, t: int) -> float:
        """By how much power changes around `t` (ns), over as long as an edge may be off and a mean may blur it."""
        return self.range_w(self._around(t))

    def level_w(self, t: int) -> float:
        """The highest power around `t` (ns), whatever its sign, over as long as for a step."""
        around = self._around(t)
        near = self.power if around is None else self._beside(around)
        return float(np.abs(near.v).max()) if len(near) else 0.0

    def _around(self, t: int) -> Window | None:
        """The updates that tell of `t` (ns); None for all of them, where it lies outside the curve."""
        if self.outside_s(t) > 0:
            return None
        reach_ns = int((self.edge_s + 1.5 * self.spacing_s) * 1e9)
        return t - reach_ns, t + reach_ns

    def _beside(self, window: Window) -> Series:
        """The updates in `window`, the ones beside it included."""
        low = max(int(np.searchsorted(self.power.t, window[0], "right")) - 1, 0)
        high = int(np.searchsorted(self.power.t, window[1], "left")) + 1
        return Series(self.power.t[low:high], self.power.v[low:high])


def curve(trace: Trace, name: str) -> Curve | None:
    """The curve of a channel of power or energy; None where it gave fewer than two values."""
    note, polled = trace.notes[name], _apart(_possible(trace[name]))
    response = note.response or Response.model_validate({})
    if note.quantity == "energy":
        polled = polled.unwrapped(note.wraps_at)
    if len(polled) < 2:  # noqa: PLR2004  # a line has two ends
        return None
    known_s = response.refresh_s
    refresh_s = _refresh_s(polled, note.period_s) if known_s is None else known_s
    seen = _updates(polled, refresh_s, note.period_s, known=known_s is not None)
    if note.quantity == "energy":
        moved = Series(seen.t - _ns(response.lag_s), seen.v)
        return _of_counter(name, moved, note, response, refresh_s)
    half_ns = _ns(refresh_s / 2) if response.averages else 0
    moved = Series(seen.t - _ns(response.lag_s) - half_ns, seen.v)
    return _of_power(name, moved, note, response, refresh_s, half_ns)


def _of_counter(name: str, moved: Series, note: SensorNote, response: Response, refresh_s: float) -> Curve:
    step_s = np.diff(moved.t) * 1e-9
    power = Series((moved.t[1:] + moved.t[:-1]) // 2, np.diff(moved.v) / step_s)
    energy = Series(moved.t, moved.v - moved.v[0])
    return Curve(name, note, energy, power, response, refresh_s, response.refresh_s is None)


def _of_power(name: str, moved: Series, note: SensorNote, response: Response, refresh_s: float, half_ns: int) -> Curve:
    # a mean holds for its whole interval: the first and the last one reach half of it further
    t = np.concatenate(([moved.t[0] - half_ns], moved.t, [moved.t[-1] + half_ns]))
    v = np.concatenate(([moved.v[0]], moved.v, [moved.v[-1]]))
    step_j = np.diff(t) * 1e-9 * (v[1:] + v[:-1]) / 2
    energy = Series(t, np.concatenate(([0.0], np.cumsum(step_j))))
    return Curve(name, note, energy, moved, response, refresh_s, response.refresh_s is None)


def _possible(polled: Series) -> Series:
    """The series without what no watt and no joule can be: a register's word for an error."""
    fit = np.abs(polled.v) <= BEYOND
    return polled if fit.all() else Series(polled.t[fit], polled.v[fit])


def _apart(polled: Series) -> Series:
    """The series without a second value at the same stamp."""
    first = np.concatenate(([True], np.diff(polled.t) > 0))[: len(polled)]
    return polled if first.all() else Series(polled.t[first], polled.v[first])


def _refresh_s(polled: Series, period_s: float) -> float:
    """How often the value seems to be made anew, from the whole trace: idle, load and engine.

    Not from one phase, for a steady one repeats its values. Half of all changes came later than this, so that it is
    rather too long than too short.
    """
    at = polled.t[1:][np.diff(polled.v) != 0]
    return max(period_s, float(np.median(np.diff(at))) * 1e-9) if at.size >= FEW_CHANGES else period_s


def _updates(polled: Series, refresh_s: float, period_s: float, *, known: bool) -> Series:
    """One value an update: a change, or a value held for a whole refresh period, at the stamp of its making."""
    poll_ns, refresh_ns = _ns(period_s), _ns(refresh_s)
    changed = np.flatnonzero(np.diff(polled.v) != 0) + 1
    if refresh_s <= period_s or not changed.size:
        # each poll finds a new value, half a refresh old in the mean; of an unknown age it keeps its stamp
        return Series(polled.t - (refresh_ns // 2 if known and refresh_s <= period_s else 0), polled.v)
    since_poll = np.minimum(polled.t[changed] - polled.t[changed - 1], poll_ns)
    made = polled.t[changed] - since_poll // 2
    # the first value was made before the trace began, and the last one is held to the trace's end
    first = made[0] - refresh_ns * max(int(np.ceil((made[0] - polled.t[0]) / refresh_ns)), 1)
    end = made[-1] + refresh_ns * max(int((polled.t[-1] - made[-1]) // refresh_ns) + 1, 1)
    begins = np.concatenate(([first], made))
    ends = np.concatenate((made, [end]))
    seen_to = np.concatenate((polled.t[changed - 1], [polled.t[-1]]))
    values = polled.v[np.concatenate(([0], changed))]
    times = np.maximum(np.rint((ends - begins) / refresh_ns).astype(np.int64), 1)
    which = np.repeat(np.arange(times.size), times)
    number = np.arange(which.size) - np.repeat(np.cumsum(times) - times, times)
    t = begins[which] + (number * ((ends - begins) / times)[which]).astype(np.int64)
    # what nobody saw is a gap and no held value
    there = (number == 0) | (t <= seen_to[which])
    return Series(t[there], values[which[there]])


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
