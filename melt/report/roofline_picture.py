"""roofline.png: what a device can do at most, and where each language model's decode and prefill stand below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from melt.analysis.ceiling import FP32, INT8, NO_CEILING, ONE_THREAD, READ
from melt.report.canvas import GREY, INK, PALETTE, Page, Pages, plain, style
from melt.report.numbers import counted, significant
from melt.report.placing import Limits, along, spread
from melt.report.roof import Point, points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from melt.analysis.ceiling import Ceiling
    from melt.report.placing import Place
    from melt.report.select import Cell, Selection

WIDTH = 9.6
CELLS_A_PAGE, MOST_PAGES = 6, 8
_LEFT, _HEAD, _AXIS, _LINE = 0.3, 1.16, 0.5, 0.16
_TICKS, _PLOT, _LABELS_GAP = 0.52, 5.55, 0.34
_LEAST_HEIGHT, _LABEL = 3.5, 0.37
_NOTE_LINES = 4
_G = 1e9
_MARKS = {"decode": "o", "prefill": "s"}
_ROOF_SIZE = 7.2
_PERCENT = 100
_STEPS = 200
_FARTHEST = 3.0
_APART = 0.97
"""One thread that reads nearly as fast as the best number has no line of its own."""
_FEW_DECADES = 300.0
"""An axis that spans less has a tick at 2 and 5 as well."""


def roofline_pages(selection: Selection, title: str) -> Pages:
    """A page a device and `CELLS_A_PAGE` cells under its roof; a device without a roof is named in the notes."""
    colors = {
        name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(c.workload for c in selection.cells))
    }
    notes: list[str] = []
    chunks: list[tuple[Ceiling, list[list[Point]]]] = []
    for device in selection.devices:
        of_models = [cell for cell in selection.on(device) if cell.generates and cell.used]
        if of_models and not any(selection.ceiling(cell) for cell in of_models):
            notes.append(f"The roof picture lacks {device}: {NO_CEILING.partition(': ')[2]}.")
        for ceiling in selection.known_ceilings:
            drawn = [found for cell in _under(selection, device, ceiling) if (found := points(cell))]
            chunks += [(ceiling, drawn[at : at + CELLS_A_PAGE]) for at in range(0, len(drawn), CELLS_A_PAGE)]
    if len(chunks) > MOST_PAGES:
        left = counted(sum(len(drawn) for _, drawn in chunks[MOST_PAGES:]), "cell")
        notes.append(f"The roof picture ends after {MOST_PAGES} pages, without {left}; all of them are in runs.csv.")
    with style():
        pages = tuple(_page(ceiling, drawn, colors, title) for ceiling, drawn in chunks[:MOST_PAGES])
    return Pages(pages, tuple(notes))


def _under(selection: Selection, device: str, ceiling: Ceiling) -> list[Cell]:
    mine = ((cell, selection.ceiling(cell)) for cell in selection.on(device))
    return [cell for cell, found in mine if found is not None and found.source == ceiling.source]


def _page(
    ceiling: Ceiling, drawn: Sequence[Sequence[Point]], colors: dict[str, str], title: str
) -> tuple[bytes, bytes]:
    shown = [point for of_cell in drawn for point in of_cell]
    height = max(_LEAST_HEIGHT, _LABEL * len(shown) + 0.2)
    foot = [line for line in Page(WIDTH, 1).wrap(_foot(ceiling, shown), WIDTH - 2 * _LEFT, 7.5, _NOTE_LINES) if line]
    page = Page(WIDTH, _HEAD + height + _AXIS + _LINE * len(foot) + 0.24)
    _head(page, ceiling, shown, title)
    axes = page.axes(_LEFT + _TICKS, _HEAD, _PLOT, height)
    limits = _limits(ceiling, shown, height)
    _frame(axes, limits)
    _roofs(page, axes, ceiling, limits, shown)
    _points(axes, shown, colors)
    _labels(page, shown, ceiling, colors, limits)
    for index, line in enumerate(reversed(foot)):
        page.text(_LEFT, page.height - 0.2 - _LINE * index, line, size=7.5, color=GREY)
    return page.saved()


def _head(page: Page, ceiling: Ceiling, shown: Sequence[Point], title: str) -> None:
    device = ceiling.runs[0].device
    page.text(_LEFT, 0.3, f"Under the roof of {device}", size=13, bold=True, most=6.2)
    page.text(WIDTH - _LEFT, 0.3, title, color=GREY, right=True, most=2.7)
    page.rule(0.5, _LEFT, WIDTH - _LEFT)
    words = ["SIMULATED"] if any(point.cell.simulated for point in shown) else []
    words += [str(found)] if isinstance(found := ceiling.runs[0].facts.get("soc"), str) else []
    words += ["synthetic weights"] if all(point.cell.synthetic for point in shown) else []
    page.text(_LEFT, 0.7, " · ".join(words), size=8, color=GREY, most=WIDTH - 2 * _LEFT)
    page.text(_LEFT, 0.98, "G multiply-adds a second", size=8, color=GREY)


def _foot(ceiling: Ceiling, shown: Sequence[Point]) -> str:
    bars = "Bars and bands are 95 % intervals across runs, Student's t. "
    bars = bars if any(point.interval for point in shown) or ceiling.across(READ).low is not None else ""
    missing = [name for metric, name in ((FP32, "fp32"), (INT8, "int8")) if ceiling.centre(metric) is None]
    lacks = f" It has no figure of {' and '.join(missing)} multiply-adds." if missing else ""
    return (
        "● decode: each token reads every weight once. ■ prefill: one reading serves a whole batch of the prompt. "
        f"{bars}The roof is from {ceiling.source}.{lacks}"
    )


def _limits(ceiling: Ceiling, shown: Sequence[Point], height: float) -> Limits:
    """All points and the ridges of both roofs, with air around them."""
    read = ceiling.read_bytes_per_s
    tops = [rate for metric in (FP32, INT8) if (rate := ceiling.centre(metric)) is not None]
    xs = [point.intensity for point in shown] + [top / read for top in tops]
    ys = [end for point in shown for end in _reach(point)] + tops
    low_x, high_x = min(xs) / 2.5, max(xs) * 2.5
    one = ceiling.centre(ONE_THREAD) or read
    return Limits((low_x, high_x), (min([*ys, one * low_x]) / 1.4, max([*ys, read * low_x]) * 1.5), _PLOT, height)


def _reach(point: Point) -> tuple[float, float]:
    """Its interval, but no further than so: a few noisy runs must not flatten the picture."""
    low, high = point.interval or (point.madd_per_s, point.madd_per_s)
    return max(low, point.madd_per_s / _FARTHEST), min(high, point.madd_per_s * _FARTHEST)


def _frame(axes: Axes, limits: Limits) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*limits.x)
    axes.set_ylim(*limits.y)
    axes.grid(visible=True, axis="both", which="major")
    for axis, scale, (low, high) in ((axes.xaxis, 1.0, limits.x), (axes.yaxis, _G, limits.y)):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < _FEW_DECADES else (1.0,), numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _, scale=scale: plain(value / scale)))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("multiply-adds for each byte of weights read (both scales logarithmic)", fontsize=8, labelpad=2)


def _roofs(page: Page, axes: Axes, ceiling: Ceiling, limits: Limits, shown: Sequence[Point]) -> None:
    """The slope of memory, for the best number of threads and for one, and the levels of the arithmetic."""
    tops = {name: top for metric, name in ((INT8, "int8"), (FP32, "fp32")) if (top := ceiling.centre(metric))}
    highest = max(tops.values(), default=limits.y[1])
    read, one = ceiling.read_bytes_per_s, ceiling.centre(ONE_THREAD)
    taken = [limits.at(point.intensity, point.madd_per_s) for point in shown]
    at_best = f", {counted(ceiling.threads, 'thread')}" if ceiling.threads else ""
    slopes = [(read, f"read {significant(read / _G)} GB/s{at_best}", "solid", INK)]
    if one is not None and ceiling.threads != 1 and one < _APART * read:
        slopes.append((one, f"1 thread {significant(one / _G)} GB/s", "dashed", GREY))
    for metric in (READ, INT8, FP32):
        _band(axes, ceiling, metric, highest, limits)
    for rate, words, dashes, color in slopes:
        low, high = max(limits.x[0], limits.y[0] / rate), min(highest / rate, limits.x[1])
        axes.plot((low, high), (rate * low, rate * high), color=color, lw=1.3, linestyle=dashes, zorder=2)
        ends = limits.at(low, rate * low), limits.at(high, rate * high)
        _write(axes, limits, words, along(ends, page.measure(words, _ROOF_SIZE), taken, below=rate != read))
    for name, top in tops.items():
        ridge = max(top / read, limits.x[0])
        axes.plot((ridge, limits.x[1]), (top, top), color=INK, lw=1.3, zorder=2)
        words = f"{name}: {significant(top / _G)} G/s"
        ends = limits.at(max(top / (one or read), ridge), top), limits.at(limits.x[1], top)
        _write(axes, limits, words, along(ends, page.measure(words, _ROOF_SIZE), taken, below=False))


def _band(axes: Axes, ceiling: Ceiling, metric: str, highest: float, limits: Limits) -> None:
    """How well a roof is known: its interval, faintly."""
    found = ceiling.across(metric)
    if found.low is None or found.high is None:
        return
    if metric == READ:
        at = [limits.x[0] * (limits.x[1] / limits.x[0]) ** (step / _STEPS) for step in range(_STEPS + 1)]
        low, high = ([min(rate * x, highest) for x in at] for rate in (found.low, found.high))
    else:
        at = [(found.centre or found.high) / ceiling.read_bytes_per_s, limits.x[1]]
        low, high = [found.low] * 2, [found.high] * 2
    axes.fill_between(at, low, high, color=GREY, alpha=0.1, lw=0, zorder=1)


def _write(axes: Axes, limits: Limits, words: str, place: Place) -> None:
    axes.text(
        place.x / limits.width,
        place.y / limits.height,
        words,
        transform=axes.transAxes,
        rotation=place.degrees,
        rotation_mode="anchor",
        ha="center",
        va="center",
        fontsize=_ROOF_SIZE,
        color=GREY,
        zorder=3,
    )


def _points(axes: Axes, shown: Sequence[Point], colors: dict[str, str]) -> None:
    for point in shown:
        color = colors[point.cell.workload]
        if point.interval is not None:
            axes.plot((point.intensity,) * 2, point.interval, color=color, lw=1.6, zorder=4)
        axes.plot(
            point.intensity, point.madd_per_s, _MARKS[point.phase], color=color, ms=6.5, mec="white", mew=0.8, zorder=5
        )


def _labels(page: Page, shown: Sequence[Point], ceiling: Ceiling, colors: dict[str, str], limits: Limits) -> None:
    """Beside the plot, each at the height of its point or as near as there is room, with a line that leads to it."""
    height = limits.height
    ranked = sorted(shown, key=lambda point: -point.madd_per_s)
    places = [limits.at(point.intensity, point.madd_per_s) for point in ranked]
    wanted = [height - y for _, y in places]
    right = _LEFT + _TICKS + _PLOT
    left = right + _LABELS_GAP
    leads = page.axes(_LEFT + _TICKS, _HEAD, _PLOT + _LABELS_GAP, height)
    leads.set_axis_off()
    leads.set_xlim(0, _PLOT + _LABELS_GAP)
    leads.set_ylim(height, 0)
    leads.patch.set_alpha(0)
    for point, (start, up), down in zip(ranked, places, spread(wanted, _LABEL, 0.1, height - 0.1), strict=True):
        color = colors[point.cell.workload]
        leads.plot(
            (start, _PLOT, _PLOT + _LABELS_GAP - 0.06),
            (height - up, height - up, down),
            color=color,
            lw=0.7,
            alpha=0.45,
            zorder=1,
        )
        room = WIDTH - _LEFT - left
        page.text(left, _HEAD + down - 0.07, point.cell.label, size=8, bold=True, color=color, most=room)
        page.text(left, _HEAD + down + 0.09, _words(point, ceiling, shown), size=7.2, color=GREY, most=room)


def _words(point: Point, ceiling: Ceiling, shown: Sequence[Point]) -> str:
    """`decode 25.0 tok/s, 73 % of memory's roof`."""
    words = [f"{point.name} {significant(point.tok_per_s.centre or 0.0)} tok/s"]
    if point.phase == "decode" and (read := ceiling.centre(READ)):
        share = 100 * point.madd_per_s / (point.intensity * read)
        words.append(f"{significant(share, 3 if share >= _PERCENT else 2)} % of the memory roof")
    words += ["synthetic"] if point.cell.synthetic and not all(other.cell.synthetic for other in shown) else []
    return ", ".join(words)
