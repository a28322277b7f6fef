"""What a user installs: a wheel with all that a checkout has beside the package, and the programs for devices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from melt import makers, native
from melt.makers import gguf
from melt.native.shipped import newest_glibc

ROOT = Path(__file__).parent.parent
PROTOCOL = {"preset": "quick", "runs": 1, "min_s": 0.2, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
TOKENS = {"model": {"path": "toy.gguf"}, "mode": "fixed", "prompt_tokens": 16, "generate_tokens": 8}
pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("wheel")]
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "clang++", "zig", "cmake", "ninja", "make", "ld", "as")
NEEDED = ("sh", "uname", "mkdir", "rm", "cat")
"""The programs of an ordinary device that melt asks for."""
HIDDEN = ("ziglang", "cmake", "ninja", "melt", "_editable_impl_melt", "pip", "llama_cpp")
"""What an environment without a compiler lacks, by the beginnings of names in site-packages."""


def wheel_of(folder: Path, natives: str, **more: str) -> Path:
    """The wheel of this checkout, as `python -m build` makes it, with what its log says beside it."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    environment = {**os.environ, "MELT_WHEEL_NATIVE": natives, **more}
    environment.pop("PIP_BUILD_TRACKER", None)
    done = subprocess.run(build, capture_output=True, text=True, env=environment, timeout=3600, check=False)
    (folder / "log").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel without native programs was installed, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel = wheel_of(folder, "0")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder / "site")]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return folder / "site"


def melt(installed: Path, cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-m", "melt", *argv], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_shipped_suite_and_profile_are_found_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = melt(installed, tmp_path, "run", "workloads/demo.yaml", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert {cell["workload"] for cell in json.loads(done.stdout)["cells"]} == {
        "mobilenetv3",
        "vit-tiny",
        "qwen2.5-0.5b",
        "ceiling",
    }


def test_the_native_sources_are_in_it_and_are_found(installed: Path, tmp_path: Path) -> None:
    done = melt(installed, tmp_path, "build", "--for", "local", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["program"] for row in json.loads(done.stdout)} == set(native.PROGRAMS)


def test_it_is_the_installed_package_that_ran(installed: Path, tmp_path: Path) -> None:
    code = "import melt; print(melt.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_a_wheel_without_native_programs_says_so(installed: Path) -> None:
    log = (installed.parent / "log").read_text()
    assert "no native programs go into this wheel, since MELT_WHEEL_NATIVE is 0" in log
    assert not (installed / "melt" / "shipped" / "native").exists()


# ---------------------------------------------------------------------------------- with everything, and no compiler


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel with the native programs: minutes for each level that this computer has not compiled yet."""
    if not (shutil.which("g++") or shutil.which("c++")) or sysconfig.get_platform() != "linux-x86_64":
        pytest.skip("the wheel with native programs is NOT tested: it takes g++ on an x86-64 Linux")
    return wheel_of(tmp_path_factory.mktemp("whole"), "1")


class Alone:
    """An environment with the wheel and the packages that it needs, a PATH without a compiler and an empty cache."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=120)
        (self.site,) = (folder / "venv" / "lib").glob("python3*/site-packages")
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if not entry.name.startswith(HIDDEN) and not (self.site / entry.name).exists():
                (self.site / entry.name).symlink_to(entry)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python"), "install", "-q"]
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True, timeout=300)
        (folder / "bin").mkdir()
        for name in NEEDED:
            (folder / "bin" / name).symlink_to(shutil.which(name) or f"/bin/{name}")
        self.path = str(folder / "bin")
        self.cache = folder / "cache"

    def __call__(self, *argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        program = [str(self.folder / "venv" / "bin" / "python"), "-P", "-m", "melt", *argv]
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        environment = {**kept, "PATH": self.path, "XDG_CACHE_HOME": str(self.cache)}
        return subprocess.run(
            program, cwd=cwd or self.folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )

    def compiled(self) -> list[Path]:
        """What was compiled or fetched for compiling."""
        return [*self.cache.glob("melt/native/*"), *self.cache.glob("melt/llama.cpp/*")]


@pytest.fixture(scope="module")
def alone(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    made = Alone(tmp_path_factory.mktemp("alone"), whole)
    assert [name for name in COMPILERS if shutil.which(name, path=made.path)] == []
    code = "import importlib.util as u; print([n for n in ('ziglang', 'cmake', 'ninja') if u.find_spec(n)])"
    python = [made.folder / "venv" / "bin" / "python", "-c", code]
    assert subprocess.run(python, capture_output=True, text=True, check=True).stdout.strip() == "[]"
    return made


def manifest(site: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((site / "melt/shipped/native/manifest.json").read_bytes())["programs"]
    return found


def test_the_wheel_is_for_every_system_and_carries_every_program(whole: Path, alone: Alone) -> None:
    assert whole.name.endswith("-py3-none-any.whl"), "its programs are data, chosen by the device's processor"
    every = {(name, machine) for name in native.PROGRAMS for machine in native.MACHINES}
    every |= {("llama_runner", level.name) for level in native.LEVELS}
    rows = manifest(alone.site)
    assert {(row["name"], row["target"]) for row in rows} == every
    log = (whole.parent / "log").read_text()
    assert f"{len(rows)} native programs, " in log
    assert f"{whole.name} has " in log
    with zipfile.ZipFile(whole) as archive:
        names = set(archive.namelist())
    assert {f"melt/shipped/native/{row['target']}/{row['name']}" for row in rows} <= names
    assert sum(row["bytes"] for row in rows) < 40e6


def test_its_programs_run_on_old_systems(alone: Alone) -> None:
    """Static ones ask for nothing; the dynamic one for a glibc that Debian 10 has."""
    for row in manifest(alone.site):
        path = alone.site / "melt/shipped/native" / row["target"] / row["name"]
        data = path.read_bytes()
        machine = next((level.machine for level in native.LEVELS if level.name == row["target"]), row["target"])
        assert int.from_bytes(data[18:20], "little") == {"x86_64": 62, "aarch64": 183}[machine], path
        assert os.access(path, os.X_OK), path
        static = row["name"] == "llama_runner" or native.PROGRAMS[row["name"]].static
        assert (b"\0/lib" in data[:4096] or b"ld-linux" in data[:4096]) is not static, path
        newest = newest_glibc(path)
        assert (newest is None) is static, path
        assert newest is None or newest <= 28, path


def test_its_programs_for_another_processor_run_there(alone: Alone) -> None:
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("the shipped programs for aarch64 are NOT started: there is no qemu-aarch64")
    for row in manifest(alone.site):
        path = alone.site / "melt/shipped/native" / row["target"] / row["name"]
        for name, word in (("agent", "version"), ("llama_runner", "--try")):
            if row["name"] == name and row["target"].startswith(("aarch64", "armv8")):
                done = subprocess.run([qemu, "-cpu", "max", path, word], capture_output=True, timeout=300, check=False)
                assert (done.returncode, done.stdout != b"") == (0, True), (path, done.stderr)


def test_a_suite_runs_without_a_compiler(alone: Alone, tmp_path: Path) -> None:
    makers.make("mlp", tmp_path / "toy.onnx")
    gguf.make("llm-toy", tmp_path / "toy.gguf")
    local = {"profile": "linux", "address": "local:", "workdir": str(tmp_path / "device")}
    files: dict[str, dict[str, Any]] = {
        "suite": {"kind": "suite", "name": "toys", "workloads": ["vision", "language"], "protocol": PROTOCOL},
        "vision": {"kind": "workload", "name": "vision", "engine": "onnxruntime", "model": {"path": "toy.onnx"}},
        "language": {"kind": "workload", "name": "language", "engine": "llama.cpp", **TOKENS},
        "lab": {"kind": "lab", "devices": {"here": local}},
    }
    for name, data in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"schema": 1, **data}, sort_keys=False))
    done = alone("run", "suite.yaml", "here", "--lab", "lab.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/toys/*/*/run.json")]
    assert {record["workload"] for record in records} == {"vision", "language"}
    assert alone.compiled() == []


