"""The engine is ended at its limits of time, memory and heat, or on request; what was measured by then is kept."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest
from agent_jobs import SLEEPS, WAITS, command_sensor, file_sensor, is_gone, shell, until, wait_gone

if TYPE_CHECKING:
    from pathlib import Path

    from agent_jobs import Bench

pytestmark = pytest.mark.peer

STUBBORN = shell("trap '' TERM; sleep 600 & echo $! $$ >> pids; while :; do sleep 0.05; done")
"""Ignores the request to end, and so do its children."""


def test_the_wall_limit_asks_an_engine_to_end_and_keeps_its_answer(bench: Bench) -> None:
    job = bench.job(engine=shell("trap 'echo bye; exit 5' TERM; sleep 600 & wait"), wall_s=0.3)
    status = job.run()
    assert (status["exit"], status["signal"], status["why"]) == (5, None, "wall")
    assert job.event("agent.kill")["why"] == "wall"
    assert job.stdout() == "bye\n"


def test_the_wall_limit_ends_an_engine_that_does_not_listen_without_a_busy_wait(bench: Bench) -> None:
    job = bench.job(engine=STUBBORN, wall_s=0.3)
    status = job.run()
    assert (status["exit"], status["signal"], status["why"]) == (None, signal.SIGKILL, "wall")
    wait_gone(*job.pids(2))
    end = job.event("agent.end")
    assert end["wall_ns"] > 1_300_000_000
    assert end["cpu_ns"] < 0.3 * end["wall_ns"]


def test_an_engine_that_left_its_group_is_ended_too(bench: Bench) -> None:
    script = (
        "import os, time\n"
        "child = os.fork()\n"
        "if child == 0: os.setpgid(0, 0); time.sleep(600)\n"
        "while os.getpgid(0) != child:\n"
        "    try: os.setpgid(0, child)\n"
        "    except PermissionError: time.sleep(0.01)\n"
        "open('pids', 'w').write(f'{child} {os.getpid()}'); time.sleep(600)\n"
    )
    job = bench.job(engine=(sys.executable, "-I", "-S", "-c", script), wall_s=1.0)
    assert job.run()["why"] == "wall"
    wait_gone(*job.pids(2))


def test_an_engine_beyond_its_memory_limit_is_ended(bench: Bench) -> None:
    script = "x = bytearray(b'1' * 100_000_000); open('go').read()"
    job = bench.job(
        engine=(sys.executable, "-I", "-S", "-c", script), memory_max_bytes=60_000_000, memory_period_s=0.01
    )
    status = job.run()
    assert (status["signal"], status["why"]) == (signal.SIGTERM, "memory")
    assert job.event("agent.kill")["why"] == "memory"
    anonymous_kb = [int(row.value.split()[3]) for row in job.rows("engine")]
    assert max(anonymous_kb) * 1024 > 60_000_000


def test_an_engine_below_its_memory_limit_is_left_alone(bench: Bench) -> None:
    job = bench.job(engine=shell("sleep 0.3"), memory_max_bytes=60_000_000, memory_period_s=0.01)
    status = job.run()
    assert (status["exit"], status["why"]) == (0, "")


@pytest.mark.parametrize("kind", ["file", "command"])
def test_a_sensor_that_reaches_its_ceiling_ends_the_engine_and_keeps_the_data(
    bench: Bench, tmp_path: Path, kind: str
) -> None:
    temp = tmp_path / "temp"
    temp.write_text("41000\n")
    hot = file_sensor("hot", temp) if kind == "file" else command_sensor("hot", "/bin/cat", str(temp))
    job = bench.job(engine=SLEEPS, sensors=[hot, file_sensor("other", temp)], ceilings={"hot": 85000.0})
    job.start()
    until(lambda: b"41000" in {row.value for row in job.rows("hot")}, "the first samples are on disk")
    engine = job.engine_pid()
    with temp.open("r+b") as value:
        value.write(b"85000")
    status = job.ended()
    assert (status["signal"], status["why"], status["undone"]) == (signal.SIGTERM, "ceiling", True)
    kill = job.event("agent.kill")
    assert (kill["why"], kill["sensor"], kill["value"]) == ("ceiling", "hot", 85000)
    assert {row.value for row in job.rows("hot")} == {b"41000", b"85000"}
    assert is_gone(engine)


def test_a_text_that_is_no_number_is_not_hot(bench: Bench, tmp_path: Path) -> None:
    sensors = []
    for name, text in (("nan", "nan"), ("inf", "info 5"), ("word", "hot"), ("empty", ""), ("below", "84999.9 90000")):
        (tmp_path / name).write_text(text)
        sensors.append(file_sensor(name, tmp_path / name))
    job = bench.job(engine=shell("sleep 0.3"), sensors=sensors, ceilings={sensor.name: 85000.0 for sensor in sensors})
    status = job.run()
    assert (status["exit"], status["why"]) == (0, "")
    assert job.events("agent.kill") == []


def test_the_first_reason_stays(bench: Bench) -> None:
    job = bench.job(engine=STUBBORN, wall_s=0.3)
    job.start()
    until(lambda: bool(job.events("agent.kill")), "the limit has passed")
    assert job.verb("stop", "10000").returncode == 0
    assert job.ended()["why"] == "wall"
    assert len(job.events("agent.kill")) == 1


def test_a_stop_in_the_idle_window_starts_no_engine(bench: Bench) -> None:
    job = bench.job(engine=shell("echo ran"), idle_s=600)
    job.start()
    until(lambda: bool(job.events("agent.idle.begin")), "the window has begun")
    assert job.verb("stop", "10000").returncode == 0
    status = job.ended()
    assert (status["exit"], status["engine_pid"], status["why"]) == (None, 0, "stop")
    assert job.event("agent.kill")["why"] == "stop"
    assert not (job.folder / "stdout").exists()


def test_a_stop_ends_the_engine(bench: Bench) -> None:
    job = bench.job(engine=SLEEPS)
    job.start()
    engine = job.engine_pid()
    assert job.verb("stop", "10000").returncode == 0
    assert is_gone(engine)
    assert is_gone(job.agent_pid())
    assert job.ended()["why"] == "stop"
    assert job.verb("stop", "10000").returncode == 0


def test_a_stop_at_the_moment_of_the_start_never_blocks_the_job(bench: Bench) -> None:
    for i in range(12):
        job = bench.job(f"job-{i}", engine=SLEEPS)
        job.start()
        until(lambda: job.status()["phase"] != "start", "it is under way")  # noqa: B023 - called at once
        assert job.verb("stop", "10000").returncode == 0
        assert job.ended()["why"] == "stop"


def test_a_stop_that_is_not_obeyed_in_time_says_so(bench: Bench) -> None:
    job = bench.job(engine=STUBBORN)
    job.start()
    job.pids(2)
    done = job.verb("stop", "50")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.endswith(b": still running\n")
    assert job.verb("stop", "10000").returncode == 0


def test_the_idle_window_is_sampled_and_has_its_events(bench: Bench) -> None:
    job = bench.job(engine=("/bin/true",), idle_s=0.3, sensors=[file_sensor("up", "/proc/uptime")])
    job.run()
    order = [event["ev"] for event in job.events()]
    assert order[:4] == ["agent.begin", "agent.idle.begin", "agent.idle.end", "agent.engine.start"]
    begin, end = (job.event(f"agent.idle.{edge}")["t"] for edge in ("begin", "end"))
    assert end - begin >= 300_000_000
    assert any(begin < row.t_ns < end for row in job.rows("up"))


def test_a_job_whose_engine_waits_costs_next_to_nothing(bench: Bench) -> None:
    job = bench.job(engine=WAITS, sensors=[file_sensor("up", "/proc/uptime", 0.1)])
    job.start()
    until(lambda: len(job.rows("up")) > 9, "a second of samples")
    job.go()
    job.ended()
    end = job.event("agent.end")
    assert 0 < end["cpu_ns"] < 0.05 * end["wall_ns"]
