"""Graphics processors that have files of their own: Adreno (kgsl), Mali, Samsung's, and a Jetson's load.

Source: Qualcomm's kgsl driver (/sys/class/kgsl/kgsl-3d0), the Mali driver of Pixel phones (kHz), Samsung's
/sys/kernel/gpu, NVIDIA's nvgpu. The clocks of most others, a Jetson's among them, are in the reading `devfreq`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Reading, fact, first_known, matching, usable
from melt.readings.clocks import CAP_PERIOD_S, CLOCK_PERIOD_S, hertz
from melt.readings.text import clean, integer, line, scaled
from melt.readings.thermal import celsius, steps
from melt.records import Channel, Fact, Sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from melt.records import Quantity

LOAD_PERIOD_S = 0.5
_KGSL = "/sys/class/kgsl/kgsl-3d0"
_MALI = "/sys/devices/platform/*.mali"
_SAMSUNG = "/sys/kernel/gpu"
_TEGRA_LOADS = (
    "/sys/devices/platform/gpu.0/load",
    "/sys/devices/gpu.0/load",
    "/sys/devices/platform/17000000.*/load",
)
"""The first two are links to the device, whose address differs from chip to chip."""
_MODELS = (f"{_KGSL}/gpu_model", f"{_MALI}/gpuinfo", "/sys/class/misc/mali0/device/gpuinfo", f"{_SAMSUNG}/gpu_model")

_LOWEST_HZ, _HIGHEST_HZ = 1e7, 1e10
_HIGHEST_AS_KHZ, _HIGHEST_AS_MHZ = 9_999_999, 9_999

thousandths = partial(scaled, over=1000, low=0, high=1)
"""Per mille to a share; raises ParseError."""


def percent(data: bytes) -> float:
    """`35 %`, `35%` or `35` to a share. Raises ParseError."""
    digits = data[:64].strip().removesuffix(b"%")
    return scaled(digits, over=100, low=0, high=1)


def any_hertz(data: bytes) -> float:
    """A GPU's clock in Hz, given in Hz, kHz or MHz: drivers differ, and no GPU has a clock that fits two of them.

    Raises:
        ParseError: no number, or none that is a clock in any of them.
    """
    value = integer(data)
    times = 10**6 if value <= _HIGHEST_AS_MHZ else 1000 if value <= _HIGHEST_AS_KHZ else 1
    if not _LOWEST_HZ <= value * times <= _HIGHEST_HZ:
        raise ParseError(f"'{clean(data, 40)}' is not the clock of a GPU", data[:4096])
    return float(value * times)


_Row = tuple[str, str, "Quantity", "Callable[[bytes], float]", float]
"""A file, the channel's last word, what it is, how it is read and how often."""


def _found(captures: Captures, prefix: str, rows: Iterable[_Row]) -> tuple[Sensor, ...]:
    """A sensor for each row whose file answered; of two rows of one word, the first that did."""
    found: dict[str, Sensor] = {}
    for glob, word, quantity, parse, period_s in rows:
        name = f"{prefix}.{word}"
        for path in matching(captures, glob):
            sensor = usable(captures, Sensor(name, (Channel(name, quantity, parse),), period_s, path))
            if sensor:
                found.setdefault(name, sensor)
    return tuple(found.values())


_KGSL_ROWS: tuple[_Row, ...] = (
    (f"{_KGSL}/gpuclk", "clock", "clock", hertz, CLOCK_PERIOD_S),
    (f"{_KGSL}/devfreq/cur_freq", "clock", "clock", hertz, CLOCK_PERIOD_S),
    (f"{_KGSL}/max_gpuclk", "cap", "clock", hertz, CAP_PERIOD_S),
    (f"{_KGSL}/devfreq/max_freq", "cap", "clock", hertz, CAP_PERIOD_S),
    # the level that heat holds it to: 0 is the fastest
    (f"{_KGSL}/thermal_pwrlevel", "thermal_level", "cooling", steps, CAP_PERIOD_S),
    (f"{_KGSL}/gpu_busy_percentage", "busy", "load", percent, LOAD_PERIOD_S),
    (f"{_KGSL}/temp", "temperature", "temperature", celsius, LOAD_PERIOD_S),
)
_MALI_ROWS: tuple[_Row, ...] = (
    (f"{_MALI}/cur_freq", "clock", "clock", any_hertz, CLOCK_PERIOD_S),
    (f"{_SAMSUNG}/gpu_clock", "clock", "clock", any_hertz, CLOCK_PERIOD_S),
    (f"{_MALI}/scaling_max_freq", "cap", "clock", any_hertz, CAP_PERIOD_S),
    (f"{_SAMSUNG}/gpu_max_clock", "cap", "clock", any_hertz, CAP_PERIOD_S),
    # the cap that heat sets, beside the one that people set
    (f"{_MALI}/tmu_max_freq", "thermal.cap", "clock", any_hertz, CAP_PERIOD_S),
    (f"{_MALI}/utilization", "busy", "load", percent, LOAD_PERIOD_S),
    (f"{_SAMSUNG}/gpu_busy", "busy", "load", percent, LOAD_PERIOD_S),
)
_TEGRA_ROWS: tuple[_Row, ...] = tuple((path, "busy", "load", thousandths, LOAD_PERIOD_S) for path in _TEGRA_LOADS)


def _model(data: bytes) -> str:
    # Mali: `Mali-G710 7 cores r0p0 0xA8670000`: what follows the revision is a register
    return re.sub(r" 0x[0-9A-Fa-f]{1,16}$", "", line(data))


def _facts(captures: Captures) -> tuple[Fact, ...]:
    paths = [path for glob in _MODELS for path in matching(captures, glob)] or [_MODELS[0]]
    return (first_known(fact("gpu_model", captures, path, _model) for path in paths),)


def _paths(rows: Iterable[_Row]) -> tuple[str, ...]:
    return tuple(row[0] for row in rows)


MODEL = Reading("gpu", "the graphics processor's name", paths=_MODELS, facts=_facts, asked_always=False)
KGSL = Reading(
    "kgsl",
    "clock, caps and load of an Adreno graphics processor",
    paths=_paths(_KGSL_ROWS),
    sampled=_paths(_KGSL_ROWS),
    sensors=lambda captures: _found(captures, "kgsl", _KGSL_ROWS),
)
MALI = Reading(
    "mali",
    "clock, caps and load of a phone's Mali or Xclipse graphics processor",
    paths=_paths(_MALI_ROWS),
    sampled=_paths(_MALI_ROWS),
    sensors=lambda captures: _found(captures, "mali", _MALI_ROWS),
)
TEGRA_GPU = Reading(
    "tegra-gpu",
    "load of a Jetson's graphics processor",
    paths=_TEGRA_LOADS,
    sampled=_TEGRA_LOADS,
    sensors=lambda captures: _found(captures, "tegra-gpu", _TEGRA_ROWS),
)
