"""index.parquet: what is in it, when it is made again, and what becomes of what cannot be read."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import GAPS, LEVELS, TOTAL, Results, make, plan_of, record_of

from melt.analysis.total import told_total
from melt.errors import UsageError
from melt.history import COLUMNS, INDEX, file, index, read, rebuild, refresh
from melt.history.folders import LARGEST_BYTES
from melt.records import METRIC_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.history import Index

SMALL = Results(sessions=2, blocks=3, cells=("small", "large"))
EACH = len(LEVELS) + len(GAPS)
AT = dt.datetime(2026, 1, 1, 4, tzinfo=dt.UTC)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return make(tmp_path / "results" / "demo", SMALL)


def sessions(suite: Path) -> list[Path]:
    return sorted(plan.parent for plan in suite.glob("*/session.json"))


def run_folders(suite: Path) -> list[Path]:
    return sorted(file.parent for file in suite.glob("*/*/run.json"))


def put(session: Path, /, run_id: str = "20260101T040000Z-00000000", **changes: Any) -> Path:
    """One more run's folder in a session, its record with changes."""
    plan = plan_of(session.parent.name, session.name, SMALL)
    record = record_of(SMALL, plan, plan["order"][0], AT) | {"run_id": run_id} | changes
    (session / run_id).mkdir()
    (session / run_id / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return session / run_id


def change(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(record))


def runs_of(found: Index) -> set[str]:
    return set(found.frame["run_id"])


def counted(found: Index) -> dict[str, bool]:
    each = found.frame.drop_duplicates("run_id")
    return dict(zip(each["run_id"], each["counts"].tolist(), strict=True))


def of(found: Index, folder: Path) -> pd.DataFrame:
    return found.frame[found.frame["run_id"] == folder.name]


def same(left: Index, right: Index) -> None:
    pd.testing.assert_frame_equal(left.frame, right.frame)
    assert left.unreadable == right.unreadable


@pytest.fixture
def was_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run folders that are read from here on."""
    seen: list[str] = []
    inner = index.read_run

    def noting(path: Path) -> Any:
        seen.append(path.name)
        return inner(path)

    monkeypatch.setattr(index, "read_run", noting)
    return seen


# ------------------------------------------------------------------------------------------------------ what is in it


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
    counts = counted(refresh(suite))
    assert (len(counts), sum(counts.values())) == (SMALL.runs, SMALL.runs)


# -------------------------------------------------------------------------------------------------- kept up to date


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
        (lambda path: path.unlink() or path.mkdir(), "cannot be read"),
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


# ------------------------------------------------------------------------------------------------ what is unreadable


def test_of_ten_thousand_runs_the_one_that_is_corrupt_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    few = Results(blocks=1)
    session = sessions(make(tmp_path / "demo", few))[0]
    (only,) = run_folders(tmp_path / "demo")
    text = (only / "run.json").read_text()
    for number in range(9_999):
        folder = session / f"20260102T000000Z-{number:08x}"
        folder.mkdir()
        (folder / "run.json").write_text(
            text.replace(only.name, folder.name).replace('"block": 0', f'"block": {number}')
        )
    corrupt = session / "20260102T000000Z-00000fff"
    (corrupt / "run.json").write_text(text[:4000])
    found = refresh(tmp_path / "demo")
    assert [one.path for one in found.unreadable] == [corrupt]
    assert len(runs_of(found)) == 9_999
    assert len(found.frame) == 9_999 * EACH
    again = read(tmp_path / "demo")
    assert again.unreadable == found.unreadable
    assert len(again.frame) == len(found.frame)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"schema": 1, "run_id": "x"', "delimiter"),
        ("", "Expecting value"),
        ("[]", "schema"),
        ('{"schema": 2}', "schema 2 is newer than this melt"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_record_that_cannot_be_read_is_named_with_the_reason(suite: Path, text: str, why: str) -> None:
    folder = run_folders(suite)[0]
    (folder / "run.json").write_text(text)
    found = refresh(suite)
    assert [one.path for one in found.unreadable] == [folder]
    assert why in found.unreadable[0].why
    assert len(runs_of(found)) == SMALL.runs - 1
    assert found.notes == ()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"metrics": {"load_s": {"value": float("nan")}}}, "finite"),
        ({"metrics": {"load_s": {"value": 10**400}}}, "valid number"),
        ({"metrics": {"load_s": {"value": 1.0, "n": 1 << 63}}}, "metrics.load_s.n"),
        ({"metrics": {"load_s": {"value": 1.0, "version": 1 << 31}}}, "metrics.load_s.version"),
        ({"block": 1 << 31}, "'block'"),
        ({"metric_version": -(1 << 40)}, "'metric_version'"),
    ],
)
def test_a_number_that_no_column_can_hold_makes_a_run_unreadable(
    suite: Path, changes: Mapping[str, Any], why: str
) -> None:
    change(run_folders(suite)[0], **changes)
    found = refresh(suite)
    assert len(found.unreadable) == 1
    assert why in found.unreadable[0].why
    assert len(runs_of(found)) == SMALL.runs - 1


def test_a_record_of_a_gigabyte_is_not_opened(suite: Path, was_read: list[str]) -> None:
    folder = run_folders(suite)[0]
    os.truncate(folder / "run.json", 1 << 30)
    found = refresh(suite)
    assert folder.name not in was_read
    assert [one.path for one in found.unreadable] == [folder]
    assert f"{1 << 30} bytes" in found.unreadable[0].why
    os.truncate(folder / "run.json", 10)
    (folder / f"analysis-{METRIC_VERSION}.json").touch()
    os.truncate(folder / f"analysis-{METRIC_VERSION}.json", LARGEST_BYTES + 1)
    assert "analysis" in refresh(suite).unreadable[0].why


def test_a_pipe_in_a_records_place_is_not_waited_for(suite: Path) -> None:
    folder = run_folders(suite)[0]
    (folder / "run.json").unlink()
    os.mkfifo(folder / "run.json")
    assert "no file" in refresh(suite).unreadable[0].why


def test_half_a_run_folder_is_named_and_one_being_written_is_not(suite: Path) -> None:
    session = sessions(suite)[0]
    for name in ("20260101T040000Z-0000000a", "copied"):
        (session / name).mkdir()
    (session / "copied" / "events.jsonl").touch()
    for name in (".part-20260101T040000Z-0000000b", "pending", "report"):
        (session / name).mkdir()
        (session / name / "report.md").touch()
    shutil.copy(run_folders(suite)[0] / "run.json", session / ".part-20260101T040000Z-0000000b")
    found = refresh(suite)
    assert [one.path.name for one in found.unreadable] == ["20260101T040000Z-0000000a", "copied"]
    assert all("half a run" in one.why for one in found.unreadable)
    assert len(runs_of(found)) == SMALL.runs


def test_a_run_where_a_session_belongs_is_named(suite: Path) -> None:
    stray = suite / run_folders(suite)[0].name
    shutil.copytree(run_folders(suite)[0], stray)
    found = read(suite)
    assert [one.path for one in found.unreadable] == [stray]
    assert len(runs_of(found)) == SMALL.runs


def test_a_folder_that_vanishes_meanwhile_is_no_unreadable_run(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = run_folders(suite)[0]
    inner = index.read_run

    def vanishing(path: Path) -> Any:
        shutil.rmtree(gone, ignore_errors=True)
        return inner(path)

    monkeypatch.setattr(index, "read_run", vanishing)
    found = refresh(suite)
    assert (found.unreadable, len(runs_of(found))) == ((), SMALL.runs - 1)


def test_odd_names_survive(suite: Path) -> None:
    session = sessions(suite)[0]
    half = put(session, "20260101T040000Z-0000000e", device="half \ud800", metrics={"\udfff": {"value": 1.0}})
    odd = 'a\n"b", ü 🙂 \x00 {x}; --'
    put(
        session,
        device=odd,
        cell=odd,
        workload=odd,
        caveats=[odd],
        fingerprint={"hard": {odd: float("nan")}, "soft": {}},
    )
    put(session, "20260101T040000Z-0000000c", block=7).rename(session / os.fsdecode(b"\xff\xfe x"))
    found = refresh(suite)
    row = found.frame.query("device == @odd").iloc[0]
    assert (row["cell"], row["workload"], row["caveats"]) == (odd, odd, odd)
    assert json.loads(row["hard"]) == {odd: "nan"}
    assert of(found, half)[["device", "metric"]].to_numpy().tolist() == [["half \\ud800", "\\udfff"]]
    assert f"{session.name}/\\xff\\xfe x" in set(found.frame["folder"])
    same(refresh(suite), found)
    pd.testing.assert_frame_equal(pd.read_parquet(suite / INDEX), found.frame)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("20260131T120000Z", "2026-01-31T12:00:00Z"),
        ("2026-01-31T14:00:00.25+02:00", "2026-01-31T12:00:00.25Z"),
        ("2026-01-31T12:00:00", "2026-01-31T12:00:00Z"),
        ("yesterday", None),
        ("0001-01-01T00:00:00+05:00", None),
    ],
)
def test_the_begin_is_a_time_in_utc_or_nothing(suite: Path, text: str, moment: str | None) -> None:
    folder = put(sessions(suite)[0], started_utc=text)
    row = of(refresh(suite), folder).iloc[0]
    assert pd.isna(row["started_utc"]) if moment is None else row["started_utc"] == pd.Timestamp(moment)


# --------------------------------------------------------------------------------------------------- what is asked for


def test_a_results_folder_a_suite_a_session_and_a_run_give_what_lies_there(suite: Path, tmp_path: Path) -> None:
    make(suite.parent / "other", Results(blocks=2, seed=2))
    (suite.parent / "report").mkdir()
    session, run = sessions(suite)[0], run_folders(suite)[0]
    broken = put(sessions(suite)[1])
    (broken / "run.json").write_text("{")
    sizes = {path: len(runs_of(read(path))) for path in (suite.parent, suite, session, run)}
    assert sizes == {suite.parent: SMALL.runs + 2, suite: SMALL.runs, session: SMALL.runs // 2, run: 1}
    assert len(read(suite.parent).unreadable) == len(read(suite).unreadable) == 1
    assert read(session).unreadable == read(run).unreadable == ()
    assert list(read(run).frame["run_id"].cat.categories) == [run.name]
    (tmp_path / "link").symlink_to(session)
    assert runs_of(read(tmp_path / "link")) == runs_of(read(session))
    (tmp_path / "all").symlink_to(suite.parent)
    assert len(runs_of(read(tmp_path / "all"))) == SMALL.runs + 2


def test_paths_may_be_relative(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sessions(suite)[0])
    assert len(runs_of(read(Path()))) == SMALL.runs // 2
    assert len(runs_of(read(Path("..")))) == SMALL.runs
    monkeypatch.chdir(suite)
    assert len(runs_of(read(Path()))) == SMALL.runs


def test_beside_a_session_that_was_copied_elsewhere_nothing_is_written(suite: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "downloads"
    shutil.copytree(sessions(suite)[0], elsewhere / "copied")
    (elsewhere / "private").mkdir()
    for path in (elsewhere / "copied", next((elsewhere / "copied").glob("*Z-*"))):
        found = read(path)
        assert found.unreadable == found.notes == ()
        assert len(found.frame) > 0
        assert not found.kept
    assert sorted(one.name for one in elsewhere.iterdir()) == ["copied", "private"]


@pytest.mark.parametrize("name", ["nowhere", "empty", "a.txt"])
def test_a_folder_without_results_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(UsageError, match=f"{name} holds no results: name a folder that 'melt run' wrote"):
        read(tmp_path / name)


def test_a_session_in_which_nothing_has_ended_has_no_rows(suite: Path) -> None:
    for folder in run_folders(suite):
        shutil.rmtree(folder)
    found = read(suite)
    assert (len(found.frame), list(found.frame.columns), found.unreadable) == (0, COLUMNS.names, ())
    assert read(suite).frame.empty


def test_two_contents_of_one_suites_name_are_both_there_and_told(suite: Path) -> None:
    begin = SMALL.begin.replace(year=2027)
    make(suite, replace(SMALL, sha256="ab" * 32, begin=begin))
    found = refresh(suite)
    assert len(runs_of(found)) == 2 * SMALL.runs
    assert set(found.frame["suite_sha256"]) == {"ab" * 32, "5e" * 32}
    assert "2 contents bear that name" in found.notes[0]
    assert ("5e5e5e5e5e5e" in found.notes[0], "abababababab" in found.notes[0]) == (True, True)
    assert read(sessions(suite)[0]).notes == ()


# ----------------------------------------------------------------------------------------------- where none can be kept


def test_readers_take_no_lock_and_a_writer_waits_a_bounded_time(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "WAIT_S", 0.05)
    corrupt = put(sessions(suite)[0])
    (corrupt / "run.json").write_text("{")
    before = refresh(suite)
    with (suite / file.LOCK).open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        same(refresh(suite), before)
        assert refresh(suite).notes == (), "what cannot be read is no reason to write"
        new = put(sessions(suite)[0], "20260101T040000Z-0000000d")
        found = refresh(suite)
    assert new.name in runs_of(found)
    assert "another melt has been writing it" in found.notes[0]
    assert not found.kept
    assert new.name not in set(pd.read_parquet(suite / INDEX)["run_id"])
    assert refresh(suite).notes == ()
    assert new.name in set(pd.read_parquet(suite / INDEX)["run_id"])


def test_on_a_file_system_that_may_only_be_read_the_rows_are_right_and_that_is_told(tiny_disk: Path) -> None:
    suite = make(tiny_disk / "demo", Results(blocks=4))
    refresh(suite)
    put(sessions(suite)[0])
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    found = read(suite)
    assert len(runs_of(found)) == 5
    assert (len(found.notes), found.kept) == (1, False)
    assert "Read-only file system" in found.notes[0]
    subprocess.run(["mount", "-o", "remount,rw", tiny_disk], check=True)
    (suite / INDEX).unlink()
    (suite / file.LOCK).unlink()
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    assert len(runs_of(read(suite))) == 5


def test_a_full_disk_leaves_the_old_index(tiny_disk: Path) -> None:
    suite = make(tiny_disk / "demo", Results(blocks=4))
    before = refresh(suite)
    put(sessions(suite)[0])
    with contextlib.suppress(OSError), (tiny_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(512))
    found = refresh(suite)
    assert len(runs_of(found)) == 5
    assert "No space left" in found.notes[0]
    pd.testing.assert_frame_equal(pd.read_parquet(suite / INDEX), before.frame)
    assert not list(suite.glob(".index.parquet*"))


def test_nothing_but_the_index_and_its_lock_is_left(suite: Path) -> None:
    (suite / f".{INDEX}.0badcafe.part").touch()
    refresh(suite)
    assert sorted(one.name for one in suite.iterdir() if not (one / "session.json").exists()) == [file.LOCK, INDEX]


def test_reading_the_index_needs_neither_a_run_folder_nor_melt(suite: Path) -> None:
    refresh(suite)
    program = "import sys, pandas; print(len(pandas.read_parquet(sys.argv[1])), 'melt' in sys.modules)"
    argv = [sys.executable, "-c", program, suite / INDEX]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [str(SMALL.runs * EACH), "False"]
