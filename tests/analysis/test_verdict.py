"""Every reason is raised by what it names, and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from raw_run import BOOT, S, ar1, ends, event, events_of, frame, note, told, trace_of

from melt.analysis.events import Asked
from melt.analysis.slowed import slowed
from melt.analysis.verdict import MAKES, judge, verdict
from melt.records import Event, Reason, ReasonCode

if TYPE_CHECKING:
    import pandas as pd

STEADY = np.random.default_rng(1).normal(0.02, 0.0002, 400)
SENSORS = {
    "cpu.busy_s": note("count"),
    "vm.pswpin": note("count"),
    "cooling.processor": note("cooling"),
    "cpu.policy0.cap": note("clock"),
}
CHANNELS: dict[str, Any] = {
    "cpu.busy_s": lambda t: 1.02 * t,
    "engine.cpu_s": lambda t: 1.0 * t,
    "engine.vm_swap": lambda t: 0 * t,
    "vm.pswpin": lambda t: 50 + 0 * t,
    "cooling.processor": lambda t: 1 + 0 * t,
    "cpu.policy0.cap": lambda t: 2e9 + 0 * t,
}
BURST = Asked()


def codes(events: list[Event], trace: pd.DataFrame | None = None, asked: Asked = BURST, **more: str) -> list[str]:
    trace = trace_of(events, CHANNELS) if trace is None else trace
    return [reason.code.value for reason in judge(told(events), trace, SENSORS, asked, **more)]


def replaced(events: list[Event], ev: str, **fields: Any) -> list[Event]:
    return [Event(t=e.t, ev=e.ev, **{**(e.model_extra or {}), **fields}) if e.ev == ev else e for e in events]


def without(events: list[Event], *names: str) -> list[Event]:
    return [e for e in events if e.ev not in names]


def test_a_run_that_went_well_has_no_reason_and_is_valid() -> None:
    assert codes(events_of(STEADY)) == []
    assert verdict("ok", ()) == "valid"


@pytest.mark.parametrize(
    ("channel", "value", "code"),
    [
        ("cooling.processor", lambda t: np.where(t > 5, 2, 1), "throttled"),
        ("cpu.policy0.cap", lambda t: np.where(t > 5, 1.4e9, 2e9), "throttled"),
        ("engine.vm_swap", lambda t: np.where(t > 2, 4096, 0), "swap"),
        ("vm.pswpin", lambda t: np.where(t > 5, 51, 50), "swap"),
        ("cpu.busy_s", lambda t: 1.15 * t, "foreign_load"),
        ("cpu.steal_s", lambda t: 0.15 * t, "foreign_load"),
    ],
)
def test_what_the_trace_shows_becomes_a_reason(channel: str, value: Any, code: str) -> None:
    events = events_of(STEADY)
    assert codes(events, trace_of(events, {**CHANNELS, channel: value})) == [code]


def test_a_cooling_state_that_was_already_up_or_went_down_is_no_throttling() -> None:
    events = events_of(STEADY)
    assert codes(events, trace_of(events, {**CHANNELS, "cooling.processor": lambda t: np.where(t > 5, 0, 3)})) == []


def test_a_throttled_sustained_run_has_its_curve_and_no_reason() -> None:
    events = events_of(STEADY * np.linspace(1, 1.5, 400))
    trace = trace_of(events, {**CHANNELS, "cooling.processor": lambda t: np.where(t > 5, 2, 1)})
    assert set(codes(events, trace)) >= {"throttled", "slowed"}
    assert codes(events, trace, Asked(mode="sustained")) == []


def test_a_program_that_told_of_no_inference_is_judged_over_its_whole_life() -> None:
    of_its_own = ("infer.", "load.", "mark", "done", "agent.engine.end")
    told = [e for e in events_of(STEADY) if not e.ev.startswith(of_its_own)]
    end = max(e.t for e in told)
    silent = [*told, event(end - 3, "agent.engine.end", exit=0), event(end - 2, "done", by="exit status")]
    trace = trace_of(events_of(STEADY), {**CHANNELS, "cooling.processor": lambda t: np.where(t > 5, 2, 1)})
    assert codes(silent, trace) == ["throttled"]
    assert codes(silent, trace_of(events_of(STEADY), CHANNELS)) == []


def test_a_pause_of_more_than_five_periods_in_the_measurement_is_a_gap() -> None:
    events = events_of(STEADY)
    trace = trace_of(events, CHANNELS)
    here = trace["channel"] == "cpu.policy0.cap"
    since = (trace["t_ns"] - BOOT) / S
    short = trace[~(here & (since > 4.05) & (since < 4.45))]
    assert codes(events, short) == []
    lacking = trace[~(here & (since > 4.05) & (since < 4.65))]
    found = judge(told(events), lacking, SENSORS, BURST)
    assert [reason.code for reason in found] == [ReasonCode.SENSOR_GAP]
    assert "cpu.policy0.cap gave no value for 0.7 s" in found[0].detail
    errors = trace.assign(value=trace["value"].where(~here))
    assert codes(events, errors) == ["sensor_gap"]


def test_a_suspend_is_seen_from_the_two_clocks_and_a_set_wall_clock_is_not_one() -> None:
    events = events_of(STEADY)
    end = events[-1]
    assert codes([*events[:-1], event(end.t, "agent.end", boottime_ns=end.t + 7 * S + 60_000_000)]) == ["suspended"]
    assert codes([*events[:-1], event(end.t, "agent.end", boottime_ns=end.t + 7 * S + 9_000_000, realtime_ns=5)]) == []


def test_settings_that_did_not_take_are_named() -> None:
    events = events_of(STEADY)
    assert codes(replaced(events, "agent.affinity", ok=False, got="0-3")) == ["affinity"]
    set_failed = event(BOOT + 1, "agent.set", path="/sys/g", asked="performance", got="powersave", ok=False, error="")
    found = judge(told([*events, set_failed]), trace_of(events, CHANNELS), SENSORS, BURST)
    assert [(r.code, r.detail) for r in found] == [
        (ReasonCode.PIN, "/sys/g was to be held at 'performance': it is 'powersave'")
    ]


@pytest.mark.parametrize(
    ("why", "code"),
    [("wall", "timed_out"), ("ceiling", "ceiling"), ("memory", "out_of_memory"), ("stop", "agent_killed")],
)
def test_an_engine_that_the_agent_ended_has_the_agents_reason_and_no_crash(why: str, code: str) -> None:
    events = replaced(events_of(STEADY), "agent.engine.end", exit=None, signal=9)
    kill = event(events[-3].t, "agent.kill", why=why)
    assert codes([*without(events, "done")[:-2], kill, *events[-2:]]) == [code]


def test_a_signal_from_elsewhere_is_a_crash_unless_the_kernel_says_out_of_memory() -> None:
    events = without(events_of(STEADY), "done")
    killed = replaced(events, "agent.engine.end", exit=None, signal=9)
    found = judge(told(killed), trace_of(events, CHANNELS), SENSORS, BURST)
    assert [(r.code, r.detail) for r in found] == [(ReasonCode.CRASHED, "killed by SIGKILL, not by melt")]
    assert codes(killed, oom_evidence="Out of memory: Killed process 12") == ["out_of_memory"]
    assert codes(replaced(killed, "agent.engine.end", oom_kills=1)) == ["out_of_memory"]
    assert codes(replaced(killed, "agent.engine.end", signal=11, oom_kills=1)) == ["crashed"]
    assert codes(replaced(killed, "agent.engine.end", signal=63)) == ["crashed"]


def test_an_engine_that_says_no_is_refused_before_its_first_inference_and_crashed_after_it() -> None:
    events = without(replaced(events_of(STEADY), "agent.engine.end", exit=3), "done")
    last = events[-1].t
    said = event(last, "error", kind="model", message="not an ONNX file")
    assert codes([*events, said]) == ["crashed"]
    assert codes(without([*events, said], "infer.begin", "infer.end")) == ["refused"]
    assert codes([*events, event(last, "error", kind="memory", message="bad_alloc")]) == ["out_of_memory"]
    assert codes(replaced(events, "agent.engine.end", exit=3)) == ["crashed"]
    assert codes(replaced(events, "agent.engine.end", exit=0)) == ["crashed"]


def test_an_agent_without_last_words_was_killed() -> None:
    events = events_of(STEADY)
    assert "agent_killed" in codes(events[:-1])


def test_a_latency_that_never_settles_is_not_steady() -> None:
    events = events_of(0.001 * 1.03 ** np.arange(200))
    assert "not_steady" in codes(events, frame(np.array([], dtype=np.int64), np.array([]), "x"))


@pytest.mark.parametrize("code", list(ReasonCode))
def test_every_code_makes_a_run_partial_or_invalid(code: ReasonCode) -> None:
    assert verdict("ok", [Reason(code=code, detail="x")]) == MAKES[code]
    assert verdict("failed", [Reason(code=code, detail="x")]) == "invalid"


def test_the_worst_reason_decides_and_a_run_that_failed_is_never_valid() -> None:
    partial, invalid = (Reason(code=c, detail="x") for c in (ReasonCode.SLOWED, ReasonCode.THROTTLED))
    assert verdict("ok", [partial, invalid, partial]) == "invalid"
    assert verdict("failed", ()) == verdict("skipped", ()) == "invalid"


def test_a_steady_series_is_hardly_ever_called_slowed() -> None:
    rng = np.random.default_rng(30)
    for correlation, sd in ((0.0, 0.05), (0.5, 0.03), (0.8, 0.03)):
        alarms = [any(slowed(np.exp(ar1(rng, 300, correlation, sd)))) for _ in range(800)]
        assert np.mean(alarms) <= 0.01


@pytest.mark.parametrize("shape", ["step", "ramp"])
def test_a_slow_down_by_five_per_cent_is_found(shape: str) -> None:
    rng = np.random.default_rng(31)
    at = np.arange(300) / 300
    slower = 1 + 0.05 * ((at > 0.5) if shape == "step" else 1.5 * at)
    for correlation in (0.0, 0.5, 0.8):
        found = [any(slowed(slower * np.exp(ar1(rng, 300, correlation, 0.02)))) for _ in range(300)]
        assert np.mean(found) >= 0.95


def test_under_three_hundred_samples_and_under_three_per_cent_nothing_is_called_slowed() -> None:
    at = np.arange(300)
    assert not any(slowed(np.where(at > 150, 1.025, 1.0)))
    assert any(slowed(np.where(at > 150, 1.035, 1.0)))
    assert not any(slowed(np.where(at > 150, 2.0, 1.0)[:299]))
    assert not any(slowed(np.where(at > 150, 1.0, 2.0)))


def test_foreign_load_is_seen_although_the_engine_is_gone_before_the_window_is_sampled_to_its_end() -> None:
    events = events_of(STEADY)
    trace = trace_of(events, {**CHANNELS, "cpu.busy_s": lambda t: 1.5 * t})
    done = next(event.t for event in events if event.get("name") == "measure.end")
    gone = trace["channel"].str.startswith("engine.") & (trace["t_ns"] > done - 200_000_000)
    assert codes(events, trace[~gone]) == ["foreign_load"]


@pytest.mark.parametrize(("stolen", "said"), [(0.2, True), (0.0004, False)])
def test_foreign_load_names_other_guests_where_their_part_can_be_seen(stolen: float, said: bool) -> None:
    events = events_of(STEADY)
    channels = {**CHANNELS, "cpu.busy_s": lambda t: 1.5 * t, "cpu.steal_s": lambda t: stolen * t}
    (reason,) = judge(told(events), trace_of(events, channels), SENSORS, BURST)
    assert ("guests of the hypervisor" in reason.detail) is said
    assert "0.00" not in reason.detail


def test_foreign_load_is_not_judged_from_less_than_half_of_the_window() -> None:
    events = events_of(STEADY)
    trace = trace_of(events, {**CHANNELS, "cpu.busy_s": lambda t: 1.5 * t})
    begin, end = ends(events)
    late = trace["channel"].str.startswith("engine.") & (trace["t_ns"] > begin + (end - begin) // 4)
    assert "foreign_load" not in codes(events, trace[~late])
