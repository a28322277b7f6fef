"""Two modes are found where the number of values carries it, and noise is no second mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from melt.analysis.two_modes import LEAST, MOST, two_modes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Noise = Callable[[np.random.Generator, tuple[int, int]], Floats]


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.normal(0, 0.02, shape)


def wide(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """The logs of log-normal values."""
    return rng.normal(0, 0.3, shape)


def with_outliers(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return normal(rng, shape) + (rng.random(shape) < 0.05) * rng.uniform(0.1, 1.0, shape)


def heavy(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return 0.02 * rng.standard_t(3, shape)


def even(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return rng.uniform(0, 0.05, shape)


def drifting(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return normal(rng, shape) + np.linspace(0, 0.05, shape[1])


def rounded(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    return np.round(rng.normal(0, 1, shape))


def found(values: Floats) -> float:
    return float(np.mean([two_modes(row).found for row in values]))


@pytest.mark.parametrize("n", [5, 7, 8, 10, 14, 20, 40, 100])
@pytest.mark.parametrize(
    ("noise", "at_most"),
    [
        (normal, 0.02),
        (wide, 0.02),
        (with_outliers, 0.02),
        (heavy, 0.02),
        (drifting, 0.02),
        (rounded, 0.02),
        (even, 0.05),
    ],
)
def test_noise_of_one_mode_is_seldom_taken_for_two(noise: Noise, at_most: float, n: int) -> None:
    assert found(noise(np.random.default_rng(40 + n), (1500, n))) <= at_most


@pytest.mark.parametrize(
    ("n", "apart", "at_least"),
    [
        (10, 0.3, 0.8),
        (20, 0.3, 0.95),
        (20, 0.1, 0.35),
        (100, 0.1, 0.95),
        (1000, 0.1, 1.0),
        (10, 0.5, 0.8),
        (5, 0.5, 0.45),
    ],
)
def test_two_modes_are_found_where_the_docs_say_so(n: int, apart: float, at_least: float) -> None:
    rng = np.random.default_rng(50 + n)
    shape = (400 if n <= 100 else 50, n)
    assert found(normal(rng, shape) + np.log1p(apart) * (rng.random(shape) < 0.5)) >= at_least


def test_outliers_do_not_hide_two_modes() -> None:
    rng = np.random.default_rng(60)
    assert found(with_outliers(rng, (300, 100)) + 0.3 * (rng.random((300, 100)) < 0.5)) >= 0.95


def test_where_the_groups_are_and_how_large() -> None:
    rng = np.random.default_rng(61)
    values = np.concatenate((rng.normal(1, 0.01, 30), rng.normal(2, 0.01, 10)))
    rng.shuffle(values)
    modes = two_modes(values)
    assert modes.found
    assert modes.apart == pytest.approx(1, abs=0.02)
    assert modes.upper == pytest.approx(0.25)


def test_the_order_the_sign_and_the_scale_of_values_do_not_matter() -> None:
    values = np.random.default_rng(62).normal(0, 0.01, 20) + np.tile([0.0, 0.4], 10)
    first = two_modes(values)
    assert first.found
    assert two_modes(values[::-1]) == first
    assert two_modes(list(values)) == first
    assert two_modes(-values).apart == pytest.approx(first.apart)
    assert two_modes(1e6 * values + 5e6).apart == pytest.approx(1e6 * first.apart)


def test_too_few_or_equal_values_are_not_tested() -> None:
    assert not two_modes(np.array([1.0, 1.0, 9.0, 9.1][: LEAST - 1])).tested
    assert not two_modes(np.full(50, 3.0)).tested
    assert two_modes(np.arange(5.0)).tested


def test_values_that_all_are_one_of_two_tell_nothing_from_rounding() -> None:
    assert not two_modes(np.tile([1.0, 2.0], 10)).found


def test_of_many_samples_so_many_as_are_tested_speak_for_all() -> None:
    rng = np.random.default_rng(63)
    samples = rng.normal(0, 0.02, 100 * MOST)
    assert not two_modes(samples).found
    modes = two_modes(samples + 0.3 * (rng.random(samples.size) < 0.4))
    assert modes.found
    assert modes.apart == pytest.approx(0.3, abs=0.01)
    assert modes.upper == pytest.approx(0.4, abs=0.01)
