"""The nightly gate's rules over one series: a value for each night, and whether tonight's is another.

Pure: nights in, findings out. What the rules are, and by which simulation: `docs/statistics.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

HISTORY = 14
PROVISIONAL = 5
LEAST_CHANGE = 0.03

Found = Literal["ok", "suspect", "confirmed", "provisional", "no_verdict"]
"""Within its limits · outside, and not yet seen again · seen again by an independent session · outside, with too few
nights for more · too few nights for anything."""


@dataclass(frozen=True)
class SessionValues:
    """One session of a night: its name and one value a run, in order. Empty where no run gave one."""

    session: str
    values: tuple[float, ...]
    independent: bool = True
    """Whether its day noise is its own: the first of its night, or begun after a reboot."""


@dataclass(frozen=True)
class Night:
    """A night of one series: its sessions, oldest first; the name is that of the first."""

    sessions: tuple[SessionValues, ...]

    @property
    def name(self) -> str:
        return self.sessions[0].session


@dataclass(frozen=True)
class Finding:
    """What the gate says of the last night of a series.

    `change` is tonight's median over the baseline less one, `limit` how far it may be off (both as shares), `p` how
    likely so much is by chance. `since` names the night that a change began in. `weaker` marks a confirmation that
    shares the night's noise.
    """

    found: Found
    change: float | None
    limit: float | None
    p: float | None
    baseline: float | None
    value: float | None
    nights: int
    """How many nights the baseline stands on."""
    since: str | None
    weaker: bool
    rule: str
    """One sentence for people, with the figures."""
    day_correlation: float | None = None
    """How alike the noise of two sessions of one night is, where the history tells."""


def gate(nights: Sequence[Night], *, history: int = HISTORY) -> Finding:
    """Judge the last night of a series, oldest first, by at most `history` nights before it."""
    raise NotImplementedError


def controlled(findings: Sequence[Finding]) -> list[Finding]:
    """The findings of all series of one night, with false alarms controlled over them all.

    A confirmed one that so many series would give by chance becomes a suspect, and its `rule` says so.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class Step:
    """A level change of a series: the night that it began in (an index), and the new level ÷ the old one less one."""

    at: int
    change: float


def steps(values: Sequence[float]) -> tuple[Step, ...]:
    """Where the level of a series of night medians changed; none under the nights that carry it."""
    raise NotImplementedError
