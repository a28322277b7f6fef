"""history.png: a metric over the nights, a panel for each device and cell, with the levels that it had."""

from __future__ import annotations

import datetime as dt
import math
from itertools import pairwise
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, MaxNLocator

from melt.report.canvas import FAINT, GREY, INK, PALETTE, Page, Pages, few_ticks, style, ticks
from melt.report.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from melt.report.history_table import History

WIDTH = 9.6
PANELS_A_PAGE, MOST_PAGES = 5, 16
RUNS, MEDIANS, STEP, NOTHING = "#9db8cf", PALETTE[0], PALETTE[1], "#f3efe6"
_LEFT, _RIGHT, _TICKS = 0.3, 0.3, 0.62
_HEAD, _TITLE, _PANEL, _AXIS, _LINE = 0.78, 0.28, 1.75, 0.5, 0.16
_MOST_NOTES, _MOST_NAMED = 3, 6
_STAMP = "%Y%m%dT%H%M%SZ"
_STAMP_LENGTH = 16
_CAPTION = (
    "Each point is a run, an open one of a rerun in the same night; the line joins the medians of the nights, with the "
    "95 % interval over their runs."
)


def history_pages(histories: Sequence[History], title: str) -> Pages:
    """Up to five panels a page; what is left out is named in the notes."""
    room = PANELS_A_PAGE * MOST_PAGES
    left_out = len(histories[room:])
    notes = (
        (f"The pictures end after {MOST_PAGES} pages, without {left_out} of the series; history.csv has all.",)
        if left_out
        else ()
    )
    shown = histories[:room]
    with style():
        chunks = [shown[at : at + PANELS_A_PAGE] for at in range(0, len(shown), PANELS_A_PAGE)]
        return Pages(tuple(_page(chunk, title) for chunk in chunks), notes)


def _page(histories: Sequence[History], title: str) -> tuple[bytes, bytes]:
    width = WIDTH - _LEFT - _RIGHT
    probe = Page(WIDTH, 1)
    feet = [_foot(probe, history, width) for history in histories]
    caption = [line for line in probe.wrap(_CAPTION, width, 7.5, 2) if line]
    heights = [_TITLE + _PANEL + _AXIS + _LINE * len(foot) for foot in feet]
    page = Page(WIDTH, _HEAD + sum(heights) + _LINE * len(caption) + 0.3)
    metrics = list(dict.fromkeys(f"{one.series.metric} ({one.series.unit})" for one in histories))
    page.text(_LEFT, 0.3, f"{', '.join(metrics)} over the nights", size=13, bold=True, most=6.4)
    page.text(WIDTH - _RIGHT, 0.3, title, size=8.5, color=GREY, right=True, most=2.5)
    page.rule(0.5, _LEFT, WIDTH - _RIGHT)
    items = [(RUNS, "runs"), (MEDIANS, "medians of the nights")]
    items += [(STEP, "levels, and where one began")] if any(one.steps for one in histories) else []
    items += [(NOTHING, "nights without a usable value")] if any(one.lacking for one in histories) else []
    page.legend(_LEFT, 0.64, items, width)
    top = _HEAD
    for history, height, foot in zip(histories, heights, feet, strict=True):
        _panel(page, history, history.heading(histories), top, width)
        for index, line in enumerate(foot):
            page.text(_LEFT, top + _TITLE + _PANEL + _AXIS + _LINE * (index - 0.5), line, size=7.5, color=GREY)
        top += height
    for index, line in enumerate(reversed(caption)):
        page.text(_LEFT, page.height - 0.2 - _LINE * index, line, size=7.5, color=GREY)
    return page.saved()


def _foot(probe: Page, history: History, width: float) -> list[str]:
    """What has to be said below a panel: of what an energy is, and the notes of the series."""
    total = [f"The energy is of {history.series.total}"] if history.series.total else []
    said = [*total, *history.series.notes]
    lines = probe.wrap("; ".join(said), width, 7.5, _MOST_NOTES) if said else []
    return [line for line in lines if line]


def _panel(page: Page, history: History, heading: str, top: float, width: float) -> None:
    used = page.text(_LEFT, top + 0.12, heading, size=9.5, bold=True, most=0.6 * width)
    words = [*history.tags, counted(len(history.nights), "night")]
    page.text(_LEFT + used + 0.14, top + 0.12, ", ".join(words), size=7.5, color=GREY, most=width - used - 0.14)
    axes = page.axes(_LEFT + _TICKS, top + _TITLE, width - _TICKS, _PANEL)
    at, stamped = _places(history)
    step = min((b - a for a, b in pairwise(at)), default=1.0)
    axes.set_xlim(at[0] - 0.7 * step, at[-1] + 0.7 * step)
    axes.grid(visible=True, axis="y")
    _nothing(axes, history, at, step)
    _runs(axes, history, at)
    _medians(axes, history, at, step)
    _levels(page, axes, history, at, step)
    few_ticks(axes, y=5)
    axes.yaxis.set_major_formatter(ticks(1))
    axes.margins(y=0.14)
    _nights_axis(axes, history, at, stamped=stamped)


