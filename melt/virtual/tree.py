"""The part of /sys that every board has: processors with their clocks, temperatures, and what is done about heat.

The layouts are those of Linux's Documentation/admin-guide/pm/cpufreq.rst and driver-api/thermal/sysfs-api.rst. What a
person or melt's agent writes into `scaling_governor`, `scaling_min_freq` and `scaling_max_freq` is obeyed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.virtual.kinds import Cores, Kind
    from melt.virtual.leaves import Leaves
    from melt.virtual.physics import State

GOVERNORS = ("conservative", "ondemand", "performance", "powersave", "schedutil", "userspace")
_CPU = "/sys/devices/system/cpu"
_THERMAL = "/sys/class/thermal"
_FAN_FROM_C, _FAN_STEP_C, _FAN_STEPS = 50.0, 7.0, 4


@dataclass(frozen=True)
class View:
    """A board at this moment, as its files are to show it."""

    state: State
    busy_cores: float
    shown: Mapping[str, float]
    """What each sensor of power says: watts, or joules of a counter."""
    fresh: frozenset[str] = frozenset()
    """Which of them are new at this moment."""
    under_voltage: bool = False


class Policy:
    """One cluster of processors: what clock it may have, and what it has."""

    def __init__(self, leaves: Leaves, cores: Cores, cpus: Sequence[int], governor: str) -> None:
        self._leaves, self._clocks = leaves, cores.clocks_khz
        self._folder = f"{_CPU}/cpufreq/policy{cpus[0]}"
        self.governor, self._low, self._high = governor, cores.clocks_khz[0], cores.clocks_khz[-1]
        self.current_khz = self._low
        numbers = " ".join(map(str, cpus))
        files: dict[str, str | int] = {
            "affected_cpus": numbers,
            "related_cpus": numbers,
            "cpuinfo_min_freq": self._clocks[0],
            "cpuinfo_max_freq": self._clocks[-1],
            "scaling_available_frequencies": " ".join(map(str, self._clocks)),
            "scaling_available_governors": " ".join(GOVERNORS),
            "scaling_driver": "melt-virtual",
            "scaling_governor": governor,
            "scaling_min_freq": self._low,
            "scaling_max_freq": self._high,
            "scaling_cur_freq": self._low,
        }
        for name, text in files.items():
            leaves.put(f"{self._folder}/{name}", text)
        for cpu in cpus:
            leaves.put(f"{_CPU}/cpu{cpu}/cpu_capacity", round(1024 * self._clocks[-1] / 2_400_000))
            leaves.link(f"{_CPU}/cpu{cpu}/cpufreq", self._folder)

    @property
    def share(self) -> float:
        """Its clock as a share of its highest."""
        return self.current_khz / self._clocks[-1]

    @property
    def limits_khz(self) -> tuple[int, int]:
        """The lowest and the highest clock that somebody allows."""
        return self._low, self._high

    def update(self, busy: float, cap: float, *, locked: bool) -> None:
        """Obeys what was asked for and shows the clock that follows, under a `cap` that is a share of the highest."""
        self._obey()
        hottest = self._at_most(cap * self._clocks[-1])
        high = min(self._high, hottest)
        if locked or self.governor in ("performance", "userspace"):
            wanted = high
        elif self.governor == "powersave":
            wanted = self._low
        else:  # schedutil's rule: a quarter more than what is used
            wanted = self._at_least(1.25 * min(1.0, busy) * self._clocks[-1])
        self.current_khz = min(high, max(self._low, wanted))
        self._leaves.put(f"{self._folder}/scaling_cur_freq", self.current_khz)
        self._leaves.put(f"{self._folder}/scaling_max_freq", high)

    def _obey(self) -> None:
        asked = self._leaves.asked(f"{self._folder}/scaling_governor")
        if asked is not None:
            self.governor = asked if asked in GOVERNORS else self.governor
            self._leaves.put(f"{self._folder}/scaling_governor", self.governor)
        for which in ("min", "max"):
            text = self._leaves.asked(f"{self._folder}/scaling_{which}_freq")
            with contextlib.suppress(TypeError, ValueError):
                khz = min(self._clocks[-1], max(self._clocks[0], int(text)))  # type: ignore[arg-type]
                self._low, self._high = (khz, self._high) if which == "min" else (self._low, khz)
        self._leaves.put(f"{self._folder}/scaling_min_freq", self._low)

    def _at_most(self, khz: float) -> int:
        return max((clock for clock in self._clocks if clock <= khz), default=self._clocks[0])

    def _at_least(self, khz: float) -> int:
        return min((clock for clock in self._clocks if clock >= khz), default=self._clocks[-1])


class Processors:
    """Every cluster of a board, on as many processors as this computer has."""

    def __init__(self, leaves: Leaves, kind: Kind, cpus: Sequence[int]) -> None:
        self.policies: list[Policy] = []
        self.mode_cap = 1.0
        """What a power mode allows, as a share of the highest clock."""
        self.locked = False
        governor = "ondemand" if kind.name.startswith("pi") else "schedutil"
        begin = 0.0
        for cores in kind.cores:
            mine = cpus[round(begin * len(cpus)) : round((begin + cores.part) * len(cpus))]
            begin += cores.part
            if mine:
                self.policies.append(Policy(leaves, cores, mine, governor))
        for name in ("online", "possible", "present"):
            leaves.put(f"{_CPU}/{name}", _ranges(cpus))

    def update(self, view: View, cap: float) -> float:
        """The highest share of a clock that a cluster has now."""
        for policy in self.policies:
            policy.update(view.busy_cores, min(cap, self.mode_cap), locked=self.locked)
        return max(policy.share for policy in self.policies)


class Gpu:
    """A graphics processor that has nothing to do: its clock is the lowest one."""

    _PLACES: Mapping[str, tuple[str, int, int]] = {
        "phone": ("/sys/devices/platform/1f000000.mali", 150_000, 890_000),
        "jetson": ("/sys/class/devfreq/17000000.gpu", 306_000_000, 624_750_000),
    }

    def __init__(self, leaves: Leaves, kind: Kind) -> None:
        if kind.name not in self._PLACES:
            return
        folder, low, high = self._PLACES[kind.name]
        word = "scaling_" if kind.link == "adb" else ""
        for name, value in {"cur_freq": low, f"{word}min_freq": low, f"{word}max_freq": high}.items():
            leaves.put(f"{folder}/{name}", value)
        if kind.name == "jetson":
            leaves.put("/sys/devices/platform/17000000.gpu/load", 0)


class Zones:
    """Thermal zones, the cap on the clock as a cooling device, and a fan where there is one."""

    def __init__(self, leaves: Leaves, kind: Kind) -> None:
        self._leaves, self._kind = leaves, kind
        self._readable = {f"{_THERMAL}/thermal_zone{n}/temp": node for n, node in enumerate(kind.zones.values())}
        for number, name in enumerate(kind.zones):
            leaves.put(f"{_THERMAL}/thermal_zone{number}/type", name)
            if name in kind.unreadable:
                path = f"{_THERMAL}/thermal_zone{number}/temp"
                del self._readable[path]
                leaves.put(path, 0)
                leaves.break_(path, "hangs")
        leaves.put(f"{_THERMAL}/cooling_device0/type", "thermal-cpufreq-0")
        leaves.put(f"{_THERMAL}/cooling_device0/max_state", len(kind.throttle.trips))
        if kind.link == "ssh":
            leaves.put(f"{_THERMAL}/cooling_device1/type", "pwm-fan")
            leaves.put(f"{_THERMAL}/cooling_device1/max_state", _FAN_STEPS)

    def update(self, view: View) -> None:
        for path, node in self._readable.items():
            self._leaves.put(path, round(view.state.temperatures_c[node] * 10) * 100)
        self._leaves.put(f"{_THERMAL}/cooling_device0/cur_state", view.state.throttle)
        if self._kind.link == "ssh":
            steps = int((view.state.temperatures_c[0] - _FAN_FROM_C) / _FAN_STEP_C)
            self._leaves.put(f"{_THERMAL}/cooling_device1/cur_state", min(_FAN_STEPS, max(0, steps)))


def _ranges(cpus: Sequence[int]) -> str:
    """0-3,6 of 0 1 2 3 6."""
    groups: list[list[int]] = []
    for cpu in cpus:
        if groups and cpu == groups[-1][-1] + 1:
            groups[-1].append(cpu)
        else:
            groups.append([cpu])
    return ",".join(f"{group[0]}-{group[-1]}" if group[1:] else str(group[0]) for group in groups)
