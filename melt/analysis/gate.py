"""The nightly gate's rules over one series: a value for each night, and whether tonight's is another.

Pure: nights in, findings out. What the rules are, and by which simulation: `docs/statistics.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from melt.analysis.chance import controlled, least_likely
from melt.analysis.levels import ESTABLISHED, LEAST_CHANGE, PROVISIONAL, Level, Limits, chance, level_of, limits
from melt.analysis.steps import Step, steps

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "HISTORY",
    "LEAST_CHANGE",
    "PROVISIONAL",
    "Finding",
    "Found",
    "Night",
    "SessionValues",
    "Step",
    "controlled",
    "gate",
    "least_likely",
    "steps",
]

HISTORY = ESTABLISHED
_REACH = 3
"""× the history: older nights have no say in what tonight's baseline is."""
_BACK = 0.5
"""A change that two nights showed is over when one lies within such a share of the limits, lest it come and go."""
_LEAST_PAIRS = 5

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


@dataclass(frozen=True)
class _Known:
    """A night that has values: those of the session it stands on, and of those begun after it."""

    name: str
    first: Level
    reruns: tuple[tuple[SessionValues, Level], ...]


@dataclass(frozen=True)
class _Past:
    """What tonight is judged by: the baseline, and the nights that lay outside of it, up to the last one."""

    base: list[Level]
    outside: list[_Known]
    side: int

    @property
    def established(self) -> bool:
        """Whether there are nights enough for a verdict, those of a change that goes on included."""
        return len(self.base) + len(self.outside) >= ESTABLISHED

    def limits(self, runs: int, *, log: bool) -> Limits | None:
        return limits(self.base, runs, established=self.established, log=log)

    def side_of(self, level: Level, allowed: Limits) -> int:
        """On which side the next night lies outside, or has not come back from; 0 where neither."""
        going_on = len(self.outside) > 1 and allowed.side(level, _BACK) == self.side
        return self.side if going_on else allowed.side(level)


@dataclass(frozen=True)
class _Seen:
    """Who saw the change again: words for people, their levels, and whether they share tonight's noise."""

    words: tuple[str, ...]
    levels: tuple[Level, ...]
    shared: bool = False


def gate(nights: Sequence[Night], *, history: int = HISTORY) -> Finding:
    """Judge the last night of a series, oldest first, by at most `history` nights before it.

    A night stands on its first session with values. Later ones of the night confirm; where the last of them alone lies
    outside, that is suspect, and confirms nothing. Nights without values are gaps. A night that lies outside enters the
    baseline when the next one does not; two or more in a row on one side do not, until they are `history` nights: from
    then on they are the baseline.
    """
    recent = nights[-_REACH * history - 1 :]
    log = _positive(recent)
    known = [found for night in recent if (found := _known(night, log=log)) is not None]
    alike = _day_correlation([night for night in nights if len(night.sessions) > 1])
    if not known or not any(math.isfinite(value) for one in nights[-1].sessions for value in one.values):
        return _no_verdict("the last night has no value, so it can neither pass nor fail", alike)
    tonight = known[-1]
    past = _past(known[:-1], history, log=log)
    value = tonight.first.back(log=log)
    allowed = past.limits(tonight.first.runs, log=log)
    if allowed is None:
        few = f"{len(past.base)} of the {PROVISIONAL} nights that a limit needs lie before this one: no verdict"
        return replace(_no_verdict(few, alike), value=value, nights=len(past.base))
    if not log and allowed.centre == 0:
        return _from_zero(value, len(past.base), alike)
    told = replace(_judged(tonight, past, allowed, log=log), value=value, day_correlation=alike)
    return _last_session(told, tonight, past, log=log) if told.found == "ok" else told


def _judged(tonight: _Known, past: _Past, allowed: Limits, *, log: bool) -> Finding:
    side = past.side_of(tonight.first, allowed)
    before = past.outside if side and side == past.side else []
    seen = _seen(tonight, past, side, before, log=log)
    change = allowed.share(tonight.first.at, log=log)
    where = "outside" if allowed.side(tonight.first) else "not back within half of" if side else "within"
    said = (
        f"{change:+.1%} against the middle of {len(past.base)} nights, {where} "
        f"±{allowed.share_of_limit(log=log):.1%} ({allowed.why})"
    )
    found: Found = "ok"
    if side:
        found = "provisional" if not past.established else "confirmed" if seen.levels else "suspect"
        told = list(seen.words) or ["no other session has seen it yet"]
        if found == "provisional":
            told.append(
                f"provisional: {len(past.base) + len(past.outside)} of the {ESTABLISHED} nights that a verdict needs"
            )
        said += "; " + "; ".join(told)
    elif past.outside:
        said += f"; the change of {past.outside[-1].name} was not seen again"
    return Finding(
        found=found,
        change=change,
        limit=allowed.share_of_limit(log=log),
        p=chance([tonight.first, *seen.levels], past.base, established=past.established, shared=seen.shared),
        baseline=Level(allowed.centre, 1, None).back(log=log),
        value=None,
        nights=len(past.base),
        since=(before[0] if before else tonight).name if side else None,
        weaker=found == "confirmed" and seen.shared,
        rule=said,
    )


