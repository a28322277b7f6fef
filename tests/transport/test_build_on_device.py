"""llama.cpp compiled on a device by its own cmake: this computer, by itself and behind a real SSH server."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from workspace import Said, Workspace, ended

from melt import native
from melt.errors import MeltError, UsageError
from melt.native.handed import checked_arguments
from melt.places import cache_dir

if TYPE_CHECKING:
    from sshd import Sshd

pytestmark = pytest.mark.peer

# compiled for speed of compiling: what is tested is how it comes to be
QUICK = ("--cmake-arg=-DCMAKE_C_FLAGS_RELEASE=-O0", "--cmake-arg=-DCMAKE_CXX_FLAGS_RELEASE=-O0")
ORDINARY = ("sh", "bash", "uname", "mkdir", "rm", "cat", "test", "mv", "chmod", "env", "tar", "nproc", "gzip", "wc")
LIMIT_S = 1800


@pytest.fixture
def board(workspace: Workspace, sshd: Sshd) -> Workspace:
    """The workspace with the devices `here` and, the same behind SSH, `board`."""
    for program in ("cmake", "tar", "c++"):
        if shutil.which(program) is None:
            pytest.skip(f"building on a device is NOT tested: there is no {program}")
    try:
        native.llama_source()
    except MeltError as error:
        pytest.skip(f"building on a device is NOT tested: {error}")
    return over_ssh(workspace, sshd)


def over_ssh(workspace: Workspace, sshd: Sshd) -> Workspace:
    config = workspace.folder / "home" / ".ssh" / "config"
    config.parent.mkdir(parents=True, mode=0o700)
    lines = ("Host board", "HostName 127.0.0.1", f"Port {sshd.port}", f"IdentityFile {sshd.identity}")
    config.write_text("\n".join((*lines, f"UserKnownHostsFile {sshd.known_hosts}\n")))
    devices = {
        name: {"profile": "bare", "address": address, "workdir": str(workspace.workdir)}
        for name, address in (("here", "local:"), ("board", "ssh://board"))
    }
    workspace.write("lab.yaml", {"kind": "lab", "devices": devices})
    workspace.environment |= {"HOME": str(workspace.folder / "home"), "XDG_CACHE_HOME": str(cache_dir().parent)}
    return workspace


def build(workspace: Workspace, *words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "melt", "build", "llama.cpp", "--lab", "lab.yaml", *words]
    return workspace._started(argv)


def built(workspace: Workspace, *words: str) -> Said:
    return ended(build(workspace, *words), LIMIT_S)


def only_row(said: Said) -> dict[str, Any]:
    assert said.code == 0, said.stderr
    (row,) = json.loads(said.stdout)
    assert isinstance(row, dict)
    return row


def test_a_build_over_ssh_is_cut_gone_on_with_and_found_again(board: Workspace) -> None:
    first = build(board, "--on", "board", *QUICK)
    objects = board.workdir / "melt" / "built"
    give_up = time.monotonic() + LIMIT_S
    while len(list(objects.glob("*/build/llama.cpp/**/*.o"))) < 3:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < give_up, "nothing was compiled"
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert ended(first).code == 130
    # the runner's own source is unpacked anew each time; it takes seconds
    early, *_ = sorted(objects.glob("*/build/llama.cpp/**/*.o"))
    made = early.stat().st_mtime_ns
    give_up = time.monotonic() + 60
    while (said := built(board, "--on", "board", "--json", *QUICK)).code == 1 and "is busy with" in said.stderr:
        assert time.monotonic() < give_up, "what was cut goes on"
        time.sleep(1)
    row = only_row(said)
    assert "compiling llama.cpp" in said.stderr
    assert early.stat().st_mtime_ns == made, "what was compiled before the cut is kept"
    program = Path(row["path"])
    assert program.is_relative_to(board.workdir)
    assert row["says"].startswith(f"llama.cpp {native.llama_source().commit} for native")
    assert subprocess.run([program, "--try"], capture_output=True, check=False).returncode == 0

    stamp = program.stat().st_mtime_ns
    again = built(board, "--on", "here", *QUICK)
    assert again.code == 0, again.stderr
    assert str(program) in again.stdout
    assert f"engines: {{llama.cpp: {{library: {program}}}}}" in again.stdout.replace("\n", " ")
    assert "compiling" not in again.stderr
    assert program.stat().st_mtime_ns == stamp

    # and it is what a profile's line makes melt run
    board.profile(engines={"llama.cpp": {"library": str(program)}})
    gguf = pytest.importorskip("melt.makers.gguf")
    gguf.make("llm-toy", board.folder / "toy.gguf")
    tokens = {"mode": "fixed", "prompt_tokens": 8, "generate_tokens": 4}
    board.workload(engine="llama.cpp", model={"path": "toy.gguf"}, **tokens)
    assert board.run().code == 0
    assert {run.record.engine["level"] for run in board.runs()} == {"native"}


def test_a_compiler_that_fails_is_told_in_one_sentence(board: Workspace) -> None:
    said = built(board, "--on", "here", "--cmake-arg=-DCMAKE_CXX_COMPILER=/bin/false")
    assert said.code == 1
    assert said.sentence.startswith("melt: here: llama.cpp does not compile there: ")


def test_a_device_that_is_measuring_is_left_alone(board: Workspace) -> None:
    if shutil.which("flock") is None:
        pytest.skip("that a build waits for a job is NOT tested: there is no flock")
    lock = board.workdir / "melt" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with subprocess.Popen(["flock", lock, "cat"], stdin=subprocess.PIPE) as holder:
        while subprocess.run(["flock", "-n", lock, "true"], check=False).returncode == 0:
            time.sleep(0.01)
        said = built(board, "--on", "board")
        assert holder.stdin is not None
        holder.stdin.close()
    assert said.code == 1
    assert said.sentence == "melt: board is busy with a job or a build: wait for its end, then call again"


@pytest.mark.parametrize(
    ("missing", "named"), [("cmake", "cmake"), ("c++", r"a C\+\+ compiler"), ("make", "make"), ("tar", "tar")]
)
def test_what_a_device_lacks_is_told_before_anything_is_sent(workspace: Workspace, missing: str, named: str) -> None:
    folder = workspace.folder / "bin"
    folder.mkdir()
    for name in {*ORDINARY, "cmake", "c++", "make", "cc"} - {missing}:
        (folder / name).symlink_to(shutil.which(name) or "/bin/true")
    workspace.environment["PATH"] = str(folder)
    said = built(workspace, "--on", "here")
    assert said.code == 1
    assert re.search(rf"here cannot build llama\.cpp: {named} is missing there \(Debian: apt install", said.sentence)
    assert not (workspace.workdir / "melt" / "built").exists()


def test_a_device_without_cmake_is_told_over_ssh(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from sshd import start_sshd  # noqa: PLC0415 - which needs paramiko

    place = tmp_path_factory.mktemp("bare")
    (place / "bin").mkdir()
    for name in ORDINARY:
        (place / "bin" / name).symlink_to(shutil.which(name) or "/bin/true")
    server = start_sshd(place / "sshd", f"SetEnv PATH={place / 'bin'} HOME={place}")
    try:
        said = built(over_ssh(workspace, server), "--on", "board")
    finally:
        server.close()
    assert said.code == 1
    assert said.sentence.startswith("melt: board cannot build llama.cpp: cmake is missing there")


@pytest.mark.parametrize(
    "word", ["GGML_CUDA=ON", "-G", "-DX", "-D;=1", "-DA=1\n-DB=2", "--build", "-DA B=1", "-P/tmp/x.cmake", ""]
)
def test_words_for_cmake_are_definitions_alone(word: str) -> None:
    with pytest.raises(UsageError, match="is not of the form -DNAME=VALUE"):
        checked_arguments(["-DGGML_CUDA=ON", word])


def test_a_value_is_one_word_whatever_it_holds() -> None:
    words = ("-DA=$(reboot); `x` 'y' \"z\"", "-DGGML_CUDA:BOOL=ON", "-DX=")
    assert checked_arguments(words) == words
