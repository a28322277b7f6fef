"""latency.png: for each device its cells, the median on one scale and the distribution of every run on its own."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from melt.report.across import across
from melt.report.canvas import GREY, PALETTE, RULE, Page, Pages, style
from melt.report.distribution import LOG_BEYOND, Row, draw_shape, unit_for
from melt.report.numbers import counted, interval, significant
from melt.report.raw import latencies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.summary import Summary
    from melt.report.select import Cell, Selection

WIDTH = 9.6
ROWS_A_PAGE, MOST_PAGES = 16, 6
_LEFT, _LABELS, _BARS, _SHAPES = 0.3, 2.1, 2.3, 3.9
_GAP = 0.2
_HEAD, _DEVICE, _ROW, _FOOT = 0.84, 0.5, 0.92, 0.42
_KEY = (
    "◆ geometric mean of the run medians ( | ); the band is its 95 % interval across runs, Student's t. "
    "Warm-up is in the raw data and in no figure."
)

_TITLES = MappingProxyType({"generate": "Time between two tokens", "bench": "Time of one repetition"})


def latency_pages(selection: Selection, title: str) -> Pages:
    """Pages of `ROWS_A_PAGE` cells; cells beyond the last page, and cells without a latency, are named in the notes."""
    colors = _colors(selection)
    most = ROWS_A_PAGE * MOST_PAGES
    timed = [cell for cell in selection.cells if cell.kind != "roofline"]
    measured = [cell for cell in timed if _has_latency(cell)]
    rows = [_row(cell, colors[cell.workload]) for cell in measured[:most]]  # what is not drawn is not read
    drawn = [row for row in rows if row.n]
    notes = []
    with_row = {id(cell) for cell in (*(row.cell for row in drawn), *measured[most:])}
    empty = [cell for cell in timed if id(cell) not in with_row]
    if empty:
        names = ", ".join(f"{cell.device}/{cell.label}" for cell in empty[:12])
        notes.append(f"The latency picture has no row for {names}: no run that counts has a measured inference.")
    if len(measured) > most:
        notes.append(f"The latency picture shows {most} of {len(measured)} cells; all of them are in runs.csv.")
    if not drawn:
        return Pages((), tuple(notes))
    scale = _common_scale(drawn)
    with style():
        chunks = [drawn[at : at + ROWS_A_PAGE] for at in range(0, len(drawn), ROWS_A_PAGE)]
        pages = tuple(_page(chunk, scale, title, i + 1, len(chunks)) for i, chunk in enumerate(chunks))
    return Pages(pages, tuple(notes))


def _colors(selection: Selection) -> dict[str, str]:
    workloads = dict.fromkeys(cell.workload for cell in selection.cells)
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(workloads)}


def _has_latency(cell: Cell) -> bool:
    """As the records say it, which is known without reading a single event."""
    if cell.generates:
        told = (run.record.metrics.get("decode_tok_per_s") for run in cell.used)
    else:
        told = (run.record.metrics.get("latency_mean_s") for run in cell.used)
    return any(metric is not None and metric.value is not None for metric in told)


def _row(cell: Cell, color: str) -> Row:
    found = across(cell, cell.main_metric)
    return Row(cell, color, found.summary, tuple(latencies(run) for run in cell.used), found.why_missing)


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    log: bool


def _common_scale(rows: Sequence[Row]) -> _Scale:
    """From 0 with room for a label behind the longest bar; logarithmic where the cells lie far apart."""
    centres = [row.summary.centre for row in rows if row.summary.centre]
    if not centres:
        return _Scale(0, 1, log=False)
    low, high = min(centres), max(centres)
    if high / low > LOG_BEYOND:
        decades = np.log10(high / low)
        return _Scale(low / 10 ** (0.15 * decades), high * 10 ** (1.5 * decades), log=True)
    return _Scale(0, high * 2.3, log=False)


def _page(rows: Sequence[Row], scale: _Scale, title: str, number: int, of: int) -> tuple[bytes, bytes]:
    devices = list(dict.fromkeys(row.cell.device for row in rows))
    page = Page(WIDTH, _HEAD + len(devices) * _DEVICE + len(rows) * _ROW + _FOOT)
    _head(page, rows, title, scale, f", page {number} of {of}" if of > 1 else "")
    top = _HEAD
    for device in devices:
        mine = [row for row in rows if row.cell.device == device]
        _device(page, device, mine[0].cell, top)
        top += _DEVICE
        _bars(page, mine, scale, top)
        for index, row in enumerate(mine):
            _labels(page, row, top + index * _ROW, all(other.cell.synthetic for other in rows))
            draw_shape(page.axes(_shapes_left(), top + index * _ROW + 0.06, _SHAPES, _ROW - 0.38), row)
        top += len(mine) * _ROW
    page.text(_LEFT, page.height - 0.22, _KEY, size=7.5, color=GREY)
    return page.saved()


def _head(page: Page, rows: Sequence[Row], title: str, scale: _Scale, numbered: str) -> None:
    page.text(_LEFT, 0.3, _about(rows), size=13, bold=True)
    synthetic = ", synthetic weights" if all(row.cell.synthetic for row in rows) else ""
    room = WIDTH - _LEFT - 3.4
    page.text(WIDTH - _LEFT, 0.3, f"{page.fit(title, room - 2, 8.5)}{synthetic}{numbered}", color=GREY, right=True)
    marks = "each line is one run" + (" (dashed: partial)" if any(row.cell.partial for row in rows) else "")
    kind = "logarithmic scale" if scale.log else "one scale"
    size, at = 8.0, 0.64
    page.text(_LEFT + _LABELS + _GAP, at, f"median, on {kind}", size=size, color=GREY)
    page.text(
        _shapes_left(),
        at,
        f"distribution, each on its own scale; {marks}",
        size=size,
        color=GREY,
        most=WIDTH - _LEFT - _shapes_left(),
    )


def _about(rows: Sequence[Row]) -> str:
    kinds = {row.cell.kind for row in rows}
    if kinds <= {"generate", "bench"}:
        told = [_TITLES[kind] for kind in ("generate", "bench") if kind in kinds]
        return ", or ".join([told[0], *(words.lower() for words in told[1:])])
    return "Latency of one inference" + (", or of one token" if "generate" in kinds else "")


def _shapes_left() -> float:
    return _LEFT + _LABELS + _GAP + _BARS + _GAP


def _device(page: Page, device: str, cell: Cell, top: float) -> None:
    page.rule(top + 0.04, _LEFT, WIDTH - _LEFT)
    width = page.text(_LEFT, top + 0.26, device, size=10.5, bold=True, most=3.4)
    record = max(cell.records, key=lambda record: record.run_id)
    words = [str(record.facts[k]) for k in ("soc",) if isinstance(record.facts.get(k), str)]
    cpus = record.facts.get("cpus_online")
    words += [counted(cpus, "CPU")] if isinstance(cpus, int) else []
    words += [str(record.facts["hypervisor"])] if isinstance(record.facts.get("hypervisor"), str) else []
    if record.simulated:
        words.insert(0, "SIMULATED")
    if not record.profile_verified:
        words.append("profile not verified")
    at = _LEFT + width + 0.14
    page.text(at, top + 0.26, " · ".join(words), size=8, color=GREY, most=WIDTH - _LEFT - at)


def _labels(page: Page, row: Row, top: float, said_synthetic: bool) -> None:
    name, bracket, params = row.cell.cell.partition("[")
    page.text(_LEFT, top + 0.26, name, size=9.5, bold=True, color=row.color, most=_LABELS)
    runs = counted(len(row.cell.used), "run")
    partial = f" ({row.cell.partial} partial)" if row.cell.partial else ""
    about = f"{runs}{partial}, {row.n:,} {row.cell.unit_name}"
    second = params.rstrip("]") if bracket else ""
    synthetic = "synthetic weights" if row.cell.synthetic and not said_synthetic else ""
    lines = [line for line in (second, row.cell.variant, about, synthetic) if line]
    for index, line in enumerate(lines):
        page.text(_LEFT, top + 0.43 + 0.15 * index, line, size=7.5, color=GREY, most=_LABELS)


def _bars(page: Page, rows: Sequence[Row], scale: _Scale, top: float) -> None:
    left = _LEFT + _LABELS + _GAP
    axes = page.axes(left, top, _BARS, len(rows) * _ROW)
    axes.set_xlim(scale.low, scale.high)
    axes.set_ylim(len(rows), 0)
    if scale.log:
        axes.set_xscale("log")
    axes.set_axis_off()
    axes.plot((scale.low, scale.low), (0.12, len(rows) - 0.12), color=RULE, lw=1, clip_on=False)
    for index, row in enumerate(rows):
        centre, y = row.summary.centre, index + 0.36
        if centre is None:
            why = (row.why_not or "").partition(": ")[2]
            words = "\n".join(page.wrap(f"no median: {why or row.why_not}", _BARS - 0.2, 7.5, 3))
            axes.annotate(
                words, (scale.low, y), (6, 0), textcoords="offset points", fontsize=7.5, color=GREY, va="center"
            )
            continue
        if scale.log:
            axes.plot((scale.low, centre), (y, y), color=row.color, lw=1, alpha=0.35)
            axes.plot(centre, y, "o", color=row.color, ms=7)
        else:
            axes.barh(y, centre, height=0.3, color=row.color, alpha=0.88)
        label, below = _words(row.summary)
        offset = 8 if scale.log else 6
        low_y = 11 if len(below) > 0 else 0
        axes.annotate(
            label, (centre, y), (offset, 0), textcoords="offset points", fontsize=9.5, fontweight="bold", va="center"
        )
        if low_y:
            axes.annotate(
                below, (centre, y), (offset, -low_y), textcoords="offset points", fontsize=7, color=GREY, va="center"
            )


def _few(summary: Summary) -> str:
    if summary.missing:
        return f"{summary.n} of {counted(summary.n + summary.missing, 'run')}"
    return counted(summary.n, "run")


def _words(summary: Summary) -> tuple[str, str]:
    """`12.31 ms` and `95 %: 12.08–12.55`, in the unit that suits the centre."""
    centre = summary.centre or 0.0
    unit, scale = unit_for(centre)
    if summary.low is None or summary.high is None:
        return f"{significant(centre / scale)} {unit}", f"no interval: {_few(summary)}"
    shown, low, high = interval(centre / scale, summary.low / scale, summary.high / scale)
    return f"{shown} {unit}", f"95 %: {low}–{high}"
