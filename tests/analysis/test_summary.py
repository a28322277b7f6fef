"""The run is the replicate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from melt.analysis.summary import summarise


@pytest.mark.parametrize("runs", [3, 5, 10])
def test_the_interval_covers_the_truth_in_95_of_100_experiments(runs: int) -> None:
    rng = np.random.default_rng(1000 + runs)
    truth, experiments = 12.0, 3000
    runs_of_all = truth * np.exp(rng.normal(0, 0.02, (experiments, runs)))
    covered = 0
    for values in runs_of_all:
        found = summarise(values.tolist())
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / experiments <= 0.97


def test_the_interval_is_student_t_on_the_logs() -> None:
    found = summarise([1.0, 2.0, 4.0])
    half = 4.302652729696142 * math.log(2) / math.sqrt(3)
    assert found.centre == pytest.approx(2.0)
    assert found.low == pytest.approx(2 * math.exp(-half))
    assert found.high == pytest.approx(2 * math.exp(half))
    assert (found.median, found.minimum, found.maximum, found.scale) == (2.0, 1.0, 4.0, "log")


def test_under_three_runs_there_is_no_interval_and_under_four_it_is_indicative() -> None:
    by_n = {n: summarise([1.0 + i / 100 for i in range(n)]) for n in (0, 1, 2, 3, 4)}
    assert [by_n[n].low is None for n in by_n] == [True, True, True, False, False]
    assert [by_n[n].indicative for n in by_n] == [True, True, True, True, False]
    assert by_n[2].why_not == "2 of 3 runs that an interval needs"
    assert by_n[2].centre == pytest.approx(math.sqrt(1.01))
    assert by_n[0].centre is None


def test_values_that_have_no_log_are_summarised_as_they_are_and_say_so() -> None:
    found = summarise([-1.0, 0.0, 1.0, 4.0])
    assert found.scale == "linear"
    assert found.centre == pytest.approx(1.0)
    assert found.low is not None
    assert found.low < 0


def test_runs_without_the_metric_are_counted_and_outliers_keep_their_place() -> None:
    found = summarise([None, 10.0, 10.1, math.nan, 9.9, 10.2, 9.8, 40.0])
    assert (found.n, found.missing) == (6, 2)
    assert found.outliers.mad == (7,)
    assert found.maximum == 40.0


def test_runs_all_alike_have_an_interval_of_no_width() -> None:
    found = summarise([2.5] * 5)
    assert (found.low, found.high) == (pytest.approx(2.5), pytest.approx(2.5))


def test_runs_in_two_groups_are_told_and_keep_their_figures() -> None:
    random = np.random.default_rng(12)
    fast, slow = (level * np.exp(random.normal(0, 0.01, 10)) for level in (1.0, 1.5))
    found = summarise([*fast, *slow])
    assert found.groups_apart == pytest.approx(0.5, abs=0.03)
    assert found.n == 20
    assert summarise(list(fast)).groups_apart is None
    assert summarise([*fast[:2], *slow[:2]]).groups_apart is None, "four values tell no groups"
