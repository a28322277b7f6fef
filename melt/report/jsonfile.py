"""report.json: the summary for programs, in SI, with the method of every interval and the reason of every gap."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import melt
from melt.analysis.ceiling import FP32, INT8, READ
from melt.analysis.summary import CONFIDENCE, MIN_RUNS
from melt.analysis.units import unit_of
from melt.records import METRIC_VERSION
from melt.report.across import across, metric_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.analysis.ceiling import Ceiling
    from melt.records import RunRecord
    from melt.report.select import Cell, Selection
    from melt.store import StoredRun

REPORT_SCHEMA = 1
_METHOD = "Student's t on the logs of one value a run (linear where a value is not positive); the run is the replicate"


def report_json(selection: Selection, title: str, pictures: Mapping[str, Any]) -> str:
    """A value that is not known is null beside its `reason`; `intervals.method` holds for every `low` and `high`."""
    whole = {
        "schema": REPORT_SCHEMA,
        "title": title,
        "melt": melt.__version__,
        "metric_version": METRIC_VERSION,
        "suites": selection.suites,
        "sessions": sorted({run.record.session for run in selection.runs}),
        "intervals": {"method": _METHOD, "confidence": CONFIDENCE, "least_runs": MIN_RUNS},
        "devices": {device: _device(selection, device) for device in selection.devices},
        "ceilings": [_ceiling(found) for found in selection.known_ceilings],
        "cells": [_cell(selection, cell) for cell in selection.cells],
        "not_counted": _not_counted(selection),
        "unreadable": [{"folder": one.path.name, "why": one.why} for one in selection.unreadable],
        "notes": list(selection.notes),
        "pictures": dict(pictures),
    }
    return json.dumps(whole, indent=1, ensure_ascii=True, allow_nan=False, default=str) + "\n"


def _device(selection: Selection, device: str) -> dict[str, Any]:
    records = [record for cell in selection.on(device) for record in cell.records]
    if not records:
        return {"facts": {}, "absent_sensors": {}, "reason": "no run of this device has a record"}
    newest = max(records, key=lambda record: record.run_id)
    return {
        "profile": newest.profile,
        "profile_verified": newest.profile_verified,
        "simulated": newest.simulated,
        "facts": _finite(newest.facts),
        "absent_sensors": dict(newest.absent_sensors),
    }


def _ceiling(found: Ceiling) -> dict[str, Any]:
    """What a device can do at most, and which runs say so; they may lie outside of this report."""
    first = found.runs[0]
    figures = {name: found.across(name) for name in dict.fromkeys(n for run in found.runs for n in run.metrics)}
    return {
        "device": first.device,
        "suite": first.suite.name,
        "session": first.session,
        "runs": [run.run_id for run in found.runs],
        "threads": found.threads,
        "metrics": {
            name: {"unit": unit_of(name), "value": summary.centre, "low": summary.low, "high": summary.high}
            for name, summary in figures.items()
            if name.partition(".")[0] in (READ, FP32, INT8)
        },
    }


def _cell(selection: Selection, cell: Cell) -> dict[str, Any]:
    ceiling = selection.ceiling(cell)
    return {
        "suite": cell.suite,
        "device": cell.device,
        "workload": cell.workload,
        "cell": cell.cell,
        "kind": cell.kind,
        "variant": cell.variant or None,
        "synthetic_model": cell.synthetic,
        "simulated": cell.simulated,
        "runs": {
            "planned": cell.planned,
            "used": [run.record.run_id for run in cell.used],
            "partial": [_why(run.record) for run in cell.used if run.record.verdict == "partial"],
            "invalid": [run.record.run_id for run in cell.invalid],
            "skipped": [run.record.run_id for run in cell.skipped],
            "never_started": None if cell.planned is None else cell.never_started,
        },
        "ceiling_runs": [run.run_id for run in ceiling.runs] if ceiling else None,
        "caveats": sorted({caveat for record in cell.records for caveat in record.caveats}),
        "metrics": {name: _metric(cell, name) for name in metric_names(cell)},
    }


def _metric(cell: Cell, name: str) -> dict[str, Any]:
    found = across(cell, name)
    summary = found.summary
    out: dict[str, Any] = {"unit": unit_of(name), "value": summary.centre}
    if summary.centre is None:
        out["reason"] = found.why_missing
    else:
        out |= {
            "mean": "geometric" if summary.scale == "log" else "arithmetic",
            "low": summary.low,
            "high": summary.high,
            "median": summary.median,
            "minimum": summary.minimum,
            "maximum": summary.maximum,
            "n_runs": summary.n,
            "indicative": summary.indicative,
        }
        if summary.groups_apart is not None:
            out["groups_apart_share"] = summary.groups_apart
        if summary.why_not:
            out["why_no_interval"] = summary.why_not
    if found.error_share is not None:
        out["error_share"] = found.error_share
    out["runs"] = dict(found.values)
    out["gaps"] = dict(found.gaps)
    out["notes"] = list(found.notes)
    return out


def _not_counted(selection: Selection) -> list[dict[str, Any]]:
    def told(runs: Sequence[StoredRun], because: str) -> list[dict[str, Any]]:
        return [{"because": because, **_why(run.record)} for run in runs]

    return [
        *told([run for cell in selection.cells for run in cell.invalid], "invalid"),
        *told([run for cell in selection.cells for run in cell.skipped], "not run"),
        *told(selection.retried, "not run at first, run later"),
        *told(selection.superseded, "a newer record of the same planned run counts"),
    ]


def _why(record: RunRecord) -> dict[str, Any]:
    return {
        "run_id": record.run_id,
        "session": record.session,
        "device": record.device,
        "cell": record.cell,
        "status": record.status,
        "verdict": record.verdict,
        "reasons": [{"code": reason.code.value, "detail": reason.detail} for reason in record.reasons],
    }


def _finite(facts: Mapping[str, Any]) -> Any:
    """Facts as JSON has them: a number that is not finite becomes a word."""
    return json.loads(json.dumps(dict(facts), default=str), parse_constant=str)
