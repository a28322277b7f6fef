"""A percentile is given only where the samples carry it."""

from __future__ import annotations

import numpy as np
import pytest
from raw_run import ar1

from melt.analysis.percentiles import MINIMUM, effective_number, outliers, percentiles


@pytest.mark.parametrize(("percentile", "least"), MINIMUM.items())
def test_each_percentile_needs_its_minimum_and_no_more(percentile: float, least: int) -> None:
    enough = np.random.default_rng(3).permutation(least).astype(float)
    assert effective_number(enough, percentile) == least
    found = percentiles(enough)[percentile]
    assert found.value == pytest.approx(np.percentile(enough, percentile))
    assert found.n == least
    one_less = percentiles(enough[:-1])[percentile]
    assert one_less.value is None
    assert one_less.reason is not None
    assert one_less.reason == (
        f"too_few_samples: p{percentile:g} needs {least} independent samples, the run has {least - 1}"
    )


def test_correlated_samples_count_for_fewer_and_the_gap_says_for_how_many() -> None:
    series = ar1(np.random.default_rng(4), 200, 0.8, 1.0)
    found = percentiles(series)
    assert found[95].value is None
    assert "200 samples count for" in str(found[95].reason)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6, 0.8])
def test_the_effective_number_of_the_median_is_near_its_theory(correlation: float) -> None:
    rng = np.random.default_rng(5)
    # of a normal series, "above the median" correlates by 2/π · asin of what the series correlates by
    truth = 1 / (1 + 4 / np.pi * np.arcsin(correlation ** np.arange(1, 100)).sum())
    found = [effective_number(ar1(rng, 4000, correlation, 1.0), 50) / 4000 for _ in range(20)]
    assert np.median(found) == pytest.approx(truth, rel=0.15)


@pytest.mark.parametrize(("percentile", "least"), MINIMUM.items())
def test_independent_samples_are_seldom_taken_for_correlated_ones(percentile: float, least: int) -> None:
    rng = np.random.default_rng(6)
    whole = [effective_number(rng.normal(size=least), percentile) == least for _ in range(400)]
    assert np.mean(whole) >= 0.98


def test_a_slow_stretch_takes_away_the_percentiles_that_it_decides_and_no_others() -> None:
    series = np.random.default_rng(7).normal(1.0, 0.01, 1000)
    series[:120] += 1.0
    found = percentiles(series)
    assert found[50].value == pytest.approx(1.0, abs=0.01)
    assert found[90].value is None
    assert found[95].value is None


def test_one_spike_does_not_hide_correlation() -> None:
    series = ar1(np.random.default_rng(7), 1000, 0.8, 1.0)
    series[500] = 1000.0
    assert effective_number(series, 50) < 300


def test_degenerate_series_have_a_number_too() -> None:
    assert [effective_number(np.full(n, 2.0), 50) for n in (0, 1, 2, 50)] == [0, 1, 2, 50]
    assert all(metric.value is None for metric in percentiles(np.array([])).values())


def test_outliers_are_named_by_both_rules() -> None:
    values = np.array([10.0, 10.1, 9.9, 10.0, 10.2, 9.8, 10.1, 10.7, 9.9, 30.0])
    found = outliers(values)
    assert found.tukey == (7, 9)
    assert found.mad == (9,)


def test_values_all_alike_but_one_have_no_mad_outlier() -> None:
    found = outliers(np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.1]))
    assert found.mad == ()
    assert found.tukey == (5,)


def test_the_median_is_given_however_correlated_and_says_how_few_it_stands_on() -> None:
    noise = ar1(np.random.default_rng(5), 800, 0.0, 0.01)
    slow = np.tile(np.repeat([3.4, 3.9], 200), 2) + noise
    assert effective_number(slow, 50) < MINIMUM[50]
    assert percentiles(slow)[50].value is not None
    assert "800 samples count for 7 independent ones" in str(percentiles(slow)[50].note)
    assert percentiles(slow[:10])[50].value is None


def test_the_tails_keep_to_independent_samples() -> None:
    noise = ar1(np.random.default_rng(5), 800, 0.0, 0.01)
    stretches = np.repeat([3.4, 3.6, 3.4, 3.7, 3.4, 3.9, 3.4, 3.5], 100) + noise
    assert percentiles(stretches)[90].value is None
