"""From what a job left in a folder to its record: raw files in order, metrics computed, verdict given."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import melt
from melt.analysis.analysed import analysed, one_a_code, tokens
from melt.analysis.events import Asked, agent_cpu_share, engine_end, last, mark, realtime_step_s, suspend_s
from melt.analysis.verdict import verdict
from melt.engines import OutputCheck
from melt.errors import Unsupported
from melt.job import ENGINE_SENSOR, notes, read_events, read_trace
from melt.makers import hub
from melt.meters import channels as metered_channels
from melt.records import (
    METRIC_VERSION,
    Clock,
    EnergyBasis,
    Fingerprint,
    Harness,
    Reason,
    ReasonCode,
    Resolved,
    RunRecord,
    Undo,
)
from melt.run.pins import held_clocks, held_facts, held_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from melt.engines import Prepared
    from melt.records import Event, Fact, Metric, Status
    from melt.run.context import Context
    from melt.store import CellRecord, Pending

_LOGS = {"stdout": "stdout.log", "stderr": "stderr.log", "status": "status.json"}
_FULL_BYTES = 64 << 10
"""With less than this free, the last rows of a trace or the last events may not have found a place."""
_HARD_FACTS = ("governor", "device_governors", "power_mode", "jetson_clocks")
_SOFT_FACTS = (
    *("kernel", "os", "soc", "device_model", "soc_model", "android_build", "security_patch"),
    "jetson_linux",
)


def skipped(context: Context, pending: Pending, reason: Reason) -> RunRecord:
    """The record of a run that did not take place."""
    return _record(context, pending, "skipped", (reason,), boot_id=_text(context.device.fact("boot_id")))


@dataclass(frozen=True)
class Ended:
    """What the host saw of the device when the job had ended."""

    undone: bool
    """Whether what was changed on it is as it was."""
    free_bytes: int
    """What was free in its work folder."""
    dead_since_boot: str | None
    """For a job whose agent died: which start of the device this is (its boot_id)."""


def from_folder(context: Context, pending: Pending, folder: Path, ended: Ended) -> RunRecord:
    """The record of a job whose files lie in `folder`, which is put in order: logs renamed, the trace parsed."""
    sensors = (*context.device.sensors, ENGINE_SENSOR)
    for old, new in _LOGS.items():
        if (folder / old).exists():
            (folder / old).rename(folder / new)
    prepared = context.prepared
    adopted: Mapping[str, Metric] = {}
    if not isinstance(prepared, Unsupported):
        adopted = {**prepared.known, **context.engine.adopt(prepared, folder)}
    told = read_events(folder / "events.jsonl")
    events = told.landmarks
    sampled = trace = read_trace(folder / "trace.csv", sensors)
    metered = metered_channels(folder)
    if len(metered.rows):
        trace = pd.concat([sampled, metered.rows]).sort_values("t_ns", kind="stable", ignore_index=True)
    trace.to_parquet(folder / "trace.parquet", index=False)
    channels = {**notes(sensors), **metered.notes}
    check = _check_output(context, folder / "output.bin")
    asked = Asked(mode=context.settings["protocol.mode"], energy=_basis(context), pins=held_clocks(told.landmarks))
    made = analysed(told, trace, channels, asked, pending.run_id, adopted=adopted)
    reasons = [*metered.reasons, *made.reasons]
    begin = last(events, "agent.begin")
    began_in = _text(begin.get("boot_id") if begin else None)
    if began_in and ended.dead_since_boot and ended.dead_since_boot != began_in:
        reasons.insert(0, Reason(code=ReasonCode.REBOOTED, detail="the device rebooted during the run"))
    if ended.free_bytes < _FULL_BYTES:
        full = f"only {ended.free_bytes} bytes were free in its work folder at the end: what the run wrote may be cut"
        reasons.insert(0, Reason(code=ReasonCode.NO_SPACE, detail=full))
    if check.agrees is False:
        reasons.append(Reason(code=ReasonCode.OUTPUT_MISMATCH, detail=f"{check.detail}: the outputs differ"))
    return _record(
        context,
        pending,
        "ok" if _ended_well(events) else "failed",
        one_a_code(reasons),
        boot_id=began_in or _text(context.device.fact("boot_id")),
        held={
            **held_facts(told.landmarks, context.device.profile.power_modes),
            "held": list(held_values(told.landmarks)),
        },
        clock=Clock(
            suspend_s=suspend_s(events), realtime_step_s=realtime_step_s(events), boottime_s=_boottime_s(begin)
        ),
        metrics=made.metrics,
        engine=_engine(events, check),
        sensors=channels,
        energy=made.energy,
        meter=metered.note,
        harness=_harness(events, sampled),
        undo=Undo(complete=ended.undone, changed=_changed(events)),
    )


def _record(
    context: Context,
    pending: Pending,
    status: Status,
    reasons: tuple[Reason, ...],
    *,
    boot_id: str | None,
    held: Mapping[str, Any] = MappingProxyType({}),
    **raw: Any,
) -> RunRecord:
    cell, device = context.cell, context.device
    prepared = None if isinstance(context.prepared, Unsupported) else context.prepared
    engine = raw.get("engine", {})
    defaults: dict[str, Any] = {
        "clock": Clock(),
        "metrics": {},
        "engine": {},
        "sensors": {},
        "harness": Harness(),
        "undo": Undo(complete=True),
    }
    return RunRecord(
        melt=melt.__version__,
        run_id=pending.run_id,
        session=context.session.record.session,
        suite=context.session.record.suite,
        workload=cell.workload,
        cell=cell.id,
        block=pending.slot.block,
        device=device.name,
        profile=device.profile.name,
        profile_verified=device.profile.verified,
        simulated=device.simulated,
        synthetic_model=prepared.synthetic if prepared else False,
        started_utc=pending.started_utc,
        resolved=_resolved(cell, prepared),
        model=_origin(prepared),
        fingerprint=_fingerprint(context, prepared, engine, held),
        facts={name: _fact(fact) for name, fact in device.facts.items()},
        boot_id=boot_id,
        status=status,
        verdict=verdict(status, reasons, tokens(raw.get("metrics", {}))),
        reasons=reasons,
        caveats=(*pending.caveats, *(prepared.caveats if prepared else ())),
        absent_sensors=dict(device.absent),
        host=dict(pending.host),
        files={},
        **{**defaults, **raw},
    )


def _basis(context: Context) -> EnergyBasis:
    """What the profile says of the device's energy, and the idle power that the block has so far."""
    device, battery = context.device, context.device.profile.battery
    return EnergyBasis(
        total=device.total, no_total=device.no_total, idle=context.idle, battery=battery.note if battery else None
    )


