"""The machine and its operating system: architecture, kernel, what slows it in silence, load and CPU time.

Source: Linux's Documentation/admin-guide (cgroup-v2.rst, cgroup-v1, mm/transhuge.rst), proc_stat(5),
proc_loadavg(5), os-release(5).
"""

from __future__ import annotations

import re
from functools import partial

from melt.errors import ParseError
from melt.readings import cpuinfo
from melt.readings.base import Captures, Reading, answer, fact, first_known, only, unknown
from melt.readings.text import clean, integer, line
from melt.records import Channel, Fact, Sensor

USER_HZ = 100
"""In what /proc/stat counts: 100 on every architecture that melt runs on, whatever the kernel's tick."""

_MACHINE = ("uname", "-m")
_KERNEL = "/proc/sys/kernel/osrelease"
_OS = ("/etc/os-release", "/usr/lib/os-release")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_CPUINFO = "/proc/cpuinfo"
_TITLES = ("/sys/class/dmi/id/sys_vendor", "/sys/class/dmi/id/product_name", "/proc/device-tree/model")
_XEN = "/sys/hypervisor/type"
_HUGE = "/sys/kernel/mm/transparent_hugepage/enabled"
_SMT = "/sys/devices/system/cpu/smt/active"
_QUOTA = "/sys/fs/cgroup/cpu.max"
_QUOTA_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"
_PERIOD_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_period_us"
_LOAD = "/proc/loadavg"
_STAT = "/proc/stat"

_HYPERVISORS = (
    ("qemu", "QEMU"),
    ("linux,dummy-virt", "QEMU"),
    ("kvm", "KVM"),
    ("vmware", "VMware"),
    ("virtualbox", "VirtualBox"),
    ("innotek", "VirtualBox"),
    ("xen", "Xen"),
    ("parallels", "Parallels"),
    ("bhyve", "bhyve"),
    ("microsoft corporation virtual machine", "Hyper-V"),
    ("amazon ec2", "Amazon EC2"),
    ("google compute engine", "Google Compute Engine"),
)


# -------------------------------------------------------------------------------------------------------
# facts


def _machine(captures: Captures) -> tuple[Fact, ...]:
    return (fact("machine", captures, " ".join(_MACHINE), line),)


def _system(captures: Captures) -> tuple[Fact, ...]:
    return (
        fact("kernel", captures, _KERNEL, line),
        first_known(fact("os", captures, path, pretty_name) for path in _OS),
        fact("boot_id", captures, _BOOT_ID, line),
        *_virtual(captures),
        fact("transparent_hugepage", captures, _HUGE, _chosen),
        fact("smt", captures, _SMT, lambda data: "on" if integer(data) else "off"),
        _quota(captures),
    )


def pretty_name(data: bytes) -> str:
    """The PRETTY_NAME of an os-release file.

    Raises:
        ParseError: it has none.
    """
    found = re.findall(r"^PRETTY_NAME=(.*)$", data.decode("utf-8", "replace"), re.MULTILINE)
    if not found:
        raise ParseError("there is no line 'PRETTY_NAME'", data)
    value = found[-1].strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return line(re.sub(r"\\(.)", r"\1", value).encode())


def _chosen(data: bytes) -> str:
    found = re.search(r"\[([a-z+_-]{1,20})\]", clean(data))
    if not found:
        raise ParseError(f"'{clean(data, 40)}' has no word in brackets", data)
    return found[1]


def _virtual(captures: Captures) -> tuple[Fact, Fact]:
    """Whether this is a virtual machine, and whose.

    An x86 processor says the first itself; elsewhere only a name that is known to be a hypervisor's does.
    """
    flag = fact("virtual_machine", captures, _CPUINFO, _hypervisor_flag)
    if flag.value == "no":  # a rented machine without a hypervisor has its landlord's name in the DMI all the same
        return flag, Fact("hypervisor", "none", source=_CPUINFO)
    xen = fact("hypervisor", captures, _XEN, line)
    titles = " ".join(_text(captures, path) for path in _TITLES).lower()
    name = next((name for word, name in _HYPERVISORS if re.search(rf"\b{word}\b", titles)), None)
    if name:
        hypervisor = Fact("hypervisor", name, source=" ".join(_TITLES))
    elif xen.value is not None:
        hypervisor = xen
    else:
        hypervisor = unknown("hypervisor", f"none is named by {' or '.join(_TITLES)}", " ".join(_TITLES))
    if flag.value is None and hypervisor.value is not None:
        flag = Fact("virtual_machine", "yes", source=hypervisor.source)
    return flag, hypervisor


