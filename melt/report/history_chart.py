"""A history as lines of text, for a terminal of any width and without colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.report.numbers import counted, interval, significant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.report.history_table import History, NightShown, Slot

HEIGHT = 8
MEDIAN, RUNS, LEVEL, STEP, NO_VALUE = "o", "|", "-", "^", "x"
_NARROWEST, _WIDEST = 4, 3
"""Columns that the nights have at least, and columns a night at most."""
_CLOSE = 1e-3
"""Values that differ by less than this share are drawn in the middle."""


def chart(history: History, width: int) -> list[str]:
    """The medians over the nights, between the lowest and the highest run of each; nights share a column if they must.

    Below it a mark where a new level began, or where a night gave no value, and the names of the first and last night.
    """
    low, high = _range(history)
    labels = [significant(value, 4) for value in (high, (low + high) / 2, low)]
    margin = max(map(len, labels)) + 2
    columns = _columns(history.slots, max(width - margin, _NARROWEST))
    each = max(1, min(_WIDEST, (width - margin) // max(len(columns), 1)))
    rows = [[" "] * (len(columns) * each) for _ in range(HEIGHT)]
    marks = [" "] * (len(columns) * each)

    def row(value: float) -> int:
        return HEIGHT - 1 - round((value - low) / (high - low) * (HEIGHT - 1))

    first = {slot.name: at for at, column in enumerate(columns) for slot in column}
    for begin, end, level in history.levels:
        for at in range(first[history.slots[begin].name] * each, first[history.slots[end].name] * each + 1):
            rows[row(level)][at] = LEVEL
    for number, column in enumerate(columns):
        at = number * each
        shown = [slot.shown for slot in column if slot.shown is not None]
        marks[at] = STEP if any(one.step for one in shown) else " " if len(shown) == len(column) else NO_VALUE
        if shown:
            values = [value for one in shown for value in one.values]
            for place in range(row(max(values)), row(min(values)) + 1):
                rows[place][at] = RUNS
            medians = sorted(one.median for one in shown)
            rows[row(medians[len(medians) // 2])][at] = MEDIAN
    beside = {0: labels[0], HEIGHT // 2: labels[1], HEIGHT - 1: labels[2]}
    drawn = [f"{beside.get(i, ''):>{margin - 2}} {'+' if i in beside else '|'}{''.join(r)}" for i, r in enumerate(rows)]
    below = [" " * margin + "".join(marks)] if set(marks) != {" "} else []
    return [line.rstrip() for line in [*drawn, *below, *_ends(history, margin, width)]]


def _range(history: History) -> tuple[float, float]:
    values = [value for one in history.nights for value in one.values]
    low, high = min(values), max(values)
    if high - low <= _CLOSE * max(abs(low), abs(high)):
        half = max(_CLOSE * max(abs(low), abs(high)), 1e-12)
        return low - half, high + half
    return low, high


def _columns(slots: Sequence[Slot], room: int) -> list[Sequence[Slot]]:
    """The nights by columns, several in one where there are more than there is room for."""
    together = -(-len(slots) // room)
    return [slots[at : at + together] for at in range(0, len(slots), together)]


def _ends(history: History, margin: int, width: int) -> list[str]:
    first, last = history.slots[0].name, history.slots[-1].name
    words = first if first == last else f"{first} to {last}"
    return [(" " * margin if margin + len(words) <= width else "") + words]


def told(one: NightShown) -> tuple[str, str, str, str]:
    """A night in words: its median, the 95 % interval over its runs, how many they are, and what else there is."""
    summary = one.summary
    runs = counted(summary.n, "run")
    if summary.low is None or summary.high is None:
        median, within = significant(one.median, 4), "–"
        runs += ", no interval"
    else:
        median, low, high = interval(one.median, summary.low, summary.high)
        within = f"[{low}, {high}]"
    remarks = [f"new level, {one.step.change:+.1%}"] if one.step else []
    remarks += [f"{counted(len(one.night.sessions) - 1, 'rerun')}" if len(one.night.sessions) > 1 else ""]
    return median, within, runs, ", ".join(filter(None, remarks))


def night_lines(history: History, width: int, most: int) -> list[str]:
    """A line a night, the newest at the bottom, in columns where they fit; of more than `most`, the last ones."""
    slots = history.slots[-most:]
    rows = [(slot.name, *(told(slot.shown) if slot.shown else ("–", "", "no value", ""))) for slot in slots]
    heads = ("night", f"median ({history.series.unit})", "95 % interval", "runs", "")
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        lines = ["  ".join(cell.ljust(of) for cell, of in zip(row, widths, strict=True)) for row in [heads, *rows]]
    else:
        lines = [f"{name}: {'  '.join(filter(None, cells))}" for name, *cells in rows]
    left = len(history.slots) - len(slots)
    earlier = [f"{counted(left, 'earlier night')} not listed here: --json and --out have all"] if left else []
    return [line.rstrip() for line in [*earlier, *lines]]
