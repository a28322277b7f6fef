"""Rails behind the power monitors INA3221 and INA2xx: power, current and voltage, by the rail's name.

Source: Linux's Documentation/hwmon/ina3221.rst, ina238.rst and ina2xx.rst, and public listings of Jetson boards, on
which NVIDIA's kernels gave the INA3221 three homes:

    JetPack 3    /sys/bus/i2c/drivers/ina3221x/*/iio_device/    rail_name_N, in_powerN_input (mW), …
    JetPack 4    /sys/bus/i2c/drivers/ina3221x/*/iio:device*/   the same files
    JetPack 5    /sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/   inN_label, inN_input (mV), currN_input (mA), no power
                 and later, and any other board with Linux's own driver

There power is voltage times current, read one right after the other. A board may have several chips. `in4` to `in6` are
the voltages of shunts and `in7` their sum: no rails. A channel called `NC` is not connected, one not enabled is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, matching, name_of, part, sibling, usable
from melt.readings.text import line, scaled
from melt.records import Channel, Response, Sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PERIOD_S = 0.1
LONGEST_NAME = 50
"""Of a rail's sensor: its channels add a word, and the second of a name a number."""

_IIO = "/sys/bus/i2c/drivers/ina3221x/*/iio*"
_IIO_VALUES = tuple(f"{_IIO}/in_{what}*_input" for what in ("power", "current", "voltage"))
_RAILS = ("1", "2", "3")
_INA3221 = "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
_INA3221_VALUES = tuple(f"{_INA3221}/{kind}{rail}_input" for kind in ("in", "curr") for rail in _RAILS)
_INA2XX = tuple(f"/sys/bus/i2c/drivers/{driver}/*/hwmon/hwmon*" for driver in ("ina238", "ina2xx"))
_INA2XX_VALUES = tuple(f"{folder}/{file}_input" for folder in _INA2XX for file in ("power1", "curr1", "in1"))

# the INA3221's data sheet, features: gain error 0.25 %, offset of the shunt's voltage 80 µV, both at most
_GAIN_ERROR = 0.0025
_OFFSET_V = 80e-6

# The kernel's page says that `update_interval` holds the samples; its driver (6.12) leaves them out. Three channels at
# the longest conversions, 8.244 ms each for voltage and current, take no longer than this without them.
_LONGEST_ROUND_MS = 50

# the driver ina2xx leaves both conversions at 1.1 ms and sets the interval by how many pairs are averaged
_ONE_PAIR_MS = 2.5


@dataclass(frozen=True)
class _Rail:
    """Where the numbers of one rail are; a driver may lack some of the files."""

    name: str
    """What it is called, before it is made one of its kind."""
    label: str
    voltage: str
    """mV"""
    current: str
    """mA"""
    power: str | None = None
    power_per_w: int = 1000
    power_is_unsigned: bool = False
    """Whether the sign has to be the current's."""


def _sensor(captures: Captures, names: Names, rail: _Rail, response: Response | None) -> Sensor | None:
    name = names.new(rail.name[:LONGEST_NAME])
    files = [path for path in (rail.power, rail.voltage, rail.current) if path and _is_readable(captures, path)]
    if not files:
        return None
    volts = partial(_milli, index=files.index(rail.voltage)) if rail.voltage in files else None
    amperes = partial(_milli, index=files.index(rail.current)) if rail.current in files else None
    watts: Callable[[bytes], float] | None = None
    if rail.power in files:
        watts = partial(_watts, index=files.index(rail.power), over=rail.power_per_w)
        if rail.power_is_unsigned and amperes:
            watts = partial(_directed, watts=watts, amperes=amperes)
    elif volts and amperes:
        watts = partial(_product, volts=volts, amperes=amperes)
    channels = []
    if watts:
        channels.append(
            Channel(f"{name}.power", "power", watts, "rail", "measured", label=rail.label, response=response)
        )
    if amperes:
        channels.append(Channel(f"{name}.current", "current", amperes, label=rail.label))
    if volts:
        channels.append(Channel(f"{name}.voltage", "voltage", volts, label=rail.label))
    return usable(captures, Sensor(name, tuple(channels), PERIOD_S, files[0], also=tuple(files[1:])))


def _milli(data: bytes, *, index: int) -> float:
    """mV or mA to V or A."""
    return scaled(part(data, index), over=1000, low=-1e3, high=1e3)


def _watts(data: bytes, *, index: int, over: int) -> float:
    return scaled(part(data, index), over=over, low=-1e4, high=1e4)


def _directed(data: bytes, *, watts: Callable[[bytes], float], amperes: Callable[[bytes], float]) -> float:
    return -watts(data) if amperes(data) < 0 else watts(data)


def _product(data: bytes, *, volts: Callable[[bytes], float], amperes: Callable[[bytes], float]) -> float:
    return volts(data) * amperes(data)


def _is_readable(captures: Captures, path: str) -> bool:
    try:
        answer(captures, path)
    except ParseError:
        return False
    return True


def _text(captures: Captures, path: str) -> str:
    try:
        return line(answer(captures, path))
    except ParseError:
        return ""


def _setting(captures: Captures, path: str) -> float | None:
    """What a chip is set to; None where it does not say, or where 0 stands for that."""
    try:
        return scaled(answer(captures, path), low=1, high=1e6)
    except ParseError:
        return None


def _connected(label: str) -> bool:
    return label.upper() not in ("NC", "N/C")


# --------------------------------------------------------------------------------------------- by generation


def _ina3221(captures: Captures) -> tuple[Sensor, ...]:
    names = Names()
    found = [_sensor(captures, names, rail, None) for rail in _of_iio(captures)]
    found += [_sensor(captures, names, rail, response) for rail, response in _of_hwmon(captures)]
    return tuple(filter(None, found))


