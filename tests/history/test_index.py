"""index.parquet: what is in it, and when what is read again."""

from __future__ import annotations

import json
import math
import os
import shutil
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import GAPS, TOTAL
from small_suite import EACH, SMALL, change, counted, of, put, run_folders, runs_of, same, sessions
from store_example import RUN, keep, run_record, session_record

from melt.analysis.total import told_total
from melt.history import COLUMNS, INDEX, read, rebuild, refresh
from melt.records import METRIC_VERSION
from melt.store import new_session

if TYPE_CHECKING:
    from pathlib import Path


def test_a_row_a_run_and_metric_with_the_columns_that_are_promised(suite: Path) -> None:
    found = refresh(suite)
    assert len(found.frame) == SMALL.runs * EACH
    assert list(found.frame.columns) == COLUMNS.names
    assert (found.unreadable, found.notes, found.kept) == ((), (), True)
    table = pq.read_table(suite / INDEX)
    assert table.schema.equals(COLUMNS)
    pd.testing.assert_frame_equal(pd.read_parquet(suite / INDEX), found.frame)


def test_each_value_is_the_records_with_its_unit_total_and_reason(suite: Path) -> None:
    folder = run_folders(suite)[3]
    record = json.loads((folder / "run.json").read_text())
    rows = of(refresh(suite), folder).set_index("metric")
    assert list(rows.index) == list(record["metrics"])
    assert rows["value"].dropna().to_dict() == {
        name: metric["value"] for name, metric in record["metrics"].items() if metric["value"] is not None
    }
    assert rows["reason"].dropna().to_dict() == GAPS
    assert rows["unit"][["load_s", "inferences_per_s", "clock_hz.cpu.policy0.clock", "j_per_inference"]].tolist() == [
        "s",
        "1/s",
        "hz",
        "j",
    ]
    assert rows["total"].dropna().to_dict() == dict.fromkeys(
        ("energy_j", "power_mean_w", "j_per_inference"), "module: cpu_cv + gpu_soc"
    )
    assert rows["n"]["latency_p50_s"] == 282
    assert rows["error"].notna().sum() == 3
    first = rows.iloc[0]
    assert first["hard"] == json.dumps(record["fingerprint"]["hard"], sort_keys=True)
    assert first["started_utc"] == pd.Timestamp(record["started_utc"])
    assert (first["folder"], first["block"]) == (f"{folder.parent.name}/{folder.name}", record["block"])
    assert first["boottime_s"] == record["clock"]["boottime_s"]


def test_what_melt_itself_stores_is_there_and_what_it_is_writing_is_not(tmp_path: Path) -> None:
    session = new_session(tmp_path, session_record())
    keep(session, run_record())
    with session.writing("20260131T120001Z-00000002") as folder:
        (folder / "run.json").write_text(run_record("20260131T120001Z-00000002").model_dump_json(by_alias=True))
        found = read(tmp_path)
    assert found.unreadable == ()
    (row,) = found.frame.itertuples()
    assert (row.run_id, row.metric, row.value, row.n, row.metric_version) == (RUN, "latency_s", 0.5, 11, METRIC_VERSION)
    assert (row.suite, row.session, row.counts, row.hard) == ("demo", session.path.name, True, "{}")
    assert row.started_utc == pd.Timestamp("2026-01-31T12:00:00Z")


def test_no_value_is_ever_nan(suite: Path) -> None:
    refresh(suite)
    values = pq.read_table(suite / INDEX)["value"]
    assert values.null_count == SMALL.runs * len(GAPS)
    assert not any(map(math.isnan, values.drop_null().to_pylist()))


def test_the_total_is_that_of_the_energys_note() -> None:
    assert told_total(TOTAL) == ("module", frozenset({"gpu_soc", "cpu_cv"}))
    assert told_total("VmHWM, read by the engine itself") is told_total(None) is None


