"""Records that cannot be read are named, and everything else is in the index."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from made_results import Results, make
from small_suite import EACH, SMALL, change, of, put, run_folders, runs_of, same, sessions

from melt.history import INDEX, index, read, refresh
from melt.history.folders import LARGEST_BYTES
from melt.records import METRIC_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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
    refresh(suite)
    (folder / "run.json").write_text(text)
    found = refresh(suite)
    assert [one.path for one in found.unreadable] == [folder]
    pd.testing.assert_frame_equal(pd.read_parquet(suite / INDEX), found.frame)
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
    assert found.frame["folder"].nunique() == SMALL.runs


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
