"""The contrast of one metric of one cell: runs paired inside a block where they can be, or why there is none."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.analysis.contrast import Contrast, contrast
from melt.analysis.fingerprint import KEYS, differences
from melt.analysis.summary import MIN_SIGNIFICANT
from melt.compare.figures import is_energy
from melt.compare.result import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.compare.match import Along, Pair
    from melt.compare.runs import Runs, Values

DRIFT = (
    "the runs are not paired by block: a drift between the sides is in the ratio, and what one session differs from "
    "another by anyway is not in its interval"
)
_OFF_BY = "the interval is of the runs among themselves: each figure may be off, by its instrument, by"
_MOST_UNEQUAL = 2
"""Pairs count where they hold at least one of so many runs of the side that has fewer."""


@dataclass(frozen=True)
class Figures:
    """One metric of both sides before the verdict: contrasted, or refused."""

    metric: str
    a: float | None
    b: float | None
    found: Contrast | None
    refused: str | None = None
    total: str | None = None
    caveats: tuple[str, ...] = ()


def figures(runs: Runs, pair: Pair, metric: str, along: Along, *, asked: bool) -> Figures | None:
    """The figures of a metric; None where neither side has it and nobody `asked` for it by name."""
    a, b = runs.of(pair.a, metric), runs.of(pair.b, metric)
    lacking = [name for name, side in (("a", a), ("b", b)) if not side.value.size]
    if lacking:
        if len(lacking) > 1 and not asked:
            return None
        configs = {"a": pair.a, "b": pair.b}
        why = "; ".join(f"no run of {name} has it ({runs.reason(configs[name], metric)})" for name in lacking)
        return Figures(metric, _mean(a), _mean(b), None, why)
    refused, caveats = _forbidden(pair, metric, a, b, along)
    if refused is not None:
        return Figures(metric, _mean(a), _mean(b), None, refused)
    caveats = (*caveats, *_without(runs, pair, metric, a, b))
    found, paired, lone = _contrasted(a, b, pairs="device" not in along.varying)
    if not found.paired:
        caveats = (*caveats, DRIFT) if along.axis != "device" else caveats
    elif lone:
        caveats = (*caveats, f"{lone} runs have no partner in their block and are in no pair")
    off_by = max((side.off_by for side in (a, b) if side.off_by is not None), default=None)
    if off_by is not None:
        caveats = (*caveats, f"{_OFF_BY} up to {off_by:.1%} of it")
    total = " / ".join(dict.fromkeys((*a.totals, *b.totals))) or None
    return Figures(metric, _mean_of(paired[0]), _mean_of(paired[1]), found, None, total, caveats)


def _without(runs: Runs, pair: Pair, metric: str, a: Values, b: Values) -> tuple[str, ...]:
    """How many runs of each side count and have no such figure, with the first reason."""
    told = []
    for name, configs, side in (("a", pair.a, a), ("b", pair.b, b)):
        all_runs = runs.count(configs)
        if side.value.size < all_runs:
            of = f"{all_runs - side.value.size} of {all_runs} runs of {name}"
            told.append(f"{of} have no {metric} ({runs.reason(configs, metric)})")
    return tuple(told)


def _contrasted(a: Values, b: Values, *, pairs: bool) -> tuple[Contrast, tuple[list[float], list[float]], int]:
    """The contrast, the values that it is of, and how many runs lack a partner.

    Runs of one block are paired where that leaves four pairs, and at least half of the side that has fewer runs.
    Otherwise every run counts for itself.
    """
    of_a, of_b = _by_slot(a), _by_slot(b)
    common = [slot for slot in of_a if slot in of_b] if pairs else []
    fewer = min(a.value.size, b.value.size)
    enough = len(common) >= min(MIN_SIGNIFICANT, fewer) and _MOST_UNEQUAL * len(common) >= fewer
    if common and enough:
        sides = ([_one(of_a[slot]) for slot in common], [_one(of_b[slot]) for slot in common])
        lone = len(of_a) + len(of_b) - 2 * len(common)
        return contrast(*sides, paired=True), sides, lone
    values = (a.value.tolist(), b.value.tolist())
    return contrast(*values, paired=False), values, 0


def _by_slot(values: Values) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for slot, value in zip(values.slot.tolist(), values.value.tolist(), strict=True):
        found[slot].append(value)
    return found


def _one(values: Sequence[float]) -> float:
    """Several configurations of a side may stand in one block, which is one replicate all the same."""
    return values[0] if len(values) == 1 else _mean_of(values) or values[0]


def _forbidden(pair: Pair, metric: str, a: Values, b: Values, along: Along) -> tuple[str | None, tuple[str, ...]]:
    """Why this metric of this cell may not be compared; else what a reader must know beside it."""
    versions = sorted({*a.versions, *b.versions})
    if len(versions) > 1 and "metric_version" not in along.varying:
        return f"metric versions {', '.join(map(str, versions))}: 'melt analyse' computes both sides by one", ()
    if not is_energy(metric) and not a.totals and not b.totals:
        return None, ()
    # what a figure is of stands beside it, or else in the fingerprint; a rail of its own is named in the metric
    told = (a.totals and b.totals) or "." in metric
    known = frozenset({"energy_total"}) if told else frozenset()
    for one in differences(pair.a[0].keys, pair.b[0].keys, along.varying | known):
        if one.key in KEYS and KEYS[one.key].scope == "energy":
            return f"energy of unlike {one.key}: {shown(one.a)} and {shown(one.b)}", ()
    return _totals(a.totals, b.totals, along)


def _totals(a: Sequence[str], b: Sequence[str], along: Along) -> tuple[str | None, tuple[str, ...]]:
    """Figures of different boundaries are never put in one comparison; of other sensors only along such an axis."""
    distinct = list(dict.fromkeys((*a, *b)))
    if len(distinct) < 2:  # noqa: PLR2004 - two that differ
        return None, ()
    boundaries = list(dict.fromkeys(total.partition(":")[0] for total in distinct))
    told = " and ".join(distinct)
    if len(boundaries) > 1:
        return f"energy of different boundaries, {told}: these are never compared", ()
    if "energy_total" not in along.varying:
        return f"energy by other sensors, {told}: --allow-unlike energy_total=REASON compares them all the same", ()
    return None, (f"energy at one boundary by other sensors: {told}",)


def _mean(values: Values) -> float | None:
    return _mean_of(values.value.tolist())


def _mean_of(values: Sequence[float]) -> float | None:
    """Geometric; arithmetic where a value has no log."""
    if not values:
        return None
    if min(values) <= 0:
        return math.fsum(values) / len(values)
    return math.exp(math.fsum(map(math.log, values)) / len(values))
