"""What a run holds on a device: told when it does not hold, and back as it was whatever dies."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from pinned_board import GOVERNOR, GPU, Board, held, make_board, one_run, short
from workspace import Workspace, ended, running_job, until

from melt.job.plan import encode_word
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer


@pytest.fixture
def board(workspace: Workspace) -> Board:
    return make_board(workspace)


def test_what_a_profile_pins_is_held_recorded_and_put_back(workspace: Workspace, board: Board) -> None:
    before = board.values()
    short(workspace)
    said = workspace.run()
    assert said.code == 0, said
    (run,) = workspace.runs()
    assert [reason for reason in run.record.reasons if reason.code == "pin"] == []
    assert run.record.undo.complete
    # the record knows the board's files by the board's names
    assert set(run.record.undo.changed) == {
        f"{GOVERNOR} = performance",
        *(f"{GOVERNOR.replace('governor', end)} = 1800000" for end in ("max_freq", "min_freq")),
        f"{GPU} = 800000000",
        "mode = MAXN",
    }
    told = [event.get("ok") for event in run.events().landmarks if event.ev == "agent.held"]
    assert told == [True] * 5
    assert board.values() == before


def test_a_value_that_somebody_changes_during_the_run_makes_it_invalid(workspace: Workspace, board: Board) -> None:
    before = board.values()
    short(workspace, 2.0)
    child = workspace.begin()
    job, _ = running_job(workspace)
    until(lambda: b"measure.begin" in (job / "events.jsonl").read_bytes(), "the measured phase")
    board.path(GOVERNOR).write_text("ondemand\n")
    said = ended(child)
    assert said.code == 1, said
    (run,) = workspace.runs()
    assert (run.record.status, run.record.verdict) == ("ok", "invalid")
    (reason,) = [reason for reason in run.record.reasons if reason.code == "pin"]
    assert reason.detail == f"{GOVERNOR} was to be held at 'performance' and was not at the end: it is 'ondemand'"
    assert run.record.undo.complete
    assert board.values() == before


def test_a_file_that_rounds_what_is_written_makes_the_run_invalid(workspace: Workspace) -> None:
    # the kernel keeps 15 letters of a thread's name
    workspace.profile(pin={"files": {"/proc/self/comm": "a-name-far-too-long-for-it"}})
    short(workspace)
    assert workspace.run().code == 1
    (run,) = workspace.runs()
    assert "it is 'a-name-far-too-'" in next(r.detail for r in run.record.reasons if r.code == "pin")


def test_a_pin_that_hangs_costs_the_run_and_not_the_device(workspace: Workspace, board: Board) -> None:
    before = board.values()
    board.path(GPU).unlink()
    os.mkfifo(board.path(GPU))
    short(workspace)
    said = workspace.run()
    assert said.code == 1, said
    (run,) = workspace.runs()
    assert run.record.status == "ok"
    assert "it hangs" in next(r.detail for r in run.record.reasons if r.code == "pin")
    board.path(GPU).unlink()
    board.path(GPU).write_text(f"{before[str(board.path(GPU))]}\n")
    assert board.values() == before


def test_a_killed_agent_leaves_everything_as_it_was_once_the_host_has_seen_it(
    workspace: Workspace, board: Board
) -> None:
    before = board.values()
    short(workspace, 20.0)
    child = workspace.begin()
    _, status = running_job(workspace)
    assert held(board)
    os.kill(status["agent_pid"], signal.SIGKILL)
    child.communicate(timeout=120)
    (run,) = workspace.runs()
    assert "agent_killed" in [reason.code for reason in run.record.reasons]
    assert run.record.undo.complete
    assert board.values() == before


def test_a_killed_host_and_a_killed_agent_are_mended_by_the_next_session(workspace: Workspace, board: Board) -> None:
    before = board.values()
    short(workspace, 20.0)
    child = workspace.begin()
    _, status = running_job(workspace)
    child.kill()
    child.communicate()
    os.kill(status["agent_pid"], signal.SIGKILL)
    assert held(board)
    short(workspace)
    said = workspace.run()
    assert said.code == 0, said
    assert board.values() == before


def test_the_facts_of_a_device_are_those_after_a_dead_job_was_undone(workspace: Workspace, board: Board) -> None:
    """The next run holds nothing, and its fingerprint must not say what the dead one had held."""
    short(workspace, 20.0)
    child = workspace.begin()
    _, status = running_job(workspace)
    child.kill()
    child.communicate()
    os.kill(status["agent_pid"], signal.SIGKILL)
    assert held(board)
    workspace.profile(readings=["cpu-clock"], pin={})
    short(workspace)
    said = workspace.run()
    assert said.code == 0, said
    (run,) = (run for run in workspace.runs() if run.record.status == "ok")
    assert run.record.fingerprint.hard["governor"] == "schedutil"
    assert board.path(GOVERNOR).read_text() == "schedutil\n"


def test_two_work_folders_wait_for_each_other_on_one_device(workspace: Workspace, board: Board, tmp_path: Path) -> None:
    """Else the later run would take what the first holds for what was there before."""
    before = board.values()
    other = tmp_path / "other"
    device = {"profile": "bare", "address": "local:", "sysroot": str(board.root)}
    devices = {"here": {**device, "workdir": str(workspace.workdir)}, "there": {**device, "workdir": str(other)}}
    workspace.write("lab.yaml", {"kind": "lab", "devices": devices})
    short(workspace, 20.0)
    child = workspace.begin()
    running_job(workspace)
    short(workspace, 0.2, precheck={"max_wait_s": 0.0})
    said = workspace.run_on("there")
    assert "busy, locked by a job of another work folder, which holds values of the device" in said.stderr
    assert "Traceback" not in said.stderr
    child.send_signal(signal.SIGINT)
    ended(child)
    assert board.values() == before
    assert workspace.run_on("there").code == 0
    assert board.values() == before


def test_ctrl_c_tells_what_could_not_be_put_back(workspace: Workspace, board: Board) -> None:
    short(workspace, 20.0)
    child = workspace.begin()
    running_job(workspace)
    board.path(GPU).unlink()
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=120)
    assert child.returncode == 130
    assert "could be put back: the next run there tries again" in stderr
    assert "Traceback" not in stderr
    (job,) = workspace.jobs()
    assert f"({job}/events.jsonl there)" in stderr
    board.path(GPU).write_text("800000000\n")
    short(workspace)
    assert workspace.run().code == 0
    assert board.path(GPU).read_text() == "100000000\n"


def test_a_device_that_rebooted_meanwhile_has_its_commands_undone_and_its_files_left_alone(
    workspace: Workspace, board: Board
) -> None:
    """After a reboot the kernel has its own values again, and what a command wrote to a disk has stayed."""
    crashed = workspace.workdir / "melt" / "jobs" / "20260101T000000Z-00000000"
    crashed.mkdir(parents=True)
    restore = ("/bin/sh", "-c", f'echo "$1" > {board.mode}', "sh", "15W")
    words = ("run", "mode", "15W", str(len(restore)), "2", *restore, "/bin/cat", str(board.mode))
    lines = ("boot_id 00000000-another-boot", "/sys/no/such/file 1", " ".join(map(encode_word, words)))
    (crashed / "undo").write_text("\n".join(lines) + "\n")
    board.mode.write_text("MAXN\n")
    short(workspace)
    said = workspace.run()
    assert said.code == 0, said
    assert (crashed / "undo.done").exists()
    assert board.mode.read_text() == "15W\n"


def test_what_cannot_be_put_back_is_told_and_tried_again(workspace: Workspace, board: Board) -> None:
    short(workspace, 2.0)
    child = workspace.begin()
    running_job(workspace)
    board.path(GPU).unlink()
    _, stderr = child.communicate(timeout=120)
    assert "could be put back: the next run there tries again" in stderr
    assert "Traceback" not in stderr
    (run,) = workspace.runs()
    assert not run.record.undo.complete
    board.path(GPU).write_text("800000000\n")
    short(workspace)
    assert workspace.run().code == 0
    assert board.path(GPU).read_text() == "100000000\n"


def test_a_command_that_says_a_temperature_over_the_ceiling_ends_the_engine_and_keeps_the_data(
    workspace: Workspace,
) -> None:
    """A sensor that is a program, on this computer as the device."""
    temperature = workspace.folder / "degrees"
    temperature.write_text("30\n")
    profile = {"kind": "profile", "name": "bare", "verified": True, "readings": ["load", "memory"]}
    workspace.write("device_profiles/bare.yaml", profile)
    channel = Channel("zone.said", "temperature", float, raw_per_unit=1)
    sensor = Sensor("zone.said", (channel,), 0.2, argv=("/bin/cat", str(temperature)))

    def heat_up() -> None:
        jobs = workspace.workdir / "melt" / "jobs"
        until(lambda: [p for p in jobs.glob("*/trace.csv") if p.read_text().count("zone.said") > 2], "three samples")
        temperature.write_text("91\n")

    heat = threading.Thread(target=heat_up)
    heat.start()
    stored = one_run(workspace, ["-c", "sleep 60"], sensor, zone_max_c=90.0)
    heat.join()
    assert (stored.record.status, stored.record.verdict) == ("failed", "invalid")
    assert "ceiling" in [reason.code for reason in stored.record.reasons]
    assert stored.trace().query("sensor == 'zone.said'")["value"].max() == 91.0