def _of_iio(captures: Captures) -> Iterator[_Rail]:
    seen = set()
    for path in matching(captures, f"{_IIO}/rail_name_*"):
        number = path.rpartition("_")[2]
        chip = path.split("/")[-3]
        label = _text(captures, path)
        if (chip, number) in seen or not label or not _connected(label):
            continue  # one kernel shows a chip's folder under both names
        seen.add((chip, number))
        power, current, voltage = (
            sibling(path, f"in_{what}{number}_input") for what in ("power", "current", "voltage")
        )
        yield _Rail(name_of("ina3221", label), label, voltage, current, power)


def _of_hwmon(captures: Captures) -> Iterator[tuple[_Rail, Response | None]]:
    for path in matching(captures, f"{_INA3221}/in*_input"):
        number = path.rpartition("/")[2].removeprefix("in").removesuffix("_input")
        if number not in _RAILS or _is_off(captures, path, number):
            continue
        # a board's own description of its hardware gives the labels; without them the chip's address has to do
        label = _text(captures, sibling(path, f"in{number}_label")) or f"{path.split('/')[-4]}.in{number}"
        rail = _Rail(name_of("ina3221", label), label, path, sibling(path, f"curr{number}_input"))
        yield rail, _response(captures, path, number)


def _no_rails(captures: Captures) -> frozenset[str]:
    """The files of channels that are not connected, and of a chip's folder under its second name."""
    seen, found = set(), set()
    for path in matching(captures, f"{_IIO}/rail_name_*"):
        number, chip = path.rpartition("_")[2], path.split("/")[-3]
        if (chip, number) in seen or not _connected(_text(captures, path)):
            found |= {sibling(path, f"in_{what}{number}_input") for what in ("power", "current", "voltage")}
        seen.add((chip, number))
    for number in _RAILS:
        for path in matching(captures, f"{_INA3221}/in{number}_*"):
            if _is_off(captures, path, number):
                found |= {sibling(path, f"{kind}{number}_input") for kind in ("in", "curr")}
    return frozenset(found)


def _is_off(captures: Captures, path: str, number: str) -> bool:
    label, enable = (_text(captures, sibling(path, f"in{number}_{word}")) for word in ("label", "enable"))
    return not _connected(label) or enable == "0"


def _response(captures: Captures, path: str, number: str) -> Response | None:
    """How the chip is set: all its conversions take `update_interval` (ms), and `samples` of these make one mean."""
    interval_ms = _setting(captures, sibling(path, "update_interval"))
    samples = _setting(captures, sibling(path, "samples"))
    shunt_uohm = _setting(captures, sibling(path, f"shunt{number}_resistor"))
    voltage_mv = _setting(captures, path)
    if not interval_ms and not samples and not shunt_uohm:
        return None
    if interval_ms and samples and interval_ms <= _LONGEST_ROUND_MS:
        interval_ms *= samples
    return Response(
        refresh_s=interval_ms / 1000 if interval_ms else None,
        averages=samples > 1 if samples else None,
        gain_error=_GAIN_ERROR,
        offset_error=_OFFSET_V / (shunt_uohm * 1e-6) * voltage_mv / 1000 if shunt_uohm and voltage_mv else 0.0,
    )


INA3221 = Reading(
    "ina3221",
    "rails behind INA3221 power monitors, as on Jetson boards",
    paths=(
        *_IIO_VALUES,
        f"{_IIO}/rail_name_*",
        *_INA3221_VALUES,
        *(
            f"{_INA3221}/{file}"
            for rail in _RAILS
            for file in (f"in{rail}_label", f"in{rail}_enable", f"shunt{rail}_resistor")
        ),
        f"{_INA3221}/samples",
        f"{_INA3221}/update_interval",
    ),
    sampled=(*_IIO_VALUES, *_INA3221_VALUES),
    sensors=_ina3221,
    passed_over=_no_rails,
)


# ------------------------------------------------------------------------------------------ INA238 and INA2xx


def _ina2xx(captures: Captures) -> tuple[Sensor, ...]:
    names, found = Names(), []
    for folder in _INA2XX:
        for path in matching(captures, f"{folder}/in1_input"):
            driver, address = path.split("/")[-5], path.split("/")[-4]
            told = (_text(captures, sibling(path, file)) for file in ("label", "power1_label", "in1_label"))
            label = next(filter(None, told), address)
            if not _connected(label):
                continue
            current, power = sibling(path, "curr1_input"), sibling(path, "power1_input")
            rail = _Rail(name_of(driver, label), label, path, current, power, 10**6, power_is_unsigned=True)
            found.append(_sensor(captures, names, rail, _how(captures, path, driver)))
    return tuple(filter(None, found))


def _how(captures: Captures, path: str, driver: str) -> Response | None:
    interval_ms = _setting(captures, sibling(path, "update_interval"))
    samples = _setting(captures, sibling(path, "samples"))
    if not interval_ms:
        return None
    averages = samples > 1 if samples else None
    if averages is None and driver == "ina2xx":
        averages = interval_ms > _ONE_PAIR_MS
    return Response(refresh_s=interval_ms / 1000, averages=averages)


INA238 = Reading(
    "ina238",
    "rails behind INA238 and INA2xx power monitors",
    paths=(
        *_INA2XX_VALUES,
        *(
            f"{folder}/{file}"
            for folder in _INA2XX
            for file in ("label", "power1_label", "in1_label", "samples", "update_interval")
        ),
    ),
    sampled=_INA2XX_VALUES,
    sensors=_ina2xx,
)
