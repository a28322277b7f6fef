"""Programs that came with melt: used while they are what the sources beside them would make, and not otherwise."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from melt import native
from melt.errors import UsageError
from melt.native import llama, programs
from melt.native.shipped import Made, newest_glibc, pack

REPOSITORY = Path(__file__).parents[1]
FOLDER = Path("melt/shipped/native")
ASK = (
    "from melt.errors import MeltError\n"
    "from melt.native import build, build_llama_runner, named_level\n"
    "for ask in (lambda: build('agent', 'aarch64'), lambda: build_llama_runner(named_level('armv8-a'))):\n"
    "    try: print(ask())\n"
    "    except MeltError as error: print(f'{type(error).__name__}: {error}')\n"
)
NONE = ["no compiler can build agent for aarch64", "no compiler can build llama_runner for armv8-a"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A melt with two shipped programs, of a few bytes each."""
    folder = tmp_path / "package"
    shutil.copytree(REPOSITORY / "melt", folder / "melt", ignore=shutil.ignore_patterns("__pycache__"))
    level = native.named_level("armv8-a")
    made = [
        Made("agent", "aarch64", programs.made_from(native.PROGRAMS["agent"]), tmp_path / "one"),
        Made("llama_runner", level.name, llama.made_from(level), tmp_path / "two"),
    ]
    for number, program in enumerate(made):
        program.path.write_bytes(b"program" * (number + 1))
    for source, target in pack(made).items():
        (folder / "melt" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / "melt" / target)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def asked(package: Path) -> list[str]:
    """What a fresh process finds without a compiler: a path each, or why there is none."""
    env = {"PYTHONPATH": str(package), "XDG_CACHE_HOME": str(package.parent / "empty"), "PATH": "/nowhere"}
    argv = [sys.executable, "-P", "-S", "-B", "-c", ASK]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.splitlines()


def test_what_came_along_is_used(package: Path) -> None:
    shipped = package / FOLDER
    assert asked(package) == [str(shipped / "aarch64" / "agent"), str(shipped / "armv8-a" / "llama_runner")]
    assert not (package.parent / "empty").exists()


@pytest.mark.parametrize(
    ("changed", "stays"),
    [("agent/main.c", 1), ("agent/agent.h", 1), ("llama_runner/plan.h", 0), ("ort_runner.c", None), ("events.h", None)],
)
def test_a_changed_source_takes_the_place_of_what_was_made_from_another(
    package: Path, changed: str, stays: int | None
) -> None:
    with (package / "melt" / "ondevice" / changed).open("a") as source:
        source.write("/* changed */\n")
    found = asked(package)
    if changed == "ort_runner.c":
        assert all(line.startswith(str(package)) for line in found), "no business of theirs"
        return
    for number, (line, none) in enumerate(zip(found, NONE, strict=True)):
        assert (none in line) is (number != stays), found


@pytest.mark.parametrize("damage", ["gone", "no json", "a list", "no rows", "another size", "missing file"])
def test_a_damaged_folder_is_as_none(package: Path, damage: str) -> None:
    folder = package / FOLDER
    manifest = folder / "manifest.json"
    data = json.loads(manifest.read_text())
    if damage == "another size":
        for row in data["programs"]:
            row["bytes"] += 1
        manifest.write_text(json.dumps(data))
    elif damage == "missing file":
        for row in data["programs"]:
            (folder / row["target"] / row["name"]).unlink()
    elif damage == "gone":
        manifest.unlink()
    else:
        manifest.write_text({"no json": "{", "a list": "[1]", "no rows": '{"programs": [{}]}'}[damage])
    assert [none in line for none, line in zip(NONE, asked(package), strict=True)] == [True, True]


def test_a_program_that_needs_a_newer_system_is_not_packed(tmp_path: Path) -> None:
    for name, content in (
        ("old", b"\x7fELF\0GLIBC_2.2.5\0GLIBC_2.28\0"),
        ("new", b"\x7fELF\0GLIBC_2.2.5\0GLIBC_2.34\0"),
    ):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "static").write_bytes(b"\x7fELF")
    assert [newest_glibc(tmp_path / name) for name in ("old", "new", "static")] == [28, 34, None]
    assert len(pack([Made("ort_runner", "x86_64", "hash", tmp_path / "old")])) == 2
    with pytest.raises(UsageError, match=r"ort_runner for x86_64 needs glibc 2\.34, and a wheel's must do with 2\.28"):
        pack([Made("ort_runner", "x86_64", "hash", tmp_path / "new")])


def test_the_same_programs_have_the_same_manifest(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x")
    made = Made("agent", "x86_64", "hash", tmp_path / "one")
    assert pack([made]) == pack([made])
