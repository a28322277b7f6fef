"""What has no usable value tonight: planned cells, and what the nights before had; each with the reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.history.order import listed
from melt.nightly.result import Missing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import pandas as pd

Cell = tuple[str, str]
"""A device and a cell."""

SEEN = 3
"""A metric is missed where the cell had it in so many nights, one after the other, up to the last."""


def missing_cells(
    runs: pd.DataFrame,
    tonight: Sequence[str],
    before: Sequence[Sequence[str]],
    planned: Mapping[Cell, str],
    running: Collection[str] = (),
    unreadable: Mapping[str, int] = MappingProxyType({}),
) -> list[Missing]:
    """The cells without a run that counts tonight; of a device without any, the device.

    `runs` has a row a run of the suite, `before` the sessions of each night before that are looked back to, `running`
    the sessions that are still being carried out, `unreadable` how many runs of a session cannot be read.
    """
    last_seen = _last_seen(runs, before)
    here = runs[runs["session"].isin(list(tonight))]
    counted = set(_cells(here[here["counts"].astype(bool)]))
    attempts: dict[Cell, list[tuple[str, str]]] = defaultdict(list)
    for device, cell, status, reasons in _texts(here, "device", "cell", "status", "reasons"):
        attempts[device, cell].append((status, reasons))
    lost: dict[Cell, str] = {}
    for key, session in planned.items():
        if key not in counted:
            why = _of_attempts(attempts.get(key, ()), session, running=session in running)
            broken = unreadable.get(session, 0)
            lost[key] = f"{why}; or it is among the {broken} runs of the night that cannot be read" if broken else why
    for key, night in last_seen.items():
        if key not in counted and key not in lost:
            why = _of_attempts(attempts[key], "") if key in attempts else "not planned"
            lost[key] = f"{why}; it was last there in night {night}"
    return _by_device(lost, counted)


def missing_metrics(
    frame: pd.DataFrame, nights: Sequence[Sequence[str]], metrics: Collection[str] | None, history: int
) -> list[Missing]:
    """The metrics that a cell had in `SEEN` of its nights up to the last, and has not tonight although its runs count.

    `frame` is the suite's index. They are missed for `history` nights, whatever else changed with them: a meter that
    is unplugged changes the fingerprint of energy too. Nights in which no run of the cell counts say nothing.
    """
    number = {session: at for at, sessions in enumerate(nights) for session in sessions}
    tonight = len(nights) - 1
    session = frame["session"].cat
    night_of = np.array([number.get(name, -1) for name in session.categories], dtype=np.int64)[session.codes]
    wanted = frame["counts"].to_numpy(dtype=bool) & (night_of >= max(tonight - history - SEEN, 0))
    recent = frame[wanted].assign(night=night_of[wanted])
    of_cell: dict[Cell, set[int]] = defaultdict(set)
    for device, cell, night in _plain(recent, "device", "cell", "night"):
        of_cell[device, cell].add(night)
    valued = recent[recent["value"].notna()]
    valued = valued if metrics is None else valued[valued["metric"].isin(list(metrics))]
    had: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for device, cell, metric, night in _plain(valued, "device", "cell", "metric", "night"):
        had[device, cell, metric].add(night)
    gone: dict[tuple[str, str, str], int] = {}
    for key, seen in had.items():
        there, last = of_cell[key[:2]], max(seen)
        up_to_last = sorted(night for night in there if night <= last)[-SEEN:]
        if tonight in there and tonight - history <= last < tonight and len(up_to_last) == SEEN:
            gone |= {key: last} if seen.issuperset(up_to_last) else {}
    reasons = _reasons(recent[recent["night"] == tonight], {metric for _, _, metric in gone})
    return [
        Missing(*key, f"{_usual(reasons[key])}; it was last there in night {nights[last][0]}")
        for key, last in sorted(gone.items())
    ]


def runs_without_value(
    runs: pd.DataFrame, tonight: Sequence[str], planned: Collection[tuple[str, str, str, int]]
) -> list[str]:
    """Of each device whose cells are there, how many of tonight's planned runs count for nothing, and in which cells.

    `planned` has a session, device, cell and block for each.
    """
    here = runs[runs["session"].isin(list(tonight)) & runs["counts"].astype(bool)]
    words = _texts(here, "session", "device", "cell")
    counted = {(*key, block) for key, block in zip(words, here["block"].tolist(), strict=True)}
    there = {slot[:3] for slot in counted}
    of_device: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for slot in planned:
        if slot[:3] in there:
            of_device[slot[1]].append((slot[2], slot in counted))
    told = []
    for device, each in sorted(of_device.items()):
        lacking = [cell for cell, counts in each if not counts]
        if lacking:
            cells = listed(sorted(set(lacking)))
            told.append(f"{device}: {len(lacking)} of {len(each)} planned runs have no usable value tonight ({cells})")
    return told


def _reasons(tonight: pd.DataFrame, metrics: Collection[str]) -> Mapping[tuple[str, str, str], Counter[str]]:
    """Why runs have no value, by device, cell and metric."""
    reasons: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    gaps = tonight[tonight["metric"].isin(list(metrics)) & tonight["reason"].notna()]
    for device, cell, metric, reason in _texts(gaps, "device", "cell", "metric", "reason"):
        reasons[device, cell, metric][reason] += 1
    return reasons


def _plain(frame: pd.DataFrame, *columns: str) -> Iterable[tuple[Any, ...]]:
    """Each combination of the columns once, whole numbers as such."""
    once = frame[list(columns)].drop_duplicates()
    words = once.drop(columns="night").astype(str)
    return zip(*(words[name] for name in words), once["night"].tolist(), strict=True)


def cells_that_count(runs: pd.DataFrame, sessions: Sequence[str]) -> set[Cell]:
    """The devices and cells with a run that counts in one of the sessions."""
    return set(_cells(runs[runs["session"].isin(list(sessions)) & runs["counts"].astype(bool)]))


def _usual(reasons: Counter[str]) -> str:
    return reasons.most_common(1)[0][0] if reasons else "its runs do not have it"


def _last_seen(runs: pd.DataFrame, before: Sequence[Sequence[str]]) -> dict[Cell, str]:
    found: dict[Cell, str] = {}
    for night in before:
        for key in cells_that_count(runs, night):
            found[key] = night[0]
    return found


def _cells(runs: pd.DataFrame) -> Iterable[Cell]:
    return ((device, cell) for device, cell in _texts(runs.drop_duplicates(["device", "cell"]), "device", "cell"))


def _texts(frame: pd.DataFrame, *columns: str) -> Iterable[tuple[str, ...]]:
    return zip(*(frame[column].astype(str) for column in columns), strict=True)


def _of_attempts(attempts: Sequence[tuple[str, str]], session: str, *, running: bool = False) -> str:
    """Why a cell that was planned has nothing."""
    if not attempts and running:
        return f"no run was begun yet: session {session} is still being carried out"
    if not attempts:
        return f"no run was begun: the device could not be reached, or melt was stopped ('--resume {session}' goes on)"
    told = Counter(
        f"{'invalid' if status == 'ok' else status}: {reasons or 'no reason'}" for status, reasons in attempts
    )
    return "; ".join(f"{what} ({number} of {len(attempts)} runs)" for what, number in told.most_common())


def _by_device(lost: Mapping[Cell, str], counted: set[Cell]) -> list[Missing]:
    alive = {device for device, _ in counted}
    whole: dict[str, list[str]] = defaultdict(list)
    found = []
    for (device, cell), why in sorted(lost.items()):
        if device in alive:
            found.append(Missing(device, cell, None, why))
        else:
            whole[device].append(why)
    devices = [Missing(device, None, None, _usual(Counter(whys))) for device, whys in whole.items()]
    return [*devices, *found]