def _ended_well(events: Sequence[Event]) -> bool:
    """Whether the engine was done, ended by itself, and the agent saw it."""
    end = engine_end(events)
    killed = last(events, "agent.kill") is not None
    return end is not None and end.exit == 0 and not killed and last(events, "agent.end") is not None


def _resolved(cell: CellRecord, prepared: Prepared | None) -> dict[str, Resolved]:
    """The settings with the engine's own defaults among them: every parameter as it was used."""
    used = prepared.params if prepared else {}
    defaults = {f"params.{key}": Resolved(value=value, source="engine's default") for key, value in used.items()}
    return dict(sorted({**defaults, **cell.resolved}.items()))


def _origin(prepared: Prepared | None) -> dict[str, Any]:
    """What a hub said of the model's file, if it is still the one that was fetched."""
    note = hub.provenance(prepared.request.model) if prepared and prepared.request.model else None
    same = note is not None and prepared is not None and note.sha256 == prepared.identity.get("model_sha256")
    return note.model_dump() if note is not None and same else {}


def _fingerprint(
    context: Context, prepared: Prepared | None, engine: Mapping[str, Any], held: Mapping[str, Any]
) -> Fingerprint:
    settings = {key: resolved.value for key, resolved in context.cell.resolved.items()}
    total = context.device.total
    hard = {
        "workload": context.cell.workload,
        "engine": context.engine.name,
        "engine_version": engine.get("version") or engine.get("llama_commit"),
        "engine_compiler": engine.get("compiler"),
        "provider_nodes": engine.get("provider_nodes"),
        "synthetic_model": prepared.synthetic if prepared else None,
        "simulated": context.device.simulated,
        "profile": context.device.profile.name,
        "machine": context.device.machine,
        **{name: held.get(name, context.device.fact(name)) for name in _HARD_FACTS},
        "held": held.get("held", []),
        "energy_total": f"{total.boundary}: {' + '.join(total.sum)}" if total else None,
        "cpus": settings["cpus"],
        "protocol_mode": settings["protocol.mode"],
        "page_cache": prepared.params.get("load", "warm") if prepared else None,
        "metric_version": METRIC_VERSION,
        **(prepared.identity if prepared else {}),
    }
    soft = {"melt": melt.__version__, "host": platform.machine(), **{n: context.device.fact(n) for n in _SOFT_FACTS}}
    return Fingerprint(hard=hard, soft=soft)


