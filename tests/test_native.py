"""The native programs are compiled once, and what is missing for that is said in one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from melt import native
from melt.errors import Unsupported, UsageError

REPOSITORY = Path(__file__).parents[1]
ONDEVICE = REPOSITORY / "melt" / "ondevice"
BUILD = (
    "import sys\n"
    "from melt.errors import MeltError\n"
    "from melt.native import build, host_machine\n"
    "said = []\n"
    "try: print(build(sys.argv[1], sys.argv[2] or host_machine(), here=True, say=said.append), len(said))\n"
    "except MeltError as error: print(f'{type(error).__name__}: {error}')\n"
)
needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None, reason="compiling is NOT tested: this machine has no cc"
)


def built(
    cache: Path, *, package: Path = REPOSITORY, path: str | None = None, name: str = "agent", machine: str = ""
) -> str:
    """What a fresh process says that builds a program, without the packages that are installed beside melt."""
    env = {"PYTHONPATH": str(package), "XDG_CACHE_HOME": str(cache), "PATH": path or os.environ["PATH"]}
    argv = [sys.executable, "-P", "-S", "-B", "-c", BUILD, name, machine]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def identity(program: str) -> tuple[int, int]:
    status = Path(program).stat()
    return status.st_ino, status.st_mtime_ns


def fake_compiler(folder: Path, script: str) -> str:
    """A PATH on which `cc` is this script."""
    folder.mkdir()
    (folder / "cc").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "cc").chmod(0o755)
    return str(folder)


@pytest.mark.peer
@needs_compiler
def test_a_program_is_compiled_once_for_its_sources(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(REPOSITORY / "melt", package / "melt", ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "cache"
    first, times_said = built(cache, package=package).rsplit(" ", 1)
    assert times_said == "1"
    made = identity(first)
    assert subprocess.run([first, "version"], capture_output=True, check=True).stdout.startswith(b"melt-agent ")

    assert built(cache, package=package) == f"{first} 0"
    assert built(cache) == f"{first} 0", "the same sources elsewhere are the same program"
    assert identity(first) == made

    for changed in ("agent/text.c", "agent/agent.h"):
        with (package / "melt" / "ondevice" / changed).open("a") as source:
            source.write("/* changed */\n")
        other, times_said = built(cache, package=package).rsplit(" ", 1)
        assert (times_said, other != first) == ("1", True)
        first = other
    assert len(list((cache / "melt" / "native").glob("*/agent"))) == 3
    assert list(cache.rglob(".agent-*")) == []


@pytest.mark.peer
@needs_compiler
def test_two_who_compile_at_once_get_the_same_program(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path)}
    argv = [sys.executable, "-P", "-S", "-B", "-c", BUILD, "agent", ""]
    both = [subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=300)[0].split(" ")[0] for process in both}
    assert len(said) == 1
    assert subprocess.run([said.pop(), "version"], capture_output=True, check=False).returncode == 0


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for machine, wanted in (("", "gcc and libc6-dev"), ("aarch64", "gcc-aarch64-linux-gnu")):
        if machine == native.host_machine():
            continue
        said = built(tmp_path, path=str(tmp_path / "empty"), machine=machine)
        assert said.startswith("UsageError: no compiler can build agent for ")
        assert f"install {wanted}, or pip install 'melt[zig]'" in said
        assert "\n" not in said


def test_a_broken_compiler_says_its_last_words_and_leaves_nothing(tmp_path: Path) -> None:
    path = fake_compiler(tmp_path / "bin", "echo 'cc: one' >&2; echo 'cc: out of patience' >&2; exit 4")
    said = built(tmp_path / "cache", path=path)
    assert said == f"UsageError: agent for {native.host_machine()} does not compile: cc: out of patience"
    assert [found for found in (tmp_path / "cache").rglob("*") if found.is_file()] == []


def test_a_compiler_that_fails_in_silence_is_named_with_its_code(tmp_path: Path) -> None:
    path = fake_compiler(tmp_path / "bin", "exit 4")
    assert built(tmp_path / "cache", path=path).endswith(f"does not compile: {path}/cc ended with 4")


def test_a_compiler_that_cannot_be_executed_is_said_to_be(tmp_path: Path) -> None:
    path = fake_compiler(tmp_path / "bin", "")
    (tmp_path / "bin" / "cc").write_bytes(b"\x7fELF nonsense")
    assert "does not compile: " in built(tmp_path / "cache", path=path)


def test_a_machine_that_melt_has_no_programs_for_is_a_gap() -> None:
    with pytest.raises(Unsupported, match="x86_64 and aarch64, not for 'riscv64'"):
        native.build("agent", "riscv64")


def test_a_program_that_is_not_known_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="'agnet': did you mean 'agent'"):
        native.build("agnet", "x86_64")


@pytest.mark.peer
@needs_compiler
@pytest.mark.parametrize("name", sorted(native.PROGRAMS))
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_sources_compile_without_a_warning(tmp_path: Path, name: str, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"warnings of {compiler} are NOT looked for: it is missing")
    program = native.PROGRAMS[name]
    argv = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-format-truncation"]
    argv += [*map(str, sorted(ONDEVICE.glob(program.sources))), "-o", str(tmp_path / name), *program.flags]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
