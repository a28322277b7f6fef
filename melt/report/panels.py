"""The panels of trace.png: what each one draws of a run, and when it is there at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.trace import BUSY_CPU, ENGINE_CPU, ENGINE_RSS, STOLEN_CPU, Series, is_cap
from melt.report.canvas import FAINT, GREY, PALETTE
from melt.report.numbers import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from melt.analysis.events import Float64s, Int64s
    from melt.records import Quantity
    from melt.report.raw import Raw

Legend = list[tuple[str, str]]
"""Colour and words of each thing drawn."""
_MOST_LINES = 4
_BINS = 150
_TICK_S = 0.2
"""CPU time is counted in ticks of 10 ms: over a fifth of a second they are 5 % of a core."""
_ANON, _FILE, _SHARED = "#0072b2", "#9ecae9", "#cc79a7"
_MANY = 3000
_STOLEN = 0.02
"""Cores taken by a hypervisor that are worth a line."""
_CUT = 1.4
"""How far above the 99th percentile the latency axis may reach: one hiccup must not flatten the rest."""


@dataclass(frozen=True)
class Panel:
    """What is drawn of a run: `kinds` are the readings whose absence explains the panel's.

    `quantities` are what its sensors measure.
    """

    name: str
    title: Callable[[Raw], str]
    height: float
    kinds: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    present: Callable[[Raw], bool]
    draw: Callable[[Axes, Raw, str], Legend]
    scale: Callable[[Raw], float]


def _since(one: Raw, t: Int64s) -> Float64s:
    return (t - one.begin).astype(np.float64) * 1e-9


def _latency_title(one: Raw) -> str:
    if one.kind == "generate":
        return "Between two tokens, ms"
    return "A repetition, ms" if one.kind == "bench" else "Latency, ms"


def _latency(axes: Axes, one: Raw, color: str) -> Legend:
    points = one.points
    at, took, steady = _since(one, points.end), points.seconds, points.steady
    low, high = float(took.min()), float(took.max())
    limit = min(high, _CUT * points.p99)
    pad = 0.12 * max(limit - low, 0.02 * limit)
    axes.set_ylim(max(low - pad, 0), limit + pad)
    beyond = took > limit + 0.5 * pad
    axes.plot(
        at[~steady & ~beyond],
        took[~steady & ~beyond],
        "o",
        color=FAINT,
        ms=2.6,
        mew=0,
        rasterized=took.size > _MANY,
        zorder=2,
    )
    alpha = 0.75 if took.size < _MANY else 0.35
    axes.plot(
        at[steady & ~beyond],
        took[steady & ~beyond],
        "o",
        color=color,
        ms=2.6,
        mew=0,
        alpha=alpha,
        rasterized=took.size > _MANY,
        zorder=3,
    )
    items = [(color, f"measured, p50 {seconds(points.median)}")] if steady.any() else []
    if not steady.all():
        items.append((FAINT, "warm-up"))
    if beyond.any():  # never dropped: drawn at the edge
        axes.plot(at[beyond], np.full(at[beyond].size, limit + 0.7 * pad), "^", color=GREY, ms=4, mew=0, zorder=4)
        items.append((GREY, f"▲ up to {seconds(high)}"))
    if steady.any():
        axes.axhline(points.median, color=color, lw=0.8, alpha=0.6, zorder=2)
    if took.size < points.n:
        items.append((FAINT, f"{took.size:,} of {points.n:,} drawn, extremes among them"))
    return items


def _lines(axes: Axes, one: Raw, series: dict[str, Series], low: float | None = None) -> Legend:
    """One line a channel, the liveliest four with a name; the others grey."""
    ranked = sorted(series, key=lambda name: -float(series[name].v.max()))
    named = sorted(ranked[:_MOST_LINES])
    for name in ranked[_MOST_LINES:]:
        axes.plot(_since(one, series[name].t), series[name].v, color=FAINT, lw=0.7, alpha=0.7, zorder=2)
    for index, name in enumerate(named):
        axes.plot(_since(one, series[name].t), series[name].v, color=PALETTE[index], lw=1.3, zorder=3)
    inside = _visible(one, series)
    if inside.size:
        bottom, top = float(inside.min()) if low is None else low, float(inside.max())
        pad = 0.1 * max(top - bottom, 0.02 * abs(top), 1e-9)
        axes.set_ylim(bottom - (pad if low is None else 0), top + pad)
    items = [(PALETTE[i], name) for i, name in enumerate(named)]
    rest = len(ranked) - len(named)
    return [*items, (FAINT, f"{rest} more")] if rest else items


def _visible(one: Raw, series: dict[str, Series]) -> Float64s:
    parts = [s.within((one.begin, one.end)).v for s in series.values()]
    parts = [p for p in parts if p.size] or [s.v for s in series.values()]
    return np.concatenate(parts) if parts else np.array([])


def _clocks(one: Raw) -> dict[str, Series]:
    return {name: s for name, s in one.trace.of("clock").items() if not is_cap(name)}


def _clock(axes: Axes, one: Raw, _color: str) -> Legend:
    caps = {name: s for name, s in one.trace.of("clock").items() if is_cap(name)}
    items = _lines(axes, one, _clocks(one), low=0.0)
    top = axes.get_ylim()[1]
    for s in caps.values():
        axes.plot(_since(one, s.t), s.v, color=GREY, lw=0.8, linestyle=(0, (3, 2)), zorder=2)
        top = max(top, 1.1 * float(s.v.max()))
    axes.set_ylim(0, top)
    return [*items, (GREY, "limit, dashed")] if caps else items


def _temperature(axes: Axes, one: Raw, _color: str) -> Legend:
    return _lines(axes, one, one.trace.of("temperature"))


def _power(axes: Axes, one: Raw, _color: str) -> Legend:
    series = dict(one.trace.of("power"))
    for name, counter in one.trace.of("energy").items():
        if (rate := _rate(one, counter.unwrapped(one.trace.notes[name].wraps_at))) is not None:
            series[name] = rate
    items = _lines(axes, one, series, low=0.0) if series else []
    notes = one.trace.notes
    return [
        (c, f"{name} ({notes[name].boundary})" if name in notes and notes[name].boundary else name) for c, name in items
    ]


def _memory(axes: Axes, one: Raw, _color: str) -> Legend:
    parts = {kind: one.trace[channel] for kind, channel in ENGINE_RSS.items() if len(one.trace[channel])}
    times = next(iter(parts.values())).t
    values = [s.along(times) for s in parts.values()]
    looks = {"anon": (_ANON, "anonymous"), "file": (_FILE, "file-backed"), "shmem": (_SHARED, "shared")}
    shown = [(looks[kind], v) for kind, v in zip(parts, values, strict=True) if v.max() > 0]
    if shown:
        axes.stackplot(
            _since(one, times),
            *(v for _, v in shown),
            colors=[look[0] for look, _ in shown],
            alpha=0.85,
            lw=0,
            zorder=2,
        )
        axes.set_ylim(0, 1.12 * float(np.sum([v for _, v in shown], axis=0).max()))
    return [look for look, _ in shown]


def _rate(one: Raw, counter: Series) -> Series | None:
    """How fast a counter grows, over steps that its resolution carries; None with fewer than two of them."""
    if len(counter) < 2:  # noqa: PLR2004 - no difference
        return None
    span_s = float(counter.t[-1] - counter.t[0]) * 1e-9
    period_s = span_s / (len(counter) - 1)
    step_ns = int(max(period_s, _TICK_S, span_s / _BINS) * 1e9)
    first = int(counter.t[0]) + (one.begin - int(counter.t[0])) % step_ns  # a step ends where the engine starts
    edges = np.arange(first, int(counter.t[-1]) + 1, step_ns, dtype=np.int64)
    if edges.size < 2:  # noqa: PLR2004 - no step
        return None
    rate = np.diff(counter.along(edges)) / (step_ns * 1e-9)
    return Series(edges[:-1] + step_ns // 2, np.asarray(rate, dtype=np.float64))


def _cpu(axes: Axes, one: Raw, color: str) -> Legend:
    items: Legend = []
    top = 1.0
    looks = (
        (BUSY_CPU, GREY, "whole machine"),
        (STOLEN_CPU, PALETTE[3], "taken by the hypervisor"),
        (ENGINE_CPU, color, "engine"),
    )
    for channel, line, words in looks:
        rate = _rate(one, one.trace[channel])
        if rate is None or (channel == STOLEN_CPU and rate.v.max() < _STOLEN):
            continue
        axes.plot(_since(one, rate.t), rate.v, color=line, lw=1.4 if channel == ENGINE_CPU else 1.0, zorder=3)
        top = max(top, float(rate.v.max()))
        items.insert(0, (line, words))
    axes.set_ylim(0, 1.15 * top)
    return items


def _has(*quantities: Quantity) -> Callable[[Raw], bool]:
    return lambda one: bool(one.trace.of(*quantities))


PANELS: tuple[Panel, ...] = (
    Panel("latency", _latency_title, 1.55, (), (), lambda _: True, _latency, lambda _: 1e-3),
    Panel(
        "clock",
        lambda _: "Clock, GHz",
        0.85,
        ("cpu-clock",),
        ("clock",),
        lambda one: bool(_clocks(one)),
        _clock,
        lambda _: 1e9,
    ),
    Panel(
        "temperature",
        lambda _: "Temperature, °C",
        0.85,
        ("thermal", "hwmon-temperature"),
        ("temperature",),
        _has("temperature"),
        _temperature,
        lambda _: 1,
    ),
    Panel(
        "power",
        lambda _: "Power, W",
        0.85,
        ("rapl", "hwmon-power"),
        ("power", "energy"),
        _has("power", "energy"),
        _power,
        lambda _: 1,
    ),
    Panel(
        "memory",
        lambda _: "Memory of the engine, MB",
        0.85,
        ("memory of the engine",),
        (),
        lambda one: any(len(one.trace[channel]) for channel in ENGINE_RSS.values()),
        _memory,
        lambda _: 1e6,
    ),
    Panel(
        "CPU time",
        lambda _: "CPU, cores busy",
        0.85,
        ("cpu-time",),
        (),
        lambda one: any(_rate(one, one.trace[channel]) is not None for channel in (ENGINE_CPU, BUSY_CPU)),
        _cpu,
        lambda _: 1,
    ),
)
"""In the order from top to bottom."""
