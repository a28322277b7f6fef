"""Exports read back by what they are for: csv, pyarrow, DuckDB, pytest-benchmark's own program, and melt itself."""

from __future__ import annotations

import csv
import io
import json
import shutil
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from made_runs import Made, session_of, skipped, store
from typer.testing import CliRunner

from melt.cli.export import export_results
from melt.errors import UsageError
from melt.history import read
from melt.importers.pytest_benchmark import PytestBenchmark
from melt.records import Reason, ReasonCode
from melt.report.exports import FORMATS, Format, export
from melt.store import read_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KEYS = {"threads": 2, "cpus": [0, 1], "governor": None, "pinned": True}


def results(root: Path, runs: int = 12) -> Path:
    """Runs of two devices, one with energy; one was skipped, one throttled, one has odd words in it."""
    made = [
        Made(device=device, cell="toy[threads=2]", block=block, hard=KEYS, figures={"energy_j": 4.5 if rich else None})
        for block in range(runs)
        for device, rich in (("pi5", True), ("local", False))
    ]
    hot = (Reason(code=ReasonCode.THROTTLED, detail="bit 3"),)
    made += [
        Made(device="pi5", cell="other", reasons=hot, caveats=("=cmd|' /C calc'!A0", "-1+2")),
        Made(device="pi5", cell="other", block=1, status="skipped", reasons=skipped()),
    ]
    session = session_of(root, made)
    for at, one in enumerate(made):
        store(session, one, at)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results(tmp_path_factory.mktemp("exported"))


def text(folder: Path, form: Format, *metrics: str) -> str:
    return export(read(folder).frame, form, metrics).decode()


def lines(told: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(told)))


def records(folder: Path) -> list[Any]:
    return [run.record for run in read_runs(folder)[0]]


# ------------------------------------------------------------------------------------------------------- tables


def test_long_holds_every_metric_of_every_run(folder: Path) -> None:
    found = {(row["run_id"], row["metric"]): row for row in lines(text(folder, "csv-long"))}
    told = 0
    for record in records(folder):
        for name, metric in record.metrics.items():
            row = found[record.run_id, name]
            assert row["value"] == ("" if metric.value is None else repr(metric.value))
            assert row["reason"] == (metric.reason or "")
            assert row["n"] == ("" if metric.n is None else str(metric.n))
            assert row["counts"] == ("true" if record.usable else "false")
            told += 1
    skipped_run = next(record for record in records(folder) if record.status == "skipped")
    assert found[skipped_run.run_id, ""]["reason"].startswith("no_measurement: ")
    assert len(found) == told + 1


def test_the_fingerprints_keys_are_columns(folder: Path) -> None:
    row = next(row for row in lines(text(folder, "csv-long")) if row["cell"] == "toy[threads=2]")
    assert [row[f"key.{name}"] for name in ("threads", "cpus", "governor", "pinned", "engine")] == [
        *("2", "[0, 1]", "", "true", "onnxruntime"),
    ]
    assert row["started_utc"] == "2026-11-21T03:00:00.000Z"
    assert (row["metric_version"], row["simulated"], row["imported"]) == ("2", "false", "")


def test_a_gap_is_empty_with_its_reason_and_never_0(folder: Path) -> None:
    rows = [row for row in lines(text(folder, "csv-wide")) if row["cell"] == "toy[threads=2]"]
    without = [row for row in rows if row["device"] == "local"]
    assert len(without) == 12
    for row in without:
        assert (row["energy_j"], row["energy_j.reason"]) == ("", "no_sample: made without it")
    for row in rows:
        if row["device"] == "pi5":
            assert float(row["energy_j"]) > 0
            assert row["energy_j.reason"] == ""


def test_wide_is_a_line_a_run(folder: Path) -> None:
    rows = {row["run_id"]: row for row in lines(text(folder, "csv-wide"))}
    assert len(rows) == len(records(folder)) == 26
    for record in records(folder):
        for name, metric in record.metrics.items():
            assert rows[record.run_id][name] == ("" if metric.value is None else repr(metric.value))


