"""A metric across the runs of a cell: the run is the replicate, so each run gives one value.

The centre is geometric and its 95 % interval is Student's t on the logs, at every number of runs from 3. Nothing is
dropped: outliers are named by their index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import stdtrit

from melt.analysis.percentiles import Outliers, outliers
from melt.analysis.two_modes import two_modes

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_RUNS = 3
MIN_SIGNIFICANT = 4
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """What `n` runs say together, in the unit of the values; a field is None where they do not carry it.

    `centre` is the geometric mean and `low` to `high` its interval (`scale` "log"). Where a value is zero or
    negative, as net energy or a count can be, there is no log: all three are arithmetic then (`scale` "linear").
    `missing` runs had no finite value; `indicative` marks fewer than four runs, of which nothing may be called
    significant. `why_not` says why there is no interval. `outliers` index the values as they were given.
    """

    n: int
    missing: int
    median: float | None
    centre: float | None
    low: float | None
    high: float | None
    minimum: float | None
    maximum: float | None
    scale: Literal["log", "linear"]
    outliers: Outliers
    indicative: bool
    why_not: str | None = None
    groups_apart: float | None = None
    """Where the values lie in two groups, how far these are apart, a share: no interval holds what it promises."""


def summarise(values: Sequence[float | None]) -> Summary:
    """Summarise one metric of the runs of a cell, a value a run; None and NaN are runs without the metric."""
    given = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    at = np.flatnonzero(np.isfinite(given))
    known = given[at]
    n, missing = known.size, given.size - known.size
    scale: Literal["log", "linear"] = "log" if n == 0 or known.min() > 0 else "linear"
    if n == 0:
        none = Outliers((), ())
        return Summary(0, missing, None, None, None, None, None, None, scale, none, True, "no run has a value")
    scaled = np.log(known) if scale == "log" else known
    middle = float(scaled.mean())
    half = _half_width(scaled) if n >= MIN_RUNS else None
    found = outliers(known)
    return Summary(
        n=n,
        missing=missing,
        median=float(np.median(known)),
        centre=_back(middle, scale),
        low=None if half is None else _back(middle - half, scale),
        high=None if half is None else _back(middle + half, scale),
        minimum=float(known.min()),
        maximum=float(known.max()),
        scale=scale,
        outliers=Outliers(tuple(int(at[i]) for i in found.tukey), tuple(int(at[i]) for i in found.mad)),
        indicative=n < MIN_SIGNIFICANT,
        why_not=None if half is not None else f"{n} of {MIN_RUNS} runs that an interval needs",
        groups_apart=math.expm1(modes.apart) if scale == "log" and (modes := two_modes(scaled)).found else None,
    )


def _half_width(scaled: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    critical = float(stdtrit(scaled.size - 1, (1 + CONFIDENCE) / 2))
    return critical * float(scaled.std(ddof=1)) / math.sqrt(scaled.size)


def _back(value: float, scale: Literal["log", "linear"]) -> float:
    return math.exp(value) if scale == "log" else value
