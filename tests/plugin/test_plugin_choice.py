"""What the plugin costs a pytest that does not use it, and which devices a test is given."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
USED = ["-p", "melt.pytest_plugin", "-p", "no:cacheprovider", "-q"]
ALONE = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""No other plugin takes part, and ours is not loaded twice where it is installed."""


def python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=120, check=False, env=ALONE
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A lab of three devices, and an empty pytest.ini so that nothing of ours applies."""
    local = {"profile": "linux", "address": "local:"}
    devices = {"pi5": {**local, "tags": ["pi"]}, "pi4": {**local, "tags": ["pi", "old"]}, "phone": local}
    (tmp_path / "lab.yaml").write_text(yaml.safe_dump({"schema": 1, "kind": "lab", "devices": devices}))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")
    return tmp_path


def collected(folder: Path, tests: dict[str, str], *words: str) -> tuple[dict[str, list[str]], str]:
    """The names of the tests of each file, in order, and all that pytest said; one pytest for all of them."""
    for name, test in tests.items():
        (folder / f"test_{name}.py").write_text(f"import pytest\n{test}")
    files = [f"test_{name}.py" for name in tests]
    done = python("-m", "pytest", *USED, "--collect-only", *words, *files, cwd=folder)
    assert "Traceback" not in done.stdout + done.stderr
    found: dict[str, list[str]] = {name: [] for name in tests}
    for line in done.stdout.splitlines():
        file, double, name = line.partition("::")
        if double:
            found[file.removeprefix("test_").removesuffix(".py")].append(name)
    return found, " ".join((done.stdout + done.stderr).split())


# ------------------------------------------------------------------------------------------------ what nobody asked for


def test_loading_the_plugin_imports_nothing_but_itself(tmp_path: Path) -> None:
    before = "import sys, pytest; before = set(sys.modules); import melt.pytest_plugin"
    code = f"{before}; print(*sorted(set(sys.modules) - before))"
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout.split() == ["melt", "melt.pytest_plugin"], done


def test_a_pytest_that_does_not_measure_is_as_it_was(folder: Path) -> None:
    test = """
import sys
def test_nothing_of_melt_is_loaded(request):
    loaded = {name for name in sys.modules if name.split(".")[0] in ("melt", "pandas", "numpy", "pydantic", "scipy")}
    assert loaded == {"melt", "melt.pytest_plugin"}, loaded
    assert [mark.name for mark in request.node.iter_markers()] == []
"""
    (folder / "test_it.py").write_text(test)
    done = python("-m", "pytest", *USED, "test_it.py", cwd=folder)
    assert done.returncode == 0, done
    assert "1 passed" in done.stdout
    assert "melt:" not in done.stdout
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == [
        "lab.yaml",
        "pytest.ini",
        "test_it.py",
    ]


def test_the_entry_point_names_a_module_that_is_there() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert told["project"].get("entry-points", {}).get("pytest11") in (None, {"melt": "melt.pytest_plugin"})


# --------------------------------------------------------------------------------------------------------- the devices

PLAIN = "def test_it(melt_run): pass\n"


def test_without_a_lab_a_test_is_one_on_this_computer_and_only_there(folder: Path) -> None:
    found, said = collected(folder, {"plain": PLAIN, "pi": f'@pytest.mark.melt_device("pi5")\n{PLAIN}'})
    assert found == {"plain": ["test_it"], "pi": []}
    assert "device 'pi5' is not in the lab" in said
    assert "--melt-lab names no lab file" in said


def test_the_marker_comes_before_the_option_and_both_before_what_is_usual(folder: Path) -> None:
    several = f'@pytest.mark.melt_device(tags=["pi"])\n@pytest.mark.parametrize("threads", [1, 2])\n{PLAIN}'
    tests = {
        "plain": PLAIN,
        "marked": f'@pytest.mark.melt_device("phone", tags="old")\n{PLAIN}',
        "several": several.replace("(melt_run)", "(melt_device, threads)"),
        "own": f'@pytest.mark.parametrize("melt_device", ["pi4"], indirect=True)\n{PLAIN}',
        "other": "def test_it(): pass\n",
    }
    lab = ("--melt-lab", "lab.yaml")
    found, _ = collected(folder, tests, *lab, "--melt-device", "pi5", "--melt-device=phone")
    assert len(found.pop("several")) == 4
    assert found == {
        "plain": ["test_it[phone]", "test_it[pi5]"],
        "marked": ["test_it[phone]", "test_it[pi4]"],
        "own": ["test_it[pi4]"],
        "other": ["test_it"],
    }
    assert collected(folder, {"plain": PLAIN}, *lab)[0] == {"plain": ["test_it[local]"]}


def test_the_virtual_boards_are_named_and_not_started(folder: Path) -> None:
    tests = {"plain": PLAIN, "one": f'@pytest.mark.melt_device("jetson")\n{PLAIN}'}
    found, _ = collected(folder, tests, "--melt-lab", "virtual")
    assert found["one"] == ["test_it[jetson]"]
    assert {"test_it[jetson]", "test_it[pi]", "test_it[phone]"} <= set(found["plain"])


def test_a_device_that_the_lab_has_not_is_told_in_a_sentence_and_the_others_collected(folder: Path) -> None:
    tests = {
        "name": f'@pytest.mark.melt_device("pi6")\n{PLAIN}',
        "new": f'@pytest.mark.melt_device(tags="new")\n{PLAIN}',
        "key": f'@pytest.mark.melt_device(tag="pi")\n{PLAIN}',
        "good": f'@pytest.mark.melt_device("pi5")\n{PLAIN}',
    }
    found, said = collected(folder, tests, "--melt-lab", "lab.yaml")
    assert found == {"name": [], "new": [], "key": [], "good": ["test_it[pi5]"]}
    for sentence in ("is not in the lab: did you mean 'pi", "no device of the lab has the tag 'new'", "no 'tag'"):
        assert sentence in said


def test_a_lab_that_is_not_there_is_told_where_a_test_needs_it(folder: Path) -> None:
    tests = {"measures": PLAIN, "other": "def test_it(): pass\n"}
    found, said = collected(folder, tests, "--melt-lab", "nowhere.yaml")
    assert found == {"measures": [], "other": ["test_it"]}
    assert "nowhere.yaml does not exist" in said