def _last_session(found: Finding, tonight: _Known, past: _Past, *, log: bool) -> Finding:
    """The finding of a night within its limits, or of its last session where that one is not.

    Else a session that somebody made in the afternoon would hide what the night's own shows.
    """
    session, level = tonight.reruns[-1] if tonight.reruns else (None, tonight.first)
    allowed = past.limits(level.runs, log=log)
    if session is None or allowed is None or not allowed.side(level):
        return found
    change, limit = allowed.share(level.at, log=log), allowed.share_of_limit(log=log)
    return replace(
        found,
        found="suspect" if past.established else "provisional",
        change=change,
        limit=limit,
        p=chance([level], past.base, established=past.established, shared=False),
        value=level.back(log=log),
        since=tonight.name,
        rule=f"{found.rule}; but the night's last session, {session.session}, lies {change:+.1%} off, outside "
        f"±{limit:.1%} ({allowed.why}); no other session has seen it yet",
    )


def _seen(tonight: _Known, past: _Past, side: int, before: Sequence[_Known], *, log: bool) -> _Seen:
    """Who saw tonight's change too; a rerun that shares tonight's noise counts only where nobody else did."""
    if not side:
        return _Seen((), ())
    words, own, shared = [], [night.first for night in before], []
    if before:
        nights = f"{len(before) + 1} nights in a row" if len(before) > 1 else "the night before too"
        words.append(f"{nights}, since {before[0].name}")
    for session, level in tonight.reruns:
        allowed = past.limits(level.runs, log=log)
        if allowed is None or allowed.side(level) != side:
            words.append(f"the rerun {session.session} did not see it")
        elif session.independent:
            own.append(level)
            words.append(f"seen again by {session.session} after a reboot")
        else:
            shared.append(level)
            words.append(f"seen again by {session.session} of the same night, which shares its noise (weaker)")
    return _Seen(tuple(words), tuple(own or shared), shared=not own and bool(shared))


def _known(night: Night, *, log: bool) -> _Known | None:
    found = [(one, level) for one in night.sessions if (level := level_of(one.values, log=log)) is not None]
    return _Known(night.name, found[0][1], tuple(found[1:])) if found else None


def _past(nights: Sequence[_Known], history: int, *, log: bool) -> _Past:
    past = _Past([], [], 0)
    for night in nights:
        base, outside = past.base, past.outside
        allowed = past.limits(night.first.runs, log=log)
        side = 0 if allowed is None else past.side_of(night.first, allowed)
        if side == 0 or side != past.side:
            # seen once it was noise, and the baseline has to know how much of that there is
            base = [*base, outside[0].first] if len(outside) == 1 else base
            outside = []
        if side == 0:
            base = [*base, night.first]
        else:
            outside = [*outside, night]
        if len(outside) >= history:  # it stayed: this is what the device does now
            base, outside, side = [one.first for one in outside], [], 0
        past = _Past(base[-history:], outside, side)
    return past


def _no_verdict(why: str, alike: float | None) -> Finding:
    return Finding(
        found="no_verdict",
        change=None,
        limit=None,
        p=None,
        baseline=None,
        value=None,
        nights=0,
        since=None,
        weaker=False,
        rule=why,
        day_correlation=alike,
    )


def _from_zero(value: float, nights: int, alike: float | None) -> Finding:
    """Of zero there is no share: the same again is fine, anything else is told and not judged."""
    if value == 0:
        said = replace(_no_verdict(f"0, as in the middle of {nights} nights", alike), found="ok", change=0.0, p=1.0)
    else:
        why = f"{value:.4g} after {nights} nights around 0, of which no change can be a share: no verdict"
        said = _no_verdict(why, alike)
    return replace(said, baseline=0.0, value=value, nights=nights)


def _positive(nights: Sequence[Night]) -> bool:
    """Whether every value is, so that there is a log of each."""
    return all(value > 0 for night in nights for one in night.sessions for value in one.values if math.isfinite(value))


def _day_correlation(nights: Sequence[Night]) -> float | None:
    """Pearson's correlation of a night's first session and its reruns without a reboot; None under five pairs."""
    log = _positive(nights)
    known = [found for night in nights if (found := _known(night, log=log)) is not None]
    pairs = [(n.first.at, level.at) for n in known for one, level in n.reruns if not one.independent]
    if len(pairs) < _LEAST_PAIRS:
        return None
    a, b = (([one[i] for one in pairs], sum(one[i] for one in pairs) / len(pairs)) for i in (0, 1))
    da, db = ([value - middle for value in values] for values, middle in (a, b))
    spread = math.sqrt(sum(x * x for x in da) * sum(y * y for y in db))
    return sum(x * y for x, y in zip(da, db, strict=True)) / spread if spread > 0 else None
