"""What any Linux tells about itself: facts once, sensors repeatedly.

Nothing here touches a device: each reading is a question and a pure parser of its answer.

`READINGS` is the whole list, in the order in which they are shown. A new one is a `Reading` in the file of
its group, a line here, and a captured text in tests/readings/captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.readings import clocks, cpu, hwmon, memory, power, system, thermal
from melt.readings.base import Captures, Reading, absent, left_out, matching

if TYPE_CHECKING:
    from collections.abc import Mapping

READINGS: Mapping[str, Reading] = {
    reading.name: reading
    for reading in (
        system.MACHINE,
        cpu.CPU,
        system.SYSTEM,
        clocks.CPU_CLOCKS,
        clocks.DEVICE_CLOCKS,
        thermal.ZONES,
        thermal.COOLING,
        hwmon.TEMPERATURES,
        memory.MEMORY,
        memory.PAGING,
        system.LOAD,
        system.CPU_TIME,
        power.RAPL,
        hwmon.RAILS,
    )
}
"""Every reading by its name."""

__all__ = ["READINGS", "Captures", "Reading", "absent", "left_out", "matching"]
