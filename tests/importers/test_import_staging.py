"""An import that is broken off leaves nothing, or is finished; two at once are never mixed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from samples import OVERFLOW

from melt import store
from melt.errors import UsageError
from melt.history import read
from melt.importers import IMPORTERS, gather, plan, publish, publishing, staging
from melt.importers.staging import staged

if TYPE_CHECKING:
    from melt.importers import Plan

TIMES = ("2026-11-01T03:00:00Z", "2026-11-01T03:01:00Z", "2026-11-02T03:00:00Z", None)
"""Three sessions: of two runs, of one, and of one whose time is not told."""


def write_tests(folder: Path) -> Path:
    folder.mkdir()
    (test,) = json.loads(OVERFLOW.read_text())
    for number, time in enumerate(TIMES):
        (folder / f"{number}.json").write_text(json.dumps([{**test, "test_time": time, "n_prompt": 12288 + number}]))
    return folder


def planned(folder: Path, results: Path) -> Plan:
    return plan(gather(folder, IMPORTERS).runs, results, "them")


def left(results: Path) -> list[str]:
    """Whatever of runs and sessions anybody could come upon."""
    return sorted(path.name for path in results.rglob("*") if path.name in ("run.json", "session.json"))


class Broken(Exception):
    """What a test breaks an import off with."""


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_what_breaks_an_import_leaves_nothing_of_it(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, results = write_tests(tmp_path / "in"), tmp_path / "results"
    whole, calls = publishing._publish_one, []

    def breaks(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == at + 1:
            raise Broken
        return whole(*given)

    monkeypatch.setattr(publishing, "_publish_one", breaks)
    with pytest.raises(Broken):
        publish(planned(folder, results), results)
    assert left(results) == []
    monkeypatch.undo()
    assert len(publish(planned(folder, results), results)) == len(TIMES)
    check_whole(results)


def check_whole(results: Path) -> None:
    runs, unreadable = store.read_runs(results)
    assert (len(runs), unreadable) == (len(TIMES), [])
    assert len(store.sessions(results / "them")) == 3
    for run in runs:
        assert (run.path / "llama-bench.json").is_file()
        assert run.record.session == run.path.parent.name
    assert len(read(results / "them").frame["run_id"].unique()) == len(TIMES)
    assert sorted(path.name for path in (results / "them").iterdir() if path.name.startswith(".imp")) == [
        ".importing.lock"
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
from melt.importers import IMPORTERS, gather, plan, publish, publishing
folder, results = map(Path, sys.argv[1:])
whole, calls = publishing._publish_one, []
def one(*given):
    calls.append(1)
    return os.kill(os.getpid(), signal.SIGKILL) if len(calls) == 4 else whole(*given)
publishing._publish_one = one
publish(plan(gather(folder, IMPORTERS).runs, results, "them"), results)
"""


def test_an_import_that_is_killed_leaves_nothing_that_anybody_reads(tmp_path: Path) -> None:
    folder, results = write_tests(tmp_path / "in"), tmp_path / "results"
    words = [sys.executable, "-c", KILLED, str(folder), str(results)]
    done = subprocess.run(words, check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(left(results)) == 6, "three runs and three sessions lay there"
    assert store.read_runs(results)[0] == []
    with pytest.raises(UsageError, match="holds no results"):
        read(results)
    publish(planned(folder, results), results)
    check_whole(results)


@pytest.mark.parametrize("at", range(7))
def test_an_import_that_is_broken_off_while_it_moves_is_finished(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each of its moves: four runs and three sessions; what lies there then is what a kill would leave."""
    folder, results = write_tests(tmp_path / "in"), tmp_path / "results"
    rename, moves = Path.rename, []

    def breaks(self: Path, target: Path) -> Path:
        if (results / "them" / ".importing" / "whole").exists():
            moves.append(target)
            if len(moves) == at + 1:
                raise Broken
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", breaks)
    with pytest.raises(Broken):
        publish(planned(folder, results), results)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="import again"):
        publish(planned(folder, results), results)
    check_whole(results)
    assert not planned(folder, results).runs


def test_two_imports_into_one_suite_are_never_at_once(tmp_path: Path) -> None:
    folder, results = write_tests(tmp_path / "in"), tmp_path / "results"
    found = planned(folder, results)
    with staged(results / "them", frozenset()), pytest.raises(UsageError, match="is being imported into by another"):
        publish(found, results)
    publish(found, results)
    with pytest.raises(UsageError, match="has got sessions of another import meanwhile: import again"):
        publish(found, results)
    check_whole(results)


def test_several_processes_that_import_one_folder_bring_it_in_once(tmp_path: Path) -> None:
    folder, results = write_tests(tmp_path / "in"), tmp_path / "results"
    code = "import sys; from melt.cli import main; main()"
    words = [sys.executable, "-c", code, "import", str(folder), "--name", "them", "--results", str(results)]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [child.communicate(timeout=120) for child in started]
    assert sum(child.returncode == 0 for child in started) == 1, said
    assert all("Traceback" not in text for pair in said for text in pair)
    check_whole(results)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    folder, results = write_tests(tmp_path / "in"), tmp_path / "results"
    results.write_text("a file")
    with pytest.raises(UsageError, match="cannot be written"):
        publish(planned(folder, results), results)


def test_a_session_has_a_name_that_is_free(tmp_path: Path) -> None:
    folder, results = write_tests(tmp_path / "in"), tmp_path / "results"
    publish(planned(folder, results), results)
    again = plan(gather(folder, IMPORTERS).runs, results, "them", again=True)
    publish(again, results)
    names = [path.name for path in store.sessions(results / "them")]
    assert {"20261101T030000Z", "20261101T030000Z-2"} < set(names)
    assert len(names) == 6
    assert all(store.open_session(path).record.session == path.name for path in store.sessions(results / "them"))


def test_hidden_folders_are_what_the_store_calls_partial() -> None:
    assert staging._HIDDEN == ".part-"
    assert os.sep not in staging._STAGE
