"""From files to cells: which workload with which parameters on which device, and in what order."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from melt.engines import ENGINES
from melt.errors import UsageError, nearest
from melt.files import (
    Lab,
    Suite,
    Workload,
    check_assignments,
    flatten,
    load_workload,
    resolve,
)
from melt.files.reader import first_problem, read_text
from melt.files.settings import Settings
from melt.store import CellRecord, Slot, digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from melt.records import Resolved

MOST_RUNS = 100_000


@dataclass(frozen=True)
class Cell:
    """A workload with its parameters on one device."""

    id: str
    workload: Workload
    file: Path
    device: str
    resolved: Mapping[str, Resolved]

    @property
    def record(self) -> CellRecord:
        return CellRecord(id=self.id, workload=self.workload.name, device=self.device, resolved=self.resolved)

    def setting(self, key: str) -> Any:
        return self.resolved[key].value


@dataclass(frozen=True)
class Plan:
    """A suite spelled out. `order` is that of each device's worker, block by block."""

    suite: Suite
    cells: tuple[Cell, ...]
    order: tuple[Slot, ...]
    sources: Mapping[str, str]

    @property
    def sha256(self) -> str:
        return digest_of(self.sources)

    @property
    def devices(self) -> list[str]:
        return list(dict.fromkeys(cell.device for cell in self.cells))


def make_plan(suite: Suite, file: Path, lab: Lab, names: tuple[str, ...], assignments: Mapping[str, Any]) -> Plan:
    """Spells out a suite for the devices `names`, or for those the suite chooses, or for the lab's usual ones.

    `assignments` are the command line's. Raises UsageError for whatever a person can correct in the files.
    """
    chosen = lab.choose(names, ()) if names else lab.choose(suite.devices.names, suite.devices.tags) or list(lab.usual)
    above = _checked(assignments, "--set")
    for key in above:
        if key in suite.sweep:
            raise UsageError(f"--set {key}: {file} sweeps that key: change its 'sweep' instead")
    if math.prod(map(len, suite.sweep.values())) * len(suite.workloads) * len(chosen) > MOST_RUNS:
        raise UsageError(f"{file}: that would be more than {MOST_RUNS} runs: make the sweep smaller")
    points = [(point, _checked(point, f"{file}: sweep")) for point in _points(suite)]
    profiles = {device: lab.profile(lab.device(device)) for device in chosen}
    below = {device: flatten(profile) for device, profile in profiles.items()}
    cells: list[Cell] = []
    sources = {file.name: read_text(file)}
    sources |= {f"profile {profile.name}": profile.model_dump_json() for profile in profiles.values()}
    for reference in suite.workloads:
        workload, path = load_workload(reference, file.parent)
        if workload.engine not in ENGINES:
            raise UsageError(f"{path}: there is no engine '{workload.engine}': {nearest(workload.engine, ENGINES)}")
        sources[path.name if path.name not in sources else reference] = read_text(path)
        for device, (point, values) in itertools.product(chosen, points):
            spec = lab.device(device)
            layers = [
                (f"profile {spec.profile}", below[device]),
                (f"workload {workload.name}", {**flatten(workload), **workload.asked()}),
                (f"lab device {device}", flatten(spec)),
                (f"suite {suite.name}", {**flatten(suite), **values}),
                ("command line", above),
            ]
            cells.append(Cell(_cell_id(workload.name, point), workload, path, device, resolve(layers)))
    if len({(cell.device, cell.id) for cell in cells}) != len(cells):
        raise UsageError(f"{file}: 'workloads' or 'sweep' names the same cell twice: leave one out")
    workloads = sorted({cell.workload.name for cell in cells})
    for name in suite.canary:
        if name not in workloads:
            raise UsageError(f"{file}: canary '{name}' is no workload of this suite: {nearest(name, workloads)}")
    for cell in cells:
        least_s = cell.setting("protocol.warmup_s") + cell.setting("protocol.min_s")
        if cell.setting("limits.wall_s") <= least_s:
            raise UsageError(
                f"{file}: {cell.id}: limits.wall_s is {cell.setting('limits.wall_s'):g} s, and warm-up and measurement "
                f"alone take {least_s:g} s (protocol.warmup_s + min_s): raise the one or lower the others"
            )
    runs = sum(cell.setting("protocol.runs") for cell in cells)
    if runs > MOST_RUNS:
        raise UsageError(f"{file}: that would be {runs} runs, more than {MOST_RUNS}: make the sweep smaller")
    return Plan(suite, tuple(cells), _order(cells), sources)


def _checked(assignments: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    try:
        return check_assignments(assignments)
    except ValidationError as error:
        raise UsageError(f"{where}: {first_problem(error, Settings)}") from None


def _points(suite: Suite) -> list[dict[str, Any]]:
    """Every combination of the sweep's values, the last key varying fastest."""
    return [dict(zip(suite.sweep, values, strict=True)) for values in itertools.product(*suite.sweep.values())]


def _cell_id(workload: str, point: Mapping[str, Any]) -> str:
    """`mobilenetv3` or `mobilenetv3[threads=2,spin=False]`."""
    words = ",".join(f"{key.removeprefix('params.')}={value}" for key, value in point.items())
    return f"{workload}[{words}]" if words else workload


def _order(cells: list[Cell]) -> tuple[Slot, ...]:
    """Blocks that each hold every cell of the device once, in a seeded random order of its own."""
    slots: list[Slot] = []
    for device in dict.fromkeys(cell.device for cell in cells):
        mine = [cell for cell in cells if cell.device == device]
        for block in range(max(cell.setting("protocol.runs") for cell in mine)):
            here = [cell for cell in mine if cell.setting("protocol.runs") > block]
            seed = here[0].setting("protocol.seed")
            random.Random(f"{seed}/{device}/{block}").shuffle(here)  # noqa: S311 - an order, not a secret
            slots += [Slot(device=device, block=block, cell=cell.id) for cell in here]
    return tuple(slots)