def _hypervisor_flag(data: bytes) -> str:
    flags = cpuinfo.parse(data).general.get("flags", "")
    if not flags:
        raise ParseError("only an x86 processor has a flag for it", data)
    return "yes" if "hypervisor" in flags.split() else "no"


def _text(captures: Captures, source: str) -> str:
    try:
        return line(answer(captures, source))
    except ParseError:
        return ""


def _quota(captures: Captures) -> Fact:
    """How many CPUs' worth of time the container may use, `none` when it has no limit.

    It is read at the root of what is mounted, which is the container's own group inside a container. A limit
    of a group below it, such as a systemd slice, is not seen.
    """

    def version_1(quota: bytes) -> str | float:
        return _cores(str(integer(quota)), str(integer(answer(captures, _PERIOD_V1))))

    return first_known(
        (
            fact("cpu_quota", captures, _QUOTA, lambda data: _cores(*clean(data).split(" ", 1))),
            fact("cpu_quota", captures, _QUOTA_V1, version_1),
        )
    )


def _cores(quota: str, period: str = "100000") -> str | float:
    if quota in ("max", "-1"):
        return "none"
    time_us, of_us = integer(quota.encode()), integer(period.encode())
    if time_us <= 0 or of_us <= 0:
        raise ParseError(f"'{quota} {period}' is not a share of time", f"{quota} {period}")
    return time_us / of_us


# -----------------------------------------------------------------------------------------------------
# sensors


def _load(position: int, pattern: str, data: bytes) -> float:
    words = clean(data).split(" ")
    found = re.fullmatch(pattern, words[position]) if len(words) > position else None
    if not found:
        raise ParseError(f"'{clean(data, 40)}' is not a load average", data[:4096])
    return float(found[1])


def _seconds(first: int, last: int, data: bytes) -> float:
    """Columns `first` to `last` of the first line of /proc/stat, summed, in seconds since boot."""
    found = re.match(rb"cpu +((?:[0-9]{1,18} ?)+)", data[:1024])
    columns = found[1].split() if found else []
    if len(columns) <= last:
        raise ParseError("the first line is not the time of all CPUs", data[:4096])
    return sum(map(int, columns[first : last + 1])) / USER_HZ


_LOAD_SENSOR = Sensor(
    "load",
    (
        Channel("load.1min", "load", partial(_load, 0, r"([0-9]{1,6}\.[0-9]{1,3})")),
        Channel("load.running", "count", partial(_load, 3, r"([0-9]{1,7})/[0-9]{1,7}")),
    ),
    period_s=1.0,
    path=_LOAD,
)


def _busy(data: bytes) -> float:
    # user, nice, system (0-2), then irq and softirq (5, 6); guests are in user; 3 and 4 are idle and waiting
    # for storage
    return _seconds(0, 2, data) + _seconds(5, 6, data)


_TIME_SENSOR = Sensor(
    "cpu.time",
    (
        Channel("cpu.busy_s", "count", _busy),
        # what a hypervisor gave to others while this machine wanted to run: load from outside that nothing
        # else shows
        Channel("cpu.steal_s", "count", partial(_seconds, 7, 7)),
    ),
    period_s=0.5,
    path=_STAT,
)


MACHINE = Reading("machine", "the architecture", argv=_MACHINE, facts=_machine)
SYSTEM = Reading(
    "system",
    "kernel, operating system, virtual or not, and limits that slow a machine in silence",
    paths=(
        _KERNEL,
        *_OS,
        _BOOT_ID,
        _CPUINFO,
        *_TITLES,
        _XEN,
        _HUGE,
        _SMT,
        _QUOTA,
        _QUOTA_V1,
        _PERIOD_V1,
    ),
    facts=_system,
)
LOAD = Reading(
    "load",
    "load average and running tasks",
    paths=(_LOAD,),
    sampled=(_LOAD,),
    sensors=partial(only, _LOAD_SENSOR),
)
CPU_TIME = Reading(
    "cpu-time",
    "CPU time spent and stolen since boot, all CPUs together",
    paths=(_STAT,),
    sampled=(_STAT,),
    sensors=partial(only, _TIME_SENSOR),
)
