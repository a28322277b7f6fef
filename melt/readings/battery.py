"""The battery and what charges it: the kernel's files, or what Android tells without root.

Source: /sys/class/power_supply, Linux's Documentation/ABI/testing/sysfs-class-power (µA, µV, percent, 0.1 °C; the
current is below 0 while the battery gives), and `dumpsys battery` (mV, 0.1 °C, µAh, level of scale).

A supply is a battery by its `type`, not by its name: `battery`, `BAT0`, `max170xx_battery` … A mouse's (`scope` Device)
is none. Makers differ in the unit and the sign of the current: what is read here assumes the kernel's, and no energy is
published from it before a profile says that somebody has calibrated it.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Literal

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, matching, only, part, usable
from melt.readings.text import clean, line, scaled
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PERIOD_S = 1.0
DUMPSYS_PERIOD_S = 5.0
"""Each takes a process and wakes a service, for values that a gauge refreshes every 1 to 30 s."""
MOST_CHARGERS = 12

NOT_CALIBRATED = (
    "the sign and unit of current_now differ between makers and are not calibrated on this model: run 'melt calibrate "
    "DEVICE' and name the profile it writes"
)

_SUPPLY = "/sys/class/power_supply/*"
_VALUES = ("current_now", "voltage_now", "capacity", "temp", "status", "online")

Unit = Literal["ua", "ma"]
Sign = Literal["negative", "positive"]
_PER_A = {"ua": 10**6, "ma": 1000}

_STATES = (b"charging", b"discharging", b"not charging", b"full", b"unknown")


def amperes(data: bytes, *, unit: Unit = "ua", discharging: Sign = "negative") -> float:
    """The current in A, below 0 while the battery gives; `data` is current_now and then voltage_now.

    Raises:
        ParseError: no number, or a current that no battery gives.
    """
    value = scaled(part(data, 0), over=_PER_A[unit], low=-100, high=100)
    return value if discharging == "negative" else -value


def volts(data: bytes, *, index: int = 1) -> float:
    """The voltage in V, of current_now and then voltage_now; raises ParseError."""
    return scaled(part(data, index), over=10**6, low=0.5, high=1000)


def watts(data: bytes, *, unit: Unit = "ua", discharging: Sign = "negative") -> float:
    """The power in W that the battery gives, below 0 while it is charged; raises ParseError."""
    power = -amperes(data, unit=unit, discharging=discharging) * volts(data)
    return power or 0.0  # and not -0.0


def level(data: bytes) -> float:
    """Percent to a share from 0 to 1; raises ParseError."""
    return scaled(data, over=100, low=0, high=1)


def tenths(data: bytes) -> float:
    """0.1 °C to °C; raises ParseError, on a sensor's -2147483648 too."""
    return scaled(data, over=10, low=-50, high=150)


def charger(data: bytes) -> float:
    """1 where a charger is plugged in, else 0, from the batteries' `status` and the chargers' `online`, one to a line.

    Where no charger says whether it is on, a battery that is full or held is taken to hang on one.

    Raises:
        ParseError: a line that is neither, or none that tells.
    """
    lines = [piece.strip().lower() for piece in data[:4096].split(b"\n")]
    states = [text for text in lines if text in _STATES]
    online = [text for text in lines if text in (b"0", b"1", b"2")]
    if len(states) + len(online) < len(lines):
        raise ParseError(f"'{clean(data, 60)}' does not tell whether a charger is on", data[:4096])
    if b"charging" in states or b"1" in online or b"2" in online:
        return 1.0
    if online:
        return 0.0
    told = [text for text in states if text != b"unknown"]
    if not told:
        raise ParseError("neither a battery nor a charger tells whether a charger is on", data[:4096])
    return float(any(text != b"discharging" for text in told))


def _word(captures: Captures, path: str) -> str:
    try:
        return line(answer(captures, path))
    except ParseError:
        return ""


