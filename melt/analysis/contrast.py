"""Two sides of a comparison: the ratio of what they give, its interval, and what may be said of it.

A run gives one value. Runs of one block are compared with each other, by the log of their ratio (`paired`); runs of
different sessions as two groups of logs, with Welch's t. Nothing is dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from scipy.special import nctdtrinc, ndtri, stdtr, stdtrit

from melt.analysis.summary import CONFIDENCE, MIN_RUNS, MIN_SIGNIFICANT
from melt.analysis.two_modes import two_modes

if TYPE_CHECKING:
    from collections.abc import Sequence

Word = Literal["faster", "slower", "more", "less", "equivalent", "inconclusive"]
Better = Literal["higher", "lower"]
Sense = Literal["rate", "time", "amount"]
"""What a metric is: a rate is faster where it is higher, a time where it is lower; an amount is more or less."""

DELTA = 0.03
"""What is called no difference where nothing else is known of the device."""
FALSE_DISCOVERY_RATE = 0.05
POWER = 0.8
"""How often a change as large as the detectable one is found."""
_NO_SPREAD = 1e-12
"""Logs that differ by less than this differ by the rounding of the division alone."""
_FURTHEST = 700.0
"""Logs beyond this are no float64."""
_TOO_FAR = "the values lie too far apart: what they give is larger than a number can be"
_SEEN_BY_PAIRS = 0.25
"""Ratios that spread by this share of what two groups lie apart have not lost them."""
_LEAST_P = 1e-4
_NO_TIME = ("time_to_10pct_drop_s",)
"""Ends in the unit of a time, and the later the better."""
_WORDS: dict[Sense, tuple[Word, Word]] = {
    "rate": ("slower", "faster"),
    "time": ("faster", "slower"),
    "amount": ("less", "more"),
}
"""What b is where its value is the lower, and where it is the higher."""


@dataclass(frozen=True)
class Contrast:
    """`ratio` is the geometric mean of b ÷ a, `low` to `high` its 95 % interval, `p` of "they are alike".

    `detectable` is the smallest change, as a share, that as many runs as noisy as these find in 80 of 100 cases.
    `n_a` and `n_b` count the runs with a value; of pairs, those with both. `why_not` says why there is no interval;
    None stands for every figure that the values do not carry.
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
    error: float | None = None
    """The standard error of the log of the ratio."""


def sense(metric: str) -> Sense:
    """What a metric is, by its name; what follows a dot is a channel or a point of it and tells nothing."""
    name = metric.partition(".")[0]
    if name.endswith("_per_s"):
        return "rate"
    return "time" if name.endswith("_s") and name not in _NO_TIME else "amount"


def contrast(a: Sequence[float | None], b: Sequence[float | None], *, paired: bool) -> Contrast:
    """Contrast two sides, a value a run; where they are paired, `a[i]` and `b[i]` are of one block.

    None, NaN and infinity are runs without a value: they are counted in `notes`, with the other run of their pair. A
    value of 0 or below has no log, so no ratio is given then. Raises ValueError for pairs of unlike number.
    """
    if paired and len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are no pairs: give None where a block lacks a run")
    known, notes = _known(a, b, paired=paired)
    n_a, n_b = map(len, known)
    why_not = _no_ratio(known, paired=paired)
    if why_not is not None:
        return Contrast(None, None, None, None, n_a, n_b, paired, None, why_not, notes)
    logs = [[math.log(value) for value in side] for side in known]
    middle = _mean(logs[1]) - _mean(logs[0])
    if abs(middle) > _FURTHEST:
        return Contrast(None, None, None, None, n_a, n_b, paired, None, _TOO_FAR, notes)
    ratio, least = math.exp(middle), min(n_a, n_b)
    if least < MIN_RUNS:
        there_are = f"{least} pairs" if paired else f"{n_a} and {n_b} runs"
        why_not = f"{there_are}: an interval needs {MIN_RUNS}" + ("" if paired else " on each side")
        return Contrast(ratio, None, None, None, n_a, n_b, paired, None, why_not, notes)
    error, freedom = _paired_error(logs) if paired else _welch_error(logs)
    if error <= _NO_SPREAD:
        p = 1.0 if abs(middle) <= _NO_SPREAD else 0.0
        what = "the ratios of the pairs do not vary" if paired else "neither side varies"
        notes += (f"{what} at all: the interval has no width, and what could have been detected is not known",)
        return Contrast(ratio, ratio, ratio, p, n_a, n_b, paired, None, None, notes)
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    if abs(middle) + half > _FURTHEST:
        return Contrast(ratio, None, None, None, n_a, n_b, paired, None, _TOO_FAR, notes)
    return Contrast(
        ratio=ratio,
        low=math.exp(middle - half),
        high=math.exp(middle + half),
        p=2 * float(stdtr(freedom, -abs(middle) / error)),
        n_a=n_a,
        n_b=n_b,
        paired=paired,
        detectable=_detectable(error, freedom),
        notes=notes + _of_two_modes(logs, paired=paired),
        error=error,
    )


