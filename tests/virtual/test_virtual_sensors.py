"""What a sensor makes of a truth: late, coarse, averaged, counted, or nothing at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.virtual.sensors import Fault, SensorModel, energy_at, normal

TIMES = np.arange(0.0, 20.001, 0.02)
POWER = np.where((TIMES[:-1] % 2.0) < 1.0, 5.0, 1.0)
TRUTH = np.concatenate([[0.0], np.cumsum(POWER * 0.02)])
"""A second of 5 W and a second of 1 W in turn."""


def test_an_averaging_sensor_tells_the_mean_of_the_period_before_it() -> None:
    sensor = SensorModel(refresh_s=0.5)
    assert sensor.sample([2.0, 2.5, 2.99, 3.0], TIMES, TRUTH).tolist() == pytest.approx([1.0, 5.0, 5.0, 5.0])
    one = SensorModel(refresh_s=1.0, phase_s=0.5)
    assert one.sample([2.5, 3.0, 3.49], TIMES, TRUTH).tolist() == pytest.approx([3.0, 3.0, 3.0])


def test_a_momentary_sensor_tells_what_is_now_and_a_late_one_what_was() -> None:
    now = SensorModel(refresh_s=0.25, averages=False)
    assert now.sample([2.25, 3.25], TIMES, TRUTH).tolist() == pytest.approx([5.0, 1.0])
    late = SensorModel(refresh_s=0.25, averages=False, lag_s=0.5)
    assert late.sample([2.25, 3.25], TIMES, TRUTH).tolist() == pytest.approx([1.0, 5.0])


def test_a_counter_tells_energy_and_wraps() -> None:
    counter = SensorModel(refresh_s=0.1, counts=True, quantum=0.5)
    assert counter.sample(10.0, TIMES, TRUTH) == pytest.approx(30.0)
    wraps = SensorModel(refresh_s=0.1, counts=True, wraps_at=20.0)
    assert wraps.sample([10.0, 19.999], TIMES, TRUTH).tolist() == pytest.approx([10.0, 59.9 % 20], abs=0.2)


def test_gain_offset_and_quantum_change_a_value_as_they_say() -> None:
    off = SensorModel(refresh_s=0.5, gain=1.1, offset=0.2, quantum=0.25)
    assert off.sample(2.5, TIMES, TRUTH) == pytest.approx(round((5 * 1.1 + 0.2) / 0.25) * 0.25)


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 19.0), min_size=1, max_size=50), st.integers(0, 1000))
def test_noise_belongs_to_the_value_and_not_to_the_asking(times: list[float], seed: int) -> None:
    sensor = SensorModel(noise=0.1, seed=seed)
    together = sensor.sample(times, TIMES, TRUTH)
    alone = np.array([float(sensor.sample(t, TIMES, TRUTH)) for t in times])
    assert np.array_equal(together, alone)


def test_noise_is_normal_and_differs_from_seed_to_seed() -> None:
    first, other = normal(np.arange(20000), 1), normal(np.arange(20000), 2)
    assert abs(first.mean()) < 0.03
    assert first.std() == pytest.approx(1.0, abs=0.03)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


def test_the_integral_of_what_an_averaging_sensor_tells_is_the_truth() -> None:
    sensor = SensorModel(refresh_s=0.1)
    values = sensor.sample(sensor.updates_s(0.1, 20.0), TIMES, TRUTH)
    assert values.sum() * 0.1 == pytest.approx(TRUTH[-1])


def test_a_fault_is_a_gap_for_as_long_as_it_holds() -> None:
    sensor = SensorModel(faults=(Fault("garbage", 5.0, 6.0),))
    values = sensor.sample([4.9, 5.0, 5.9, 6.0], TIMES, TRUTH)
    assert np.isnan(values).tolist() == [False, True, True, False]
    assert sensor.fault_at(5.5) == "garbage"


def test_energy_goes_straight_on_beyond_what_is_known() -> None:
    assert energy_at([-1.0, 21.0], TIMES, TRUTH).tolist() == pytest.approx([-5.0, TRUTH[-1] + 1.0])
