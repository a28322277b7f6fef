"""What must be so before a run starts: cool, steady, not slowed, charged, idle. The wait for it is bounded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from melt.errors import Interrupted, ParseError, TransportTimeout
from melt.readings import READINGS, text_of
from melt.records import Captured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from melt.device import Device
    from melt.records import Channel, Quantity, Sensor

NO_SENSOR = "precheck: no sensor"
"""The caveat of a device without any zone: whether it was cool could not be checked."""
_PAUSE_S, _FIRST_PAUSE_S = 2.0, 1.0
_SLOPE_WINDOW_S = 20.0
_COMMAND_S = 10.0
_SINCE_BOOT = "_since_boot"
"""The end of the name of a channel that says what was once: it is set until the next boot."""
_BUSY = "cpu.busy_s"
_BATTERY = "battery"
_FURTHER_OUT = frozenset({"wall", "board_input", "module"})

_Watched = tuple[tuple["Sensor", "Channel"], ...]


class NotReady(Exception):
    """The device did not become ready in time; `why` is the reason that the record carries."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def zones(device: Device) -> _Watched:
    """The temperatures that the profile wants looked at, each with the sensor whose text it is in."""
    thermal = device.profile.thermal
    return tuple(
        (sensor, channel)
        for sensor, channel in _of(device, "temperature")
        if any(fnmatchcase(channel.name, pattern) for pattern in thermal.check)
        and not any(fnmatchcase(channel.name, pattern) for pattern in thermal.ignore)
    )


def ceilings(device: Device, limit_c: float | None) -> dict[str, float]:
    """The raw value by sensor at which the device itself ends an engine: where a zone's text is one number."""
    return {
        sensor.name: limit_c * channel.raw_per_unit
        for sensor, channel in zones(device)
        if limit_c is not None and channel.raw_per_unit is not None
    }


def wait_until_ready(
    device: Device, settings: Mapping[str, Any], say: Callable[[str], None], cancelled: Callable[[], bool]
) -> tuple[str, ...]:
    """Waits until the device is as a run needs it; the caveats to keep with the run.

    That is: every checked zone below its target and steady; nothing that says the device is slowed now; the battery
    above its floor, and no charger where energy comes from the battery's own gauge; no load of others. `settings` are
    all resolved ones. Raises NotReady when that takes longer than `precheck.max_wait_s`, or waiting cannot help;
    Interrupted.
    """
    checks = _Checks(device, settings)
    if not checks.sensors and checks.load is None:
        return checks.caveats
    limit_s = settings["precheck.max_wait_s"]
    began = time.monotonic()
    told, pause_s = False, _FIRST_PAUSE_S
    while True:
        why = checks.look()
        waited_s = time.monotonic() - began
        if why is None:
            return checks.caveats
        if not why.may_pass:
            raise NotReady(why.sentence)
        if waited_s >= limit_s:
            raise NotReady(f"{why.sentence} after {limit_s:.0f} s of waiting")
        if not told:
            say(f"{device.name}: waiting up to {limit_s:.0f} s: {why.sentence}")
            told = True
        if cancelled():
            raise Interrupted(f"{device.name}: interrupted while waiting for it to be ready")
        time.sleep(min(pause_s, max(0.05, limit_s - waited_s)))
        pause_s = _PAUSE_S


@dataclass(frozen=True)
class _Why:
    """Why a device is not ready; `may_pass` says whether waiting may help."""

    sentence: str
    may_pass: bool = True


