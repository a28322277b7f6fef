"""llama.cpp's source, taken out of an archive that nobody trusts; the levels of processor; builds that are ended."""

from __future__ import annotations

import functools
import http.server
import io
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from melt import native
from melt.errors import Unsupported, UsageError
from melt.native import llama, ninja, source
from melt.native.source import unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOP = "llama_cpp_python-0.0.1"
INSIDE = f"{TOP}/vendor/llama.cpp"
WHOLE = {
    f"{TOP}/.git/modules/vendor/llama.cpp/HEAD": COMMIT.encode() + b"\n",
    f"{TOP}/setup.py": b"raise SystemExit",
    f"{INSIDE}/CMakeLists.txt": b"project(x)",
    f"{INSIDE}/include/llama.h": b"int x;",
    f"{INSIDE}/src/llama-ext.h": b"",
    f"{INSIDE}/ggml/include/ggml.h": b"",
    f"{INSIDE}/models/large.gguf": b"0" * 1000,
}
X86_V3 = frozenset("fpu sse4_2 popcnt movbe avx f16c abm bmi1 avx2 bmi2 fma lm".split())  # noqa: SIM905
X86_V4 = X86_V3 | {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl", "avx512_vnni"}
PI_4 = frozenset("fp asimd evtstrm crc32 cpuid".split())  # noqa: SIM905
PI_5 = frozenset(
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp".split()  # noqa: SIM905
)


# ------------------------------------------------------------------------------------------------------ levels


@pytest.mark.parametrize(
    ("machine", "flags", "level"),
    [
        ("x86_64", X86_V3, "x86-64-v3"),
        ("x86_64", X86_V4, "x86-64-v4"),
        ("x86_64", X86_V4 - {"avx512vl"}, "x86-64-v3"),
        ("aarch64", PI_4, "armv8-a"),
        ("aarch64", PI_5, "armv8.2-a+dotprod+fp16"),
        ("aarch64", PI_5 - {"asimdhp"}, "armv8-a"),
        ("aarch64", PI_5 | {"i8mm"}, "armv8.2-a+dotprod+fp16+i8mm"),
        ("aarch64", PI_4 | {"i8mm"}, "armv8-a"),
    ],
)
def test_the_best_level_that_a_processor_has_is_chosen(machine: str, flags: frozenset[str], level: str) -> None:
    assert native.choose_level(machine, flags).name == level


@pytest.mark.parametrize("lacking", sorted(native.levels("x86_64")[0].needs))
def test_a_processor_with_less_than_the_least_level_is_a_gap_that_names_what_it_lacks(lacking: str) -> None:
    with pytest.raises(Unsupported, match=rf"lacks {lacking}: .* x86-64-v3 at least"):
        native.choose_level("x86_64", X86_V4 - {lacking})


def test_a_machine_without_levels_is_a_gap() -> None:
    with pytest.raises(Unsupported, match="aarch64 and x86_64, not for 'riscv64'"):
        native.levels("riscv64")


def test_levels_of_a_machine_grow() -> None:
    for machine in native.MACHINES:
        known = native.levels(machine)
        for lesser, greater in itertools.pairwise(known):
            assert lesser.needs < greater.needs


PROMISED = {
    "x86-64-v3": {"__AVX2__", "__FMA__", "__F16C__", "__BMI2__"},
    "x86-64-v4": {"__AVX2__", "__AVX512F__", "__AVX512BW__", "__AVX512VL__", "__AVX512DQ__", "__AVX512CD__"},
    "armv8-a": {"__ARM_NEON", "__ARM_FEATURE_FMA"},
    "armv8.2-a+dotprod+fp16": {"__ARM_FEATURE_DOTPROD", "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC"},
    "armv8.2-a+dotprod+fp16+i8mm": {"__ARM_FEATURE_DOTPROD", "__ARM_FEATURE_MATMUL_INT8"},
}
"""What llama.cpp looks for when it is compiled."""
FORBIDDEN = {
    "x86-64-v3": {"__AVX512F__"},
    "x86-64-v4": {"__AVX512VNNI__", "__AMX_TILE__"},
    "armv8-a": {"__ARM_FEATURE_DOTPROD", "__ARM_FEATURE_ATOMICS"},
    "armv8.2-a+dotprod+fp16": {"__ARM_FEATURE_MATMUL_INT8", "__ARM_FEATURE_SVE"},
    "armv8.2-a+dotprod+fp16+i8mm": {"__ARM_FEATURE_SVE", "__ARM_FEATURE_SME"},
}


@pytest.mark.peer
@pytest.mark.parametrize("level", native.LEVELS, ids=lambda level: level.name)
def test_every_compiler_gives_a_level_what_it_promises_and_no_more(level: native.Level) -> None:
    compilers = llama.compilers(level.machine)
    if not compilers:
        pytest.skip(f"the flags of {level.name} are NOT tested: no compiler here knows {level.machine}")
    for compiler in compilers:
        argv = [*compiler, llama._level_flag(level, compiler), "-E", "-dM", "-x", "c++", "/dev/null"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=True)
        defined = {line.split()[1] for line in done.stdout.splitlines()}
        assert defined >= PROMISED[level.name], compiler
        assert not defined & FORBIDDEN[level.name], compiler


# ------------------------------------------------------------------------------------------------------ the source


def archive(folder: Path, files: Mapping[str, bytes], *more: tarfile.TarInfo) -> Path:
    path = folder / "source.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o4777
            tar.addfile(member, io.BytesIO(data))
        for member in more:
            tar.addfile(member)
    return path


def link(name: str, to: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def test_only_what_the_build_needs_is_unpacked(tmp_path: Path) -> None:
    target = tmp_path / "source"
    unpack(archive(tmp_path, WHOLE), target)
    found = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert found == ["CMakeLists.txt", "COMMIT", "ggml/include/ggml.h", "include/llama.h", "src/llama-ext.h"]
    assert (target / "COMMIT").read_text() == f"{COMMIT}\n"
    assert all(path.stat().st_mode & 0o7111 == 0 for path in target.rglob("*") if path.is_file())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "source.tar.gz"]


@pytest.mark.parametrize(
    "member",
    [
        link(f"{INSIDE}/src/evil.h", "/etc/passwd", tarfile.SYMTYPE),
        link(f"{INSIDE}/src/evil.h", f"{TOP}/setup.py", tarfile.LNKTYPE),
        link(f"{INSIDE}/src/pipe", "", tarfile.FIFOTYPE),
        tarfile.TarInfo(f"{INSIDE}/src/../../../../evil"),
        tarfile.TarInfo(f"{INSIDE}/src//evil"),
        tarfile.TarInfo(f"{INSIDE}/src/./evil"),
    ],
    ids=lambda member: f"{member.name[len(INSIDE) :]} {member.type!r}",
)
def test_what_is_no_plain_file_in_its_folder_is_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    (tmp_path / "cache").mkdir()
    with pytest.raises(UsageError, match=r"source\.tar\.gz is broken: .* is not a plain file in its folder"):
        unpack(archive(tmp_path, WHOLE, member), tmp_path / "cache" / "source")
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["/etc/melt-was-here", "../../melt-was-here", f"{TOP}/../../melt-was-here"])
def test_what_is_not_of_llama_cpp_is_never_written(tmp_path: Path, name: str) -> None:
    target = tmp_path / "a" / "source"
    target.parent.mkdir()
    unpack(archive(tmp_path, {**WHOLE, name: b"x"}), target)
    assert list(tmp_path.rglob("melt-was-here")) == []
    assert not Path("/etc/melt-was-here").exists()


