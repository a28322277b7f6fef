"""What a trace shows of a device that slowed itself, lacked voltage, or was on its charger, beside the engine's speed.

Told from the device's own word: throttle bits and statuses, cooling states, caps; and, where clocks were pinned, from
clocks that did not stay there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.total import Total, total
from melt.analysis.trace import ENGINE_CPU, is_cap
from melt.records import Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from melt.analysis.events import Asked, Window
    from melt.analysis.trace import Series, Trace

PINNED = 0.97
"""A pinned clock under this share of its pin did not hold."""
BLOCK_S = 10.0
"""Over how long a clock is averaged: a read now and then finds a core between two states."""
BUSY_CORES = 0.5
"""With less of a core than this in a block the engine was waiting, and a clock may rest."""
_STICKY = "since_boot"
_UNDER_VOLTAGE = "under_voltage"


def throttled(channels: Trace, window: Window, asked: Asked) -> Iterator[Reason]:
    """The reason `throttled` for each thing that shows it in `window`."""
    for name, series in channels.of("throttle").items():
        if not _about_voltage(channels, name) and (said := _came_on(channels, name, series, window)):
            yield Reason(code=ReasonCode.THROTTLED, detail=said)
    for name, series in channels.of("cooling").items():
        # a state that was up when the trace began is not the engine's doing, and the cell's state at its start
        inside = _held(series, window)
        if inside.size and inside.max() > series.v[0]:
            detail = f"cooling state {name} rose from {series.v[0]:.0f} to {inside.max():.0f}"
            yield Reason(code=ReasonCode.THROTTLED, detail=detail)
    for name, series in channels.of("clock").items():
        inside = _held(series, window)
        if is_cap(name) and np.any(inside != series.v[0]):
            other = float(inside[inside != series.v[0]][0])
            detail = f"the limit {name} moved from {series.v[0] / 1e6:.0f} to {other / 1e6:.0f} MHz"
            yield Reason(code=ReasonCode.THROTTLED, detail=detail)
    yield from _off_their_pins(channels, window, asked.pins)


def under_voltage(channels: Trace, window: Window) -> Iterator[Reason]:
    """The reason `under_voltage`: the device itself says that its supply fell too low in `window`."""
    for name, series in channels.of("throttle").items():
        if _about_voltage(channels, name) and (said := _came_on(channels, name, series, window)):
            detail = f"{said}: a stronger supply or a shorter cable is the way"
            yield Reason(code=ReasonCode.UNDER_VOLTAGE, detail=detail)


def charger(channels: Trace, window: Window, asked: Asked) -> Iterator[Reason]:
    """The reason `charger`: it was plugged in or out in `window`, or is there where energy comes from the gauge."""
    for name, series in channels.of("charger").items():
        inside = _held(series, window) > 0
        if not inside.any():
            continue
        if not inside.all():
            detail = f"{name} says that a charger was there for a part of the measurement alone"
            yield Reason(code=ReasonCode.CHARGER, detail=detail)
        elif isinstance(chosen := total(channels, asked.energy), Total) and chosen.gauge:
            detail = f"{name} says that a charger was plugged in, so that the battery's gauge tells no energy"
            yield Reason(code=ReasonCode.CHARGER, detail=detail)


def _about_voltage(channels: Trace, name: str) -> bool:
    return _UNDER_VOLTAGE in name or _UNDER_VOLTAGE in channels.notes[name].label.lower().replace("-", "_")


def _came_on(channels: Trace, name: str, series: Series, window: Window) -> str:
    """What a throttle channel showed in `window`, in words; empty when nothing.

    One that remembers since the device started counts where it rose; any other one where it was on.
    """
    inside = _held(series, window)
    if not inside.size:
        return ""
    highest, first = float(inside.max()), float(series.v[0])
    if highest > first:
        return f"{name} rose from {first:g} to {highest:g}"
    remembers = _STICKY in name or _STICKY in channels.notes[name].label.lower().replace("-", "_").replace(" ", "_")
    return f"{name} was {highest:g} while measuring" if highest > 0 and not remembers else ""


def _held(series: Series, window: Window) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The values in `window`, and the one before it, which held when it began."""
    low = max(int(np.searchsorted(series.t, window[0], "right")) - 1, 0)
    high = int(np.searchsorted(series.t, window[1], "right"))
    return series.v[low:high]


def _off_their_pins(channels: Trace, window: Window, pins: Mapping[str, float]) -> Iterator[Reason]:
    for name, pin_hz in sorted(pins.items()):
        series = channels[name]
        if not len(series) or pin_hz <= 0:
            continue
        means = {block: mean for block in _busy_blocks(channels, window) if (mean := series.mean(block)) is not None}
        if not means:
            continue
        lowest = min(means, key=lambda block: means[block])
        if means[lowest] < PINNED * pin_hz:
            at_s = (lowest[0] - window[0]) * 1e-9
            detail = (
                f"{name} was pinned at {pin_hz / 1e6:.0f} MHz and ran at {means[lowest] / 1e6:.0f} MHz "
                f"{at_s:.0f} s into the measurement, while the engine was busy"
            )
            yield Reason(code=ReasonCode.THROTTLED, detail=detail)


def _busy_blocks(channels: Trace, window: Window) -> list[Window]:
    """Equal parts of `window`, those in which the engine computed; all of them where nobody sampled that."""
    number = max(int((window[1] - window[0]) * 1e-9 / BLOCK_S), 1)
    edges = np.linspace(window[0], window[1], number + 1).astype(np.int64)
    blocks = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    cpu_s = channels[ENGINE_CPU]
    if not len(cpu_s):
        return blocks
    return [block for block in blocks if _cores(cpu_s, block) >= BUSY_CORES]


def _cores(cpu_s: Series, block: Window) -> float:
    part = cpu_s.shared(block)
    return (cpu_s.grown(part) or 0.0) / ((part[1] - part[0]) * 1e-9) if part else 0.0