def _is_battery(captures: Captures, supply: str) -> bool | None:
    """Whether it is the device's battery, or else a charger; None where it is neither, or does not say."""
    kind = _word(captures, f"{supply}/type")
    if not kind or _word(captures, f"{supply}/scope") == "Device":
        return None
    return kind == "Battery"


def _readable(captures: Captures, paths: Iterable[str]) -> list[str]:
    found = []
    for path in paths:
        try:
            if answer(captures, path).strip():
                found.append(path)
        except ParseError:
            continue
    return found


def _sysfs(captures: Captures) -> tuple[Sensor, ...]:
    supplies = [path.rpartition("/")[0] for path in matching(captures, f"{_SUPPLY}/type")]
    kinds = {supply: _is_battery(captures, supply) for supply in supplies}
    batteries = [supply for supply, kind in kinds.items() if kind]
    # Android's own is called battery; what stands beside it is the gauge behind it, and on a laptop a second one
    batteries.sort(key=lambda supply: supply.rpartition("/")[2] != "battery")
    names = Names()
    sensors: list[Sensor | None] = []
    for number, supply in enumerate(batteries):
        label = "battery" if number == 0 else supply.rpartition("/")[2]
        sensors += _battery(captures, names.new("battery"), label, supply)
    if sensors:
        # a battery's own `online` is no charger's: some makers keep the kind of the cable there
        online = [f"{supply}/online" for supply, kind in kinds.items() if kind is False]
        states = _readable(captures, (f"{supply}/status" for supply in batteries))[:2]
        files = [*states, *_readable(captures, online)[:MOST_CHARGERS]]
        if files:
            channel = Channel("battery.charger", "charger", charger, label="charger")
            sensor = Sensor("battery.charger", (channel,), PERIOD_S, files[0], also=tuple(files[1:]))
            sensors.append(usable(captures, sensor))
    return tuple(filter(None, sensors))


def _battery(captures: Captures, name: str, label: str, supply: str) -> Iterator[Sensor | None]:
    current, voltage = f"{supply}/current_now", f"{supply}/voltage_now"
    power = Channel(f"{name}.power", "power", watts, "battery", "measured", label=label, not_for_energy=NOT_CALIBRATED)
    of_current = Channel(f"{name}.current", "current", amperes, label=label)
    of_voltage = Channel(f"{name}.voltage", "voltage", volts, label=label)
    if gauge := usable(captures, Sensor(name, (power, of_current, of_voltage), PERIOD_S, current, also=(voltage,))):
        yield gauge
    else:  # one of the two may be closed to all but root
        yield usable(captures, Sensor(of_current.name, (of_current,), PERIOD_S, current))
        alone = Channel(f"{name}.voltage", "voltage", partial(volts, index=0), label=label)
        yield usable(captures, Sensor(alone.name, (alone,), PERIOD_S, voltage))
    of_level = Channel(f"{name}.level", "level", level, label=label)
    yield usable(captures, Sensor(of_level.name, (of_level,), PERIOD_S, f"{supply}/capacity"))
    of_heat = Channel(f"{name}.temperature", "temperature", tenths, label=label)
    yield usable(captures, Sensor(of_heat.name, (of_heat,), PERIOD_S, f"{supply}/temp"))


def _of_others(captures: Captures) -> frozenset[str]:
    found = set()
    for path in matching(captures, f"{_SUPPLY}/type"):
        supply = path.rpartition("/")[0]
        is_battery = _is_battery(captures, supply)
        if is_battery:
            found |= {f"{supply}/online", f"{supply}/status"}
        elif is_battery is not None or _word(captures, f"{supply}/scope"):
            found |= {f"{supply}/{file}" for file in _VALUES}
    return frozenset(found)


