"""How a sensor follows a load that is known, and what the current of a battery's gauge means.

The load is a square wave whose edges the device stamped itself. Nothing here touches a device: series in, findings out.
A finding is a value with its error, or a sentence that says why there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from melt.analysis.refresh import Load, Refresh, new_values
from melt.analysis.trace import Series

if TYPE_CHECKING:
    from melt.analysis.events import Bools, Float64s

_LAG_STEP_S = 0.005
_EARLY, _LATE = 0.1, 0.8
"""Lags are tried from so many periods of the load before it to so many after: a whole one later looks as none does."""
_PARTS = 8
"""The record is cut into so many parts; how much they disagree is the error."""
_PULSES = 4
_LEAST_UPDATES = 24
_LEAST_STEP = 4.0
"""A step of the load is seen where it is so many times its own error."""
_LEAST_RISE = 0.02
_PLAUSIBLE_A = (0.02, 15.0)
"""What a device that computes draws of its battery."""


@dataclass(frozen=True)
class Followed:
    """How a sensor followed a square wave. `averages` is None where the two ways look alike."""

    lag_s: float
    lag_error_s: float
    averages: bool | None
    step: float
    """By how much the load raised the value, in the channel's unit."""
    base: float
    """The value without the load."""
    updates: int


@dataclass(frozen=True)
class Agreement:
    """A channel against what is known: channel = gain · known + offset, each with its standard error."""

    gain: float
    gain_error: float
    offset: float
    offset_error: float
    n: int


@dataclass(frozen=True)
class Gauge:
    """What the number in a battery's `current_now` is."""

    unit: Literal["ua", "ma"]
    discharging: Literal["negative", "positive"]
    idle_a: float
    loaded_a: float


# ---------------------------------------------------------------------------------------------------- response


def follow(
    series: Series, load: Load, found: Refresh, *, counts: bool = False, assumed: bool | None = None
) -> Followed | str:
    """How a channel of power (of energy, where it `counts`) followed the load; a sentence where that cannot be told.

    A model of the sensor, averaging or not, is laid over the record at every lag below a period of the load; the best
    one's lag is the mean over what the record leaves likely, its error what eight parts of the record make of it.
    Where the two models do as well, what is `assumed` of averaging decides which lag is told.
    """
    if found.refresh_s is None:
        return f"how often its value is new is not known: {found.reason}"
    if load.begin.size < _PULSES:
        return f"the load had {load.begin.size} pulses only, {_PULSES} are needed"
    updates, window_s = _updates(series, found)
    if counts:
        updates = _differenced(updates)
    if len(updates) < _LEAST_UPDATES:
        return f"it gave {len(updates)} new values only, {_LEAST_UPDATES} are needed"
    if not np.ptp(updates.v):
        return "its value never changed"
    read_s = found.read_s
    steady = _fit(updates, load, read_s, period_s=load.period_s, ahead_s=read_s / 2)
    averaging = _fit(updates, load, window_s, period_s=load.period_s)
    told = not counts and not found.at_most and window_s >= 2 * read_s
    averages = True if counts else _clearly(averaging, steady) if told else None
    best = averaging if (assumed if averages is None else averages) else steady
    if best.step < _LEAST_STEP * best.step_error:
        return "its value does not follow the load"
    # a stamp is the middle of two reads, and where they keep step with the sensor all stamps are off alike; where the
    # reads are no faster than the sensor, a value is up to a whole read old, and the next run's in another step with it
    error_s = 2 * best.lag_error_s + (read_s if found.at_most else read_s / 2)
    return Followed(max(0.0, best.lag_s), error_s, averages, best.step, best.base, len(updates))


def as_power(counter: Series) -> Series:
    """Power (W) of a counter (J) that does not wrap: between two of its values the mean, at even steps.

    So a mean over any window is energy ÷ time, however ragged the reads are.
    """
    new, read_s = new_values(counter)
    if len(new) < 2:  # noqa: PLR2004 - a difference needs two
        return Series(new.t[:0], new.v[:0])
    grid = np.arange(new.t[0], new.t[-1], max(int(read_s * 1e9), 1), dtype=np.int64)
    return Series(grid[1:], np.diff(new.along(grid)) / (np.diff(grid) * 1e-9))


def _differenced(counter: Series) -> Series:
    spent, length_s = np.diff(counter.v), np.diff(counter.t).astype(np.float64) * 1e-9
    return Series(counter.t[1:], spent / np.maximum(length_s, 1e-9))


@dataclass(frozen=True)
class _Fit:
    lag_s: float
    lag_error_s: float
    step: float
    step_error: float
    base: float
    rest: float
    """What the model leaves unexplained: a sum of squares."""
    rest_by_part: Float64s


