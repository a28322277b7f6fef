"""Sentences that somebody who has never used melt reads first: they name what there is, in numbers that agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from melt.analysis.fingerprint import differences
from melt.cli.app import app
from melt.errors import UsageError
from melt.files import load_suite, load_workload
from melt.history.order import NAMED, listed
from melt.places import shipped

CAPTURED = Path(__file__).parents[1] / "engines" / "captured"


def test_an_import_of_one_run_says_so(tmp_path: Path) -> None:
    words = ["import", str(CAPTURED / "llama-bench-overflow.json"), "--name", "one", "--results", str(tmp_path)]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0
    assert "1 run is in " in done.output


def test_an_empty_folder_is_told_as_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["import", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert f"{tmp_path} holds no file" in str(done.exception)


@pytest.mark.parametrize(
    ("count", "told"), [(1, "n0"), (NAMED, "n0, n1, n2, n3, n4"), (NAMED + 2, "n2, n3, n4, n5, n6 and 2 before these")]
)
def test_many_nights_are_the_last_ones_and_how_many_lie_before(count: int, told: str) -> None:
    assert listed([f"n{number}" for number in range(count)]) == told


def test_a_key_of_an_importer_is_not_called_a_newer_melts_alone() -> None:
    (one,) = differences({"main_gpu": 0}, {})
    assert "an importer" in one.source


def test_the_nightly_suite_that_comes_along_has_a_canary_that_no_engine_or_model_moves() -> None:
    path = shipped("workloads") / "nightly.yaml"
    suite = load_suite(str(path))[0]
    assert suite.protocol is not None
    assert set(suite.canary) < set(suite.workloads)
    assert {load_workload(name, path.parent)[0].engine for name in suite.canary} == {"roofline"}
