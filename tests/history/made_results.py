"""Results folders of thousands of runs, made in seconds: records as melt writes them, and no raw data.

The medians of a cell's runs spread by `spread` around its level; those of a whole session share a noise of `day`. As a
program, `python made_results.py ROOT RUNS` makes two suites, `a` and `b`, of so many runs in all, `b` being slower.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TOTAL = "boundary module, provenance measured, updates of power integrated: gpu_soc + cpu_cv; refresh 0.1 s, lag 0.1 s"
LEVELS: Mapping[str, tuple[float, int | None, str | None]] = {
    "load_s": (0.18, 1, None),
    "first_inference_s": (0.0225, 1, None),
    "latency_p50_s": (0.0101, 282, None),
    "latency_p90_s": (0.0103, 282, None),
    "latency_p95_s": (0.0106, 282, None),
    "latency_mean_s": (0.0103, 282, None),
    "latency_outliers": (8.0, 282, "MAD z above 14.8, kept; 15 outside Tukey's fences"),
    "inferences_per_s": (97.1, 282, None),
    "warmup_discarded": (14.0, 296, None),
    "peak_memory_bytes": (6.2e7, None, "VmHWM, read by the engine itself at its end"),
    "peak_anon_bytes": (4.8e7, None, "of the largest sample, sampled by the agent"),
    "peak_file_bytes": (1.4e7, None, "of the largest sample, sampled by the agent"),
    "peak_shmem_bytes": (4096.0, None, "of the largest sample, sampled by the agent"),
    "major_faults": (4.0, None, "of the whole life of the engine process"),
    "engine_cpu_share": (0.99, None, "of one core: 2.0 is two cores busy throughout"),
    "clock_hz.cpu.policy0.clock": (2.4e9, 29, None),
    "temperature_max_c": (60.5, 2, "at zone.cpu-thermal; n is the number of sensors"),
    "energy_j": (420.0, None, TOTAL),
    "power_mean_w": (6.1, None, TOTAL),
    "j_per_inference": (0.063, None, TOTAL),
}
GAPS = {
    "latency_p99_s": "too_few_samples: p99 needs 662 independent samples, the run has 282",
    "swap_bytes": "no_sample: neither the engine nor the agent reported it",
}
HARD: Mapping[str, Any] = {
    "engine": "onnxruntime",
    "engine_version": "1.31.0",
    "engine_compiler": "gcc 13.3.0",
    "machine": "aarch64",
    "profile": "raspberry-pi-5",
    "workload": "mobilenetv3",
    "model_sha256": "3b1c" * 16,
    "inputs_sha256": "9a0f" * 16,
    "threads": 2,
    "inter_threads": 1,
    "spin": True,
    "graph_level": "all",
    "provider": "cpu",
    "mode": "infer",
    "governor": "performance",
    "simulated": False,
    "synthetic_model": True,
    "metric_version": 2,
    "page_cache": "warm",
    "cpus": None,
    "energy_total": "module: gpu_soc + cpu_cv",
}
SOFT = {"melt": "0.1.0", "host": "x86_64", "kernel": "6.6.51+rpt-rpi-2712", "os": "Debian GNU/Linux 12 (bookworm)"}


@dataclass(frozen=True)
class Results:
    """What to make: `sessions` × `devices` × `cells` × `blocks` runs. `factor` is on every time and energy."""

    sessions: int = 1
    blocks: int = 5
    cells: tuple[str, ...] = ("mobilenetv3",)
    devices: tuple[str, ...] = ("pi5",)
    factor: float = 1.0
    spread: float = 0.02
    day: float = 0.01
    seed: int = 1
    hard: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = "5e" * 32
    begin: dt.datetime = dt.datetime(2026, 1, 1, 3, tzinfo=dt.UTC)

    @property
    def runs(self) -> int:
        """How many runs that is."""
        return self.sessions * self.blocks * len(self.cells) * len(self.devices)


def make(suite: Path, results: Results) -> Path:
    """Makes the sessions of a suite, one a night, below its folder; gives the folder."""
    random = np.random.default_rng(results.seed)
    for night in range(results.sessions):
        begun = results.begin + dt.timedelta(days=night)
        name = begun.strftime("%Y%m%dT%H%M%SZ")
        session = suite / name
        session.mkdir(parents=True)
        plan = plan_of(suite.name, name, results)
        (session / "session.json").write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
        noise = np.exp(random.normal(0, results.day))
        for number, slot in enumerate(plan["order"]):
            factor = results.factor * noise * np.exp(random.normal(0, results.spread))
            record = record_of(results, plan, slot, begun + dt.timedelta(minutes=number), float(factor))
            folder = session / record["run_id"]
            folder.mkdir()
            (folder / "run.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return suite


def plan_of(suite: str, session: str, results: Results) -> dict[str, Any]:
    """The session's plan, session.json."""
    cells = [
        {"id": cell, "workload": cell.partition("[")[0], "device": device, "resolved": _resolved(results)}
        for device in results.devices
        for cell in results.cells
    ]
    return {
        "schema": 1,
        "session": session,
        "suite": {"name": suite, "sha256": results.sha256},
        "melt": "0.1.0",
        "cells": cells,
        "order": list(_order(results)),
        "sources": {},
    }


