"""Sensors of power as a Jetson, a Raspberry Pi and a phone have them: INA3221, PMIC, gauge, and counters of rails."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from melt.virtual.kinds import Kind
    from melt.virtual.leaves import Leaves
    from melt.virtual.scenario import Scenario
    from melt.virtual.tree import View

_INA_MA = 8
"""The smallest step of an INA3221's current: 40 µV over a shunt of 5 mΩ."""
_INA_MV = 8
_CHIP = "/sys/bus/i2c/drivers/ina3221/1-0040"
_BATTERY = "/sys/class/power_supply/battery"
_USB = "/sys/class/power_supply/usb"
_ODPM = "/sys/bus/iio/devices/iio:device"
_EXT5V_V = 5.09


class Ina3221:
    """The hwmon generation: a label, millivolts and milliamperes for each of three channels, and shunt voltages."""

    def __init__(self, leaves: Leaves, kind: Kind, scenario: Scenario) -> None:
        self._leaves, self._kind = leaves, kind
        self._folder = f"{_CHIP}/hwmon/hwmon{scenario.hwmon}"
        leaves.put(f"{self._folder}/name", "ina3221")
        leaves.put(f"{self._folder}/update_interval", 100)
        leaves.put(f"{self._folder}/samples", 16)
        for number, name in enumerate(kind.sensed, 1):
            leaves.put(f"{self._folder}/in{number}_label", name)
            leaves.put(f"{self._folder}/in{number}_enable", 1)
        leaves.put(f"{self._folder}/in7_label", "sum of shunt voltages")
        leaves.link(f"/sys/class/hwmon/hwmon{scenario.hwmon}", self._folder)

    def update(self, view: View) -> None:
        for number, (name, sensed) in enumerate(self._kind.sensed.items(), 1):
            millivolts = round(1000 * sensed.volts / _INA_MV) * _INA_MV
            milliamperes = round(1e6 * view.shown[name] / millivolts / _INA_MA) * _INA_MA
            self._leaves.put(f"{self._folder}/in{number}_input", millivolts)
            self._leaves.put(f"{self._folder}/curr{number}_input", milliamperes)
            self._leaves.put(f"{self._folder}/in{number + 3}_input", round(milliamperes * 5 / 1000))


class Pmic:
    """What `vcgencmd pmic_read_adc` prints on a Pi 5: a current and a voltage for each rail."""

    def __init__(self, answers: Leaves, kind: Kind) -> None:
        self._answers, self._kind = answers, kind
        self._written = False

    def update(self, view: View) -> None:
        if self._written and not view.fresh:
            return
        self._written = True
        lines = []
        for number, (name, sensed) in enumerate(self._kind.sensed.items()):
            lines.append(f"{name + '_A':>15} current({number})={max(0.0, view.shown[name]) / sensed.volts:.8f}A")
        for number, (name, sensed) in enumerate(self._kind.sensed.items(), len(lines)):
            lines.append(f"{name + '_V':>15} volt({number})={sensed.volts:.8f}V")
        lines.append(f"{'EXT5V_V':>15} volt({len(lines)})={_EXT5V_V:.8f}V")
        lines.append(f"{'BATT_V':>15} volt({len(lines)})={0:.8f}V")
        self._answers.put("vcgencmd.pmic_read_adc", "\n".join(lines) + "\n")


class Odpm:
    """A Pixel's rail counters: microjoules since the start, on two devices."""

    def __init__(self, leaves: Leaves, kind: Kind) -> None:
        self._leaves = leaves
        names = [name for name in kind.sensed if name != "battery"]
        self._devices = (names[: len(names) // 2], names[len(names) // 2 :])
        for number in range(len(self._devices)):
            leaves.put(f"{_ODPM}{number}/name", f"s2mpg1{4 + number}-odpm")
            leaves.put(f"{_ODPM}{number}/sampling_rate", "125.000000")

    def update(self, view: View) -> None:
        stamp = round(view.state.time_s * 1000)
        for number, names in enumerate(self._devices):
            lines = [f"t={stamp}"]
            for channel, name in enumerate(names):
                lines.append(f"CH{channel}(T={stamp})[{name}], {round(view.shown[name] * 1e6)}")
            self._leaves.put(f"{_ODPM}{number}/energy_value", "\n".join(lines))


class Gauge:
    """A phone's battery: the files of its fuel gauge, and whether a charger is plugged in."""

    def __init__(self, leaves: Leaves, kind: Kind, scenario: Scenario) -> None:
        self._leaves, self._kind, self._scenario = leaves, kind, scenario
        leaves.put(f"{_BATTERY}/type", "Battery")
        leaves.put(f"{_BATTERY}/present", 1)
        leaves.put(f"{_BATTERY}/technology", "Li-ion")
        leaves.put(f"{_USB}/type", "USB")
        self._written = False

    def update(self, view: View) -> None:
        state, battery = view.state, self._kind.battery
        if battery is None:
            return
        self._leaves.put(f"{_BATTERY}/status", "Charging" if state.charger else "Discharging")
        self._leaves.put(f"{_USB}/online", int(state.charger))
        if self._written and "battery" not in view.fresh:
            return  # a gauge makes all of its figures anew at one moment
        self._written = True
        amperes = view.shown["battery"] / state.voltage_v
        if state.charger:  # then the gauge sees what is left over for the cell
            amperes = state.current_a
        sign = -1 if self._scenario.discharging == "negative" else 1
        per_ampere = 1e6 if self._scenario.current_unit == "ua" else 1e3
        for name, value in {
            "current_now": round(sign * amperes * per_ampere),
            "voltage_now": round(state.voltage_v * 1e6),
            "charge_counter": round(state.level * battery.capacity_coulomb / 3.6 * 1000),
            "charge_full": round(battery.capacity_coulomb / 3.6 * 1000),
            "capacity": round(state.level * 100),
            "temp": round(state.temperatures_c[-1] * 10),
        }.items():
            self._leaves.put(f"{_BATTERY}/{name}", value)