def _check_output(context: Context, output: Path) -> OutputCheck:
    """Compares the outputs, and removes them: they are as large as the model makes them, and their hash is kept."""
    if isinstance(context.prepared, Unsupported):
        return OutputCheck(None, None, None, str(context.prepared))
    check = context.engine.check(context.prepared, output)
    output.unlink(missing_ok=True)
    return check


def _engine(events: Sequence[Event], check: OutputCheck) -> dict[str, Any]:
    """What the engine said of itself, and how its outputs compare."""
    said = mark(events, "engine")
    out: dict[str, Any] = {k: v for k, v in (said.model_extra or {}).items() if k != "name"} if said else {}
    providers = mark(events, "providers")
    if providers is not None and providers.get("nodes") is not None:
        out["provider_nodes"] = providers.get("nodes")
    else:
        why = providers.get("unknown") if providers else "the engine did not tell"
        out["provider_nodes"], out["provider_nodes_reason"] = None, why
    out["output"] = {
        "sha256": check.sha256,
        "max_abs_diff": check.max_abs_diff,
        "agrees": check.agrees,
        "detail": check.detail,
    }
    return out


def _boottime_s(begin: Event | None) -> float | None:
    at = begin.get("boottime_ns") if begin else None
    return at * 1e-9 if isinstance(at, int) else None


def _harness(events: Sequence[Event], trace: pd.DataFrame) -> Harness:
    end = last(events, "agent.end")
    share = agent_cpu_share(events)
    read = trace[(trace["sensor"] != ENGINE_SENSOR.name) & trace["error"].isna()].drop_duplicates(["due_ns", "sensor"])
    late_ns = (read["t_ns"] - read["read_ns"] // 2 - read["due_ns"]).to_numpy()
    return Harness(
        agent_cpu_share=share,
        missed_deadlines=end.get("missed") if end else None,
        samples=end.get("samples") if end else None,
        late_p99_s=float(np.percentile(late_ns, 99)) / 1e9 if len(late_ns) else None,
    )


def _changed(events: Sequence[Event]) -> tuple[str, ...]:
    """What was tried, also where it is not known what came of it; what was refused beforehand is not among it."""
    tried = (e for e in events if e.ev == "agent.set" and e.get("tried", bool(e.get("got"))))
    return tuple(f"{e.get('path')} = {e.get('got') or 'unknown'}" for e in tried)


def _fact(fact: Fact) -> Any:
    return fact.value if fact.value is not None else {"value": None, "reason": fact.reason}


def _text(value: object) -> str | None:
    return None if value is None else str(value)
