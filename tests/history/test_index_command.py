"""`melt index`, and the figures of the index on a history that is small enough for a test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from made_results import Results, make
from typer.testing import CliRunner

from benchmarks import index_figures
from benchmarks.harness import Round
from melt.cli import index
from melt.errors import DeviceError, UsageError
from melt.history import INDEX, refresh

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer()
app.command("index", epilog=index.EXAMPLE)(index.index)


def called(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "b")):
        make(tmp_path / name, Results(blocks=3, seed=number))
    return tmp_path


def test_it_makes_the_index_of_each_suite_and_says_how_many_runs(results: Path) -> None:
    done = called(results)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(results / name / INDEX) for name in "ab"]
    assert all("3 runs in 66 rows" in line for line in lines)
    assert len(pd.read_parquet(results / "a" / INDEX)) == 66


def test_it_trusts_nothing_that_the_index_holds(results: Path) -> None:
    called(results)
    path = results / "a" / INDEX
    good = pq.read_table(path)
    nothing = pa.array([0.0] * good.num_rows)
    pq.write_table(good.set_column(good.schema.get_field_index("value"), "value", nothing), path)
    assert set(refresh(results / "a").frame["value"]) == {0.0}, "what has the right stamps is not read again"
    assert called(results / "a").exit_code == 0
    assert pq.read_table(path).equals(good)


def test_what_cannot_be_read_is_named_for_people_and_programs(results: Path) -> None:
    broken = next((results / "a").glob("*/*/run.json"))
    broken.write_text("{")
    done = called(results)
    assert done.exit_code == 0
    assert f"{broken.parent} cannot be read: " in " ".join(done.stderr.split())
    told = json.loads(called(results, "--json").stdout)["suites"]
    assert [one["runs"] for one in told] == [2, 3]
    assert [one["path"] for one in told[0]["unreadable"]] == [str(broken.parent)]
    assert (told[1]["unreadable"], told[1]["written"], told[1]["notes"]) == ([], True, [])


def test_of_a_session_it_is_the_suites(results: Path) -> None:
    session = next((results / "a").glob("*/session.json")).parent
    assert str(results / "a" / INDEX) in called(session).stdout


def test_an_index_that_cannot_be_written_is_an_error(results: Path) -> None:
    (results / "a" / INDEX).mkdir()
    done = called(results)
    assert isinstance(done.exception, UsageError)
    assert str(results / "a" / INDEX) in str(done.exception)
    assert (results / "b" / INDEX).is_file()


def test_the_rate_is_that_of_all_runs(tmp_path: Path) -> None:
    assert index_figures.reindex_rate(Round(0, tmp_path), runs=400) > 0
    assert len(pd.read_parquet(tmp_path / "a" / INDEX)["run_id"].unique()) == 200
    next((tmp_path / "a").glob("*/*/run.json")).unlink()
    with pytest.raises(DeviceError, match="399 of 400"):
        index_figures.reindex_rate(Round(1, tmp_path), runs=400)
