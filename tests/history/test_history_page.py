"""The examples of docs/history.md run as they stand there, and give what melt itself has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from made_results import Results, make

from melt.history import COLUMNS, read

PAGE = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")
NIGHTS = Results(sessions=3, blocks=3, cells=("small", "large"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make(tmp_path / "results" / "nightly", NIGHTS)
    make(tmp_path / "results" / "other", Results(blocks=2, seed=2, hard={"threads": 3}))
    monkeypatch.chdir(tmp_path)
    read(tmp_path / "results")
    return tmp_path / "results"


def medians(results: Path, suite: str) -> dict[tuple[str, str, str], float]:
    frame = read(results / suite).frame
    rows = frame[frame["counts"] & (frame["metric"] == "latency_p50_s")]
    told = rows.groupby(["device", "cell", "session"], observed=True)["value"].median()
    return told.to_dict()


def test_the_example_for_pandas(results: Path) -> None:
    (example,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=120, check=True)
    expected = medians(results, "nightly")
    assert len(expected) == 6
    for (_, _, session), value in expected.items():
        assert session in done.stdout
        assert f"{value:.4f}"[:6] in done.stdout


def test_the_examples_for_duckdb(results: Path) -> None:
    by_night, by_threads = blocks("sql")
    rows = duckdb.sql(by_night).fetchall()
    expected = medians(results, "nightly") | medians(results, "other")
    assert {row[:3]: row[3] for row in rows} == pytest.approx(expected)
    assert sorted({row[4] for row in rows}) == [2, 3]
    ((threads, watts),) = duckdb.sql(by_threads).fetchall()
    assert threads == "2"
    assert watts == pytest.approx(6.1, rel=0.01)


def test_duckdb_sees_what_pandas_sees(results: Path) -> None:
    frame = read(results / "nightly").frame
    query = "SELECT count(*), count(value), sum(value), count(DISTINCT run_id), min(started_utc)::TIMESTAMPTZ::TEXT"
    ((rows, values, total, runs, first),) = duckdb.sql(f"{query} FROM 'results/nightly/index.parquet'").fetchall()
    assert (rows, values, runs) == (len(frame), frame["value"].count(), NIGHTS.runs)
    assert total == pytest.approx(frame["value"].sum())
    assert first.startswith(str(frame["started_utc"].min())[:10])


def test_the_page_tells_every_column_and_no_other() -> None:
    table = PAGE.partition("| column |")[2].partition("\n\n")[0]
    told = [name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z_0-9]+)`", row.split("|")[1])]
    assert sorted(told) == sorted(COLUMNS.names)
