"""Which runs make the figures, and what becomes of every other one: nothing is dropped silently.

A planned run (suite, session, device, cell, block) counts once: the newest record that is not `skipped`. The runs of a
cell are pooled only when the hard part of their fingerprints is the same; otherwise they are rows of their own.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.report.escape import one_line
from melt.store import SessionRecord, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.records import RunRecord
    from melt.store import StoredRun, Unreadable

_SHOWN_KEYS = 2
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

    @property
    def devices(self) -> list[str]:
        return list(dict.fromkeys(cell.device for cell in self.cells))

    @property
    def suites(self) -> list[str]:
        return list(dict.fromkeys(cell.suite for cell in self.cells))

    def on(self, device: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.device == device]

    @property
    def used(self) -> list[StoredRun]:
        return [run for cell in self.cells for run in cell.used]

    @property
    def runs(self) -> list[StoredRun]:
        """Every run that stands in a cell."""
        return [run for cell in self.cells for run in cell.runs]


def select(runs: Sequence[StoredRun], unreadable: Sequence[Unreadable] = ()) -> Selection:
    """Sorts the runs; reads the plan, session.json, that lies beside each run folder."""
    plans, notes = _plans(runs, unreadable)
    kept, retried, superseded = _one_a_slot(runs)
    planned = _planned(plans)
    cells = []
    for key in _order(kept, plans):
        mine = [run for run in kept if _key(run.record) == key]
        known = bool(plans) and all((r.record.suite.name, r.record.session) in plans for r in mine)
        cells += _variants(key, mine, planned.get(key, (0, ""))[0] if known else None, planned.get(key, (0, ""))[1])
    by_device = list(dict.fromkeys(cell.device for cell in cells))
    cells.sort(key=lambda cell: by_device.index(cell.device))
    return Selection(tuple(cells), tuple(retried), tuple(superseded), tuple(unreadable), tuple(notes))


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


def _planned(plans: Mapping[tuple[str, str], SessionRecord]) -> dict[Key, tuple[int, str]]:
    """How many runs of each cell were planned, and its workload."""
    counts: dict[Key, int] = defaultdict(int)
    workloads: dict[Key, str] = {}
    for plan in plans.values():
        workloads.update({(plan.suite.name, cell.device, cell.id): cell.workload for cell in plan.cells})
        for slot in plan.order:
            counts[plan.suite.name, slot.device, slot.cell] += 1
    return {key: (count, workloads.get(key, key[2])) for key, count in counts.items()}


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


def _variants(key: Key, mine: Sequence[StoredRun], planned: int | None, workload: str) -> list[Cell]:
    suite, device, name = key
    base = Cell(suite, device, name, mine[0].record.workload if mine else workload, planned=planned)
    groups: dict[str, list[StoredRun]] = {}
    for run in mine:
        if run.record.usable:
            groups.setdefault(_hard(run.record), []).append(run)
    rest = [run for run in mine if not run.record.usable]
    if len(groups) <= 1:
        used = next(iter(groups.values()), [])
        return [_filled(base, used, rest)]
    told = _difference([found[0].record for found in groups.values()])
    cells = []
    for index, used in enumerate(groups.values()):
        last = index == len(groups) - 1
        sessions = {run.record.session for run in used}
        own = [run for run in rest if last or run.record.session in sessions]
        rest = [run for run in rest if run not in own]
        cells.append(replace(_filled(base, used, own), variant=told[index]))
    if planned is not None:  # what never started cannot be told apart: it stands in the last row
        for index, cell in enumerate(cells[:-1]):
            cells[index] = replace(cell, planned=len(cell.runs))
        cells[-1] = replace(cells[-1], planned=planned - sum(len(cell.runs) for cell in cells[:-1]))
    return cells


def _filled(base: Cell, used: Sequence[StoredRun], rest: Sequence[StoredRun]) -> Cell:
    return replace(
        base,
        used=tuple(used),
        invalid=tuple(run for run in rest if run.record.status != "skipped"),
        skipped=tuple(run for run in rest if run.record.status == "skipped"),
    )


def _hard(record: RunRecord) -> str:
    told = [dict(record.fingerprint.hard), record.synthetic_model, record.simulated, record.metric_version]
    return json.dumps(told, sort_keys=True, default=str)


def _difference(records: Sequence[RunRecord]) -> list[str]:
    """What sets each of some unlike records apart, in a few words."""
    keys = list(dict.fromkeys(key for record in records for key in record.fingerprint.hard))
    unlike = [k for k in keys if len({json.dumps(r.fingerprint.hard.get(k), default=str) for r in records}) > 1]
    told = []
    for number, record in enumerate(records, 1):
        words = [f"{key} {one_line(record.fingerprint.hard.get(key), 20)}" for key in unlike[:_SHOWN_KEYS]]
        more = f" and {len(unlike) - _SHOWN_KEYS} more" if len(unlike) > _SHOWN_KEYS else ""
        told.append(f"{', '.join(words)}{more}" if words else f"variant {number}")
    return told if len(set(told)) == len(told) else [f"{text}, variant {i}" for i, text in enumerate(told, 1)]
