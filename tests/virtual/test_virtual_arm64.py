"""A virtual Pi 5 whose agent and engines are the aarch64 binaries, under an emulator, behind an SSH server.

What the other virtual boards show with this computer's own binaries holds for those of a real Pi too: what they do
costs the board's energy, and what its sensors say comes with the latencies on one axis of time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from arm64_board import arm64_lab
from boards_lab import Bench, cpu_s, stamps, trace_of

from melt.device import open_device
from melt.engines.wheels import onnxruntime_library
from melt.errors import UsageError
from melt.virtual.kinds import PI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from melt.files import Lab
    from melt.store import StoredRun

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("virtual boards")]

BOARD = PI.name
CORE = next(rail for rail in PI.rails if rail.name == "VDD_CORE")
FIRST = min(os.sched_getaffinity(0))
POLICY = f"/sys/devices/system/cpu/cpufreq/policy{FIRST}"
AARCH64 = 183
"""EM_AARCH64, an ELF file's e_machine."""


class Done(NamedTuple):
    """The board, and the run that it has carried out."""

    lab: Lab
    bench: Bench
    run: StoredRun

    @property
    def work(self) -> Path:
        """Its work folder, as this computer sees it."""
        return self.bench.boards / BOARD / "work" / "melt"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    try:
        onnxruntime_library("aarch64")
    except UsageError as error:
        pytest.skip(f"a virtual board with another processor is NOT tested: {error}")
    bench = Bench(tmp_path_factory.mktemp("arm64"))
    with arm64_lab(bench.boards, BOARD) as lab:
        yield Done(lab, bench, bench.carry_out(lab, BOARD, min_s=4.0)[BOARD])


def test_its_programs_are_arms_and_its_files_the_boards(done: Done) -> None:
    spec = done.lab.device(BOARD)
    with open_device(BOARD, spec, done.lab.profile(spec)) as device:
        assert (device.machine, device.simulated) == ("aarch64", True)
        assert device.fact("soc") == PI.title
        link = f"/sys/devices/system/cpu/cpu{FIRST}/cpufreq/scaling_driver"
        assert device.probe([link])[link].data == b"melt-virtual\n"
    record = done.run.record
    assert record.simulated
    assert record.fingerprint.hard["machine"] == "aarch64"
    heads = [blob.read_bytes()[:20] for blob in (done.work / "blobs").iterdir()]
    # this kernel would run an x86 program as well: that they ran is no proof of what they are
    assert [head[18] for head in heads if head.startswith(b"\x7fELF")] == [AARCH64] * 3, "agent, runner, library"
    assert list((done.work / "jobs").iterdir()) == []


def test_a_run_has_latency_power_heat_clocks_and_throttling_on_one_axis_of_time(done: Done) -> None:
    record = done.run.record
    assert record.usable, record.reasons
    assert record.engine["output"]["agrees"] is True
    assert record.metrics["latency_p50_s"].value is not None
    begin, end = stamps(done.run, "agent.engine.start", "agent.engine.end")
    assert begin < stamps(done.run, "infer.begin")[0] < end
    trace = trace_of(done.run)
    within = trace[(trace["t_ns"] > begin) & (trace["t_ns"] < end) & trace["value"].notna()]
    channels = set(within["channel"])
    assert {"board", "core", "zone.cpu-thermal", f"cpu.policy{FIRST}.clock", "throttle.throttled"} <= channels
    kinds = {record.sensors[channel].quantity for channel in channels}
    assert {"power", "temperature", "clock", "throttle", "memory"} <= kinds
    assert within[within["channel"].str.startswith("throttle.")]["value"].eq(0).all()


def test_its_power_rises_with_what_the_emulated_engine_computes(done: Done) -> None:
    begin, end = stamps(done.run, "agent.engine.start", "agent.engine.end")
    length_s = (end - begin) * 1e-9
    truth = done.bench.truth(BOARD)
    within = truth[(truth["t_ns"] >= begin) & (truth["t_ns"] <= end)]
    true_j = within["VDD_CORE_j"].iloc[-1] - within["VDD_CORE_j"].iloc[0]
    # held at its highest clock, the rail draws its whole dynamic power in the time that the engine is busy
    dynamic_j = cpu_s(done.run) / len(os.sched_getaffinity(0)) * CORE.dynamic_w
    assert true_j - CORE.idle_w * length_s > 0.5 * dynamic_j
    trace = trace_of(done.run)
    told = trace[(trace["channel"] == "core") & (trace["t_ns"] > begin) & (trace["t_ns"] < end)]["value"].dropna()
    assert told.max() > CORE.idle_w + 0.5 * dynamic_j / length_s


def test_its_governor_is_held_obeyed_and_back(done: Done) -> None:
    record = done.run.record
    assert record.fingerprint.hard["governor"] == "performance"
    assert f"{POLICY}/scaling_governor = performance" in record.undo.changed
    begin, end = stamps(done.run, "agent.engine.start", "agent.engine.end")
    trace = trace_of(done.run)
    clocks = trace[(trace["channel"] == f"cpu.policy{FIRST}.clock") & (trace["t_ns"] > begin) & (trace["t_ns"] < end)]
    assert clocks["value"].median() == 1e3 * PI.cores[0].clocks_khz[-1]
    assert record.undo.complete
    assert Path(f"{done.bench.boards}/{BOARD}/sysroot{POLICY}/scaling_governor").read_text() == "ondemand\n"
