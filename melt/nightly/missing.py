"""What has no usable value tonight: planned cells, and what the nights before had; each with the reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from melt.nightly.result import Missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from melt.history.nights import Series

Cell = tuple[str, str]
"""A device and a cell."""

SEEN = 3
"""A metric is missed where the cell had it in so many nights, one after the other, up to the last."""


def missing_cells(
    runs: pd.DataFrame, tonight: Sequence[str], before: Sequence[Sequence[str]], planned: Mapping[Cell, str]
) -> list[Missing]:
    """The cells without a run that counts tonight; of a device without any, the device.

    `runs` has a row a run of the suite, `before` the sessions of each night before that are looked back to.
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
            lost[key] = _of_attempts(attempts.get(key, ()), session)
    for key, night in last_seen.items():
        if key not in counted and key not in lost:
            why = _of_attempts(attempts[key], "") if key in attempts else "not planned"
            lost[key] = f"{why}; it was last there in night {night}"
    return _by_device(lost, counted)


def missing_metrics(
    series: Iterable[Series], frame: pd.DataFrame, nights: Sequence[Sequence[str]], counted: set[Cell]
) -> list[Missing]:
    """The metrics that a cell had in each of the last nights, and has not tonight although its runs count."""
    last = [set(night) for night in nights[-SEEN - 1 : -1]]
    gone = [
        one
        for one in series
        if (one.device, one.cell) in counted
        and len(last) == SEEN
        and len(one.nights) >= SEEN
        and all(night.name in sessions for night, sessions in zip(one.nights[-SEEN:], last, strict=True))
    ]
    if not gone:
        return []
    here = frame[frame["session"].isin(list(nights[-1])) & frame["counts"].astype(bool)]
    reasons: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    names = {one.metric for one in gone}
    gaps = here[here["metric"].isin(list(names)) & here["reason"].notna()]
    for device, cell, metric, reason in _texts(gaps, "device", "cell", "metric", "reason"):
        reasons[device, cell, metric][reason] += 1
    return [
        Missing(one.device, one.cell, one.metric, _usual(reasons[one.device, one.cell, one.metric])) for one in gone
    ]


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


def _of_attempts(attempts: Sequence[tuple[str, str]], session: str) -> str:
    """Why a cell that was planned has nothing."""
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
