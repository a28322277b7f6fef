"""Jobs of the real agent in a folder of their own, and what they leave, read without melt's tolerant readers."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.job.plan import JobPlan
from melt.job.trace import unescape
from melt.records import Sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LIMIT_S = 60.0
"""Far longer than anything here takes, also under a sanitizer or an emulator."""

ROW = re.compile(
    rb'\d+,\d+,\d+,[A-Za-z0-9._-]+,(?:[a-zA-Z: ]+,|,"(?:[^"\\\x00-\x1f\x7f-\xff]|""|\\(?:n|\\|x[0-9a-f]{2}))*")'
)
HEADER = b"due_ns,t_ns,read_ns,sensor,error,value"

SLEEPS = ("/bin/sleep", "600")


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


WAITS = shell("read -r _ < go")
"""An engine that ends when the test says `go`."""


def file_sensor(
    name: str, path: Path | str, period_s: float = 0.02, timeout_s: float = 5.0, *, reopen: bool = False
) -> Sensor:
    return Sensor(name, (), period_s, path=str(path), timeout_s=timeout_s, reopen=reopen)


def command_sensor(name: str, *argv: str, period_s: float = 0.2, timeout_s: float = 5.0) -> Sensor:
    return Sensor(name, (), period_s, argv=argv, timeout_s=timeout_s)


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits until something is so; it is a failure when it never is."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(b")")[2].split()[0] in (b"Z", b"X")


def wait_gone(*pids: int) -> None:
    until(lambda: all(map(is_gone, pids)), f"{pids} are gone")


def fill_up(disk: Path) -> None:
    """Leaves no space on a file system, until its file `fill` is removed."""
    descriptor = os.open(disk / "fill", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(descriptor, bytes(4096)):
            pass
    os.close(descriptor)


@dataclass(frozen=True)
class Row:
    due_ns: int
    t_ns: int
    read_ns: int
    sensor: str
    error: str
    value: bytes


@dataclass(frozen=True)
class Job:
    """One job folder and the agent's verbs on it."""

    agent: Path
    folder: Path
    env: Mapping[str, str]

    def verb(self, name: str, *more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.agent, name, self.folder, *more], env=self.env, capture_output=True, timeout=LIMIT_S, check=False
        )

    def start(self) -> None:
        done = self.verb("start")
        assert done.returncode == 0, done.stderr

    def run(self) -> dict[str, Any]:
        """Starts the job and waits for its end."""
        self.start()
        return self.ended()

    def ended(self) -> dict[str, Any]:
        """The last status, once the job has ended by itself and its agent is gone."""
        done = self.verb("watch")
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        assert status["state"] == "done", self.log()
        wait_gone(status["agent_pid"])
        return status

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "status").read_bytes())
        return found

    def engine_pid(self) -> int:
        """The engine's pid, once it has started."""
        until(lambda: self.status()["engine_pid"] > 0, "the engine has started")
        return int(self.status()["engine_pid"])

    def agent_pid(self) -> int:
        return int(self.status()["agent_pid"])

    def go(self) -> None:
        """Lets the engine `WAITS` end."""

        def told() -> bool:
            with contextlib.suppress(OSError):  # until the engine has come to reading it
                pipe = os.open(self.folder / "go", os.O_WRONLY | os.O_NONBLOCK)
                os.write(pipe, b"\n")
                os.close(pipe)
                return True
            return False

        until(told, "the engine reads")

    def kill(self) -> None:
        """What a person or the kernel does to the agent."""
        pid = self.agent_pid()
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """Every line of events.jsonl, or those of one name; all of them must be whole."""
        lines = (self.folder / "events.jsonl").read_bytes().splitlines()
        return [event for event in map(json.loads, lines) if not name or event["ev"] == name]

    def event(self, name: str) -> dict[str, Any]:
        (found,) = self.events(name)
        return found

    def rows(self, sensor: str = "") -> list[Row]:
        """The whole rows of the trace, each held to the grammar."""
        path = self.folder / "trace.csv"
        header, *lines = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")[0].split(b"\n")
        if not header:
            return []
        assert header == HEADER
        rows = []
        for line in lines:
            assert ROW.fullmatch(line), line
            (cells,) = csv.reader([line.decode("ascii")])
            due, t, read = map(int, cells[:3])
            rows.append(Row(due, t, read, cells[3], cells[4], unescape(cells[5].encode())))
        return [row for row in rows if not sensor or row.sensor == sensor]

    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    def pids(self, n: int) -> list[int]:
        """The process ids that an engine or a command has written to `pids`, once there are `n`."""
        path = self.folder / "pids"
        until(lambda: path.exists() and len(path.read_text().split()) == n, f"{n} pids")
        return [int(word) for word in path.read_text().split()]

    def log(self) -> str:
        path = self.folder / "agent.log"
        return path.read_text() if path.exists() else ""


@dataclass
class Bench:
    """A device's work folder: jobs below `root`/jobs, one lock."""

    agent: Path
    root: Path
    env: Mapping[str, str] = field(default_factory=os.environ.copy)
    jobs: list[Job] = field(default_factory=list)

    @property
    def lock(self) -> str:
        return str(self.root / "lock")

    def job(
        self, name: str = "job", *, engine: Sequence[str] = ("/bin/true",), wall_s: float = LIMIT_S, **more: Any
    ) -> Job:
        """A job, planned and not yet started; its folder has the pipe `go`."""
        run_id = more.pop("run_id", f"run-{len(self.jobs)}")
        plan = JobPlan(run_id=run_id, lock=self.lock, wall_s=wall_s, engine=engine, **more)
        return self.planned(name, plan.text().encode())

    def planned(self, name: str, text: bytes) -> Job:
        folder = self.root / "jobs" / name
        folder.mkdir(parents=True)
        (folder / "plan").write_bytes(text)
        os.mkfifo(folder / "go")
        self.jobs.append(Job(self.agent, folder, self.env))
        return self.jobs[-1]

    def undo(self) -> subprocess.CompletedProcess[bytes]:
        argv = [self.agent, "undo", self.lock, self.root / "jobs"]
        return subprocess.run(argv, env=self.env, capture_output=True, timeout=LIMIT_S, check=False)

    def close(self) -> None:
        """Ends what a failed test left running."""
        for job in self.jobs:
            if (job.folder / "status").exists() and job.status()["state"] != "done" and not is_gone(job.agent_pid()):
                os.kill(job.agent_pid(), signal.SIGTERM)
                job.verb("stop", "3000")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(job.agent_pid(), signal.SIGKILL)