@dataclass
class _Checks:
    """What is looked at on a device, and what the looks so far have shown."""

    device: Device
    settings: Mapping[str, Any]
    temperatures: list[tuple[float, float]] = field(default_factory=list)
    """When, and the hottest zone then."""
    busy: tuple[float, float] | None = None
    """When, and the seconds that the processors had been busy by then."""

    def __post_init__(self) -> None:
        device = self.device
        self.zones = zones(device)
        self.slowed = tuple(pair for pair in _of(device, "throttle") if not pair[1].name.endswith(_SINCE_BOOT))
        self.floor = self._floor()
        self.levels = _of(device, "level") if self.floor else ()
        self.chargers = _of(device, "charger") if self._needs_the_battery() else ()
        self.load = _load(device) if self.settings["precheck.foreign_load_max"] is not None else None
        charging = _of(device, "charger") if self.levels else ()
        watched = (*self.zones, *self.slowed, *self.levels, *self.chargers, *charging)
        self.sensors = tuple({id(sensor): sensor for sensor, _ in watched}.values())

    @property
    def caveats(self) -> tuple[str, ...]:
        """What could not be looked at, or cannot be while the engine runs."""
        limit_c = self.settings["limits.zone_max_c"]
        watched = ceilings(self.device, limit_c)
        unwatched = [
            channel.name for sensor, channel in self.zones if limit_c is not None and sensor.name not in watched
        ]
        return (
            *([] if self.zones else [NO_SENSOR]),
            *(["precheck: no battery level"] if self.floor and not self.levels else []),
            *([f"limits.zone_max_c: not watched during the run: {', '.join(unwatched)}"] if unwatched else []),
        )

    def look(self) -> _Why | None:
        """Looks once: the first thing that a run has to wait for."""
        values = _values(self.device, (*self.sensors, *([self.load] if self.load else [])))
        now = time.monotonic()
        return (
            self._battery(values)
            or self._charger(values)
            or self._hot(values, now)
            or self._slow(values)
            or self._loaded(values, now)
            or self._steep()
        )

    def _floor(self) -> float | None:
        chosen: float | None = self.settings["precheck.battery_min"]
        battery = self.device.profile.battery
        return chosen if chosen is not None or battery is None else battery.floor

    def _needs_the_battery(self) -> bool:
        """Whether the run's energy is the battery's: its gauge is the total and usable, and idle power is asked for.

        Without a rule the gauge is the total where nothing further out is measured.
        """
        total, power = self.device.total, (*_of(self.device, "power"), *_of(self.device, "energy"))
        usable = {channel.name: channel.boundary for _, channel in power if channel.not_for_energy is None}
        wanted = self.settings["energy.idle"] != "never" and self.settings["protocol.idle_s"] > 0
        if total is not None:
            return wanted and total.boundary == _BATTERY and usable.keys() >= set(total.sum)
        return wanted and _BATTERY in usable.values() and not _FURTHER_OUT & set(usable.values())

    def _battery(self, values: Mapping[str, float]) -> _Why | None:
        if not self.levels or self.floor is None:
            return None
        found = [values[channel.name] for _, channel in self.levels if channel.name in values]
        if not found:
            return _Why("the battery's level cannot be read any more")
        if min(found) >= self.floor:
            return None
        sentence = (
            f"the battery is at {min(found):.0%}, and no run starts under {self.floor:.0%} (precheck.battery_min)"
        )
        charging = any(values.get(channel.name) for _, channel in _of(self.device, "charger"))
        return _Why(f"{sentence}: charge it", may_pass=charging)

    def _charger(self, values: Mapping[str, float]) -> _Why | None:
        plugged_in = [channel.name for _, channel in self.chargers if values.get(channel.name)]
        unread = [channel.name for _, channel in self.chargers if channel.name not in values]
        if unread and not plugged_in:
            return _Why(f"{unread[0]} cannot be read any more, which says whether a charger is plugged in")
        if not plugged_in:
            return None
        return _Why(
            f"{plugged_in[0]} says that a charger is plugged in, and a battery's gauge tells no energy then: unplug it "
            "(over Wi-Fi or a switched USB port), or write 'energy: {idle: never}'"
        )

    def _hot(self, values: Mapping[str, float], now: float) -> _Why | None:
        if not self.zones:
            return None
        found = {channel.name: values[channel.name] for _, channel in self.zones if channel.name in values}
        gone = [channel.name for _, channel in self.zones if channel.name not in values]
        if gone:  # it may be the hot one
            more = f", and {len(gone) - 1} more zones" if len(gone) > 1 else ""
            return _Why(f"{gone[0]}{more} cannot be read any more")
        hottest = max(found, key=lambda name: found[name])
        self.temperatures.append((now, found[hottest]))
        target_c = self.settings["precheck.zone_max_c"]
        if target_c is None or found[hottest] < target_c:
            return None
        return _Why(f"{hottest} is at {found[hottest]:.1f} °C, wanted below {target_c:g} °C (precheck.zone_max_c)")

    def _slow(self, values: Mapping[str, float]) -> _Why | None:
        for _, channel in self.slowed:
            if channel.name not in values:
                return _Why(f"{channel.name} cannot be read any more, which says whether the device is slowed")
            if values[channel.name]:
                return _Why(f"{channel.name} is {values[channel.name]:g}: the device is slowed now")
        return None

    def _loaded(self, values: Mapping[str, float], now: float) -> _Why | None:
        limit = self.settings["precheck.foreign_load_max"]
        if self.load is None:
            return None
        if _BUSY not in values:
            return _Why("the load of the processors cannot be read any more")
        before, self.busy = self.busy, (now, values[_BUSY])
        if before is None:
            return _Why("the load has not been watched for long enough")
        share = (values[_BUSY] - before[1]) / (now - before[0])
        if share <= limit:
            return None
        return _Why(f"others keep {share:.1f} cores busy, wanted at most {limit:g} (precheck.foreign_load_max)")

    def _steep(self) -> _Why | None:
        """Whether the hottest zone still changes, over the last 20 s of looking."""
        limit = self.settings["precheck.slope_max_c_per_min"]
        if not self.zones or limit is None:
            return None
        t, c = self.temperatures[-1]
        before = [(t0, c0) for t0, c0 in self.temperatures if t - t0 >= _SLOPE_WINDOW_S]
        if not before:
            return _Why("the temperature has not been watched for long enough")
        t0, c0 = before[-1]
        slope = abs(c - c0) / (t - t0) * 60
        if slope >= limit:
            return _Why(f"the temperature changes by {slope:.1f} °C a minute, wanted under {limit:g}")
        return None


def _of(device: Device, quantity: Quantity) -> _Watched:
    return tuple((s, c) for s in device.sensors for c in s.channels if c.quantity == quantity)


def _load(device: Device) -> Sensor | None:
    """The time that the processors were busy: the device's own sensor of it, or the one that any Linux has."""
    of_the_device = next((s for s in device.sensors for c in s.channels if c.name == _BUSY), None)
    if of_the_device is not None:
        return of_the_device
    reading = READINGS["cpu-time"]
    found = reading.sensors(device.probe(reading.paths)) if reading.sensors else ()
    return found[0] if found else None


def _values(device: Device, sensors: Sequence[Sensor]) -> dict[str, float]:
    """What the channels of `sensors` say now; one that cannot be read has no key."""
    captures = device.probe(dict.fromkeys(path for sensor in sensors for path in sensor.paths))
    for argv in dict.fromkeys(sensor.argv for sensor in sensors if sensor.argv):
        source = " ".join(argv)
        try:
            done = device.run(argv, _COMMAND_S)
        except TransportTimeout:
            continue
        captures[source] = Captured(source, done.stdout, None if done.ok else "failed")
    return {name: value for sensor in sensors for name, value in _parsed(captures, sensor)}


def _parsed(captures: Mapping[str, Captured], sensor: Sensor) -> Iterator[tuple[str, float]]:
    for channel in sensor.channels:
        try:
            yield channel.name, channel.parse(text_of(captures, sensor))
        except ParseError:
            continue