def _updates(series: Series, found: Refresh) -> tuple[Series, float]:
    """Each value when it was made, also those that were the same as the one before, and how long one lasts (s)."""
    if found.at_most or found.refresh_s is None:  # the reads themselves are the finest that is known
        return series, found.read_s
    new, _ = new_values(series)
    period_s = found.refresh_s
    parts = np.maximum(1, np.round(np.diff(new.t) * 1e-9 / period_s)).astype(np.int64)
    at = np.repeat(np.arange(len(new) - 1), parts)
    part = np.arange(at.size) - np.repeat(np.cumsum(parts) - parts, parts)
    length = np.diff(new.t)[at] / parts[at]
    return Series(new.t[at] + (part * length).astype(np.int64), new.v[at]), period_s


def _fit(updates: Series, load: Load, window_s: float, *, period_s: float, ahead_s: float = 0.0) -> _Fit:
    """The mean of the load over `window_s` before each update, at the best lag: least squares, with a slow drift.

    The window ends `ahead_s` after the update's stamp.
    """
    t = (updates.t - load.begin[0]).astype(np.float64) * 1e-9
    lags = np.arange(-_EARLY * period_s, _LATE * period_s, _LAG_STEP_S)
    ends = t[None, :] - lags[:, None] + ahead_s
    share = (load.busy_s(ends) - load.busy_s(ends - window_s)) / window_s
    x = 2 * (t - t[0]) / max(float(t[-1] - t[0]), 1e-9) - 1
    mean, scale = float(updates.v.mean()), float(np.std(updates.v))
    known = np.stack([np.ones_like(x), x, x * x, (updates.v - mean) / scale], axis=1)
    products = np.stack([_products(known[at], share[:, at]) for at in np.array_split(np.arange(t.size), _PARTS)])
    whole = products.sum(axis=0)
    rest, found = _solved(whole)
    lag_s, spread_s = _likely(lags, rest, t.size)
    best = int(np.argmin(rest))
    without = np.array([_likely(lags, _solved(whole - part)[0], t.size)[0] for part in products])
    jackknife_s = float(np.sqrt((_PARTS - 1) / _PARTS * np.sum((without - without.mean()) ** 2)))
    residual = np.append(-found[best], 1.0)
    inverse = np.linalg.pinv(whole[best, :4, :4])
    return _Fit(
        lag_s=lag_s,
        lag_error_s=float(np.hypot(spread_s, jackknife_s)),
        step=scale * float(found[best][3]),
        step_error=scale * float(np.sqrt(rest[best] / max(t.size - 5, 1) * inverse[3, 3])),
        base=mean + scale * float(found[best][0]),
        rest=float(rest[best]),
        rest_by_part=np.einsum("i,pij,j->p", residual, products[:, best], residual),
    )


def _products(known: Float64s, share: Float64s) -> Float64s:
    """The products of all pairs of the columns 1, x, x², share and value, summed over the rows: lags × 5 × 5."""
    whole = np.empty((share.shape[0], 5, 5))
    rest = [0, 1, 2, 4]
    whole[np.ix_(range(share.shape[0]), rest, rest)] = known.T @ known
    whole[:, 3, rest] = whole[:, rest, 3] = share @ known
    whole[:, 3, 3] = (share * share).sum(axis=1)
    return whole


def _solved(products: Float64s) -> tuple[Float64s, Float64s]:
    """What is left (sum of squares) and the four coefficients, for each lag."""
    a, b = products[:, :4, :4], products[:, :4, 4]
    ridge = 1e-9 * np.trace(a, axis1=1, axis2=2)[:, None, None] * np.eye(4)
    found = np.linalg.solve(a + ridge, b[..., None])[..., 0]
    rest = products[:, 4, 4] - 2 * np.einsum("li,li->l", found, b) + np.einsum("li,lij,lj->l", found, a, found)
    # a load that lowers the value is something else that happened at the same time
    return np.where(found[:, 3] > 0, np.maximum(rest, 1e-12), np.inf), found


def _likely(lags: Float64s, rest: Float64s, n: int) -> tuple[float, float]:
    """Mean and spread of the lag, each weighted by how likely the residuals make it."""
    least = float(rest.min())
    if not np.isfinite(least):
        return 0.0, float(lags[-1])
    weight = np.exp(-(rest - least) / (2 * max(least, 1e-6 * n) / n))
    weight /= weight.sum()
    mean = float((weight * lags).sum())
    return mean, float(np.sqrt((weight * (lags - mean) ** 2).sum()))


def _clearly(averaging: _Fit, steady: _Fit) -> bool | None:
    """Whether it averages, where the parts of the record agree on that."""
    apart = steady.rest_by_part - averaging.rest_by_part
    error = float(np.std(apart, ddof=1)) / np.sqrt(apart.size)
    mean = float(apart.mean())
    return mean > 0 if abs(mean) > error else None


