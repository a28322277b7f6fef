"""The shape of a cell's latencies: the density of each run, the run medians, and their interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from melt.report.canvas import FAINT, GREY, INK, RULE, few_ticks, ticks
from melt.report.numbers import seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from melt.analysis.events import Bools, Float64s
    from melt.analysis.summary import Summary
    from melt.report.raw import Latencies
    from melt.report.select import Cell

LOG_BEYOND = 20.0
_GRID = 400
_SEEN = 4e-3
_BELOW = -0.22
"""Where the run medians stand, the tallest curve being 1 high."""
_FEW = 12
_REACH = 8.0
"""How many quartile distances from the median the picture reaches: 5.4 standard deviations of a normal one."""


@dataclass(frozen=True)
class Row:
    cell: Cell
    color: str
    summary: Summary
    samples: tuple[Latencies, ...]
    """Of each run."""
    why_not: str | None

    @property
    def n(self) -> int:
        return sum(one.n for one in self.samples)


def unit_for(value_s: float) -> tuple[str, float]:
    if value_s >= 10:  # noqa: PLR2004 - ten seconds and more are no longer milliseconds to a reader
        return "s", 1.0
    return ("ms", 1e-3) if value_s >= 5e-4 else ("µs", 1e-6)  # noqa: PLR2004 - below half a millisecond


def draw_shape(axes: Axes, row: Row) -> None:
    """The density of each run above the line, the run medians and their interval below it."""
    low, high, log = _range(row)
    if log:
        axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(-0.46, 1.08)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    _curves(axes, row, low, high, log=log)
    _medians(axes, row)
    _axis(axes, high, log=log)
    _outside(axes, row.samples, low, high)


def _outside(axes: Axes, samples: Sequence[Latencies], low: float, high: float) -> None:
    """Says, below the axis, how many samples the picture does not reach."""
    values = np.concatenate([one.values for one in samples])
    below = sum(_of_all(one, one.values < low) for one in samples)
    beyond = sum(_of_all(one, one.values > high) for one in samples)
    about = "about " if any(one.values.size < one.n for one in samples) else ""
    told = [f"{about}{below:,} below, down to {seconds(float(values.min()))}"] if below else []
    told += [f"{about}{beyond:,} beyond, up to {seconds(float(values.max()))}"] if beyond else []
    axes.annotate(
        "not drawn: " + "; ".join(told) if told else "",
        (1, 0),
        (0, -18),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=6.5,
        color=FAINT,
    )


def _of_all(one: Latencies, these: Bools) -> int:
    """How many of a run's latencies `these` of the values stand for."""
    return round(np.count_nonzero(these) * one.n / max(one.values.size, 1))


def _range(row: Row) -> tuple[float, float, bool]:
    """Where the bulk is, 99 % of the samples or less if they tail far off, and the interval unless it is far wider.

    And whether that is so wide that it is drawn in logs.
    """
    together = np.concatenate([one.values for one in row.samples])
    least, q1, middle, q3, most = (float(v) for v in np.percentile(together, (0.2, 25, 50, 75, 99)))
    reach = _REACH * max(q3 - middle, middle - q1, 2e-3 * middle)
    low, high = max(least, middle - reach), min(most, middle + reach)
    reach = max(high - low, 1e-3 * high, 1e-9)
    ends = [v for v in (row.summary.low, row.summary.high) if v is not None]
    if ends:
        low = max(min(low, *ends), low - 2 * reach)
        high = min(max(high, *ends), high + 2 * reach)
    if high / max(low, 1e-12) > LOG_BEYOND:
        return max(low, 1e-9) / 1.15, high * 1.15, True
    pad = 0.06 * max(high - low, 1e-3 * high)
    return max(low - pad, 0.0), high + pad, False


def _curves(axes: Axes, row: Row, low: float, high: float, *, log: bool) -> None:
    grid = np.linspace(np.log(low) if log else low, np.log(high) if log else high, _GRID)
    values_of = [one.values for one in row.samples]
    curves = [_density(np.log(v) if log else v, grid) if v.size >= _FEW else None for v in values_of]
    peak = max((float(c.max()) for c in curves if c is not None), default=0.0) or 1.0
    at = np.exp(grid) if log else grid
    axes.axhline(0, color=RULE, lw=0.8, zorder=1)
    for run, values, curve in zip(row.cell.used, values_of, curves, strict=True):
        dashes = (0, (4, 2)) if run.record.verdict == "partial" else "solid"
        if curve is None:  # too few for a shape: each sample by itself
            axes.vlines(values, 0, 0.5, color=row.color, lw=0.8, alpha=0.7)
            continue
        axes.fill_between(at, 0, curve / peak, color=row.color, alpha=min(0.16, 0.5 / len(curves)), lw=0)
        seen = np.where(curve > _SEEN * peak, curve / peak, np.nan)  # no line where there is nothing
        axes.plot(at, seen, color=row.color, lw=1.1, alpha=0.9, linestyle=dashes)


def _density(values: Float64s, grid: Float64s) -> Float64s:
    """A Gaussian kernel density of `values` on `grid`, with Silverman's bandwidth, by way of a histogram.

    Linear in the number of samples; what lies beyond the grid counts and is not drawn.
    """
    step = float(grid[1] - grid[0])
    q1, q3 = np.percentile(values, (25, 75))
    spread = min(float(values.std()), float(q3 - q1) / 1.34) or float(values.std())
    width = max(0.9 * spread * values.size**-0.2, 1.5 * step)
    reach = min(int(4 * width / step) + 1, 4 * grid.size)
    edges = np.concatenate((grid - step / 2, [grid[-1] + step / 2]))
    counts, _ = np.histogram(values, edges)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    smooth = np.convolve(counts.astype(np.float64), kernel, mode="full")[reach : reach + grid.size]
    return np.asarray(smooth / (values.size * width), dtype=np.float64)


def _medians(axes: Axes, row: Row) -> None:
    summary = row.summary
    medians = [m.value for run in row.cell.used if (m := run.record.metrics.get(row.cell.main_metric)) and m.value]
    axes.plot(medians, [_BELOW] * len(medians), "|", color=row.color, ms=7, mew=1.1)
    if summary.low is not None and summary.high is not None:
        axes.plot((summary.low, summary.high), (_BELOW, _BELOW), color=row.color, lw=3.2, alpha=0.3)
    if summary.centre is not None:
        axes.plot(summary.centre, _BELOW, "D", color=INK, ms=3.6, zorder=5)


def _axis(axes: Axes, high: float, *, log: bool) -> None:
    unit, scale = unit_for(high)
    if log:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        few_ticks(axes, x=6)
    axes.xaxis.set_major_formatter(ticks(scale))
    axes.tick_params(axis="x", pad=1.5, color=FAINT)
    axes.text(1.012, 0, unit, transform=axes.transAxes, fontsize=7.5, color=GREY, va="center")
