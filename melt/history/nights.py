"""Series of nights: one metric of one cell on one device, a value a run, as far back as the runs are alike.

What was changed on purpose or behind somebody's back ends a series: it begins where the change did, and a note says
which key, from what to what, and since which night. Nothing is left out without a note.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from melt.analysis.fingerprint import KEYS, differences
from melt.analysis.gate import Night, SessionValues
from melt.history.order import Order, listed, order_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pandas as pd

    from melt.history.index import Index

SAME_HARDWARE = ("soc", "soc_model", "device_model")
"""Soft keys by which a device of the same name is another one."""

_NONE: Mapping[str, Collection[str]] = MappingProxyType({})
_RUN = ["suite", "folder"]
_CELL = ["suite", "device", "cell"]
_OF_METRIC = ["total", "metric_version"]
_MARKS = ["hard", "soft", "imported", "simulated"]
_OF_ENERGY = frozenset(key.name for key in KEYS.values() if key.scope == "energy")
"""Where one of these changed, only the series of energy begin anew."""

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Truths = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Series:
    """One metric of one cell on one device, by nights, oldest first; none of them is without a value."""

    device: str
    cell: str
    metric: str
    unit: str
    total: str | None
    """What a figure of energy is of."""
    nights: tuple[Night, ...]
    notes: tuple[str, ...]
    """Nights without a value, a clock that went back, and why the series does not reach further back."""
    suite: str = ""
    workload: str = ""
    cut: str | None = None
    """The note of `notes` that says what changed, where the series does not reach back to the first night."""


def series(
    index: Index,
    *,
    metrics: Collection[str] | None = None,
    varying: frozenset[str] = frozenset(),
    planned: Mapping[str, Collection[str]] = _NONE,
) -> list[Series]:
    """Every series of an index with a value, by suite, device, cell and metric; only `metrics`, if they are given.

    A night is the sessions that begin less than 12 h after its first; those of `planned`, by suite, count where they
    left no run. Runs that count give a value each. A series reaches back to the last change of the device, of a hard
    key that is not in `varying`, of the metric's version or of what an energy is of.
    """
    return [one for one in _Table(index.frame, planned, varying).series(metrics) if one.nights]


def nights(index: Index, planned: Mapping[str, Collection[str]] = _NONE) -> Mapping[str, tuple[tuple[str, ...], ...]]:
    """The sessions of each night of each suite, both oldest first."""
    runs = index.frame.drop_duplicates(_RUN)
    return order_of(runs, planned).nights


class _About(NamedTuple):
    """What a row says of its series."""

    suite: str | None
    device: str | None
    cell: str | None
    workload: str | None
    metric: str | None
    unit: str | None
    total: str | None
    metric_version: str | None


@dataclass(frozen=True)
class _Alike:
    """Which runs belong to their cell's series and, by the number of a cell, why it does not reach further back."""

    kept: Truths
    cuts: Mapping[int, str]


