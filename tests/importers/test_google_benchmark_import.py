"""Google Benchmark's files as runs: one a benchmark, its repetitions inside, statistics computed anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from samples import GOOGLE_BENCHMARK, changed

from melt.importers.google_benchmark import GoogleBenchmark

if TYPE_CHECKING:
    from pathlib import Path

WHOLE, SINGLE, AGGREGATES = GOOGLE_BENCHMARK


def times(name: str) -> np.ndarray[Any, Any]:
    """The repetitions of a benchmark in s."""
    entries = json.loads(WHOLE.read_text())["benchmarks"]
    mine = [one for one in entries if one["run_name"] == name and one["run_type"] == "iteration"]
    return np.array([one["real_time"] for one in mine]) * 1e-6


def test_a_file_is_one_run_of_each_benchmark() -> None:
    small, large, broken = GoogleBenchmark().read(WHOLE).runs
    assert [run.workload for run in (small, large, broken)] == ["bm_sort-256", "bm_sort-1024", "bm_broken"]
    mean = small.metrics["latency_mean_s"]
    assert mean.value == pytest.approx(times("BM_Sort/256").mean())
    assert mean.n == 12
    assert small.metrics["latency_p50_s"].value == pytest.approx(np.median(times("BM_Sort/256")))
    assert "mean of 3969 calls" in str(small.metrics["latency_p50_s"].note)
    assert str(small.metrics["latency_p99_s"].reason).startswith("means_only")
    assert small.metrics["cpu_per_call_s"].value == pytest.approx(7e-6, rel=0.2)
    assert small.metrics["items_per_s"].value == pytest.approx(3.6e7, rel=0.2)
    assert small.engine["counters"] == {"size": [256.0] * 12}
    assert small.device == "bench-host"
    assert small.fingerprint.hard["workload"] == "BM_Sort/256"
    assert small.fingerprint.hard["threads"] == 1
    assert small.fingerprint.hard["library_build_type"] == "release"
    assert small.started_utc == "2026-11-21T21:14:59Z"
    assert all(run.note.corrections == () for run in (small, large, broken))


def test_no_frequency_is_in_the_fingerprint() -> None:
    for run in GoogleBenchmark().read(WHOLE).runs:
        assert not any("mhz" in key for key in (*run.fingerprint.hard, *run.fingerprint.soft))


def test_a_benchmark_that_ended_with_an_error_is_a_failed_run() -> None:
    broken = GoogleBenchmark().read(WHOLE).runs[2]
    assert broken.status == "failed"
    assert broken.reasons[0].detail == "the benchmark ended with an error: the file was not there"
    assert all(metric.value is None for metric in broken.metrics.values())


def test_one_repetition_has_a_mean_and_no_median() -> None:
    run = GoogleBenchmark().read(SINGLE).runs[0]
    assert run.metrics["latency_mean_s"].n == 1
    assert str(run.metrics["latency_p50_s"].reason).startswith("too_few_samples")


def test_statistics_alone_are_refused_by_name() -> None:
    (run,) = GoogleBenchmark().read(AGGREGATES).runs
    assert set(run.note.refused) == {"mean", "median", "stddev", "cv"}
    assert str(run.metrics["latency_p50_s"].reason).startswith("not_told: the file has no repetitions")


def test_a_statistic_that_the_repetitions_contradict_is_listed(tmp_path: Path) -> None:
    entries = json.loads(WHOLE.read_text())["benchmarks"]
    at = next(i for i, one in enumerate(entries) if one["name"] == "BM_Sort/256_median")
    path = changed(WHOLE, tmp_path / "wrong.json", "benchmarks", at, "real_time", to=1.5)
    (correction,) = GoogleBenchmark().read(path).runs[0].note.corrections
    assert (
        correction
        == f"median of real_time: 1.5 stated, {np.median(times('BM_Sort/256')) * 1e6:.6g} from the repetitions"
    )


def test_units_are_turned_to_seconds_and_calls_weigh_the_mean(tmp_path: Path) -> None:
    path = tmp_path / "units.json"
    one = {"name": "BM_X", "run_type": "iteration", "time_unit": "ms", "cpu_time": 1.0}
    two = [{**one, "iterations": 100, "real_time": 2.0}, {**one, "iterations": 300, "real_time": 4.0}]
    path.write_text(json.dumps({"context": {"num_cpus": 4}, "benchmarks": two}))
    (run,) = GoogleBenchmark().read(path).runs
    assert run.metrics["latency_mean_s"].value == pytest.approx(3.5e-3)
    assert "mean of 100 to 300 calls" in str(run.metrics["latency_mean_s"].note)
    assert run.device is None
    assert run.started_utc is None


@pytest.mark.parametrize(
    ("key", "to", "told"),
    [
        ("real_time", -1.0, "real_time[0] is -1.0"),
        ("real_time", float("nan"), "real_time[0] is nan"),
        ("real_time", None, "real_time[0] is None"),
        ("real_time", 1e300, "real_time[0] is 1e+300"),
        ("time_unit", "weeks", "time_unit is to be one of ns, us, ms, s"),
        ("iterations", -4, "iterations is to be a count above 0"),
    ],
)
def test_a_benchmark_with_a_time_that_is_none_is_told_and_the_others_are_read(
    tmp_path: Path, key: str, to: Any, told: str
) -> None:
    found = GoogleBenchmark().read(changed(WHOLE, tmp_path / "odd.json", "benchmarks", 0, key, to=to))
    assert [run.workload for run in found.runs] == ["bm_sort-1024", "bm_broken"]
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"odd.json: BM_Sort/256: {told}")


def test_scaling_and_a_debug_library_are_caveats(tmp_path: Path) -> None:
    path = changed(SINGLE, tmp_path / "a.json", "context", "cpu_scaling_enabled", to=True)
    path = changed(path, tmp_path / "b.json", "context", "library_build_type", to="debug")
    run = GoogleBenchmark().read(path).runs[0]
    assert ["scaling" in run.caveats[0], "debug" in run.caveats[1]] == [True, True]


def test_files_before_run_type_know_their_statistics_by_name(tmp_path: Path) -> None:
    path = tmp_path / "2017.json"
    names = ("BM_X", "BM_X", "BM_X_mean", "BM_X_stddev")
    entries = [{"name": name, "iterations": 10, "real_time": 5, "cpu_time": 5, "time_unit": "ns"} for name in names]
    context = {"date": "2015/03/17-18:40:25", "num_cpus": 40, "mhz_per_cpu": 2801, "cpu_scaling_enabled": False}
    path.write_text(json.dumps({"context": context, "benchmarks": entries}))
    (run,) = GoogleBenchmark().read(path).runs
    assert run.metrics["latency_mean_s"].n == 2
    assert run.started_utc is None
    assert run.note.corrections == (
        "stddev of real_time: 5 stated, 0 from the repetitions",
        "stddev of cpu_time: 5 stated, 0 from the repetitions",
    )
