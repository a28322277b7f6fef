"""A meter's own clock on this computer's: the line under all moments of arrival. Pure.

A sample cannot arrive before it was taken, and is late by what the cable, the kernel and the reader add. So of all
lines that no arrival lies below, the one that they lie closest above is the clock: one edge of their lower hull.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from melt.analysis.events import Float64s, Int64s

MOST_SKEW = 500e-6
"""A meter whose clock seems further off than this had too few arrivals to tell: its nominal rate is taken."""
_SHORT_S = 5.0
"""Under this length the lateness of one arrival would be taken for skew."""
_PART_S = 0.1


@dataclass(frozen=True)
class Arrivals:
    """The meter's seconds to this computer's monotonic ns."""

    base_ns: int
    base_s: float
    skew: float
    """Seconds that this computer's clock gains in one of the meter's."""
    bound_s: float
    """How far the line lies from the earliest arrivals of any part of the recording."""

    def host_ns(self, own_s: Float64s) -> Int64s:
        """This computer's clock at these moments of the meter's."""
        since_ns = (own_s - self.base_s) * (1.0 + self.skew) * 1e9
        return self.base_ns + np.rint(since_ns).astype(np.int64)


def fit(own_s: Float64s, host_ns: Int64s) -> Arrivals:
    """The line under the arrivals: at each `host_ns` what was taken until `own_s` had come. Needs at least one."""
    own_s, host_ns = _earliest(own_s, host_ns)
    base_ns, base_s = int(host_ns[0]), float(own_s[0])
    x, y = own_s - base_s, (host_ns - base_ns) * 1e-9
    late = y - x
    skew = 0.0
    if x[-1] - x[0] >= _SHORT_S:
        skew = _slope_below(x, late)
    if abs(skew) > MOST_SKEW:
        skew = 0.0
    left = late - skew * x
    lowest = float(left.min())
    parts = [part for part in np.array_split(left - lowest, 3) if part.size]
    bound_s = max(float(part.min()) for part in parts)
    return Arrivals(base_ns + round(lowest * 1e9), base_s, skew, bound_s)


def _earliest(own_s: Float64s, host_ns: Int64s) -> tuple[Float64s, Int64s]:
    """Of every tenth of a second the arrival that was the least late: no other can touch the line."""
    late = (host_ns - host_ns[0]) * 1e-9 - (own_s - own_s[0])
    part = np.floor((own_s - own_s[0]) / _PART_S).astype(np.int64)
    order = np.lexsort((late, part))
    first = order[np.flatnonzero(np.diff(part[order], prepend=part[order[0]] - 1))]
    return own_s[first], host_ns[first]


def _slope_below(x: Float64s, y: Float64s) -> float:
    """The slope of the lower hull's edge below the middle of all `x`, which are in order."""
    hull: list[tuple[float, float]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(hull) > 1 and _turns_down(hull[-2], hull[-1], point):
            hull.pop()
        if hull and hull[-1][0] == point[0]:
            continue
        hull.append(point)
    middle = float(x.mean())
    for (x0, y0), (x1, y1) in pairwise(hull):
        if x1 >= middle:
            return (y1 - y0) / (x1 - x0)
    return 0.0


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) >= (c[1] - a[1]) * (b[0] - a[0])
