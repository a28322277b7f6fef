"""What is asked of the index by which path, and where none can be kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_results import Results, make
from small_suite import EACH, SMALL, put, run_folders, runs_of, same, sessions

from melt.errors import UsageError
from melt.history import COLUMNS, INDEX, after_session, file, index, read, refresh


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


# --------------------------------------------------------------------------------------- where none can be kept


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


def test_after_a_session_an_error_is_a_note(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert after_session(suite) == ()
    assert (suite / INDEX).is_file()
    (note,) = after_session(tmp_path / "nowhere")
    assert "'melt index" in note

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(index, "refresh", broken)
    (note,) = after_session(suite)
    assert "a bug of ours" in note


def test_a_link_in_the_locks_place_is_not_followed(suite: Path, tmp_path: Path) -> None:
    (suite / file.LOCK).symlink_to(tmp_path / "elsewhere")
    found = refresh(suite)
    assert len(runs_of(found)) == SMALL.runs
    assert (len(found.notes), found.kept) == (1, False)
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_in_the_indexs_place_is_not_waited_for(suite: Path) -> None:
    os.mkfifo(suite / INDEX)
    assert "is no file" in refresh(suite).notes[0]
    assert refresh(suite).notes == ()


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