def adjusted(p: Sequence[float | None]) -> list[float | None]:
    """Each p adjusted for the number of tests, by Benjamini and Hochberg: at most q where the rate of false ones is q.

    None stays None and does not count as a test. Raises ValueError for what is no probability.
    """
    # a third of a second to load, and for this alone
    from scipy.stats import false_discovery_control  # noqa: PLC0415

    tested = [value for value in p if value is not None]
    values = iter(false_discovery_control(tested).tolist() if tested else [])
    return [None if value is None else float(next(values)) for value in p]


def nameable(found: Contrast, delta: float = DELTA) -> float | None:
    """The smallest change, as a share, to which `word` gives a name in 80 of 100 cases; None where it is not known.

    The test has to find it (`detectable`), and the ratio has to come out beyond ±`delta`, which it does where the true
    one lies .84 standard errors beyond that.
    """
    if found.detectable is None or found.error is None:
        return found.detectable
    beyond = math.log1p(delta) + float(ndtri(POWER)) * found.error
    return max(found.detectable, math.expm1(beyond)) if beyond < _FURTHEST else None


def word(found: Contrast, adjusted_p: float | None, metric: str, delta: float = DELTA) -> tuple[Word, str]:
    """The verdict and one sentence why; `equivalent` where the whole interval lies within ±`delta`.

    `delta` is a share, and symmetric in logs: from 1 ÷ (1 + delta) to 1 + delta. A difference is named from four runs
    or pairs on, and where its adjusted p is at most 5 % and the ratio itself lies outside ±`delta`.
    """
    if found.ratio is None:
        return "inconclusive", f"{metric}: {found.why_not}"
    said = f"{metric} of b is {found.ratio:.4g} × that of a"
    p = found.p if adjusted_p is None else adjusted_p
    if found.low is None or found.high is None or p is None:
        return "inconclusive", f"{said}; there is no interval: {found.why_not}"
    runs = f"{found.n_a} pairs" if found.paired else f"{found.n_a} and {found.n_b} runs"
    said += f" ({found.low:.4g} to {found.high:.4g}, {runs}, {'p' if adjusted_p is None else 'adjusted p'} {_p(p)})"
    could = _could_be_found(nameable(found, delta))
    if max(-math.log(found.low), math.log(found.high)) <= math.log1p(delta):
        return "equivalent", f"{said}: all of it within ±{delta:.1%}{could}"
    if min(found.n_a, found.n_b) < MIN_SIGNIFICANT:
        return "inconclusive", f"{said}: no difference is named under {MIN_SIGNIFICANT} of them{could}"
    if p > FALSE_DISCOVERY_RATE:
        return "inconclusive", f"{said}: no certain difference, nor all of it within ±{delta:.1%}{could}"
    if abs(math.log(found.ratio)) <= math.log1p(delta):
        near = f"b differs, but that it does by more than the ±{delta:.1%} that count as none is not shown"
        return "inconclusive", f"{said}: {near}{could}"
    lower, higher = _WORDS[sense(metric)]
    return (higher if found.ratio > 1 else lower), f"{said}{could}"


