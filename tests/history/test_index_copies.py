"""A run that lies in several folders is one run: copied by hand, backed up, or linked, and it is told."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from made_results import Results, make
from small_suite import EACH, SMALL, counted, put, run_folders, runs_of, same, sessions

from melt.compare import Asked, compare_folders
from melt.history import INDEX, read, rebuild, refresh

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["0-copy", "zz-copy", "20260101T030200Z-00000000"])
def test_a_copied_run_is_there_once_and_counts(suite: Path, name: str) -> None:
    before = refresh(suite)
    run = run_folders(suite)[2]
    shutil.copytree(run, run.parent / name)
    for found in (refresh(suite), refresh(suite), rebuild(suite), read(suite.parent)):
        pd.testing.assert_frame_equal(found.frame, before.frame)
        assert found.notes == (f"{run.parent / name} is a copy of {run}: it is left out",)
        assert all(counted(found).values())
    kept = pd.read_parquet(suite / INDEX)
    assert kept[kept["counts"]]["folder"].nunique() == SMALL.runs, "who reads the file alone counts it once too"
    assert len(kept) == (SMALL.runs + 1) * EACH


@pytest.mark.parametrize("name", ["0-backup", "backup"])
def test_a_copied_session_is_there_once_and_by_its_own_name_it_is_whole(suite: Path, name: str) -> None:
    before = refresh(suite)
    session = sessions(suite)[0]
    shutil.copytree(session, suite / name)
    found = refresh(suite)
    same(found, before)
    runs = SMALL.runs // 2
    assert found.notes == (f"{runs} runs in {suite / name} are copies of those in {session}: they are left out",)
    copy = read(suite / name)
    assert (copy.notes, copy.frame["folder"].nunique(), all(counted(copy).values())) == ((), runs, True)


def test_a_copied_suite_makes_no_figure_of_more_runs(suite: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", Results(sessions=2, blocks=3, cells=("small", "large"), seed=2, factor=1.1))
    asked = Asked("session", None, ("latency_p50_s",))
    alone = compare_folders(suite.parent, other, asked)
    shutil.copytree(suite, suite.parent / "0-backup")
    found = compare_folders(suite.parent, other, asked)
    assert found.verdicts == alone.verdicts
    assert any("are copies of those in" in note for note in found.notes)


def test_a_link_beside_what_it_leads_to_is_no_copy(suite: Path) -> None:
    before = refresh(suite)
    (suite / "latest").symlink_to(sessions(suite)[-1])
    run = run_folders(suite)[0]
    (run.parent / "last").symlink_to(run)
    found = rebuild(suite)
    same(found, before)
    assert found.notes == ()


def test_of_copies_and_a_newer_record_of_the_slot_the_newer_counts(suite: Path) -> None:
    run = run_folders(suite)[0]
    newer = put(run.parent, "20260101T040000Z-0000000a", cell="small", block=0)
    shutil.copytree(run, run.parent / "copy")
    assert counted(refresh(suite)) == {name: name != run.name for name in runs_of(refresh(suite))}
    assert newer.name in runs_of(refresh(suite))
