"""The virtual phone, Jetson and Pis carry out runs as any device would, behind a real adbd and real SSH servers.

The agent and the engine are the real ones; only what the sensors say is made. What is made is known exactly, so the
energy that melt tells is held against the truth.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from boards_lab import Bench, cpu_s, stamps, trace_of

from melt.analysis.events import Asked
from melt.analysis.measured import measure
from melt.device import open_device
from melt.job import read_events
from melt.records import ReasonCode
from melt.virtual.kinds import KINDS
from melt.virtual.lab import virtual_lab
from melt.virtual.scenario import FileFault, Scenario, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from melt.files import Lab
    from melt.store import StoredRun

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("virtual boards")]

BOARDS = ("phone", "jetson", "pi", "pi4")
POWER = {"phone": "battery.power", "jetson": "input", "pi": "board"}
INA = "/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon*/"
ZONE = "/sys/class/thermal/thermal_zone"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def lab(bench: Bench) -> Iterator[Lab]:
    said: list[str] = []
    with virtual_lab(bench.boards, say=said.append) as lab:
        if said:
            pytest.skip(f"the virtual boards are NOT tested: {said}")
        yield lab


@pytest.fixture(scope="module")
def runs(bench: Bench, lab: Lab) -> Mapping[str, StoredRun]:
    return bench.carry_out(lab, *BOARDS, min_s=3.0)


@pytest.mark.parametrize("board", BOARDS)
def test_a_run_has_latency_memory_clocks_heat_and_power_on_one_axis_of_time(
    board: str, runs: Mapping[str, StoredRun]
) -> None:
    run = runs[board]
    record = run.record
    assert record.usable, record.reasons
    assert record.simulated
    assert record.engine["output"]["agrees"] is True
    assert record.undo.complete
    assert record.metrics["latency_p50_s"].value is not None
    begin, end = stamps(run, "agent.engine.start", "agent.engine.end")
    trace = trace_of(run)
    within = trace[(trace["t_ns"] > begin) & (trace["t_ns"] < end) & trace["value"].notna()]
    kinds = {record.sensors[channel].quantity for channel in within["channel"].unique()}
    wanted = {"clock", "temperature", "memory", *(["power"] if board in POWER else [])}
    assert wanted <= kinds


@pytest.mark.parametrize("board", POWER)
def test_power_rises_when_the_engine_works(board: str, runs: Mapping[str, StoredRun], bench: Bench) -> None:
    begin, end = stamps(runs[board], "agent.engine.start", "agent.engine.end")
    length_s, kind = (end - begin) * 1e-9, KINDS[board]
    true_j = bench.true_j(board, begin, end)
    # on a loaded computer an engine is seldom busy: what counts is what it really spent, at any clock that there is
    busy_s = cpu_s(runs[board]) / len(os.sched_getaffinity(0))
    dynamic_j = busy_s * sum(rail.dynamic_w for rail in kind.rails)
    assert 0.05 * dynamic_j < true_j - kind.idle_w * length_s < 1.3 * dynamic_j + 0.05 * kind.idle_w * length_s
    trace = trace_of(runs[board])
    told = trace[(trace["channel"] == POWER[board]) & (trace["t_ns"] > begin)]["value"].dropna()
    assert told.max() > kind.idle_w + 0.3 * (true_j / length_s - kind.idle_w)


def test_the_governor_that_was_held_is_back_when_the_runs_are_over(runs: Mapping[str, StoredRun], bench: Bench) -> None:
    assert any("scaling_governor" in changed for changed in runs["jetson"].record.undo.changed)
    policies = (bench.boards / "jetson" / "sysroot/sys/devices/system/cpu/cpufreq").glob("policy*")
    assert {(policy / "scaling_governor").read_text() for policy in policies} == {"schedutil\n"}


def test_a_pi_4_tells_why_it_has_no_energy(runs: Mapping[str, StoredRun]) -> None:
    record = runs["pi4"].record
    energies = [metric for name, metric in record.metrics.items() if name.startswith("energy_")]
    assert energies
    assert {metric.value for metric in energies} == {None}
    assert all("no sensor of current" in (metric.reason or "") for metric in energies)
    assert {note.quantity for note in record.sensors.values()}.isdisjoint({"power", "energy"})


def test_files_that_fail_during_a_run_cost_their_own_figures_only(bench: Bench, tmp_path: Path) -> None:
    troubles = {"0": "gone", "1": "garbage", "3": "gone", "4": "empty"}
    faults = tuple(
        FileFault(since="engine", begin_s=1.0, path=f"{ZONE}{number}/temp", trouble=trouble)  # type: ignore[arg-type]
        for number, trouble in troubles.items()
    )
    here = Bench(tmp_path)
    with virtual_lab(here.boards, only=["jetson"], scenarios={"jetson": Scenario(faults=faults)}) as lab:
        spec = lab.device("jetson")
        with open_device("jetson", spec, lab.profile(spec)) as device:
            assert "hangs" in device.absent[f"{ZONE}2/temp"]
        run = here.carry_out(lab, "jetson", min_s=4.0)["jetson"]
    assert run.record.status == "ok"
    trace = trace_of(run)
    end = int(trace["t_ns"].max())
    for name in ("cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal"):
        mine = trace[trace["channel"] == f"zone.{name}"]
        assert mine["value"].notna().any(), name
        assert mine[mine["t_ns"] > end - 1.2e9]["value"].isna().all(), name
    assert trace[(trace["channel"] == "input") & (trace["t_ns"] > end - 0.5e9)]["value"].notna().any()


def test_a_power_monitor_that_hangs_is_told_and_the_device_still_runs(tmp_path: Path) -> None:
    here = Bench(tmp_path)
    faults = (FileFault(path=f"{INA}curr1_input", trouble="hangs"),)
    with virtual_lab(here.boards, only=["jetson"], scenarios={"jetson": Scenario(faults=faults)}) as lab:
        record = here.carry_out(lab, "jetson")["jetson"].record
    assert record.status == "ok"
    assert "input" not in record.sensors
    assert record.metrics["energy_j"].value is None
    assert record.metrics["energy_j"].reason


def test_a_monitor_that_the_kernel_numbers_anew_has_the_name_it_had(tmp_path: Path) -> None:
    here = Bench(tmp_path)
    found = []
    for number in (3, 7):
        with virtual_lab(here.boards, only=["jetson"], scenarios={"jetson": Scenario(hwmon=number)}) as lab:
            spec = lab.device("jetson")
            with open_device("jetson", spec, lab.profile(spec)) as device:
                power = {c.name: s.path for s in device.sensors for c in s.channels if c.quantity == "power"}
        assert f"/hwmon{number}/" in (power["input"] or "")
        found.append(set(power))
    assert found[0] == found[1]


def test_a_phone_whose_battery_is_low_is_left_alone(tmp_path: Path) -> None:
    here = Bench(tmp_path)
    with virtual_lab(here.boards, only=["phone"], scenarios={"phone": Scenario(level=0.05)}) as lab:
        record = here.carry_out(lab, "phone", precheck={"max_wait_s": 1})["phone"].record
    assert record.status == "skipped"
    assert [reason.code for reason in record.reasons] == [ReasonCode.PRECHECK]
    assert "battery" in record.reasons[0].detail


def test_a_board_that_never_cools_is_not_made_hotter(tmp_path: Path) -> None:
    here = Bench(tmp_path)
    with virtual_lab(here.boards, only=["jetson"], scenarios={"jetson": Scenario(ambient_c=75.0)}) as lab:
        record = here.carry_out(lab, "jetson", precheck={"max_wait_s": 1, "zone_max_c": 60})["jetson"].record
    assert record.status == "skipped"
    assert [reason.code for reason in record.reasons] == [ReasonCode.PRECHECK]
    assert "zone." in record.reasons[0].detail


def test_a_charger_that_is_plugged_in_during_a_run_is_noticed(tmp_path: Path) -> None:
    here = Bench(tmp_path)
    scenario = Scenario(charger=(Span(since="engine", begin_s=1.5),))
    with virtual_lab(here.boards, only=["phone"], scenarios={"phone": scenario}) as lab:
        run = here.carry_out(lab, "phone", min_s=8.0)["phone"]
    trace = trace_of(run)
    told = trace[trace["channel"] == "battery.charger"]["value"].dropna()
    assert told.iloc[0] == 0
    assert told.iloc[-1] == 1
    assert ReasonCode.CHARGER in {reason.code for reason in run.record.reasons}


@pytest.mark.parametrize("board", ["phone", "jetson", "pi4"])
def test_a_board_that_is_slowed_during_a_run_shows_it_and_the_run_says_so(board: str, tmp_path: Path) -> None:
    here = Bench(tmp_path)
    scenario = Scenario(throttled=(Span(since="engine", begin_s=1.0),))
    with virtual_lab(here.boards, only=[board], scenarios={board: scenario}) as lab:
        record = here.carry_out(lab, board, min_s=8.0)[board].record
    assert ReasonCode.THROTTLED in {reason.code for reason in record.reasons}
    assert record.verdict == "invalid"


def test_a_pi_whose_supply_is_weak_says_so(tmp_path: Path) -> None:
    here = Bench(tmp_path)
    scenario = Scenario(under_voltage=(Span(since="engine", begin_s=1.0, end_s=2.5),))
    with virtual_lab(here.boards, only=["pi4"], scenarios={"pi4": scenario}) as lab:
        record = here.carry_out(lab, "pi4", min_s=8.0)["pi4"].record
    assert ReasonCode.UNDER_VOLTAGE in {reason.code for reason in record.reasons}


def test_the_energy_that_is_told_is_the_truth_within_what_is_stated(tmp_path: Path) -> None:
    here = Bench(tmp_path)
    with virtual_lab(here.boards, only=["jetson"]) as lab:
        run = here.carry_out(lab, "jetson", min_s=95.0)["jetson"]
    window = measure(read_events(run.path / "events.jsonl"), Asked()).window
    assert window is not None
    metric = run.record.metrics["energy_j"]
    assert metric.value is not None, metric.reason
    true_j = here.true_j("jetson", *window)
    assert metric.error is not None
    assert abs(metric.value - true_j) <= metric.error
    assert metric.value == pytest.approx(true_j, rel=0.01)
