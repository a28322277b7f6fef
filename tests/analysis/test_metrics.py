"""Metrics are those of a known truth, or gaps that say why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_run import BOOT, S, event, events_of, frame, note, told, trace_of

from melt.analysis.events import Asked, realtime_step_s, suspend_s
from melt.analysis.metrics import metrics
from melt.analysis.verdict import judge
from melt.records import Event, Metric, SensorNote

BURST = Asked()
STEADY = np.random.default_rng(1).normal(0.02, 0.0002, 400)
LONG = np.random.default_rng(2).normal(0.1, 0.001, 800)
EMPTY = frame(np.array([], dtype=np.int64), np.array([]), "none")


def of(events: list[Event], channels: dict[str, Any] | None = None, **sensors: SensorNote) -> dict[str, Metric]:
    notes = {name.replace("__", "."): sensor for name, sensor in sensors.items()}
    return metrics(told(events), trace_of(events, channels or {}), notes, BURST)


def test_times_are_those_of_the_events_even_after_200_days_of_uptime() -> None:
    found = of(events_of(STEADY, load_s=0.5))
    kept = STEADY[found["warmup_discarded"].value is not None and int(found["warmup_discarded"].value) :]
    assert found["load_s"].value == pytest.approx(0.5)
    assert found["first_inference_s"].value == pytest.approx(0.03)
    assert found["latency_p50_s"].value == pytest.approx(np.median(kept), abs=1e-9)
    assert found["latency_mean_s"].value == pytest.approx(kept.mean(), abs=1e-9)
    assert found["inferences_per_s"].value == pytest.approx(1 / kept.mean())
    assert found["latency_p95_s"].value is not None
    assert found["latency_p99_s"].value is None
    assert "p99 needs 662" in str(found["latency_p99_s"].reason)


def test_the_engines_own_warm_up_is_never_among_the_samples() -> None:
    found = of(events_of(np.full(20, 0.02), warm=7))
    assert found["inferences_per_s"].n == 20
    assert found["latency_mean_s"].value == pytest.approx(0.02)


def test_a_measurement_cut_at_the_largest_number_says_so() -> None:
    events = events_of(np.full(20, 0.02))
    assert of(events)["inferences_per_s"].note is None
    capped = [*events, event(events[-4].t, "mark", name="measure.capped")]
    assert "largest number" in str(of(capped)["inferences_per_s"].note)


def test_a_run_that_died_while_measuring_keeps_what_ended_and_one_that_died_before_has_gaps() -> None:
    events = events_of(np.full(20, 0.02))
    begun = [i for i, e in enumerate(events) if e.ev == "infer.begin"]
    found = of(events[: begun[-1] + 1])
    assert found["inferences_per_s"].n == 19
    early = of(events[: begun[0] + 1])
    assert early["load_s"].value is not None
    assert {early[name].value for name in ("first_inference_s", "latency_p50_s", "inferences_per_s")} == {None}


def test_memory_is_the_engines_own_word_before_the_samples_before_the_kernels() -> None:
    events = events_of(STEADY)
    sampled = {"engine.vm_hwm": lambda t: 8e6 + 0 * t}
    assert of(events, sampled)["peak_memory_bytes"].value == 9000 * 1024
    silent = [e for e in events if e.get("name") != "memory"]
    assert of(silent, sampled)["peak_memory_bytes"].value == 8e6
    assert of(silent)["peak_memory_bytes"].value == 9100 * 1024
    unknown = [e for e in silent if e.ev != "agent.engine.end"]
    assert of(unknown)["peak_memory_bytes"].value is None


def test_the_split_is_that_of_the_sample_at_the_peak() -> None:
    anon = {"engine.rss_anon": lambda t: np.where((t > 3) & (t < 4), 9e6, 1e6)}
    rest = {"engine.rss_file": lambda t: np.where(t > 4, 7e6, 2e6), "engine.rss_shmem": lambda t: 5e5 + 0 * t}
    found = of(events_of(STEADY), {**anon, **rest})
    assert [found[f"peak_{kind}_bytes"].value for kind in ("anon", "file", "shmem")] == [9e6, 2e6, 5e5]


def test_what_else_the_trace_tells_of_the_measured_window() -> None:
    channels = {
        "engine.cpu_s": lambda t: 1.5 * t,
        "engine.vm_swap": lambda t: np.where(t > 3, 4096, 0),
        "memory.available": lambda t: np.where(t > 2, 6e8, 1e9),
        "cpu.policy0": lambda t: np.where(t < 1, 1e9, 2e9),
        "cpu.policy0.cap": lambda t: 2e9 + 0 * t,
        "zone.soc": lambda t: 40 + t,
        "zone.skin": lambda t: 30 + t,
    }
    clock, zone = note("clock"), note("temperature")
    notes = {"cpu__policy0": clock, "cpu__policy0__cap": clock, "zone__soc": zone, "zone__skin": zone}
    found = of(events_of(STEADY), channels, memory__available=note("memory"), **notes)
    assert found["engine_cpu_share"].value == pytest.approx(1.5)
    assert found["swap_bytes"].value == 4096
    assert found["mem_available_drop_bytes"].value == pytest.approx(4e8)
    assert found["major_faults"].value == 4
    assert found["clock_hz.cpu.policy0"].value == pytest.approx(2e9)
    assert "clock_hz.cpu.policy0.cap" not in found
    assert found["temperature_max_c"].value == pytest.approx(48.6, abs=0.2)
    assert "zone.soc" in str(found["temperature_max_c"].note)


def energy_note(boundary: str, quantity: str = "energy", **more: Any) -> SensorNote:
    return note(quantity, boundary=boundary, provenance="counter", **more)


def test_energy_is_the_counters_difference_with_its_wraps_lifted() -> None:
    watts, wraps = 8.0, 262.0
    counter = {"rapl.package-0": lambda t: (200 + watts * t) % wraps}
    found = of(events_of(LONG), counter, **{"rapl__package-0": energy_note("soc", wraps_at=wraps)})
    n, rate = found["inferences_per_s"].n, found["inferences_per_s"].value
    assert n is not None
    assert rate is not None
    assert found["energy_j"].value == pytest.approx(watts * n / rate, rel=1e-6)
    assert found["power_mean_w"].value == pytest.approx(watts, rel=1e-6)
    assert found["power_peak_w"].value == pytest.approx(watts, rel=1e-6)
    assert found["j_per_inference"].value == pytest.approx(watts / rate, rel=1e-6)
    assert str(found["energy_j"].note).startswith("boundary soc, provenance counter")
    assert str(found["energy_net_j"].reason).startswith("no_idle_window")


def test_net_energy_takes_off_the_idle_power_of_the_same_boundary() -> None:
    counter = {"c": lambda t: np.where(t < 61, 2 * t, 122 + 8 * (t - 61))}
    found = of(events_of(LONG, idle_s=60.5), counter, c=energy_note("module"))
    gross, net = found["energy_j"].value, found["energy_net_j"].value
    assert gross is not None
    assert net == pytest.approx(gross * 6 / 8, rel=1e-3)


def test_power_is_integrated_and_an_outer_boundary_is_never_added_to_an_inner_one() -> None:
    channels = {"a": lambda t: 3 + 0 * t, "b": lambda t: 4 + 0 * t, "board": lambda t: 20 + 0 * t}
    soc = {"a": energy_note("soc", "power"), "b": energy_note("soc", "power")}
    assert of(events_of(LONG), channels, **soc)["power_mean_w"].value == pytest.approx(7)
    all_of_it = of(events_of(LONG), channels, **soc, board=energy_note("board_input", "power"))
    assert all_of_it["power_mean_w"].value == pytest.approx(20)
    assert "boundary board_input" in str(all_of_it["power_mean_w"].note)


@pytest.mark.parametrize(
    ("sensors", "reason"),
    [
        ({}, "no_sensor: this device has no sensor"),
        ({"silent": energy_note("soc")}, "no_sensor: silent gave no value"),
        ({"a": energy_note("rail")}, "no_total: a are parts"),
        ({"a": energy_note("module"), "b": energy_note("module")}, "no_total: a, b each claim"),
        ({"a": energy_note("soc", period_s=5.0)}, "window_too_short: the measured window of"),
        ({"late": energy_note("soc")}, "sensor_gap: "),
    ],
)
def test_energy_that_is_not_known_says_why(sensors: dict[str, SensorNote], reason: str) -> None:
    channels = {"a": lambda t: t, "b": lambda t: t, "late": lambda t: np.where(t > 30, t, np.nan)}
    found = of(events_of(LONG), channels, **sensors)
    assert found["energy_j"].value is None
    assert str(found["energy_j"].reason).startswith(reason)


def test_a_short_window_has_no_energy() -> None:
    found = of(events_of(STEADY), {"a": lambda t: t}, a=energy_note("soc"))
    assert str(found["j_per_inference"].reason).startswith("window_too_short: the measured window is")


def test_a_counter_that_was_reset_while_measuring_gives_no_energy() -> None:
    found = of(events_of(LONG), {"a": lambda t: np.where(t > 40, t - 40, t)}, a=energy_note("soc"))
    assert str(found["energy_j"].reason).startswith("sensor_gap")


def test_the_clocks_of_the_device_are_compared_at_both_ends() -> None:
    events = events_of(STEADY)
    assert suspend_s(events) == pytest.approx(0)
    assert suspend_s(events[:-1]) is None
    stepped = event(events[-1].t, "agent.end", realtime_ns=events[-1].t + 890 * S)
    assert realtime_step_s([*events[:-1], stepped]) == pytest.approx(-10)


FIELDS = st.dictionaries(
    st.sampled_from(["i", "name", "ok", "exit", "signal", "why", "kind", "boottime_ns", "cpu_ns", "vm_hwm_kb"]),
    st.one_of(st.none(), st.booleans(), st.integers(), st.just(10**30), st.floats(), st.text(max_size=5)),
)
NAMES = st.sampled_from([e.ev for e in events_of(STEADY[:1])] + ["error", "agent.kill", "agent.set", "odd"])


@settings(deadline=None, max_examples=150)
@given(
    cut=st.integers(0, 60),
    odd=st.lists(st.tuples(st.one_of(st.integers(BOOT, BOOT + S), st.just(-(10**30))), NAMES, FIELDS), max_size=5),
    data=st.data(),
)
def test_no_truncated_or_mangled_event_list_raises(cut: int, odd: list[Any], data: st.DataObject) -> None:
    whole = events_of(np.full(15, 0.02))
    events = whole[:cut]
    for t, ev, fields in odd:
        events.insert(data.draw(st.integers(0, len(events))), Event(t=t, ev=ev, **fields))
    trace = trace_of(whole, {"a": lambda t: t, "engine.cpu_s": lambda t: t})
    for sampled in (trace, EMPTY):
        found = metrics(told(events), sampled, {"a": note("energy", boundary="soc", provenance="counter")}, BURST)
        assert all((metric.value is None) != (metric.reason is None) for metric in found.values())
        judge(told(events), sampled, {"a": note("clock")}, BURST)
