"""compare.png: a forest plot, the ratio of both sides for each metric and cell with its 95 % interval."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from melt.report.canvas import FAINT, GREY, INK, PALETTE, Page, Pages, drawable, plain, style
from melt.report.compare_table import caveats_of_figures, ratio_text, title
from melt.report.numbers import MISSING, counted, significant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from melt.analysis.contrast import Word
    from melt.compare import Comparison, Verdict

WIDTH = 9.6
ROWS_A_PAGE, MOST_PAGES = 44, 8
_LEFT, _NAMES, _PLOT, _GAP = 0.3, 2.25, 2.85, 0.15
_RATIO, _WORD, _ABLE = 1.56, 0.86, 0.72
_HEAD, _LINE, _ROW, _AXIS = 0.92, 0.17, 0.2, 0.42
_COLORS: dict[Word | None, str] = {
    "faster": PALETTE[0],
    "slower": PALETTE[1],
    "equivalent": PALETTE[2],
    "less": PALETTE[5],
    "more": PALETTE[4],
    "inconclusive": FAINT,
    None: FAINT,
}
_WARN = PALETTE[1]
_LEAST, _MOST = 1.06, 8.0
"""The axis reaches so far from 1 at least, and at most; what lies beyond is an arrow."""
_STEPS = (1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 8.0)
_TICKS = 3
_MOST_STAMPS = 6


@dataclass(frozen=True)
class _Head:
    """A line above the rows of one metric."""

    words: str


_Line = _Head | tuple[str, "Verdict"]


def forest_pages(comparison: Comparison) -> Pages:
    """Every verdict with a ratio, by metric; a page holds so many rows, and what no page holds is in the notes."""
    lines = _lines(comparison)
    if not lines:
        return Pages(notes=("There is no picture: nothing has a ratio.",))
    chunks = [lines[at : at + ROWS_A_PAGE] for at in range(0, len(lines), ROWS_A_PAGE)]
    notes = []
    if len(chunks) > MOST_PAGES:
        left = sum(not isinstance(line, _Head) for chunk in chunks[MOST_PAGES:] for line in chunk)
        notes.append(f"The picture ends after {MOST_PAGES} pages, without {counted(left, 'row')}: see compare.csv.")
    reach = _reach([line[1] for line in lines if not isinstance(line, _Head)])
    with style():
        pages = tuple(_page(comparison, chunk, reach) for chunk in chunks[:MOST_PAGES])
    return Pages(pages, tuple(notes))


def _lines(comparison: Comparison) -> list[_Line]:
    groups: dict[tuple[str, str, str], list[Verdict]] = {}
    for one in comparison.verdicts:
        if one.found is not None and one.found.ratio is not None:
            groups.setdefault((one.metric, one.a_side, one.b_side), []).append(one)
    sides = {(one.a_side, one.b_side) for one in comparison.verdicts}
    devices = {one.device for one in comparison.verdicts}
    lines: list[_Line] = []
    for (metric, a, b), mine in groups.items():
        lines.append(_Head(metric if len(sides) == 1 else f"{metric}: {b} against {a}"))
        lines += [(one.cell if len(devices) == 1 else f"{one.device} · {one.cell}", one) for one in mine]
    return lines


def _reach(verdicts: Sequence[Verdict]) -> float:
    """How far the axis reaches from 1, as a factor to both sides."""
    ends = [_LEAST]
    for one in verdicts:
        found = one.found
        if found is not None and found.ratio is not None:
            ends += [max(end, 1 / end) for end in (found.ratio, found.low, found.high) if end]
            ends.append(1 + one.delta)
    return float(min(max(ends) ** 1.08, _MOST))


def _page(comparison: Comparison, lines: Sequence[_Line], reach: float) -> tuple[bytes, bytes]:
    warnings = [*comparison.stamps, *(label for label in comparison.labels if label.startswith("SIMULATED"))]
    measure = Page(WIDTH, 1)
    # a stamp is never cut away: it is why the picture may be read in another way
    told = [
        text for warning in warnings[:_MOST_STAMPS] for text in measure.wrap(warning, WIDTH - 2 * _LEFT, 8, 3) if text
    ]
    if len(warnings) > _MOST_STAMPS:
        told.append(f"and {len(warnings) - _MOST_STAMPS} more of these: see compare.md")
    foot = [text for part in _foot(comparison) for text in measure.wrap(part, WIDTH - 2 * _LEFT, 7.5, 2) if text]
    head, height = _HEAD + _LINE * len(told), _ROW * len(lines)
    page = Page(WIDTH, head + height + _AXIS + _LINE * len(foot) + 0.2)
    page.text(_LEFT, 0.3, title(comparison), size=12, bold=True, most=WIDTH - 2 * _LEFT)
    page.rule(0.5, _LEFT, WIDTH - _LEFT)
    for number, text in enumerate(told):
        page.text(_LEFT, 0.66 + _LINE * number, text, size=8, bold=True, color=_WARN)
    axes = page.axes(_LEFT + _NAMES, head, _PLOT, height)
    right = _LEFT + _NAMES + _PLOT + _GAP
    _column_heads(page, head - 0.13, right)
    _frame(axes, len(lines), reach)
    for number, line in enumerate(lines):
        top = head + _ROW * (number + 0.5)
        if isinstance(line, _Head):
            page.text(_LEFT, top, line.words, size=8.5, bold=True, most=_NAMES - 0.1)
            continue
        name, one = line
        page.text(_LEFT + 0.12, top, _cut(page, name, _NAMES - 0.24), size=8)
        _mark(axes, number, one, reach)
        page.text(right, top, ratio_text(one), size=8, most=_RATIO)
        page.text(right + _RATIO, top, one.word or "", size=8, color=_word_color(one.word), most=_WORD)
        page.text(right + _RATIO + _WORD + _ABLE - 0.15, top, _able(one), size=8, color=GREY, right=True)
        page.text(WIDTH - _LEFT, top, _runs(one), size=8, color=GREY, right=True)
    for number, text in enumerate(reversed(foot)):
        page.text(_LEFT, page.height - 0.18 - _LINE * number, text, size=7.5, color=GREY)
    return page.saved()


def _cut(page: Page, name: str, most: float) -> str:
    """A name that fits, its middle left out: the ends of cells' names tell them apart."""
    whole = drawable(name)
    if page.measure(whole, 8) <= most:
        return whole
    for kept in range(len(whole) - 1, 3, -1):
        head = kept * 2 // 5
        short = f"{whole[:head].rstrip()}…{whole[len(whole) - (kept - head) :].lstrip()}"
        if page.measure(short, 8) <= most:
            return short
    return "…"


