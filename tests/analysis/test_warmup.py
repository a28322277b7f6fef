"""Warm-up is discarded by what the series itself shows."""

from __future__ import annotations

import numpy as np
from raw_run import ar1

from melt.analysis.warmup import MIN_WINDOW, WINDOWS, warmup


def test_the_median_keeps_at_most_one_per_cent_of_bias_and_steady_series_do_not_hit_the_cap() -> None:
    rng = np.random.default_rng(20)
    small_bias = capped = 0
    series = 300
    for _ in range(series):
        n = int(rng.choice([130, 300, 1000]))
        steady = 0.01 * np.exp(ar1(rng, n, rng.uniform(0, 0.8), rng.uniform(0.01, 0.05)))
        window = max(MIN_WINDOW, n // WINDOWS)
        size = rng.uniform(0.05, 1.0) * rng.choice([1, -0.4])
        moving = steady * (1 + size * np.exp(-np.arange(n) / (rng.uniform(0.3, 3) * window)))
        head = warmup(moving).discarded
        bias = abs(np.median(moving[head:]) / np.median(steady[head:]) - 1)
        small_bias += bias <= 0.01
        capped += warmup(steady).capped
    assert small_bias / series >= 0.9
    assert capped / series <= 0.05


def test_a_steady_start_loses_only_the_windows_that_proved_it_steady() -> None:
    assert warmup(np.full(400, 0.01)).discarded == 2 * 10


def test_a_series_that_never_settles_is_capped_at_half_and_says_so() -> None:
    head = warmup(0.01 * 1.03 ** np.arange(400))
    assert (head.discarded, head.capped) == (200, True)


def test_too_few_samples_are_left_whole_and_say_that_nothing_was_tested() -> None:
    for n in (0, 1, 2, 11, 39):
        head = warmup(np.linspace(2, 1, n))
        assert (head.discarded, head.capped, head.tested) == (0, False, False)
    assert warmup(np.linspace(2, 1, 40)).tested


def test_durations_of_zero_are_not_taken_the_log_of() -> None:
    assert not warmup(np.zeros(400)).tested
