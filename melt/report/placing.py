"""Where the words of a picture stand: apart from each other, and beside what is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Spot = tuple[float, float]
"""Inches to the right and up from the lower left corner of the plot."""
_AWAY, _STEP, _TRIES = 0.1, 0.08, 40
_NEAR, _LEAD = 0.17, 0.08
"""How near to a point, and to the line that leads from it to its label, words may come."""


@dataclass(frozen=True)
class Limits:
    """The ranges of two logarithmic axes, and how large they are drawn, in inches."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float
    height: float

    def at(self, x: float, y: float) -> Spot:
        return self.width * _part(x, self.x), self.height * _part(y, self.y)


def _part(value: float, ends: tuple[float, float]) -> float:
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])


@dataclass(frozen=True)
class Place:
    """The middle of a text, and how far it is turned."""

    x: float
    y: float
    degrees: float


def along(ends: tuple[Spot, Spot], length: float, points: Sequence[Spot], *, below: bool) -> Place:
    """A place for a text of some `length` (inches) beside a line, as clear of the points as there is one.

    From each point a line leads to the right, which the words keep clear of as well.
    """
    (x0, y0), (x1, y1) = ends
    whole = math.hypot(x1 - x0, y1 - y0) or 1.0
    unit = ((x1 - x0) / whole, (y1 - y0) / whole)
    away = -_AWAY if below else _AWAY
    places = []
    for number in range(_TRIES + 1):
        # from the middle outwards
        part = 0.5 + (0.5 if number % 2 else -0.5) * (number / _TRIES)
        middle = min(length / 2 + 0.05, whole / 2) + part * max(whole - length - 0.1, 0.0)
        x, y = x0 + unit[0] * middle - unit[1] * away, y0 + unit[1] * middle + unit[0] * away
        reach = [-length / 2 + _STEP * step for step in range(int(length / _STEP) + 2)]
        touched = sum(_touches((x + unit[0] * at, y + unit[1] * at), point) for at in reach for point in points)
        places.append((touched, number, Place(x, y, math.degrees(math.atan2(unit[1], unit[0])))))
    return min(places, key=lambda found: found[:2])[2]


def _touches(spot: Spot, point: Spot) -> bool:
    right, up = spot[0] - point[0], spot[1] - point[1]
    return math.hypot(right, up) < _NEAR or (right > 0 and abs(up) < _LEAD)


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places as near to the wanted ones, which are in order, as they can be `apart` and between `low` and `high`."""
    groups: list[list[float]] = []  # sum of the wanted first places, number of members, first place
    for place in wanted:
        groups.append([place, 1.0, place])
        while True:
            total, size, _ = groups[-1]
            first = min(max(total / size, low), high - (size - 1) * apart)
            groups[-1][2] = first
            if len(groups) < 2 or groups[-2][2] + groups[-2][1] * apart <= first:  # noqa: PLR2004 - none before
                break
            # they touch: one group, whose middle stands where its members want it on average
            total_before, size_before, _ = groups[-2]
            merged = [total_before + total - size * size_before * apart, size_before + size, 0.0]
            groups[-2:] = [merged]
    return [first + at * apart for _, size, first in groups for at in range(int(size))]