# --------------------------------------------------------------------------------------------------- what it takes


def _known(
    a: Sequence[float | None], b: Sequence[float | None], *, paired: bool
) -> tuple[list[list[float]], tuple[str, ...]]:
    """Both sides without what has no value, and how many that are."""
    there = [[value is not None and math.isfinite(value) for value in side] for side in (a, b)]
    if paired:
        both = [all(pair) for pair in zip(*there, strict=True)]
        there = [both, both]
    known = [
        [value for value, kept in zip(side, is_there, strict=True) if kept and value is not None]
        for side, is_there in zip((a, b), there, strict=True)
    ]
    if paired and len(known[0]) < len(a):
        return known, (f"{len(a) - len(known[0])} of {len(a)} pairs lack a value on one side at least",)
    lacking = zip("ab", (a, b), known, strict=True)
    return known, tuple(
        f"{len(side) - len(kept)} of {len(side)} runs of {name} have no value"
        for name, side, kept in lacking
        if len(kept) < len(side)
    )


def _no_ratio(known: list[list[float]], *, paired: bool) -> str | None:
    for name, side in zip("ab", known, strict=True):
        if not side:
            return "no pair has a value on both sides" if paired else f"no run of {name} has a value"
        if bad := [value for value in side if value <= 0]:
            return (
                f"the ratio is not defined: {len(bad)} of {len(side)} values of {name} are 0 or below "
                f"(such as {bad[0]:.4g})"
            )
    return None


def _paired_error(logs: list[list[float]]) -> tuple[float, float]:
    """The standard error of the mean log ratio, and its degrees of freedom."""
    ratios = _ratios(logs)
    return math.sqrt(_variance(ratios) / len(ratios)), len(ratios) - 1


def _welch_error(logs: list[list[float]]) -> tuple[float, float]:
    """The same of two groups whose spreads may differ; degrees of freedom by Welch and Satterthwaite."""
    parts = [_variance(side) / len(side) for side in logs]
    error = math.sqrt(sum(parts))
    if error <= _NO_SPREAD:
        return 0.0, 1.0
    shares = [part / sum(parts) for part in parts]
    return error, 1 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, logs, strict=True))


def _ratios(logs: list[list[float]]) -> list[float]:
    return [b - a for a, b in zip(*logs, strict=True)]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: list[float]) -> float:
    middle = _mean(values)
    return math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)


def _detectable(error: float, freedom: float) -> float | None:
    """The change, as a share, at which t leaves its interval upwards in `POWER` of cases: by the noncentral t."""
    away = float(nctdtrinc(freedom, 1 - POWER, float(stdtrit(freedom, (1 + CONFIDENCE) / 2)))) * error
    return math.expm1(away) if away < _FURTHEST else None


def _of_two_modes(logs: list[list[float]], *, paired: bool) -> tuple[str, ...]:
    """Which of the values lie in two groups: no interval holds what it promises then.

    A side of pairs may change its level over a session and its pairs not see it: it counts where they do.
    """
    furthest = _FURTHEST
    if paired:
        ratios = _ratios(logs)
        of_pairs = two_modes(ratios)
        if of_pairs.found:
            return (_two_groups("the ratios of the pairs", of_pairs.apart),)
        furthest = math.sqrt(_variance(ratios)) / _SEEN_BY_PAIRS
    of_sides = [(name, two_modes(side)) for name, side in zip("ab", logs, strict=True)]
    return tuple(
        _two_groups(f"the values of {name}", modes.apart)
        for name, modes in of_sides
        if modes.found and modes.apart < furthest
    )


def _two_groups(what: str, apart: float) -> str:
    return f"{what} lie in two groups, {math.expm1(apart):.1%} apart: the interval does not hold what it promises"


def _could_be_found(change: float | None) -> str:
    if change is None:
        return ""
    size = f"of {change:.1%}" if change < 1 else f"by a factor of {1 + change:.2g}"
    return f"; a change {size} is found in {POWER:.0%} of cases"


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= _LEAST_P else f"below {_LEAST_P:g}"
