"""Level changes of a series of nights: how often one is found that is not there, and how surely one that is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from melt.analysis.gate import Step, steps

REPEATS = 40
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def medians(rng: np.random.Generator, changes: Floats) -> list[float]:
    """Night medians of 5 runs, 2 % between runs and 1 % between nights, after changes as shares."""
    days = np.log1p(changes) + rng.normal(0, 0.01, changes.size)
    medians: list[float] = (20 * np.exp(np.median(days[:, None] + rng.normal(0, 0.02, (changes.size, 5)), 1))).tolist()
    return medians


def late(number: int, at: int, change: float) -> Floats:
    return np.where(np.arange(number) >= at, change, 0.0)


@pytest.mark.parametrize("number", [14, 30, 60, 100])
def test_a_stationary_series_has_no_step(number: int) -> None:
    rng = np.random.default_rng((81_000, number))
    assert np.mean([bool(steps(medians(rng, np.zeros(number)))) for _ in range(100)]) <= 0.05


@pytest.mark.parametrize("number", [14, 40])
def test_a_wild_stationary_series_has_no_more_steps_than_chance_gives(number: int) -> None:
    """Noise of 10 % with heavy tails, where 3 % is no threshold."""
    rng = np.random.default_rng((82_000, number))
    found = [bool(steps((20 * np.exp(0.1 * rng.standard_t(3, number))).tolist())) for _ in range(200)]
    assert np.mean(found) <= 0.05


@pytest.mark.parametrize(("change", "power"), [(0.05, 0.75), (0.08, 0.95), (0.15, 0.99), (-0.15, 0.99)])
@pytest.mark.parametrize("number", [14, 30, 100])
def test_a_step_is_found_within_a_night(number: int, change: float, power: float) -> None:
    rng = np.random.default_rng((83_000, number, round(abs(change) * 100)))
    hits = []
    for _ in range(REPEATS):
        at = int(rng.integers(5, number - 4))
        hits.append(any(abs(step.at - at) <= 1 for step in steps(medians(rng, late(number, at, change)))))
    assert np.mean(hits) >= power - 3 * math.sqrt(power * (1 - power) / REPEATS)


def test_the_night_and_the_size_of_a_clear_step_are_told() -> None:
    rng = np.random.default_rng(84_000)
    (step,) = steps(medians(rng, late(40, 25, 0.15)))
    assert step.at == 25
    assert step.change == pytest.approx(0.15, abs=0.02)
    (step,) = steps(medians(rng, late(40, 25, -0.15)))
    assert (step.at, step.change) == (25, pytest.approx(-0.15, abs=0.02))


def test_what_came_and_went_is_two_steps() -> None:
    rng = np.random.default_rng(85_000)
    changes = late(60, 30, 0.08) - late(60, 36, 0.08)
    hits = 0
    for _ in range(40):
        found = steps(medians(rng, changes))
        hits += [abs(step.at - at) <= 1 for step, at in zip(found, (30, 36), strict=False)] == [True, True]
    assert hits >= 34


def test_several_levels_are_each_found() -> None:
    rng = np.random.default_rng(86_000)
    found = steps(medians(rng, late(80, 20, 0.1) + late(80, 45, 0.1) - late(80, 60, 0.3)))
    assert [step.at for step in found] == [20, 45, 60]


def test_one_wild_night_is_no_step() -> None:
    rng = np.random.default_rng(87_000)
    for at in (0, 7, 13):
        values = medians(rng, np.zeros(14))
        values[at] *= 1.5
        assert steps(values) == ()


def test_a_small_change_is_no_step_however_sure() -> None:
    assert steps([100.0, 100.1] * 10 + [102.0, 102.1] * 10) == ()
    assert [step.at for step in steps([100.0, 100.1] * 10 + [104.0, 104.1] * 10)] == [20]


def test_a_night_without_a_value_keeps_its_place() -> None:
    values = [100.0 + i % 3 for i in range(30)] + [120.0 + i % 3 for i in range(10)]
    values[4] = values[20] = math.nan
    assert [step.at for step in steps(values)] == [30]


def test_few_or_equal_or_no_nights_have_none() -> None:
    assert steps([]) == ()
    assert steps([1.0] * 4 + [2.0] * 5) == ()
    assert steps([3.0] * 50) == ()
    assert steps([math.nan] * 50) == ()


def test_values_that_are_not_positive_have_steps_as_shares_of_the_level() -> None:
    found = steps([-10.0 + i % 2 for i in range(20)] + [10.0 + i % 2 for i in range(20)])
    assert found == (Step(20, pytest.approx(20 / 9.5)),)
    (step,) = steps([0.0] * 20 + [4.0, 5.0] * 10)
    assert (step.at, step.change) == (20, math.inf)


def test_the_same_series_has_the_same_steps() -> None:
    values = medians(np.random.default_rng(88_000), late(50, 30, 0.045))
    assert len({steps(values) for _ in range(3)}) == 1
