"""What language models cost before anything is measured: making one, the size of the runner, a token's stamp."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Figure, Round
from melt.errors import DeviceError
from melt.native import Level, build_llama_runner, choose_level, host_machine, levels
from melt.readings import cpuinfo

_MODEL = "tinyllama-1.1b"
_LIMIT_S = 300
_ROUNDS = 3
# In a process of its own, whose memory is read from the kernel: what a fork reports is its parent's as well.
_MAKE = """
import json, sys, time
from pathlib import Path
from melt.makers import gguf
began = time.monotonic()
gguf.make(sys.argv[1], Path(sys.argv[2]), quant="q4_0")
took_s = time.monotonic() - began
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"s": took_s, "bytes": 1024 * int(peak.split()[1])}))
"""


def _made(this: Round) -> dict[str, float]:
    target = this.folder / f"{_MODEL}.gguf"
    argv = [sys.executable, "-c", _MAKE, _MODEL, str(target)]
    done = subprocess.run(argv, capture_output=True, timeout=_LIMIT_S, check=False)
    target.unlink(missing_ok=True)
    if done.returncode:
        raise DeviceError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    told: dict[str, float] = json.loads(done.stdout)
    return told


def synth_1b_q4_s(this: Round) -> float:
    """Making TinyLlama's shape in four bits: 637 MB, hashed as it is told of at the end."""
    return _made(this)["s"]


def synth_1b_q4_peak_bytes(this: Round) -> float:
    """The memory that takes at its peak."""
    return _made(this)["bytes"]


def level() -> Level:
    """That of this computer's processor."""
    flags = cpuinfo.parse(Path("/proc/cpuinfo").read_bytes()).first("flags", "Features").split()
    return choose_level(host_machine(), frozenset(flags))


def runner_size_bytes(_: Round) -> float:
    """The largest runner of this computer's processor."""
    return max(build_llama_runner(level).stat().st_size for level in levels(host_machine()))


def token_stamp_s(_: Round) -> float:
    """One stamp of a token and the event it becomes, as the runner itself measures it."""
    done = subprocess.run(
        [build_llama_runner(level()), "--stamp-cost"], capture_output=True, timeout=_LIMIT_S, check=True
    )
    told = json.loads(done.stdout)
    return float(told["stamp_ns"] + told["token_event_ns"]) * 1e-9


FIGURES = (
    Figure("synth_1b_q4_s", "s", (None, 15.0), _ROUNDS, synth_1b_q4_s),
    Figure("synth_1b_q4_peak_bytes", "bytes", (None, 5e8), _ROUNDS, synth_1b_q4_peak_bytes),
    Figure("runner_size_bytes", "bytes", (None, 6e6), _ROUNDS, runner_size_bytes),
    Figure("token_stamp_s", "s", (None, 5e-6), _ROUNDS, token_stamp_s),
)
