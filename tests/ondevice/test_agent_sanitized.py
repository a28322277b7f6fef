"""The agent under the compiler's sanitizers: no memory error, no undefined behaviour, no data race in a busy job."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from agent_jobs import LIMIT_S, SLEEPS, WAITS, Bench, command_sensor, file_sensor, shell, until

from melt.job.plan import Hold
from melt.records import Sensor

pytestmark = pytest.mark.peer

SOURCES = sorted((Path(__file__).parents[2] / "melt" / "ondevice" / "agent").glob("*.c"))
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:handle_segv=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # a forked child only ever goes on to exec
    "TSAN_OPTIONS": "die_after_fork=0:report_signal_unsafe=0",
}


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def sanitized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent built with a sanitizer; what it finds it writes to stderr, which is the job's agent.log."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("data races and memory errors are NOT looked for: this machine has neither gcc nor clang")
    out = tmp_path_factory.mktemp("sanitized") / "agent"
    argv = [compiler, "-std=gnu11", "-O1", "-g", f"-fsanitize={request.param}", "-fno-sanitize-recover=undefined"]
    built = subprocess.run([*argv, *SOURCES, "-o", out, "-pthread"], capture_output=True, text=True, check=False)
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip(f"data races and memory errors are NOT looked for: {compiler} has no -fsanitize={request.param}")
    assert built.returncode == 0, built.stderr
    tried = subprocess.run([out, "version"], capture_output=True, text=True, check=False)
    if "FATAL: ThreadSanitizer" in tried.stderr:
        pytest.skip(f"data races are NOT looked for: {tried.stderr.strip()}")
    return out


@pytest.fixture
def bench(sanitized: Path, tmp_path: Path) -> Bench:
    return Bench(sanitized, tmp_path / "device", {**os.environ, **OPTIONS})


def test_a_busy_job_shows_no_error(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "temp").write_text("1\n")
    (tmp_path / "knob").write_text("old\n")
    for name in ("stuck", "mute"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "mode").write_text("old\n")
    read, back = f"cat {tmp_path}/mode", f'echo "$1" > {tmp_path}/mode'
    both = (str(tmp_path / "bytes"), (str(tmp_path / "temp"),))
    sensors = [
        Sensor("both", (), 0.005, path=both[0], also=both[1]),
        file_sensor("bytes", tmp_path / "bytes", 0.005),
        file_sensor("temp", tmp_path / "temp", 0.01, reopen=True),
        file_sensor("stuck", tmp_path / "stuck", timeout_s=0.05),
        file_sensor("absent", tmp_path / "absent"),
        file_sensor("mute", tmp_path / "mute", timeout_s=0.05),
        command_sensor("said", "/bin/echo", "1"),
        command_sensor("slow", *shell("sleep 600 & wait"), timeout_s=0.1),
        command_sensor("hot", "/bin/cat", str(tmp_path / "temp")),
    ]
    job = bench.job(
        engine=shell("setsid sleep 600 & sleep 600"),
        sensors=sensors,
        ceilings={"temp": 100.0, "hot": 100.0},
        settings=[(str(tmp_path / "knob"), "new"), (str(tmp_path / "absent"), "1"), (str(tmp_path / "mute"), "1")],
        holds=[
            Hold("mode", "new", shell(f"echo new > {tmp_path}/mode"), (*shell(back), "sh", "{old}"), shell(read)),
            Hold("never", "new", shell("exit 1"), shell("exit 1"), shell(read)),
        ],
        refused=[("governor", "performance", "no file matches it")],
        env={"KEY": "value"},
        cpus=str(min(os.sched_getaffinity(0))),
        idle_s=0.1,
        memory_period_s=0.01,
    )
    job.start()
    until(lambda: len(job.events("agent.sensor")) == 2 and bool(job.events("agent.affinity")), "all has happened")
    with (tmp_path / "stuck").open("wb") as late:
        late.write(b"late")
    until(lambda: len(job.rows("slow")) > 1, "commands have run")
    (tmp_path / "temp").write_text("100\n")
    status = job.ended()
    assert (status["why"], status["undone"]) == ("ceiling", True)
    assert job.log() == ""
    assert (tmp_path / "knob").read_text() == "old\n"
    assert (tmp_path / "mode").read_text() == "old\n"


def test_a_job_that_is_killed_and_one_that_is_stopped_show_no_error(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "knob").write_text("old\n")
    settings = [(str(tmp_path / "knob"), "new")]
    first = bench.job("first", engine=SLEEPS, settings=settings)
    first.start()
    first.engine_pid()
    first.kill()
    second = bench.job("second", engine=WAITS, settings=settings, sensors=[file_sensor("up", "/proc/uptime", 0.001)])
    second.start()
    second.engine_pid()
    refused = bench.job("third").verb("start")
    assert (refused.returncode, refused.stderr) == (75, b"locked by run-1\n")
    stopped = second.verb("stop", "20000")
    assert (stopped.returncode, stopped.stderr) == (0, b"")
    second.ended()
    assert first.log() == second.log() == ""
    undone = bench.undo()
    assert (undone.returncode, undone.stderr) == (0, b"")


@pytest.mark.parametrize(
    "plan",
    [
        b"",
        b"%",
        b"sample a 1 1 file",
        b"cpus 0-" + b"9" * 50,
        b"set /x " + b"v" * 9000,
        b"\xff" * 9000,
        b"hold a b 48 48 48 x x x",
        b"user 1 1" + b" 1" * 100,
    ],
)
def test_a_plan_that_is_refused_shows_no_error(bench: Bench, plan: bytes) -> None:
    done = bench.planned("job", plan).verb("start")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


def test_questions_to_the_file_system_show_no_error(bench: Bench, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 400)
    for argv in (
        ["probe", "50", f"{tmp_path}/*", "/proc/sys/kernel/*", "/sys/class/*/*/uevent"],
        ["list", str(tmp_path)],
    ):
        done = subprocess.run([bench.agent, *argv], env=bench.env, capture_output=True, timeout=LIMIT_S, check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_damaged_journal_shows_no_error(bench: Bench) -> None:
    folder = bench.root / "jobs" / "crashed"
    folder.mkdir(parents=True)
    lines = [b"run", b"run a b 2147483647 2147483647 x x", b"run a b 1 1 %zz x", b"run a b 30 40" + b" x" * 70, b"/x"]
    (folder / "undo").write_bytes(b"\n".join([b"boot_id " + b"x" * 200, *lines, *[b"/no/such/file 1"] * 200]))
    done = bench.undo()
    assert (done.returncode, done.stderr) == (1, b"1 undo journals could not be finished\n")


def test_the_even_verbs_show_no_error(bench: Bench, tmp_path: Path) -> None:
    env = {**bench.env, "MELT_EVENTS": str(tmp_path / "events")}
    for argv, stdin in ((["rest", "5"], b""), (["burn", "50", "5", "5"], b""), (["clock"], b"?" * 1000)):
        done = subprocess.run(
            [bench.agent, *argv], env=env, input=stdin, capture_output=True, timeout=LIMIT_S, check=False
        )
        assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", len(stdin))