@pytest.mark.parametrize("lacking", [name for name in WHOLE if "models" not in name and "setup" not in name])
def test_an_archive_that_lacks_what_is_needed_is_refused(tmp_path: Path, lacking: str) -> None:
    files = {name: data for name, data in WHOLE.items() if name != lacking}
    with pytest.raises(UsageError, match=r"is broken: it (has no|does not tell the commit)"):
        unpack(archive(tmp_path, files), tmp_path / "source")
    assert not (tmp_path / "source").exists()


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, {**WHOLE, f"{INSIDE}/src/random.h": os.urandom(20000)})
    whole = path.read_bytes()
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 9000):
        path.write_bytes(whole[:length])
        with pytest.raises(UsageError, match=r"source\.tar\.gz is broken: "):
            unpack(path, tmp_path / "source")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source.tar.gz"]


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_MAX_BYTES", 200)
    with pytest.raises(UsageError, match="holds more than"):
        unpack(archive(tmp_path, WHOLE), tmp_path / "source")
    monkeypatch.setattr(source, "_MAX_BYTES", 1 << 20)
    monkeypatch.setattr(source, "_MAX_FILES", 3)
    with pytest.raises(UsageError, match="holds more than"):
        unpack(archive(tmp_path, WHOLE), tmp_path / "source")