@dataclass
class _Table:
    """The index as arrays: a number for each run, and what is known of it by that number."""

    frame: pd.DataFrame
    planned: Mapping[str, Collection[str]]
    varying: frozenset[str]
    run_of: Ints = field(init=False)
    runs: pd.DataFrame = field(init=False)
    order: Order = field(init=False)
    general: _Alike = field(init=False)
    energy: _Alike = field(init=False)

    def __post_init__(self) -> None:
        self.run_of = _numbers(self.frame, _RUN)
        _, first = np.unique(self.run_of, return_index=True)
        self.runs = self.frame.iloc[first]
        self.order = order_of(self.runs, self.planned)
        places = {
            (suite, session): (night, place)
            for suite, of_suite in self.order.nights.items()
            for night, sessions in enumerate(of_suite)
            for place, session in enumerate(sessions)
        }
        self.sessions = self.runs["session"].astype(str).to_numpy()
        suites = self.runs["suite"].astype(str).to_numpy()
        at = np.array([places[key] for key in zip(suites, self.sessions, strict=True)], dtype=np.int64).reshape(-1, 2)
        self.night, self.place = at[:, 0], at[:, 1]
        self.cell = _numbers(self.runs, _CELL)
        self.marks = [_texts(self.runs[mark]) for mark in _MARKS]
        self.general, self.energy = self._alike(self.varying | _OF_ENERGY), self._alike(self.varying)
        self.boots = self._boots()

    def _alike(self, varying: frozenset[str]) -> _Alike:
        """Which runs are alike to the last one of their cell, and after every one that is not."""
        alike = _numbers(self.runs, _MARKS)
        counts = self.runs["counts"].to_numpy(dtype=bool)
        at = np.flatnonzero(counts)
        at = at[np.lexsort((self.order.times_s[at], self.place[at], self.night[at], self.cell[at]))]
        kept, cuts = np.zeros(len(counts), dtype=bool), {}
        for mine in np.split(at, np.flatnonzero(np.diff(self.cell[at])) + 1):
            if not len(mine):
                continue
            last = mine[-1]
            unlike = [i for i in np.flatnonzero(alike[mine] != alike[last]) if self._changes(mine[i], last, varying)]
            begin = unlike[-1] + 1 if unlike else 0
            kept[mine[begin:]] = True
            if unlike:
                changes = self._changes(mine[begin - 1], last, varying)
                began = self._name(mine[begin])
                cuts[int(self.cell[last])] = f"the series begins in night {began}, when {'; '.join(changes)}"
        return _Alike(kept, cuts)

    def _changes(self, old: int, new: int, varying: frozenset[str]) -> tuple[str, ...]:
        """What a run differs by from another, of what must be the same."""
        a, b = (tuple(mark[at] for mark in self.marks) for at in (old, new))
        return _changed(a, b, varying)

    def _name(self, run: int) -> str:
        return str(self.sessions[run])

    def _boots(self) -> dict[tuple[str, str, str], frozenset[str]]:
        """The starts of a device that a session saw, by suite, device and session."""
        of = self.runs[["suite", "device", "session", "boot_id"]].astype(object).drop_duplicates()
        found: dict[tuple[str, str, str], set[str]] = {}
        for suite, device, session, boot in of.itertuples(index=False, name=None):
            known = found.setdefault((suite, device, session), set())
            if isinstance(boot, str):
                known.add(boot)
        return {key: frozenset(boots) for key, boots in found.items()}

    def series(self, metrics: Collection[str] | None) -> list[Series]:
        """Every series, by name."""
        frame = self.frame
        energy = frame["total"].notna().to_numpy()
        kept = np.where(energy, self.energy.kept[self.run_of], self.general.kept[self.run_of])
        wanted = kept & frame["value"].notna().to_numpy() & frame["metric"].notna().to_numpy()
        if metrics is not None:
            wanted &= frame["metric"].isin(list(metrics)).to_numpy()
        rows = np.flatnonzero(wanted)
        if not len(rows):
            return []
        run = self.run_of[rows]
        part = frame.iloc[rows]
        metric = _numbers(part, ["metric"])
        sort = np.lexsort((self.order.times_s[run], self.place[run], self.night[run], metric, self.cell[run]))
        rows, run, part = rows[sort], run[sort], part.iloc[sort]
        number = self.cell[run] * (int(metric.max()) + 1) + metric[sort]
        unlike = _numbers(part, _OF_METRIC)
        values = part["value"].to_numpy(dtype=np.float64)
        ends = np.concatenate([np.flatnonzero(np.diff(number)), [len(number) - 1]])
        lasts = _abouts(part.iloc[ends])
        found = []
        for begin, end, about in zip([0, *(ends[:-1] + 1).tolist()], (ends + 1).tolist(), lasts, strict=True):
            cut = (self.general if about.total is None else self.energy).cuts.get(int(self.cell[run[begin]]))
            other = np.flatnonzero(unlike[begin:end] != unlike[end - 1])
            at = begin
            if len(other):
                at = begin + int(other[-1]) + 1
                (old,) = _abouts(part.iloc[at - 1 : at])
                cut = f"the series begins in night {self._name(run[at])}, when {_other_version(old, about)}"
            found.append(self._one(about, run[at:end], values[at:end].tolist(), cut))
        return sorted(found, key=lambda one: (one.suite, one.device, one.cell, one.metric, one.total or ""))

    def _one(self, about: _About, run: Ints, values: list[float], cut: str | None) -> Series:
        """The series of some runs, in order, and the value of each."""
        suite, device = about.suite or "", about.device or ""
        notes = [note for note in (cut, self.order.clock_notes.get((suite, device))) if note]
        here = set(self.night[run].tolist())
        lacking = [night for night in range(min(here), len(self.order.nights[suite])) if night not in here]
        if lacking:
            names = [self.order.nights[suite][night][0] for night in lacking]
            notes.append(f"no usable value in night {listed(names)}")
        return Series(
            device=device,
            cell=about.cell or "",
            metric=about.metric or "",
            unit=about.unit or "",
            total=about.total,
            nights=self._nights(suite, device, run, values),
            notes=tuple(notes),
            suite=suite,
            workload=about.workload or "",
            cut=cut,
        )

    def _nights(self, suite: str, device: str, run: Ints, values: list[float]) -> tuple[Night, ...]:
        """The values by night and session; a session is independent where it is its night's first, or after a boot."""
        night = self.night[run]
        new = (np.diff(night) != 0) | (np.diff(self.place[run]) != 0)
        bounds = [0, *(np.flatnonzero(new) + 1).tolist(), len(run)]
        by_night: dict[int, list[SessionValues]] = {}
        for begin, end in pairwise(bounds):
            session = self._name(run[begin])
            earlier = by_night.setdefault(int(night[begin]), [])
            own = True
            if earlier:
                boots = self.boots[suite, device, session]
                seen = [self.boots[suite, device, one.session] for one in earlier]
                # of a boot that nobody knows, nobody knows either whether it is another
                own = bool(boots) and all(seen) and not any(boots & before for before in seen)
            earlier.append(SessionValues(session, tuple(values[begin:end]), independent=own))
        return tuple(Night(tuple(sessions)) for sessions in by_night.values())


