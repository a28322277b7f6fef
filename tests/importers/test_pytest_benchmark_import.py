"""pytest-benchmark's files as runs: figures from the rounds' times, and none from what is only stated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from samples import PYTEST_BENCHMARK, changed

from melt.importers.pytest_benchmark import PytestBenchmark

if TYPE_CHECKING:
    from pathlib import Path

WITH, WITHOUT = PYTEST_BENCHMARK
SPEED = """
def test_sum(benchmark):
    benchmark.pedantic(lambda: sum(range(100)), rounds=70, iterations=1)

def test_means(benchmark):
    benchmark.pedantic(lambda: sum(range(100)), rounds=12, iterations=5)
"""


def data_of(path: Path, at: int) -> np.ndarray[Any, Any]:
    return np.array(json.loads(path.read_text())["benchmarks"][at]["stats"]["data"])


def test_figures_are_those_of_single_calls_by_melts_own_rules() -> None:
    runs = PytestBenchmark().read(WITH).runs
    assert [run.workload for run in runs] == [
        "test_speed.test_sum-100",
        "test_speed.test_sum-10000",
        "test_speed.test_sorted",
    ]
    metrics, data = runs[1].metrics, data_of(WITH, 1)
    discarded = int(metrics["warmup_discarded"].value or 0)
    assert metrics["latency_p50_s"].value == pytest.approx(np.median(data[discarded:]))
    assert metrics["latency_p50_s"].n == 150 - discarded
    assert metrics["latency_p99_s"].value is None
    assert str(metrics["latency_p99_s"].reason).startswith("too_few_samples")
    hard = runs[1].fingerprint.hard
    assert hard["workload"] == "test_speed.py::test_sum[10000]"
    assert hard["python"] == "CPython 3.11.7"
    assert hard["machine"] == "x86_64"
    assert runs[1].fingerprint.soft["commit_branch"] == "(unknown)"
    assert runs[1].device == "bench-host"
    assert runs[1].started_utc == "2026-11-21T21:25:38.641935Z"


def test_where_a_time_is_a_mean_of_calls_there_is_no_tail() -> None:
    metrics, data = PytestBenchmark().read(WITH).runs[2].metrics, data_of(WITH, 2)
    assert metrics["latency_mean_s"].value == pytest.approx(data.mean())
    assert "mean of 40 calls" in str(metrics["latency_mean_s"].note)
    assert "mean of 40 calls" in str(metrics["latency_p50_s"].note)
    for name in ("latency_p90_s", "latency_p99_s", "latency_outliers"):
        assert str(metrics[name].reason).startswith("means_only: ")


def test_statistics_without_their_data_are_refused_by_name() -> None:
    for run in PytestBenchmark().read(WITHOUT).runs:
        assert all(metric.value is None for metric in run.metrics.values())
        assert "--benchmark-save-data" in str(run.metrics["latency_p50_s"].reason)
        assert {"stats.median", "stats.mean", "stats.stddev"} <= run.note.refused.keys()


def test_what_is_right_is_not_corrected_and_what_is_wrong_is(tmp_path: Path) -> None:
    assert [run.note.corrections for run in PytestBenchmark().read(WITH).runs] == [(), (), ()]
    path = changed(WITH, tmp_path / "wrong.json", "benchmarks", 1, "stats", "median", to=0.5)
    found = PytestBenchmark().read(path)
    (correction,) = found.runs[1].note.corrections
    assert correction.startswith("stats.median: 0.5 stated, ")
    assert found.runs[1].metrics == PytestBenchmark().read(WITH).runs[1].metrics


@pytest.mark.parametrize(
    ("keys", "to", "told"),
    [
        (("data", 3), float("nan"), "test_sum[100]: stats.data[3] is nan"),
        (("data", 0), -1e-6, "stats.data[0] is -1e-06"),
        (("data", 1), "fast", "stats.data[1] is fast"),
        (("data", 1), 1e200, "stats.data[1] is 1e+200"),
        (("data",), {}, "stats.data is {}"),
        (("iterations",), 0, "stats.iterations is 0"),
    ],
)
def test_a_benchmark_with_a_time_that_is_none_is_told_and_the_others_are_read(
    tmp_path: Path, keys: tuple[str | int, ...], to: Any, told: str
) -> None:
    path = changed(WITH, tmp_path / "odd.json", "benchmarks", 0, "stats", *keys, to=to)
    found = PytestBenchmark().read(path)
    assert len(found.runs) == 2
    assert len(found.problems) == 1
    assert found.problems[0].startswith("odd.json: benchmarks[0]: test_speed.py::test_sum[100]: ")
    assert told in found.problems[0]


def test_a_time_without_a_zone_is_no_moment_and_a_dirty_tree_is_a_caveat(tmp_path: Path) -> None:
    path = changed(WITH, tmp_path / "old.json", "datetime", to="2020-01-01T00:00:00")
    path = changed(path, tmp_path / "old.json", "commit_info", "dirty", to=True)
    run = PytestBenchmark().read(path).runs[0]
    assert run.started_utc is None
    assert run.caveats == ("the tree that was measured had uncommitted changes",)


def test_a_real_pytest_benchmark_of_now(tmp_path: Path) -> None:
    (tmp_path / "test_real_speed.py").write_text(SPEED)
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "test_real_speed.py", "--benchmark-json=out.json"]
    # a worker of xdist says so in its environment, and pytest-benchmark does not measure in one
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    argv = [sys.executable, "-m", "pytest", *words]
    subprocess.run(argv, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=120)
    path = tmp_path / "out.json"
    assert PytestBenchmark().recognises(path)
    found = PytestBenchmark().read(path)
    assert not found.problems
    single, means = found.runs
    assert single.metrics["latency_mean_s"].value == pytest.approx(
        data_of(path, 0)[int(single.metrics["warmup_discarded"].value or 0) :].mean()
    )
    assert means.metrics["latency_p50_s"].n == 12
    assert single.note.corrections == means.note.corrections == ()
