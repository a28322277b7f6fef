"""Energy counters of x86 processors: RAPL through powercap.

Source: /sys/class/powercap/intel-rapl:*, Linux's Documentation/power/powercap/powercap.rst; AMD's processors
use the same names. The counter is in µJ and falls back to 0 at `max_energy_range_uj`; since 2020 kernels let
only root read it.

Where each domain's figure ends:
    package-N       `soc`: cores, caches, integrated GPU and uncore of one socket; the DRAM is seldom in it
    core, uncore    `rail`: parts of a package, never to be added to it
    dram            `rail`: beside the package, not in it
    psys            `module`: more than the package; what more is the board maker's choice, so not `board_input`
The memory-mapped twin (intel-rapl-mmio) counts the same package once more and is not read.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, folder, matching, name_of, sibling, usable
from melt.readings.text import line, scaled
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from melt.records import Boundary

PERIOD_S = 0.1
_CLASS = "/sys/class/powercap"
_DOMAIN = f"{_CLASS}/intel-rapl:*"

joules = partial(scaled, over=10**6, low=0, high=2**63)
"""µJ to J; raises ParseError."""


def _name(captures: Captures, domain: str) -> str:
    try:
        return line(answer(captures, f"{_CLASS}/{domain}/name"))
    except ParseError:
        return "unnamed"


def _full_name(captures: Captures, domain: str) -> str:
    # intel-rapl:0:1 is a part of intel-rapl:0; every package has a part called core
    whole, colon, _ = domain.rpartition(":")
    if colon and whole.count(":"):
        return name_of("rapl", _name(captures, whole), _name(captures, domain))
    return name_of("rapl", _name(captures, domain))


def _boundary(name: str) -> Boundary:
    if re.fullmatch(r"rapl\.package-[0-9]+(-die-[0-9]+)?", name):
        return "soc"
    return "module" if name == "rapl.psys" else "rail"


def _wraps_at(captures: Captures, path: str) -> float | None:
    try:
        return joules(answer(captures, sibling(path, "max_energy_range_uj"))) or None
    except ParseError:
        return None


def _rapl(captures: Captures) -> tuple[Sensor, ...]:
    names = Names()
    found = []
    for path in matching(captures, f"{_DOMAIN}/energy_uj"):
        full = _full_name(captures, folder(path))
        name = names.new(full)
        channel = Channel(name, "energy", joules, _boundary(full), "counter", _wraps_at(captures, path))
        found.append(usable(captures, Sensor(name, (channel,), PERIOD_S, path)))
    return tuple(filter(None, found))


RAPL = Reading(
    "rapl",
    "energy counters of an x86 processor",
    paths=(f"{_DOMAIN}/energy_uj", f"{_DOMAIN}/name", f"{_DOMAIN}/max_energy_range_uj"),
    sampled=(f"{_DOMAIN}/energy_uj",),
    sensors=_rapl,
)
