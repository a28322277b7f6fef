"""Sentences that differ in their figures alone, told once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIGURE = re.compile(r"(?<![A-Za-z0-9.])[0-9]+(?:\.[0-9]+)?")
"""A number that stands by itself: the 90 of p90 is part of a name."""


def template(text: str) -> str:
    """The text without its figures: equal for texts that are alike."""
    return _FIGURE.sub("#", text)


def together(texts: Iterable[str]) -> str:
    """Alike texts as one, with the range of each figure that differs: `others took 0.15–0.31 of one core`."""
    listed = list(dict.fromkeys(texts))
    columns = zip(*(_FIGURE.findall(text) for text in listed), strict=True)
    ranges = iter([_range(figures) for figures in columns])
    return _FIGURE.sub(lambda _: next(ranges), listed[0])


def _range(figures: tuple[str, ...]) -> str:
    low, high = min(figures, key=float), max(figures, key=float)
    return low if low == high else f"{low}–{high}"
