"""Resuming when something has changed meanwhile: refused or told in a sentence; no run is lost or made twice."""

from __future__ import annotations

import itertools
import os
import signal
from typing import TYPE_CHECKING

import pytest
from workspace import Workspace, ended, running_job, until

from melt import makers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer


def killed_with_a_job_under_way(workspace: Workspace, min_s: float = 1.5) -> Path:
    """The folder of a job whose melt was killed; the device goes on with it."""
    workspace.suite(protocol={"preset": "quick", "runs": 2, "min_s": min_s, "seed": 3})
    child = workspace.begin()
    job, _ = running_job(workspace)
    child.kill()
    child.wait()
    return job


def is_done(job: Path) -> bool:
    return b'"state":"done"' in (job / "status").read_bytes()


def test_a_job_is_not_forgotten_because_the_lab_file_names_another_folder(workspace: Workspace, tmp_path: Path) -> None:
    job = killed_with_a_job_under_way(workspace)
    workspace.lab(workdir=tmp_path / "elsewhere")
    said = workspace.run("--resume")
    assert said.code == 2, said
    assert job.name in said.sentence
    assert str(workspace.workdir) in said.sentence
    workspace.lab()
    assert workspace.run("--resume").code == 0
    assert job.name in {run.record.run_id for run in workspace.runs()}
    assert len(workspace.runs()) == 2


def test_another_model_under_the_same_name_is_refused(workspace: Workspace) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 2, "min_s": 1.5, "seed": 3})
    child = workspace.begin()
    until(workspace.runs, "the first run")
    running_job(workspace)
    child.send_signal(signal.SIGINT)
    assert ended(child).code == 130
    makers.make("mlp", workspace.folder / "toy.onnx", seed=2)
    said = workspace.run("--resume")
    assert said.code == 2, said
    assert "model_sha256" in said.sentence
    assert len(workspace.runs()) == 1


@pytest.mark.parametrize("content", [b"", b"garbage", b'{"state":"runn'])
def test_a_damaged_status_costs_nothing_of_the_run(workspace: Workspace, content: bytes) -> None:
    job = killed_with_a_job_under_way(workspace, min_s=0.3)
    until(lambda: is_done(job), "the job to end")
    (job / "status").write_bytes(content)
    assert workspace.run("--resume").code == 0
    adopted = {run.record.run_id: run.record for run in workspace.runs()}[job.name]
    assert (adopted.status, adopted.undo.complete) == ("ok", True)
    assert len(workspace.runs()) == 2


def test_a_damaged_note_is_told_and_left(workspace: Workspace) -> None:
    job = killed_with_a_job_under_way(workspace, min_s=0.3)
    until(lambda: is_done(job), "the job to end")
    (note,) = workspace.results.glob("faults/*/pending/*.json")
    note.write_text("")
    said = workspace.run("--resume")
    assert said.code == 0, said
    assert note.name in said.stderr
    assert note.exists()
    assert job.exists(), "nothing that may hold a measurement is removed"


def test_a_run_folder_that_cannot_be_read_is_told_and_its_slot_made_again(workspace: Workspace) -> None:
    assert workspace.run().code == 0
    first = workspace.runs()[0]
    (first.path / "run.json").write_text("")
    said = workspace.run("--resume")
    assert said.code == 0, said
    assert first.record.run_id in said.stderr


def test_an_unreadable_session_does_not_hide_the_one_to_resume(workspace: Workspace) -> None:
    killed_with_a_job_under_way(workspace, min_s=0.3)
    later = workspace.results / "faults" / "20991231T235959Z"
    later.mkdir()
    (later / "session.json").write_text("")
    assert workspace.run("--resume").code == 0


def test_a_session_in_which_nothing_began_leaves_no_trace(workspace: Workspace) -> None:
    said = workspace.run("--set", "params.treads=1")
    assert said.code == 2
    assert list(workspace.results.glob("faults/*")) == []


def test_the_printed_command_goes_on_with_what_was_typed(workspace: Workspace) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 2, "min_s": 1.5, "seed": 3})
    child = workspace.begin("--runs", "3", "--set", "params.threads=1")
    running_job(workspace)
    child.send_signal(signal.SIGINT)
    line = ended(child).stderr.strip().splitlines()[-1]
    typed = line[line.index("melt run") :].split()[2:]
    assert "--lab" in typed
    said = workspace.run(*typed[typed.index("--lab") + 2 :])
    assert said.code == 0, said
    assert len(workspace.runs()) == 3


def test_a_killed_agent_that_had_changed_nothing_leaves_nothing_to_put_back(workspace: Workspace) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 1, "min_s": 3.0})
    child = workspace.begin()
    _, status = running_job(workspace)
    os.kill(status["agent_pid"], signal.SIGKILL)
    assert ended(child).code == 1
    assert workspace.runs()[0].record.undo.complete


def test_nobody_has_to_listen(workspace: Workspace) -> None:
    child = workspace.begin()
    assert child.stderr is not None
    child.stderr.close()
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait(timeout=60) == 0
    assert len(workspace.runs()) == 2


def test_two_names_of_one_machine_take_turns(workspace: Workspace, tmp_path: Path) -> None:
    device = {"profile": "bare", "address": "local:"}
    devices = {name: {**device, "workdir": str(tmp_path / name)} for name in ("one", "two")}
    workspace.write("lab.yaml", {"kind": "lab", "devices": devices})
    said = workspace.run_on("one", "two")
    assert said.code == 0, said
    windows = sorted((run.events().landmarks[0].t, run.events().landmarks[-1].t) for run in workspace.runs())
    assert len(windows) == 4
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(windows))


def test_a_part_of_a_push_that_was_cut_is_no_file_of_the_job(workspace: Workspace) -> None:
    child = workspace.begin()
    job, _ = running_job(workspace)
    (job / ".melt-0badcafe.part").write_bytes(b"half a plan")
    said = ended(child)
    assert said.code == 0, said
    assert len(workspace.runs()) == 2
    assert workspace.jobs() == []
