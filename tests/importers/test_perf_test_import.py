"""onnxruntime_perf_test's files as runs: what it printed is read where it lies beside the table."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from samples import ENGINES

from melt.engines.adapters import ADAPTERS, Printed
from melt.importers import IMPORTERS, gather
from melt.importers.perf_test import PerfTest

if TYPE_CHECKING:
    from pathlib import Path

TABLE, PRINTED = ENGINES / "perf-test.csv", ENGINES / "perf-test.stdout"


def test_figures_are_those_of_the_engine_command() -> None:
    (run,) = PerfTest().read(TABLE).runs
    told = ADAPTERS["onnxruntime-perf-test"].parse(Printed(stdout=PRINTED.read_bytes(), result=TABLE.read_bytes()))
    values = {name: metric.value for name, metric in told.metrics.items()}
    assert {name: metric.value for name, metric in run.metrics.items()} == values
    assert values["load_s"] == pytest.approx(0.0428736)
    assert set(run.raw) == {"perf-test.csv", "perf-test.stdout"}
    assert run.workload == "blobs"
    assert run.device is None
    assert run.fingerprint.hard["engine"] == "onnxruntime"
    assert run.fingerprint.hard["engine_version"] is run.fingerprint.hard["threads"] is None
    assert "neither its version nor its threads" in run.caveats[0]


def test_without_what_it_printed_the_load_is_not_told(tmp_path: Path) -> None:
    shutil.copy(TABLE, tmp_path / "alone.csv")
    (run,) = PerfTest().read(tmp_path / "alone.csv").runs
    assert run.metrics["latency_p50_s"].value is not None
    assert run.metrics["load_s"].reason == "not_told: onnxruntime_perf_test did not tell"


def test_a_log_of_something_else_and_a_link_are_not_taken(tmp_path: Path) -> None:
    shutil.copy(TABLE, tmp_path / "x.csv")
    (tmp_path / "x.log").write_text("nothing to see\n")
    (tmp_path / "x.stdout").symlink_to(PRINTED)
    (run,) = PerfTest().read(tmp_path / "x.csv").runs
    assert set(run.raw) == {"perf-test.csv"}


def test_a_table_and_what_was_printed_are_one_run(tmp_path: Path) -> None:
    shutil.copy(TABLE, tmp_path / "a.csv")
    shutil.copy(ENGINES / "perf-test-verbose.stdout", tmp_path / "a.stdout")
    found = gather(tmp_path, IMPORTERS)
    assert len(found.runs) == 1
    assert not found.unknown


@pytest.mark.parametrize("wrong", ["nan", "-0.5", "fast"])
def test_a_line_that_is_none_makes_a_failed_run(tmp_path: Path, wrong: str) -> None:
    lines = TABLE.read_text().splitlines(keepends=True)
    lines[50] = lines[50].replace(lines[50].split(",")[1], wrong)
    path = tmp_path / "odd.csv"
    path.write_text("".join(lines))
    found = PerfTest().read(path)
    assert found.runs[0].status == "failed"
    assert found.problems[0].startswith("odd.csv: ")
    assert found.runs[0].reasons[0].detail == found.problems[0]
