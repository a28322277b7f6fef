"""Half a plan is not carried out: what is not understood is refused in one sentence, and nothing is done."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent_jobs import LIMIT_S, command_sensor, file_sensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melt.job.plan import Hold, JobPlan

if TYPE_CHECKING:
    from agent_jobs import Bench

pytestmark = pytest.mark.peer

NOWHERE = "/dev/null/lock"
"""A lock that cannot be taken: a plan that is understood after all ends there."""

WHOLE = JobPlan(
    run_id="20261121T031500Z-1a2b3c4d",
    lock=NOWHERE,
    wall_s=1.0,
    engine=("/bin/true", "", "two words"),
    idle_s=0.5,
    env={"KEY": "a=b c"},
    sensors=[file_sensor("temp", "/sys/temp", reopen=True), command_sensor("says", "/bin/echo", "1")],
    cpus="0,2-3",
    ceilings={"temp": 85000.0},
    settings=[("/no/such/file", "value"), ("/no/such/file", "value", "/sys/shown")],
    holds=[Hold("mode", "MAXN", ("/bin/false", ""), ("/bin/false", "{old}"), ("/bin/false",))],
    refused=[("governor", "performance", "no file matches it")],
    whole=["/no/such/folder"],
    memory_max_bytes=1 << 30,
).text()


def start(agent: Path, plan: bytes) -> subprocess.CompletedProcess[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "plan").write_bytes(plan)
        done = subprocess.run([agent, "start", folder], capture_output=True, timeout=LIMIT_S, check=False)
        assert [path.name for path in Path(folder).iterdir()] == ["plan"], "something was done"
    return done


def test_the_plan_of_the_tests_is_understood(agent: Path) -> None:
    done = start(agent, WHOLE.encode())
    assert (done.returncode, done.stderr) == (1, b"lock: /dev/null/lock: Not a directory\n")


def test_an_engine_may_have_thousands_of_words(agent: Path) -> None:
    """A conversation has a file for each of its turns."""
    many = WHOLE.replace("engine ", "engine " + "/bin/true " * 4000, 1)
    assert start(agent, many.encode()).stderr == b"lock: /dev/null/lock: Not a directory\n"
    too_many = WHOLE.replace("engine ", "engine " + "/bin/true " * 9000, 1)
    assert b"not understood" in start(agent, too_many.encode()).stderr


@pytest.mark.parametrize(
    "line",
    [
        "sampel temp 20000 1000 file /sys/temp",
        "melt-plan 2",
        "run_id",
        "run_id a b",
        "run_id a/b",
        "run_id a%0ab",
        "run_id " + "x" * 200,
        "wall_ms 0",
        "wall_ms -1",
        "wall_ms 1.5",
        "wall_ms 99999999999999999999",
        "idle_ms many",
        "memory_period_ms 60001",
        "memory_max_bytes 0",
        "cpus",
        "cpus a",
        "cpus 3-1",
        "cpus 0-99999999999",
        "cpus 0;1",
        "cpus %0a0",
        "cpus ,",
        "cpus 0" + ",0" * 1000,
        "sample t 20000 1000 file",
        "sample t 20000 1000 pipe /x",
        "sample t 20000 1000 file" + " /x" * 17,
        "sample t 999 1000 file /x",
        "sample t 20000 0 file /x",
        "sample t 199999 1000 command /bin/true",
        "sample temp 20000 1000 file /twice",
        "sample two%20words 20000 1000 file /x",
        "sample a,b 20000 1000 file /x",
        "sample %22 20000 1000 file /x",
        "sample " + "x" * 65 + " 20000 1000 file /x",
        "ceiling unknown 5",
        "ceiling temp",
        "ceiling temp hot",
        "ceiling temp nan",
        "ceiling temp inf",
        "ceiling temp 5x",
        "set relative 5",
        "set /x",
        "set /x/../y v",
        "set /.. v",
        "whole",
        "whole /a/second/one",
        "set /x " + "v" * 5000,
        "set /" + "p" * 5000 + " v",
        "set /x v /shown more",
        "set /x v /" + "p" * 5000,
        "hold mode v 1 1 1 a b",
        "hold mode v 1 1 1 a b c d",
        "hold mode v 0 2 1 a b c",
        "hold mode v -1 3 1 a b c",
        "hold mode v x 1 1 a b c",
        "hold two%20words v 1 1 1 a b c",
        "hold mode " + "v" * 300 + " 1 1 1 a b c",
        "hold mode v 60 1 1" + " x" * 62,
        "hold mode v 1 1 1 a b " + "c" * 9000,
        "hold mode v 9223372036854775807 9223372036854775807 3 a b c",
        "refused /x v",
        "refused /x v why more",
        "user 0",
        "user -1 0",
        "user 0 0 many",
        "user 0 0" + " 1" * 65,
        "user 99999999999 0",
        "env KEY",
        "engine",
        "engine /bin/true " + " ".join("x" * 9000),
        "engine /bin/true %",
        "engine /bin/true %4",
        "engine /bin/true %zz",
        "engine /bin/true %00",
        "lock a b",
    ],
)
def test_a_line_that_is_not_understood_is_named_by_its_number(agent: Path, line: str) -> None:
    done = start(agent, f"{WHOLE}\n# a comment, and a blank line before it\n{line}\n".encode())
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"plan: line %d is not understood\n" % (WHOLE.count("\n") + 3)


@pytest.mark.parametrize("key", ["run_id", "lock", "wall_ms", "engine"])
def test_a_plan_without_what_it_must_have_is_refused(agent: Path, key: str) -> None:
    plan = "".join(line for line in WHOLE.splitlines(keepends=True) if not line.startswith(f"{key} "))
    done = start(agent, plan.encode())
    assert (done.returncode, done.stderr) == (2, b"plan: run_id, lock, wall_ms and engine are required\n")


def test_what_follows_a_nul_is_not_left_out_unseen(agent: Path) -> None:
    done = start(agent, WHOLE.encode() + b"\0ceiling temp 5\n")
    assert done.returncode == 2


def test_more_sensors_or_settings_than_there_is_room_for_are_refused(agent: Path) -> None:
    sensors = "".join(f"sample s{i} 20000 1000 file /x\n" for i in range(300))
    settings_ = "".join(f"set /x/{i} 1\n" for i in range(1100))
    for more in (sensors, settings_):
        assert start(agent, (WHOLE + more).encode()).returncode == 2


def test_a_plan_that_is_missing_or_too_large_is_refused(bench: Bench) -> None:
    job = bench.planned("large", b"#" * (1 << 20))
    assert b"larger than 1 MiB" in job.verb("start").stderr
    (job.folder / "plan").unlink()
    done = job.verb("start")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"No such file" in done.stderr


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(WHOLE) - 1), st.sampled_from(["cut", "put", "repeat"]), st.binary(min_size=1, max_size=4)
    ),
    max_size=6,
)
# no instruction that would reach a file: `set` is left to the mutations, whose only path does not exist
WORDS = st.sampled_from(
    ["melt-plan", "run_id", "lock", "wall_ms", "sample", "ceiling", "env", "engine", "cpus", "command", "file", "1", ""]
)
LINES = st.lists(st.lists(st.one_of(WORDS, st.text(max_size=20)), max_size=9).map(" ".join), max_size=12)
TRIES = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def refused_in_one_sentence(agent: Path, plan: bytes) -> None:
    done = start(agent, plan)
    assert done.returncode in (1, 2), (plan, done)
    assert done.stdout == b""
    assert done.stderr.endswith(b"\n"), (plan, done)


@TRIES
@given(mutations=MUTATIONS)
def test_a_damaged_plan_is_answered_and_never_crashes_the_agent(
    agent: Path, mutations: list[tuple[int, str, bytes]]
) -> None:
    plan = WHOLE.encode()
    for place, how, data in mutations:
        before, after = plan[:place], plan[place:]
        plan = {"cut": before + after[len(data) :], "put": before + data + after, "repeat": plan + after}[how]
    refused_in_one_sentence(agent, plan.replace(b"\nlock /", b"\nlock /dev/null/"))


@TRIES
@given(
    garbage=st.one_of(st.binary(max_size=2000), LINES.map(lambda lines: "\n".join(lines).encode("utf-8", "replace")))
)
def test_garbage_is_answered_and_never_crashes_the_agent(agent: Path, garbage: bytes) -> None:
    refused_in_one_sentence(agent, garbage)