def _places(history: History) -> tuple[list[float], bool]:
    """Where each night stands: at its day, so that nights on which nothing ran are seen; else one after another."""
    stamps = [_stamp(slot.name) for slot in history.slots]
    known = [stamp for stamp in stamps if stamp is not None]
    if len(known) == len(stamps) and all(a < b for a, b in pairwise(known)):
        return [stamp.timestamp() / 86_400 for stamp in known], True
    return [float(i) for i in range(len(stamps))], False


def _stamp(name: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(name[:_STAMP_LENGTH], _STAMP).replace(tzinfo=dt.UTC)
    except ValueError:
        return None


def _nothing(axes: Axes, history: History, at: Sequence[float], step: float) -> None:
    for place, slot in zip(at, history.slots, strict=True):
        if slot.shown is None:
            axes.axvspan(place - 0.5 * step, place + 0.5 * step, color=NOTHING, lw=0, zorder=0)


def _runs(axes: Axes, history: History, at: Sequence[float]) -> None:
    size = 3.2 if len(at) <= 60 else 2.0  # noqa: PLR2004 - two months of nights
    for rerun in (False, True):
        points = [
            (place, value)
            for place, slot in zip(at, history.slots, strict=True)
            if slot.shown is not None
            for value in (slot.shown.rerun_values if rerun else slot.shown.values)
        ]
        if points:
            face = "none" if rerun else RUNS
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "o", ms=size, mfc=face, mec=GREY if rerun else RUNS, mew=0.7, alpha=0.85, zorder=2)


def _medians(axes: Axes, history: History, at: Sequence[float], step: float) -> None:
    """The line ends where a night gave nothing, or where there was none for longer than usual."""
    usual = sorted(b - a for a, b in pairwise(at))[(len(at) - 1) // 2] if len(at) > 1 else step
    x: list[float] = []
    y: list[float] = []
    for place, slot in zip(at, history.slots, strict=True):
        if x and (slot.shown is None or place - x[-1] > 1.6 * usual):
            x.append(place)
            y.append(math.nan)
        if slot.shown is None:
            continue
        summary = slot.shown.summary
        if summary.low is not None and summary.high is not None:
            axes.plot((place, place), (summary.low, summary.high), color=MEDIANS, lw=2.6, alpha=0.22, zorder=2.5)
        x.append(place)
        y.append(slot.shown.median)
    axes.plot(x, y, "-o", color=MEDIANS, lw=1.2, ms=3.0 if len(at) <= 60 else 1.8, zorder=3)  # noqa: PLR2004


def _levels(page: Page, axes: Axes, history: History, at: Sequence[float], step: float) -> None:
    """Each level as a line, and the name of the night in which it began, on its right where that has room."""
    begins = {slot.name: place for place, slot in zip(at, history.slots, strict=True)}
    for first, last, level in history.levels:
        axes.plot((at[first] - 0.4 * step, at[last] + 0.4 * step), (level, level), color=STEP, lw=1.3, zorder=2.8)
    low, high = axes.get_xlim()
    inch = (high - low) / (WIDTH - _LEFT - _RIGHT - _TICKS)
    named = history.steps[-_MOST_NAMED:]
    for number, one in enumerate(named):
        place = begins[one.name] - 0.5 * step
        axes.axvline(place, color=STEP, lw=0.9, ls=(0, (3, 2)), zorder=1.5)
        change = f" {one.step.change:+.1%}" if one.step else ""
        words = page.fit(f"{one.name}{change}", 2.4, 7)
        left = place + (page.measure(words, 7) + 0.06) * inch > high
        axes.annotate(
            words,
            (place, 1),
            (-3 if left else 3, -5 - 9 * (number % 3)),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=7,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
            zorder=6,
        )


def _nights_axis(axes: Axes, history: History, at: Sequence[float], *, stamped: bool) -> None:
    names = dict(zip(at, (slot.name for slot in history.slots), strict=True))

    def label(place: float, _: int | None) -> str:
        if stamped:
            return f"{dt.datetime.fromtimestamp(place * 86_400, dt.UTC):%Y-%m-%d}"
        return names.get(place, "")

    if stamped and len(at) > 2:  # noqa: PLR2004 - the first and the last night
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 7, 10]))
    else:
        axes.set_xticks(at if len(at) <= 8 else at[:: -(-len(at) // 8)])  # noqa: PLR2004
    axes.xaxis.set_major_formatter(FuncFormatter(label))
    axes.tick_params(axis="x", color=FAINT)
