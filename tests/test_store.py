"""The results folder: a run is there whole or not at all, and what is still to do follows from what is there."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store_example import RUN, keep, pending, run_record, session_record, slots

from melt import store
from melt.errors import UsageError
from melt.records import Reason, ReasonCode

HERE = Path(__file__).parent


@pytest.fixture
def session(tmp_path: Path) -> store.Session:
    return store.new_session(tmp_path / "results", session_record())


def run_id(number: int) -> str:
    return f"20260131T12{number:02d}00Z-0000000{number}"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


# ---------------------------------------------------------------------------------------------- killed at any step


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, bool, bool]]:
    """A results folder for every step at which a melt was killed; whether it had noted the job; whether it ended."""
    root = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, HERE / "store_example.py", root], capture_output=True, text=True, timeout=120, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(root / name, intended == "intended", end == "ended") for name, intended, end in lines]


def left_over(root: Path) -> list[str]:
    return [p.name for p in root.rglob(".*")]


def test_a_melt_was_killed_at_every_step_up_to_its_end(killed: list[tuple[Path, bool, bool]]) -> None:
    assert len(killed) > 20
    assert [ended for _, _, ended in killed] == [False] * (len(killed) - 1) + [True]
    assert {intended for _, intended, _ in killed} == {True, False}
    assert any(left_over(root) for root, _, _ in killed), "no step was inside of a write"


def test_killed_at_any_step_a_session_is_there_whole_or_not_at_all(killed: list[tuple[Path, bool, bool]]) -> None:
    for root, intended, _ in killed:
        found = store.sessions(root / "demo")
        assert len(found) <= 1
        assert found or not intended
        for path in found:
            assert store.open_session(path).record.order == slots()


def test_killed_at_any_step_a_run_is_there_whole_or_not_at_all(killed: list[tuple[Path, bool, bool]]) -> None:
    seen = set()
    for root, intended, ended in killed:
        runs, unreadable = store.read_runs(root)
        assert unreadable == []
        seen.add(len(runs))
        for run in runs:
            assert run.record.run_id == RUN
            for name, digest in run.record.files.items():
                assert digest == f"sha256:{hashlib.sha256((run.path / name).read_bytes()).hexdigest()}"
            assert sorted(p.name for p in run.path.iterdir()) == ["events.jsonl", "run.json", "stderr.log"]
        if ended:
            assert runs
        for path in store.sessions(root / "demo"):
            session = store.open_session(path)
            assert (session.todo() == list(slots())) == (not runs)
            # a job that was given to the device is either stored or can still be adopted
            assert runs or not intended or session.pending() == [pending()]
    assert seen == {0, 1}


def test_the_next_melt_removes_what_a_killed_one_left_half_written(
    killed: list[tuple[Path, bool, bool]], tmp_path: Path
) -> None:
    for original, _, _ in killed:
        root = tmp_path / original.name
        shutil.copytree(original, root)
        for path in store.sessions(root / "demo"):
            session = store.open_session(path)
            before = [run.record for run in session.runs()]
            with session.alone():
                assert left_over(path) == []
                assert [run.record for run in session.runs()] == before
            if not before:
                keep(session, run_record())
                assert [run.record.run_id for run in session.runs()] == [RUN]


# --------------------------------------------------------------------------------------------------- one at a time


def test_two_processes_do_not_carry_out_one_session(session: store.Session) -> None:
    program = (
        "import sys, pathlib; from melt import store\n"
        "with store.open_session(pathlib.Path(sys.argv[1])).alone():\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", program, session.path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="carried out by another melt"), session.alone():
            pass
        assert session.todo() == list(slots()), "what is there can be read meanwhile"
        other.kill()
    with session.alone():
        pass


def test_a_session_held_by_oneself_is_not_held_twice_and_free_afterwards(session: store.Session) -> None:
    with session.alone(), pytest.raises(UsageError, match="another melt"), session.alone():
        pass
    with pytest.raises(ZeroDivisionError), session.alone():
        raise ZeroDivisionError
    with session.alone():
        pass


def test_two_sessions_of_one_second_get_names_of_their_own(tmp_path: Path) -> None:
    made = [store.new_session(tmp_path, session_record()) for _ in range(12)]
    assert len({session.path for session in made}) == 12
    for session in made:
        assert session.record.session == session.path.name
        assert store.open_session(session.path).record == session.record


# ------------------------------------------------------------------------------------------------- what is to do


def test_what_is_to_do_follows_from_the_runs_that_are_there(session: store.Session) -> None:
    assert session.todo() == list(slots())
    keep(session, run_record(run_id(2), block=1))
    assert session.todo() == [slots()[0], slots()[2]]
    keep(session, run_record(run_id(1), block=0, status="failed", verdict="invalid"))
    assert session.todo() == [slots()[2]], "a run that failed was run"
    keep(session, run_record(run_id(3), block=2))
    assert session.todo() == []
    assert [run.record.run_id for run in session.runs()] == [run_id(1), run_id(2), run_id(3)]


def test_a_run_that_was_skipped_is_tried_again_and_its_record_stays(session: store.Session) -> None:
    reason = Reason(code=ReasonCode.PRECHECK, detail="too hot")
    keep(session, run_record(run_id(1), status="skipped", verdict="invalid", reasons=(reason,)))
    assert session.todo() == list(slots())
    keep(session, run_record(run_id(2)))
    assert session.todo() == list(slots()[1:])
    assert len(session.runs()) == 2


def test_a_run_of_another_cell_or_device_fills_no_slot(session: store.Session) -> None:
    keep(session, run_record(run_id(1), device="pi5"))
    keep(session, run_record(run_id(2), cell="other"))
    keep(session, run_record(run_id(3), block=99))
    assert session.todo() == list(slots())


def test_what_is_pending_is_noted_until_it_is_settled(session: store.Session) -> None:
    assert session.pending() == []
    session.intend(pending(run_id(2), block=1))
    session.intend(pending(run_id(1)))
    session.intend(pending(run_id(1)).model_copy(update={"idle_s": 60.0, "caveats": ("a",)}))
    assert [(p.run_id, p.idle_s) for p in store.open_session(session.path).pending()] == [
        (run_id(1), 60.0),
        (run_id(2), 0.0),
    ]
    session.settle(run_id(1))
    session.settle(run_id(1))
    assert [p.run_id for p in session.pending()] == [run_id(2)]
    assert session.todo() == list(slots()), "a job under way is no run yet"


def test_a_note_that_cannot_be_read_hides_no_other(session: store.Session) -> None:
    session.intend(pending(run_id(2)))
    notes = session.path / "pending"
    (notes / "a.json").write_bytes(b'{"run_id": "a", "slo')
    (notes / "b.json").mkdir()
    (notes / "c.json").write_bytes(b"\xff")
    hostile = pending().model_dump() | {"run_id": "../../../somewhere"}
    (notes / "d.json").write_text(json.dumps(hostile), encoding="utf-8")
    (notes / "e.txt").write_text("a word", encoding="utf-8")
    assert [p.run_id for p in session.pending()] == [run_id(2)]


# -------------------------------------------------------------------------------------------------------- finding


def test_the_last_unfinished_session_is_the_one_to_go_on_with(tmp_path: Path) -> None:
    first, second, third = (store.new_session(tmp_path, session_record(f"2026013{n}T000000Z", n=1)) for n in range(3))
    suite = tmp_path / "demo"
    assert store.find_session(suite, None).path == third.path
    keep(third, run_record())
    assert store.find_session(suite, None).path == second.path
    third.intend(pending(run_id(5)))
    assert store.find_session(suite, None).path == third.path, "a job under way is unfinished"
    third.settle(run_id(5))
    for session in (first, second):
        keep(session, run_record())
    with pytest.raises(UsageError, match=r"no unfinished session.*without --resume"):
        store.find_session(suite, None)
    assert store.find_session(suite, first.path.name).path == first.path


def test_a_session_that_is_not_there_is_told_with_the_nearest(tmp_path: Path, session: store.Session) -> None:
    suite = session.path.parent
    with pytest.raises(UsageError, match=f"did you mean '{session.path.name}'"):
        store.find_session(suite, session.path.name[:-2])
    for name in ("", "..", ".", "../demo", str(session.path)):
        with pytest.raises(UsageError, match="there is no session"):
            store.find_session(suite, name)
    with pytest.raises(UsageError, match="there is no session"):
        store.find_session(tmp_path / "nowhere", "x")
    with pytest.raises(UsageError, match="no unfinished session"):
        store.find_session(tmp_path / "nowhere", None)


# ---------------------------------------------------------------------------------------------- odd and broken files


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "cut": b'{"schema": 1, "run_id": ',
    "no object": b"[]",
    "a number": b"7",
    "not UTF-8": b'{"schema": 1, "melt": "\xff"}',
    "nested without end": b"[" * 100_000,
    "objects without end": b'{"schema":' * 100_000,
    "a number of 5000 digits": b'{"schema": ' + b"9" * 5000 + b"}",
    "no schema": b"{}",
    "a schema that is a bool": b'{"schema": true}',
    "a schema that is a word": b'{"schema": "1"}',
    "a schema of none": b'{"schema": 0}',
    "keys missing": b'{"schema": 1}',
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_run_that_cannot_be_read_is_named_and_the_others_are_read(session: store.Session, data: bytes) -> None:
    for number in (1, 2, 3):
        keep(session, run_record(run_id(number), block=number - 1))
    (session.path / run_id(2) / "run.json").write_bytes(data)
    runs, (broken,) = store.read_runs(session.path)
    assert [run.record.run_id for run in runs] == [run_id(1), run_id(3)]
    assert broken.path.name == run_id(2)
    assert broken.why
    assert "\n" not in broken.why
    assert session.todo() == [slots()[1]], "its slot is open again"


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_session_that_cannot_be_read_is_a_usage_error_that_names_it(session: store.Session, data: bytes) -> None:
    (session.path / "session.json").write_bytes(data)
    for read in (lambda: store.open_session(session.path), lambda: store.find_session(session.path.parent, None)):
        with pytest.raises(UsageError, match=r"session\.json cannot be read as a session: ."):
            read()


def test_a_newer_schema_is_refused_with_a_sentence(session: store.Session) -> None:
    run = keep(session, run_record())
    edit(run.path / "run.json", schema=2)
    found = store.read_run(run.path)
    assert isinstance(found, store.Unreadable)
    assert "schema 2 is newer than this melt" in found.why
    edit(session.path / "session.json", schema=2)
    with pytest.raises(UsageError, match="schema 2 is newer than this melt"):
        store.open_session(session.path)


def test_a_key_that_is_not_known_is_named(session: store.Session) -> None:
    run = keep(session, run_record())
    edit(run.path / "run.json", colour="red")
    found = store.read_run(run.path)
    assert isinstance(found, store.Unreadable)
    assert "colour" in found.why


def test_odd_things_in_a_session_are_no_runs(session: store.Session, tmp_path: Path) -> None:
    kept = keep(session, run_record())
    (session.path / "notes.txt").write_text("mine", encoding="utf-8")
    (session.path / "empty").mkdir()
    (session.path / "loop").symlink_to(session.path)
    (session.path / "nowhere").symlink_to(tmp_path / "missing")
    (session.path / "with-a-folder").mkdir()
    (session.path / "with-a-folder" / "run.json").mkdir()
    (session.path / f".part-{RUN}x").symlink_to(tmp_path)
    shutil.copytree(kept.path, session.path / ".part-left")
    runs, unreadable = store.read_runs(session.path)
    assert [run.path for run in runs] == [kept.path]
    assert [broken.path.name for broken in unreadable] == ["with-a-folder"]
    assert [run.path for run in session.runs()] == [kept.path]
    with session.alone():
        assert not (session.path / ".part-left").exists()
    assert tmp_path.is_dir(), "a link is not followed"
    assert kept.path.is_dir()


def test_runs_are_found_from_any_folder_above_them(session: store.Session, tmp_path: Path) -> None:
    kept = [keep(session, run_record(run_id(n), block=n)) for n in (2, 0, 1)]
    other = store.new_session(tmp_path / "results", session_record("20270101T000000Z", suite="other"))
    keep(other, run_record(run_id(3)))
    everything = [run_id(0), run_id(1), run_id(2), run_id(3)]
    for folder, wanted in (
        (kept[0].path, [run_id(2)]),
        (session.path, everything[:3]),
        (session.path.parent, everything[:3]),
        (tmp_path / "results", everything),
        (tmp_path, everything),
    ):
        runs, unreadable = store.read_runs(folder)
        assert ([run.record.run_id for run in runs], unreadable) == (wanted, [])
    for nothing in (tmp_path / "missing", session.path / "session.json"):
        with pytest.raises(UsageError, match="is not a folder of results"):
            store.read_runs(nothing)


# -------------------------------------------------------------------------------------------------- what is written


def test_a_stored_run_reads_back_as_it_was_with_the_digest_of_every_file(session: store.Session) -> None:
    stored = keep(session, run_record())
    read = store.read_run(stored.path)
    assert isinstance(read, store.StoredRun)
    assert read.record == stored.record == run_record(files=read.record.files)
    assert set(read.record.files) == {"events.jsonl", "stderr.log"}
    for name, digest in read.record.files.items():
        assert digest == f"sha256:{hashlib.sha256((stored.path / name).read_bytes()).hexdigest()}"
    assert [event.ev for event in read.events().landmarks] == ["load.begin", "done"]
    assert read.trace().empty


def test_a_run_folder_can_be_read_with_a_text_editor(session: store.Session) -> None:
    text = (keep(session, run_record()).path / "run.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert '\n "schema": 1,\n' in text
    assert '"from": "suite demo"' in text


def test_what_was_not_published_leaves_nothing(session: store.Session) -> None:
    with pytest.raises(FileNotFoundError), session.writing(RUN) as folder:
        shutil.copy(HERE / "missing", shutil.copy(__file__, folder))
    with session.writing(RUN) as folder:
        (folder / "events.jsonl").write_bytes(b"{}")
    assert sorted(p.name for p in session.path.iterdir()) == ["session.json"]


def test_a_run_that_is_stored_is_never_replaced(session: store.Session) -> None:
    first = keep(session, run_record())
    with pytest.raises(UsageError, match="cannot be written"):
        keep(session, run_record(block=1))
    assert store.read_run(first.path) == first
    assert left_over(session.path) == []


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for text in ("one", "two, longer", "é" * 100_000, ""):
        store.write_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    with pytest.raises(UnicodeEncodeError):
        store.write_text(path, "\ud800")
    assert path.read_text(encoding="utf-8") == ""
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_results_folder_that_cannot_be_one_is_a_usage_error(tmp_path: Path, session: store.Session) -> None:
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    nowhere = tmp_path / "nowhere"
    nowhere.symlink_to(tmp_path / "missing" / "deep")
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "demo").symlink_to(tmp_path / "missing")
    for root in (file, file / "below", nowhere, blocked, Path("/proc"), Path("/dev/null"), tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match=r"results folder .* cannot be written: ."):
            store.new_session(root, session_record())
    shutil.rmtree(session.path)
    for use in (lambda: session.intend(pending()), lambda: keep(session, run_record())):
        with pytest.raises(UsageError, match="cannot be written: No such file"):
            use()
    with pytest.raises(UsageError, match="cannot be written"), session.alone():
        pass


def test_a_disk_that_is_full_is_a_usage_error_and_what_is_stored_stays(tmp_path: Path) -> None:
    program = (
        "import sys, resource, pathlib; sys.path.insert(0, sys.argv[2])\n"
        "from store_example import *; from melt.errors import UsageError; import signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "session = store.new_session(pathlib.Path(sys.argv[1]), session_record())\n"
        "keep(session, run_record())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "for use in (lambda: session.intend(pending()), lambda: keep(session, run_record('b', block=1))):\n"
        "    try: use()\n"
        "    except UsageError as error: print(error)\n"
    )
    argv = [sys.executable, "-c", program, tmp_path, HERE]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("cannot be written: File too large") == 2, done.stdout + done.stderr
    (path,) = store.sessions(tmp_path / "demo")
    assert [run.record.run_id for run in store.open_session(path).runs()] == [RUN]
    assert left_over(path) == []
    assert store.open_session(path).pending() == []


# ----------------------------------------------------------------------------------------------------------- names


def test_run_ids_are_unique_and_sort_by_time() -> None:
    now = dt.datetime(2026, 12, 31, 23, 59, 58, tzinfo=dt.UTC)
    assert len({store.new_run_id(now) for _ in range(4)}) == 4
    times = [now + dt.timedelta(milliseconds=n) for n in range(2000)]
    ids = [store.new_run_id(time) for time in times]
    assert sorted(ids) == ids
    assert ids[0].startswith("20261231T235958Z-")
    assert len(ids[0]) == 25


def test_the_digest_of_texts_depends_on_names_and_texts_and_not_on_their_order() -> None:
    assert store.digest_of({"a": "1", "b": "2"}) == store.digest_of({"b": "2", "a": "1"})
    digests = {
        store.digest_of(t)
        for t in ({}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": ""}, {"a": "1b"}, {"a1": ""}, {"a": "é"})
    }
    assert len(digests) == 8
