"""What any Linux tells about itself: facts once, sensors repeatedly.

Nothing here touches a device: each reading is a question and a pure parser of its answer.

`READINGS` is the whole list, in the order in which they are shown. A new one is a `Reading` in the file of
its group, a line here, and a captured text in tests/readings/captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.readings import (
    android,
    battery,
    clocks,
    cpu,
    gpu,
    hwmon,
    ina,
    jetson,
    memory,
    odpm,
    power,
    raspberry,
    system,
    thermal,
    thermalservice,
)
from melt.readings.base import Captures, Reading, absent, found, left_out, matching, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

READINGS: Mapping[str, Reading] = {
    reading.name: reading
    for reading in (
        system.MACHINE,
        cpu.CPU,
        system.SYSTEM,
        android.GETPROP,
        jetson.RELEASE,
        jetson.POWER_MODE,
        jetson.HELD_CLOCKS,
        gpu.MODEL,
        clocks.CPU_CLOCKS,
        clocks.DEVICE_CLOCKS,
        gpu.KGSL,
        gpu.MALI,
        gpu.TEGRA_GPU,
        thermal.ZONES,
        thermal.COOLING,
        thermalservice.THERMALSERVICE,
        hwmon.TEMPERATURES,
        memory.MEMORY,
        memory.PAGING,
        system.LOAD,
        system.CPU_TIME,
        power.RAPL,
        hwmon.RAILS,
        ina.INA3221,
        ina.INA238,
        odpm.ODPM,
        raspberry.PMIC,
        raspberry.THROTTLED,
        battery.BATTERY,
        battery.BATTERY_DUMPSYS,
    )
}
"""Every reading by its name."""

__all__ = ["READINGS", "Captures", "Reading", "absent", "found", "left_out", "matching", "text_of"]
