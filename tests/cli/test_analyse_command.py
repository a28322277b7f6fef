"""`melt analyse` and what `melt show` tells of a run that was analysed again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import typer
from made_sessions import Made, session_of, store
from rich.console import Console
from typer.testing import CliRunner

from melt.cli import analyse, show
from melt.errors import UsageError
from melt.records import METRIC_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

NEW = f"analysis-{METRIC_VERSION}.json"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A session of three runs, two of which have figures of an older analysis."""
    session = session_of(tmp_path / "results", [Made(block=block) for block in range(3)])
    for block in range(3):
        run = store(session, Made(block=block), block)
        if block < 2:
            file = run.path / "run.json"
            told = json.loads(file.read_text())
            told["metric_version"] = 1
            told["metrics"]["latency_p50_s"] = {"value": 7.5}
            file.write_text(json.dumps(told))
    return session.path


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (analyse, show):
        monkeypatch.setattr(module, "out", Console(width=200, highlight=False, no_color=True))


def melt(*words: str) -> Result:
    app = typer.Typer()
    app.command("analyse")(analyse.analyse)
    app.command("show")(show.show)
    return CliRunner().invoke(app, words)


def told(*words: str) -> Any:
    return json.loads(melt(*words, "--json").stdout)


def test_it_prints_what_changed_and_says_where_it_lies(old: Path) -> None:
    done = melt("analyse", str(old))
    assert done.exit_code == 0, done
    (row,) = [line for line in done.stdout.splitlines() if "latency_p50_s" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:3] == ["latency_p50_s", "2", "7.5"]
    assert float(cells[3]) == pytest.approx(0.0123, rel=0.1)
    assert cells[4].startswith("99.8")
    assert "3 runs analysed" in done.stdout
    assert "2 analysis files are put beside run.json" in done.stdout
    assert len(list(old.glob(f"*/{NEW}"))) == 2
    again = melt("analyse", str(old))
    assert "0 with other figures than before; 0 analysis files" in again.stdout
    assert "latency_p50_s" not in again.stdout


def test_json_has_every_run_and_a_dry_run_writes_nothing(old: Path) -> None:
    shown = told("analyse", str(old), "--dry-run")
    assert (shown["dry_run"], shown["analysed"], shown["kept"]) == (True, 3, 2)
    assert not list(old.glob("*/analysis-*"))
    done = told("analyse", str(old))
    assert done == {**shown, "dry_run": False}
    run = done["runs"][0]["metrics"]["latency_p50_s"]
    assert run["old"] == {"value": 7.5}
    assert run["new"]["version"] == METRIC_VERSION
    assert done["metrics"][0]["runs"] == 2


def test_a_run_that_cannot_be_analysed_is_named_and_the_exit_code_says_so(old: Path) -> None:
    broken = next(iter(sorted(old.glob("*/events.jsonl"))))
    broken.write_text("{}\n")
    done = melt("analyse", str(old))
    assert done.exit_code == 1
    assert f"{broken} is not what it was" in done.stderr.replace("\n", " ")
    assert len(list(old.glob(f"*/{NEW}"))) == 1
    assert told("analyse", str(old))["failed"][0]["folder"] == str(broken.parent)


def test_a_folder_of_nothing_is_told(tmp_path: Path) -> None:
    for path, words in ((tmp_path, "holds no runs"), (tmp_path / "x", "is not a folder of results")):
        done = melt("analyse", str(path))
        assert isinstance(done.exception, UsageError)
        assert words in str(done.exception)


def test_show_has_the_old_figure_beside_the_new(old: Path) -> None:
    run = min(old.glob("*/run.json")).parent
    before = melt("show", str(run)).stdout
    assert "as first analysed" not in before
    melt("analyse", str(old))
    after = melt("show", str(run)).stdout
    assert f"analysed again by metric version {METRIC_VERSION}; run.json has version 1" in after
    heading = next(line for line in after.splitlines() if "as first analysed" in line)
    row = next(line for line in after.splitlines() if "latency_p50_s" in line)
    at = [cell.strip() for cell in heading.strip("┃").split("┃")].index("as first analysed")
    assert [cell.strip() for cell in row.strip("│").split("│")][at] == "7.5"
    other = next(line for line in after.splitlines() if "latency_mean_s" in line)
    assert [cell.strip() for cell in other.strip("│").split("│")][at] == ""
    assert told("show", str(run))["metric_version"] == METRIC_VERSION


def test_show_names_an_analysis_that_is_damaged(old: Path) -> None:
    run = min(old.glob("*/run.json")).parent
    (run / NEW).write_text("{")
    done = melt("show", str(run))
    assert done.exit_code == 0
    assert str(run / NEW) in done.stderr.replace("\n", "")
    assert "7.5" in done.stdout
