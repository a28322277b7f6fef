"""The figures that the statistics are held to, of simulated runs whose truth is known."""

from __future__ import annotations

import sys
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import statistics_figures as figures

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType


def test_the_intervals_of_runs_hold_the_truth_in_95_of_100_cases_at_every_number_of_runs() -> None:
    found = figures.coverages()
    assert len(found) == len(figures.RUNS)
    assert min(found) >= 0.93
    assert max(found) <= 0.97


def test_two_equal_cells_of_a_drifting_session_are_told_to_be_so_in_the_order_that_is_planned() -> None:
    assert figures.aa_coverage("blocks") >= 0.93


def test_one_after_the_other_the_drift_is_taken_for_a_difference() -> None:
    assert figures.aa_coverage("in turn", 1000) <= 0.4


def test_the_planned_order_has_both_cells_in_each_block_and_either_first(tmp_path: Path) -> None:
    blocks = figures.planned(tmp_path, 100).reshape(-1, 2)
    assert (blocks.sum(axis=1) == 1).all()
    assert blocks[:, 0].mean() == pytest.approx(0.5, abs=0.05)


def test_the_median_of_a_run_is_within_one_per_cent_of_the_steady_level_and_near_what_is_attainable() -> None:
    found = figures.kept()
    assert found.melt >= 0.9
    assert found.added >= 0.95
    assert found.melt >= found.oracle - 0.05
    # a task that needs no warm-up detection would show nothing
    assert found.nothing <= 0.85


def test_what_is_attainable_grows_with_the_number_of_samples() -> None:
    found = [figures.kept((n,), 200) for n in (64, 130, 1000)]
    assert [one.oracle for one in found] == sorted(one.oracle for one in found)
    assert found[0].oracle < 0.85
    assert found[-1].melt >= 0.98


def test_steady_series_do_not_hit_the_cap() -> None:
    assert figures.warmup_cap() <= 0.05


def test_the_transient_of_a_series_is_over_when_it_is_said_to_be() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        one = figures.series(rng, 300)
        left = np.abs(one.moving / one.steady - 1)
        assert left[one.settled :].max() <= 0.01 + 1e-9
        assert one.settled == 0 or left[one.settled - 1] >= 0.01 - 1e-9


def _calls(raw: figures.Raw) -> int:
    """How many functions of Python and of C the analysis calls."""
    count = 0

    def note(_: FrameType, what: str, __: object) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        raw.analysed()
    finally:
        sys.setprofile(before)
    return count


def _peak_bytes(raw: figures.Raw) -> int:
    tracemalloc.start()
    try:
        raw.analysed()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("kind", "samples"), [("network", 8000), ("model", 800)])
def test_ten_times_the_samples_take_ten_times_the_calls_and_the_memory_at_most(kind: str, samples: int) -> None:
    make = {"network": figures.network, "model": figures.model}[kind]
    small, large = make(samples), make(10 * samples)
    small.analysed()
    assert _calls(large) <= 11 * _calls(small)
    assert _peak_bytes(large) <= 11 * _peak_bytes(small)


def test_what_is_timed_is_a_whole_analysis() -> None:
    for raw in (figures.network(6500), figures.model(2000)):
        found = figures.metrics(raw.events, raw.trace, raw.sensors, raw.asked)
        there = {name for name, metric in found.items() if metric.value is not None}
        assert figures.judge(raw.events, raw.trace, raw.sensors, raw.asked) == ()
        assert {"latency_p50_s", "energy_j", "temperature_max_c", "engine_cpu_share", "clock_hz.clock0"} <= there
    assert "decode_tok_per_s" in there