def test_a_source_that_another_melt_has_put_there_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "source"
    unpack(archive(tmp_path, WHOLE), target)
    first = (target / "COMMIT").stat().st_ino
    unpack(archive(tmp_path, WHOLE), target)
    assert (target / "COMMIT").stat().st_ino == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "source.tar.gz"]


@pytest.fixture
def own_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A pip that knows no index and no cache but what the test tells it."""
    for name in [name for name in os.environ if name.upper().startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return monkeypatch


@pytest.mark.peer
def test_an_index_that_cannot_be_reached_is_said_to_be(own_pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own_pip.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    with pytest.raises(UsageError, match="pip cannot reach its package index to fetch llama-cpp-python=="):
        native.llama_source()
    assert list((tmp_path / "cache" / "melt" / "llama.cpp").iterdir()) == []


@pytest.mark.peer
def test_an_archive_of_another_hash_is_not_used(own_pip: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"llama_cpp_python-{source.VERSION}.tar.gz"
    folder = tmp_path / "www" / "simple" / "llama-cpp-python"
    folder.mkdir(parents=True)
    archive(tmp_path, WHOLE).rename(folder / name)
    (folder / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{name}">{name}</a></body></html>')
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        own_pip.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
        try:
            with pytest.raises(UsageError, match="is not the one that melt knows"):
                native.llama_source()
        finally:
            server.shutdown()
            thread.join()
    assert list((tmp_path / "cache" / "melt" / "llama.cpp").iterdir()) == []


# ------------------------------------------------------------------------------------------------- what is missing


BUILD = (
    "import sys\n"
    "from melt.errors import MeltError\n"
    "from melt.native import LEVELS, build_llama_runner\n"
    "level = next(level for level in LEVELS if level.name == sys.argv[1])\n"
    "try: print(build_llama_runner(level, say=print))\n"
    "except MeltError as error: print(f'{type(error).__name__}: {error}')\n"
)


def said(cache: Path, path: str, level: str, python: Path = Path(sys.executable)) -> str:
    """What a fresh process says that builds the runner, without the packages that are installed beside melt."""
    env = {"PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(cache), "PATH": path}
    argv = [python, "-P", "-S", "-B", "-c", BUILD, level]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def own_level() -> native.Level:
    return native.levels(native.host_machine())[0]


def other_level() -> native.Level:
    return next(level for level in native.LEVELS if level.machine != native.host_machine())


def test_a_machine_without_a_compiler_is_told_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for level, wanted in (
        (own_level(), r"g++ and libc6-dev"),
        (other_level(), f"g++-{other_level().machine}-linux-gnu"),
    ):
        words = said(tmp_path, str(tmp_path / "empty"), level.name)
        assert words == (
            f"UsageError: no compiler can build llama_runner for {level.name}: install {wanted}, "
            "or pip install 'melt[zig]'"
        )


def test_a_compiler_that_cannot_link_statically_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "g++").write_text("#!/bin/sh\necho 'ld: cannot find -lc' >&2; exit 1\n")
    (folder / "g++").chmod(0o755)
    words = said(tmp_path / "cache", str(folder), own_level().name)
    assert words == f"UsageError: llama_runner for {own_level().name} does not compile: g++: ld: cannot find -lc"
    assert not (tmp_path / "cache" / "melt" / "llama.cpp").exists()


@pytest.mark.parametrize("missing", ["cmake", "ninja"])
def test_a_missing_build_program_is_told_before_anything_is_fetched(tmp_path: Path, missing: str) -> None:
    if shutil.which("g++") is None:
        pytest.skip(f"a missing {missing} is NOT tested: there is no g++ here")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("g++", "as", "ld", *({"cmake", "ninja"} - {missing})):
        (folder / name).symlink_to(shutil.which(name) or "/bin/true")
    # a Python that has neither of them beside it
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
    words = said(tmp_path / "cache", str(folder), own_level().name, tmp_path / "venv" / "bin" / "python")
    assert words == (
        f"UsageError: compiling llama.cpp needs cmake and ninja, and {missing} is missing: pip install 'melt[llm]'"
    )
    assert list((tmp_path / "cache" / "melt" / "llama.cpp").iterdir()) == []


# -------------------------------------------------------------------------------------------------- builds that end


NINJA = """
import pathlib, sys, time
from melt.native import ninja
folder = pathlib.Path(sys.argv[1])
with ninja.locked(folder / "lock", "a toy", lambda words: print(words, flush=True)) as lock:
    print("locked", flush=True)
    try: ninja.compile_all(folder, ("all",), lock, "a toy", None)
    except ninja.BuildFailed as failed: print("failed:", failed)
    else: print("done")
