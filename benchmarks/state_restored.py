"""Whether a device is as it was after melt or its agent was killed at random moments while values were held.

The device is this computer, its /sys a folder, so that nothing of the machine is touched. Ten kills a round: of the
host's melt, of the agent on the device, or of both, from the first moment of a session to the last of a job; then one
more session. Held are the governors and clocks of two policies, a file found by pattern, and two states that only
commands set.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Figure, Round
from melt.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KILLS = 10
_ROUNDS = 3
_LIMIT_S = 120.0
_LONGEST_START_S, _LONGEST_JOB_S = 2.5, 1.0
_MELT = Path(__file__).parents[1]
_CPUFREQ = "sys/devices/system/cpu/cpufreq"
_STATES = ("power_mode", "fan")


def state_restored(this: Round) -> float:
    """The share of the values that are as before, after ten kills and one more session."""
    folder = this.folder / f"round{this.number}"
    board = folder / "board"
    _write_board(board)
    _write_files(folder)
    before = _values(board)
    chance = random.Random(this.number)  # noqa: S311 - the same moments in every measurement
    for _ in range(_KILLS):
        _kill_one(folder, chance)
    last = _started(folder)
    _, said = last.communicate(timeout=_LIMIT_S)
    if last.returncode:
        raise DeviceError(f"the last session did not end well: {said.decode(errors='replace').strip()[-300:]}")
    after = _values(board)
    return sum(after.get(name) == value for name, value in before.items()) / len(before)


def _kill_one(folder: Path, chance: random.Random) -> None:
    """Starts a session, and kills the host, the agent or both at some moment of it."""
    who = chance.choice(("host", "agent", "both"))
    host = _started(folder)
    try:
        if who == "host":
            time.sleep(chance.uniform(0, _LONGEST_START_S))
        else:
            agent = _agent(folder, host)
            time.sleep(chance.uniform(0, _LONGEST_JOB_S))
            if agent is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(agent, signal.SIGKILL)
        if who != "agent":
            host.kill()
        host.communicate(timeout=_LIMIT_S)
    finally:
        host.kill()
        host.wait()


def _agent(folder: Path, host: subprocess.Popen[bytes]) -> int | None:
    """The agent of a job of this session, once there is one that runs."""
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end and host.poll() is None:
        for status in _statuses(folder):
            if status.get("state") == "running" and Path(f"/proc/{status['agent_pid']}").exists():
                return int(status["agent_pid"])
        time.sleep(0.005)
    return None


def _statuses(folder: Path) -> Iterator[dict[str, Any]]:
    for path in (folder / "device" / "melt" / "jobs").glob("*/status"):
        with contextlib.suppress(OSError, ValueError):
            yield json.loads(path.read_bytes())


def _started(folder: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "melt", "run", "suite.yaml", "here", "--lab", "lab.yaml"]
    env = {**os.environ, "PYTHONPATH": str(_MELT)}
    return subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _values(board: Path) -> dict[str, str]:
    files = [path for path in sorted(board.rglob("*")) if path.is_file()]
    return {str(path.relative_to(board)): path.read_text(encoding="utf-8").strip() for path in files}


def _write_board(board: Path) -> None:
    files = {
        f"{_CPUFREQ}/policy{policy}/{name}": value
        for policy, highest in ((0, 1_800_000), (4, 2_400_000))
        for name, value in {
            "scaling_governor": "schedutil",
            "cpuinfo_min_freq": 300_000,
            "cpuinfo_max_freq": highest,
            "scaling_min_freq": 300_000,
            "scaling_max_freq": highest - 200_000,
        }.items()
    }
    files["sys/class/devfreq/gpu/min_freq"] = 100_000_000
    files |= dict.fromkeys(_STATES, "as it was; with a space")
    for name, value in files.items():
        (board / name).parent.mkdir(parents=True, exist_ok=True)
        (board / name).write_text(f"{value}\n", encoding="utf-8")


def _write_files(folder: Path) -> None:
    """A suite of one short run on the board, in YAML, of which JSON is a part."""
    sets = ("/bin/sh", "-c", 'sleep 0.05; echo "$2" > "$1"; sleep 0.05', "sh")
    commands = {
        name: {
            "read": ["/bin/cat", str(folder / "board" / name)],
            "set": [*sets, str(folder / "board" / name), "held"],
            "restore": [*sets, str(folder / "board" / name), "{old}"],
            "expect": "held",
        }
        for name in _STATES
    }
    pin = {
        "governor": "performance",
        "cpu_hz": "max",
        "files": {"/sys/class/devfreq/*/min_freq": "800000000"},
        "commands": commands,
    }
    files: dict[str, dict[str, Any]] = {
        "device_profiles/held.yaml": {"kind": "profile", "name": "held", "verified": True, "pin": pin},
        "lab.yaml": {
            "kind": "lab",
            "devices": {
                "here": {
                    "profile": "held",
                    "address": "local:",
                    "workdir": str(folder / "device"),
                    "sysroot": str(folder / "board"),
                }
            },
        },
        "sleeps.yaml": {
            "kind": "workload",
            "name": "sleeps",
            "engine": "command",
            "params": {"on_device": "/bin/sh", "args": ["-c", "sleep 0.4"]},
        },
        "suite.yaml": {
            "kind": "suite",
            "name": "held",
            "workloads": ["sleeps.yaml"],
            "protocol": {"preset": "quick", "runs": 1},
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"schema": 1, **content}), encoding="utf-8")


STATE_RESTORED = Figure("state_restored", "1", (1.0, 1.0), _ROUNDS, state_restored)