BATTERY = Reading(
    "battery",
    "the battery's current, voltage, power, level and temperature, and whether a charger is on",
    paths=tuple(f"{_SUPPLY}/{file}" for file in (*_VALUES, "type", "scope")),
    sampled=tuple(f"{_SUPPLY}/{file}" for file in _VALUES),
    sensors=_sysfs,
    passed_over=_of_others,
)


# ------------------------------------------------------------------------------------------------ dumpsys
# battery

_DUMPSYS = ("dumpsys", "battery")
_CHARGING, _DISCHARGING = 2, 3  # BatteryManager.BATTERY_STATUS_*


def unusable(data: bytes) -> str:
    """Why nothing that `dumpsys battery` tells is to be used; empty where it is."""
    if b"Current Battery Service state:" not in data:
        return f"'{clean(data, 60)}' is not the state of the battery service"
    if b"UPDATES STOPPED" in data:
        return "the values were set by hand and are held: run 'dumpsys battery reset' on the device"
    if re.search(rb"^[ \t]*present:[ \t]*false", data, re.MULTILINE):
        return "the device says that it has no battery"
    return ""


def _entry(data: bytes, key: str) -> bytes:
    """The first `key: value` of the service's state.

    Raises:
        ParseError: it is not there, or nothing of it is to be used.
    """
    if why := unusable(data[:16384]):
        raise ParseError(why, data[:4096])
    _, _, state = data[:16384].partition(b"Current Battery Service state:")
    found = re.search(rb"^[ \t]*" + re.escape(key.encode()) + rb":[ \t]*(\S+)[ \t\r]*$", state, re.MULTILINE)
    if not found:
        raise ParseError(f"there is no line '{key}'", data[:4096])
    return found[1]


def told_level(data: bytes) -> float:
    """`level` of `scale`, as a share from 0 to 1; raises ParseError."""
    scale = scaled(_entry(data, "scale"), low=1, high=1e6)
    return scaled(_entry(data, "level"), low=0, high=scale) / scale


def told_volts(data: bytes) -> float:
    """mV to V; raises ParseError."""
    return scaled(_entry(data, "voltage"), over=1000, low=0.5, high=1000)


def told_temperature(data: bytes) -> float:
    """0.1 °C to °C; raises ParseError."""
    return tenths(_entry(data, "temperature"))


def told_charge(data: bytes) -> float:
    """µAh to coulomb; raises ParseError, under 10 mAh too: some phones print 0, or another unit."""
    return scaled(_entry(data, "Charge counter"), times=36, over=10**4, low=36, high=1e7)


def told_charger(data: bytes) -> float:
    """1 where one of the chargers powers the device, or the battery is being charged, else 0; raises ParseError."""
    powered = []
    for source in ("AC", "USB", "Wireless", "Dock"):
        try:
            powered.append(_entry(data, f"{source} powered"))
        except ParseError:
            continue
    status = scaled(_entry(data, "status"), low=1, high=5)
    if b"true" in powered or status == _CHARGING:
        return 1.0
    if not powered and status != _DISCHARGING:
        raise ParseError("no line tells whether a charger is on", data[:4096])
    return 0.0


def _dumpsys(captures: Captures) -> tuple[Sensor, ...]:
    channels = (
        Channel("battery.voltage", "voltage", told_volts, label="battery"),
        Channel("battery.level", "level", told_level, label="battery"),
        Channel("battery.charger", "charger", told_charger, label="charger"),
        Channel("battery.charge", "charge", told_charge, label="battery"),
        Channel("battery.temperature", "temperature", told_temperature, label="battery"),
    )
    return only(Sensor("battery.dumpsys", channels, DUMPSYS_PERIOD_S, argv=_DUMPSYS, timeout_s=3.0), captures)


BATTERY_DUMPSYS = Reading(
    "battery-dumpsys",
    "what Android tells of the battery without root: voltage, level, charge, temperature, and whether a charger is on",
    argv=_DUMPSYS,
    sensors=_dumpsys,
    explain=unusable,
)
