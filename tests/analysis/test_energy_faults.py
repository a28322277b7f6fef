"""A sensor of energy that stands still, falls, wraps by mistake, or is silent gives a reason and never a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from raw_run import BOOT, S, events_of, frame, note, told, trace_of

from melt.analysis.energy import energy
from melt.analysis.energy_phases import Phase, spent
from melt.analysis.events import Asked
from melt.analysis.measured import measure
from melt.analysis.metrics import metrics
from melt.analysis.power_series import curve
from melt.analysis.total import Total
from melt.analysis.trace import Series, by_channel
from melt.records import EnergyBasis, Metric, SensorNote, TotalRule

LONG = np.full(1500, 0.1)
WRAPS = 262_143.0
TRUE_J = 1426.0
"""10 W over what is measured of LONG."""


def power(boundary: str = "board_input", **more: Any) -> SensorNote:
    return note("power", boundary=boundary, provenance="measured", **more)


def counter(boundary: str = "board_input", **more: Any) -> SensorNote:
    return note("energy", boundary=boundary, provenance="counter", **more)


def of(notes: dict[str, SensorNote], basis: EnergyBasis | None = None, **channels: Any) -> dict[str, Metric]:
    events = events_of(LONG)
    named = {name.replace("__", "."): value for name, value in channels.items()}
    return metrics(told(events), trace_of(events, named), notes, Asked(energy=basis or EnergyBasis()))


def reason(found: dict[str, Metric], name: str = "energy_j") -> str:
    assert found[name].value is None, f"{name} is told: {found[name].value}"
    return str(found[name].reason)


# ------------------------------------------------------------------------------------------------ it stands still


def test_a_counter_that_never_grows_tells_no_energy() -> None:
    found = of({"c": counter()}, c=lambda t: 5000 + 0 * t)
    assert reason(found) == "sensor_gap: c did not grow for 143 s of the measured window: the counter stands still"
    assert all(found[name].value is None for name in found if "energy" in name or "power" in name or "j_per" in name)


def test_a_counter_that_stops_within_the_window_tells_no_energy() -> None:
    found = of({"c": counter()}, c=lambda t: 10 * np.minimum(t, 60))
    assert reason(found).startswith("sensor_gap: c did not grow for 9")
    assert reason(of({"c": counter()}, c=lambda t: 10 * np.where(t < 60, t, np.maximum(t - 6.5, 60)))).startswith(
        "sensor_gap: c did not grow for 6 s"
    )


def test_a_register_of_0_watts_tells_no_energy() -> None:
    assert reason(of({"p": power()}, p=lambda t: 0 * t)).startswith("sensor_gap: p showed no power above 0 W for 143 s")
    stuck = of({"p": power()}, p=lambda t: np.where(t < 60, 10.0, 0.0))
    assert reason(stuck).startswith("sensor_gap: p showed no power above 0 W for")


def test_a_rail_may_rest_where_the_sum_does_not() -> None:
    notes = {"a": power("rail"), "b": power("rail"), "c": counter("rail")}
    rule = EnergyBasis(total=TotalRule(sum=("a", "b"), boundary="module"))
    found = of(notes, rule, a=lambda t: 10 + 0 * t, b=lambda t: 0 * t, c=lambda t: 70 + 0 * t)
    assert found["energy_j"].value == pytest.approx(TRUE_J)
    assert found["power_mean_w.c"].value == 0


@pytest.mark.parametrize("quantum_j", [1.0, 25.0, 80.0])
def test_a_counter_of_few_digits_does_not_stand_still(quantum_j: float) -> None:
    often = counter(response={"refresh_s": 0.1})
    found = of({"c": often}, c=lambda t: np.floor(10 * t / quantum_j) * quantum_j)
    assert found["energy_j"].value == pytest.approx(TRUE_J, abs=2 * quantum_j)


def test_a_slow_sensor_does_not_stand_still() -> None:
    slow = {"c": counter(response={"refresh_s": 6.0})}
    found = of(slow, c=lambda t: 60 * np.floor(t / 6))
    assert found["energy_j"].value == pytest.approx(TRUE_J, rel=0.1)


# ----------------------------------------------------------------------------------------------- it tells of less


@pytest.mark.parametrize(
    "watts",
    [
        lambda t: -10 + 0 * t,
        lambda t: np.where(t < 80, 10.0, -10.0),
        lambda t: np.where(t % 10 < 6, 10.0, -4.0),  # never below 0 for long, but often
        lambda t: np.where(t % 20 < 1, -1000.0, 10.0),  # nor often
    ],
)
def test_power_that_is_negative_is_no_energy(watts: Any) -> None:
    assert "or its sign is wrong" in reason(of({"p": power("module", response={"refresh_s": 0.1})}, p=watts))


def test_a_battery_that_took_charge_is_named_so() -> None:
    notes = {"battery.power": power("battery", response={"refresh_s": 0.25}), "battery.charger": note("charger")}
    for watts in (lambda t: -5 + 0 * t, lambda t: np.where(t < 80, 5.0, -5.0)):
        said = reason(of(notes, battery__power=watts, battery__charger=lambda t: 0 * t))
        assert said.startswith("sensor_gap: battery.power tells of no power drawn for")
        assert said.endswith("the battery took charge, or the sign of its gauge is wrong, which melt calibrate tells")


# ------------------------------------------------------------------------------------------------- the charger


GAUGE = {"battery.power": power("battery", response={"refresh_s": 0.25})}
CHARGER = {"battery.charger": note("charger")}


def test_a_gauge_without_a_word_of_the_charger_tells_no_energy() -> None:
    flat: Any = lambda t: 5 + 0 * t  # noqa: E731
    said = "charger: nothing tells whether one was plugged in during the measured window"
    assert reason(of(GAUGE, battery__power=flat)).startswith(said)
    assert reason(of({**GAUGE, **CHARGER}, battery__power=flat)).startswith(said)  # it never answers
    gone: Any = lambda t: np.where(t < 10, 0.0, np.nan)  # noqa: E731
    assert reason(of({**GAUGE, **CHARGER}, battery__power=flat, battery__charger=gone)).startswith(said)
    late: Any = lambda t: np.where((t > 60) & (t < 60.35), np.nan, 0.0)  # noqa: E731
    assert of({**GAUGE, **CHARGER}, battery__power=flat, battery__charger=late)["energy_j"].value is not None


def test_a_meter_in_the_place_of_the_battery_needs_no_charger() -> None:
    notes = {"meter.bench": power("battery", sensor="meter.bench")}
    assert of(notes, meter__bench=lambda t: 10 + 0 * t)["energy_j"].value == pytest.approx(TRUE_J)


# -------------------------------------------------------------------------------------------- wraps, and what is none


def unwrapped(t_s: Any, values: Any, wraps_at: float | None = WRAPS) -> Series:
    t = BOOT + np.rint(np.asarray(t_s) * S).astype(np.int64)
    return Series(t, np.asarray(values, dtype=np.float64)).unwrapped(wraps_at)


T = np.arange(0, 150, 0.1)


def test_a_reset_of_a_counter_that_wraps_is_a_reset() -> None:
    notes = {"c": counter("soc", wraps_at=WRAPS)}
    found = of(notes, c=lambda t: np.where(t < 80, 200_000 + 10 * t, 10 * (t - 80)))
    assert reason(found) == "sensor_gap: c does not cover the whole measured window"
    kept = unwrapped(T, np.where(T < 80, 200_000 + 10 * T, 10 * (T - 80)))
    assert (kept.t[0] - BOOT) / S == pytest.approx(80, abs=0.11)


@pytest.mark.parametrize("wraps_at", [WRAPS, None])
def test_one_low_read_is_left_out(wraps_at: float | None) -> None:
    notes = {"c": counter("soc", wraps_at=wraps_at)}
    found = of(notes, c=lambda t: np.where((t > 80) & (t < 80.15), 0, 200_000 + 10 * t))
    assert found["energy_j"].value == pytest.approx(TRUE_J)
    often = unwrapped(T, np.where(np.arange(T.size) % 5 == 2, 7.0, 200_000 + 10 * T), wraps_at)
    assert len(often) == pytest.approx(0.8 * T.size, abs=1)
    assert np.diff(often.v) / np.diff(often.t) * S == pytest.approx(10)


def test_a_register_that_holds_a_low_value_for_many_reads_is_left_out_too() -> None:
    low = (T >= 80) & (T < 81)
    kept = unwrapped(T, np.where(low, 0.0, 200_000 + 10 * np.floor(T)))
    assert kept.v[-1] - kept.v[0] == 1490
    assert len(kept) == np.count_nonzero(~low)


def test_a_low_read_before_a_pause_is_a_reset() -> None:
    """What came after the pause may have been counted from 0."""
    t, v = [0, 1, 2, 3, 4, 100, 101], [500, 501, 502, 503, 0, 960, 970]
    assert unwrapped(t, v).v.tolist() == [0, 960, 970]


@pytest.mark.parametrize("idle_s", [5.0, 120.0])
def test_a_wrap_under_load_is_a_wrap_after_long_idle_at_little_power(idle_s: float) -> None:
    joules = 99 + 0.3 * np.minimum(T, idle_s) + 30 * np.maximum(T - idle_s, 0)
    found = unwrapped(T, joules % 200, 200.0)
    assert found.v - found.v[0] == pytest.approx(joules - joules[0])


@pytest.mark.parametrize("held_s", [0.25, 1.0, 3.0])
def test_a_wrap_of_a_held_register_is_a_wrap(held_s: float) -> None:
    joules = 10 * np.floor(T / held_s) * held_s
    found = unwrapped(T, joules % 200, 200.0)
    assert found.v == pytest.approx(joules)


def test_a_wrap_at_the_first_new_value_is_a_wrap() -> None:
    """The value before it had been held for long when the trace began."""
    joules = 170 + 10 * np.floor((T + 2.85) / 3) * 3
    assert unwrapped(T, joules % 200, 200.0).v == pytest.approx(joules)


def test_a_pause_in_which_it_may_have_wrapped_twice_breaks_the_counter() -> None:
    t = T[(T < 60) | (T > 72)]
    assert (unwrapped(t, (20 * t) % 100, 100.0).t[0] - BOOT) / S > 72
    assert (unwrapped(t, (20 * t) % 1000, 1000.0).t[0] - BOOT) / S == 0
    assert unwrapped(t, 20 * t, None).v[-1] == pytest.approx(20 * t[-1])


# ----------------------------------------------------------------------------------------------- a silent summand


def test_a_summand_that_is_silent_is_named_and_the_rest_is_no_total() -> None:
    found = of({"a": counter("soc"), "b": counter("soc")}, a=lambda t: 10 * t)
    assert reason(found).startswith("sensor_gap: b gave no value in this run, or one alone, and the total of the soc")


def test_a_silent_outer_sensor_does_not_make_an_inner_one_the_total() -> None:
    notes = {"w": power("wall"), "c": counter("soc")}
    assert reason(of(notes, c=lambda t: 10 * t)).startswith("sensor_gap: w gave no value in this run")
    counted = {"c": counter("module"), "p": power("module")}
    assert reason(of(counted, p=lambda t: 10 + 0 * t)).startswith("sensor_gap: c gave no value")
    assert of(counted, c=lambda t: 10 * t)["energy_j"].value == pytest.approx(TRUE_J)


def test_two_claims_of_one_boundary_are_two_when_one_is_silent() -> None:
    found = of({"a": power("module"), "b": power("module")}, a=lambda t: 10 + 0 * t)
    assert reason(found).startswith("no_total: a, b each claim to be the module")


def test_a_silent_rail_is_named_beside_the_total() -> None:
    found = of({"board": power(), "cpu": power("rail"), "gpu": counter("rail")}, board=lambda t: 10 + 0 * t)
    assert reason(found, "power_mean_w.cpu") == "sensor_gap: cpu gave no value in this run"
    assert reason(found, "power_mean_w.gpu") == "sensor_gap: gpu gave no value in this run"


def test_a_rail_of_one_value_is_named_so() -> None:
    events = events_of(LONG)
    notes = {"cpu": power("rail")}
    lone = by_channel(frame(np.array([BOOT]), np.array([5.0]), "cpu"), notes)
    found = energy(lone, measure(told(events), Asked()), Asked())
    assert reason(found, "power_mean_w.cpu") == "sensor_gap: cpu gave one value alone"


# ------------------------------------------------------------------------------------- how far a counter may be off


@pytest.mark.parametrize("refresh_s", [0.1, 0.105, 1.0])
@pytest.mark.parametrize("known", [True, False])
def test_the_age_of_a_counters_last_update_is_in_its_error(refresh_s: float, *, known: bool) -> None:
    """A steady load has no steps at the edges of a window, and a counter is off there all the same."""
    rng = np.random.default_rng(5)
    one = counter(response={"refresh_s": refresh_s, "lag_error_s": 0.0} if known else None)
    for _ in range(100):
        read = np.arange(0, 200, 0.1) + rng.uniform(0, 0.005, 2000)
        first = rng.uniform(0, refresh_s)
        made = np.floor((read - first) / refresh_s) * refresh_s + first
        # its power wanders slowly, so that what a line between two updates misses is nothing of note
        joules = 10 * made + 20 * np.sin(made / 40)
        trace = by_channel(frame(BOOT + np.rint(read * S).astype(np.int64), joules, "c"), {"c": one})
        found = curve(trace, "c")
        assert found is not None
        begin_s = rng.uniform(20, 60)
        window = (BOOT + round(begin_s * S), BOOT + round((begin_s + 60) * S))
        used = spent(Total("board_input", (found,)), Phase("w", (window,), whole=True), trace, measured_s=60)
        assert not isinstance(used, str)
        truth = 600 + 20 * (np.sin((begin_s + 60) / 40) - np.sin(begin_s / 40))
        assert abs(used.energy_j - truth) <= used.error_j
        assert used.error_j < 0.02 * truth
