"""Death at any moment: of the agent, of the engine, of melt itself. Nothing is lost, nothing is measured twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import psutil
import pytest
from workspace import Workspace, ended, running_job, until

from melt.job import read_events

pytestmark = pytest.mark.peer

STEPS = ("precheck", "deliver", "start", "watch", "collect", "analyse", "store", "forget", "done")

DIES_AT = """
import os, signal, sys, threading
from pathlib import Path
from melt.files import load_lab, load_suite
from melt.lab import begin_session, carry_out_session, make_plan

step, nth = sys.argv[1], int(sys.argv[2])
lab = load_lab(Path("lab.yaml"))
plan = make_plan(*load_suite("suite.yaml"), lab, ("here",), {})
session = begin_session(plan, Path("results"))
seen = 0

def die(progress):
    global seen
    seen += progress.step == step
    if seen == nth:
        os.kill(os.getpid(), signal.SIGKILL)

carry_out_session(session, plan, lab, say=print, on_progress=die, cancelled=threading.Event())
"""
"""A melt that kills itself when a step begins: the moment is exact, and nobody had to guess it."""


def check_once_each(workspace: Workspace) -> None:
    """Every slot has one usable run, no job is left on the device, and nothing is pending."""
    done = [(r.record.block, r.record.cell) for r in workspace.runs() if r.record.status != "skipped"]
    assert sorted(done) == [(0, "toy"), (1, "toy")]
    assert all(run.record.usable for run in workspace.runs())
    assert workspace.jobs() == []
    assert list(workspace.results.glob("faults/*/pending/*")) == []
    assert list(workspace.results.glob("faults/*/.part-*")) == []


def test_a_killed_agent_costs_its_run_only_and_leaves_no_engine(workspace: Workspace) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 2, "min_s": 2.0, "seed": 3})
    child = workspace.begin()
    job, status = running_job(workspace)
    until(lambda: len(read_events(job / "events.jsonl").inferences) > 50, "fifty inferences")
    os.kill(status["agent_pid"], signal.SIGKILL)
    until(lambda: not psutil.pid_exists(status["engine_pid"]), "the engine to follow its agent")
    said = ended(child)
    assert said.code == 1, said
    assert "agent_killed" in said.stderr
    assert "Traceback" not in said.stderr
    first, second = [run.record for run in workspace.runs()]
    assert (first.status, first.verdict) == ("failed", "invalid")
    assert "agent_killed" in [reason.code for reason in first.reasons]
    assert second.usable
    assert "agent_killed" not in [reason.code for reason in second.reasons]
    assert len(workspace.runs()[0].events().inferences) > 50


def test_a_killed_engine_is_told_with_its_signal_and_keeps_its_data(workspace: Workspace) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 1, "min_s": 3.0})
    child = workspace.begin()
    job, status = running_job(workspace)
    until(lambda: b"measure.begin" in (job / "events.jsonl").read_bytes(), "the measured phase")
    until(lambda: len(read_events(job / "events.jsonl").inferences) > 50, "fifty inferences")
    os.kill(status["engine_pid"], signal.SIGKILL)
    said = ended(child)
    assert said.code == 1, said
    assert "SIGKILL" in said.stderr
    (run,) = workspace.runs()
    assert "crashed" in [reason.code for reason in run.record.reasons]
    assert len(run.events().inferences) > 50


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_a_host_killed_at_a_step_resumes_and_measures_nothing_twice(workspace: Workspace, step: str, nth: int) -> None:
    script = workspace.folder / "dies.py"
    script.write_text(DIES_AT)
    dead = subprocess.run(
        [sys.executable, str(script), step, str(nth)],
        cwd=workspace.folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
    stored = {run.record.run_id for run in workspace.runs()}
    given = {job.name for job in workspace.jobs() if (job / "status").exists()}
    if step == "done" and nth == 2:  # the very last moment: nothing is left to do
        check_once_each(workspace)
        return
    said = workspace.run("--resume")
    assert said.code == 0, said
    check_once_each(workspace)
    # what was stored is still there, and what the device had been given was adopted rather than done again
    assert stored | given <= {run.record.run_id for run in workspace.runs()}


def test_a_host_killed_at_random_moments_still_ends_with_every_run_once(workspace: Workspace) -> None:
    moments = random.Random(11)
    child = workspace.begin()
    for _ in range(8):
        time.sleep(moments.uniform(0.5, 4.0))
        child.kill()
        child.wait()
        if not list(workspace.results.glob("faults/*/session.json")):
            child = workspace.begin()
            continue
        child = workspace.begin("--resume")
    said = ended(child)
    assert said.code in (0, 2), said  # 2: it had been finished before the last kill, and there was nothing to resume
    check_once_each(workspace)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_run_under_way_and_resume_goes_on(workspace: Workspace, number: int) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 2, "min_s": 2.0, "seed": 3})
    child = workspace.begin()
    running_job(workspace)
    child.send_signal(number)
    said = ended(child)
    assert said.code == 130, said
    assert "--resume" in said.stderr
    assert "Traceback" not in said.stderr
    assert workspace.jobs() == []
    assert workspace.run("--resume").code == 0
    check_once_each(workspace)


def test_two_melts_do_not_carry_out_the_same_session(workspace: Workspace) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 2, "min_s": 2.0, "seed": 3})
    child = workspace.begin()
    running_job(workspace)
    said = workspace.run("--resume")
    assert said.code == 2, said
    assert "another melt" in said.sentence
    assert ended(child).code == 0
    check_once_each(workspace)
