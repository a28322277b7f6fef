"""The mapping of the clocks, checked by the power itself: a pattern of load that the device draws before a run. Pure.

The device notes when it was busy, on its own clock; the meter saw the power, mapped onto that clock. How far the one
has to be moved to fit the other best is how far the mapping is off, plus what the power itself lags behind the load.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from melt.records import Strict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.events import Float64s, Int64s

LENGTH_MS, ON_MS, OFF_MS = 3000, 170, 130
"""What the device is asked to do: not a divisor of a second, nor of a mains period."""
_REACH_S = 0.1
_LEAST_FIT = 0.5
_LEAST_SAMPLES = 50
_STEP_S = 0.0005


class PulseCheck(Strict):
    """How far the meter's power lies behind the device's pulses, or why that cannot be told."""

    lag_s: float | None
    fit: float | None = None
    """The correlation at that lag, 1 at best."""
    why: str | None = None


def pulses_in(events: bytes) -> tuple[tuple[int, int], ...]:
    """When the device was busy, in ns of its clock, from the lines that it wrote; what is no pair is left out."""
    begun: dict[int, int] = {}
    found = []
    for line in events.splitlines():
        try:
            said = json.loads(line)
            number, t, name = int(said["i"]), int(said["t"]), said["ev"]
        except (ValueError, TypeError, KeyError):
            continue
        if name == "step.begin":
            begun[number] = t
        elif name == "step.end" and number in begun:
            found.append((begun.pop(number), t))
    return tuple(found)


def check(t_ns: Int64s, power_w: Float64s, pulses: Sequence[tuple[int, int]], period_s: float) -> PulseCheck:
    """How far the power at `t_ns` (each the end of a mean over `period_s`) lags behind the pulses."""
    if not pulses:
        return PulseCheck(lag_s=None, why="the device drew no pulses")
    begin, end = pulses[0][0] - int(_REACH_S * 1e9), pulses[-1][1] + int(_REACH_S * 1e9)
    near = (t_ns >= begin) & (t_ns <= end)
    if int(near.sum()) < _LEAST_SAMPLES:
        return PulseCheck(lag_s=None, why=f"the meter gave {int(near.sum())} values while the device drew its pulses")
    t_s, power = (t_ns[near] - begin) * 1e-9, power_w[near]
    edges = np.array([[on - begin, off - begin] for on, off in pulses], dtype=np.float64) * 1e-9
    lags = np.arange(-_REACH_S, _REACH_S + _STEP_S / 2, _STEP_S)
    fits = np.array([_correlation(_busy(t_s - lag, edges, period_s), power) for lag in lags])
    best = int(np.argmax(fits))
    if not np.isfinite(fits[best]) or fits[best] < _LEAST_FIT:
        return PulseCheck(lag_s=None, why="the power does not follow the device's pulses: is it behind this meter?")
    return PulseCheck(
        lag_s=round(float(lags[best] + _between(fits, best) * _STEP_S), 6), fit=round(float(fits[best]), 4)
    )


def _busy(t_s: Float64s, edges: Float64s, period_s: float) -> Float64s:
    """The share of each period, ending at `t_s`, in which the device was busy."""
    corners = edges.reshape(-1)
    total = np.concatenate(([0.0], np.cumsum(np.diff(corners) * (np.arange(corners.size - 1) % 2 == 0))))
    until = np.interp(t_s, corners, total)
    return np.asarray((until - np.interp(t_s - period_s, corners, total)) / period_s, dtype=np.float64)


def _correlation(a: Float64s, b: Float64s) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size else float("-inf")


def _between(fits: Float64s, best: int) -> float:
    """Where the top of the parabola through the best and its neighbours lies, in steps from the best."""
    if not 0 < best < fits.size - 1:
        return 0.0
    left, top, right = fits[best - 1 : best + 2].tolist()
    bend = left - 2 * top + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0
