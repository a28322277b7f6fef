"""trace.png: one run of each workload on each device over time, latency above what the sensors said."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from melt.report.across import across
from melt.report.canvas import FAINT, GREY, PALETTE, Page, Pages, few_ticks, style, ticks
from melt.report.escape import one_line
from melt.report.numbers import counted, seconds
from melt.report.panels import PANELS, Panel
from melt.report.raw import Raw, raw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from melt.report.select import Cell, Selection
    from melt.store import StoredRun

WIDTH = 9.6
COLUMNS_A_PAGE, MOST_PAGES = 2, 16
LOAD, WARMUP, MEASURED, IDLE = "#fbdcb8", "#e3e3e3", "#e4f1fa", "#f1eef6"
PREFILL = "#cdeacd"
_REQUEST = MappingProxyType({"generate": "request", "bench": "repetition"})
_LEFT, _RIGHT, _TICKS, _GUTTER = 0.3, 0.3, 0.42, 0.28
_HEAD, _COLUMN_HEAD, _TITLE, _AXIS = 0.62, 0.62, 0.24, 0.46
_LINE = 0.16
_MOST_LINES, _MOST_REASON = 4, 110


@dataclass(frozen=True)
class _Chosen:
    cell: Cell
    run: StoredRun
    raw: Raw
    color: str


def trace_pages(selection: Selection, title: str) -> Pages:
    """A page a device, of up to two workloads side by side; what is left out is named in the notes."""
    colors = {
        name: PALETTE[i % len(PALETTE)] for i, name in enumerate(dict.fromkeys(c.workload for c in selection.cells))
    }
    notes: list[str] = []
    chunks: list[list[_Chosen]] = []
    left_out = 0
    for device in selection.devices:
        workloads = list(dict.fromkeys(cell.workload for cell in _timed(selection, device)))
        room = COLUMNS_A_PAGE * (MOST_PAGES - len(chunks))  # what is not drawn is not read
        left_out += len(workloads[room:])
        workloads = workloads[:room]
        found = []
        for workload in workloads:
            one = _representative([c for c in _timed(selection, device) if c.workload == workload], colors[workload])
            if one is None:
                notes.append(f"The trace picture lacks {workload} on {device}: no run that counts has an inference.")
            else:
                found.append(one)
        columns = _even(len(found))
        chunks += [found[at : at + columns] for at in range(0, len(found), columns)]
    if left_out:
        left = counted(left_out, "workload")
        notes.append(
            f"The trace picture ends after {MOST_PAGES} pages, without {left}; each trace is in its run's folder."
        )
    with style():
        return Pages(tuple(_page(chunk, title) for chunk in chunks), tuple(notes))


def _timed(selection: Selection, device: str) -> list[Cell]:
    """All cells but the device's own ceiling, which is no stream of anything."""
    return [cell for cell in selection.on(device) if cell.kind != "roofline"]


