"""Memory: how much there is, how much is free, and whether the machine swaps.

Source: /proc/meminfo (kB of 1024 bytes) and /proc/vmstat.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from melt.readings.base import Captures, Reading, fact, only
from melt.readings.text import counted
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from melt.records import Fact

_MEMINFO = "/proc/meminfo"
_VMSTAT = "/proc/vmstat"

_kibibytes = partial(counted, unit="kB", times=1024)

_MEMORY = Sensor(
    "memory",
    (
        # the kernel's own estimate of what a new program can have; absent before Linux 3.14
        Channel("memory.available", "memory", partial(_kibibytes, key="MemAvailable")),
        Channel("memory.swap_free", "memory", partial(_kibibytes, key="SwapFree")),
    ),
    period_s=0.5,
    path=_MEMINFO,
)
_PAGING = Sensor(
    "vm",
    tuple(Channel(f"vm.{key}", "count", partial(counted, key=key)) for key in ("pgmajfault", "pswpin", "pswpout")),
    period_s=1.0,
    path=_VMSTAT,
)


def _bytes(key: str, data: bytes) -> int:
    return int(_kibibytes(data, key=key))


def _facts(captures: Captures) -> tuple[Fact, ...]:
    return (
        fact("memory_total_bytes", captures, _MEMINFO, partial(_bytes, "MemTotal")),
        fact("swap_total_bytes", captures, _MEMINFO, partial(_bytes, "SwapTotal")),
    )


MEMORY = Reading(
    "memory",
    "memory and swap: in all, and free",
    paths=(_MEMINFO,),
    sampled=(_MEMINFO,),
    facts=_facts,
    sensors=partial(only, _MEMORY),
)
PAGING = Reading(
    "paging",
    "pages read back from storage and swapped, since boot",
    paths=(_VMSTAT,),
    sampled=(_VMSTAT,),
    sensors=partial(only, _PAGING),
)