def _numbers(frame: pd.DataFrame, keys: list[str]) -> Ints:
    """A number for each row, the same where the keys are; what is missing is a value as any other."""
    groups = frame.groupby(keys, observed=True, sort=False, dropna=False)
    return np.array(groups.ngroup(), dtype=np.int64)


def _abouts(rows: pd.DataFrame) -> list[_About]:
    words = [_texts(rows[name]) for name in _About._fields]
    return [_About(*told) for told in zip(*words, strict=True)]


def _texts(column: pd.Series) -> list[str | None]:
    """A column as text; a whole number that had to become a float beside missing ones is whole again."""
    known = column.astype("Int64") if column.dtype.kind == "f" else column
    gaps = known.isna().tolist()
    return [None if gap else str(value) for value, gap in zip(known.astype(object), gaps, strict=True)]


@lru_cache(maxsize=4096)
def _changed(old: tuple[str | None, ...], new: tuple[str | None, ...], varying: frozenset[str]) -> tuple[str, ...]:
    """What differs, in words; empty where the two may stand in one series."""
    (hard_a, soft_a, *marks_a), (hard_b, soft_b, *marks_b) = old, new
    found = [
        f"{one.key} changed from {_shown(one.a)} to {_shown(one.b)}"
        for one in differences(_object(hard_a), _object(hard_b), varying)
        if one.hard
    ]
    told_a, told_b = _object(soft_a), _object(soft_b)
    for key in SAME_HARDWARE:
        a, b = told_a.get(key), told_b.get(key)
        if a is not None and b is not None and a != b and key not in varying:
            found.append(f"the device became another one: {key} changed from {_shown(a)} to {_shown(b)}")
    if marks_a != marks_b and not found:
        found.append("the runs before are not of the same kind: simulated or imported")
    return tuple(found)


def _other_version(old: _About, new: _About) -> str:
    """Why a metric's earlier values are left out."""
    if old.total != new.total:
        return f"what the energy is of changed from {_shown(old.total)} to {_shown(new.total)}"
    versions = f"{old.metric_version} to {new.metric_version}"
    return f"the metric's version changed from {versions}: 'melt analyse' computes earlier runs anew"


def _object(text: str | None) -> Mapping[str, Any]:
    read = json.loads(text) if text else {}
    return read if isinstance(read, dict) else {}


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"  # noqa: PLR2004
