"""What is shown of a series of nights: each night with its interval, the nights without a value, and the steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.analysis.gate import steps
from melt.analysis.summary import summarise
from melt.errors import UsageError, nearest
from melt.history.nights import nights, series

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from melt.analysis.gate import Night, Step
    from melt.analysis.summary import Summary
    from melt.history.index import Index
    from melt.history.nights import Series


@dataclass(frozen=True)
class NightShown:
    """A night of a series; `summary` is that of the runs of its first session, on which it stands."""

    night: Night
    summary: Summary
    step: Step | None
    """The change of level that begins here."""

    @property
    def name(self) -> str:
        return self.night.name

    @property
    def values(self) -> tuple[float, ...]:
        return self.night.sessions[0].values

    @property
    def rerun_values(self) -> tuple[float, ...]:
        return tuple(value for one in self.night.sessions[1:] for value in one.values)

    @property
    def median(self) -> float:
        assert self.summary.median is not None  # noqa: S101 - a night of a series has a value
        return self.summary.median


@dataclass(frozen=True)
class Slot:
    """A place on the axis of nights: `shown` is None where a night gave no value."""

    name: str
    shown: NightShown | None


@dataclass(frozen=True)
class History:
    """A series as it is shown, oldest night first."""

    series: Series
    slots: tuple[Slot, ...]
    simulated: bool = False
    imported: tuple[str, ...] = ()
    """The tools whose results are among them."""

    def heading(self, among: Sequence[History]) -> str:
        """Device and cell, and the suite where there are several of them."""
        suite = f"{self.series.suite}: " if len({one.series.suite for one in among}) > 1 else ""
        return f"{suite}{self.series.device}  {self.series.cell}"

    @property
    def nights(self) -> tuple[NightShown, ...]:
        return tuple(slot.shown for slot in self.slots if slot.shown is not None)

    @property
    def lacking(self) -> tuple[str, ...]:
        """The nights without a value."""
        return tuple(slot.name for slot in self.slots if slot.shown is None)

    @property
    def steps(self) -> tuple[NightShown, ...]:
        """The nights in which a new level began."""
        return tuple(one for one in self.nights if one.step is not None)

    @property
    def tags(self) -> tuple[str, ...]:
        """What has to stand beside every figure of it."""
        simulated = ("SIMULATED",) if self.simulated else ()
        return (*simulated, *(f"imported from {tool}" for tool in self.imported))

    @property
    def levels(self) -> tuple[tuple[int, int, float], ...]:
        """Each level as the slots of its first and last night, and its median; none without a step."""
        at = [i for i, slot in enumerate(self.slots) if slot.shown is not None]
        begins = [i for i in at if (shown := self.slots[i].shown) is not None and shown.step is not None]
        if not begins:
            return ()
        found = []
        for begin, end in zip([at[0], *begins], [*begins, at[-1] + 1], strict=True):
            mine = [i for i in at if begin <= i < end]
            medians = sorted(shown.median for i in mine if (shown := self.slots[i].shown) is not None)
            half = len(medians) // 2
            found.append((mine[0], mine[-1], (medians[half] + medians[-half - 1]) / 2))
        return tuple(found)


def metric_named(word: str, known: Collection[str]) -> str:
    """The metric that a word means: its name, or one that differs by "_per" alone. Raises UsageError."""
    if word in known:
        return word
    near = [name for name in known if _short(name) == _short(word)]
    if len(near) == 1:
        return near[0]
    one_of = f"it may be {' or '.join(sorted(near))}" if near else nearest(word, known)
    raise UsageError(f"no run here has a value of the metric '{word}': {one_of}")


def _short(name: str) -> str:
    return name.replace("_per", "")


def metrics_of(index: Index) -> set[str]:
    """The metrics that a run which counts has a value of."""
    frame = index.frame
    there = frame["counts"].to_numpy(dtype=bool) & frame["value"].notna().to_numpy()
    return {str(name) for name in frame.loc[there, "metric"].dropna().unique()}


def histories(
    index: Index,
    metric: str,
    *,
    device: str | None = None,
    cell: str | None = None,
    varying: frozenset[str] = frozenset(),
) -> list[History]:
    """The history of a metric on each device and in each cell, of one alone where it is named. Raises UsageError.

    A workload's name stands for all of its cells, unless it is that of one. A change of a key `varying` ends no series.
    """
    found = series(index, metrics=[metric_named(metric, metrics_of(index))], varying=varying)
    found = _only(found, "device", device, lambda one: (one.device,))
    whole = any(one.cell == cell for one in found)
    found = _only(found, "cell", cell, lambda one: (one.cell,) if whole else (one.cell, one.workload))
    of_suite = nights(index)
    return [_shown(one, index, of_suite.get(one.suite, ())) for one in found]


def _only(found: list[Series], what: str, word: str | None, names: Callable[[Series], tuple[str, ...]]) -> list[Series]:
    if word is None:
        return found
    kept = [one for one in found if word in names(one)]
    if not kept:
        valid = {name for one in found for name in names(one) if name}
        raise UsageError(f"no series of '{found[0].metric}' has the {what} '{word}': {nearest(word, valid)}")
    return kept


def _shown(one: Series, index: Index, of_suite: Sequence[Sequence[str]]) -> History:
    frame = index.frame
    sessions = {session.session for night in one.nights for session in night.sessions}
    mine = (frame["suite"] == one.suite) & (frame["device"] == one.device) & (frame["cell"] == one.cell)
    runs = frame[mine & frame["session"].isin(list(sessions)) & frame["counts"].to_numpy(dtype=bool)]
    tools = sorted({str(tool) for tool in runs["imported"].dropna().unique()})
    return history_of(one, of_suite, simulated=bool(runs["simulated"].fillna(value=False).any()), imported=tuple(tools))


def history_of(
    one: Series, of_suite: Sequence[Sequence[str]] = (), *, simulated: bool = False, imported: tuple[str, ...] = ()
) -> History:
    """A series as it is shown, among the nights of its suite (the sessions of each)."""
    medians = [summarise(night.sessions[0].values) for night in one.nights]
    found = {step.at: step for step in steps([math.nan if s.median is None else s.median for s in medians])}
    shown = [NightShown(night, of, found.get(i)) for i, (night, of) in enumerate(zip(one.nights, medians, strict=True))]
    places = {session.session: of for of in shown for session in of.night.sessions}
    slots: list[Slot] = []
    for sessions in of_suite:
        here = next((places[name] for name in sessions if name in places), None)
        if here is not None or slots:
            slots.append(Slot(sessions[0] if here is None else here.name, here))
    if sum(slot.shown is not None for slot in slots) != len(shown):  # nights that the suite does not know
        slots = [Slot(of.name, of) for of in shown]
    return History(one, tuple(slots), simulated, imported)
