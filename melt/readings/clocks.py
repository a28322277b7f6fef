"""Clocks: of each CPU policy (the clock and its cap), and of GPUs, memory and other devices with frequency scaling.

Source: /sys/devices/system/cpu/cpufreq (kHz) and /sys/class/devfreq (Hz), Linux's
Documentation/admin-guide/pm/cpufreq.rst and ABI/testing/sysfs-class-devfreq. A policy's number is that of its
first CPU, and a devfreq folder is called after the device: both stay the same from boot to boot.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Names, Reading, answer, folder, matching, name_of, unknown, usable
from melt.readings.text import integer, line, scaled
from melt.records import Channel, Fact, Sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOCK_PERIOD_S = 0.1
CAP_PERIOD_S = 0.5
_POLICY = "/sys/devices/system/cpu/cpufreq/policy*"
_DEVFREQ = "/sys/class/devfreq/*"
_HIGHEST_HZ = 1e11
_LOWEST_DEVICE_KHZ, _LOWEST_DEVICE_HZ = 50_000, 10_000_000

# a clock of 0 is a driver that does not know (some print <unknown>), or a device that is off: a gap either
# way
kilohertz = partial(scaled, times=1000, low=1, high=_HIGHEST_HZ)
"""kHz to Hz; raises ParseError."""
hertz = partial(scaled, low=1, high=_HIGHEST_HZ)
"""Hz; raises ParseError."""


def device_hertz(data: bytes) -> float:
    """A devfreq device's clock in Hz: the kernel's rules say Hz, and the drivers of Exynos and Tensor phones give kHz.

    Raises:
        ParseError: no number, or one that is too small for either, as of drivers that scale MB/s.
    """
    value = integer(data)
    if not _LOWEST_DEVICE_KHZ <= value <= _HIGHEST_HZ:
        raise ParseError(f"{value} is not the clock of a device", data[:4096])
    return float(value if value >= _LOWEST_DEVICE_HZ else value * 1000)


def _cpu_clocks(captures: Captures) -> tuple[Sensor, ...]:
    return tuple(
        sensor
        for file, word, period_s in (
            ("scaling_cur_freq", "clock", CLOCK_PERIOD_S),
            ("scaling_max_freq", "cap", CAP_PERIOD_S),
        )
        for path in matching(captures, f"{_POLICY}/{file}")
        if (sensor := _clock(captures, path, name_of("cpu", folder(path), word), kilohertz, period_s))
    )


def _device_clocks(captures: Captures) -> tuple[Sensor, ...]:
    names = Names()
    found = [
        _clock(captures, path, names.new(name_of("devfreq", folder(path), word)), device_hertz, period_s)
        for file, word, period_s in (("cur_freq", "clock", CLOCK_PERIOD_S), ("max_freq", "cap", CAP_PERIOD_S))
        for path in matching(captures, f"{_DEVFREQ}/{file}")
    ]
    return tuple(filter(None, found))


def _clock(captures: Captures, path: str, name: str, parse: Callable[[bytes], float], period_s: float) -> Sensor | None:
    return usable(captures, Sensor(name, (Channel(name, "clock", parse, label=folder(path)),), period_s, path))


def _governors(captures: Captures, glob: str) -> Iterator[tuple[str, str]]:
    for path in matching(captures, glob):
        try:
            yield folder(path), line(answer(captures, path))
        except ParseError:
            yield folder(path), "unknown"


def _governor(name: str, source: str, captures: Captures) -> tuple[Fact, ...]:
    governors = dict(_governors(captures, source))
    if set(governors.values()) <= {"unknown"}:
        return (unknown(name, f"no readable file matches {source}", source),)
    if len(set(governors.values())) == 1:
        value = next(iter(governors.values()))
    else:
        value = " ".join(f"{policy}={governor}" for policy, governor in governors.items())
    return (Fact(name, value, source=source),)


CPU_CLOCKS = Reading(
    "cpu-clock",
    "clock, cap and governor of each CPU policy",
    paths=(f"{_POLICY}/scaling_cur_freq", f"{_POLICY}/scaling_max_freq", f"{_POLICY}/scaling_governor"),
    sampled=(f"{_POLICY}/scaling_cur_freq", f"{_POLICY}/scaling_max_freq"),
    facts=partial(_governor, "governor", f"{_POLICY}/scaling_governor"),
    sensors=_cpu_clocks,
)
DEVICE_CLOCKS = Reading(
    "devfreq",
    "clocks, caps and governors of GPUs, memory and other devices",
    paths=(f"{_DEVFREQ}/cur_freq", f"{_DEVFREQ}/max_freq", f"{_DEVFREQ}/governor"),
    sampled=(f"{_DEVFREQ}/cur_freq", f"{_DEVFREQ}/max_freq"),
    facts=partial(_governor, "device_governors", f"{_DEVFREQ}/governor"),
    sensors=_device_clocks,
    asked_always=False,
)
