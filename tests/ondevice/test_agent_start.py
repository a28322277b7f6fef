"""A job is started once, goes on without whoever started it, and holds the device alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent_jobs import LIMIT_S, SLEEPS, WAITS, Bench, file_sensor, fill_up, shell, until, wait_gone

if TYPE_CHECKING:
    from agent_jobs import Job

pytestmark = pytest.mark.peer


def descriptors(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/fd")
    found: dict[int, str] = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found[int(path.name)] = str(path.readlink())
    return found


def stat_fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def test_a_job_runs_to_its_end_and_leaves_the_files_that_are_promised(bench: Bench) -> None:
    job = bench.job(engine=shell("echo out; echo err >&2"), sensors=[file_sensor("up", "/proc/uptime")])
    status = job.run()
    assert status["exit"] == 0
    assert (status["signal"], status["why"], status["undone"]) == (None, "", True)
    assert (job.stdout(), (job.folder / "stderr").read_text()) == ("out\n", "err\n")
    order = [event["ev"] for event in job.events()]
    assert order == ["agent.begin", "agent.engine.start", "agent.engine.end", "agent.end"]
    stamps = [event["t"] for event in job.events()]
    assert stamps == sorted(stamps)
    left = {path.name for path in job.folder.iterdir()}
    assert left == {"plan", "go", "status", "alive", "events.jsonl", "trace.csv", "stdout", "stderr", "agent.log"}
    assert job.log() == ""


def test_the_agent_has_a_session_of_its_own_and_no_terminal(bench: Bench) -> None:
    job = bench.job(engine=WAITS)
    job.start()
    pid = job.agent_pid()
    assert os.getsid(pid) not in (pid, os.getsid(0))
    _, parent, _, _, terminal = stat_fields(pid)[:5]
    assert int(parent) != os.getpid()
    assert terminal == "0"
    job.go()
    assert job.ended()["exit"] == 0


def test_the_job_goes_on_when_its_starter_and_its_session_are_killed(bench: Bench) -> None:
    job = bench.job(engine=WAITS)
    script = '"$0" start "$1" && echo started && exec sleep 600'
    argv = ["/bin/sh", "-c", script, bench.agent, job.folder]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        os.killpg(starter.pid, signal.SIGHUP)
        os.killpg(starter.pid, signal.SIGKILL)
    job.go()
    assert job.ended()["exit"] == 0


def test_the_starter_lets_go_of_its_pipes_at_once(bench: Bench) -> None:
    job = bench.job(engine=SLEEPS)
    # an agent that kept a pipe open would keep communicate() waiting for its end
    done = subprocess.run([bench.agent, "start", job.folder], capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert job.verb("stop", "5000").returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_starter_without_standard_files_starts_a_job_like_any_other(bench: Bench, closed: str) -> None:
    job = bench.job(engine=WAITS)
    script = f'"$0" start "$1" {closed}'
    assert (
        subprocess.run(["/bin/sh", "-c", script, bench.agent, job.folder], timeout=LIMIT_S, check=False).returncode == 0
    )
    other = bench.job("other")
    assert other.verb("start").returncode == 75, "the lock was lost"
    engine = descriptors(job.engine_pid())
    assert (engine[0], Path(engine[1]).name, Path(engine[2]).name) == ("/dev/null", "stdout", "stderr")
    job.go()
    assert job.ended()["exit"] == 0


def test_neither_agent_nor_engine_holds_what_the_starter_had_open(bench: Bench) -> None:
    job = bench.job(engine=SLEEPS, sensors=[file_sensor("up", "/proc/uptime")])
    reading, writing = os.pipe()
    argv = [bench.agent, "start", job.folder]
    assert subprocess.run(argv, pass_fds=[writing], timeout=LIMIT_S, check=False).returncode == 0
    os.close(writing)
    assert os.read(reading, 1) == b"", "somebody still holds the pipe"
    os.close(reading)
    # a program that begins opens its libraries for a moment
    until(lambda: sorted(descriptors(job.engine_pid())) == [0, 1, 2], "the engine holds its three files only")
    assert job.verb("stop", "5000").returncode == 0


def test_signals_that_the_starter_ignored_or_blocked_are_as_usual_again(bench: Bench) -> None:
    job = bench.job(engine=shell("grep ^Sig /proc/self/status; kill -9 $$"))
    script = (
        "import os, signal, sys\n"
        "for s in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    argv = [sys.executable, "-S", "-c", script, bench.agent, "start", job.folder]
    assert subprocess.run(argv, timeout=LIMIT_S, check=False).returncode == 0
    assert job.ended()["signal"] == signal.SIGKILL
    masks = dict(line.split(":\t") for line in job.stdout().splitlines())
    watched = sum(1 << (s - 1) for s in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP))
    assert int(masks["SigBlk"], 16) == 0
    assert int(masks["SigIgn"], 16) & watched == 0


def test_a_second_job_is_told_who_holds_the_device(bench: Bench) -> None:
    first = bench.job("first", engine=WAITS, run_id="20261121T031500Z-1a2b3c4d")
    second = bench.job("second", run_id="other")
    first.start()
    refused = second.verb("start")
    assert refused.returncode == 75
    assert refused.stderr == b"locked by 20261121T031500Z-1a2b3c4d\n"
    assert not (second.folder / "status").exists()
    first.go()
    first.ended()
    assert second.run()["exit"] == 0


def test_the_lock_dies_with_the_agent(bench: Bench) -> None:
    first = bench.job("first", engine=SLEEPS)
    second = bench.job("second")
    first.start()
    engine = first.engine_pid()
    first.kill()
    wait_gone(engine)
    assert second.run()["exit"] == 0


def test_who_reads_that_a_job_is_done_may_start_the_next(bench: Bench) -> None:
    for i in range(15):
        job = bench.job(f"job-{i}")
        assert job.verb("start").returncode == 0
        assert json.loads(job.verb("watch").stdout.splitlines()[-1])["state"] == "done"


def test_a_job_started_twice_is_carried_out_once(bench: Bench) -> None:
    job = bench.job(engine=shell("echo ran; read -r _ < go"))
    job.start()
    job.start()
    job.go()
    job.ended()
    job.start()
    assert job.stdout() == "ran\n"
    assert len(job.events("agent.begin")) == 1


def test_a_job_started_by_many_at_once_is_carried_out_once(bench: Bench) -> None:
    job = bench.job(engine=shell("echo ran"))
    starters = [subprocess.Popen([job.agent, "start", job.folder], stderr=subprocess.PIPE) for _ in range(8)]
    codes = []
    for starter in starters:
        starter.communicate(timeout=LIMIT_S)
        codes.append(starter.returncode)
    assert set(codes) == {0}
    job.ended()
    assert job.stdout() == "ran\n"


def test_a_killed_job_is_not_started_again(bench: Bench) -> None:
    job = bench.job(engine=shell("echo ran; exec sleep 600"))
    job.start()
    job.engine_pid()
    job.kill()
    job.start()
    assert json.loads(job.verb("watch").stdout.splitlines()[-1]) == {"state": "dead"}
    assert len(job.events("agent.begin")) == 1


@pytest.mark.parametrize("name", ["two words", "line\nend", 'quote"back\\slash', "漢字 🦜", "-n", "%41%s%n", "é" * 120])
def test_a_job_folder_may_have_any_name(bench: Bench, name: str) -> None:
    path = bench.root / f"{name[:20]} sensor"
    bench.root.mkdir()
    path.write_text("42\n")
    job = bench.job(name, engine=("/usr/bin/printf", "%s|", name, ""), sensors=[file_sensor("odd", path)])
    assert job.run()["exit"] == 0
    assert job.stdout() == f"{name}||"
    assert {row.value for row in job.rows("odd")} == {b"42"}


def test_a_link_to_a_job_folder_is_as_good_as_the_folder(bench: Bench, tmp_path: Path) -> None:
    job = bench.job()
    (tmp_path / "link").symlink_to(job.folder)
    argv = [bench.agent, "start", "link"]
    assert subprocess.run(argv, cwd=tmp_path, timeout=LIMIT_S, check=False).returncode == 0
    assert job.ended()["exit"] == 0


def last_words(job: Job) -> str:
    done = job.verb("start")
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    return done.stderr.decode()


def test_a_lock_that_cannot_be_made_is_named(bench: Bench) -> None:
    job = bench.job()
    (bench.root / "lock").mkdir()
    assert bench.lock in last_words(job)


def test_a_device_without_space_does_not_begin_a_job(agent: Path, tiny_disk: Path) -> None:
    bench = Bench(agent, tiny_disk)
    job = bench.job()
    fill_up(tiny_disk)
    assert "No space left on device" in last_words(job)
    (tiny_disk / "fill").unlink()
    assert job.run()["exit"] == 0


def test_a_missing_folder_is_named(bench: Bench, tmp_path: Path) -> None:
    for verb in ("start", "watch"):
        done = subprocess.run(
            [bench.agent, verb, tmp_path / "absent"], capture_output=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 2
        assert b"absent: No such file or directory\n" in done.stderr


@pytest.mark.parametrize(
    "argv", [[], ["start"], ["begin", "x"], ["version", "x"], ["watch", "a", "b"], ["probe"], ["list"]]
)
def test_a_verb_that_is_not_understood_is_answered_by_the_usage(bench: Bench, argv: list[str]) -> None:
    done = subprocess.run([bench.agent, *argv], capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"usage: melt-agent ")
