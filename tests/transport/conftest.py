"""Every transport that the contract suite holds to its promises; a new one joins by a line in `TRANSPORTS`."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from peers import TRANSPORTS, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=sorted(TRANSPORTS))
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    transport = TRANSPORTS[request.param]()
    folder = tmp_path / "device"
    folder.mkdir()
    yield Peer(transport, str(folder))
    transport.close()


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