def test_programs_for_every_machine_are_those_of_the_wheel(alone: Alone) -> None:
    for machine in native.MACHINES:
        done = alone("build", "--machine", machine, "--json")
        assert done.returncode == 0, done.stderr
        assert all(Path(row["path"]).is_relative_to(alone.site) for row in json.loads(done.stdout))
        done = alone("build", "llama.cpp", "--machine", machine, "--json")
        rows = json.loads(done.stdout)
        assert [row["level"] for row in rows] == [level.name for level in native.levels(machine)]
        assert all(Path(row["path"]).is_relative_to(alone.site) for row in rows)
    assert alone.compiled() == []


@pytest.mark.parametrize(
    ("source", "asked"),
    [("agent/text.c", ["--machine", "aarch64"]), ("llama_runner/steps.h", ["llama.cpp", "--level", "armv8-a"])],
)
def test_a_source_that_was_changed_is_compiled_and_not_replaced_by_what_was_shipped(
    alone: Alone, source: str, asked: list[str]
) -> None:
    file = alone.site / "melt" / "ondevice" / source
    before = file.read_bytes()
    try:
        file.write_bytes(before + b"/* changed */\n")
        done = alone("build", *asked)
        assert done.returncode == 2
        assert "no compiler can build" in done.stderr
    finally:
        file.write_bytes(before)
    assert alone("build", *asked).returncode == 0


# ------------------------------------------------------------------------------------------------ wishes and refusals


@pytest.fixture(scope="module")
def bare(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """An environment without a compiler, and with a wheel that has no programs."""
    (wheel,) = installed.parent.glob("*.whl")
    return Alone(tmp_path_factory.mktemp("bare"), wheel)


def test_without_programs_and_without_a_compiler_it_is_told_what_to_install(bare: Alone) -> None:
    done = bare("build", "--machine", "aarch64")
    assert done.returncode == 2
    assert "no compiler can build agent for aarch64" in done.stderr


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("1", "no compiler can build agent for x86_64: install gcc and libc6-dev, or pip install 'melt[zig]' (or"),
        ("", "no compiler can build agent for x86_64: install gcc and libc6-dev, or pip install 'melt[zig]' (or"),
        ("2", "MELT_WHEEL_NATIVE is '2': say 1 for a wheel with the native programs, 0 for one without"),
    ],
)
def test_a_wheel_that_cannot_have_its_programs_is_not_made(bare: Alone, tmp_path: Path, choice: str, told: str) -> None:
    if native.host_machine() != "x86_64":
        pytest.skip("the refusal of a wheel is NOT tested: this computer is no x86-64 one")
    argv = ["-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check", "--outdir", tmp_path, ROOT]
    environment = {"PATH": bare.path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "MELT_WHEEL_NATIVE": choice}
    done = subprocess.run(
        [bare.folder / "venv" / "bin" / "python", *argv],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.glob("*.whl")) == []


def test_pip_installs_a_checkout_without_a_compiler_and_says_what_it_leaves_out(bare: Alone, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", bare.folder / "venv" / "bin" / "python", "install", "-v"]
    pip += ["--no-deps", "--no-index", "--no-build-isolation", "--target", tmp_path / "site", ROOT]
    environment = {"PATH": bare.path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    done = subprocess.run(pip, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "no native programs go into this wheel, since pip builds it for itself" in done.stdout + done.stderr
    assert (tmp_path / "site" / "melt" / "ondevice" / "agent" / "agent.h").is_file()
