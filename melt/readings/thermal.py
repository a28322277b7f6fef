"""Temperatures of thermal zones, and what the kernel does about them: cooling devices and fans.

Source: /sys/class/thermal, Linux's Documentation/driver-api/thermal/sysfs-api.rst. A zone is named by its
type, never its number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, matching, name_of, sibling, usable
from melt.readings.text import integer, line
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from melt.records import Quantity

PERIOD_S = 0.5
COLDEST_C, HOTTEST_C = -50.0, 200.0
MOST_STEPS = 1_000_000
_ZONE = "/sys/class/thermal/thermal_zone*"
_COOLING = "/sys/class/thermal/cooling_device*"

# phones have zones for what trips a protection of the battery: mA, mV and percent in the place of m°C
_NO_TEMPERATURE = re.compile(
    r"(^|[-_])(ibat|vbat|bcl|ocp|vdroop[0-9]*|batoilo|smpl|uvlo[0-9]*)([-_]|$)|^socd?$|^battery_cycle$"
)
# what does not slow a program: a fan, a Jetson's notice that its surface is hot (at 70 °C, far below throttling), a
# floor of a voltage when it is cold, and the screen, the radios and the charger of a phone
_SLOWS_NOTHING = re.compile(
    r"fan|surface-alert|floor|rail[-_]scaling|gpu[-_]scaling|lcd|backlight|panel|display|bright|wlan|wifi|modem|radio"
    r"|charge|battery|fcc|usb|camera|flash|torch|(^|[-_])led|speaker"
)


def celsius(data: bytes) -> float:
    """Millidegrees to °C.

    Raises:
        ParseError: no number; a temperature that no device has (absent sensors print -274000 or 2147483647); or
            a number from -199 to 199, which is a sensor that is off (0) or that prints whole degrees against the
            kernel's rules. Little is lost: a true sensor prints that within 0.2 °C of freezing only.
    """
    millidegrees = integer(data)
    value = millidegrees / 1000
    if abs(millidegrees) < HOTTEST_C:  # the same figure in degrees
        raise ParseError(f"{millidegrees} is not in millidegrees", data)
    if not COLDEST_C <= value <= HOTTEST_C:
        raise ParseError(f"{value:g} °C is outside {COLDEST_C:g} to {HOTTEST_C:g}", data)
    return value


def steps(data: bytes) -> float:
    """The state of a cooling device: 0 is off. -1 (intel_powerclamp: not in use) is off too.

    Raises:
        ParseError: no number, or no state.
    """
    value = integer(data)
    if not -1 <= value <= MOST_STEPS:
        raise ParseError(f"{value} is not a cooling state", data)
    return float(max(value, 0))


def _type(captures: Captures, path: str) -> str:
    try:
        return line(answer(captures, sibling(path, "type")))
    except ParseError:
        return "unnamed"  # a temperature of we know not what is still a temperature


def _zones(captures: Captures) -> tuple[Sensor, ...]:
    names = Names()
    found = []
    for path in matching(captures, f"{_ZONE}/temp"):
        kind = _type(captures, path)
        if _NO_TEMPERATURE.search(kind.lower()):
            continue
        # named before it is tried: a file that fails today must not shift the numbers of the others
        name = names.new(name_of("zone", kind))
        channel = Channel(name, "temperature", celsius, raw_per_unit=1000, label=kind)
        found.append(usable(captures, Sensor(name, (channel,), PERIOD_S, path)))
    return tuple(filter(None, found))


def _cooling(captures: Captures) -> tuple[Sensor, ...]:
    names = Names()
    found = []
    for path in matching(captures, f"{_COOLING}/cur_state"):
        kind = _type(captures, path)
        fan = "fan" in kind.lower()
        name = names.new(name_of("fan" if fan else "cooling", kind))
        # a fan that turns up is not throttling, so it is not of the quantity that tells throttling
        quantity: Quantity = "count" if _SLOWS_NOTHING.search(kind.lower()) else "cooling"
        channel = Channel(name, quantity, steps, label=kind)
        found.append(usable(captures, Sensor(name, (channel,), PERIOD_S, path)))
    return tuple(filter(None, found))


ZONES = Reading(
    "thermal",
    "temperatures of the kernel's thermal zones",
    paths=(f"{_ZONE}/temp", f"{_ZONE}/type"),
    sampled=(f"{_ZONE}/temp",),
    sensors=_zones,
)
COOLING = Reading(
    "cooling",
    "what the kernel does against heat: cooling states and fans",
    paths=(f"{_COOLING}/cur_state", f"{_COOLING}/type"),
    sampled=(f"{_COOLING}/cur_state",),
    sensors=_cooling,
)
