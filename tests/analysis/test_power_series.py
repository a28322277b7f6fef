"""A channel becomes a curve of energy: what a register held, averaged, delayed and wrapped is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from raw_run import BOOT, S, note

from melt.analysis.power_series import Curve, curve
from melt.analysis.trace import Series, Trace
from melt.analysis.uncertainty import error_j, paused_s
from melt.virtual.sensors import SensorModel

if TYPE_CHECKING:
    from melt.analysis.events import Float64s as Floats

PERIOD_S = 0.05


def curve_of(t_s: Floats, v: Floats, quantity: str = "power", **more: Any) -> Curve:
    series = Series(BOOT + np.rint(t_s * S).astype(np.int64), np.asarray(v, dtype=np.float64))
    found = curve(Trace({"a": series}, {"a": note(quantity, period_s=PERIOD_S, **more)}), "a")
    assert found is not None
    return found


def at(begin_s: float, end_s: float) -> tuple[int, int]:
    return BOOT + round(begin_s * S), BOOT + round(end_s * S)


def pulses(model: SensorModel, **told: Any) -> tuple[Curve, list[tuple[float, float]]]:
    """Eight pulses from 2 to 10 W of 1 s each, 3.3 s apart, as a sensor shows them; and when they were."""
    begins = [(2.5 + 3.3137 * i, 3.5 + 3.3137 * i) for i in range(8)]
    edges = np.array([0.0, *(x for pulse in begins for x in pulse), 40.0])
    power = np.array([2.0, 10.0] * 8 + [2.0])
    joules = np.concatenate(([0.0], np.cumsum(np.diff(edges) * power)))
    t = np.arange(0.0, 40.0, PERIOD_S)
    response = {"refresh_s": model.refresh_s, "averages": model.averages, "lag_s": model.lag_s, **told}
    return curve_of(t, model.sample(t, edges, joules), response=response), begins


def mean_error(model: SensorModel, **told: Any) -> float:
    errors = []
    for phase_s in np.linspace(0, 0.9 * model.refresh_s, 7):
        found, windows = pulses(
            SensorModel(model.refresh_s, model.averages, lag_s=model.lag_s, phase_s=phase_s), **told
        )
        errors += [abs(found.spent(at(*window)) / 10.0 - 1) for window in windows]
    return float(np.mean(errors))


def test_a_mean_belongs_to_the_middle_of_its_interval() -> None:
    """Pulses of ten refresh periods: naively polled they are 7.7 % off, as updates 5.2 %, moved back 4.4 %."""
    sensor = SensorModel(refresh_s=0.1)
    assert mean_error(sensor) < 0.048
    assert mean_error(sensor, averages=False) > 0.050


def test_a_lag_is_moved_back() -> None:
    late = SensorModel(refresh_s=0.1, lag_s=0.4)
    assert mean_error(late) == pytest.approx(mean_error(SensorModel(refresh_s=0.1)), abs=0.003)
    assert mean_error(late, lag_s=0.0) > 0.2


def test_polls_of_a_held_register_are_reduced_to_its_updates() -> None:
    t = np.arange(0.0, 20.0, PERIOD_S)
    held = np.where(np.floor((t + 1e-9) / 0.5) % 2 == 0, 4.0, 8.0)
    found = curve_of(t, held, response={"refresh_s": 0.5, "averages": True})
    assert np.allclose(np.diff(found.power.t) / S, 0.5, atol=1e-6)
    assert found.spent(at(5, 15)) == pytest.approx(60, rel=1e-3)


def test_a_steady_phase_that_repeats_its_value_has_updates_all_the_same() -> None:
    """Or else the line from the last change to the next one would slope through the whole phase."""
    t = np.arange(0.0, 20.0, PERIOD_S)
    found = curve_of(t, np.where(t < 15, 2.0, 10.0), response={"refresh_s": 1.0, "averages": True})
    assert found.spent(at(2, 12)) == pytest.approx(20)
    assert len(found.power) == pytest.approx(20, abs=2)


def test_what_nobody_read_is_a_pause_and_no_held_value() -> None:
    t = np.arange(0.0, 60.0, PERIOD_S)
    t = t[(t < 20) | (t > 32)]
    told = {"refresh_s": 1.0, "averages": True}
    power = curve_of(t, np.where(t < 25, 2.0, 10.0), response=told)
    assert paused_s(power, [at(10, 50)]) == pytest.approx(12, abs=1.1)
    whole = curve_of(
        np.arange(0.0, 60.0, PERIOD_S), np.where(np.arange(0.0, 60.0, PERIOD_S) < 25, 2.0, 10.0), response=told
    )
    assert paused_s(whole, [at(10, 50)]) == 0
    assert error_j([power], [at(10, 50)], phase=False) > error_j([whole], [at(10, 50)], phase=False) + 12 * 8 / 2 - 5
    counter = curve_of(t, 5.0 * t, "energy", response=told)
    assert paused_s(counter, [at(10, 50)]) == 0
    assert counter.spent(at(10, 50)) == pytest.approx(200)
    assert paused_s(counter, [at(10, 25)]) > 4


def test_an_unknown_refresh_is_taken_from_the_whole_trace() -> None:
    rng = np.random.default_rng(3)
    t = np.arange(0.0, 120.0, PERIOD_S)
    updates = np.where(np.arange(60) < 30, 3.0, np.round(9 + rng.standard_normal(60), 2))  # idle repeats its value
    held = updates[(t / 2.0).astype(int)]
    found = curve_of(t, held)
    assert found.guessed
    assert found.refresh_s == pytest.approx(2.0, rel=0.1)
    every = curve_of(t, 5 + rng.standard_normal(t.size))
    assert every.refresh_s == pytest.approx(PERIOD_S)
    assert curve_of(t, np.full(t.size, 5.0)).refresh_s == PERIOD_S


def test_a_value_that_is_read_more_seldom_than_it_is_made_is_half_a_refresh_old() -> None:
    t = np.arange(0.0, 20.0, PERIOD_S)
    found = curve_of(t, t, response={"refresh_s": 0.04, "averages": False})
    assert (found.power.t[0] - BOOT) / S == pytest.approx(-0.02)
    assert found.spacing_s == PERIOD_S


def test_a_counter_is_differenced_over_its_wraps_and_not_over_a_reset() -> None:
    t = np.arange(0.0, 60.0, PERIOD_S)
    wrapped = curve_of(t, (90 + 7.0 * t) % 100, "energy", wraps_at=100.0)
    assert wrapped.spent(at(5, 55)) == pytest.approx(350)
    assert wrapped.power.v == pytest.approx(np.full(t.size - 1, 7.0))
    reset = curve_of(t, np.where(t < 30, 7.0 * t, 7.0 * (t - 30)), "energy", wraps_at=1000.0)
    assert not reset.covers(at(20, 50))
    assert reset.covers(at(35, 55))


def test_a_trace_that_ends_with_its_engine_is_held_for_two_updates_and_no_more() -> None:
    t = np.arange(0.0, 20.0, PERIOD_S)
    found = curve_of(t, np.full(t.size, 5.0), response={"refresh_s": 0.1, "averages": True})
    assert found.covers(at(2, 20.0))
    assert found.spent(at(2, 20.0)) == pytest.approx(90)
    assert not found.covers(at(2, 20.5))


def test_two_values_at_one_stamp_and_a_single_value_are_no_curve_to_stumble_over() -> None:
    t = np.array([0.0, 0.1, 0.1, 0.2])
    assert curve_of(t, np.array([1.0, 2.0, 5.0, 3.0]), "energy").spent(at(0, 0.2)) == pytest.approx(2.0)
    lone = Series(np.array([BOOT]), np.array([1.0]))
    assert curve(Trace({"a": lone}, {"a": note("power")}), "a") is None


def test_edges_add_linearly_over_the_repeats_of_a_phase() -> None:
    t = np.arange(0.0, 200.0, PERIOD_S)
    square = np.where((t % 10) < 5, 9.0, 1.0)
    found = curve_of(t, square, response={"refresh_s": 0.1, "averages": True, "lag_error_s": 0.05})
    one = error_j([found], [at(20, 25)], phase=True)
    sixteen = error_j([found], [at(20 + 10 * i, 25 + 10 * i) for i in range(16)], phase=True)
    assert one >= 2 * 8 * 0.05
    assert sixteen > 11 * one  # the random part alone grows by √16
    both = error_j([found, found], [at(20, 25)], phase=True)
    assert 1.6 * one < both < 2 * one  # two sensors of a sum: edges twice, noise √2 times


@pytest.mark.parametrize(
    ("told", "more"),
    [
        ({"gain_error": 0.02}, 0.02 * 500),
        ({"offset_error": 0.1}, 0.1 * 100),
        ({"gain_error": 0.02, "offset_error": 0.1}, 20),
    ],
)
def test_gain_and_offset_are_added_linearly(told: dict[str, float], more: float) -> None:
    t = np.arange(0.0, 200.0, PERIOD_S)
    base = {"refresh_s": 0.1, "averages": True, "lag_error_s": 0.0}
    without, having = (curve_of(t, np.full(t.size, 5.0), response={**base, **x}) for x in ({}, told))
    added = error_j([having], [at(20, 120)], phase=False) - error_j([without], [at(20, 120)], phase=False)
    assert added == pytest.approx(more)


def test_a_clock_that_is_known_to_a_bound_and_a_lag_that_is_not_known_widen_the_edges() -> None:
    t = np.arange(0.0, 60.0, PERIOD_S)
    known = {"refresh_s": 1.0, "averages": True, "lag_error_s": 0.01}
    plain = curve_of(t, t, response=known)
    assert plain.edge_s >= 0.5
    assert curve_of(t, t, response=known, clock_bound_s=2.0).edge_s == pytest.approx(plain.edge_s + 2, abs=0.3)
    assert curve_of(t, t, response={**known, "lag_error_s": None}).edge_s > plain.edge_s
    assert curve_of(t, t, response={**known, "averages": None}).edge_s > plain.edge_s


def test_a_sensor_of_moments_states_that_a_phase_may_be_off_by_a_third() -> None:
    t = np.arange(0.0, 60.0, PERIOD_S)
    told = {"refresh_s": 0.1, "lag_error_s": 0.0}
    mean, moment, unknown = (
        curve_of(t, np.full(t.size, 5.0), response={**told, "averages": kind}) for kind in (True, False, None)
    )
    window = [at(10, 20)]
    assert error_j([mean], window, phase=True) < 1
    assert error_j([moment], window, phase=True) == pytest.approx(0.31 * 50)
    assert error_j([unknown], window, phase=True) == pytest.approx(0.31 * 50)
    assert error_j([moment], window, phase=False) < 1
