"""Which runs make the figures, and what becomes of every other one: nothing is dropped silently.

A planned run (suite, session, device, cell, block) counts once: the newest record that is not `skipped`. The runs of a
cell are pooled only when the hard part of their fingerprints is the same (`variants`); otherwise they are rows of
their own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.report.ceilings import with_shares
from melt.report.escape import one_line
from melt.report.kinds import asked_kind, kind_of
from melt.report.variants import Unstarted, variants
from melt.store import SessionRecord, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.analysis.ceiling import Ceiling
    from melt.records import RunRecord
    from melt.report.ceilings import Ceilings
    from melt.report.kinds import Kind
    from melt.store import StoredRun, Unreadable

Key = tuple[str, str, str]
"""Suite, device, cell."""


@dataclass(frozen=True)
class Cell:
    """A cell on one device: `used` makes its figures, `invalid` ran and does not, `skipped` was never run.

    `planned` is None where the session's plan is not at hand; `variant` tells apart the rows of one cell whose runs
    may not be pooled.
    """

    suite: str
    device: str
    cell: str
    workload: str
    used: tuple[StoredRun, ...] = ()
    invalid: tuple[StoredRun, ...] = ()
    skipped: tuple[StoredRun, ...] = ()
    planned: int | None = None
    variant: str = ""
    asked: Kind | None = None
    """The kind that the plan asks for, for a cell without a run."""

    @property
    def runs(self) -> tuple[StoredRun, ...]:
        return (*self.used, *self.invalid, *self.skipped)

    @property
    def records(self) -> tuple[RunRecord, ...]:
        return tuple(run.record for run in self.runs)

    @property
    def partial(self) -> int:
        return sum(run.record.verdict == "partial" for run in self.used)

    @property
    def synthetic(self) -> bool:
        return any(record.synthetic_model for record in self.records)

    @property
    def kind(self) -> Kind:
        """What its runs are; those that count know best."""
        return next(map(kind_of, self.records), self.asked or "infer")

    @property
    def generates(self) -> bool:
        """Whether it gives tokens one by one."""
        return self.kind == "generate"

    @property
    def main_metric(self) -> str:
        """What the pictures of the cell are of: the latency of an inference, or of a token."""
        return "itl_p50_s" if self.generates else "latency_p50_s"

    @property
    def unit_name(self) -> str:
        """What there are many of in a run."""
        return "gaps between tokens" if self.generates else "repetitions" if self.kind == "bench" else "inferences"

    @property
    def simulated(self) -> bool:
        return any(record.simulated for record in self.records)

    @property
    def never_started(self) -> int:
        return max(0, (self.planned or 0) - len(self.runs))

    @property
    def label(self) -> str:
        """The cell and what sets this row apart from another of the same cell."""
        return f"{self.cell} ({self.variant})" if self.variant else self.cell


@dataclass(frozen=True)
class Selection:
    """Every run that was given, each in one place."""

    cells: tuple[Cell, ...]
    retried: tuple[StoredRun, ...]
    """Skipped at first, and run later: only the later record counts."""
    superseded: tuple[StoredRun, ...]
    """Another record of a planned run that has a newer one, such as a copied folder."""
    unreadable: tuple[Unreadable, ...]
    notes: tuple[str, ...]
    """What is not known of the plans."""
    ceilings: Ceilings = field(default_factory=dict)
    """Of the devices of language models, by the id of the run that it was found for."""

    @property
    def devices(self) -> list[str]:
        return list(dict.fromkeys(cell.device for cell in self.cells))

    @property
    def suites(self) -> list[str]:
        return list(dict.fromkeys(cell.suite for cell in self.cells))

    def on(self, device: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.device == device]

    def ceiling(self, cell: Cell) -> Ceiling | None:
        """What the device of the cell can do at most, if that is known."""
        found = (self.ceilings.get(run.record.run_id) for run in cell.used)
        return next((one for one in found if one is not None), None)

    @property
    def known_ceilings(self) -> list[Ceiling]:
        """Each ceiling that a cell stands under, once."""
        found = (self.ceiling(cell) for cell in self.cells)
        return list({one.source: one for one in found if one is not None}.values())

    @property
    def used(self) -> list[StoredRun]:
        return [run for cell in self.cells for run in cell.used]

    @property
    def runs(self) -> list[StoredRun]:
        """Every run that stands in a cell."""
        return [run for cell in self.cells for run in cell.runs]


def select(runs: Sequence[StoredRun], unreadable: Sequence[Unreadable] = ()) -> Selection:
    """Sorts the runs; reads the plan, session.json, that lies beside each run folder.

    Those of language models get their share of the ceiling of their device (`ceilings`).
    """
    runs, ceilings = with_shares(runs)
    plans, notes = _plans(runs, unreadable)
    kept, retried, superseded = _one_a_slot(runs)
    of_key: dict[Key, list[StoredRun]] = defaultdict(list)
    for run in kept:
        of_key[_key(run.record)].append(run)
    cells = [cell for key in _order(kept, plans) for cell in _cells(key, of_key[key], plans)]
    by_device = list(dict.fromkeys(cell.device for cell in cells))
    cells.sort(key=lambda cell: by_device.index(cell.device))
    return Selection(tuple(cells), tuple(retried), tuple(superseded), tuple(unreadable), tuple(notes), ceilings)


def _key(record: RunRecord) -> Key:
    return record.suite.name, record.device, record.cell


def _plans(
    runs: Sequence[StoredRun], unreadable: Sequence[Unreadable]
) -> tuple[dict[tuple[str, str], SessionRecord], list[str]]:
    """The plan of each session that was given whole; of any other the runs at hand are all that is asked of it."""
    given = {run.path.resolve() for run in runs} | {one.path.resolve() for one in unreadable}
    plans: dict[tuple[str, str], SessionRecord] = {}
    notes: list[str] = []
    for folder in dict.fromkeys(run.path.resolve().parent for run in runs):
        name = one_line(folder.name)
        try:
            session = open_session(folder)
        except UsageError:
            notes.append(f"session {name}: its session.json cannot be read, so how many runs were planned is not known")
            continue
        here = {file.parent for file in folder.glob("*/run.json") if not file.parent.name.startswith(".")}
        if here <= given:
            plans[session.record.suite.name, session.record.session] = session.record
        else:
            count = len(here - given)
            notes.append(f"session {name}: {count} more of its runs lie beside those that this report was given")
    return plans, notes


def _one_a_slot(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], list[StoredRun], list[StoredRun]]:
    slots: dict[tuple[object, ...], list[StoredRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.record.run_id):
        record = run.record
        slots[(*_key(record), record.session, record.block)].append(run)
    kept: list[StoredRun] = []
    retried: list[StoredRun] = []
    superseded: list[StoredRun] = []
    for same in slots.values():
        newest = next((run for run in reversed(same) if run.record.status != "skipped"), same[-1])
        kept.append(newest)
        for run in same:
            if run is not newest:
                (retried if run.record.status == "skipped" else superseded).append(run)
    return kept, retried, superseded


def _order(kept: Sequence[StoredRun], plans: Mapping[tuple[str, str], SessionRecord]) -> list[Key]:
    """The order of the plans, in which a suite's author thought; then whatever else there is, by name."""
    planned = [(p.suite.name, c.device, c.id) for p in plans.values() for c in p.cells]
    return list(dict.fromkeys([*planned, *sorted({_key(run.record) for run in kept})]))


