"""Sessions on disk as melt would have left them, of runs whose raw data is made from a seed."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from melt.analysis.events import Asked
from melt.analysis.metrics import metrics
from melt.analysis.verdict import judge, verdict
from melt.job import parse_events
from melt.records import Metric, Reason, ReasonCode, RunRecord, SensorNote, gap
from melt.store import Session, SessionRecord, StoredRun, new_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from melt.records import Event

from melt.records import Event

S = 1_000_000_000
BOOT = 9 * 86_400 * S
GLOB = "/sys/devices/system/cpu/cpufreq/policy*/scaling_cur_freq or scaling_max_freq"
ABSENT = {
    "cpu-clock": f"no file matches {GLOB}",
    "thermal": "no file matches /sys/class/thermal/thermal_zone*/temp",
    "cooling": "no file matches /sys/class/thermal/cooling_device*/cur_state",
    "hwmon-temperature": "no file matches /sys/class/hwmon/hwmon*/temp*_input",
    "rapl": "no file matches /sys/class/powercap/intel-rapl:*/energy_uj",
    "hwmon-power": "no file matches /sys/class/hwmon/hwmon*/power*_input, energy*_input, curr*_input or in*_input",
}
VIRTUAL = {
    "soc": "AMD EPYC",
    "cpus_online": 2,
    "core_clusters": "0-1",
    "memory_total_bytes": 25_276_510_208,
    "os": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.18.44",
    "hypervisor": "KVM",
    "governor": {"value": None, "reason": "no file matches /sys/devices/system/cpu/cpufreq/policy*/scaling_governor"},
}
BOARD = {
    "soc": "Raspberry Pi 5 Model B Rev 1.0",
    "cpus_online": 4,
    "core_clusters": "0-3:2400000000",
    "memory_total_bytes": 8_324_546_560,
    "os": "Debian GNU/Linux 12 (bookworm)",
    "kernel": "6.6.51+rpt-rpi-2712",
    "governor": "ondemand",
}
PROTOCOL = {
    "preset": "quick",
    "runs": 3,
    "min_s": 3.0,
    "min_n": 11,
    "warmup_s": 0.5,
    "warmup_n": 3,
    "idle_s": 0.0,
    "seed": 7,
}
ENGINE = {
    "engine.vm_hwm": "memory",
    "engine.rss_anon": "memory",
    "engine.rss_file": "memory",
    "engine.rss_shmem": "memory",
    "engine.cpu_s": "count",
}


@dataclass(frozen=True)
class Made:
    """What a run is to look like. `rich` devices have a clock, temperatures and power."""

    device: str = "local"
    cell: str = "mobilenetv3"
    block: int = 0
    p50_s: float = 0.0123
    measured_s: float = 3.0
    load_s: float = 0.18
    peak_bytes: float = 62e6
    rich: bool = False
    verified: bool = True
    simulated: bool = False
    synthetic: bool = True
    status: str = "ok"
    reasons: tuple[Reason, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=lambda: VIRTUAL)
    absent: Mapping[str, str] = field(default_factory=lambda: ABSENT)
    hard: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Resolved settings beside the protocol's, of the plan as well."""
    undo: Mapping[str, Any] = field(default_factory=lambda: {"complete": True})
    caveats: tuple[str, ...] = ("precheck: no sensor",)
    seed: int = 1
    profile: str = "linux"
    engine: str = "onnxruntime"
    figures: Mapping[str, float | None] = field(default_factory=dict)
    """Metrics beside those of the raw data; None is a gap."""
    events: Callable[[Made, np.random.Generator], list[Event]] | None = None
    """The engine's own life, for one that is no stream of inferences."""

    @property
    def resolved(self) -> dict[str, Any]:
        return {key: {"value": value, "from": "command line"} for key, value in self.settings.items()}

    @property
    def workload(self) -> str:
        return self.cell.partition("[")[0]


def session_of(root: Path, slots: Sequence[Made], name: str = "20261121T030000Z", suite: str = "demo") -> Session:
    """A session that planned exactly `slots`."""
    cells = {(made.device, made.cell): made for made in slots}
    record = {
        "session": name,
        "suite": {"name": suite, "sha256": "0" * 64},
        "melt": "0.1.0",
        "cells": [
            {"id": c, "workload": m.workload, "device": d, "resolved": m.resolved} for (d, c), m in cells.items()
        ],
        "order": [{"device": m.device, "block": m.block, "cell": m.cell} for m in slots],
        "sources": {},
    }
    return new_session(root, SessionRecord.model_validate(record))


