"""The verbs that do next to nothing, or one thing evenly: what idle power and two clocks are measured with."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from agent_jobs import LIMIT_S

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer


def said(agent: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, **more}
    return subprocess.run([agent, *argv], env=env, capture_output=True, timeout=LIMIT_S, check=False)


def test_rest_takes_its_time_and_next_to_none_of_the_processor(agent: Path) -> None:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = said(agent, "rest", "300")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert time.monotonic() - began >= 0.3
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.2


def test_the_clock_answers_each_byte_with_the_monotonic_time_of_that_moment(agent: Path) -> None:
    child = subprocess.Popen([agent, "clock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        for _ in range(20):
            before = time.monotonic_ns()
            child.stdin.write(b"?")
            told = int(child.stdout.readline())
            assert before <= told <= time.monotonic_ns()
        child.stdin.write(b"???")
        three = [int(child.stdout.readline()) for _ in range(3)]
        assert three == sorted(three)
        child.stdin.close()
        assert child.wait(LIMIT_S) == 0
        assert child.stdout.read() == b""


def test_the_clock_ends_when_nobody_listens(agent: Path) -> None:
    child = subprocess.Popen([agent, "clock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert child.stdin is not None
    assert child.stdout is not None
    with child:
        child.stdout.close()
        child.stdin.write(b"?")
        assert child.wait(LIMIT_S) != 0


def test_a_burn_is_busy_in_its_pulses_only_and_tells_them_on_one_grid(agent: Path, tmp_path: Path) -> None:
    events = tmp_path / "events"
    events.write_text('{"t":1,"ev":"kept"}\n')
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic_ns()
    done = said(agent, "burn", "1000", "50", "200", MELT_EVENTS=str(events))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    kept, *steps = map(json.loads, events.read_text().splitlines())
    assert kept["ev"] == "kept"
    assert [(step["ev"], step["i"]) for step in steps] == [
        (name, i) for i in range(4) for name in ("step.begin", "step.end")
    ]
    assert all(a["t"] <= b["t"] for a, b in pairwise(steps))
    # on the grid of the start, whatever the machine did meanwhile: no lateness adds up
    assert all(steps[2 * i]["t"] >= began + i * 250_000_000 for i in range(4))
    assert time.monotonic_ns() >= began + 1_000_000_000
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_a_burn_without_pauses_is_one_busy_core(agent: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert said(agent, "burn", "500", "100", "0").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert 0.02 < after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_a_burn_that_cannot_tell_its_pulses_says_so(agent: Path, tmp_path: Path) -> None:
    done = said(agent, "burn", "100", "10", "10", MELT_EVENTS=str(tmp_path / "no" / "folder"))
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"No such file or directory" in done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ("rest",),
        ("rest", "0"),
        ("rest", "x"),
        ("rest", "1e3"),
        ("burn", "10", "0", "1"),
        ("burn", "1", "1"),
        ("clock", "1"),
    ],
)
def test_what_is_not_understood_is_answered_with_the_verbs(agent: Path, argv: tuple[str, ...]) -> None:
    done = said(agent, *argv)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"usage: melt-agent" in done.stderr
