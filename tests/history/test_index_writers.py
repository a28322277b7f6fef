"""Several melts on one results folder: nothing is lost, nobody reads half an index, a killed one leaves nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from index_writers import OF_WRITER
from made_results import make

from melt.history import INDEX, rebuild, refresh
from melt.history.file import LOCK

PROGRAM = Path(__file__).parent / "index_writers.py"
WRITERS, RUNS = 3, 6


def start(*words: object) -> subprocess.Popen[str]:
    argv = [sys.executable, str(PROGRAM), *map(str, words)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_several_writers_store_at_once_is_all_there_and_a_reader_never_sees_half(tmp_path: Path) -> None:
    suite = make(tmp_path / "demo", OF_WRITER)
    refresh(suite)
    reader = start("read", suite)
    writers = [start("write", suite, number, RUNS) for number in range(WRITERS)]
    for writer in writers:
        _, told = writer.communicate(timeout=240)
        assert writer.returncode == 0, told
    times, told = reader.communicate("\n", timeout=240)
    assert reader.returncode == 0, told
    assert int(times) > 0
    kept = pd.read_parquet(suite / INDEX)
    found = refresh(suite)
    assert len(set(found.frame["run_id"])) == 1 + WRITERS * RUNS
    pd.testing.assert_frame_equal(kept, found.frame)
    pd.testing.assert_frame_equal(rebuild(suite).frame, found.frame)
    assert found.notes == found.unreadable == ()


def test_a_writer_that_is_killed_in_the_middle_takes_nothing_with_it(tmp_path: Path) -> None:
    suite = make(tmp_path / "demo", OF_WRITER)
    refresh(suite)
    doomed, other = (start("write", suite, number, RUNS if number else 1000) for number in range(2))
    with doomed:
        until = time.monotonic() + 120
        while not list(suite.glob("2027*/2027*Z-*")) and time.monotonic() < until:
            time.sleep(0.01)
        doomed.kill()
    _, told = other.communicate(timeout=240)
    assert other.returncode == 0, told
    found = refresh(suite)
    stored = {folder.name for folder in suite.glob("2*/2*Z-*")}
    # the run that it was writing when it died may be half there, and is named then
    assert set(found.frame["run_id"]) | {one.path.name for one in found.unreadable} == stored
    assert len(stored) >= 1 + RUNS + 1
    pd.testing.assert_frame_equal(rebuild(suite).frame, found.frame)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """A suite for each step at which its refresh was killed, with one run more than its index knew; how that ended."""
    argv = [sys.executable, PROGRAM, "killed", tmp_path_factory.mktemp("killed")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=True)
    lines = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    return [(Path(path), end) for path, end in lines]


def test_a_refresh_was_killed_at_every_step_up_to_its_end(killed: list[tuple[Path, str]]) -> None:
    ends = [end for _, end in killed]
    assert len(ends) > 4
    assert ends == ["killed"] * (len(ends) - 1) + ["ended"]
    assert any(list(suite.glob(f".{INDEX}.*.part")) for suite, _ in killed), "none was killed while it wrote"


def test_after_any_of_them_the_index_is_the_old_one_or_the_new_one_and_the_next_refresh_mends_it(
    killed: list[tuple[Path, str]],
) -> None:
    rows = [pq.read_table(suite / INDEX).num_rows for suite, _ in killed]
    assert sorted(set(rows)) == [22, 44]
    assert rows == sorted(rows), "from one step on it is the new one"
    for suite, _ in killed:
        found = refresh(suite)
        assert len(found.frame) == 44
        assert found.notes == ()
        pd.testing.assert_frame_equal(pd.read_parquet(suite / INDEX), found.frame)


def test_a_later_writer_removes_what_a_killed_one_left(killed: list[tuple[Path, str]]) -> None:
    for suite, _ in killed:
        make(suite, OF_WRITER.__class__(blocks=1, seed=3, begin=OF_WRITER.begin.replace(year=2028)))
        refresh(suite)
        assert {one.name for one in suite.iterdir() if one.is_file()} == {INDEX, LOCK}
