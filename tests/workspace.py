"""A person's folder with a suite, a lab and a device of its own on this computer, and melt as a person starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from melt.store import StoredRun, read_runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Said:
    """What a melt that has ended said."""

    code: int
    stdout: str
    stderr: str

    @property
    def sentence(self) -> str:
        """The last line of stderr: the error, which never is a traceback."""
        assert "Traceback" not in self.stderr
        lines = self.stderr.strip().splitlines()
        return lines[-1] if lines else ""


@dataclass
class Workspace:
    """A folder with `suite.yaml`, `lab.yaml`, a model, and a work folder for the device `here`."""

    folder: Path
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    """What melt is to find in its environment beside what is there."""

    @property
    def workdir(self) -> Path:
        return self.folder / "device"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def write(self, name: str, data: dict[str, Any]) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"schema": 1, **data}, sort_keys=False), encoding="utf-8")

    def suite(self, **changes: Any) -> None:
        base = {"kind": "suite", "name": "faults", "workloads": ["toy"]}
        protocol = {"preset": "quick", "runs": 2, "min_s": 0.2, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
        self.write("suite.yaml", {**base, "protocol": protocol, **changes})

    def workload(self, **changes: Any) -> None:
        base = {"kind": "workload", "name": "toy", "engine": "onnxruntime", "model": {"path": "toy.onnx"}}
        self.write("toy.yaml", {**base, **changes})

    def lab(self, workdir: Path | None = None, profile: str = "bare") -> None:
        device = {"profile": profile, "address": "local:", "workdir": str(workdir or self.workdir)}
        self.write("lab.yaml", {"kind": "lab", "devices": {"here": device}})

    def profile(self, **changes: Any) -> None:
        base = {"kind": "profile", "name": "bare", "verified": True, "readings": ["load", "memory"]}
        self.write("device_profiles/bare.yaml", {**base, **changes})

    def argv(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "melt", "run", "suite.yaml", "here", "--lab", "lab.yaml", *more]

    def begin(self, *more: str) -> subprocess.Popen[str]:
        """`melt run` under way."""
        return self._started(self.argv(*more))

    def run_on(self, *devices: str, limit_s: float = 120) -> Said:
        """`melt run` on these devices of the lab, to its end."""
        argv = [sys.executable, "-m", "melt", "run", "suite.yaml", *devices, "--lab", "lab.yaml"]
        return ended(self._started(argv), limit_s)

    def _started(self, argv: list[str]) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            argv,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # pytest-benchmark measures nothing in a worker of xdist, which what we start is not
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")} | self.environment,
        )
        self.children.append(child)
        return child

    def run(self, *more: str) -> Said:
        """`melt run` to its end."""
        return ended(self.begin(*more))

    def runs(self) -> list[StoredRun]:
        """What is stored, all of it readable."""
        if not self.results.exists():
            return []
        found, unreadable = read_runs(self.results)
        assert not unreadable
        return found

    def jobs(self) -> list[Path]:
        return sorted((self.workdir / "melt" / "jobs").glob("*"))

    def processes(self) -> list[psutil.Process]:
        """What still runs of this workspace: its folder is on the command line of everything that melt starts."""
        mark = str(self.folder)
        return [p for p in psutil.process_iter(["cmdline"]) if any(mark in word for word in p.info["cmdline"] or ())]


def ended(child: subprocess.Popen[str], limit_s: float = 120) -> Said:
    stdout, stderr = child.communicate(timeout=limit_s)
    return Said(child.returncode, stdout, stderr)


def until(condition: Callable[[], Any], what: str, limit_s: float = 30) -> Any:
    """The first true value of `condition`; fails after a while, naming what was waited for."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {limit_s:.0f} s in vain for {what}")


def running_job(workspace: Workspace) -> tuple[Path, dict[str, Any]]:
    """The job under way, once its engine runs."""

    def look() -> tuple[Path, dict[str, Any]] | None:
        for job in workspace.jobs():
            if (job / "status").exists():
                status = json.loads((job / "status").read_text())
                if status["state"] == "running" and status["engine_pid"]:
                    return job, status
        return None

    found: tuple[Path, dict[str, Any]] = until(look, "a job whose engine runs")
    return found


def may(*argv: str) -> bool:
    """Whether this command succeeds here: how a test asks for what only some machines allow."""
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0