def _cells(key: Key, mine: Sequence[StoredRun], plans: Mapping[tuple[str, str], SessionRecord]) -> list[Cell]:
    """The rows of a cell: one, or one for each group of runs that may be pooled."""
    suite, device, name = key
    planned = _unstarted(key, mine, plans)
    known = bool(plans) and all((run.record.suite.name, run.record.session) in plans for run in mine)
    workload = mine[0].record.workload if mine else next((found for found, _ in planned), name)
    asked = next((found for _, unstarted in planned if (found := asked_kind(unstarted.resolved))), None)
    groups = variants(mine, [unstarted for _, unstarted in planned if unstarted.count] if known else [])
    return [
        Cell(
            suite,
            device,
            name,
            workload,
            used=tuple(group.used),
            invalid=tuple(run for run in group.rest if run.record.status != "skipped"),
            skipped=tuple(run for run in group.rest if run.record.status == "skipped"),
            planned=len(group.used) + len(group.rest) + group.unstarted if known else None,
            variant=group.label,
            asked=asked,
        )
        for group in groups
    ]


def _unstarted(
    key: Key, mine: Sequence[StoredRun], plans: Mapping[tuple[str, str], SessionRecord]
) -> list[tuple[str, Unstarted]]:
    """For each session that plans this cell its workload, and how many of the planned runs have no record."""
    suite, device, name = key
    found = []
    for (of_suite, session), plan in plans.items():
        for cell in plan.cells:
            if (of_suite, cell.device, cell.id) == (suite, device, name):
                here = {run.record.block for run in mine if run.record.session == session}
                slots = {slot.block for slot in plan.order if (slot.device, slot.cell) == (device, name)}
                found.append((cell.workload, Unstarted(session, cell.resolved, len(slots - here))))
    return found
