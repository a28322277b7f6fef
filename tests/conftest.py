"""Fixtures that several folders share: a workspace, a toy model, and libraries that fail on purpose."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from workspace import Workspace, until

from melt import makers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""No test of ours lets a library report to its maker."""

signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell's background job ignores Ctrl-C, and so would every melt that a test starts from there."""


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "toy.onnx"
    makers.make("mlp", path)
    return path


@pytest.fixture
def workspace(tmp_path: Path, toy_model: Path) -> Iterator[Workspace]:
    """Ready to run; afterwards nothing of it may be left running."""
    here = Workspace(tmp_path)
    shutil.copy(toy_model, tmp_path / "toy.onnx")
    here.suite()
    here.workload()
    here.lab()
    here.profile()
    yield here
    for child in here.children:
        if child.poll() is None:
            child.kill()
            child.wait()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()
    left = until(lambda: here.processes() == [] or None, "the workspace's processes to end", 15) or here.processes()
    assert left is True, f"left running: {left}"


@pytest.fixture(scope="session")
def broken_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a library that ONNX Runtime's place can be taken by, which does `body` when it is asked for its API."""
    folder = tmp_path_factory.mktemp("library")

    def make(body: str) -> Path:
        name = f"{abs(hash(body)):x}"
        source, target = folder / f"{name}.c", folder / f"{name}.so"
        source.write_text(
            "#include <signal.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
            f"void *OrtGetApiBase(void) {{ {body} return NULL; }}\n"
        )
        if not target.exists():
            subprocess.run(["cc", "-shared", "-fPIC", "-O0", "-o", target, source], check=True)
        return target

    return make


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
