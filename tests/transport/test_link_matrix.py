"""Every way a link can fail, in every step of a run, over every transport: nothing lost, nothing measured twice.

Each test is one fault; its cases, a way and a step each, go on side by side, for most of the time they wait. The test
run prints what became of each as a table.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from adbd import other_adb
from far import STEPS, WAYS, Far, far_device, wait_for
from workspace import Said, ended, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.peer

AT_ONCE = 6
LIMIT_S = 240.0
PROTOCOL = {"preset": "quick", "runs": 2, "min_s": 0.6, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
DELIVER_BYTES_PER_S = 60e6
"""The bridge's pace: slow enough that a delivery is under way when a test looks."""


@dataclass(frozen=True)
class Fault:
    """What happens to the link once a step is under way; `then` is how the person's command ends after that."""

    name: str
    strike: Callable[[Far, subprocess.Popen[str]], None]
    then: str = "goes on"
    """`goes on`: exit 0; `resumed`: not exit 0, one sentence, and `--resume` does what is left."""
    ways: tuple[str, ...] = WAYS
    steps: tuple[str, ...] = tuple(STEPS)
    limits: tuple[tuple[str, float], ...] = ()
    prepare: Callable[[Far], None] = lambda _: None


def cut_for(seconds: float) -> Callable[[Far, subprocess.Popen[str]], None]:
    def strike(far: Far, _: subprocess.Popen[str]) -> None:
        far.bridge.shut()
        time.sleep(seconds)
        far.bridge.open()

    return strike


def half_open(far: Far, _: subprocess.Popen[str]) -> None:
    far.bridge.hold()
    time.sleep(20)
    far.bridge.release()


def freeze(far: Far, _: subprocess.Popen[str]) -> None:
    far.freeze()
    time.sleep(20)
    far.thaw()


def reset(far: Far, _: subprocess.Popen[str]) -> None:
    far.bridge.reset()


def restart(far: Far, _: subprocess.Popen[str]) -> None:
    far.restart()


def cut_for_good(far: Far, child: subprocess.Popen[str]) -> None:
    far.bridge.shut()
    child.wait(LIMIT_S)
    far.bridge.open()


def kill_host(_: Far, child: subprocess.Popen[str]) -> None:
    child.kill()


def kill_server(far: Far, _: subprocess.Popen[str]) -> None:
    assert far.server is not None
    far.server.kill()


def replace_server(far: Far, _: subprocess.Popen[str]) -> None:
    assert far.server is not None
    far.server.kill()
    far.server.start(other_adb())


def flip(far: Far, _: subprocess.Popen[str]) -> None:
    far.bridge.flips = 1


def let_go_on(_: Far, __: subprocess.Popen[str]) -> None:
    """The fault is there from the beginning."""


def crawl(far: Far) -> None:
    """1 MB/s, and every 4 MB nothing at all for 3 s."""
    far.bridge.rate_bytes_per_s = 1e6
    far.bridge.stall_every_bytes, far.bridge.stall_s = 4_000_000, 3.0


FAULTS = (
    Fault("cut, back after 5 s", cut_for(5)),
    Fault("cut, back after 60 s", cut_for(60)),
    Fault("cut for good", cut_for_good, then="resumed", limits=(("link_s", 2.0), ("wall_s", 6.0))),
    Fault("half-open for 20 s", half_open),
    Fault("peer frozen for 20 s", freeze),
    Fault("reset", reset),
    Fault("daemon restarted", restart),
    Fault("adb server killed", kill_server, ways=("adb",)),
    Fault("adb server replaced", replace_server, ways=("adb",)),
    Fault("host killed", kill_host, then="resumed"),
    Fault("a wrong bit", flip, ways=("adb", "adb+tcp"), steps=("collect",)),
    Fault("1 MB/s with stalls", let_go_on, steps=("deliver",), prepare=crawl),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost_and_nothing_twice(
    fault: Fault, tmp_path: Path, toy_model: Path, record_property: Callable[[str, object], None]
) -> None:
    cases = [(way, step) for way in fault.ways for step in fault.steps]

    def carry_out(case: tuple[str, str]) -> str:
        way, step = case
        try:
            return one_case(fault, way, step, tmp_path / f"{way}-{step}", toy_model)
        except pytest.skip.Exception as skipped:
            return f"NOT tested: {skipped}"
        except (AssertionError, OSError, ValueError) as error:
            return f"FAILED: {error}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = dict(zip(cases, pool.map(carry_out, cases), strict=True))
    for (way, step), outcome in outcomes.items():
        record_property("link fault", json.dumps([fault.name, way, step, outcome.partition("\n")[0][:60]]))
    failures = {case: outcome for case, outcome in outcomes.items() if outcome.startswith("FAILED")}
    assert not failures, "\n\n".join(f"{way}, {step}: {outcome}" for (way, step), outcome in failures.items())
    if all(outcome.startswith("NOT") for outcome in outcomes.values()):
        pytest.skip(next(iter(outcomes.values())))


def one_case(fault: Fault, way: str, step: str, folder: Path, toy_model: Path) -> str:
    """Runs the suite, strikes in the step, and checks what a person is left with; how it went, in a word."""
    with far_device(way, folder, toy_model) as far:
        workspace = far.workspace
        workspace.suite(protocol=PROTOCOL, limits=dict(fault.limits))
        far.bridge.rate_bytes_per_s = DELIVER_BYTES_PER_S
        fault.prepare(far)
        child = workspace.begin()
        wait_for(step, workspace, child)
        fault.strike(far, child)
        said = ended(child, LIMIT_S)
        word = fault.then
        if fault.then == "goes on":
            assert said.code == 0, said
        else:
            if fault.strike is not kill_host:
                check_told(said)
            if said.code != 0:
                said = workspace.run("--resume")
                assert said.code == 0, said
            else:
                word = "was done before"
        assert not far.bridge.flips, "no message was large enough to be damaged"
        check_once_each(far)
        lost = sum(run.record.host.get("link_lost_n", 0) for run in workspace.runs())
        return f"{word}, link lost {lost:.0f}×" if lost else word


def check_told(said: Said) -> None:
    """The command ended for the link's sake, with one sentence that names the device, and no traceback."""
    assert "Traceback" not in said.stderr
    assert said.code in (0, 4), said
    if said.code:
        assert re.search(r"^here: .*\baway for\b", said.stderr, re.MULTILINE), said


def check_once_each(far: Far) -> None:
    """Every planned run is there once and usable; nothing is left on the device, in processes or in notes."""
    workspace = far.workspace
    records = [run.record for run in workspace.runs()]
    assert sorted((record.block, record.status, record.usable) for record in records) == [
        (0, "ok", True),
        (1, "ok", True),
    ]
    assert len({record.run_id for record in records}) == 2
    assert workspace.jobs() == []
    assert list(workspace.results.glob("faults/*/pending/*")) == []
    mine = (str(workspace.workdir), str(workspace.folder / "suite.yaml"))

    def left() -> list[str]:
        lines = (" ".join(process.info["cmdline"] or ()) for process in workspace.processes())
        return [line for line in lines if any(mark in line for mark in mine)]

    until(lambda: not left(), "no process left on the device", 30)
