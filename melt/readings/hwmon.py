"""Hardware monitors: temperatures, and the rails that a board measures, by chip name and label.

Source: /sys/class/hwmon, Linux's Documentation/hwmon/sysfs-interface.rst (m°C, mV, mA, µW, µJ). `hwmonN`
moves between boots, so a sensor is called `hwmon.<chip>.<label>.<quantity>`; without a label the file's own
word stands for it (`temp1`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, folder, matching, name_of, sibling, usable
from melt.readings.text import line, scaled
from melt.readings.thermal import celsius
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from melt.records import Boundary, Provenance, Quantity

_HWMON = "/sys/class/hwmon/hwmon*"
_SHUNTS = frozenset({"in4", "in5", "in6", "in7"})


@dataclass(frozen=True)
class _Kind:
    """What one kind of file means.

    A rail's boundary is `rail` whatever its name: which of them is the total is for a profile to say.
    """

    file: str
    quantity: Quantity
    period_s: float
    parse: Callable[[bytes], float]
    boundary: Boundary | None = None
    provenance: Provenance | None = None

    @property
    def glob(self) -> str:
        return f"{_HWMON}/{self.file}*_input"

    @property
    def labels(self) -> str:
        return f"{_HWMON}/{self.file}*_label"


_TEMPERATURES = (_Kind("temp", "temperature", 0.5, celsius),)
_RAILS = (
    _Kind("power", "power", 0.1, partial(scaled, over=10**6, low=-1e4, high=1e4), "rail", "measured"),
    _Kind("energy", "energy", 0.1, partial(scaled, over=10**6, low=0, high=1e14), "rail", "counter"),
    _Kind("curr", "current", 0.5, partial(scaled, over=1000, low=-1e3, high=1e3)),
    _Kind("in", "voltage", 0.5, partial(scaled, over=1000, low=-1e3, high=1e3)),
)


def _text(captures: Captures, path: str, otherwise: str) -> str:
    try:
        return line(answer(captures, path))
    except ParseError:
        return otherwise


def _chips(captures: Captures) -> dict[str, str]:
    """Folder to chip name; the second chip of a name is `nvme.2`, and keeps that on all its sensors."""
    names = Names()
    return {
        folder(path): names.new(name_of(_text(captures, path, "unnamed")))
        for path in matching(captures, f"{_HWMON}/name")
    }


def _is_no_rail(chip: str, word: str, label: str) -> bool:
    """An input with nothing on it, or an INA3221's voltages over its shunts and the sum of them."""
    return label.upper() == "NC" or (chip.startswith("ina3221") and word in _SHUNTS)


def _sensors(kinds: tuple[_Kind, ...], captures: Captures) -> tuple[Sensor, ...]:
    chips, names, found = _chips(captures), Names(), []
    for kind in kinds:
        for path in matching(captures, kind.glob):
            word = path.rpartition("/")[2].removesuffix("_input")
            label = _text(captures, sibling(path, f"{word}_label"), word)
            chip = chips.get(folder(path), "unnamed")
            if _is_no_rail(chip, word, label):
                continue
            name = names.new(name_of("hwmon", chip, label, kind.quantity))
            channel = Channel(name, kind.quantity, kind.parse, kind.boundary, kind.provenance, label=label)
            found.append(usable(captures, Sensor(name, (channel,), kind.period_s, path)))
    return tuple(filter(None, found))


def _reading(name: str, about: str, kinds: tuple[_Kind, ...]) -> Reading:
    values = tuple(kind.glob for kind in kinds)
    return Reading(
        name,
        about,
        paths=(*values, *(kind.labels for kind in kinds), f"{_HWMON}/name"),
        sampled=values,
        sensors=partial(_sensors, kinds),
    )


TEMPERATURES = _reading("hwmon-temperature", "temperatures of hardware monitors", _TEMPERATURES)
RAILS = _reading("hwmon-power", "power, energy, current and voltage of the rails that a board measures", _RAILS)
