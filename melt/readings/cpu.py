"""What the processor is: its name, its features, how many CPUs, and which of them are alike."""

from __future__ import annotations

import re

from melt.errors import ParseError
from melt.readings import cpuinfo
from melt.readings.base import Captures, Reading, answer, fact, first_known, matching, sibling, unknown
from melt.readings.clocks import kilohertz
from melt.readings.text import as_ranges, cpu_list, integer, line
from melt.records import Fact

_CPUINFO = "/proc/cpuinfo"
_BOARDS = ("/proc/device-tree/model", "/sys/firmware/devicetree/base/model")
_ONLINE = "/sys/devices/system/cpu/online"
_CAPACITY = "/sys/devices/system/cpu/cpu*/cpu_capacity"
_POLICY = "/sys/devices/system/cpu/cpufreq/policy*"


def _facts(captures: Captures) -> tuple[Fact, ...]:
    return (
        _soc(captures),
        fact("cpu_features", captures, _CPUINFO, _features),
        fact("cpus_online", captures, _ONLINE, lambda data: len(cpu_list(data))),
        _core_clusters(captures),
    )


def _soc(captures: Captures) -> Fact:
    """The board in a device tree's words (Arm), else the processor in cpuinfo's (x86), else its cores."""
    return first_known(
        (
            *(fact("soc", captures, path, line) for path in _BOARDS),
            fact("soc", captures, _CPUINFO, _named),
            fact("soc", captures, _CPUINFO, lambda data: cpuinfo.parse(data).cores()),
        )
    )


def _named(data: bytes) -> str:
    # 32-bit Arm kernels print a 'model name' of their own, so the board's lines come first
    return line(cpuinfo.parse(data).first("Model", "Hardware", "model name").encode())


def _features(data: bytes) -> str:
    """Sorted, so that two kernels which list the same features in another order compare equal."""
    words = cpuinfo.parse(data).first("flags", "Features").split()
    return " ".join(sorted({word for word in words if re.fullmatch(r"[a-z0-9_.]{1,40}", word)}))


def _core_clusters(captures: Captures) -> Fact:
    """Groups of CPUs that are alike in highest clock, capacity and core, by first CPU.

    Such as `0-3:1800000000 4-7:2400000000`: the CPUs, then `:` and their highest clock in Hz where it is known.
    """
    clocks = _highest_clocks(captures)
    capacities = _capacities(captures)
    cores = _cores(captures)
    cpus = sorted({*clocks, *capacities, *cores})
    if not cpus:
        reason = f"neither {_POLICY}, nor {_CAPACITY}, nor the parts in {_CPUINFO} tell one CPU from another"
        return unknown("core_clusters", reason, _POLICY)
    clusters: dict[tuple[float | None, int | None, str | None], list[int]] = {}
    for cpu in cpus:
        # cpuinfo has only the CPUs that are online: a core's name counts where every CPU has one
        core = cores.get(cpu) if len(cores) == len(cpus) else None
        clusters.setdefault((clocks.get(cpu), capacities.get(cpu), core), []).append(cpu)
    text = " ".join(
        as_ranges(tuple(members)) + (f":{clock:.0f}" if clock else "") for (clock, _, _), members in clusters.items()
    )
    return Fact("core_clusters", text, source=_POLICY if clocks else _CAPACITY if capacities else _CPUINFO)


def _highest_clocks(captures: Captures) -> dict[int, float]:
    found = {}
    for path in matching(captures, f"{_POLICY}/cpuinfo_max_freq"):
        try:
            clock = kilohertz(answer(captures, path))
            cpus = cpu_list(answer(captures, sibling(path, "related_cpus")))
        except ParseError:
            continue
        found.update(dict.fromkeys(cpus, clock))
    return found


def _capacities(captures: Captures) -> dict[int, int]:
    found = {}
    for path in matching(captures, _CAPACITY):
        number = re.search(r"/cpu([0-9]{1,4})/", path)
        try:
            if number:
                found[int(number[1])] = integer(answer(captures, path))
        except ParseError:
            continue
    return found


def _cores(captures: Captures) -> dict[int, str]:
    try:
        table = cpuinfo.parse(answer(captures, _CPUINFO))
    except ParseError:
        return {}
    return {cpu: core for cpu in table.cpus if (core := table.core(cpu))}


CPU = Reading(
    "cpu",
    "the processor: its name, features, CPUs and clusters",
    paths=(_CPUINFO, *_BOARDS, _ONLINE, _CAPACITY, f"{_POLICY}/related_cpus", f"{_POLICY}/cpuinfo_max_freq"),
    facts=_facts,
)
