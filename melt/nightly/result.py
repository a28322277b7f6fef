"""What a night was found to be: every series with its finding, what is missing, and one word over all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from melt.analysis.gate import Finding
    from melt.history.nights import Series
    from melt.nightly.watched import Direction

State = Literal["ok", "suspect", "confirmed", "provisional", "no_verdict", "quarantined"]
"""As `melt.analysis.gate.Found`; `quarantined` is outside its limits on a device whose canary is as well."""
Overall = Literal["pass", "suspect", "fail", "incomplete", "no verdict yet", "nothing judged"]


@dataclass(frozen=True)
class Change:
    """A level change in the history of a series: the night it began in, and by which share."""

    night: str
    change: float


@dataclass(frozen=True)
class Judged:
    """A series that has a value tonight, and what the gate says of it."""

    series: Series
    finding: Finding
    state: State
    direction: Direction | None
    """Of a value outside its limits: which way it changed."""
    canary: bool = False
    confirmed_by: str | None = None
    """The session that saw the change again."""
    steps: tuple[Change, ...] = ()
    """Of a series that is outside its limits: where its level changed."""
    notable: bool = False
    """Of a suspect: whether it is more than chance gives somewhere in so many series, and so worth a rerun."""

    @property
    def outside(self) -> bool:
        """Whether tonight's value is outside its limits, whatever follows from it."""
        return self.finding.found in ("suspect", "confirmed", "provisional")

    @property
    def trips(self) -> bool:
        """Whether it makes the night fail: a canary tells of its device, and not of what is tested."""
        return self.state == "confirmed" and not self.canary


@dataclass(frozen=True)
class Missing:
    """What was planned for tonight, or there in the nights before, and has no usable value; `cell` None: the device."""

    device: str
    cell: str | None
    metric: str | None
    why: str

    @property
    def name(self) -> str:
        return ", ".join(part for part in (self.device, self.cell, self.metric) if part is not None)


@dataclass(frozen=True)
class Quarantine:
    """A device whose canary drifted: what the canary shows."""

    device: str
    why: str


@dataclass(frozen=True)
class NightResult:
    """The last night of a suite."""

    suite: str
    sessions: tuple[str, ...]
    """Of the night, oldest first."""
    history: int
    axis: str | None
    nights: int
    """How many there are, with this one."""
    judged: tuple[Judged, ...]
    missing: tuple[Missing, ...]
    quarantined: tuple[Quarantine, ...]
    warnings: tuple[str, ...]
    confirm: str | None
    """The command that runs again what is suspect."""
    unplanned: tuple[str, ...] = ()
    """The night's plans that cannot be read, each with why: what is missing of them is not known."""
    running: tuple[str, ...] = ()
    """The sessions of the night that are still being carried out."""
    late: str | None = None
    """A sentence where no night has begun since this one, for longer than between the nights before."""

    @property
    def night(self) -> str:
        """The name of the night: that of its first session."""
        return self.sessions[0]

    def of(self, *states: State) -> list[Judged]:
        """Those in one of the states, canaries left out, the least likely by chance first, then the largest change."""
        found = [one for one in self.judged if one.state in states and not one.canary]
        return sorted(found, key=lambda one: (_p(one), -abs(one.finding.change or 0.0)))

    @property
    def anew(self) -> list[Judged]:
        """Those without a verdict since something changed that must be the same: their history does not count."""
        return [one for one in self.of("no_verdict") if one.series.cut is not None]

    @property
    def overall(self) -> Overall:
        """One word for the night; it passes only where everything that should be there was judged."""
        if not self.judged:
            return "nothing judged"
        if any(one.trips for one in self.judged):
            return "fail"
        if self.missing or self.quarantined or self.unplanned or self.running or self.late:
            return "incomplete"
        if self.anew:
            return "incomplete"
        if all(one.state == "no_verdict" for one in self.judged):
            return "no verdict yet"
        return "suspect" if self.of("suspect", "provisional") else "pass"

    def exit_code(self, *, strict: bool) -> int:
        """1 for a night that failed or of which nothing could be judged; if `strict`, for an incomplete one too."""
        return int(self.overall in ("fail", "nothing judged", *(("incomplete",) if strict else ())))


def _p(one: Judged) -> float:
    return 1.0 if one.finding.p is None else one.finding.p
