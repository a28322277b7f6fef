"""`melt watch`: what a device says of itself now, once a second: clocks, temperatures, power, memory, throttling."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from melt.analysis.trace import AVAILABLE, is_cap
from melt.cli.console import out, plain, say
from melt.cli.options import LabFile, named
from melt.device import Device, open_device
from melt.run.values import capture, values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType

    from melt.records import Channel, Sensor
    from melt.run.values import Value

EXAMPLE = "Example: **melt watch pi5 --lab lab.yaml**"
_EVERY_S = 1.0
_SHOWN = frozenset({"clock", "temperature", "power", "energy", "memory", "throttle", "cooling", "level", "charger"})
_WIDE = 60


@dataclass(frozen=True)
class Now:
    """One look at a device: values by channel, of energy as power, and why the others have none."""

    at_s: float
    channels: Mapping[str, Channel]
    known: Mapping[str, float]
    unknown: Mapping[str, str]
    total_w: Value | None
    """None where no channels are known to be the total."""

    def of(self, *quantities: str) -> dict[str, float]:
        return {n: v for n, v in self.known.items() if self.channels[n].quantity in quantities}

    def label(self, name: str) -> str:
        return self.channels[name].label or name


@dataclass
class _Watcher:
    """Asks again and again; remembers counters, and what is due when."""

    device: Device
    sensors: list[Sensor]
    began: float = field(default_factory=time.monotonic)
    _before: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of each counter: when it was read, and its value."""
    _power: dict[str, float] = field(default_factory=dict)
    _latest: dict[str, Value] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)

    def look(self) -> Now:
        """Raises TransportError when the link is lost."""
        begin = time.monotonic()
        asked = [sensor for sensor in self.sensors if self._due.get(sensor.name, 0.0) <= begin]
        captures = capture(self.device, asked)
        at = (begin + time.monotonic()) / 2
        self._latest |= values(asked, captures)
        for sensor in asked:
            if sensor.argv:  # a program is started for it: no more often than a run does
                self._due[sensor.name] = begin + sensor.period_s
        channels = {channel.name: channel for sensor in self.sensors for channel in sensor.channels}
        told = {name: self._value(channel, at) for name, channel in channels.items() if name in self._latest}
        return Now(
            at_s=at - self.began,
            channels=channels,
            known={name: value for name, value in told.items() if isinstance(value, float)},
            unknown={name: value for name, value in told.items() if isinstance(value, str)},
            total_w=self._total(told),
        )

    def _value(self, channel: Channel, at: float) -> Value:
        value = self._latest[channel.name]
        if channel.quantity != "energy" or isinstance(value, str):
            return value
        then, before = self._before.get(channel.name, (at, value))
        grown = value - before
        if grown < 0 and channel.wraps_at and -grown > channel.wraps_at / 2:
            grown += channel.wraps_at
        if grown != 0 or channel.name not in self._before:
            self._before[channel.name] = (at, value)
            self._power.pop(channel.name, None)
            if grown > 0 and at > then:
                self._power[channel.name] = grown / (at - then)
        return self._power.get(channel.name, "a counter tells power from its second value on")

    def _total(self, told: Mapping[str, Value]) -> Value | None:
        rule = self.device.total
        if rule is None:
            return None
        total_w = 0.0
        for name in rule.sum:
            value = told.get(name, "it gave no value")
            if isinstance(value, str):
                return f"{name}: {value}"
            total_w += value
        return total_w


def watch(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="A device of the lab, or an address.", metavar="DEVICE")],
    lab: LabFile = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.0, help="End after so long; until Ctrl-C if not said.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for a program.")] = False,
) -> None:
    """Watch a device live: clocks, temperatures, power, memory and throttling, every second until Ctrl-C.

    Reading takes a little of the device's time: do not watch one that is being measured.
    """
    known, name, spec = named(device, lab, context)
    with open_device(name, spec, known.profile(spec), say) as opened:
        shown = [sensor for sensor in opened.sensors if any(c.quantity in _SHOWN for c in sensor.channels)]
        if not shown:
            say(f"{name}: no sensor of its can be watched: melt doctor says why")
        try:
            _show(opened, _looks(_Watcher(opened, shown), seconds), as_json)
        except KeyboardInterrupt:
            return  # how a person ends it


def _looks(watcher: _Watcher, seconds: float | None) -> Iterator[Now]:
    """A look every second, on a grid of its own, until the time is over."""
    due = watcher.began
    while True:
        yield watcher.look()
        due = max(due + _EVERY_S, time.monotonic())
        if seconds is not None and due > watcher.began + seconds:
            return
        time.sleep(max(0.0, due - time.monotonic()))


