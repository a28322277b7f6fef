"""What a user installs: the wheel holds everything that a checkout has beside the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel of this checkout was installed, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
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
    }


def test_the_native_sources_are_in_it_and_are_found(installed: Path, tmp_path: Path) -> None:
    done = melt(installed, tmp_path, "build", "--for", "local", "--json")
    assert done.returncode == 0, done.stderr
    assert {row["program"] for row in json.loads(done.stdout)} == {"agent", "ort_runner"}


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