def store(session: Session, made: Made, at: int = 0) -> StoredRun:
    """Publishes the run; `at` orders the runs of a session."""
    run_id = f"{session.record.session[:11]}{at // 60:02d}{at % 60:02d}Z-{at:08x}"
    started = made.status != "skipped"
    events = _events(made) if started else []
    lines = b"".join(json.dumps(event.model_dump()).encode() + b"\n" for event in events)
    told = parse_events(io.BytesIO(lines))
    trace, notes = _trace(made, events) if started else (pd.DataFrame(), {})
    reasons = (*made.reasons, *(judge(told, trace, notes, Asked()) if made.status == "ok" else ()))
    with session.writing(run_id) as folder:
        if started:
            (folder / "events.jsonl").write_bytes(lines)
            trace.to_parquet(folder / "trace.parquet", index=False)
        return session.publish(
            folder,
            RunRecord.model_validate(
                {
                    "melt": "0.1.0",
                    "run_id": run_id,
                    "session": session.record.session,
                    "suite": session.record.suite,
                    "workload": made.workload,
                    "cell": made.cell,
                    "block": made.block,
                    "device": made.device,
                    "profile": made.profile,
                    "profile_verified": made.verified,
                    "simulated": made.simulated,
                    "synthetic_model": made.synthetic,
                    "started_utc": "2026-11-21T03:00:00Z",
                    "resolved": {
                        f"protocol.{key}": {"value": value, "from": "preset quick"} for key, value in PROTOCOL.items()
                    }
                    | made.resolved,
                    "fingerprint": {
                        "hard": {"engine": made.engine, "machine": "x86_64", "threads": 1, **made.hard},
                        "soft": {},
                    },
                    "facts": dict(made.facts),
                    "boot_id": "b",
                    "clock": {"suspend_s": 0.0, "realtime_step_s": 0.0},
                    "status": made.status,
                    "verdict": verdict(made.status, reasons),  # type: ignore[arg-type]
                    "reasons": list(reasons),
                    "caveats": made.caveats,
                    "metrics": {**metrics(told, trace, notes, Asked()), **_figures(made)} if started else {},
                    "engine": {"version": "1.31.0", "output": {"agrees": True, "detail": "largest difference 2e-07"}},
                    "sensors": notes,
                    "absent_sensors": {} if made.rich else dict(made.absent),
                    "harness": {"agent_cpu_share": 0.004, "missed_deadlines": 1, "samples": 412, "late_p99_s": 0.0011},
                    "undo": dict(made.undo),
                    "files": {},
                }
            ),
        )


def _figures(made: Made) -> dict[str, Metric]:
    """The figures, each run's its own by some parts in a thousand."""
    random = _random(made)
    return {
        name: gap("no_sample: made without it") if value is None else Metric(value=value * (1 + random.normal(0, 4e-3)))
        for name, value in made.figures.items()
    }


def skipped(
    code: ReasonCode = ReasonCode.PRECHECK, detail: str = "zone.cpu-thermal stayed at 61 °C"
) -> tuple[Reason, ...]:
    return (Reason(code=code, detail=detail),)


def _random(made: Made) -> np.random.Generator:
    return np.random.default_rng([made.seed, made.block, *made.device.encode(), *made.cell.encode()])


def event(t: int, ev: str, **fields: Any) -> Event:
    return Event(t=t, ev=ev, **fields)


