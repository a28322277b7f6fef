"""/proc/cpuinfo as a table, and the names of Arm's cores.

Source: the kernel's arch/*/kernel/cpu*.c print it; implementer and part are fields of Arm's MIDR_EL1, and the
names are those of Arm's and the makers' technical reference manuals.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.text import LARGEST_CPU

if TYPE_CHECKING:
    from collections.abc import Mapping

CORES: Mapping[tuple[int, int], str] = {
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xC09): "Cortex-A9",
    (0x41, 0xC0F): "Cortex-A15",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD47): "Cortex-A710",
    (0x41, 0xD48): "Cortex-X2",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4D): "Cortex-A715",
    (0x41, 0xD4E): "Cortex-X3",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD82): "Cortex-X4",
    (0x4E, 0x003): "Denver 2",
    (0x4E, 0x004): "Carmel",
    (0x51, 0x804): "Kryo 4xx Gold",
    (0x51, 0x805): "Kryo 4xx Silver",
}
"""(implementer, part) to the name of the core."""


@dataclass(frozen=True)
class CpuInfo:
    """`general` is the first value of each key, wherever it stands; `cpus` each processor's own lines."""

    general: Mapping[str, str]
    cpus: Mapping[int, Mapping[str, str]]

    def first(self, *keys: str) -> str:
        """The first of `keys` that the table has.

        Raises:
            ParseError: it has none of them.
        """
        for key in keys:
            if self.general.get(key):
                return self.general[key]
        raise ParseError(f"there is no line '{keys[0]}'")

    def core(self, cpu: int) -> str | None:
        """The name of an Arm core, its two numbers when the name is not known, or None."""
        lines = self.cpus.get(cpu, {})
        try:
            implementer, part = int(lines["CPU implementer"][:8], 16), int(lines["CPU part"][:8], 16)
        except (KeyError, ValueError):
            return None
        return CORES.get((implementer, part), f"{implementer:#04x}/{part:#05x}")

    def cores(self) -> str:
        """Which cores there are, the most frequent first: `4x Cortex-A55 + 2x Cortex-A76`.

        Raises:
            ParseError: the table names none.
        """
        counts = Counter(core for cpu in self.cpus if (core := self.core(cpu)))
        if not counts:
            raise ParseError("there is no line 'CPU part'")
        return " + ".join(f"{n}x {core}" for core, n in counts.most_common())


def parse(data: bytes) -> CpuInfo:
    """The table in `data`; lines that are none of it are passed over, so it never fails."""
    general: dict[str, str] = {}
    cpus: dict[int, dict[str, str]] = {}
    lines: dict[str, str] = {}  # of the processor that is being read; what stands before the first is nobody's
    for text in data.decode("utf-8", "replace").split("\n"):
        key, colon, value = (part.strip() for part in text.partition(":"))
        if not colon:
            lines = {}  # an empty line ends a processor; what Arm's kernels write after the last is about the board
            continue
        if key == "processor" and value.isascii() and value.isdigit() and len(value) < 6:  # noqa: PLR2004
            number = int(value)
            lines = cpus.setdefault(number, {}) if number <= LARGEST_CPU else {}
        general.setdefault(key, value)
        lines[key] = value
    return CpuInfo(general, cpus)
