"""A whole session on a device that is reached over SSH: this computer by another name, behind a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sshd import Sshd
    from workspace import Workspace

pytestmark = pytest.mark.peer


@pytest.fixture
def board(workspace: Workspace, sshd: Sshd) -> Workspace:
    """The workspace with a device `here` that a person's ~/.ssh/config knows as `board`."""
    config = workspace.folder / "home" / ".ssh" / "config"
    config.parent.mkdir(parents=True, mode=0o700)
    lines = ("Host board", "HostName 127.0.0.1", f"Port {sshd.port}", f"IdentityFile {sshd.identity}")
    config.write_text("\n".join((*lines, f"UserKnownHostsFile {sshd.known_hosts}\n")))
    device = {"profile": "bare", "address": "ssh://board", "workdir": str(workspace.workdir)}
    workspace.write("lab.yaml", {"kind": "lab", "devices": {"here": device}})
    workspace.environment["HOME"] = str(workspace.folder / "home")
    return workspace


def test_a_suite_runs_on_a_device_over_ssh_as_it_does_here(board: Workspace) -> None:
    said = board.run()
    assert said.code == 0, said
    assert [run.record.usable for run in board.runs()] == [True, True]
    assert board.jobs() == []
    record = board.runs()[0].record
    assert record.engine["output"]["agrees"] is True
    assert record.metrics["latency_p50_s"].value is not None


def test_a_device_that_is_not_there_costs_its_own_runs_only(board: Workspace) -> None:
    config = board.folder / "home" / ".ssh" / "config"
    config.write_text(config.read_text() + "Host gone\nHostName 127.0.0.1\nPort 1\n")
    devices = {
        "here": {"profile": "bare", "address": "ssh://board", "workdir": str(board.workdir)},
        "gone": {"profile": "bare", "address": "ssh://gone", "workdir": "/tmp/nowhere"},
    }
    board.write("lab.yaml", {"kind": "lab", "devices": devices})
    said = board.run_on("here", "gone")
    assert said.code == 4, said
    assert "gone" in said.stderr
    assert "Traceback" not in said.stderr
    assert {run.record.device for run in board.runs()} == {"here"}
    assert len(board.runs()) == 2