def _events(made: Made) -> list[Event]:
    random = _random(made)
    t = BOOT
    begun = [event(t, "agent.begin", boottime_ns=t + 7 * S, realtime_ns=t + 900 * S)]
    t += S // 5
    begun += [event(t, "agent.engine.start", pid=12), event(t + S // 100, "load.begin")]
    t += S // 100 + int(made.load_s * S)
    begun.append(event(t, "load.end"))
    lived = (made.events or _inferences)(made, random)
    begun += [e.model_copy(update={"t": e.t + t}) for e in lived]
    t = begun[-1].t
    hwm = int(made.peak_bytes / 1024)
    begun += [
        event(t, "mark", name="memory", vm_hwm_kb=hwm, rss_anon_kb=hwm - 14000, rss_file_kb=14000, rss_shmem_kb=0),
        event(t, "done"),
        event(t + 20_000_000, "agent.engine.end", exit=0, signal=None, maxrss_kb=hwm, majflt=4, utime_ns=S, stime_ns=S),
    ]
    t += S // 5
    return [
        *begun,
        event(t, "agent.end", boottime_ns=t + 7 * S, realtime_ns=t + 900 * S, cpu_ns=S // 100, missed=1, samples=412),
    ]


def _inferences(made: Made, random: np.random.Generator) -> list[Event]:
    """Warm-up and measured inferences, from 0 on."""
    t = 0
    begun: list[Event] = []
    level = made.p50_s * float(np.exp(random.normal(0, 0.006)))
    wanted, warm = int(made.measured_s / level), max(3, int(0.5 / level))
    for i in range(1 + warm + wanted):
        if i == 1:
            begun.append(event(t, "mark", name="warmup.begin"))
        if i == 1 + warm:
            begun.append(event(t, "mark", name="measure.begin"))
        cold = 1 + 1.2 * np.exp(-i / 2.5)
        tail = random.exponential(0.25) if random.random() < 0.04 else 0.0
        took = int(level * (cold * float(np.exp(random.normal(0, 0.012))) + tail) * S)
        begun += [event(t, "infer.begin", i=i), event(t + took, "infer.end", i=i)]
        t += took + 4000
    begun.append(event(t, "mark", name="measure.end"))
    return begun


def _trace(made: Made, events: Sequence[Event]) -> tuple[pd.DataFrame, dict[str, SensorNote]]:
    random = _random(made)
    begin, end = events[0].t, events[-1].t
    start = next(event.t for event in events if event.ev == "agent.engine.start")
    stop = next(event.t for event in events if event.ev == "agent.engine.end")
    loaded = (next(event.t for event in events if event.ev == "load.end") - start) / S
    life = (stop - start) / S
    frames, notes = [], {}

    def add(
        name: str, quantity: str, value: Callable[[Any], Any], period_s: float, *, engine: bool = False, **more: Any
    ) -> None:
        low, high = (start, stop) if engine else (begin, end)
        t = np.arange(low, high, int(period_s * S), dtype=np.int64)
        if not engine:
            t = np.append(t, high)
        values = np.broadcast_to(np.asarray(value((t - start) / S), dtype=np.float64), t.shape)
        sensor = "engine" if engine else name
        frames.append(
            pd.DataFrame(
                {
                    "t_ns": t,
                    "due_ns": t,
                    "read_ns": 1000,
                    "sensor": sensor,
                    "channel": name,
                    "value": values,
                    "error": None,
                }
            )
        )
        unit = {"memory": "bytes", "count": "1", "clock": "hz", "temperature": "c", "power": "w"}[quantity]
        notes[name] = SensorNote.model_validate(
            {
                "sensor": sensor,
                "quantity": quantity,
                "unit": unit,
                "source": f"/sys/{name}",
                "period_s": period_s,
                **more,
            }
        )

    full = made.peak_bytes - 14_336_000
    add("engine.vm_hwm", "memory", lambda t: made.peak_bytes * np.minimum(1, 0.3 + t / loaded), 0.1, engine=True)
    add("engine.rss_anon", "memory", lambda t: full * np.minimum(1, 0.1 + 0.9 * t / (1.6 * loaded)), 0.1, engine=True)
    add("engine.rss_file", "memory", lambda t: 14_336_000 * np.minimum(1, 0.3 + t / (0.5 * loaded)), 0.1, engine=True)
    add("engine.rss_shmem", "memory", lambda t: 0 * t, 0.1, engine=True)
    add("engine.cpu_s", "count", lambda t: np.floor(99 * t) / 100, 0.1, engine=True)
    add("cpu.busy_s", "count", lambda t: np.floor(100 * (np.clip(t, 0, life) * 0.992 + 0.03 * (t + 1))) / 100, 0.1)
    add("cpu.steal_s", "count", lambda t: 0 * t, 0.5)
    if made.rich:
        add("cpu.policy0.clock", "clock", lambda t: np.where(t > 0, 2.4e9, 1.5e9), 0.1)
        add("cpu.policy0.cap", "clock", lambda t: 2.4e9 + 0 * t, 0.5)
        heat = 52 + random.normal(0, 0.5)
        add(
            "zone.cpu-thermal",
            "temperature",
            lambda t: np.round(heat + 11 * (1 - np.exp(-np.maximum(t, 0) / 3)), 1),
            0.25,
        )
        add(
            "hwmon.rp1.temp1.temperature", "temperature", lambda t: np.round(heat - 5 + 0.6 * np.maximum(t, 0), 1), 0.25
        )
        power = {"boundary": "board_input", "provenance": "measured"}
        noise = random.normal(0, 0.08, 1_000_000)
        add("pmic.input", "power", lambda t: np.where(t > 0, 6.1, 2.9) + noise[: t.size], 0.1, **power)
    return pd.concat(frames, ignore_index=True).sort_values("t_ns", kind="stable", ignore_index=True), notes
