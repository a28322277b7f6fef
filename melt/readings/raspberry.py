"""What a Raspberry Pi's firmware tells: whether it slows the processor, and on a Pi 5 the rails of its power chip.

Source: `vcgencmd get_throttled` and `vcgencmd pmic_read_adc`, Raspberry Pi's documentation of vcgencmd. Pi 4 and older
have no current sensor, and their firmware does not know the second command.

The rails' sum is what the power chip gives out: its own losses, and all that hangs on the 5 V before it (USB, HATs),
are not in it. So its boundary is `module`, and never the wall.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, name_of, only
from melt.readings.text import clean
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

THROTTLED_PERIOD_S = 1.0
PMIC_PERIOD_S = 0.2
"""A process a sample: any faster, and measuring is a load of its own."""
_TIMEOUT_S = 2.0

_GET_THROTTLED = ("vcgencmd", "get_throttled")
_READ_ADC = ("vcgencmd", "pmic_read_adc")

BITS: Mapping[str, int] = {
    "under_voltage": 0,
    "frequency_capped": 1,
    "throttled": 2,
    "soft_temperature_limit": 3,
    "under_voltage_since_boot": 16,
    "frequency_capped_since_boot": 17,
    "throttled_since_boot": 18,
    "soft_temperature_limit_since_boot": 19,
}
"""What each bit says. Those since boot stay set, so only one that appears is news."""

_THROTTLED = re.compile(rb"throttled=0x([0-9a-fA-F]{1,8})")

# `VDD_CORE_A current(7)=1.2A`; a firmware without numbers, or with no letter behind the rail's name, says the same
_VALUE = re.compile(
    rb"^[ \t]*([A-Z0-9_]{1,40}?)(?:_[AV])?[ \t]+(current|volt)(?:\([0-9]{1,3}\))?[ \t]*=[ \t]*"
    rb"([0-9]{1,3}(?:\.[0-9]{1,12})?)[ \t]*[AV][ \t\r]*$",
    re.MULTILINE,
)
_HIGHEST = 60.0
"""A or V, far beyond what the board can carry."""


def bit(data: bytes, *, number: int) -> float:
    """1 where a bit of `throttled=0x50005` is set, else 0; raises ParseError."""
    found = _THROTTLED.fullmatch(data[:200].strip())
    if not found:
        raise ParseError(f"'{clean(data, 60)}' does not say which bits are set", data[:4096])
    return float(int(found[1], 16) >> number & 1)


def _throttled(captures: Captures) -> tuple[Sensor, ...]:
    channels = tuple(
        Channel(f"throttle.{name}", "throttle", partial(bit, number=number), label=name)
        for name, number in BITS.items()
    )
    sensor = Sensor("throttle", channels, THROTTLED_PERIOD_S, argv=_GET_THROTTLED, timeout_s=_TIMEOUT_S)
    return only(sensor, captures)


def _table(data: bytes) -> tuple[dict[bytes, float], dict[bytes, float]]:
    """Amperes by rail, volts by rail; what is beyond reason is left out."""
    amperes: dict[bytes, float] = {}
    volts: dict[bytes, float] = {}
    for rail, kind, text in _VALUE.findall(data[:16384]):
        value = float(text)
        if value <= _HIGHEST:
            (amperes if kind == b"current" else volts).setdefault(rail, value)
    return amperes, volts


def watts(data: bytes, *, rails: Iterable[bytes]) -> float:
    """The sum of voltage times current of `rails`.

    Raises:
        ParseError: one of them is missing: a sum without it would be another figure.
    """
    amperes, volts = _table(data)
    total = 0.0
    for rail in rails:
        if rail not in amperes or rail not in volts:
            raise ParseError(f"there is no current and voltage of {rail.decode()}", data[:4096])
        total += amperes[rail] * volts[rail]
    return total


def voltage(data: bytes, *, rail: bytes) -> float:
    """V of one rail; raises ParseError."""
    volts = _table(data)[1]
    if rail not in volts:
        raise ParseError(f"there is no voltage of {rail.decode()}", data[:4096])
    return volts[rail]


def _refused(data: bytes) -> str:
    if b"error=" not in data:
        return ""
    return f"the firmware refuses it ({clean(data, 80)}): only a Raspberry Pi 5's power chip measures its rails"


def _pmic(captures: Captures) -> tuple[Sensor, ...]:
    try:
        amperes, volts = _table(answer(captures, " ".join(_READ_ADC)))
    except ParseError:
        return ()
    names = Names()
    both = tuple(rail for rail in volts if rail in amperes)
    channels = []
    if both:
        channels.append(
            Channel("pmic.total.power", "power", partial(watts, rails=both), "module", "measured", label="total")
        )
        names.new("pmic.total")
    for rail in volts:
        label = rail.decode()
        name = names.new(name_of("pmic", label))
        if rail in amperes:
            parse = partial(watts, rails=(rail,))
            channels.append(Channel(f"{name}.power", "power", parse, "rail", "measured", label=label))
        else:
            channels.append(Channel(f"{name}.voltage", "voltage", partial(voltage, rail=rail), label=label))
    sensor = Sensor("pmic", tuple(channels), PMIC_PERIOD_S, argv=_READ_ADC, timeout_s=_TIMEOUT_S)
    return only(sensor, captures)


THROTTLED = Reading(
    "vcgencmd-throttled",
    "whether a Raspberry Pi slows down, and why: under-voltage or heat",
    argv=_GET_THROTTLED,
    sensors=_throttled,
)
PMIC = Reading("pmic", "rails of a Raspberry Pi 5's power chip", argv=_READ_ADC, sensors=_pmic, explain=_refused)
