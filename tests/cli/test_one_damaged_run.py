"""One run's folder of many is damaged: every command that reads results names it and takes all the others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from melt.cli.app import app

sys.path.append(str(Path(__file__).parents[1] / "history"))

from made_results import Results, make

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = Results(sessions=2, blocks=3)


def corrupt(run: Path) -> None:
    (run / "run.json").write_bytes(b'{"schema": 1,')


def newer(run: Path) -> None:
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps(told | {"schema": 99}), encoding="utf-8")


def half(run: Path) -> None:
    (run / "run.json").rename(run / "events.jsonl")


def called(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(params=[corrupt, newer, half])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """The results, and the folder in them that is damaged."""
    make(tmp_path / "results" / "a", MANY)
    make(tmp_path / "results" / "b", Results(sessions=2, blocks=3, seed=2))
    run = sorted((tmp_path / "results" / "a").glob("*/*Z-*"))[4]
    damage: Callable[[Path], None] = request.param
    damage(run)
    return tmp_path / "results", run


def test_every_command_names_it_and_takes_the_rest(damaged: tuple[Path, Path], tmp_path: Path) -> None:
    results, run = damaged
    a, b = results / "a", results / "b"
    for words in (
        ("index", results),
        ("compare", a, b),
        ("gate", a),
        ("history", a, "--metric", "latency_p50_s"),
        ("export", a, "--format", "csv-long", "--out", tmp_path / "a.csv"),
    ):
        done = called(*words)
        told = "".join((done.stdout + done.stderr).split())
        assert done.exit_code in (0, 1), (words, done.output, done.exception)
        assert run.name in told, words
    index = json.loads(called("index", a, "--json").stdout)["suites"][0]
    assert (index["runs"], [one["path"] for one in index["unreadable"]]) == (MANY.runs - 1, [str(run)])
    assert called("report", a, "--out", tmp_path / "report").exit_code == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert [one["folder"] for one in report["unreadable"]] == [run.name]
    lines = (tmp_path / "report" / "runs.csv").read_text(encoding="utf-8")
    kept = {one.name for one in a.glob("*/*Z-*")} - {run.name}
    assert all(name in lines for name in kept)
    assert run.name in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    analysed = called("analyse", a, "--json")
    assert analysed.exit_code == 1
    assert str(run) in [one["folder"] for one in json.loads(analysed.stdout)["failed"]]
