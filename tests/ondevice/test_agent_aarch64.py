"""The agent for aarch64 carries out a job, under an emulator of that processor."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from agent_jobs import LIMIT_S, Bench, command_sensor, file_sensor

from melt import native
from melt.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer

ELF_AARCH64 = 183


@pytest.fixture(scope="module")
def agent() -> Path:
    try:
        return native.build("agent", "aarch64")
    except UsageError as error:
        pytest.skip(f"the agent for aarch64 is NOT tested: {error}")


@pytest.fixture
def emulated(agent: Path, tmp_path: Path) -> Path:
    """A program that starts the agent under the emulator; what it forks is emulated too."""
    if native.host_machine() == "aarch64":
        return agent
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("the agent for aarch64 is NOT run: the package qemu-user-static is missing")
    starter = tmp_path / "agent"
    starter.write_text(f'#!/bin/sh\nexec {emulator} {agent} "$@"\n')
    starter.chmod(0o755)
    return starter


def test_the_agent_for_aarch64_needs_no_library(agent: Path) -> None:
    header = agent.read_bytes()[:20]
    assert header[:4] == b"\x7fELF"
    assert int.from_bytes(header[18:20], "little") == ELF_AARCH64
    assert b"/ld-" not in agent.read_bytes()


def test_a_job_is_carried_out_on_aarch64(emulated: Path, tmp_path: Path) -> None:
    every = bytes(range(256)) + b"."
    (tmp_path / "bytes").write_bytes(every)
    (tmp_path / "knob").write_text("old\n")
    bench = Bench(emulated, tmp_path / "device")
    job = bench.job(
        engine=("/bin/cat", str(tmp_path / "knob")),
        sensors=[file_sensor("bytes", tmp_path / "bytes"), command_sensor("said", "/bin/echo", "word")],
        settings=[(str(tmp_path / "knob"), "new")],
        idle_s=0.6,
    )
    status = job.run()
    assert (status["exit"], status["undone"]) == (0, True)
    assert job.stdout() == "new\n"
    assert (tmp_path / "knob").read_text() == "old\n"
    assert {row.value for row in job.rows("bytes")} == {every}
    assert {row.value for row in job.rows("said")} == {b"word"}
    assert job.event("agent.engine.end")["exit"] == 0
    assert job.log() == ""


def test_a_device_s_files_are_read_on_aarch64(emulated: Path, tmp_path: Path) -> None:
    (tmp_path / "zone0").write_text("41000\n")
    done = subprocess.run(
        [emulated, "probe", "1000", f"{tmp_path}/zone*"], capture_output=True, timeout=LIMIT_S, check=True
    )
    assert done.stdout.endswith(b'"data":"41000\\n"}\n')
