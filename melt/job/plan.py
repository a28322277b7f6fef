"""The plan of one job, as the text that the agent reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.records import Sensor

_PLAIN = frozenset(range(0x21, 0x7F)) - {ord("%")}


@dataclass(frozen=True)
class Hold:
    """A state that is no file, by three argument lists. A word `{old}` of `restore` is what `read` has printed before.

    `read` prints the state as its last line, and `value` while it is held.
    """

    name: str
    value: str
    set: Sequence[str]
    restore: Sequence[str]
    read: Sequence[str]


@dataclass(frozen=True)
class User:
    """Whom the engine runs as, and whose the job's files are, where the agent is root."""

    uid: int
    gid: int
    groups: Sequence[int] = ()


@dataclass(frozen=True)
class JobPlan:
    """What the agent is to do.

    `ceilings` are raw values by sensor; `settings` are (path, value) to hold and put back, with a third word that
    events call the file by; `holds` are the same with commands, which come first; `refused` are (what, value, why) of
    what was to be held and cannot even be tried: the agent tells it. `whole` are folders of the device: the first
    that is there is locked while values are held, so that jobs of two work folders do not hold them at once.
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
    settings: Sequence[tuple[str, ...]] = ()
    holds: Sequence[Hold] = ()
    refused: Sequence[tuple[str, str, str]] = ()
    whole: Sequence[str] = ()
    user: User | None = None
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
        if self.whole:
            lines.append(("whole", *self.whole))
        if self.memory_max_bytes is not None:
            lines.append(("memory_max_bytes", str(self.memory_max_bytes)))
        if self.cpus is not None:
            lines.append(("cpus", self.cpus))
        for sensor in self.sensors:
            head = ("sample", sensor.name, str(round(sensor.period_s * 1e6)), _ms(sensor.timeout_s))
            if sensor.path is not None:
                kind = f"{'root-' if sensor.as_root else ''}{'reopen' if sensor.reopen else 'file'}"
                lines.append((*head, kind, *sensor.paths))
            else:
                lines.append((*head, "command", *sensor.argv))
        lines += [("ceiling", name, repr(float(value))) for name, value in self.ceilings.items()]
        if self.user is not None:
            lines.append(("user", *map(str, (self.user.uid, self.user.gid, *self.user.groups))))
        for hold in self.holds:
            counts = map(str, map(len, (hold.set, hold.restore, hold.read)))
            lines.append(("hold", hold.name, hold.value, *counts, *hold.set, *hold.restore, *hold.read))
        lines += [("set", *setting) for setting in self.settings]
        lines += [("refused", *what) for what in self.refused]
        if self.env:
            lines.append(("env", *(f"{key}={value}" for key, value in self.env.items())))
        lines.append(("engine", *self.engine))
        return "".join(" ".join(map(encode_word, line)) + "\n" for line in lines)


def encode_word(word: str) -> str:
    """A word in which only printable ASCII without space and percent sign stands for itself."""
    return "".join(chr(b) if b in _PLAIN else f"%{b:02x}" for b in word.encode(errors="surrogateescape"))


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))
