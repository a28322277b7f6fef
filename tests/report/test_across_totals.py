"""Energy of different totals is never made one mean across the runs of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from made_runs import Made, session_of, store

from melt.records import Metric, gap
from melt.report.across import across
from melt.report.select import Cell, select
from melt.store import StoredRun, read_runs

if TYPE_CHECKING:
    from pathlib import Path

MODULE = (
    "boundary module, provenance measured, updates of power integrated: a.power + b.power; refresh 0.1 s, lag known"
)
SOC = (
    "boundary soc, provenance counter, counter differenced: rapl.package-0.energy; refresh 0.001 s, lag not calibrated"
)


def cell_of(root: Path, metrics: list[dict[str, Metric]]) -> Cell:
    """A cell whose runs have these metrics beside the usual ones."""
    session = session_of(root, [Made(block=block, measured_s=0.3) for block in range(len(metrics))])
    for block in range(len(metrics)):
        store(session, Made(block=block, measured_s=0.3), block)
    (cell,) = select(read_runs(root)[0]).cells
    used = tuple(
        StoredRun(
            run.path, run.record.model_copy(update={"metrics": {**run.record.metrics, **metrics[run.record.block]}})
        )
        for run in cell.used
    )
    return Cell(cell.suite, cell.device, cell.cell, cell.workload, used=used)


def energy(joules: float, note: str) -> dict[str, Metric]:
    return {"energy_j": Metric(value=joules, note=note, error=1.0)}


def test_a_module_and_a_soc_have_no_mean(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, [energy(100, MODULE), energy(10, SOC), {"energy_j": gap("no_sensor: none")}])
    found = across(cell, "energy_j")
    first, second, third = (run.record.run_id for run in cell.used)
    said = (
        f"other_total: run {first} tells of the module by a.power + b.power, run {second} tells of the soc by "
        "rapl.package-0.energy; figures of different totals have no mean"
    )
    assert found.why_missing is not None
    assert found.why_missing.startswith(said)
    assert (found.summary.centre, found.values, found.error_share) == (None, {}, None)
    assert found.gaps == {first: said, second: said, third: "no_sensor: none"}
    assert len(across(cell, "latency_p50_s").values) == 3


def test_conversions_and_other_channels_of_one_boundary_are_told_apart_too(tmp_path: Path) -> None:
    other = MODULE.replace("a.power + b.power", "vdd_in.power")
    of = [{"energy_mwh": Metric(value=1.0, note=f"energy_j in other units: {note}")} for note in (MODULE, other)]
    assert "other_total" in str(across(cell_of(tmp_path, of), "energy_mwh").why_missing)


def test_one_total_with_another_refresh_or_order_is_one_total(tmp_path: Path) -> None:
    other = MODULE.replace("refresh 0.1 s", "refresh 0.2 s").replace("a.power + b.power", "b.power + a.power")
    found = across(cell_of(tmp_path, [energy(100, MODULE), energy(110, other)]), "energy_j")
    assert found.summary.centre == pytest.approx(104.88, abs=0.01)
    assert found.why_missing is None


def test_a_figure_whose_note_names_no_total_is_no_figure_of_another_runs_total(tmp_path: Path) -> None:
    cell = cell_of(tmp_path, [energy(100, MODULE), {"energy_j": Metric(value=10)}])
    assert "a total that its note does not name" in str(across(cell, "energy_j").why_missing)
