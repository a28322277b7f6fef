"""`melt build llama.cpp`: for which level it compiles, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from melt import native

if TYPE_CHECKING:
    from pathlib import Path


def build(folder: Path, *words: str) -> tuple[int, str]:
    """The exit code and the last sentence of a melt that finds no compiler, no device and an empty cache."""
    (folder / "empty").mkdir(exist_ok=True)
    environment = {"PATH": str(folder / "empty"), "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    # a Python without what is installed beside melt has no zig either
    code = "import sys; sys.modules['ziglang'] = None; from melt.cli.app import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "build", *words],
        cwd=folder,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, (done.stderr.strip().splitlines() or [""])[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    profile = {"schema": 1, "kind": "profile", "name": "board", "cpu": "armv8.2-a+dotprod+fp16+i8mm"}
    (tmp_path / "device_profiles").mkdir()
    (tmp_path / "device_profiles" / "board.yaml").write_text(yaml.safe_dump(profile))
    wrong = {**profile, "name": "wrong", "cpu": "armv8.2a"}
    (tmp_path / "device_profiles" / "wrong.yaml").write_text(yaml.safe_dump(wrong))
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump({"schema": 1, "kind": "lab", "devices": {}}))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "level"),
    [
        (["--profile", "raspberry-pi-5"], "armv8.2-a+dotprod+fp16"),
        (["--profile", "board", "--lab", "lab.yaml"], "armv8.2-a+dotprod+fp16+i8mm"),
        (["--level", "armv8-a"], "armv8-a"),
        (["--level", "x86-64-v4", "--machine", "x86_64"], "x86-64-v4"),
        (["--machine", "aarch64"], "armv8-a"),
    ],
)
def test_the_level_that_was_asked_for_is_the_one_that_is_compiled(folder: Path, words: list[str], level: str) -> None:
    code, said = build(folder, "llama.cpp", *words)
    assert (code, f"no compiler can build llama_runner for {level}: " in said) == (2, True), said


def test_without_more_words_it_is_for_this_computer(folder: Path) -> None:
    code, said = build(folder, "llama.cpp")
    assert code != 0
    names = [level.name for level in native.levels(native.host_machine())]
    assert any(f"llama_runner for {name}: " in said for name in names) or "the processor lacks" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--profile", "linux"], "profile 'linux' does not tell its processor: write 'cpu: LEVEL' into it, or say"),
        (["--profile", "wrong", "--lab", "lab.yaml"], "'armv8.2a' is no level of processor: did you mean 'armv8-a'?"),
        (["--level", "armv9"], "'armv9' is no level of processor: "),
        (["--level", "armv8-a", "--machine", "x86_64"], "armv8-a is a level of aarch64, not of x86_64"),
        (["--machine", "riscv64"], "exists for aarch64 and x86_64, not for 'riscv64'"),
        (["--profile", "linux", "--level", "armv8-a"], "say one of --profile, --machine or --level, and --on"),
        (["--on", "local", "--machine", "aarch64"], "say one of --profile, --machine or --level, and --on"),
        (["--on", "local", "--ndk", "."], "say one of --ndk, which builds here, and --on"),
        (["--cmake-arg=-DGGML_CUDA=ON"], "--cmake-arg needs --on or --ndk"),
        (["--ndk", "nowhere"], "nowhere is no Android NDK: it has no build/cmake/android.toolchain.cmake"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(folder: Path, words: list[str], told: str) -> None:
    code, said = build(folder, "llama.cpp", *words)
    assert code in (1, 2)
    assert told in said
    assert not (folder / "cache").exists()


def test_the_programs_and_llama_cpp_are_two_things(folder: Path) -> None:
    assert build(folder) == (
        2,
        "melt: say either --for DEVICE or --machine x86_64 or aarch64, or what: melt build llama.cpp",
    )
    assert "--for is for melt's other programs" in build(folder, "--for", "local", "llama.cpp")[1]
