"""The level of a night, and how far the next one may lie from those before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from scipy.special import stdtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Sequence

ESTABLISHED = 14
"""So many nights before it carry a verdict of one."""
PROVISIONAL = 5
LEAST_CHANGE = 0.03
ALPHA = 0.01
"""Of the prediction interval in a series that is not established."""
TIMES = 3.0
MAD_TO_SD = 1.4826
"""The median absolute deviation of a normal distribution × this is its standard deviation."""


@dataclass(frozen=True, slots=True)
class Level:
    """One session on the scale that is judged: its median, how many runs it has, and the variance between them."""

    at: float
    runs: int
    variance: float | None

    def back(self, *, log: bool) -> float:
        """The median in its own unit."""
        return math.exp(self.at) if log else self.at


@dataclass(frozen=True, slots=True)
class Limits:
    """The middle of a baseline and how far a session may lie from it (both on the scale); what decided the latter."""

    centre: float
    limit: float
    why: str

    def side(self, level: Level, share: float = 1.0) -> int:
        """1 above the limits, or a share of them, −1 below, 0 within."""
        off = level.at - self.centre
        return 0 if abs(off) <= share * self.limit else 1 if off > 0 else -1

    def share(self, at: float, *, log: bool) -> float:
        """A level as a change over the middle, less one."""
        return math.expm1(at - self.centre) if log else (at - self.centre) / abs(self.centre)

    def share_of_limit(self, *, log: bool) -> float:
        return math.expm1(self.limit) if log else self.limit / abs(self.centre)


def level_of(values: Sequence[float], *, log: bool) -> Level | None:
    """The level of a session's runs; None without a finite one. `log` needs them to be positive."""
    known = [math.log(value) if log else value for value in values if math.isfinite(value)]
    if not known:
        return None
    if len(known) == 1:
        return Level(known[0], 1, None)
    mean = sum(known) / len(known)
    variance = sum((one - mean) ** 2 for one in known) / (len(known) - 1)
    return Level(median(known), len(known), variance)


def limits(base: Sequence[Level], runs: int, *, established: bool, log: bool) -> Limits | None:
    """How far a session of so many runs may lie from the nights of a baseline; None under `PROVISIONAL` of them.

    In an `established` series 3 × 1.4826 × MAD around the median, before that Student's prediction interval around the
    mean; the spread at least the error that one median has by the runs' own spread, and the whole at least 3 %.
    """
    if len(base) < PROVISIONAL:
        return None
    at = [one.at for one in base]
    error = median_error(base, runs)
    if established:
        centre = median(at)
        spread, times, why = MAD_TO_SD * median([abs(one - centre) for one in at]), TIMES, "3 × 1.4826 × MAD"
    else:
        centre, spread = _mean_and_sd(at)
        times = _critical(len(at) - 1) * math.sqrt(1 + 1 / len(at))
        why = f"a prediction interval of {1 - ALPHA:.0%}"
    if error > spread:
        spread, why = error, f"{why}, floored at the error of one night's median"
    least = math.log1p(LEAST_CHANGE) if log else LEAST_CHANGE * abs(centre)
    return (
        Limits(centre, least, f"{LEAST_CHANGE:.0%}") if times * spread <= least else Limits(centre, times * spread, why)
    )


def chance(sessions: Sequence[Level], base: Sequence[Level], *, established: bool, shared: bool) -> float | None:
    """How likely the mean of some sessions is to lie so far from a baseline, to either side; None of too few nights.

    Student's prediction with the history's degrees of freedom. Sessions that share their night's noise count as one.
    In an `established` series a night beyond the limits enters as if it lay on them, so that one wild night does
    not hide a change for weeks.
    """
    if len(base) < PROVISIONAL:
        return None
    at = [one.at for one in base]
    error = median_error(base, min(one.runs for one in sessions))
    if established:
        centre = median(at)
        reach = TIMES * max(MAD_TO_SD * median([abs(one - centre) for one in at]), error)
        at = [min(max(one, centre - reach), centre + reach) for one in at]
    centre, spread = _mean_and_sd(at)
    off = abs(sum(one.at for one in sessions) / len(sessions) - centre)
    scale = max(spread, error) * math.sqrt(1 / (1 if shared else len(sessions)) + 1 / len(at))
    if scale == 0:
        return 0.0 if off > 0 else 1.0
    return 2 * float(stdtr(len(at) - 1, -off / scale))


def median_error(base: Sequence[Level], runs: int) -> float:
    """The standard error of the median of so many runs, by the nights' own spread; 0 where no night has two runs.

    The variance is the median of the nights' variances, each over what the median of a χ² is short of its mean
    (Wilson and Hilferty). The error is σ·√(π/2 ÷ (n + π/2 − 1)): exact for one run and for many, 1 % low between.
    """
    of = [one.variance / (1 - 2 / (9 * (one.runs - 1))) ** 3 for one in base if one.variance is not None]
    half = math.pi / 2
    return math.sqrt(median(of) * half / (runs + half - 1)) if of else 0.0


def median(values: Sequence[float]) -> float:
    """The middle of the values: of a handful faster than an array's."""
    ranked, middle = sorted(values), len(values) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def _mean_and_sd(at: Sequence[float]) -> tuple[float, float]:
    mean = sum(at) / len(at)
    return mean, math.sqrt(sum((one - mean) ** 2 for one in at) / (len(at) - 1))


@cache
def _critical(freedom: int) -> float:
    return float(stdtrit(freedom, 1 - ALPHA / 2))
