"""What can be measured on a device, kind by kind, from what its channels say. Nothing is printed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.total import Total, total
from melt.analysis.trace import AVAILABLE, Series, Trace, is_cap
from melt.job import notes
from melt.records import EnergyBasis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.analysis.refresh import Refresh
    from melt.device import Device
    from melt.records import Channel, Quantity
    from melt.run.values import Value

_SHOWN = 3
_A_FEW = 3
_POWER: tuple[Quantity, ...] = ("power", "energy")


@dataclass(frozen=True)
class Kind:
    """One kind of figure: whether it can be had, by what, where it ends, how often it is new, and what to know."""

    name: str
    can: str
    """`yes`, `no`, or `parts`."""
    by: str
    boundary: str
    refresh: str
    remark: str


@dataclass(frozen=True)
class Looked:
    """What was found out of a device's channels: their values now, and how often they are new where that was tried."""

    device: Device
    values: Mapping[str, Value]
    refreshed: Mapping[str, Refresh]
    over_s: float
    """For how long they were watched; 0 where they were not."""

    def channels(self, *quantities: Quantity) -> list[Channel]:
        """Those that gave a value."""
        return [
            channel
            for sensor in self.device.sensors
            for channel in sensor.channels
            if channel.quantity in quantities and isinstance(self.values.get(channel.name), float)
        ]

    def total(self) -> Total | str:
        """The channels whose sum a run's energy would be, or why there is none."""
        known = {name: value for name, value in self.values.items() if isinstance(value, float)}
        still = {name: Series(np.array([0, 10**9]), np.array([value, value])) for name, value in known.items()}
        basis = EnergyBasis(total=self.device.total, no_total=self.device.no_total)
        return total(Trace(still, notes(self.device.sensors)), basis)

    def refresh(self, channels: Sequence[Channel]) -> str:
        """How often these channels have new values, from the fastest to the slowest."""
        if not channels:
            return ""
        if not self.over_s:
            return "not measured"
        told = [self.refreshed[c.name] for c in channels if c.name in self.refreshed]
        known = sorted((r.refresh_s, r.at_most) for r in told if r.refresh_s is not None)
        if not known:
            return _roughly(max((found.changes for found in told), default=0), self.over_s)
        low, high = known[0], known[-1]
        below = "≤ " if low[1] else ""
        return (
            f"{below}{low[0]:.2g} s"
            if f"{low[0]:.2g}" == f"{high[0]:.2g}"
            else f"{below}{low[0]:.2g} to {high[0]:.2g} s"
        )


def _roughly(changes: int, over_s: float) -> str:
    """What a few changes tell."""
    if not changes:
        return f"still for {over_s:.0f} s"
    return f"about {over_s / changes:.1g} s" if changes >= _A_FEW else f"longer than {over_s / 2:.1g} s"


def kinds(looked: Looked) -> list[Kind]:
    """The six kinds of figure that a person asks for."""
    return [
        _energy(looked),
        _temperature(looked),
        _clocks(looked),
        _memory(looked),
        _throttling(looked),
        _battery(looked),
    ]


def _energy(looked: Looked) -> Kind:
    chosen, there = looked.total(), looked.channels(*_POWER)
    if isinstance(chosen, Total):
        used = [channel for channel in there if channel.name in chosen.channels]
        remark = f"leaves out: {', '.join(chosen.excludes)}" if chosen.excludes else ""
        ends = f"{chosen.boundary}, {chosen.provenance}"
        return Kind("Energy", "yes", _named(used), ends, looked.refresh(used), remark)
    parts = [channel for channel in there if channel.not_for_energy is None]
    why = chosen.partition(": ")[2] or chosen
    if parts:
        ends = ", ".join(dict.fromkeys(c.boundary for c in parts if c.boundary))
        return Kind("Energy", "parts", _named(parts), ends, looked.refresh(parts), f"no total: {why}")
    return Kind("Energy", "no", "", "", looked.refresh(there), why)


def _temperature(looked: Looked) -> Kind:
    found = looked.channels("temperature")
    return _found("Temperature", looked, found, "no zone or monitor tells one: runs start without a look at the heat")


def _clocks(looked: Looked) -> Kind:
    found = [channel for channel in looked.channels("clock") if not is_cap(channel.name)]
    return _found(
        "Clocks", looked, found, "no clock can be read: a processor that slows itself is seen by latency only"
    )


def _memory(looked: Looked) -> Kind:
    found = [channel for channel in looked.channels("memory") if channel.name == AVAILABLE]
    by = "the engine's own process" + (", what the device has left" if found else "")
    return Kind(
        "Memory", "yes", by, "the process", looked.refresh(found), "the peak, and what of it is the model's file"
    )


def _throttling(looked: Looked) -> Kind:
    found = looked.channels("throttle", "cooling")
    caps = [channel for channel in looked.channels("clock") if is_cap(channel.name)]
    if not found and caps:
        return _found("Throttling", looked, caps, "", "by a clock's limit that moves")
    return _found("Throttling", looked, found, "nothing here tells it: it is seen by latency that grows, if at all")


def _battery(looked: Looked) -> Kind:
    found = [
        channel
        for channel in looked.channels("level", "charger", "charge", "current", "voltage", "power")
        if channel.name.startswith("battery.") or channel.boundary == "battery"
    ]
    return _found("Battery", looked, found, "no battery is known to this device")


def _found(name: str, looked: Looked, found: Sequence[Channel], otherwise: str, remark: str = "") -> Kind:
    if not found:
        return Kind(name, "no", "", "", "", otherwise)
    return Kind(name, "yes", _named(found), "", looked.refresh(found), remark)


def _named(channels: Sequence[Channel]) -> str:
    names = list(dict.fromkeys(c.label or c.name for c in channels))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
