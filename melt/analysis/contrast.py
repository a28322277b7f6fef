"""Two sides of a comparison: the ratio of what they give, its interval, and what may be said of it.

A run gives one value. Runs of one block are compared with each other, by the log of their ratio (`paired`); runs of
different sessions as two groups of logs, with Welch's t. Nothing is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Word = Literal["faster", "slower", "more", "less", "equivalent", "inconclusive"]
Better = Literal["higher", "lower"]
Sense = Literal["rate", "time", "amount"]
"""What a metric is: a rate is faster where it is higher, a time where it is lower; an amount is more or less."""

DELTA = 0.03
"""What is called no difference where nothing else is known of the device."""
FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True)
class Contrast:
    """`ratio` is the geometric mean of b ÷ a, `low` to `high` its 95 % interval, `p` of "they are alike".

    `detectable` is the smallest change, as a share, that as many runs as noisy as these find in 80 of 100 cases.
    `why_not` says why there is no interval; None stands for every figure that the values do not carry.
    """

    ratio: float | None
    low: float | None
    high: float | None
    p: float | None
    n_a: int
    n_b: int
    paired: bool
    detectable: float | None
    why_not: str | None = None
    notes: tuple[str, ...] = ()
    """Such as values of two modes, or that do not vary at all."""


def sense(metric: str) -> Sense:
    """What a metric is, by its name."""
    raise NotImplementedError


def contrast(a: Sequence[float | None], b: Sequence[float | None], *, paired: bool) -> Contrast:
    """Contrast two sides, a value a run; where they are paired, `a[i]` and `b[i]` are of one block."""
    raise NotImplementedError


def adjusted(p: Sequence[float | None]) -> list[float | None]:
    """Each p adjusted for the number of tests, by Benjamini and Hochberg: at most q where the rate of false ones is q."""
    raise NotImplementedError


def word(found: Contrast, adjusted_p: float | None, metric: str, delta: float = DELTA) -> tuple[Word, str]:
    """The verdict and one sentence why; `equivalent` where the whole interval lies within ±`delta`."""
    raise NotImplementedError
