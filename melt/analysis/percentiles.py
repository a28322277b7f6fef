"""Percentiles, given only where the samples carry them, and samples that lie far from the others.

The minimum sample numbers are those of MLPerf's inference rules (99 % confidence). They count independent samples, so
a correlated series counts as fewer. The median is the exception: it needs its 11 samples and no more, for it is what a
run contributes as one replicate. How far it wanders because its samples are correlated shows between runs, in the
interval; the note says how many independent ones it stands on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.analysis.events import Float64s

MINIMUM: Mapping[float, int] = MappingProxyType({50: 11, 90: 64, 95: 130, 99: 662, 99.9: 6636})
"""Percentile to the number of independent samples that carry it."""

MEDIAN = 50
MAX_LAG = 200
SIGNIFICANT = 2.33
CHANCE_NEIGHBOURS = 2.5
TUKEY = 1.5
MAD_Z = 14.8


@dataclass(frozen=True)
class Outliers:
    """Indices of samples outside Tukey's fences (1.5 quartile ranges), and of those with a MAD z above 14.8."""

    tukey: tuple[int, ...]
    mad: tuple[int, ...]


def percentiles(values: Float64s) -> dict[float, Metric]:
    """Every percentile of `MINIMUM` of `values` (shape (n,), any unit): a value, or a gap that says what was missing.

    Interpolated linearly between order statistics. `n` is the number of samples, the note the number they count for.
    """
    found = {}
    at = np.percentile(values, list(MINIMUM)) if values.size else np.zeros(len(MINIMUM))
    for (p, least), value in zip(MINIMUM.items(), at, strict=True):
        carried = effective_number(values, p)
        alone = f"{carried:.0f}" == str(values.size)
        counts = f"{values.size} samples count for {carried:.0f} independent ones"
        if (values.size if p == MEDIAN else carried) >= least:
            note = None if alone else counts
            found[p] = Metric(value=float(value), n=values.size, note=note)
        else:
            there = f"the run has {values.size}" if alone else counts
            found[p] = gap(f"too_few_samples: p{p:g} needs {least} independent samples, {there}")
    return found


def effective_number(values: Float64s, percentile: float) -> float:
    """How many independent samples `values` (shape (n,), in time order) count for where a percentile is estimated.

    That is n ÷ (1 + 2 Σ autocorrelation) of the series "is above the percentile", which decides how far the estimate
    wanders: a slow stretch at the head moves p95 and hardly the median, and one spike moves neither. Lags are summed up
    to the first that chance explains (2.33 ÷ √n, and three chance neighbours among few samples above), or to lag 200.
    Never above n; 0 for an empty series, n for a constant one.
    """
    n = values.size
    if n == 0:
        return 0.0
    above = values > np.percentile(values, percentile)
    count = int(np.count_nonzero(above))
    if count == 0:
        return float(n)
    share = count / n
    by_chance = max(SIGNIFICANT / math.sqrt(n), CHANCE_NEIGHBOURS / count)
    total = 0.0
    for lag in range(1, min(MAX_LAG, n // 2) + 1):
        early, late = above[:-lag], above[lag:]
        both = np.count_nonzero(early & late)  # counting bits: a product of floats costs ten times as much
        ends = np.count_nonzero(early) + np.count_nonzero(late)
        correlation = (both - share * ends + share**2 * (n - lag)) / (n * share * (1 - share))
        if correlation < by_chance:
            break
        total += correlation
    return n / (1 + 2 * total)


def outliers(values: Float64s) -> Outliers:
    """Which of `values` (shape (n,)) lie far out; they are reported and never dropped. None under 4 values."""
    if values.size < 4:  # noqa: PLR2004 - quartiles of three are the three
        return Outliers((), ())
    q1, middle, q3 = np.percentile(values, (25, 50, 75))
    reach = TUKEY * (q3 - q1)
    beyond = np.flatnonzero((values < q1 - reach) | (values > q3 + reach))
    distance = np.abs(values - middle)
    mad = float(np.median(distance))
    # a MAD of 0 (most values alike) makes every other value infinitely far: no verdict
    far = np.flatnonzero(distance > MAD_Z * 1.4826 * mad) if mad > 0 else np.array([], dtype=np.intp)
    return Outliers(tuple(int(i) for i in beyond), tuple(int(i) for i in far))
