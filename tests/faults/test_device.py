"""What a device's folder can refuse: told in one sentence before anything is measured."""

from __future__ import annotations

import hashlib
import itertools
import platform
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from workspace import Said, Workspace, ended, may, until

from melt import native

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer


def run_on_mount(workspace: Workspace, mountpoint: Path, options: str, *more: str) -> Said:
    """`melt run` in a mount namespace of its own, in which `mountpoint` is a tmpfs with these options."""
    if not may("unshare", "--mount", "mount", "-t", "tmpfs", "-o", options, "none", "/mnt"):
        pytest.skip("mounting a file system of its own needs root (or unshare from util-linux)")
    mountpoint.mkdir()
    workspace.lab(workdir=mountpoint)
    script = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    child = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", options, str(mountpoint), *workspace.argv(*more)],
        cwd=workspace.folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    workspace.children.append(child)
    return ended(child)


def test_a_full_device_is_told_before_anything_is_sent(workspace: Workspace, tmp_path: Path) -> None:
    said = run_on_mount(workspace, tmp_path / "small", "size=8m")
    assert said.code == 1, said
    assert "MiB free" in said.stderr
    assert "workdir" in said.stderr
    records = [run.record for run in workspace.runs()]
    assert {record.status for record in records} == {"skipped"}
    assert {reason.code for record in records for reason in record.reasons} == {"no_space"}


def test_a_device_too_full_for_the_agent_is_told(workspace: Workspace, tmp_path: Path) -> None:
    said = run_on_mount(workspace, tmp_path / "tiny", "size=64k")
    assert said.code == 1, said
    assert "no space is left" in said.sentence
    assert workspace.runs() == []


def test_a_read_only_work_folder_is_told(workspace: Workspace, tmp_path: Path) -> None:
    said = run_on_mount(workspace, tmp_path / "fixed", "ro")
    assert said.code == 1, said
    assert "work folder" in said.sentence
    assert "workdir" in said.sentence
    assert workspace.runs() == []


def test_a_work_folder_mounted_noexec_is_told(workspace: Workspace, tmp_path: Path) -> None:
    said = run_on_mount(workspace, tmp_path / "noexec", "noexec")
    assert said.code == 1, said
    assert "noexec" in said.sentence
    assert workspace.runs() == []


def test_after_the_folder_was_put_right_resume_makes_the_runs(workspace: Workspace, tmp_path: Path) -> None:
    assert run_on_mount(workspace, tmp_path / "small", "size=8m").code == 1
    said = workspace.run("--resume")
    assert said.code == 0, said
    statuses = [run.record.status for run in workspace.runs()]
    assert statuses.count("skipped") == 2
    assert statuses.count("ok") == 2


def test_two_hosts_on_one_device_take_turns(workspace: Workspace) -> None:
    workspace.suite(precheck={"max_wait_s": 60.0})
    first = workspace.begin("--results", "results/a")
    second = workspace.begin("--results", "results/b")
    for child in (first, second):
        said = ended(child)
        assert said.code == 0, said.stderr
    windows = []
    for run in workspace.runs():
        stamps = [event.t for event in run.events().landmarks]
        windows.append((stamps[0], stamps[-1]))
    windows.sort()
    assert len(windows) == 4
    for (_, end), (begin, _) in itertools.pairwise(windows):
        assert end <= begin


def test_a_host_that_may_not_wait_is_told_who_holds_the_device(workspace: Workspace) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 1, "min_s": 6.0}, precheck={"max_wait_s": 0.0})
    first = workspace.begin("--results", "results/a")
    lock = workspace.workdir / "melt" / "lock"

    until(lambda: lock.exists() and lock.read_text(), "the first host to hold the device")
    said = workspace.run("--results", "results/b")
    assert said.code == 1, said
    assert f"locked by {lock.read_text().strip()}" in said.stderr
    (skipped,) = [r.record for r in workspace.runs() if r.record.status == "skipped"]
    assert [reason.code for reason in skipped.reasons] == ["locked"]
    assert ended(first).code == 0


def test_a_program_that_another_host_is_writing_is_waited_for(workspace: Workspace) -> None:
    assert workspace.run().code == 0
    program = native.build("ort_runner", platform.machine(), here=True)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    (blob,) = (workspace.workdir / "melt" / "blobs").glob(f"{digest}*")
    with blob.open("r+b"):  # to the kernel it is being written, and cannot be started
        child = workspace.begin()
        until(lambda: len(list(workspace.results.glob("faults/*"))) > 1 or None, "the second session to begin", 30)
        time.sleep(2)
    said = ended(child)
    assert said.code == 0, said.stderr