def _order(results: Results) -> Iterator[dict[str, Any]]:
    for block in range(results.blocks):
        for device in results.devices:
            for cell in results.cells:
                yield {"device": device, "block": block, "cell": cell}


def record_of(
    results: Results, plan: Mapping[str, Any], slot: Mapping[str, Any], at: dt.datetime, factor: float = 1.0
) -> dict[str, Any]:
    """One run's record, run.json, as JSON has it; about 8 KB of text."""
    random = np.random.default_rng([results.seed, slot["block"], *str(at).encode()])
    workload = slot["cell"].partition("[")[0]
    return {
        "schema": 1,
        "metric_version": 2,
        "melt": "0.1.0",
        "run_id": f"{at:%Y%m%dT%H%M%SZ}-{int(random.integers(1 << 32)):08x}",
        "session": plan["session"],
        "suite": plan["suite"],
        "workload": workload,
        "profile": "raspberry-pi-5",
        "profile_verified": True,
        "simulated": False,
        "synthetic_model": True,
        "started_utc": f"{at:%Y-%m-%dT%H:%M:%S}Z",
        **slot,
        "resolved": _resolved(results),
        "fingerprint": {"hard": {**HARD, "workload": workload, **results.hard}, "soft": SOFT},
        "facts": {"soc": "Raspberry Pi 5 Model B Rev 1.0", "cpus_online": 4, "governor": "performance"},
        "boot_id": f"boot-{plan['session']}",
        "clock": {"suspend_s": 0.0, "realtime_step_s": 0.0, "boottime_s": 100.0 + at.hour * 3600 + at.minute * 60},
        "status": "ok",
        "verdict": "valid",
        "reasons": [],
        "caveats": ["precheck: no sensor"],
        "metrics": {name: _metric(name, factor, random) for name in LEVELS}
        | {name: {"value": None, "reason": reason} for name, reason in GAPS.items()},
        "engine": {"version": "1.31.0", "output": {"agrees": True, "detail": "largest difference 2e-07"}},
        "sensors": {
            name: _sensor(name) for name in ("engine.vm_hwm", "engine.rss_anon", "cpu.busy_s", "cpu.steal_s", *ZONES)
        },
        "absent_sensors": {},
        "harness": {"agent_cpu_share": 0.004, "missed_deadlines": 1, "samples": 412, "late_p99_s": 0.0011},
        "host": {"precheck": 0.2, "deliver": 0.01, "start": 0.3, "collect": 0.1},
        "undo": {"complete": True, "changed": []},
        "files": dict.fromkeys(("events.jsonl", "trace.parquet", "stderr.log"), f"sha256:{'7e' * 32}"),
    }


ZONES = tuple(f"zone.{name}" for name in ("cpu-thermal", "gpu-thermal", "soc0-thermal", "soc1-thermal", "tj-thermal"))


def _metric(name: str, factor: float, random: np.random.Generator) -> dict[str, Any]:
    level, n, note = LEVELS[name]
    moves = factor if name.endswith(("_s", "_j")) or name.startswith("j_") else 1.0
    moves = 1 / factor if name.endswith("_per_s") else moves
    told: dict[str, Any] = {"value": level * moves * (1 + 0.001 * float(random.standard_normal()))}
    told |= {} if n is None else {"n": n}
    told |= {} if note is None else {"note": note}
    return told | ({"error": 0.02 * told["value"]} if note == TOTAL else {})


def _sensor(name: str) -> dict[str, Any]:
    unset = {"boundary": None, "provenance": None, "wraps_at": None, "response": None, "not_for_energy": None}
    told = {"sensor": name, "quantity": "memory", "unit": "bytes", "source": f"/sys/{name}", "period_s": 0.1}
    return {**told, **unset, "label": "", "clock_bound_s": 0.0}


def _resolved(results: Results) -> dict[str, Any]:
    told = {"preset": "default", "runs": results.blocks, "min_s": 30.0, "min_n": 64, "warmup_s": 2.0, "idle_s": 60.0}
    return {f"protocol.{key}": {"value": value, "from": "preset default"} for key, value in told.items()}


def two_sides(root: Path, runs: int) -> tuple[Path, Path]:
    """Two suites of `runs` runs together: 20 cells on two devices, five blocks a night; `b` has one thread more."""
    cells = tuple(f"net{number:02d}" for number in range(20))
    nights = max(runs // (2 * 2 * len(cells) * 5), 1)
    about = {"sessions": nights, "cells": cells, "devices": ("pi5", "orin")}
    return (
        make(root / "a", Results(**about)),
        make(root / "b", Results(**about, seed=2, factor=1.06, hard={"threads": 3})),
    )


if __name__ == "__main__":
    two_sides(Path(sys.argv[1]), int(sys.argv[2]))
