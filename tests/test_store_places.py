"""Which folders are runs: none is dropped without a word, none is taken twice, and none is waited for that is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import pytest
from store_example import keep, run_record, session_record

from melt import store
from melt.errors import UsageError
from melt.store import runs


@pytest.fixture
def session(tmp_path: Path) -> store.Session:
    return store.new_session(tmp_path / "results", session_record())


def run_id(number: int) -> str:
    return f"20260131T12{number:02d}00Z-0000000{number}"


def test_half_a_runs_folder_is_named(session: store.Session) -> None:
    kept = keep(session, run_record(run_id(1)))
    (session.path / run_id(2)).mkdir()
    (session.path / "copied").mkdir()
    (session.path / "copied" / "trace.parquet").touch()
    for name in ("report", ".part-x", "pending"):
        (session.path / name).mkdir()
        (session.path / name / "report.md").touch()
    for folder in (session.path, session.path.parent):
        found, unreadable = store.read_runs(folder)
        assert [run.path for run in found] == [kept.path]
        assert [one.path.name for one in unreadable] == [run_id(2), "copied"]
        assert all("half a run" in one.why for one in unreadable)


def test_a_folder_that_cannot_be_listed_is_named(session: store.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep(session, run_record(run_id(1)))
    other = store.new_session(session.path.parents[1], session_record("20270101T000000Z"))
    inner = os.scandir

    def broken(path: Path) -> object:
        if Path(path) == other.path:
            raise OSError(5, "Input/output error")
        return inner(path)

    monkeypatch.setattr(runs.os, "scandir", broken)
    found, (closed,) = store.read_runs(session.path.parents[1])
    assert [run.path for run in found] == [kept.path]
    assert (closed.path, "Input/output error" in closed.why) == (other.path, True)


def test_a_folder_that_vanishes_while_it_is_looked_for_is_no_error(
    session: store.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is being written is renamed and settled while another melt reads."""
    kept = keep(session, run_record(run_id(1)))
    gone = keep(session, run_record(run_id(2), block=1))
    (session.path / "gone").mkdir()
    inner = os.scandir

    def vanishing(path: Path | int) -> object:
        if isinstance(path, Path) and path.name == "gone":
            path.rmdir()
        return inner(path)

    monkeypatch.setattr(runs.os, "scandir", vanishing)
    read = runs.read_run

    def late(path: Path) -> object:
        shutil.rmtree(gone.path, ignore_errors=True)
        return read(path)

    monkeypatch.setattr(runs, "read_run", late)
    found, unreadable = store.read_runs(session.path)
    assert ([run.path for run in found], unreadable) == ([kept.path], [])
    assert store.run_folders(session.path) == [kept.path]


def test_a_record_in_a_wrong_place_hides_no_run(session: store.Session) -> None:
    kept = keep(session, run_record(run_id(1)))
    (session.path.parent / "run.json").write_text("{", encoding="utf-8")
    found, unreadable = store.read_runs(session.path.parent)
    assert [run.path for run in found] == [kept.path]
    assert [one.path for one in unreadable] == [session.path.parent]


def test_copies_of_runs_sessions_and_suites_are_taken_once_and_named(session: store.Session) -> None:
    kept = [keep(session, run_record(run_id(number), block=number)) for number in range(2)]
    suite, results = session.path.parent, session.path.parents[1]
    shutil.copytree(kept[0].path, session.path / "0-copy")
    shutil.copytree(session.path, suite / "0-backup")
    shutil.copytree(suite, results / "0-backup")
    found, unreadable = store.read_runs(results)
    assert [run.path for run in found] == [run.path for run in kept]
    assert len(unreadable) == 1 + 3 + 6
    assert all(any(f"{run.path} is taken" in one.why for run in kept) for one in unreadable)
    found, unreadable = store.read_runs(suite / "0-backup")
    assert [run.path.name for run in found] == [run.path.name for run in kept], "asked for by name, it is no copy"
    assert [one.path.name for one in unreadable] == ["0-copy"]


def test_links_to_results_are_followed_once_and_none_leads_away(session: store.Session, tmp_path: Path) -> None:
    kept = keep(session, run_record(run_id(1)))
    elsewhere = tmp_path / "elsewhere"
    other = keep(store.new_session(elsewhere, session_record("20270101T000000Z", suite="other")), run_record(run_id(2)))
    results = session.path.parents[1]
    (session.path.parent / "0-latest").symlink_to(session.path)
    (session.path / "loop").symlink_to(results)
    (results / "other").symlink_to(elsewhere / "other")
    (results / "all").symlink_to("/")
    found, unreadable = store.read_runs(results)
    assert [run.path for run in found] == [kept.path, results / "other" / other.path.parent.name / other.path.name]
    assert unreadable == []


def test_a_file_system_without_locks_is_not_another_melt(
    session: store.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(UsageError, match=r"cannot be locked: No locks available"), session.alone():
        pass
