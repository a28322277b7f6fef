"""The gate over a suite's folder: every series of its last night judged, and what is not there told by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from math import isnan
from statistics import median
from typing import TYPE_CHECKING

from melt.analysis.fingerprint import axis_keys
from melt.analysis.gate import HISTORY, controlled, gate, least_likely, steps
from melt.errors import UsageError
from melt.history import read
from melt.history.nights import nights, series
from melt.history.order import stamp_s
from melt.nightly.canary import only_odd, quarantined, quarantines, useless
from melt.nightly.missing import missing_cells, missing_metrics, runs_without_value
from melt.nightly.plan import planned_for
from melt.nightly.result import Change, Judged, NightResult
from melt.nightly.watched import WATCHED, chosen, direction
from melt.store import sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pandas as pd

    from melt.analysis.gate import Finding
    from melt.history import Index
    from melt.history.nights import Series
    from melt.nightly.plan import Planned
    from melt.nightly.result import Quarantine

_NAMED = 10
"""So many unreadable runs are told by name."""
_LATE = 1.1
"""× what usually lies between two nights: after so long without another, one is missing."""


def judge(
    folder: Path,
    *,
    history: int = HISTORY,
    axis: str | None = None,
    metrics: Sequence[str] = (),
    now_s: float | None = None,
    say: Callable[[str], None] | None = None,
) -> NightResult:
    """Judges the last night of the suite in `folder` by at most `history` nights before it.

    `axis` is the one key that may change from night to night; a canary may not change along it either. `now_s`, in
    seconds since 1970, tells whether another night is due since. Raises UsageError for a folder that is no suite's, and
    for an axis or a metric that there is not.
    """
    varying = axis_keys(axis) if axis is not None else frozenset()
    index = read(folder, say=say)
    name = _suite_of(index, folder)
    wanted = chosen(metrics, set(index.frame["metric"].dropna().unique()))
    planned = {name: [path.name for path in sessions(folder)]}
    calendar = nights(index, planned)[name]
    tonight = calendar[-1]
    plan = planned_for(folder, tonight)
    found = series(index, metrics=wanted, varying=varying, planned=planned)
    if plan.canary:  # which tells by every main figure, and may not change along the axis either
        frozen = series(index, metrics=None if wanted is None else wanted | WATCHED, planned=planned)
        found = [one for one in found if one.workload not in plan.canary]
        found += [one for one in frozen if one.workload in plan.canary]
    judged, drifted = _judged([one for one in found if one.nights[-1].name in tonight], plan.canary, history)
    runs = index.frame.drop_duplicates("folder")
    broken = Counter(one.path.parent.name for one in index.unreadable)
    lost = missing_cells(runs, tonight, calendar[-1 - history : -1], plan.cells, plan.running, broken)
    lost += missing_metrics(index.frame, calendar, wanted, history)
    devices = sorted({one.series.device for one in judged if one.notable})
    return NightResult(
        suite=name,
        sessions=tonight,
        history=history,
        axis=axis,
        nights=len(calendar),
        judged=tuple(sorted(judged, key=lambda one: (one.series.device, one.series.cell, one.series.metric))),
        missing=tuple(lost),
        quarantined=tuple(drifted),
        warnings=(
            *_warnings(index, judged),
            *useless(judged),
            *_no_canary(judged, plan),
            *only_odd(judged),
            *runs_without_value(runs, tonight, plan.slots),
            *_not_measured(runs[runs["session"].isin(list(tonight))]),
        ),
        confirm=plan.again(devices, folder.parent) if devices else None,
        unplanned=plan.unreadable,
        running=plan.running,
        late=_late(calendar, now_s),
    )


def _late(calendar: Sequence[Sequence[str]], now_s: float | None) -> str | None:
    """Whether another night should have begun since the last one, by what usually lies between two."""
    begins = [begin for night in calendar if not isnan(begin := stamp_s(night[0]))]
    between = [abs(b - a) for a, b in pairwise(begins)][-HISTORY:]
    if now_s is None or not between or now_s - begins[-1] <= _LATE * median(between):
        return None
    days, usual = (now_s - begins[-1]) / 86400, median(between) / 86400
    return f"no night has begun for {days:.1f} days, and there is usually one every {usual:.1f}: this is the last one"


def _suite_of(index: Index, folder: Path) -> str:
    """The one suite that the rows are of. Raises UsageError."""
    names = [str(name) for name in index.frame["suite"].dropna().unique()]
    if not sessions(folder):
        below = [path for path in sorted(folder.iterdir()) if path.is_dir() and sessions(path)]
        such = below[0] if below else "results/nightly"
        above = next((path for path in folder.resolve().parents[:2] if sessions(path)), None)
        raise UsageError(f"{folder} is no suite's folder: name one, such as {above or such}")
    if not names:
        raise UsageError(f"no run of {folder} can be read, so there is no night to judge: carry out the suite first")
    if len(names) > 1:
        raise UsageError(
            f"{folder} holds runs of several suites ({', '.join(sorted(names)[:_NAMED])}): keep one of them there"
        )
    return names[0]


def _judged(found: Sequence[Series], canaries: frozenset[str], history: int) -> tuple[list[Judged], list[Quarantine]]:
    """Every series with its finding, and the devices that their canaries tell on.

    False alarms are controlled over the series that can fail the night alone: a device that drifts changes in all of
    its figures, and so many real changes would let chance ones of other devices pass with them.
    """
    frozen = _controlled([one for one in found if one.workload in canaries], history, canary=True)
    drifted = quarantines(frozen)
    names = {one.device for one in drifted}
    rest = [one for one in found if one.workload not in canaries]
    judged = _controlled([one for one in rest if one.device not in names], history)
    worst = least_likely([one.finding for one in judged])
    judged = [replace(one, notable=_is_notable(one, worst)) for one in judged]
    apart = _controlled([one for one in rest if one.device in names], history)
    return [*frozen, *judged, *quarantined(apart, drifted)], drifted


def _controlled(found: Sequence[Series], history: int, *, canary: bool = False) -> list[Judged]:
    findings = controlled([gate(one.nights, history=history) for one in found])
    return [_one(one, finding, canary=canary) for one, finding in zip(found, findings, strict=True)]


def _is_notable(one: Judged, worst: float) -> bool:
    return one.state == "suspect" and one.finding.p is not None and one.finding.p <= worst


def _one(one: Series, finding: Finding, *, canary: bool) -> Judged:
    judged = Judged(one, finding, finding.found, None, canary)
    if not judged.outside:
        return judged
    again = None
    if finding.found == "confirmed":
        tonight = one.nights[-1]
        again = tonight.name if finding.since != tonight.name else tonight.sessions[-1].session
    way = direction(one.metric, finding.change)
    return replace(judged, direction=way, confirmed_by=again, steps=_steps(one))


def _steps(one: Series) -> tuple[Change, ...]:
    """Where the level of the series changed, by the nights that it has."""
    levels = [median(night.sessions[0].values) for night in one.nights]
    return tuple(Change(one.nights[step.at].name, step.change) for step in steps(levels))


def _warnings(index: Index, judged: Sequence[Judged]) -> list[str]:
    told = [f"{one.path} cannot be read: {one.why}" for one in index.unreadable[:_NAMED]]
    if len(index.unreadable) > _NAMED:
        told.append(f"{len(index.unreadable) - _NAMED} more runs cannot be read")
    told += index.notes
    notes: dict[tuple[str, str], list[str]] = {}
    for one in judged:
        if one.canary:
            continue
        for note in one.series.notes:
            notes.setdefault((one.series.device, note), []).append(f"{one.series.cell} {one.series.metric}")
    for (device, note), of in sorted(notes.items()):
        told.append(f"{device}: {note} ({of[0] if len(of) == 1 else f'{len(of)} series'})")
    young = Counter(
        one.series.device
        for one in judged
        if one.state == "no_verdict" and not one.series.cut and one.finding.baseline is None
    )
    told += [
        f"{one.series.device} {one.series.cell} {one.series.metric}: {one.finding.rule}"
        for one in judged
        if one.state == "no_verdict" and one.finding.baseline is not None
    ]
    told += [f"{device}: {number} series have no verdict yet" for device, number in sorted(young.items())]
    return told


def _not_measured(runs: pd.DataFrame) -> list[str]:
    """The devices of the night whose figures are not melt's own of hardware; they have series of their own."""
    simulated = sorted(runs.loc[runs["simulated"].astype(bool), "device"].astype(str).unique())
    imported = runs.loc[runs["imported"].notna(), ["device", "imported"]].astype(str).drop_duplicates()
    return [
        *(f"{device} is simulated: it is no hardware" for device in simulated),
        *(f"{device}: results of {tool}, imported" for device, tool in imported.itertuples(index=False, name=None)),
    ]


def _no_canary(judged: Sequence[Judged], plan: Planned) -> list[str]:
    """The judged devices that the suite's canaries do not watch tonight."""
    watched = {one.series.device for one in judged if one.canary}
    names = ", ".join(sorted(plan.canary))
    return [
        f"{device}: no value of its canary ({names}) tonight, so a change may be the device's own"
        for device in sorted({one.series.device for one in judged} - watched)
        if plan.canary
    ]
