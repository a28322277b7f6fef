"""The engine: what it is given, how its end is told, and that nothing of it remains."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent_jobs import SLEEPS, WAITS, file_sensor, is_gone, shell, until, wait_gone

if TYPE_CHECKING:
    from agent_jobs import Bench

pytestmark = pytest.mark.peer

MY_CPUS = sorted(os.sched_getaffinity(0))
needs_two_cpus = pytest.mark.skipif(len(MY_CPUS) < 2, reason="affinity is NOT tested: this machine has one CPU")


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", script)


@pytest.mark.parametrize("code", [0, 1, 42, 126, 255])
def test_the_engine_s_exit_code_is_told(bench: Bench, code: int) -> None:
    job = bench.job(engine=shell(f"exit {code}"))
    status = job.run()
    assert (status["exit"], status["signal"], status["why"]) == (code, None, "")
    end = job.event("agent.engine.end")
    assert (end["exit"], end["signal"]) == (code, None)
    assert end["oom_kills"] in (0, -1)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM])
def test_the_signal_that_ended_the_engine_is_told(bench: Bench, number: signal.Signals) -> None:
    job = bench.job(engine=shell(f"kill -{number.value} $$"))
    status = job.run()
    assert (status["exit"], status["signal"], status["why"]) == (None, number, "")
    assert job.event("agent.engine.end")["signal"] == number
    assert not list(job.folder.glob("core*"))


def test_the_engine_s_own_cost_is_told_in_full(bench: Bench) -> None:
    job = bench.job(
        engine=python("x = bytearray(b'1' * 50_000_000)\nwhile __import__('time').process_time() < 0.3: pass")
    )
    job.run()
    end = job.event("agent.engine.end")
    assert end["maxrss_kb"] > 50_000_000 // 1024
    assert end["utime_ns"] + end["stime_ns"] >= 300_000_000
    assert end["majflt"] >= 0


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("/no/such/engine", "/no/such/engine: No such file or directory"),
        ("/etc/hostname/x", "/etc/hostname/x: Not a directory"),
        ("/etc/passwd", "/etc/passwd: Permission denied"),
        ("/tmp", "/tmp: Permission denied"),
        ('/no "quotes"\n\\', '/no "quotes"\n\\: No such file or directory'),
        ("/" + "long/" * 500, "/long/"),
    ],
)
def test_an_engine_that_cannot_be_started_says_why(bench: Bench, engine: str, words: str) -> None:
    job = bench.job(engine=(engine,))
    status = job.run()
    assert (status["exit"], status["engine_pid"], status["undone"]) == (127, 0, True)
    error = job.event("error")
    assert error["kind"] == "start"
    assert error["message"].startswith(words)
    assert job.events("agent.engine.start") == []


def test_words_and_environment_reach_the_engine_as_they_are(bench: Bench) -> None:
    words = ["", " ", "-n", "$(x)", "%41", "line\nend", "é漢", '"', "\\", "\x01\x7f"]
    env = {"PLAIN": "1", "ODD": 'a b=c\n%é"\\', "EMPTY": ""}
    job = bench.job(engine=("/bin/sh", "-c", 'printf "%s\\0" "$@"; exec env -0', "sh", *words), env=env)
    job.run()
    said = job.stdout().split("\0")
    assert said[: len(words)] == words
    assert {f"{key}={value}" for key, value in env.items()} <= set(said[len(words) :])


def test_the_engine_begins_in_the_job_s_folder_without_stdin_and_in_its_own_group(bench: Bench) -> None:
    job = bench.job(engine=shell("readlink /proc/self/fd/0; pwd; cat; ps -o pgid= -p $$ | tr -d ' '; echo $$"))
    job.run()
    null, folder, group, pid = job.stdout().splitlines()
    assert (null, folder, group) == ("/dev/null", str(job.folder), pid)


def test_the_engine_holds_no_file_of_the_agent(bench: Bench) -> None:
    sensors = [file_sensor(f"s{i}", "/proc/uptime", 0.005) for i in range(20)]
    job = bench.job(engine=SLEEPS, sensors=sensors)
    job.start()
    held = Path(f"/proc/{job.engine_pid()}/fd")
    # a program that begins opens its libraries for a moment
    until(lambda: {path.name for path in held.iterdir()} == {"0", "1", "2"}, "the engine holds its three files only")
    assert job.verb("stop", "5000").returncode == 0


def test_what_the_engine_writes_is_bounded_and_it_leaves_no_core(bench: Bench) -> None:
    beyond = f"of={bench.root}/jobs/job/big"
    job = bench.job(engine=("/bin/dd", "if=/dev/zero", beyond, "bs=1", "count=2", f"seek={(1 << 30) - 1}"))
    assert job.run()["signal"] == signal.SIGXFSZ
    assert (job.folder / "big").stat().st_size == 1 << 30
    limits = bench.job("limits", engine=shell("ulimit -c; ulimit -S -H -c"))
    limits.run()
    assert limits.stdout().split() == ["0", "0"]


def test_what_the_engine_left_in_the_middle_of_a_line_swallows_no_event(bench: Bench) -> None:
    job = bench.job(engine=shell("""printf '{"t":1,"ev":"infer.be' >> events.jsonl"""))
    job.run()
    lines = (job.folder / "events.jsonl").read_bytes().splitlines()
    assert b'{"t":1,"ev":"infer.be' in lines
    assert [b"agent.engine.end" in line for line in lines].count(True) == 1


# ------------------------------------------------------------------------------------------ affinity


@needs_two_cpus
def test_the_affinity_holds_for_every_thread_and_is_said_to(bench: Bench) -> None:
    script = (
        "import os, threading\n"
        "hold = threading.Event()\n"
        "for _ in range(3): threading.Thread(target=hold.wait, daemon=True).start()\n"
        "print(*sorted({c for t in os.listdir('/proc/self/task') for c in os.sched_getaffinity(int(t))}), flush=True)\n"
        "open('go').read()\n"
    )
    cpu = str(MY_CPUS[-1])
    job = bench.job(engine=python(script), cpus=cpu)
    job.start()
    until(lambda: any(seen["threads"] == 4 for seen in job.events("agent.affinity")), "every thread is looked at")
    job.go()
    job.ended()
    assert {(seen["asked"], seen["got"], seen["ok"]) for seen in job.events("agent.affinity")} == {(cpu, cpu, True)}
    assert job.stdout().split() == [cpu]


@needs_two_cpus
def test_an_engine_that_changes_its_affinity_is_found_out(bench: Bench) -> None:
    script = f"import os, time; os.sched_setaffinity(0, {{{MY_CPUS[0]}}}); open('go').read()"
    job = bench.job(engine=python(script), cpus=str(MY_CPUS[-1]))
    job.start()
    until(lambda: any(not seen["ok"] for seen in job.events("agent.affinity")), "it is found out")
    job.go()
    job.ended()
    seen = job.events("agent.affinity")[-1]
    assert (seen["ok"], seen["asked"], seen["got"]) == (False, str(MY_CPUS[-1]), str(MY_CPUS[0]))


def test_cpus_that_do_not_exist_are_said_not_to_be_had(bench: Bench) -> None:
    none = bench.job("none", engine=("/bin/true",), cpus="1000")
    assert none.run()["exit"] == 127
    assert none.event("error")["message"] == "affinity: Invalid argument"
    cpu = MY_CPUS[0]
    some = bench.job("some", engine=WAITS, cpus=f"{cpu},1000")
    some.start()
    until(lambda: bool(some.events("agent.affinity")), "the affinity is verified")
    some.go()
    some.ended()
    seen = some.events("agent.affinity")[0]
    assert (seen["ok"], seen["asked"], seen["got"]) == (False, f"{cpu},1000", str(cpu))


# ------------------------------------------------------------------------------- what an engine leaves behind


def test_children_in_the_engine_s_group_are_gone_at_its_end(bench: Bench) -> None:
    job = bench.job(engine=shell("sleep 600 & echo $! >> pids; (sleep 600 & echo $! >> pids)"))
    job.run()
    wait_gone(*job.pids(2))


def test_daemons_of_the_engine_are_gone_at_its_end(bench: Bench) -> None:
    daemon = "(setsid sh -c 'echo $$ >> pids; exec sleep 600' &)"
    job = bench.job(
        engine=shell(f"touch pids; {daemon}; {daemon}; while [ $(wc -l < pids) -lt 2 ]; do sleep 0.01; done")
    )
    job.run()
    assert all(map(is_gone, job.pids(2)))


def test_a_long_line_of_daemons_is_gone_at_the_end(bench: Bench, tmp_path: Path) -> None:
    chain = tmp_path / "chain.sh"
    chain.write_text('echo $$ >> pids\n[ $1 -gt 1 ] && setsid sh "$0" $(($1 - 1)) &\nsleep 600\n')
    wait = "while [ $(wc -l < pids) -lt 20 ]; do sleep 0.01; done"
    job = bench.job(engine=shell(f"touch pids; setsid sh {chain} 20 & {wait}"))
    job.run()
    assert all(map(is_gone, job.pids(20)))


def test_a_killed_agent_leaves_no_engine(bench: Bench) -> None:
    job = bench.job(engine=shell("trap '' TERM HUP INT; echo ready > ready; while :; do sleep 0.05; done"))
    job.start()
    until((job.folder / "ready").exists, "the engine ignores signals")
    engine = job.engine_pid()
    job.kill()
    wait_gone(engine)