"""
RULES = """
rule slow
  command = sh -c 'echo $$$$ > pid; sleep $seconds; echo made > $out'
rule bad
  command = sh -c 'echo toy.c:1: error: out of patience; exit 1'
build slow: slow
  seconds = {seconds}
build bad: bad
build all: phony {all}
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    if shutil.which("ninja") is None:
        pytest.skip("the end of a build is NOT tested: there is no ninja here")
    return tmp_path


def start(folder: Path) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    argv = [sys.executable, "-P", "-c", NINJA, str(folder)]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)


def pid_of_the_rule(folder: Path) -> int:
    give_up = time.monotonic() + 60
    while not ((folder / "pid").exists() and (folder / "pid").read_text().strip()):
        assert time.monotonic() < give_up, "the rule never began"
        time.sleep(0.02)
    return int((folder / "pid").read_text())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_build_that_is_interrupted_takes_its_compilers_along_and_is_taken_up_again(toy: Path) -> None:
    (toy / "build.ninja").write_text(RULES.format(seconds=300, all="slow"))
    process = start(toy)
    rule = pid_of_the_rule(toy)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert not alive(rule)
    assert not (toy / "slow").exists()
    (toy / "build.ninja").write_text(RULES.format(seconds=0, all="slow"))
    assert start(toy).communicate(timeout=60)[0].split("\n")[:2] == ["locked", "done"]
    assert (toy / "slow").read_text() == "made\n"


def test_the_lock_of_a_build_outlives_a_melt_that_was_killed_and_ends_with_its_compilers(toy: Path) -> None:
    (toy / "build.ninja").write_text(RULES.format(seconds=3, all="slow"))
    process = start(toy)
    rule = pid_of_the_rule(toy)
    process.kill()
    process.communicate(timeout=60)
    assert alive(rule), "the test is too slow to test anything"
    words = start(toy).communicate(timeout=60)[0]
    assert words.split("\n")[:3] == ["waiting for another melt that is compiling a toy", "locked", "done"]
    assert not alive(rule)


def test_a_failing_build_says_the_first_error(toy: Path) -> None:
    (toy / "build.ninja").write_text(RULES.format(seconds=0, all="bad"))
    assert "failed: toy.c:1: error: out of patience" in start(toy).communicate(timeout=60)[0]


def test_a_build_has_a_limit(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ninja, "_LIMIT_S", 0.5)
    (toy / "build.ninja").write_text(RULES.format(seconds=300, all="slow"))
    with ninja.locked(toy / "lock", "a toy", None) as lock, pytest.raises(ninja.BuildFailed, match="longer than"):
        ninja.compile_all(toy, ("all",), lock, "a toy", None)
    assert not alive(pid_of_the_rule(toy))


def test_progress_tells_how_many_files_are_left(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ninja, "_SAY_EVERY_S", 0)
    rules = "rule r\n  command = touch $out\n" + "".join(f"build f{n}: r\n" for n in range(4))
    (toy / "build.ninja").write_text(rules)
    heard: list[str] = []
    with ninja.locked(toy / "lock", "a toy", None) as lock:
        ninja.compile_all(toy, ("f0", "f1", "f2", "f3"), lock, "a toy", heard.append)
    assert [words.partition(", about")[0] for words in heard] == [
        f"compiling a toy: {n} of 4 files" for n in range(1, 5)
    ]


def test_variables_that_change_what_is_built_do_not_reach_the_build(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CXXFLAGS", "CC", "CMAKE_GENERATOR", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH"):
        monkeypatch.setenv(name, "surprise")
    (toy / "build.ninja").write_text("rule r\n  command = env > $out\nbuild all: r\n")
    with ninja.locked(toy / "lock", "a toy", None) as lock:
        ninja.compile_all(toy, ("all",), lock, "a toy", None)
    words = (toy / "all").read_text()
    assert "PATH=" in words
    assert "surprise" not in words