def test_a_values_own_metric_version_stands_before_its_records(suite: Path) -> None:
    folder = run_folders(suite)[0]
    metrics = {"new_s": {"value": 1.0}, "old_s": {"value": 1.0, "version": 1}}
    change(folder, metrics=metrics)
    rows = refresh(suite).frame.query("metric in ['new_s', 'old_s']")
    assert dict(zip(rows["metric"], rows["metric_version"], strict=True)) == {"new_s": 2, "old_s": 1}


def test_a_run_without_metrics_has_one_row_without_one(suite: Path) -> None:
    skipped = {"status": "skipped", "verdict": "invalid", "metrics": {}}
    folder = put(sessions(suite)[0], reasons=[{"code": "precheck", "detail": "it was warm"}] * 2, **skipped)
    rows = of(refresh(suite), folder)
    assert len(rows) == 1
    row = rows.iloc[0]
    assert (row["reasons"], row["usable"], row["counts"]) == ("precheck", False, False)
    assert all(pd.isna(row[name]) for name in ("metric", "value", "unit", "total"))


def test_the_newest_run_of_a_slot_counts_if_it_was_not_skipped_and_is_usable(suite: Path) -> None:
    session = sessions(suite)[0]
    (first,) = [one for one in run_folders(suite) if one.parent == session and _slot(one) == (0, "small")]
    put(session, "20260101T050000Z-00000001", block=0)
    put(session, "20260101T050000Z-00000002", block=0, status="skipped", verdict="invalid", metrics={})
    put(session, "20260101T050000Z-00000003", block=1)
    put(session, "20260101T050000Z-00000004", block=1, status="failed", verdict="invalid")
    counts = counted(refresh(suite))
    assert counts[first.name] is False, "a newer record of its slot is there"
    assert counts["20260101T050000Z-00000001"] is True, "one that was skipped later takes no run's place"
    assert counts["20260101T050000Z-00000002"] is False
    assert counts["20260101T050000Z-00000003"] is False, "what failed later takes its place"
    assert counts["20260101T050000Z-00000004"] is False
    assert sum(counts.values()) == SMALL.runs - 1


def _slot(folder: Path) -> tuple[int, str]:
    record = json.loads((folder / "run.json").read_text())
    return record["block"], record["cell"]


def test_a_run_counts_again_when_the_one_that_took_its_place_is_gone(suite: Path) -> None:
    folder = put(sessions(suite)[0], "20260101T050000Z-00000001", block=0)
    assert sum(counted(refresh(suite)).values()) == SMALL.runs
    shutil.rmtree(folder)
    found = refresh(suite)
    counts = counted(found)
    assert (len(counts), sum(counts.values())) == (SMALL.runs, SMALL.runs)
    pd.testing.assert_frame_equal(pd.read_parquet(suite / INDEX), found.frame)


# ------------------------------------------------------------------------------------------------- kept up to date


