"""What an Android phone's thermal service knows: its throttling status, temperatures and cooling devices.

Source: `dumpsys thermalservice`, as AOSP's ThermalManagerService prints it; the types of temperatures and of cooling
devices are those of android.hardware.thermal (HIDL 2.0 and AIDL). Only the blocks "from HAL" are read: the cached ones
hold what an event brought last, which may be 30 °C ago.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, name_of, only
from melt.readings.text import clean
from melt.readings.thermal import COLDEST_C, HOTTEST_C
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from melt.records import Quantity

PERIOD_S = 2.0
TIMEOUT_S = 1.5
_ARGV = ("dumpsys", "thermalservice")
_HIGHEST_STATUS = 6
_MOST_STEPS = 1_000_000
_LONGEST = 1 << 18
_MOST = 256

_Key = tuple[str, str]
"""What an entry is found by again in the next dump: its type and its name, for their order is not kept."""

_NOT_TEMPERATURES = frozenset({"6", "7", "8"})
"""The battery's voltage in mV, current in mA and charge in percent, or the limits of them."""
_TEMPERATURES = frozenset({"0", "1", "2", "3", "4", "5", *map(str, range(9, 20))})
_UNKNOWN_BUT_A_TEMPERATURE = re.compile(r"therm|temp|skin|^virtual-")
_A_DIFFERENCE = "minus"
_SLOWS = frozenset({"2", "3", "5", "7"})
"""The cooling devices whose state slows a program: CPU, GPU, NPU, TPU. A charger that is held back does not."""

# one maker counted the types of temperatures from 1 instead of from 0, and says in the name what each is
_NAMED_TYPE = re.compile(r"TYPE_([A-Z_]{1,32})")
_TEMPERATURE_OF = {"BCL_VOLTAGE": "6", "BCL_CURRENT": "7", "BCL_PERCENTAGE": "8", "UNKNOWN": "-1"}

_FIELD = re.compile(r"m(Value|Type|Name|Status) ?= ?(.*?)(?=, ?m(?:Value|Type|Name|Status) ?=|$)")
_STATUS = re.compile(r"^Thermal Status: *([0-9]{1,3})[ \t\r]*$", re.MULTILINE)
_RAW_ZONE = re.compile(r"[ \t]*([A-Za-z][\w.+-]{0,63}) ?[:=] ?(-?(?:[0-9]{4,6}|[0-9]{1,3}\.[0-9]{1,6}))[ \t\r]*")


@dataclass(frozen=True)
class _Dump:
    """What one dump says, with each value as the word that stood there."""

    status: str | None = None
    problem: str = ""
    """Why the status says nothing; empty where it does."""
    temperatures: Mapping[_Key, str] = field(default_factory=dict)
    cooling: Mapping[_Key, str] = field(default_factory=dict)


@lru_cache(maxsize=4)  # every channel of one sample asks for the same dump
def _dump(data: bytes) -> _Dump:
    text = data[:_LONGEST].decode("utf-8", "replace")
    status = _STATUS.search(text)
    ready = "HAL Ready: false" not in text
    problem = ""
    if not ready:
        problem = "the phone's thermal HAL is not ready, so its status says nothing"
    elif "IsStatusOverride: true" in text:
        problem = "somebody has overridden the phone's thermal status: 'cmd thermalservice reset' undoes it"
    temperatures = _block(text, "Current temperatures from HAL:", "Temperature{")
    if not ready and not temperatures:
        temperatures = _raw_zones(text)
    return _Dump(
        status=status[1] if status else None,
        problem=problem,
        temperatures=temperatures,
        cooling=_block(text, "Current cooling devices from HAL:", "CoolingDevice{"),
    )


def _block(text: str, header: str, opening: str) -> dict[_Key, str]:
    """The entries in the lines after `header`, up to the first line that is none."""
    found: dict[_Key, str] = {}
    for line in text.partition(header)[2].splitlines()[1:]:
        entry = line.strip()
        if not (entry.startswith(opening) and entry.endswith("}")) or len(found) == _MOST:
            break
        fields = dict(_FIELD.findall(entry[len(opening) : -1][:300]))
        if {"Value", "Type", "Name"} <= fields.keys():
            found[fields["Type"].strip(), fields["Name"].strip()] = fields["Value"].strip()
    return found