def test_no_field_is_a_formula(folder: Path) -> None:
    for form in ("csv-long", "csv-wide"):
        fields = [field for row in csv.reader(io.StringIO(text(folder, form))) for field in row]  # type: ignore[arg-type]
        assert any(field.startswith("'=cmd") for field in fields)
        for field in fields:
            assert not field.startswith(("=", "@", "+")), field
            if field.startswith("-"):
                float(field)


def test_parquet_is_the_long_table_typed(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "runs.parquet"
    file.write_bytes(export(read(folder).frame, "parquet"))
    table, told = pq.read_table(file), lines(text(folder, "csv-long"))
    assert table.column_names == list(told[0])
    frame = table.to_pandas()
    assert [("" if pd.isna(v) else repr(v)) for v in frame["value"]] == [row["value"] for row in told]
    assert str(table.schema.field("key.threads").type) == "int64"
    assert str(table.schema.field("key.pinned").type) == "bool"
    runs = duckdb.read_parquet(str(file)).filter("metric = 'energy_j' and value is not null")
    found = runs.aggregate("device, count(*), avg(value)").fetchall()
    assert [(device, n) for device, n, _ in found] == [("pi5", 12)]
    assert found[0][2] == pytest.approx(4.5, rel=0.01)


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_runs_give_the_same_bytes(folder: Path, tmp_path: Path, form: Format) -> None:
    first = export(read(folder).frame, form)
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    for file in moved.rglob("index.parquet"):
        file.unlink()
    assert export(read(moved).frame, form) == first


def test_asking_for_a_metric_gives_each_run_a_row(folder: Path) -> None:
    rows = lines(text(folder, "csv-long", "energy_j", "load_s"))
    assert len(rows) == 2 * 26
    other = [row for row in rows if row["cell"] == "other" and row["metric"] == "energy_j"]
    assert sorted(row["reason"].partition(":")[0] for row in other) == ["no_measurement", "no_sensor"]
    with pytest.raises(UsageError, match=r"metric 'enery_j' is in none of these runs: .*energy_j"):
        text(folder, "csv-long", "enery_j")


def test_runs_of_two_suites_and_of_one_folder_name_are_kept_apart(tmp_path: Path) -> None:
    for suite in ("one", "two"):
        store(session_of(tmp_path, [Made()], suite=suite), Made())
    rows = lines(text(tmp_path, "csv-wide"))
    assert [row["suite"] for row in rows] == ["one", "two"]


# --------------------------------------------------------------------------------------------- pytest-benchmark


def test_pytest_benchmark_compares_it(folder: Path, tmp_path: Path) -> None:
    for name in ("0001_before", "0002_after"):
        (tmp_path / f"{name}.json").write_text(text(folder, "pytest-benchmark", "latency_p50_s"))
    said = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", "--csv=table.csv", *sorted(map(str, tmp_path.iterdir()))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert "toy[threads=2]@pi5/latency_p50_s" in said.stdout
    rows = lines((tmp_path / "table.csv").read_text())
    assert len(rows) == 4
    values = by_device(folder)["pi5"]
    row = next(row for row in rows if "@pi5" in row["name"])
    assert float(row["mean"]) == pytest.approx(statistics.mean(values))
    assert float(row["stddev"]) == pytest.approx(statistics.stdev(values))
    assert int(float(row["rounds"])) == len(values) == 12


def by_device(folder: Path, metric: str = "latency_p50_s") -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in sorted(records(folder), key=lambda record: record.run_id):
        if record.usable:
            found.setdefault(record.device, []).append(record.metrics[metric].value)
    return found


def test_each_round_is_a_run_and_the_fingerprint_travels(folder: Path) -> None:
    found = json.loads(text(folder, "pytest-benchmark", "latency_p50_s"))
    data = {one["name"]: one for one in found["benchmarks"]}
    assert sorted(data) == ["toy[threads=2]@local/latency_p50_s", "toy[threads=2]@pi5/latency_p50_s"]
    one = data["toy[threads=2]@pi5/latency_p50_s"]
    assert one["stats"]["data"] == by_device(folder)["pi5"]
    assert one["extra_info"]["fingerprint"]["threads"] == 2
    assert one["extra_info"]["labels"] == ["synthetic_model"]
    assert found["machine_info"]["node"] == "2 devices: local, pi5"
    assert found["commit_info"]["id"] == "unknown"


def test_unlike_runs_are_never_one_benchmark(tmp_path: Path) -> None:
    made = [Made(block=block, hard={"threads": 1 + block % 2}) for block in range(4)]
    session = session_of(tmp_path, made)
    for at, one in enumerate(made):
        store(session, one, at)
    found = json.loads(text(tmp_path, "pytest-benchmark", "load_s"))["benchmarks"]
    assert [len(one["stats"]["data"]) for one in found] == [2, 2]
    assert len({one["name"] for one in found}) == 2
    assert {one["extra_info"]["fingerprint"]["threads"] for one in found} == {1, 2}


def test_what_has_no_time_is_refused_or_named(folder: Path) -> None:
    with pytest.raises(UsageError, match="'energy_j' is in j, and pytest-benchmark's numbers are times in seconds"):
        text(folder, "pytest-benchmark", "energy_j")
    with pytest.raises(UsageError, match="no run that counts has a value of latency_p99_9_s"):
        text(folder, "pytest-benchmark", "latency_p99_9_s")
    default = json.loads(text(folder, "pytest-benchmark"))
    assert {one["group"] for one in default["benchmarks"]} >= {"latency_p50_s", "load_s"}


def test_a_time_that_is_none_of_the_usual_ones_is_named(folder: Path) -> None:
    frame = read(folder).frame
    odd = frame[(frame["metric"] == "load_s").to_numpy()].assign(metric="cpu_per_call_s")
    with pytest.raises(
        UsageError, match=r"no run has latency_p50_s, .*: name another time with --metric, as cpu_per_call_s"
    ):
        export(odd, "pytest-benchmark")
    assert json.loads(export(odd, "pytest-benchmark", ["cpu_per_call_s"]))["benchmarks"]


def test_melt_imports_its_own_export(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(text(folder, "pytest-benchmark", "latency_p50_s"))
    importer = PytestBenchmark()
    assert importer.recognises(file)
    found = importer.read(file)
    assert found.problems == ()
    values = by_device(folder)
    for run, device in zip(found.runs, ("local", "pi5"), strict=True):
        assert run.note.corrections == ()  # every statistic that is stated follows from the data
        assert run.metrics["latency_p50_s"].value == pytest.approx(statistics.median(values[device]))
        assert run.metrics["latency_mean_s"].value == pytest.approx(statistics.mean(values[device]))


# --------------------------------------------------------------------------------------------------- the command


def melt(*words: str) -> Any:
    app = typer.Typer()
    app.command()(export_results)
    return CliRunner().invoke(app, words)


def test_text_goes_to_the_terminal_as_it_is(folder: Path) -> None:
    said = melt(str(folder), "--format", "csv-wide", "--metric", "load_s")
    assert said.exit_code == 0
    assert said.stdout == text(folder, "csv-wide", "load_s")


def test_a_file_is_written_whole(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "runs.csv"
    said = melt(str(folder), "--out", str(file), "--json")
    assert said.exit_code == 0
    assert file.read_text() == text(folder, "csv-long")
    assert list(file.parent.iterdir()) == [file]
    told = {"file": str(file), "format": "csv-long", "bytes": file.stat().st_size, "unreadable": 0}
    assert json.loads(said.stdout) == told


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--format", "parquet"], "parquet is no text: name a file"),
        (["--format", "cvs-long"], "format 'cvs-long' is not one that melt exports: .*csv-long"),
        (["--out", "/proc/none/x.csv"], "cannot be written"),
    ],
)
def test_what_cannot_be_exported_is_said(folder: Path, words: Sequence[str], why: str) -> None:
    said = melt(str(folder), *words)
    assert isinstance(said.exception, UsageError)
    with pytest.raises(UsageError, match=why):
        raise said.exception


def test_a_run_that_cannot_be_read_is_named_and_the_rest_is_exported(tmp_path: Path) -> None:
    made = [Made(block=block) for block in range(2)]
    session = session_of(tmp_path, made)
    broken = store(session, made[0], 0)
    store(session, made[1], 1)
    (broken.path / "run.json").write_text('{"schema": 1')
    said = melt(str(tmp_path), "--format", "csv-wide")
    assert said.exit_code == 0
    assert len(lines(said.stdout)) == 1
    assert broken.path.name in said.stderr
