"""Energy counters of a Pixel's rails (ODPM): the phone's own two meters, Pixel 6 and later.

Source: /sys/bus/iio/devices/iio:device*/energy_value, a table such as
    t=349894
    CH3(T=349894)[S2M_VDD_CPUCL2], 30203502
where the last number is µW·s since boot (as Android's power statistics service takes it), and T the milliseconds at
which it was taken, on a clock of that meter. A rail at 0 has used nothing, which is a value. Which rails the meters
watch is set by the phone's maker and differs between models.
"""

from __future__ import annotations

import re
from functools import partial

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, matching, name_of, sibling, usable
from melt.readings.text import clean, line, scaled
from melt.records import Channel, Sensor

PERIOD_S = 0.1
_DEVICE = "/sys/bus/iio/devices/iio:device*"
_LINE = re.compile(rb"^CH[0-9]{1,3}\(T=[0-9]{1,20}\)\[([^\]\r\n]{1,100})\], *([0-9]{1,20})[ \t\r]*$", re.MULTILINE)
_LONGEST_RAIL = 45


def joules(data: bytes, *, rail: bytes) -> float:
    """What a rail has used since boot, µW·s to J.

    Raises:
        ParseError: the table has no line of that rail, or a number that no meter reaches.
    """
    for name, value in _LINE.findall(data[:16384]):
        if name == rail:
            return scaled(value, over=10**6, low=0, high=1e12)
    raise ParseError(f"there is no rail '{clean(rail, 60)}'", data[:4096])


def _meter(captures: Captures, path: str) -> str:
    try:
        return line(answer(captures, sibling(path, "name")))
    except ParseError:
        return "meter"


def _sensors(captures: Captures) -> tuple[Sensor, ...]:
    meters, rails, found = Names(), Names(), []
    for path in matching(captures, f"{_DEVICE}/energy_value"):
        # named before it is tried: a meter that fails today must not shift the names of the other's rails
        name = meters.new(name_of("odpm", _meter(captures, path)))
        try:
            table = answer(captures, path)
        except ParseError:
            continue
        labels = dict.fromkeys(rail for rail, _ in _LINE.findall(table[:16384]))
        channels = tuple(
            Channel(
                f"{rails.new(name_of('odpm', clean(rail))[:_LONGEST_RAIL])}.energy",
                "energy",
                partial(joules, rail=rail),
                "rail",
                "counter",
                label=clean(rail),
            )
            for rail in labels
        )
        if channels:
            found.append(usable(captures, Sensor(name, channels, PERIOD_S, path)))
    return tuple(filter(None, found))


ODPM = Reading(
    "odpm",
    "energy counters of a Pixel's rails",
    paths=(f"{_DEVICE}/energy_value", f"{_DEVICE}/name"),
    sampled=(f"{_DEVICE}/energy_value",),
    sensors=_sensors,
)
