"""How long the prompts of a set are: which share of them is at most so many words."""

from __future__ import annotations

import io
import statistics
from typing import TYPE_CHECKING

import matplotlib as mpl

from melt.report.canvas import GREY, PALETTE, Page, few_ticks, plain, style, ticks
from melt.report.numbers import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

KINDS = ("png", "svg", "pdf")
_WIDTH, _HEIGHT, _LEFT, _TOP = 7.2, 4.3, 0.3, 0.9
_LINE = 0.2
_LOG_BEYOND = 10
"""Times the median: beyond it a linear scale would press most prompts into a corner."""


def lengths_picture(sets: Mapping[str, Sequence[int]], kind: str) -> bytes:
    """The cumulative distribution of each set's prompt lengths, in words; as PNG, SVG or PDF.

    The same sets give the same bytes. A line without a colour of its own left is drawn in one that was used, dashed.
    """
    least, most = min(map(min, sets.values())), max(map(max, sets.values()))
    log = any(max(counts) > _LOG_BEYOND * max(statistics.median(counts), 1) for counts in sets.values())
    with style(), mpl.rc_context({"svg.hashsalt": "melt"}):
        page = Page(_WIDTH, _HEIGHT + _LINE * len(sets) + 0.14)
        page.text(_LEFT, 0.3, "Length of prompts", size=13, bold=True)
        about = "share of a set's prompts that have at most so many words" + (", on a logarithmic scale" if log else "")
        page.text(_LEFT, 0.6, about, size=8, color=GREY)
        left, bottom = _LEFT + 0.42, _HEIGHT - 0.5
        axes = page.axes(left, _TOP, _WIDTH - left - _LEFT, bottom - _TOP)
        _scale(axes, max(least, 1) * 0.8 if log else 0.0, max(most, 1) * 1.05, log=log)
        for row, counts in enumerate(sets.values()):
            _draw(axes, counts, PALETTE[row % len(PALETTE)], "-" if row < len(PALETTE) else "--")
        page.text(_WIDTH - _LEFT, bottom + 0.36, "words in a prompt", size=8, color=GREY, right=True)
        for row, (name, counts) in enumerate(sets.items()):
            dashed = " (dashed)" if row >= len(PALETTE) else ""
            _key(page, _HEIGHT + 0.02 + _LINE * row, name + dashed, counts, PALETTE[row % len(PALETTE)])
        return _saved(page, kind)


def _scale(axes: Axes, low: float, high: float, *, log: bool) -> None:
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ticks(1.0))
        axes.xaxis.set_minor_formatter(lambda *_: "")
    else:
        few_ticks(axes, x=7)
    axes.set_xlim(low, high)
    axes.set_ylim(0, 1.02)
    axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0", "25 %", "50 %", "75 %", "100 %"))
    axes.grid(visible=True)


def _draw(axes: Axes, counts: Sequence[int], color: str, dashes: str) -> None:
    """From the shortest prompt to the longest; one without a word stands at the left edge."""
    at = [max(count, axes.get_xlim()[0]) for count in sorted(counts)]
    shares = [(i + 1) / len(at) for i in range(len(at))]
    axes.step([at[0], *at], [0.0, *shares], where="post", color=color, lw=1.7, ls=dashes, clip_on=False)


def _key(page: Page, top: float, name: str, counts: Sequence[int], color: str) -> None:
    at = _LEFT + page.swatch(_LEFT, top, color)
    at += page.text(at, top, name, size=8.5, bold=True, most=2.4) + 0.12
    words = (
        f"{counted(len(counts), 'prompt')}: mean {plain(statistics.fmean(counts))}, "
        f"median {plain(statistics.median(counts))}, longest {max(counts):,} words"
    )
    page.text(at, top, words, size=8, color=GREY, most=_WIDTH - _LEFT - at)


def _saved(page: Page, kind: str) -> bytes:
    out = io.BytesIO()
    undated: dict[str, dict[str, str | None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": "melt"}}
    metadata = undated.get(kind, {"CreationDate": None, "Creator": "melt"})
    page.figure.savefig(out, format=kind, metadata=metadata, facecolor="white", dpi="figure")
    return out.getvalue()