def _even(count: int) -> int:
    """How many columns a page has, so that no page is much emptier than another."""
    pages = max(1, -(-count // COLUMNS_A_PAGE))
    return max(1, -(-count // pages))


def _representative(cells: Sequence[Cell], color: str) -> _Chosen | None:
    """The run whose median latency is the median one, of the first cell of the workload that has a run to show."""
    for cell in cells:
        medians = [
            (metric.value, run.record.run_id, run)
            for run in cell.used
            if (metric := run.record.metrics.get(cell.main_metric)) is not None and metric.value is not None
        ]
        ranked = [run for _, _, run in sorted(medians, key=lambda m: m[:2])] or list(cell.used)
        middle = (len(ranked) - 1) // 2
        for run in [*ranked[middle : middle + 1], *ranked]:
            if (found := raw(run)) is not None:
                return _Chosen(cell, run, found, color)
    return None


def _page(chosen: Sequence[_Chosen], title: str) -> tuple[bytes, bytes]:
    shown = [panel for panel in PANELS if any(panel.present(one.raw) for one in chosen)]
    heights = [panel.height + _TITLE for panel in shown]
    probe = Page(WIDTH, 1)
    foot = probe.wrap(_lacks(chosen, shown), WIDTH - _LEFT - _RIGHT, 7.5, _MOST_LINES)
    foot = [line for line in foot if line]
    page = Page(WIDTH, _HEAD + _COLUMN_HEAD + sum(heights) + _AXIS + _LINE * len(foot) + (0.16 if foot else 0))
    page.text(_LEFT, 0.3, f"One run over time on {chosen[0].cell.device}", size=13, bold=True, most=6.2)
    page.text(WIDTH - _RIGHT, 0.3, title, size=8.5, color=GREY, right=True, most=2.7)
    page.rule(0.5, _LEFT, WIDTH - _RIGHT)
    width = (WIDTH - _LEFT - _RIGHT - _GUTTER * (len(chosen) - 1)) / len(chosen)
    for index, one in enumerate(chosen):
        _column(page, one, shown, heights, _LEFT + index * (width + _GUTTER), width)
    for index, line in enumerate(reversed(foot)):
        page.text(_LEFT, page.height - 0.2 - _LINE * index, line, size=7.5, color=GREY)
    return page.saved()


def _column(
    page: Page, one: _Chosen, shown: Sequence[Panel], heights: Sequence[float], left: float, width: float
) -> None:
    record = one.run.record
    top = _HEAD
    name, _, params = one.cell.cell.partition("[")
    used = page.text(left, top + 0.14, name, size=9.5, bold=True, color=one.color, most=0.62 * width)
    words = [word for word in (params.rstrip("]").replace(",", ", "), one.cell.variant) if word]
    words += [_which(one)]
    words += [counted(max(map(len, one.raw.stretches.values())), _REQUEST[one.raw.kind])] if one.raw.stretches else []
    words += ["SIMULATED"] if record.simulated else []
    words += ["partial"] if record.verdict == "partial" else []
    words += ["synthetic weights"] if record.synthetic_model else []
    page.text(left + used + 0.12, top + 0.14, ", ".join(words), size=7.5, color=GREY, most=width - used - 0.12)
    spans = _phases(one.raw)
    legend = [(color, words) for color, words, _, _ in spans]
    parts = _parts(one.raw)
    if parts:  # instead of the measured window: what it consists of
        legend = [*(item for item in legend if item[0] != MEASURED), *((color, words) for color, words, _ in parts)]
    page.legend(left, top + 0.4, legend, width)
    top += _COLUMN_HEAD
    low, high = _window(one.raw)
    for panel, height in zip(shown, heights, strict=True):
        panel_title = panel.title(one.raw)
        page.text(left, top + 0.1, panel_title, size=8, bold=True, most=width)
        axes = page.axes(left + _TICKS, top + _TITLE, width - _TICKS, height - _TITLE - 0.1)
        axes.set_xlim(low, high)
        axes.grid(visible=True, axis="y")
        for color, _, begin, end in spans:
            axes.axvspan(begin, end, color=color, lw=0, zorder=0)
        for color, _, windows in parts:
            axes.broken_barh(windows, (0, 1), transform=axes.get_xaxis_transform(), color=color, lw=0, zorder=0.5)
        if panel.present(one.raw):
            items = panel.draw(axes, one.raw, one.color)
            named = page.measure(panel_title, 8, bold=True) + 0.16
            page.legend(left + named, top + 0.1, items, width - named, 7.2)
        else:
            axes.text(
                0.5,
                0.5,
                "not in this run",
                transform=axes.transAxes,
                ha="center",
                va="center",
                color=FAINT,
                fontsize=7.5,
            )
            axes.set_yticks([])
        few_ticks(axes, x=5 if width < 4 else 8, y=5 if panel is shown[0] else 3)  # noqa: PLR2004 - a column of half a page
        axes.yaxis.set_major_formatter(ticks(panel.scale(one.raw)))
        axes.tick_params(labelbottom=panel is shown[-1])
        top += height
    _time_axis(axes)
    if one.raw.problem:
        page.text(left, top + 0.34, one.raw.problem, size=7.5, color=GREY, most=width)


def _which(one: _Chosen) -> str:
    runs = counted(len(one.cell.used), "run")
    if len(one.cell.used) == 1:
        return "the only run"
    return f"the median of {runs}" if not across(one.cell, one.cell.main_metric).gaps else f"one of {runs}"


def _time_axis(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(ticks(1))
    axes.set_xlabel("seconds since the engine started", fontsize=8, labelpad=2)


def _window(one: Raw) -> tuple[float, float]:
    """Seconds from the engine's start: its life, and before it as much of the idle window as half of that."""
    life = (one.end - one.begin) * 1e-9
    idle = one.phases.idle
    before = min((one.begin - idle[0]) * 1e-9, 0.5 * life) if idle and idle[0] < one.begin else 0.02 * life
    return -max(before, 0.02 * life), 1.02 * life


def _phases(one: Raw) -> list[tuple[str, str, float, float]]:
    """Colour, words, begin and end (s) of every phase that the events hold."""
    parts = one.phases
    found = []
    named = (
        (IDLE, "idle", parts.idle),
        (LOAD, "load", parts.load),
        (WARMUP, "warm-up", parts.warmup),
        (MEASURED, "measured", parts.measure),
    )
    for color, name, window in named:
        if window is not None:
            begin, end = ((t - one.begin) * 1e-9 for t in window)
            found.append((color, f"{name} {seconds(end - begin)}", begin, end))
    return found


def _parts(one: Raw) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """Colour, words, and begin and length (s) of what the measured window of a language model consists of."""
    found: list[tuple[str, str, list[tuple[float, float]]]] = []
    colors = (PREFILL, MEASURED)
    for color, (name, windows) in zip(colors, one.stretches.items(), strict=False):
        whole = seconds(sum(end - begin for begin, end in windows) * 1e-9)
        at = [((begin - one.begin) * 1e-9, (end - begin) * 1e-9) for begin, end in windows]
        found.append((color, f"{name} {whole}", at))
    return found


def _lacks(chosen: Sequence[_Chosen], shown: Sequence[Panel]) -> str:
    """One sentence about the panels that are not here."""
    record = chosen[0].run.record
    told = []
    for panel in PANELS:
        if panel in shown or not panel.kinds:
            continue
        reasons = [record.absent_sensors[kind] for kind in panel.kinds if kind in record.absent_sensors]
        silent = any(note.quantity in panel.quantities for note in record.sensors.values())
        otherwise = "no value in this run" if silent else "the profile reads no such sensor"
        told.append(f"{panel.name} ({one_line(reasons[0], _MOST_REASON) if reasons else otherwise})")
    return f"Not on this device: {', '.join(told)}." if told else ""
