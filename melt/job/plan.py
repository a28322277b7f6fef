"""The plan of one job, as the text that the agent reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.records import Sensor

_PLAIN = frozenset(range(0x21, 0x7F)) - {ord("%")}


@dataclass(frozen=True)
class JobPlan:
    """What the agent is to do.

    `ceilings` are raw values by sensor; `settings` are (path, value) to hold and put back.
    """

    run_id: str
    lock: str
    wall_s: float
    engine: Sequence[str]
    idle_s: float = 0.0
    env: Mapping[str, str] = field(default_factory=dict)
    sensors: Sequence[Sensor] = ()
    cpus: str | None = None
    ceilings: Mapping[str, float] = field(default_factory=dict)
    settings: Sequence[tuple[str, str]] = ()
    memory_max_bytes: int | None = None
    memory_period_s: float = 0.1

    def text(self) -> str:
        """One instruction a line, words separated by a space, each word percent-encoded."""
        lines: list[Sequence[str]] = [
            ("melt-plan", "1"),
            ("run_id", self.run_id),
            ("lock", self.lock),
            ("wall_ms", _ms(self.wall_s)),
            ("idle_ms", _ms(self.idle_s)),
            ("memory_period_ms", _ms(self.memory_period_s)),
        ]
        if self.memory_max_bytes is not None:
            lines.append(("memory_max_bytes", str(self.memory_max_bytes)))
        if self.cpus is not None:
            lines.append(("cpus", self.cpus))
        for sensor in self.sensors:
            head = ("sample", sensor.name, str(round(sensor.period_s * 1e6)), _ms(sensor.timeout_s))
            if sensor.path is not None:
                lines.append((*head, "reopen" if sensor.reopen else "file", sensor.path))
            else:
                lines.append((*head, "command", *sensor.argv))
        lines += [("ceiling", name, repr(float(value))) for name, value in self.ceilings.items()]
        lines += [("set", path, value) for path, value in self.settings]
        if self.env:
            lines.append(("env", *(f"{key}={value}" for key, value in self.env.items())))
        lines.append(("engine", *self.engine))
        return "".join(" ".join(map(encode_word, line)) + "\n" for line in lines)


def encode_word(word: str) -> str:
    """A word in which only printable ASCII without space and percent sign stands for itself."""
    return "".join(chr(b) if b in _PLAIN else f"%{b:02x}" for b in word.encode(errors="surrogateescape"))


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))
