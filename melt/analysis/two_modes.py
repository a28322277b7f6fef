"""Values that lie in two groups: of runs, or of the samples of one.

No interval survives two modes (86 to 93 % where 95 are promised), so they are looked for. The outer tenth at each end
is moved in to what is next to it, so that outliers decide nothing; then the sorted values are cut in two where the
groups' means lie the furthest apart, in standard deviations inside the groups. Each group holds a quarter of the
values at least, and three of them from eight values on: so many are hardly outliers.

How far apart is too far (`LIMITS`) was found by simulation: noise that is normal, log-normal, with 5 % of outliers or
with three degrees of freedom passes for two modes in 1 % of cases (2 % at most), an even or an exponential
spread in up to 5 %. Values that all are one of two are not found: nothing tells them from a coarse rounding. What is
found at which number of values, and what is not: `docs/noise.md`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.events import Float64s

LIMITS = (
    (5, 13.5),
    (8, 7.0),
    (10, 9.0),
    (14, 6.1),
    (20, 5.8),
    (30, 5.3),
    (40, 5.1),
    (60, 4.9),
    (100, 4.7),
    (300, 4.4),
    (1000, 4.3),
)
"""From so many values on: how many standard deviations apart two groups may lie and still be one."""
LEAST = LIMITS[0][0]
MOST = LIMITS[-1][0]
"""Of more values than this, so many that lie evenly among the sorted ones speak for all."""
_OUTER = 10
_NO_OUTLIERS = (8, 3)
_ROUNDING = 1e-9
"""Of the whole spread: what lies closer together than this is the same value."""


@dataclass(frozen=True)
class TwoModes:
    """Whether values lie in two groups, how far `apart` their means are, and the `upper` one's share of the values.

    `tested` is false where there are too few to tell, or where they do not vary; `apart` is in the unit of the values.
    Both are 0 where nothing was found.
    """

    found: bool
    tested: bool
    apart: float = 0.0
    upper: float = 0.0


def two_modes(values: Float64s | Sequence[float]) -> TwoModes:
    """Test `values`, shape (n,), finite, in any order; of noise that is a share of a value, give their logs."""
    ordered = np.sort(values)
    if ordered.size > MOST:
        ordered = ordered[np.linspace(0, ordered.size - 1, MOST).round().astype(np.intp)]
    n, outer = ordered.size, ordered.size // _OUTER
    if n < LEAST or ordered[outer] == ordered[n - 1 - outer]:
        return TwoModes(found=False, tested=False)
    limit = LIMITS[bisect_right(LIMITS, (n, math.inf)) - 1][1]
    # of a few runs lists are ten times as fast as arrays
    inner: list[float] = (ordered - ordered[n // 2])[outer : n - outer].tolist()
    moved_in = [inner[0]] * outer + inner + [inner[-1]] * outer
    if _furthest(moved_in, 0.0)[0] <= limit:
        return TwoModes(found=False, tested=True)
    # values that were rounded do not tell their spread: half a step of what they were rounded to stands for it
    same = _ROUNDING * (inner[-1] - inner[0])
    step = min(b - a for a, b in pairwise(inner) if b - a > same)
    by_spread, apart, below = _furthest(moved_in, step / 2)
    if by_spread <= limit:
        return TwoModes(found=False, tested=True)
    return TwoModes(found=True, tested=True, apart=apart, upper=1 - below / n)


def _furthest(ordered: list[float], least_spread: float) -> tuple[float, float, int]:
    """Where to cut: by how many standard deviations the groups lie apart, how far, and how many are below."""
    n = len(ordered)
    least = max(math.ceil(n / 4), _NO_OUTLIERS[1] if n >= _NO_OUTLIERS[0] else 2)
    sums = list(accumulate(ordered))
    whole, squares = sums[-1], sum(value * value for value in ordered)
    best = (0.0, 0.0, 0)
    for below in range(least, n - least + 1):
        lower, upper = sums[below - 1] / below, (whole - sums[below - 1]) / (n - below)
        inside = max(squares - below * lower * lower - (n - below) * upper * upper, 0.0)
        spread = max(math.sqrt(inside / (n - 2)), least_spread)
        apart = upper - lower
        by_spread = apart / spread if spread > 0 else math.inf
        if by_spread > best[0]:
            best = (by_spread, apart, below)
    return best
