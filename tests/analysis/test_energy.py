"""Energy by total, phase and token; net of idle; from a battery; and every reason why it is not told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_run import BOOT, S, event, events_of, frame, note, told, trace_of

from melt.analysis.energy import idle_power
from melt.analysis.events import Asked
from melt.analysis.metrics import metrics
from melt.analysis.verdict import judge
from melt.records import BatteryNote, EnergyBasis, Event, IdlePower, Metric, SensorNote, TotalRule

LONG = np.full(900, 0.1)
CALIBRATED = {"refresh_s": 0.1, "averages": True, "lag_error_s": 0.0, "calibrated": True}
IDLE = IdlePower(power_w=2.0, error_w=0.1, length_s=60.0, run_id="first", channels=("board",))
CHANNELS: dict[str, Any] = {
    "meter.power": lambda t: 21 + 0 * t,
    "board": lambda t: 20 + 0 * t,
    "cpu": lambda t: 7 + 0 * t,
    "gpu": lambda t: 4 + 0 * t,
    "battery.power": lambda t: 18 + 0 * t,
}


def power(boundary: str, **more: Any) -> SensorNote:
    return note("power", boundary=boundary, provenance="measured", **more)


def of(
    events: list[Event], notes: dict[str, SensorNote], basis: EnergyBasis | None = None, **channels: Any
) -> dict[str, Metric]:
    asked = Asked(energy=basis or EnergyBasis())
    return metrics(told(events), trace_of(events, {**CHANNELS, **channels}), notes, asked)


def reason(found: dict[str, Metric], name: str = "energy_j") -> str:
    assert found[name].value is None
    return str(found[name].reason)


def rule(*names: str, **more: Any) -> EnergyBasis:
    return EnergyBasis(total=TotalRule(sum=names, boundary="module", **more))


# ------------------------------------------------------------------------------------------------- which total


def test_a_meter_comes_before_the_rule_and_the_rule_before_the_boundaries() -> None:
    rails = {"cpu": power("rail"), "gpu": power("rail")}
    board = {"board": power("board_input")}
    meter = {"meter.power": power("wall", sensor="meter.bench1")}
    both = rule("cpu", "gpu", excludes=("carrier board",))
    assert of(events_of(LONG), {**rails, **board, **meter}, both)["power_mean_w"].value == pytest.approx(21)
    ruled = of(events_of(LONG), {**rails, **board}, both)["power_mean_w"]
    assert ruled.value == pytest.approx(11)
    assert "boundary module" in str(ruled.note)
    assert "cpu + gpu; without carrier board" in str(ruled.note)
    assert of(events_of(LONG), {**rails, **board})["power_mean_w"].value == pytest.approx(20)
    why = EnergyBasis(no_total="the rail VDD_IN is not there")
    assert reason(of(events_of(LONG), {**rails, **board}, why)) == "no_total: the rail VDD_IN is not there"


def test_a_silent_meter_is_not_replaced_by_what_the_device_says_of_itself() -> None:
    notes = {"meter.amperes": power("wall", sensor="meter.bench1"), "board": power("board_input")}
    assert reason(of(events_of(LONG), notes)).startswith("no_sensor: meter.amperes gave no value")


def test_a_sum_is_as_weak_and_as_slow_as_its_worst_channel() -> None:
    notes = {
        "cpu": power("rail", response={**CALIBRATED, "refresh_s": 1.0}),
        "gpu": note("power", boundary="rail", provenance="estimated", response=CALIBRATED),
    }
    found = of(events_of(LONG), notes, rule("cpu", "gpu"))["energy_j"]
    assert "provenance estimated" in str(found.note)
    assert "refresh 1 s" in str(found.note)


@pytest.mark.parametrize(
    ("basis", "said"),
    [
        (rule("cpu", "npu"), "no_total: the total is cpu + npu, and this device has no npu"),
        (rule("cpu", "silent"), "sensor_gap: silent gave no value"),
        (rule("odd"), "not_for_energy: calibrate it: melt calibrate phone"),
    ],
)
def test_a_rule_that_cannot_be_kept_gives_no_energy(basis: EnergyBasis, said: str) -> None:
    odd = power("battery", not_for_energy="calibrate it: melt calibrate phone")
    notes = {"cpu": power("rail"), "silent": power("rail"), "odd": odd}
    found = of(events_of(LONG), notes, basis, odd=lambda t: 1 + 0 * t)
    assert reason(found).startswith(said)
    assert all(found[name].value is None for name in found if "energy" in name or name.startswith("j_per"))


def test_an_uncalibrated_gauge_gives_its_sentence_and_no_number_at_all() -> None:
    sentence = "the sign and unit of this battery's current are not calibrated: melt calibrate phone"
    found = of(events_of(LONG), {"battery.power": power("battery", not_for_energy=sentence)})
    assert reason(found) == f"not_for_energy: {sentence}"
    assert reason(found, "power_mean_w.battery.power") == f"not_for_energy: {sentence}"


def test_the_power_of_a_rail_is_told_beside_the_total_and_never_added() -> None:
    notes = {"board": power("board_input"), "cpu": power("rail"), "gpu": power("rail")}
    found = of(events_of(LONG), notes)
    assert [found[f"power_mean_w.{name}"].value for name in ("cpu", "gpu")] == pytest.approx([7, 4])
    assert "power_mean_w.board" not in found
    assert found["energy_j"].value == pytest.approx(20 * 85.5, rel=0.06)


# ----------------------------------------------------------------------------------------- figures of the whole


def test_every_figure_of_the_whole_follows_from_energy_time_and_number() -> None:
    basis = EnergyBasis(idle=IDLE, battery=BatteryNote(capacity_mah=4575, voltage_v=3.85))
    found = {
        name: metric.value or 0.0
        for name, metric in of(events_of(LONG), {"board": power("board_input", response=CALIBRATED)}, basis).items()
    }
    n = 1 / 0.1
    assert found["j_per_inference"] == pytest.approx(20 / n)
    assert found["j_per_inference_net"] == pytest.approx(18 / n)
    assert found["energy_net_j"] == pytest.approx(found["energy_j"] * 18 / 20)
    assert found["edp_js"] == pytest.approx(20 / n * 0.1)
    assert found["energy_mwh"] == pytest.approx(found["energy_j"] / 3.6)
    assert found["charge_mah"] == pytest.approx(found["energy_j"] / 3.85 / 3.6)
    assert found["prompts_per_battery"] == pytest.approx(4575 * 3.6 * 3.85 / 2.0)


def test_conversions_to_a_battery_are_only_there_for_a_device_that_has_one() -> None:
    found = of(events_of(LONG), {"board": power("board_input")})
    assert not {"charge_mah", "prompts_per_battery"} & set(found)


def test_every_energy_has_an_error_and_no_gap_has_one() -> None:
    found = of(events_of(LONG), {"board": power("board_input"), "cpu": power("rail")}, EnergyBasis(idle=IDLE))
    stated = [name for name in found if name.startswith(("energy", "j_per", "power_mean", "edp"))]
    assert len(stated) >= 8
    for name in stated:
        assert (found[name].error is None) == (found[name].value is None), name
    written = found["energy_j"].model_dump()
    assert written["error"] == found["energy_j"].error
    assert Metric.model_validate(written) == found["energy_j"]


# -------------------------------------------------------------------------------------------------------- idle


def test_idle_power_is_the_runs_own_else_that_of_the_block() -> None:
    step: Any = lambda t: np.where(t < 61, 3.0, 20.0)  # noqa: E731
    notes = {"board": power("board_input", response=CALIBRATED)}
    own = of(events_of(LONG, idle_s=60.5), notes, EnergyBasis(idle=IDLE), board=step)
    assert own["energy_net_j"].value == pytest.approx((own["energy_j"].value or 0) * 17 / 20, rel=1e-2)
    blocks = of(events_of(LONG), notes, EnergyBasis(idle=IDLE))
    assert "idle power 2 W taken off" in str(blocks["energy_net_j"].note)
    gross, net = blocks["energy_j"], blocks["energy_net_j"]
    assert net.error == pytest.approx((gross.error or 0) + 0.1 * (gross.value or 0) / 20)
    assert reason(of(events_of(LONG), notes), "energy_net_j").startswith("no_idle_window")


def test_idle_power_of_another_total_is_not_taken_off() -> None:
    found = of(events_of(LONG), {"cpu": power("module")}, EnergyBasis(idle=IDLE))
    assert reason(found, "energy_net_j").startswith("other_total: idle power was measured by board in run first")


def test_the_idle_power_of_a_run_is_what_its_net_energy_is_made_with() -> None:
    events = events_of(LONG, idle_s=60.5)
    step: Any = lambda t: np.where(t < 60.6, 3.0, 20.0)  # noqa: E731
    notes, asked = {"board": power("board_input", response=CALIBRATED)}, Asked()
    trace = trace_of(events, {"board": step})
    found = idle_power(told(events), trace, notes, asked, "r1")
    assert isinstance(found, IdlePower)
    assert (found.run_id, found.channels) == ("r1", ("board",))
    assert found.power_w == pytest.approx(3.0, abs=found.error_w)
    assert found.error_w < 0.6
    again = of(events_of(LONG), notes, EnergyBasis(idle=found))["energy_net_j"]
    net = metrics(told(events), trace, notes, asked)["energy_net_j"]
    assert again.value == pytest.approx(net.value, rel=1e-3)
    assert "no_idle_window" in str(idle_power(told(events_of(LONG)), trace, notes, asked, "r1"))
    short = events_of(LONG, idle_s=30)
    assert "window_too_short: the idle window is 30 s" in str(
        idle_power(told(short), trace_of(short, CHANNELS), notes, asked, "r1")
    )
    assert str(idle_power(told(events), trace, {}, asked, "r1")).startswith("no_sensor")


# ------------------------------------------------------------------------------------------------------ phases


def answers(number: int, *, prefill_s: float = 4.0, gap_s: float = 0.1, tokens: int = 61) -> list[Event]:
    """So many requests one after another; during a prefill power is 12 W, else 5 W."""
    t = BOOT + S
    found = [event(BOOT, "agent.begin"), event(BOOT + 1, "load.begin"), event(t, "load.end")]
    found.append(event(t, "mark", name="measure.begin"))
    for i in range(number):
        found += [event(t, "step.begin", i=i), event(t, "prefill.begin", n=50)]
        t += round(prefill_s * S)
        found.append(event(t, "prefill.end"))
        for token in range(tokens):
            found.append(event(t, "token", i=token))
            t += round(gap_s * S)
        found.append(event(t, "step.end", i=i))
    return [*found, event(t, "mark", name="measure.end"), event(t + 1, "done"), event(t + S // 2, "agent.end")]


def by_phase(period_s: float = 10.1) -> Any:
    return lambda t: np.where((t > 1) & ((t - 1) % period_s < 4.0), 12.0, 5.0)


def test_prefill_and_decode_are_told_apart_and_by_token() -> None:
    found = of(answers(8), {"board": power("board_input", response=CALIBRATED)}, board=by_phase())
    prefill, decode = found["energy_prefill_j"], found["energy_decode_j"]
    assert prefill.value == pytest.approx(8 * 4 * 12, rel=0.02)
    assert abs(prefill.value - 8 * 4 * 12) <= (prefill.error or 0)
    assert decode.value == pytest.approx(8 * 6 * 5, rel=0.02)
    assert found["j_per_prompt_token"].value == pytest.approx((prefill.value or 0) / (8 * 50))
    assert (found["j_per_token"].value, found["j_per_token"].n) == (pytest.approx((decode.value or 0) / 480), 480)
    assert found["edp_js"].value == pytest.approx((found["j_per_token"].value or 0) * 0.1)
    assert "8 parts pooled" in str(decode.note)
    assert reason(found, "energy_load_j").startswith("window_too_short: the load of 1 s spans 10 periods")


def test_the_repeats_of_a_phase_are_pooled_until_they_span_twenty_periods() -> None:
    slow = {"board": power("board_input", response={**CALIBRATED, "refresh_s": 1.5})}
    assert of(answers(8), slow, board=by_phase())["energy_prefill_j"].value is not None
    slower = {"board": power("board_input", response={**CALIBRATED, "refresh_s": 1.7})}
    said = reason(of(answers(8), slower, board=by_phase()), "energy_prefill_j")
    assert said.startswith("window_too_short: the prefill of 32 s in 8 parts spans 18.8 periods")


def test_a_phase_of_a_short_run_is_not_told_however_long_it_is() -> None:
    found = of(answers(5), {"board": power("board_input", response=CALIBRATED)}, board=by_phase())
    assert reason(found, "energy_decode_j").startswith("window_too_short: the measured window is 50.")


def test_a_sensor_of_moments_is_flagged_in_the_phases_and_not_in_the_whole() -> None:
    moments = {"board": power("board_input", response={**CALIBRATED, "averages": False})}
    found = of(answers(8), moments, board=by_phase())
    assert "may be off by 31 %" in str(found["energy_decode_j"].note)
    assert (found["energy_decode_j"].error or 0) > 0.3 * (found["energy_decode_j"].value or 0)
    assert "31 %" not in str(found["energy_j"].note)


def test_a_refresh_that_is_not_calibrated_says_so() -> None:
    assert "refresh not calibrated" in str(of(events_of(LONG), {"board": power("board_input")})["energy_j"].note)
    sheet = power("board_input", response={"refresh_s": 0.1})
    assert "by its data sheet" in str(of(events_of(LONG), {"board": sheet})["energy_j"].note)


def test_a_pause_of_the_sensor_is_named_and_a_long_one_leaves_no_figure() -> None:
    notes = {"board": power("board_input", response=CALIBRATED)}
    hole: Any = lambda t: np.where((t > 30) & (t < 33), np.nan, 20 + (t > 60))  # noqa: E731
    short = of(events_of(LONG), notes, board=hole)["energy_j"]
    assert "pauses of 3" in str(short.note)
    assert (short.error or 0) > 3 / 2
    gone: Any = lambda t: np.where((t > 30) & (t < 50), np.nan, 20.0)  # noqa: E731
    assert reason(of(events_of(LONG), notes, board=gone)).startswith("sensor_gap: board gave no value for 20")


# ----------------------------------------------------------------------------------------------------- battery


def phone(seconds: float, charger: Any, *, sensor: str = "battery") -> tuple[dict[str, Metric], list[str]]:
    events = events_of(np.full(round(seconds / 0.1), 0.1))
    notes = {
        "battery.power": power("battery", sensor=sensor, response={**CALIBRATED, "refresh_s": 1.0}),
        "battery.charger": note("charger"),
    }
    trace = trace_of(events, {**CHANNELS, "battery.charger": charger})
    found = metrics(told(events), trace, notes, Asked())
    return found, [r.code.value for r in judge(told(events), trace, notes, Asked())]


def test_a_batterys_gauge_needs_minutes_and_an_external_meter_in_its_place_does_not() -> None:
    off: Any = lambda t: 0 * t  # noqa: E731
    assert "from a battery's gauge needs 120 s" in reason(phone(100, off)[0])
    assert phone(150, off)[0]["power_mean_w"].value == pytest.approx(18)
    assert phone(100, off, sensor="meter.bench1")[0]["power_mean_w"].value == pytest.approx(18)


@pytest.mark.parametrize("plugged", [lambda t: 1 + 0 * t, lambda t: 1.0 * ((t > 60) & (t < 61))])
def test_no_energy_comes_from_the_gauge_while_a_charger_is_there_for_a_moment(plugged: Any) -> None:
    found, codes = phone(150, plugged)
    assert reason(found).startswith("charger: battery.charger says that a charger was plugged in")
    assert codes == ["charger"]


def test_a_minute_of_idle_is_enough_for_a_gauge_whose_values_come_every_second() -> None:
    events = events_of(np.full(1500, 0.1), idle_s=60)
    notes = {
        "battery.power": power("battery", response={**CALIBRATED, "refresh_s": 1.0}),
        "battery.charger": note("charger"),
    }
    step: Any = lambda t: np.where(t < 60.1, 1.0, 4.0)  # noqa: E731
    found = of(events, notes, **{"battery.power": step, "battery.charger": lambda t: 0 * t})
    assert found["energy_net_j"].value == pytest.approx((found["energy_j"].value or 0) * 3 / 4, rel=0.03)


def test_a_charger_that_stays_is_no_fault_where_energy_comes_from_elsewhere() -> None:
    found, codes = phone(100, lambda t: 1 + 0 * t, sensor="meter.bench1")
    assert found["energy_j"].value is not None
    assert codes == []
    assert phone(100, lambda t: 1.0 * (t > 60), sensor="meter.bench1")[1] == ["charger"]


# ------------------------------------------------------------------------------------------------ whatever comes

RESPONSES = st.fixed_dictionaries(
    {},
    optional={
        "refresh_s": st.floats(1e-3, 3600),
        "averages": st.sampled_from([None, False, True]),
        "lag_s": st.floats(0, 60),
        "lag_error_s": st.floats(0, 60),
        "gain_error": st.floats(0, 1),
        "offset_error": st.floats(0, 1e6),
    },
)
VALUES = st.one_of(st.floats(-1e3, 1e3), st.sampled_from([0.0, 5.0, float("nan"), float("inf"), 1e308, -1e308, 1e-320]))
WHOLE_RUNS = (told(answers(8)), told(events_of(LONG[:700], idle_s=60)))


@settings(deadline=None, max_examples=150)
@given(
    values=st.lists(VALUES, min_size=1, max_size=40),
    steps=st.lists(st.integers(0, 20 * S), min_size=40, max_size=40),
    response=st.one_of(st.none(), RESPONSES),
    quantity=st.sampled_from(["power", "energy"]),
    boundary=st.sampled_from(["rail", "soc", "module", "battery", "wall"]),
    wraps_at=st.one_of(st.none(), st.floats(1e-3, 1e9)),
)
def test_no_trace_and_no_response_makes_the_analysis_raise_or_tell_a_figure_without_its_error(
    values: list[float],
    steps: list[int],
    response: dict[str, Any] | None,
    quantity: str,
    boundary: str,
    wraps_at: float | None,
) -> None:
    t = BOOT + np.cumsum(np.array(steps[: len(values)], dtype=np.int64))
    one = note(quantity, boundary=boundary, response=response, wraps_at=wraps_at)
    asked = Asked(energy=EnergyBasis(idle=IDLE, battery=BatteryNote(capacity_mah=4000, voltage_v=3.8)))
    for events in WHOLE_RUNS:
        found = metrics(events, frame(t, np.array(values), "a"), {"a": one}, asked)
        for name, metric in found.items():
            if name.startswith(("energy", "j_per")):
                assert (metric.value is None) == (metric.error is None)
