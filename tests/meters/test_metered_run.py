"""A run behind a meter and a switched USB port, from the lab file to run.json; also when melt dies in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from workspace import Workspace, ended, running_job

if TYPE_CHECKING:
    from melt.store import StoredRun

pytestmark = pytest.mark.peer

METER = "import time\nwhile True: print(time.monotonic_ns(), 2.5, flush=True); time.sleep(0.005)"

DIES_AT = """
import os, signal, sys, threading
from pathlib import Path
from melt.files import load_lab, load_suite
from melt.lab import begin_session, carry_out_session, make_plan

lab = load_lab(Path("lab.yaml"))
plan = make_plan(*load_suite("suite.yaml"), lab, ("here",), {})
session = begin_session(plan, Path("results"))

def die(progress):
    if progress.step == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

carry_out_session(session, plan, lab, say=print, on_progress=die, cancelled=threading.Event())
"""


@pytest.fixture
def metered(workspace: Workspace) -> Workspace:
    """The workspace with a meter that says 2.5 W and a switch that notes what it is asked."""
    workspace.environment["XDG_CACHE_HOME"] = str(workspace.folder / "cache")
    (workspace.folder / "cache").mkdir()
    real = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "melt"
    (workspace.folder / "cache" / "melt").mkdir()
    for part in real.iterdir():  # what was compiled before is used; notes of switches are not shared
        if part.name != "unplugged":
            (workspace.folder / "cache" / "melt" / part.name).symlink_to(part)
    lab(workspace, [sys.executable, "-c", METER])
    workspace.suite(protocol={"preset": "quick", "runs": 1, "min_s": 0.5, "seed": 3})
    return workspace


def lab(workspace: Workspace, argv: list[str]) -> None:
    note = str(workspace.folder / "noted")
    switch = {key: ["sh", "-c", f"echo {key} >> {note}"] for key in ("off", "on")}
    workspace.write(
        "lab.yaml",
        {
            "kind": "lab",
            "devices": {
                "here": {
                    "profile": "bare",
                    "address": "local:",
                    "workdir": str(workspace.workdir),
                    "meter": "bench",
                    "usb": "hub",
                }
            },
            "meters": {"bench": {"type": "command", "boundary": "board_input", "argv": argv, "gain_error": 0.01}},
            "usb_switches": {"hub": {"type": "command", "settle_s": 0.0, **switch}},
        },
    )


def noted(workspace: Workspace) -> list[str]:
    return (workspace.folder / "noted").read_text().split()


def check(run: StoredRun) -> dict[str, Any]:
    """What every run behind the meter has."""
    told: dict[str, Any] = json.loads((run.path / "run.json").read_text())
    assert told["meter"]["name"] == "bench"
    assert told["meter"]["boundary"] == "board_input"
    assert told["energy"]["total"] == {"sum": ["meter.bench"], "boundary": "board_input", "excludes": []}
    assert told["sensors"]["meter.bench"]["clock_bound_s"] == told["meter"]["clock_bound_s"] > 0
    assert {"meter.json", "meter.parquet"} <= set(told["files"])
    trace = run.trace()
    rows = trace[(trace["channel"] == "meter.bench") & trace["error"].isna()]
    assert set(rows["value"]) == {2.5}
    assert np.all(np.diff(trace["t_ns"]) >= 0)
    return told


def test_a_run_behind_a_meter_has_its_power_on_the_devices_clock(metered: Workspace) -> None:
    said = metered.run()
    assert said.code == 0, said.stderr
    (run,) = metered.runs()
    told = check(run)
    assert told["reasons"] == []
    trace, events = run.trace(), run.events()
    t = trace.loc[trace["channel"] == "meter.bench", "t_ns"]
    # the meter was there before the first inference and after the last
    assert t.min() < events.inferences.begin[0]
    assert t.max() > events.inferences.end[-1]
    assert noted(metered) == ["off", "on"]
    assert list(metered.results.glob("faults/*/pending/*")) == []
    assert told["harness"]["samples"] > 0


@pytest.mark.parametrize("step", ["watch", "collect", "store"])
def test_what_a_killed_melt_recorded_goes_with_the_adopted_run(metered: Workspace, step: str) -> None:
    died = subprocess.run(
        [sys.executable, "-c", DIES_AT, step],
        cwd=metered.folder,
        env={**os.environ, **metered.environment},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert noted(metered) == ["off"]
    said = metered.run("--resume")
    assert said.code == 0, said.stderr
    assert "had left the USB power of 'hub' off: it is on again" in said.stderr + said.stdout
    (run,) = metered.runs()
    told = check(run)
    gaps = [reason["detail"] for reason in told["reasons"] if "meter 'bench'" in reason["detail"]]
    # one that was stopped in good order before it died has all of it
    assert bool(gaps) == (step == "watch")
    assert noted(metered)[:2] == ["off", "on"]
    assert noted(metered)[-1] == "on"
    assert list(metered.results.glob("faults/*/pending/*")) == []


def test_a_meter_that_is_not_there_is_no_run_and_the_power_is_on_again(metered: Workspace) -> None:
    lab(metered, ["no-such-meter"])
    said = metered.run()
    assert said.code == 1
    (run,) = metered.runs()
    assert run.record.status == "skipped"
    (reason,) = run.record.reasons
    assert "meter 'bench': the command 'no-such-meter' ended with code 127" in reason.detail
    assert noted(metered) == ["off", "on"]
    assert list(metered.results.glob("faults/*/pending/*")) == []
    assert metered.jobs() == []


def test_a_meter_that_dies_costs_the_run_a_reason_only(metered: Workspace) -> None:
    lab(metered, ["sh", "-c", "echo 1.0 2.5; sleep 1.2; echo the cable is out >&2; exit 3"])
    metered.suite(protocol={"preset": "quick", "runs": 1, "min_s": 2.0, "seed": 3})
    said = metered.run()
    (run,) = metered.runs()
    assert run.record.status == "ok"
    assert said.code == 0, said.stderr
    details = [reason.detail for reason in run.record.reasons]
    assert any("ended with code 3: the cable is out" in detail for detail in details), details


def test_ctrl_c_puts_the_power_on_and_leaves_nothing(metered: Workspace) -> None:
    metered.suite(protocol={"preset": "quick", "runs": 1, "min_s": 30.0, "seed": 3})
    child = metered.begin()
    running_job(metered)
    child.send_signal(signal.SIGINT)
    said = ended(child)
    assert said.code == 130
    assert noted(metered) == ["off", "on"]
    assert list(metered.results.glob("faults/*/pending/*")) == []
