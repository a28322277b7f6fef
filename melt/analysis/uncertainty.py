"""How far an energy may be off, as the half width of what is stated.

Each edge of each window: how far it may be off along the clock × the step in power there, added linearly and never
divided by √k when k windows are pooled, for the edges of one run are off in the same direction. What a counter shows
is as old as its last update: at an edge it misses the power there × half the time between reads. Random terms in
quadrature. The instrument's own gain and offset linearly. A sensor whose values are no means may fall in step with
a pulsing load, and sees then only the one half of it: its phases carry a term of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from melt.analysis.trace import GAP_PERIODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.events import Float64s, Window
    from melt.analysis.power_series import Curve

ALIASED = 0.31
"""By this share the energy of a phase is off where momentary values fall in step with a pulsing load."""
BLOCKS = 10
_T_OF_BLOCKS = float(stdtrit(BLOCKS - 1, 0.975))
_TWO_SIDED_95 = 1.96
_SHORT_UPDATES = 3
"""In a window of fewer updates than this, means never show the full step at its edges."""


def error_j(curves: Sequence[Curve], windows: Sequence[Window], *, phase: bool) -> float:
    """The half width (J) of the energy of `windows` taken together, each covered by every curve.

    `phase` says that the windows are parts of the run and not the whole that was measured.
    """
    linear = sum(_linear_j(curve, windows, phase=phase) for curve in curves)
    return linear + float(np.sqrt(sum(_random_j(curve, windows) ** 2 for curve in curves)))


def paused_s(curve: Curve, windows: Sequence[Window]) -> float:
    """For how long of `windows` the curve bridges a pause of more than five updates.

    A counter goes on counting through a pause: only one over an edge of a window loses anything.
    """
    found = 0
    for begin, end in _pauses(curve):
        for window in windows:
            over_edge = begin < window[0] < end or begin < window[1] < end
            if curve.note.quantity == "power" or over_edge:
                found += max(min(end, window[1]) - max(begin, window[0]), 0)
    return found * 1e-9


def _pauses(curve: Curve) -> list[Window]:
    t = curve.energy.t
    long = np.flatnonzero(np.diff(t) > GAP_PERIODS * curve.spacing_s * 1e9)
    return [(int(t[i]), int(t[i + 1])) for i in long]


def _linear_j(curve: Curve, windows: Sequence[Window], *, phase: bool) -> float:
    edges_j = sum(_edges_j(curve, window) for window in windows)
    pauses_j = paused_s(curve, windows) * curve.range_w() / 2
    spent_j = abs(curve.spent(*windows))
    length_s = sum(end - begin for begin, end in windows) * 1e-9
    instrument_j = curve.response.gain_error * spent_j + curve.response.offset_error * length_s
    if curve.note.quantity == "energy":  # its offset is one of the counter, and falls out of a difference
        instrument_j = curve.response.gain_error * spent_j
    aliased_j = ALIASED * spent_j if phase and not curve.averages else 0.0
    return edges_j + pauses_j + instrument_j + aliased_j


def _edges_j(curve: Curve, window: Window) -> float:
    short = (window[1] - window[0]) * 1e-9 < _SHORT_UPDATES * curve.spacing_s
    stepped_j = sum(
        (curve.edge_s + curve.outside_s(edge)) * (curve.range_w() if short else curve.step_w(edge)) for edge in window
    )
    if curve.note.quantity != "energy":
        return stepped_j
    return stepped_j + sum(curve.seen_s * curve.level_w(edge) for edge in window)


def _random_j(curve: Curve, windows: Sequence[Window]) -> float:
    if curve.note.quantity == "energy":
        return 0.0
    watts = np.concatenate([curve.power.within(window).v for window in windows])
    length_s = sum(end - begin for begin, end in windows) * 1e-9
    if watts.size < 2 * BLOCKS:
        return float(np.ptp(watts)) / 2 * length_s if watts.size else 0.0
    return (_of_noise(watts) if curve.averages else _of_samples(watts)) * length_s


def _of_noise(watts: Float64s) -> float:
    """Of the mean of values that leave no time out: what neighbours differ by, wholly taken for noise."""
    one = np.sqrt(np.mean(np.diff(watts) ** 2) / 2)
    return _TWO_SIDED_95 * float(one) / float(np.sqrt(watts.size))


def _of_samples(watts: Float64s) -> float:
    """Of the mean of momentary values, by means of blocks: neighbours under a slow beat are no independent samples."""
    size = watts.size // BLOCKS
    means = watts[: size * BLOCKS].reshape(BLOCKS, size).mean(axis=1)
    return _T_OF_BLOCKS * float(means.std(ddof=1)) / float(np.sqrt(BLOCKS))