def _column_heads(page: Page, top: float, right: float) -> None:
    page.text(right, top, "b ÷ a [95 % interval]", size=7.5, color=GREY)
    page.text(right + _RATIO, top, "verdict", size=7.5, color=GREY)
    page.text(right + _RATIO + _WORD + _ABLE - 0.15, top, "detectable", size=7.5, color=GREY, right=True)
    page.text(WIDTH - _LEFT, top, "runs", size=7.5, color=GREY, right=True)


def _foot(comparison: Comparison) -> list[str]:
    """Paragraphs; what has no room here stands in compare.md."""
    labels = [label for label in comparison.labels if not label.startswith("SIMULATED")]
    of_figures = caveats_of_figures(comparison)
    caveats = [f"{counted(len(comparison.caveats), 'caveat')}: {'; '.join(comparison.caveats)}"]
    return [
        (
            "A mark is the geometric mean of b ÷ a of one cell; its bar is the 95 % interval, runs being the "
            "replicates; the band is ±δ, within which a difference is called none."
        ),
        (
            "Rates: right of 1 is faster. Times: left of 1 is faster. An arrow goes on beyond the axis. Detectable: "
            "what so many runs, as noisy as these, find in 80 % of cases."
        ),
        *([". ".join(labels)] if labels else []),
        *(["; ".join(of_figures)] if of_figures else []),
        *(caveats if comparison.caveats else []),
    ]


def _frame(axes: Axes, rows: int, reach: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(1 / reach, reach)
    axes.set_ylim(rows, 0)
    axes.yaxis.set_visible(False)
    axes.spines["left"].set_visible(False)
    axes.axvline(1.0, color=INK, lw=0.8, zorder=1)
    inside = [step for step in _STEPS if step < reach]
    chosen = inside[-1:] if len(inside) < _TICKS else [inside[-1], inside[-_TICKS]]
    ticks = sorted({1.0, *chosen, *(1 / step for step in chosen)})
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(round(value, 3))))
    axes.set_xlabel("b ÷ a (logarithmic)", fontsize=8, labelpad=2)


def _mark(axes: Axes, number: int, one: Verdict, reach: float) -> None:
    found, y, color = one.found, number + 0.5, _COLORS[one.word]
    if found is None or found.ratio is None:
        return
    axes.fill_betweenx((number + 0.04, number + 0.96), 1 / (1 + one.delta), 1 + one.delta, color=GREY, alpha=0.12, lw=0)
    if found.low is not None and found.high is not None:
        low, high = (min(max(end, 1 / reach), reach) for end in (found.low, found.high))
        axes.plot((low, high), (y, y), color=color, lw=1.6, zorder=2)
    edge = 1 / reach if found.ratio < 1 / reach else reach if found.ratio > reach else None
    at, marker = (found.ratio, "o") if edge is None else (edge, "<" if edge < 1 else ">")
    axes.plot((at,), (y,), marker=marker, ms=4.4, color=color, clip_on=False, zorder=3)
    ends = ((found.low, 1 / reach, "<"), (found.high, reach, ">"))
    for end, limit, arrow in ends:
        if end is not None and abs(math.log(end)) > math.log(reach) and (end < 1) == (limit < 1):
            axes.plot((limit,), (y,), marker=arrow, ms=4, color=color, clip_on=False, zorder=3)


def _word_color(word: Word | None) -> str:
    return GREY if word in (None, "inconclusive") else INK


def _able(one: Verdict) -> str:
    found = one.found
    return MISSING if found is None or found.detectable is None else f"{significant(100 * found.detectable, 2)} %"


def _runs(one: Verdict) -> str:
    found = one.found
    if found is None:
        return MISSING
    return f"{found.n_a} pairs" if found.paired else f"{found.n_a} + {found.n_b}"
