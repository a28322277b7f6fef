"""What an engine can do wrong: each has its reason, its sentence, exit code 1, and keeps what was measured."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from workspace import Said, Workspace, ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from melt.records import RunRecord

pytestmark = pytest.mark.peer
CGROUPS = Path("/sys/fs/cgroup")


def failed(workspace: Workspace, said: Said, code: str) -> list[RunRecord]:
    """Every planned run was made, none is usable, each says `code`, and a person is told."""
    assert said.code == 1, said
    assert "Traceback" not in said.stderr
    assert code in said.stderr
    records = [run.record for run in workspace.runs()]
    assert len(records) == 2
    for record in records:
        assert record.status == "failed"
        assert record.verdict == "invalid"
        assert code in [reason.code for reason in record.reasons]
        assert record.metrics["latency_p50_s"].value is None
    assert workspace.jobs() == []
    return records


def test_a_crash_is_told_with_its_signal(workspace: Workspace, broken_library: Callable[[str], Path]) -> None:
    workspace.profile(engines={"onnxruntime": {"library": str(broken_library("raise(SIGSEGV);"))}})
    said = workspace.run()
    for record in failed(workspace, said, "crashed"):
        assert "SIGSEGV" in record.reasons[0].detail


def test_an_engine_that_is_silent_is_ended_at_its_limit(
    workspace: Workspace, broken_library: Callable[[str], Path]
) -> None:
    workspace.profile(engines={"onnxruntime": {"library": str(broken_library("for (;;) sleep(9);"))}})
    workspace.suite(limits={"wall_s": 1.0})
    failed(workspace, workspace.run(), "timed_out")


def test_an_engine_that_ignores_being_asked_is_ended_all_the_same(
    workspace: Workspace, broken_library: Callable[[str], Path]
) -> None:
    body = "signal(SIGTERM, SIG_IGN); for (;;) sleep(9);"
    workspace.profile(engines={"onnxruntime": {"library": str(broken_library(body))}})
    workspace.suite(limits={"wall_s": 0.5})
    failed(workspace, workspace.run(), "timed_out")


def test_an_engine_over_its_memory_limit_is_ended(workspace: Workspace, broken_library: Callable[[str], Path]) -> None:
    body = "for (int i = 0; i < 4000; i++) { memset(malloc(1 << 20), 1, 1 << 20); usleep(2000); }"
    workspace.profile(engines={"onnxruntime": {"library": str(broken_library(body))}})
    workspace.suite(limits={"memory_bytes": 100 << 20})
    failed(workspace, workspace.run(), "out_of_memory")


def memory_group(limit_bytes: int) -> Path:
    """A new group of processes that the kernel holds to this much memory, by cgroup v2 or v1."""
    version_1 = CGROUPS / "memory"
    parent, limit = (version_1, "memory.limit_in_bytes") if version_1.is_dir() else (CGROUPS, "memory.max")
    group = parent / f"melt-test-{os.getpid()}"
    try:
        if parent is CGROUPS:
            (CGROUPS / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
        (group / limit).write_text(str(limit_bytes))
    except OSError as error:
        pytest.skip(f"a memory limit of the kernel's needs root and memory control groups: {error}")
    return group


def test_an_engine_killed_by_the_kernel_for_memory_is_out_of_memory_not_crashed(
    workspace: Workspace, broken_library: Callable[[str], Path]
) -> None:
    body = "for (int i = 0; i < 4000; i++) memset(malloc(1 << 20), 1, 1 << 20);"
    workspace.profile(engines={"onnxruntime": {"library": str(broken_library(body))}})
    group = memory_group(800 << 20)
    try:
        enter = f'echo $$ > "{group}/cgroup.procs" && exec "$@"'
        child = subprocess.Popen(
            ["sh", "-c", enter, "sh", *workspace.argv()],
            cwd=workspace.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        workspace.children.append(child)
        failed(workspace, ended(child), "out_of_memory")
    finally:
        group.rmdir()


def test_a_library_that_is_none_is_told(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "no.so").write_text("not a library")
    workspace.profile(engines={"onnxruntime": {"library": str(tmp_path / "no.so")}})
    said = workspace.run()
    assert said.code == 1, said
    assert "no.so" in said.stderr
    records = [run.record for run in workspace.runs()]
    assert [(record.status, record.reasons[0].code) for record in records] == [("skipped", "refused")] * 2
    assert workspace.jobs() == []


def test_a_provider_that_the_library_lacks_is_told(workspace: Workspace) -> None:
    workspace.workload(params={"provider": "QNN"})
    said = workspace.run()
    failed(workspace, said, "refused")
    assert "QNN" in said.stderr
