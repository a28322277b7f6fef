"""llama.cpp as this computer's own library: from the runner's archives, for exactly one version of llama-cpp-python."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from host_llama import llama_cpp
from makers.narrow_networks import narrow
from ondevice import tiny_llama

from melt import native
from melt.engines.quantize import quantize
from melt.errors import UsageError
from melt.makers.gguf import NETWORKS, QUANTS, make_network
from melt.native import host, ninja
from melt.native.compilers import host_machine
from melt.native.source import VERSION
from melt.places import cache_dir

REPOSITORY = Path(__file__).parents[1]


def said_by(code: str, *before: Path) -> str:
    """What a Python without any installed package prints, which finds packages in these folders first."""
    program = f"import sys\nsys.path[:0] = {[str(place) for place in (*before, REPOSITORY)]!r}\n{textwrap.dedent(code)}"
    argv = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


NEED = """
from melt.errors import UsageError
from melt.native.host import need_package
try:
    need_package()
except UsageError as error:
    print(error)
"""


def test_a_package_that_is_missing_is_told_with_how_to_install_it() -> None:
    said = said_by(NEED)
    assert "llama-cpp-python is missing" in said
    assert f"--config-settings=wheel.cmake=false llama-cpp-python=={VERSION}" in said


@pytest.mark.parametrize(("version", "right"), [("0.3.2", False), (VERSION, True), (f"{VERSION}.post1", False)])
def test_it_must_be_the_version_of_the_runner(tmp_path: Path, version: str, right: bool) -> None:
    folder = tmp_path / f"llama_cpp_python-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: llama_cpp_python\nVersion: {version}\n")
    said = said_by(NEED, tmp_path)
    assert (said == "") is right
    if not right:
        assert f"is {version}, and" in said
        assert f"=={VERSION}" in said


def test_what_setup_installs_is_what_is_asked_for() -> None:
    """The shell script reads the version and the hash from the source of melt."""
    script = (REPOSITORY / "scripts" / "setup.sh").read_text(encoding="utf-8")
    told = next(line for line in script.splitlines() if line.startswith("told()"))
    argv = ["bash", "-c", f"{told}\ntold VERSION\ntold SHA256"]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [VERSION, native.source.SHA256]
    (options,) = {word for word in host.INSTALL.split() if word.startswith("--config-settings")}
    assert options in script
    page = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert host.INSTALL in page


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("processor : 0\nflags\t\t: fpu avx avx2\n\nprocessor : 1\nflags\t\t: fpu avx\n", {"fpu", "avx"}),
        ("processor : 0\nFeatures\t: fp asimd i8mm\nCPU part\t: 0xd0b\n", {"fp", "asimd", "i8mm"}),
        ("processor : 0\nmodel name : flags: none\n", set()),
        ("", set()),
    ],
)
def test_only_what_every_core_can_do_counts(tmp_path: Path, text: str, flags: set[str]) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert host.cpu_flags(tmp_path / "cpuinfo") == flags


def test_a_computer_that_does_not_tell_has_no_flags(tmp_path: Path) -> None:
    assert host.cpu_flags(tmp_path / "none") == frozenset()


# ------------------------------------------------------------------------------------------------------ the library


@pytest.fixture(scope="module")
def runner() -> Path:
    llama_cpp()  # skips where it cannot be had
    flags = host.cpu_flags(Path("/proc/cpuinfo"))
    return native.build_llama_runner(native.choose_level(host_machine(), flags))


def archives() -> set[str]:
    return {path.name for path in (cache_dir() / "llama.cpp").glob("library-*")}


@pytest.mark.peer
def test_nothing_is_compiled_for_it_that_the_runner_is_not_linked_from(runner: Path) -> None:
    if not native.compilers.system_compiler(("g++", "c++", "clang++"), "g++", host_machine()):
        pytest.skip("there is no compiler but zig: that the runner's archives are enough is NOT tested")
    before, said = archives(), []
    folder = host.host_library(said.append)
    assert host.host_library(said.append) == folder
    assert [path.name for path in folder.iterdir()] == [host.LIBRARY]
    assert archives() == before
    assert said == []


@pytest.mark.peer
def test_the_package_opens_that_library_and_it_has_the_level_of_this_computer(runner: Path) -> None:
    opened = Path(llama_cpp().llama_cpp._lib._name)
    assert opened.parent == host.host_library()
    level = native.choose_level(host_machine(), host.cpu_flags(Path("/proc/cpuinfo")))
    features = llama_cpp().llama_print_system_info().decode()
    assert ("AVX512 = 1" in features) is (level.name == "x86-64-v4")
    assert ("MATMUL_INT8 = 1" in features) is level.name.endswith("i8mm")


@pytest.mark.peer
def test_a_linker_that_fails_is_told_and_leaves_nothing(runner: Path, tmp_path: Path) -> None:
    known = native.levels(host_machine())[0]
    compiler = tmp_path / "g++"
    compiler.write_text("#!/bin/sh\necho 'ld: error: no such thing' >&2\nexit 1\n")
    compiler.chmod(0o755)
    before = archives()
    with pytest.raises((ninja.BuildFailed, UsageError)):
        host._linked(known, [str(compiler)], None)
    assert archives() == before


PROMPT = "What is 2 + 2? 中文"
GENERATED = 48


def small_model(name: str, quant: str, folder: Path) -> Path:
    if name != "tiny":
        return make_network(narrow(NETWORKS[name], layers=4), folder / "m.gguf", QUANTS[quant], 1).path
    return quantize(tiny_llama.write(folder / "f32.gguf"), folder / "m.gguf", quant, say=lambda _: None).path


@pytest.mark.peer
@pytest.mark.parametrize(
    ("name", "quant"),
    [
        *(("tiny", quant) for quant in ("f32", "f16", "q8_0", "q4_0")),
        *((name, quant) for name in ("llm-toy", "llama-3.2-1b") for quant in ("f16", "q8_0", "q4_0", "q3_k", "q4_k")),
    ],
)
def test_the_runner_says_what_the_package_says(tmp_path: Path, runner: Path, name: str, quant: str) -> None:
    """Greedily, token by token: it is one library, and both use it as it is meant to be used."""
    model = small_model(name, quant, tmp_path)
    (tmp_path / "text").write_text(PROMPT, encoding="utf-8")
    arguments = {
        "--model": "m.gguf", "--events": "events", "--output": "output", "--mode": "prompt", "--text-file": "text",
        "--context": "256", "--generate-tokens": str(GENERATED), "--flash-attn": "off",
    }  # fmt: skip
    argv = [str(runner), *(word for pair in arguments.items() for word in pair)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert done.returncode == 0, (done.stderr, events[-1:])
    runners = [int(word) for word in (tmp_path / "output").read_text().split()]
    assert len(set(runners)) > 2, "it says next to nothing, so that it is the same would say little"
    assert runners == packages(model, len(runners))


def packages(model: Path, count: int) -> list[int]:
    """The first tokens that llama-cpp-python generates greedily."""
    llama = llama_cpp().Llama(
        str(model), n_ctx=256, n_threads=1, n_threads_batch=1, seed=1, flash_attn=False, verbose=False
    )
    try:
        prompt = llama.tokenize(PROMPT.encode(), add_bos=True, special=True)
        return list(itertools.islice(llama.generate(prompt, temp=0), count))
    finally:
        llama.close()