def test_only_what_is_new_or_changed_is_read_again(suite: Path, was_read: list[str]) -> None:
    refresh(suite)
    assert len(set(was_read)) == SMALL.runs
    was_read.clear()
    before = (suite / INDEX).stat()
    same(refresh(suite), refresh(suite))
    assert was_read == []
    assert ((suite / INDEX).stat().st_ino, (suite / INDEX).stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    new, changed = put(sessions(suite)[0]), run_folders(suite)[4]
    change(changed, caveats=["changed"])
    found = refresh(suite)
    assert set(was_read) == {new.name, changed.name}
    same(found, rebuild(suite))
    assert set(of(found, changed)["caveats"]) == {"changed"}


def test_a_change_that_keeps_the_size_is_seen_by_its_time(suite: Path) -> None:
    refresh(suite)
    record = run_folders(suite)[0] / "run.json"
    before = record.stat()
    record.write_text(record.read_text().replace('"device": "pi5"', '"device": "pi6"'))
    os.utime(record, ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    assert record.stat().st_size == before.st_size
    assert set(refresh(suite).frame["device"]) == {"pi5", "pi6"}


def test_a_refresh_gives_what_making_it_anew_gives(suite: Path) -> None:
    refresh(suite)
    for folder in run_folders(suite)[2:5]:
        shutil.rmtree(folder)
    put(sessions(suite)[0], device="another", fingerprint={"hard": {"engine": "x"}, "soft": {}})
    found = refresh(suite)
    same(found, rebuild(suite))
    assert "another" in set(found.frame["device"].cat.categories)
    gone = refresh(suite).frame["run_id"].cat.categories
    assert len(gone) == SMALL.runs - 2, "no word stays that no row has"


def test_a_run_that_was_analysed_again_is_read_again(suite: Path) -> None:
    folder = run_folders(suite)[0]
    change(folder, metric_version=1)
    assert set(of(refresh(suite), folder)["metric_version"]) == {1}
    told = {"schema": 1, "metric_version": METRIC_VERSION, "melt": "0.1.0", "run_id": folder.name, "verdict": "valid"}
    told |= {"reasons": [], "metrics": {"load_s": {"value": 7.0, "n": 1}}}
    analysis = folder / f"analysis-{METRIC_VERSION}.json"
    analysis.write_text(json.dumps(told))
    rows = of(refresh(suite), folder)
    assert [(r.metric, r.value, r.metric_version) for r in rows.itertuples()] == [("load_s", 7.0, METRIC_VERSION)]
    analysis.write_text(json.dumps(told | {"metrics": {"load_s": {"value": 8.0, "n": 12}}}))
    assert of(refresh(suite), folder)["value"].tolist() == [8.0]
    analysis.unlink()
    assert set(of(refresh(suite), folder)["metric_version"]) == {1}


def test_a_damaged_analysis_is_named_each_time_and_its_run_is_there(suite: Path, was_read: list[str]) -> None:
    analysis = run_folders(suite)[0] / f"analysis-{METRIC_VERSION}.json"
    analysis.write_text("{")
    for _ in range(2):
        found = refresh(suite)
        assert [one.path for one in found.unreadable] == [analysis]
        assert "taken without it" in found.unreadable[0].why
        assert len(runs_of(found)) == SMALL.runs
    assert len(was_read) == SMALL.runs
    analysis.unlink()
    assert refresh(suite).unreadable == ()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.write_bytes(b"PAR1 is how it begins" * 99), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.unlink() or path.mkdir(), "is no file"),
        (lambda path: pq.write_table(pa.table({"x": [1]}), path), "of another shape"),
        (lambda path: pq.write_table(pq.read_table(path).drop_columns("note"), path), "of another shape"),
        (lambda path: _with_schema(path, "2"), "of another shape"),
        (lambda path: _with_schema(path, "1", damaged="[1]"), "cannot be read"),
    ],
)
def test_an_index_that_cannot_be_used_is_made_anew_and_that_is_told(suite: Path, spoil: Any, told: str) -> None:
    before = refresh(suite)
    spoil(suite / INDEX)
    found = refresh(suite)
    assert told in found.notes[0]
    pd.testing.assert_frame_equal(found.frame, before.frame)
    if found.kept:
        assert refresh(suite).notes == ()
    else:
        assert (suite / INDEX).is_dir()
        assert "Is a directory" in found.notes[1]


def _with_schema(path: Path, schema: str, damaged: str = "{}") -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"melt.schema": schema, "melt.damaged": damaged}), path)


def test_a_flipped_byte_never_ends_in_a_traceback(suite: Path) -> None:
    before = refresh(suite)
    whole = (suite / INDEX).read_bytes()
    for at in range(4, len(whole), max(len(whole) // 60, 1)):
        (suite / INDEX).write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        found = refresh(suite)
        assert len(found.frame) >= 1
    same(rebuild(suite), before)
