"""A comparison as tables and sentences for people: what the terminal and compare.md show."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from melt.analysis.contrast import sense
from melt.report.escape import one_line
from melt.report.numbers import MISSING, interval, seconds, significant, size, superscript
from melt.report.table import Column, Row, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.compare import Comparison, Extreme, Overall, Verdict

_WORDS = ("faster", "slower", "more", "less", "equivalent", "inconclusive")
_FAR = 1e6
COLUMNS = (
    Column("cell", right=False),
    Column("metric", right=False),
    Column("verdict", right=False),
    Column("b ÷ a [95 % interval]"),
    Column("detectable", "%"),
    Column("runs"),
    Column("a"),
    Column("b"),
    Column("δ", "%"),
)
_WHOSE = 3
"""So many figures are named that a caveat is of."""


def title(comparison: Comparison) -> str:
    """What is compared, in one line."""
    if comparison.b is not None:
        along = "" if comparison.axis == "session" else f", along {comparison.axis}"
        return f"{comparison.b} (b) against {comparison.a} (a){along}"
    others = list(dict.fromkeys(one.b_side for one in comparison.matched))
    b = others[0] if len(others) == 1 else f"{len(others)} others"
    base = next((one.a_side for one in comparison.matched), comparison.base)
    return f"{comparison.a}: {b} (b) against {base} (a)"


def in_short(comparison: Comparison) -> str:
    """How many verdicts of each kind there are, and what the base is."""
    told = [f"{count} {word}" for word, count in how_many(comparison).items() if count]
    cells = len(comparison.matched)
    said = f"{cells} {'cell' if cells == 1 else 'cells'} on both sides: {', '.join(told) or 'no verdict'}."
    if comparison.unmatched:
        said += f" {len(comparison.unmatched)} on one side alone."
    if comparison.base is not None:
        said += f" The base is {comparison.axis} {comparison.base} ({comparison.base_why})."
    return " ".join((said, *(f"{label}." for label in comparison.labels)))


def caveats_of_figures(comparison: Comparison) -> list[str]:
    """What a reader must know of single figures: each text once, with whose it is where it is not of all of them."""
    whose: dict[str, list[str]] = {}
    devices = {one.device for one in comparison.verdicts}
    for one in comparison.verdicts:
        name = f"{one.cell} {one.metric}" if len(devices) == 1 else f"{one.device} {one.cell} {one.metric}"
        for text in (*one.caveats, *(one.found.notes if one.found else ())):
            whose.setdefault(text, []).append(name)
    lines = []
    for text, names in whose.items():
        more = f" and {len(names) - _WHOSE} more" if len(names) > _WHOSE else ""
        lines.append(text if len(names) == len(comparison.verdicts) else f"{', '.join(names[:_WHOSE])}{more}: {text}")
    return lines


def how_many(comparison: Comparison) -> Mapping[str, int]:
    """Verdicts by word."""
    counts: Counter[str] = Counter(one.word for one in comparison.verdicts if one.word is not None)
    refused = sum(one.word is None for one in comparison.verdicts)
    return {**{word: counts[word] for word in _WORDS}, "refused": refused}


def headed_tables(comparison: Comparison) -> list[tuple[str, Table]]:
    """A table for each two sides and device, under what it is of."""
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for one in comparison.verdicts:
        groups.setdefault((one.a_side, one.b_side, one.device), []).append(one)
    return [(f"{device}: {b} (b) against {a} (a)", _table(mine)) for (a, b, device), mine in groups.items()]


def _table(verdicts: Sequence[Verdict]) -> Table:
    footnotes: list[str] = []
    rows = tuple(_row(one, footnotes) for one in verdicts)
    return Table(COLUMNS, rows, tuple(footnotes))


def _row(one: Verdict, footnotes: list[str]) -> Row:
    def mark(text: str | None) -> str:
        if not text:
            return ""
        footnotes.extend([text] if text not in footnotes else [])
        return superscript(footnotes.index(text) + 1)

    found = one.found
    marks = mark(one.refused) + mark(found.why_not if found else None)
    detectable = MISSING if found is None or found.detectable is None else significant(100 * found.detectable, 2)
    return Row(
        (
            *(one_line(text) for text in (one.cell, one.metric)),
            one.word or "refused",
            f"{ratio_text(one)}{' ' if marks else ''}{marks}",
            detectable,
            MISSING if found is None else f"{found.n_a} pairs" if found.paired else f"{found.n_a} + {found.n_b}",
            quantity(one.a, one.unit),
            quantity(one.b, one.unit),
            significant(100 * one.delta, 2),
        )
    )


def ratio_text(one: Verdict) -> str:
    """`1.42 [1.39–1.45]`."""
    found = one.found
    if found is None or found.ratio is None:
        return MISSING
    if found.low is None or found.high is None:
        return _ratio(found.ratio)
    if not all(1 / _FAR < value < _FAR for value in (found.ratio, found.low, found.high)):
        return f"{found.ratio:.3g} [{found.low:.3g}–{found.high:.3g}]"
    centre, low, high = interval(found.ratio, found.low, found.high)
    return f"{centre} [{low}–{high}]"


def quantity(value: float | None, unit: str) -> str:
    """A figure in the unit that suits it."""
    if value is None:
        return MISSING
    if unit == "s":
        return seconds(value)
    if unit == "bytes":
        return size(value)
    return significant(value) if unit == "1" else f"{significant(value)} {unit}"


def overall_lines(comparison: Comparison) -> list[str]:
    """For each metric the geometric mean over the cells, both ends, and the cell that gave each."""
    return [
        f"{one.metric} ({one.b_side} against {one.a_side}): {_over(one)}"
        + (f"; {_ends(one.metric, one.lowest, one.highest)}" if one.cells > 1 else "")
        for one in comparison.overall
    ]


def _over(one: Overall) -> str:
    """The ratio with its verdicts; what no cell was shown to be is not told as so many times as fast."""
    alone = one.cells == 1
    words = ", ".join(word if alone else f"{count} {word}" for word, count in one.words.items())
    where = "the one cell" if alone else f"the geometric mean of {one.cells} cells"
    said = f"b ÷ a is {_ratio(one.ratio)} in {where} ({words})"
    return f"{said}, {_factor(one.metric, one.ratio)}" if {"faster", "slower"} & one.words.keys() else said


def _ratio(value: float) -> str:
    """Three digits; in powers of ten where they would stand far from the point."""
    return significant(value) if 1 / _FAR < value < _FAR else f"{value:.3g}"


def _factor(metric: str, ratio: float) -> str:
    """A ratio as people say it: `1.8 times as fast`."""
    factor = 1 / ratio if sense(metric) == "time" else ratio
    return f"{_ratio(factor)} times as fast"


def _ends(metric: str, lowest: Extreme, highest: Extreme) -> str:
    def told(end: Extreme) -> str:
        return f"{_ratio(end.ratio)} ({end.device} {end.cell}: {end.word})"

    if sense(metric) == "amount":
        return f"at least {told(lowest)}, at most {told(highest)}"
    best, worst = (lowest, highest) if sense(metric) == "time" else (highest, lowest)
    return (
        f"up to {_factor(metric, best.ratio)} ({best.device} {best.cell}: {best.word}), "
        f"at least {_factor(metric, worst.ratio)} ({worst.device} {worst.cell}: {worst.word})"
    )


def delta_lines(comparison: Comparison) -> list[str]:
    """Where each δ comes from."""
    found: dict[tuple[float, str], list[str]] = {}
    for one in comparison.verdicts:
        if one.word is not None:
            metrics = found.setdefault((one.delta, one.delta_from), [])
            metrics += [one.metric] if one.metric not in metrics else []
    return [f"δ {delta:.1%} for {', '.join(metrics)}: {source}" for (delta, source), metrics in found.items()]
