"""The agent, compiled once and started for real."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from agent_jobs import Bench

from melt import native
from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def agent() -> Path:
    """The agent as it is delivered to this computer."""
    try:
        return native.build("agent", native.host_machine(), here=True)
    except UsageError as error:
        pytest.skip(f"the agent is NOT tested: {error}")


@pytest.fixture
def bench(agent: Path, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(agent, tmp_path / "device")
    yield made
    made.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a full disk is NOT tested: only root may mount one")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a full disk is NOT tested: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)
