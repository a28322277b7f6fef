"""Which sessions of a suite are one night, and in what order: by the host's clock, or the device's where that lies."""

from __future__ import annotations

import calendar
import re
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

NIGHT_S = 12 * 3600.0
"""A session that begins so long after the first one of a night begins another."""
NAMED = 5
"""So many nights or sessions are named in a sentence; of more, how many they are."""

_STAMP = re.compile(r"(\d{8}T\d{6})Z")

Times = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Order:
    """When runs were, in seconds since 1970 and in the order of the rows that they were found for; and the nights.

    `nights` holds the sessions of each night of each suite, both oldest first. `clock_notes` say of a suite's device
    that the host's clock went back, and whose place in the order that changed.
    """

    times_s: Times
    nights: Mapping[str, tuple[tuple[str, ...], ...]]
    clock_notes: Mapping[tuple[str, str], str]


def order_of(runs: pd.DataFrame, planned: Mapping[str, Collection[str]]) -> Order:
    """Orders runs, a row each with the index's columns; `planned` names each suite's sessions, also without a run."""
    stamps_s = _seconds(runs["started_utc"])
    suites, sessions = runs["suite"].astype(str).to_numpy(), runs["session"].astype(str).to_numpy()
    for at in np.flatnonzero(np.isnan(stamps_s)):
        stamps_s[at] = stamp_s(sessions[at])
    moved_s, notes = _moved(runs, stamps_s, suites, sessions)
    times_s = stamps_s + moved_s
    begins: dict[str, dict[str, float]] = defaultdict(dict)
    table = pd.DataFrame({"suite": suites, "session": sessions, "time": times_s})
    first = table.groupby(["suite", "session"], sort=False, as_index=False)["time"].min()
    for suite, session, begin in zip(first["suite"], first["session"], first["time"], strict=True):
        begins[suite][session] = begin
    for suite, names in planned.items():
        for name in names:
            if name not in begins[suite] and not np.isnan(stamp_s(name)):
                begins[suite][name] = stamp_s(name)
    return Order(times_s, {suite: _nights(begun) for suite, begun in begins.items()}, notes)


def stamp_s(session: str) -> float:
    """The seconds since 1970 that a session's name says it began at; NaN for another name."""
    found = _STAMP.match(session)
    try:
        return float(calendar.timegm(time.strptime(found[1], "%Y%m%dT%H%M%S"))) if found else np.nan
    except ValueError:
        return np.nan


def listed(names: Sequence[str]) -> str:
    """Some names as a sentence has them, at most `NAMED`: the last ones, which are the nearest."""
    more = f" and {len(names) - NAMED} before these" if len(names) > NAMED else ""
    return ", ".join(names[-NAMED:]) + more


def _seconds(started: pd.Series) -> Times:
    """Seconds since 1970; NaN where there is no stamp."""
    known = pd.to_datetime(started, utc=True)
    whole = known.astype("datetime64[ms, UTC]").astype("int64").to_numpy() / 1000.0
    return np.where(known.isna().to_numpy(), np.nan, whole)


def _nights(begins: Mapping[str, float]) -> tuple[tuple[str, ...], ...]:
    nights: list[list[str]] = []
    first_s = -np.inf
    for session in sorted(begins, key=lambda name: (np.nan_to_num(begins[name], nan=-np.inf), name)):
        if nights and begins[session] - first_s < NIGHT_S:
            nights[-1].append(session)
        else:
            nights.append([session])
            first_s = begins[session]
    return tuple(map(tuple, nights))


def _moved(
    runs: pd.DataFrame, stamps_s: Times, suites: np.ndarray, sessions: np.ndarray
) -> tuple[Times, dict[tuple[str, str], str]]:
    """By how much each run's stamp is wrong: 0 unless runs of one start of a device contradict it.

    There the clock that counts from the device's start is right about what lay between two runs. Which of the host's
    stamps is right is not known: what most sessions of that start agree on, and of two halves the later.
    """
    table = pd.DataFrame(
        {
            "suite": suites,
            "session": sessions,
            "device": runs["device"].astype(str).to_numpy(),
            "boot": runs["boot_id"].astype(object).to_numpy(),
            "boottime": runs["boottime_s"].to_numpy(dtype=np.float64),
            "stamp": stamps_s,
        }
    )
    of_boot = ["suite", "device", "boot"]
    known = table[table["boot"].notna() & table["boottime"].notna() & table["stamp"].notna()]
    known = known.sort_values([*of_boot, "boottime"], kind="stable")
    back = known.groupby(of_boot, sort=False)["stamp"].diff() < 0
    moved = np.zeros(len(table))
    notes: dict[tuple[str, str], str] = {}
    if not back.any():
        return moved, notes
    wrong = known.set_index(of_boot, append=True).reset_index(level=0, names="at")
    wrong = wrong.loc[list(known.loc[back, of_boot].drop_duplicates().itertuples(index=False, name=None))]
    by_session: dict[tuple[str, str], list[float]] = defaultdict(list)
    told: dict[tuple[str, str], set[str]] = defaultdict(set)
    own: list[tuple[Times, Times]] = []
    for _, mine in wrong.reset_index().groupby(of_boot, sort=False):
        suite, device = str(mine["suite"].iloc[0]), str(mine["device"].iloc[0])
        offset_s = mine["stamp"].to_numpy() - mine["boottime"].to_numpy()
        of_session = pd.Series(offset_s).groupby(mine["session"].to_numpy()).median()
        shift_s = float(np.quantile(of_session.to_numpy(), 0.5, method="higher")) - offset_s
        own.append((mine["at"].to_numpy(), shift_s))
        for session, one_s in zip(mine["session"], shift_s, strict=True):
            by_session[suite, session].append(float(one_s))
            if abs(one_s) > 1:
                told[suite, device].add(session)
    for (suite, session), shifts in by_session.items():
        moved[(suites == suite) & (sessions == session)] = float(np.median(shifts))
    for at, shift_s in own:  # what is known of a run itself is better than what is known of its session
        moved[at] = shift_s
    for (suite, device), names in told.items():
        notes[suite, device] = (
            f"the host's clock went back while {device} ran on: its own clock orders session "
            f"{listed(sorted(names))}, whose stamps are wrong"
        )
    return moved, notes