def _show(device: Device, looks: Iterator[Now], as_json: bool) -> None:
    if as_json:
        for now in looks:
            try:
                print(json.dumps(_data(device, now), allow_nan=False), flush=True)
            except BrokenPipeError:
                out.on_broken_pipe()
                return
    elif out.is_terminal:
        with Live(console=out, auto_refresh=False) as live:
            for now in looks:
                live.update(_view(device, now, out.width), refresh=True)
    else:
        for now in looks:
            simulated = " (simulated)" if device.simulated else ""
            out.print(plain(f"{device.name}{simulated}: {line(now)}"), soft_wrap=True)
            if out.quiet:
                return


def _data(device: Device, now: Now) -> dict[str, Any]:
    total = now.total_w
    return {
        "device": device.name,
        "simulated": device.simulated,
        "t_s": round(now.at_s, 3),
        "clocks_hz": now.of("clock"),
        "temperatures_c": now.of("temperature"),
        "power_w": now.of("power", "energy"),
        "total_w": total if isinstance(total, float) else None,
        "memory_bytes": now.of("memory"),
        "throttle": now.of("throttle", "cooling"),
        "battery": now.of("level", "charger"),
        "reasons": {**now.unknown, **({"total_w": _no_total(device, total)} if not isinstance(total, float) else {})},
    }


def _no_total(device: Device, total: str | None) -> str:
    return total or device.no_total or f"profile {device.profile.name} names no total"


def line(now: Now) -> str:
    """One look as one line."""
    words = [f"{now.at_s:.0f} s"]
    clocks = {n: v for n, v in now.of("clock").items() if not is_cap(n)}
    heat, power = now.of("temperature"), now.of("power", "energy")
    if clocks:
        words.append("/".join(f"{v / 1e9:.2f}" for v in clocks.values()) + " GHz")
    if heat:
        hottest = max(heat, key=lambda n: heat[n])
        words.append(f"{heat[hottest]:.1f} °C {now.label(hottest)}")
    if isinstance(now.total_w, float):
        words.append(f"{now.total_w:.2f} W")
    elif power:
        words.append(", ".join(f"{now.label(n)} {v:.2f} W" for n, v in list(power.items())[:3]))
    if AVAILABLE in now.known:
        words.append(f"{now.known[AVAILABLE] / 1e9:.2f} GB free")
    if level := now.of("level"):
        words.append(f"battery {100 * min(level.values()):.0f} %")
    slowed = [now.label(n) for n in _slowing(now)]
    words.append(f"slowed by {', '.join(slowed)}" if slowed else "")
    return "  ".join(filter(None, words))


def _view(device: Device, now: Now, width: int) -> RenderableType:
    """One look: a row for each kind, its figures one after the other; lines, where a terminal is too narrow."""
    simulated = " [dim](simulated)[/]" if device.simulated else ""
    title = f"{plain(device.name)}{simulated}, {now.at_s:.0f} s"
    rows = [(kind, plain(", ".join(words))) for kind, words in _kinds(device, now).items() if words]
    if width < _WIDE:
        return Text.from_markup("\n".join([title, *(f"[bold]{kind}[/]: {words}" for kind, words in rows)]))
    table = RichTable(title=title, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for kind, words in rows:
        table.add_row(f"[bold]{kind}[/]", words)
    return table


def _kinds(device: Device, now: Now) -> dict[str, list[str]]:
    clocks = {n: v for n, v in now.of("clock").items() if not is_cap(n)}
    shorten = {n: re.sub(r"^cpu\.|\.clock$", "", now.label(n)) for n in clocks}
    power = [f"{now.label(n)} {v:.2f} W" for n, v in now.of("power", "energy").items()]
    levels = [f"{100 * v:.0f} %" for v in now.of("level").values()]
    chargers = ["charger on" if v else "no charger" for v in now.of("charger").values()]
    return {
        "clocks": [f"{shorten[n]} {v / 1e9:.2f} GHz" for n, v in clocks.items()],
        "temperatures": [f"{now.label(n)} {v:.1f} °C" for n, v in now.of("temperature").items()],
        "power": [*_total_words(device, now), *power],
        "memory": [f"{n.removeprefix('memory.')} {v / 1e9:.2f} GB" for n, v in now.of("memory").items()],
        "slowed by": [f"{now.label(n)} {v:.0f}" for n, v in _slowing(now).items()] or ["nothing that it tells"],
        "battery": [*levels, *chargers],
        "no value": [f"{n}: {why}" for n, why in now.unknown.items() if now.channels[n].quantity != "energy"],
    }


def _slowing(now: Now) -> dict[str, float]:
    """What says that the device is slowed now."""
    return {n: v for n, v in now.of("throttle", "cooling").items() if v and not n.endswith("_since_boot")}


def _total_words(device: Device, now: Now) -> list[str]:
    if isinstance(now.total_w, float):
        boundary = device.total.boundary if device.total else ""
        return [f"total {now.total_w:.2f} W ({boundary})"]
    return []
