"""Whether an inference takes as long under melt as without it: the same model, input and options in a bare loop."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import Figure, Round
from benchmarks.session import one_run
from melt.analysis.events import Asked
from melt.analysis.measured import measure
from melt.engines import Request, StopRules, engine_named
from melt.errors import DeviceError
from melt.files import Workload
from melt.run import model_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WORKLOAD: dict[str, Any] = {
    "name": "mobilenetv3",
    "engine": "onnxruntime",
    "model": {"make": "mobilenetv3-large", "seed": 1},
    "params": {"threads": 1, "inter_threads": 1, "spin": True, "graph_level": "all"},
}
STOP = StopRules(warmup_s=0.5, warmup_n=10, min_s=3.5, min_n=64)
_LIMIT_S = 60.0
_ROUNDS = 8  # even: each of the two goes first as often as the other


def fidelity(this: Round) -> float:
    """p50 of a melt run ÷ p50 of the bare loop, each in a fresh process, right after each other, in turns first."""
    if this.number % 2:
        by_hand = bare(this.folder, {}, STOP)
        return _melt(this.folder) / by_hand
    return _melt(this.folder) / bare(this.folder, {}, STOP)


def _melt(folder: Path) -> float:
    """The p50 of a whole run: agent, default sensors, session, store.

    Of the inferences that the record's own p50 stands on; on a busy machine the record may withhold its figure, since
    the samples then hang together, and the figure here is a median of ratios and does not need that rule.
    """
    protocol = {"warmup_s": STOP.warmup_s, "warmup_n": STOP.warmup_n, "min_s": STOP.min_s, "min_n": STOP.min_n}
    kept = measure(one_run(folder, WORKLOAD, protocol).run.events(), Asked()).kept
    if not len(kept):
        raise DeviceError("the run has no measured inference")
    return float(np.percentile(kept.seconds, 50))


def bare(folder: Path, params: Mapping[str, Any], stop: StopRules) -> float:
    """The p50 of `benchmarks.bare` on the very files that melt delivers, with these parameters of the engine."""
    workload = Workload.model_validate({**WORKLOAD, "params": {**WORKLOAD["params"], **params}})
    request = Request(
        name=workload.name,
        model=model_file(workload, folder, lambda _: None),
        machine=platform.machine(),
        params=workload.params,
        inputs={},
        stop=stop,
    )
    files = engine_named(workload.engine).prepare(request).files
    argv = [sys.executable, "-m", "benchmarks.bare", str(files["model"]), str(files["input.input"])]
    argv += [str(value) for value in (stop.warmup_s, stop.warmup_n, stop.min_s, stop.min_n)]
    argv += [str(workload.params["threads"]), str(int(workload.params["spin"]))]
    quiet = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(argv, capture_output=True, timeout=_LIMIT_S, check=False, env=quiet, text=True)
    if done.returncode:
        raise DeviceError(f"the bare loop failed: {done.stderr.strip()[-300:]}")
    return float(json.loads(done.stdout)["p50_s"])


FIDELITY = Figure("ort_fidelity", "1", (0.98, 1.02), _ROUNDS, fidelity)