def _raw_zones(text: str) -> dict[_Key, str]:
    """Lines `zone: 41000` or `zone: 41.0`, which some phones print where their HAL is not ready."""
    lines = text.partition("HAL Ready: false")[2].splitlines()[1:]
    zones = [found for line in lines if (found := _RAW_ZONE.fullmatch(line))]
    return {("zone", found[1]): found[2] for found in zones[:_MOST]}


# ------------------------------------------------------------------------------------------------------ values


def _status(data: bytes) -> float:
    dump = _dump(data)
    if dump.problem:
        raise ParseError(dump.problem, data[:4096])
    if dump.status is None or int(dump.status) > _HIGHEST_STATUS:
        raise ParseError("there is no line 'Thermal Status' with a status from 0 to 6", data[:4096])
    return float(dump.status)


def _temperature(key: _Key, data: bytes) -> float:
    value = _number(_dump(data).temperatures, key, data)
    if key[0] == "zone" and abs(value) >= HOTTEST_C:
        value /= 1000
    # exactly 0 is a sensor that is not there (a second battery, a port with nothing in it); -99.9 is another
    if not COLDEST_C <= value <= HOTTEST_C or value == 0:
        raise ParseError(f"{value:g} °C of {key[1]} is a sensor with nothing to say", data[:4096])
    return value


def _steps(key: _Key, data: bytes) -> float:
    value = _number(_dump(data).cooling, key, data)
    if not 0 <= value <= _MOST_STEPS:
        raise ParseError(f"{value:g} of {key[1]} is not a cooling state", data[:4096])
    return value


def _number(entries: Mapping[_Key, str], key: _Key, data: bytes) -> float:
    word = entries.get(key)
    if word is None:
        raise ParseError(f"there is no entry '{key[1]}' of the type {key[0]}", data[:4096])
    if not re.fullmatch(r"-?[0-9]{1,7}(\.[0-9]{1,12})?([eE]-?[0-9]{1,2})?", word):
        raise ParseError(f"'{clean(word.encode(), 40)}' of {key[1]} is not a number", data[:4096])
    return float(word)


# ------------------------------------------------------------------------------------------------- the sensor


def _is_temperature(key: _Key) -> bool:
    kind, name = key
    if named := _NAMED_TYPE.fullmatch(name):
        kind = _TEMPERATURE_OF.get(named[1], "0")
    if kind in _NOT_TEMPERATURES:
        return False
    if kind in _TEMPERATURES or kind == "zone":
        return True
    # of an unknown type the unit is unknown too, and some are differences of two temperatures
    word = name.lower()
    return bool(_UNKNOWN_BUT_A_TEMPERATURE.search(word)) and _A_DIFFERENCE not in word


def _cooling_quantity(key: _Key) -> Quantity:
    return "cooling" if key[0] in _SLOWS else "count"


def _channels(dump: _Dump) -> Iterator[Channel]:
    names = Names()
    yield Channel(names.new("thermal.status"), "throttle", _status, label="Thermal Status")
    # by name, for the phone prints them in another order each time
    for key in sorted(filter(_is_temperature, dump.temperatures), key=lambda key: (key[1], key[0])):
        name = names.new(name_of("thermal", key[1]))
        yield Channel(name, "temperature", partial(_temperature, key), label=key[1])
    for key in sorted(dump.cooling, key=lambda key: (key[1], key[0])):
        name = names.new(name_of("thermal", "cooling", key[1]))
        yield Channel(name, _cooling_quantity(key), partial(_steps, key), label=key[1])


def _sensors(captures: Captures) -> tuple[Sensor, ...]:
    try:
        dump = _dump(answer(captures, " ".join(_ARGV)))
    except ParseError:
        return ()
    channels = tuple(_channels(dump))
    return only(Sensor("thermalservice", channels, PERIOD_S, argv=_ARGV, timeout_s=TIMEOUT_S), captures)


def _explain(data: bytes) -> str:
    return _dump(data).problem


THERMALSERVICE = Reading(
    "thermalservice",
    "Android's thermal status, temperatures and cooling devices",
    argv=_ARGV,
    sensors=_sensors,
    explain=_explain,
)
