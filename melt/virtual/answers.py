"""What a board's own programs print: Android's services and properties, a Jetson's modes, a Pi's firmware."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.virtual.kinds import Kind
    from melt.virtual.leaves import Leaves
    from melt.virtual.tree import Processors, View

MODES = {0: ("15W", 0.7), 1: ("25W", 0.9), 2: ("MAXN_SUPER", 1.0)}
"""A Jetson's power modes: the name, and the share of the highest clock that each allows."""
_MODE = 1
_GPU_LOW_HZ, _GPU_HZ, _EMC_HZ = 306_000_000, 624_750_000, 2_133_000_000
_PROPERTIES = {
    "ro.build.fingerprint": "melt/virtual/virtual:15/VIRTUAL/1:userdebug/test-keys",
    "ro.build.version.release": "15",
    "ro.build.version.sdk": "35",
    "ro.product.manufacturer": "melt",
    "ro.soc.manufacturer": "melt",
    "ro.soc.model": "virtual",
    "ro.build.type": "userdebug",
}
_SEVERITY = (0, 2, 3, 4)
"""Android's thermal status for each state of throttling."""


class Android:
    """`dumpsys battery`, `dumpsys thermalservice` and `getprop`."""

    def __init__(self, answers: Leaves, kind: Kind) -> None:
        self._answers, self._kind = answers, kind
        properties = {**_PROPERTIES, "ro.product.model": kind.title}
        answers.put("getprop", "".join(f"[{key}]: [{value}]\n" for key, value in sorted(properties.items())))
        answers.put("settings.system.screen_off_timeout", "30000\n")
        answers.put("svc.power.stayon", "false\n")

    def update(self, view: View) -> None:
        state = view.state
        yes_or_no = {False: "false", True: "true"}
        capacity = self._kind.battery.capacity_coulomb if self._kind.battery else 0.0
        self._answers.put(
            "dumpsys.battery",
            "Current Battery Service state:\n"
            "  AC powered: false\n"
            f"  USB powered: {yes_or_no[state.charger]}\n"
            "  Wireless powered: false\n"
            "  Max charging current: 0\n"
            "  Max charging voltage: 0\n"
            f"  Charge counter: {round(state.level * capacity / 3.6 * 1000)}\n"
            f"  status: {2 if state.charger else 3}\n"
            "  health: 2\n"
            "  present: true\n"
            f"  level: {round(state.level * 100)}\n"
            "  scale: 100\n"
            f"  voltage: {round(state.voltage_v * 1000)}\n"
            f"  temperature: {round(state.temperatures_c[-1] * 10)}\n"
            "  technology: Li-ion\n",
        )
        status = _SEVERITY[min(state.throttle, len(_SEVERITY) - 1)]
        warm = "".join(
            f"\tTemperature{{mValue={state.temperatures_c[node]:.3f}, mType={kind}, mName={name}, mStatus={status}}}\n"
            for name, node, kind in (("BIG", 0, 0), ("VIRTUAL-SKIN", -1, 3), ("battery", -1, 2))
        )
        self._answers.put(
            "dumpsys.thermalservice",
            f"IsStatusOverride: false\nThermal Status: {status}\nCached temperatures:\n{warm}"
            "HAL Ready: true\nHAL connection:\n\tThermalHAL AIDL 1  connected: yes\n"
            f"Current temperatures from HAL:\n{warm}Current cooling devices from HAL:\n"
            f"\tCoolingDevice{{mValue={state.throttle}, mType=2, mName=thermal-cpufreq-0}}\n",
        )


class Jetson:
    """`nvpmodel` and `jetson_clocks`: which mode is set, and whether the clocks are locked."""

    def __init__(self, answers: Leaves) -> None:
        self._answers = answers
        self._mode = _MODE
        answers.put("nvpmodel.modes", "".join(f"{number} {name}\n" for number, (name, _) in MODES.items()))
        answers.put("nvpmodel.wanted", f"{_MODE}\n")
        answers.put("jetson_clocks.wanted", "0\n")

    def update(self, processors: Processors) -> None:
        """Obeys what was asked of the two programs, and keeps what `jetson_clocks --show` prints."""
        if (number := self._answers.asked("nvpmodel.wanted")) is not None and number in map(str, MODES):
            self._mode = int(number)
        if (wanted := self._answers.asked("jetson_clocks.wanted")) is not None:
            processors.locked = wanted == "1"
        processors.mode_cap = MODES[self._mode][1]
        lines = ["SOC family:tegra234  Machine:virtual"]
        for cpu, policy in enumerate(processors.policies):
            low, high = policy.limits_khz
            lines.append(
                f"cpu{cpu}:  Online=1 Governor={policy.governor} MinFreq={high if processors.locked else low} "
                f"MaxFreq={high} CurrentFreq={policy.current_khz}"
            )
        lines.append(
            f"GPU MinFreq={_GPU_HZ if processors.locked else _GPU_LOW_HZ} MaxFreq={_GPU_HZ} CurrentFreq={_GPU_LOW_HZ}"
        )
        lines.append(
            f"EMC MinFreq=204000000 MaxFreq={_EMC_HZ} CurrentFreq={_EMC_HZ} FreqOverride={int(processors.locked)}"
        )
        self._answers.put("jetson_clocks.show", "\n".join(lines) + "\n")


class Firmware:
    """`vcgencmd get_throttled`, `measure_temp` and `measure_clock arm`."""

    def __init__(self, answers: Leaves) -> None:
        self._answers = answers
        self._since_boot = 0

    def update(self, view: View, processors: Processors) -> None:
        # soft limit, and beyond it throttled with the clock capped (bits 3; 1 and 2); a weak supply is bit 0
        now = 0 if not view.state.throttle else 0b1000 if view.state.throttle == 1 else 0b1110
        now |= int(view.under_voltage)
        self._since_boot |= now
        self._answers.put("vcgencmd.get_throttled", f"throttled={now | self._since_boot << 16:#x}\n")
        self._answers.put("vcgencmd.measure_temp", f"temp={view.state.temperatures_c[0]:.1f}'C\n")
        hertz = processors.policies[0].current_khz * 1000
        self._answers.put("vcgencmd.measure_clock", f"frequency(0)={hertz}\n")
