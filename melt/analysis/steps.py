"""Where the level of a series of nights changed for good, or for some nights.

The stretch of nights that differs most from the others is held against what the same nights give in random orders: it
counts where chance gives as much in less than one order of fifty. Its parts are then looked at in the same way
(circular binary segmentation, Olshen and others, 2004), and each border has to hold once more between its neighbours.
So no shape of the noise is assumed, only that the nights could have come in any order: a slow drift, or nights that
depend on each other, break that and are found as steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from melt.analysis.events import Float64s

MIN_NIGHTS = 10
"""A shorter series cannot carry a step: too few orders are as extreme."""
MIN_LEVEL = 3
SMALLEST_STEP = 0.03
ALPHA = 0.02
_ORDERS, _AT_ONCE = 999, 111
_SEED = 20_051_231


@dataclass(frozen=True)
class Step:
    """A level change of a series: the night that it began in (an index), and the new level ÷ the old one less one."""

    at: int
    change: float


def steps(values: Sequence[float]) -> tuple[Step, ...]:
    """Where the level of a series of night medians changed; none under the nights that carry it.

    A level is the median of its nights: at least three, and 3 % from its neighbour's. NaN is a night without value.
    """
    given = np.array(values, dtype=np.float64)
    at = np.flatnonzero(np.isfinite(given))
    known = given[at]
    if known.size < MIN_NIGHTS:
        return ()
    log = bool(known.min() > 0)
    scaled = np.log(known) if log else known
    rng = np.random.default_rng(_SEED)
    ends = _large(scaled, _holding(scaled, _parts(scaled, 0, rng), rng), log=log)
    levels = [float(np.median(scaled[a:b])) for a, b in pairwise(ends)]
    found = zip(ends[1:-1], levels, levels[1:], strict=False)
    return tuple(Step(int(at[end]), _share(before, after, log=log)) for end, before, after in found)


def _parts(scaled: Float64s, offset: int, rng: np.random.Generator) -> list[int]:
    """The borders of the parts of one level each, both ends included."""
    n = scaled.size
    if not _beyond_chance(scaled, _stretches, rng):
        return [offset, offset + n]
    begin, end = _best_stretch(scaled)
    ends = [offset]
    for a, b in pairwise(sorted({0, begin, end, n})):
        ends += _parts(scaled[a:b], offset + a, rng)[1:]
    return ends


def _beyond_chance(
    scaled: Float64s, explained: Callable[[Float64s], Float64s], rng: np.random.Generator, least: int = MIN_NIGHTS
) -> bool:
    """Whether these nights in random orders explain as much in less than `ALPHA` of them; False of too few nights."""
    if scaled.size < least or np.ptp(scaled) == 0:
        return False
    here = float(explained(scaled[None])[0]) * (1 - 1e-9)  # the same sums in another order
    beyond = 0
    for _ in range(_ORDERS // _AT_ONCE):
        orders = rng.permuted(np.broadcast_to(scaled, (_AT_ONCE, scaled.size)), axis=1)
        beyond += int(np.count_nonzero(explained(orders) >= here))
        if 1 + beyond > ALPHA * (1 + _ORDERS):  # and no more orders would change that
            return False
    return True


def _stretches(series: Float64s) -> Float64s:
    """Of each order, how much of the squares its best stretch explains.

    A stretch has `MIN_LEVEL` nights, and so has what lies on each side of it, unless that is empty.
    """
    n = series.shape[1]
    sums = _sums(series)
    best = np.zeros(len(series))
    for length in range(MIN_LEVEL, n - MIN_LEVEL + 1):
        most = np.maximum(np.abs(sums[length]), np.abs(sums[n - length]))  # at the begin, at the end, and between
        between = sums[MIN_LEVEL + length : n - MIN_LEVEL + 1] - sums[MIN_LEVEL : n - MIN_LEVEL + 1 - length]
        if between.size:
            most = np.maximum(most, np.maximum(between.max(axis=0), -between.min(axis=0)))
        best = np.maximum(best, most**2 * (n / (length * (n - length))))
    return best


def _best_stretch(scaled: Float64s) -> tuple[int, int]:
    """Where the stretch begins and ends that `_stretches` finds in one order."""
    n = scaled.size
    sums = _sums(scaled[None])[:, 0]
    begin, end = np.triu_indices(n + 1, MIN_LEVEL)
    room = (
        ((begin == 0) | (begin >= MIN_LEVEL)) & ((end == n) | (end <= n - MIN_LEVEL)) & (end - begin <= n - MIN_LEVEL)
    )
    begin, end = begin[room], end[room]
    explained = (sums[end] - sums[begin]) ** 2 * n / ((end - begin) * (n - end + begin))
    at = int(explained.argmax())
    return int(begin[at]), int(end[at])


def _sums(series: Float64s) -> Float64s:
    """The running sums of each order about its mean, (nights + 1) × orders, from 0 to 0."""
    sums = np.zeros((series.shape[1] + 1, len(series)))
    np.cumsum((series - series.mean(axis=1, keepdims=True)).T, axis=0, out=sums[1:])
    return sums


def _splits(series: Float64s) -> Float64s:
    """How much of the squares a split explains, (orders × splits), the first split after `MIN_LEVEL` nights."""
    n = series.shape[1]
    left = np.arange(MIN_LEVEL, n - MIN_LEVEL + 1)
    sums = np.cumsum(series - series.mean(axis=1, keepdims=True), axis=1)[:, left - 1]
    return np.asarray(sums**2 * n / (left * (n - left)), dtype=np.float64)


def _holding(scaled: Float64s, ends: list[int], rng: np.random.Generator) -> list[int]:
    """The borders that hold between their two neighbours, each where it explains most: an end may be a chance one."""
    at = 1
    while at < len(ends) - 1:
        a, b = ends[at - 1], ends[at + 1]
        between = scaled[a:b]
        if _beyond_chance(between, lambda orders: _splits(orders).max(axis=1), rng, 2 * MIN_LEVEL):
            ends[at] = a + MIN_LEVEL + int(_splits(between[None])[0].argmax())
            at += 1
        else:
            del ends[at]
            at = max(at - 1, 1)
    return ends


def _large(scaled: Float64s, ends: list[int], *, log: bool) -> list[int]:
    """The borders without those over which the level changes by less than 3 %, the smallest first."""
    while len(ends) > 2:  # noqa: PLR2004 - the begin and the end of it all
        levels = [float(np.median(scaled[a:b])) for a, b in pairwise(ends)]
        sizes = [abs(_share(before, after, log=log)) for before, after in pairwise(levels)]
        if min(sizes) >= SMALLEST_STEP:
            break
        del ends[sizes.index(min(sizes)) + 1]
    return ends


def _share(before: float, after: float, *, log: bool) -> float:
    """The change as a share; of a level of 0 it has no end."""
    if log:
        return float(np.expm1(after - before))
    return (after - before) / abs(before) if before else float(np.sign(after - before)) * float("inf")