# ------------------------------------------------------------------------------------------------ gain, offset


def plateaus(series: Series, load: Load, settle_s: float) -> tuple[Float64s, Bools]:
    """The mean of a channel over every pulse and every pause, from `settle_s` after its begin; and which are pulses.

    A plateau without a value is left out.
    """
    settle = int(settle_s * 1e9)
    spans = [(int(b), int(e), True) for b, e in zip(load.begin, load.end, strict=True)]
    spans += [(int(e), int(b), False) for e, b in zip(load.end[:-1], load.begin[1:], strict=True)]
    means, busy = [], []
    for begin, end, on in sorted(spans):
        inside = (series.t >= begin + settle) & (series.t <= end)
        if inside.any():
            means.append(float(series.v[inside].mean()))
            busy.append(on)
    return np.array(means, dtype=np.float64), np.array(busy, dtype=np.bool_)


def agreement(measured: Float64s, known: Float64s) -> Agreement | str:
    """A channel's plateaus against those of another one that is trusted, or a sentence why that tells nothing."""
    if measured.size != known.size or measured.size < 2 * _LEAST_STEP:
        return f"{min(measured.size, known.size)} plateaus were seen by both, {2 * _LEAST_STEP:.0f} are needed"
    x = known - known.mean()
    if float(np.ptp(known)) <= 1e-9 * max(1.0, float(np.abs(known).max())):
        return "the channel that is trusted did not change with the load"
    gain = float((x * measured).sum() / (x * x).sum())
    offset = float(measured.mean() - gain * known.mean())
    rest = measured - gain * known - offset
    variance = float((rest**2).sum()) / (measured.size - 2)
    gain_error = float(np.sqrt(variance / (x * x).sum()))
    offset_error = float(np.sqrt(variance * (1 / measured.size + known.mean() ** 2 / (x * x).sum())))
    return Agreement(gain, gain_error, offset, offset_error, int(measured.size))


def against_constant(series: Series, begin: int, end: int, known: float) -> Agreement | str:
    """A channel against one known value that held from `begin` to `end` (ns); the offset is taken to be nothing."""
    inside = series.v[(series.t >= begin) & (series.t <= end)]
    if inside.size < _PARTS:
        return f"it gave {inside.size} values only while the known load held"
    parts = np.array([part.mean() for part in np.array_split(inside, _PARTS)])
    error = float(parts.std(ddof=1)) / np.sqrt(_PARTS)
    return Agreement(float(inside.mean()) / known, error / known, 0.0, 0.0, int(inside.size))


# ---------------------------------------------------------------------------------------------- a battery's gauge


def gauge(raw: Series, load: Load, settle_s: float) -> Gauge | str:
    """Unit and sign of a battery's current from its bare numbers under a square wave, no charger being plugged in.

    A sentence where they are ambiguous: then no energy may be computed from it.
    """
    means, busy = plateaus(raw, load, settle_s)
    on, off = means[busy], means[~busy]
    if min(on.size, off.size) < 3:  # noqa: PLR2004 - a spread needs as many
        return f"the gauge was seen under {on.size} pulses and in {off.size} pauses, 3 of each are needed"
    if not (np.all(means > 0) or np.all(means < 0)):
        return "the current changes its sign while no charger is plugged in, so no sign means discharging"
    loaded, idle = float(np.abs(on).mean()), float(np.abs(off).mean())
    error = float(np.hypot(np.abs(on).std(ddof=1) / np.sqrt(on.size), np.abs(off).std(ddof=1) / np.sqrt(off.size)))
    # on a busy device some pulses are weaker than others; yet each of them is above every pause
    apart = float(np.abs(on).min()) > float(np.abs(off).max()) or loaded - idle > _LEAST_STEP * error
    if not apart or loaded - idle <= _LEAST_RISE * idle:
        return (
            f"the load does not raise the current ({idle:.4g} without it, {loaded:.4g} under it, as the gauge prints "
            "it): a load that is heavier against the rest, such as with the screen off, would tell more"
        )
    low, high = _PLAUSIBLE_A
    units: dict[Literal["ua", "ma"], float] = {"ua": 1e6, "ma": 1e3}
    fitting = [unit for unit, per_a in units.items() if low <= loaded / per_a <= high]
    if len(fitting) != 1:
        return f"{loaded:.4g} under load is no plausible current in µA nor in mA ({low:g} to {high:g} A)"
    per_a = units[fitting[0]]
    return Gauge(fitting[0], "negative" if means[0] < 0 else "positive", idle / per_a, loaded / per_a)
