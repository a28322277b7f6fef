"""Exports as pytest-benchmark's JSON: a benchmark for each cell of a device, whose rounds are runs.

The fields are those that pytest-benchmark 5 reads (`storage/file.py`, `table.py`). Its numbers are times in seconds and
nothing else, so only metrics in seconds are exported. A run gives one value: what it holds inside is not pooled. Runs
whose hard keys differ are never one benchmark.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

import melt
from melt.errors import UsageError, nearest
from melt.report.escape import one_line
from melt.report.export_rows import SOFT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from melt.report.export_rows import Exported

DEFAULT = ("latency_p50_s", "latency_mean_s", "ttft_s", "itl_p50_s", "load_s", "first_inference_s")
"""What is exported where nothing is named: of these what there is."""
_HARD_NAME = 8
_LABELS = ("simulated", "synthetic_model")


def benchmark_json(rows: Exported, metrics: Sequence[str]) -> str:
    """The file's text. Raises UsageError for a metric that is no time, or where no run has a value of one."""
    units = {str(name): str(unit) for name, unit in rows.figures[["metric", "unit"]].dropna().itertuples(index=False)}
    times = sorted(name for name, unit in units.items() if unit == "s")
    for name in metrics:
        if name not in times:
            raise UsageError(
                f"metric '{name}' is in {units.get(name)}, and pytest-benchmark's numbers are times in seconds: "
                f"{nearest(name, times)}"
            )
    wanted = list(metrics) or [name for name in DEFAULT if name in times]
    if times and not wanted:
        raise UsageError(f"no run has {', '.join(DEFAULT)}: name another time with --metric, as {', '.join(times[:8])}")
    found = list(_benchmarks(rows, wanted))
    if not any(benchmark is not None for benchmark, _ in found):
        names = ", ".join(wanted) or "a metric in seconds"
        raise UsageError(f"no run that counts has a value of {names}: name another with --metric")
    told = rows.runs["started_utc"].dropna()
    data = {
        "machine_info": _machine(rows.runs),
        "commit_info": _NO_COMMIT,
        "benchmarks": [benchmark for benchmark, _ in found if benchmark is not None],
        "datetime": told.max().isoformat() if len(told) else None,
        "version": f"melt {melt.__version__}",
        "melt": {"left_out": [why for _, why in found if why is not None]},
    }
    return json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n"


_NO_COMMIT = {
    "id": "unknown",
    "time": None,
    "author_time": None,
    "dirty": False,
    "project": "melt",
    "branch": "(unknown)",
}
"""melt measures models on devices, and no commit of a tree of code; pytest-benchmark wants the keys."""


def _machine(runs: pd.DataFrame) -> dict[str, Any]:
    """The device that was measured, where all runs are of one; this computer is none of it."""
    devices = sorted(runs["device"].dropna().unique())
    return {
        "node": one_line(devices[0] if len(devices) == 1 else f"{len(devices)} devices: {', '.join(devices)}"),
        "machine": _only(runs, "key.machine"),
        "processor": _only(runs, "soft.soc"),
        "system": _only(runs, "soft.os"),
        "release": _only(runs, "soft.kernel"),
        "python_build": None,
        "python_compiler": None,
        "python_implementation": None,
        "python_implementation_version": None,
        "python_version": None,
        "cpu": {"brand_raw": _only(runs, "soft.soc_model")},
    }


def _only(runs: pd.DataFrame, name: str) -> Any:
    """What all runs have in a column; None where they differ, or have none."""
    values = {json.dumps(value) for value in runs[name]} if name in runs else set()
    return json.loads(values.pop()) if len(values) == 1 else None


def _benchmarks(rows: Exported, wanted: Sequence[str]) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
    """Each benchmark, or why a cell has none."""
    runs = rows.runs.assign(hard=list(rows.hard))
    joined = rows.figures[rows.figures["metric"].isin(wanted)].join(runs, on="run")
    kinds = runs[runs["counts"].astype(bool)].groupby(["suite", "device", "cell"])["hard"].nunique()
    grouped = joined.groupby(["suite", "device", "cell", "metric", "hard"], sort=True, dropna=False)
    for (suite, device, cell, metric, hard), group in grouped:
        counted = group[group["counts"].astype(bool)]
        several = int(kinds.get((suite, device, cell), 0)) > 1
        name = one_line(f"{cell}@{device}/{metric}" + (f"#{_short(str(hard))}" if several else ""))
        valued = counted[counted["value"].notna()]
        if not len(counted):
            continue
        if not len(valued):
            yield None, f"{name}: {one_line(counted['reason'].iloc[0])}"
            continue
        yield _benchmark(rows, name, str(suite), str(metric), str(hard), counted), None


def _benchmark(rows: Exported, name: str, suite: str, metric: str, hard: str, counted: pd.DataFrame) -> dict[str, Any]:
    valued = counted[counted["value"].notna()]
    gaps = counted[counted["value"].isna()]
    about = rows.runs.loc[valued["run"]]
    names = [str(name) for name in about.columns if str(name).startswith(SOFT)]
    soft = {name.removeprefix(SOFT): sorted({json.dumps(value) for value in about[name]}) for name in names}
    caveats = sorted({caveat for text in about["caveats"].dropna() for caveat in text.split("; ") if caveat})
    labels = [label for label in _LABELS if about[label].any()]
    labels += [f"imported: {tool}" for tool in sorted(about["imported"].dropna().unique())]
    return {
        "group": metric,
        "name": name,
        "fullname": f"{one_line(suite)}::{name}",
        "params": None,
        "param": None,
        "extra_info": {
            "metric": metric,
            "unit": "s",
            "runs": list(about["run_id"]),
            "gaps": dict(zip(gaps["run_id"], gaps["reason"], strict=True)),
            "verdicts": list(about["verdict"]),
            "labels": labels,
            "caveats": caveats,
            "fingerprint": json.loads(hard),
            "soft": {key: [json.loads(value) for value in values] for key, values in sorted(soft.items())},
            "metric_version": sorted({int(version) for version in valued["metric_version"].dropna()}),
        },
        "options": {
            "disable_gc": False,
            "timer": "melt",
            "warmup": False,
            "min_rounds": len(valued),
            "max_time": 0.0,
            "min_time": 0.0,
        },
        "stats": _stats([float(value) for value in valued["value"]]),
    }


def _short(hard: str) -> str:
    return hashlib.sha256(hard.encode()).hexdigest()[:_HARD_NAME]


def _stats(data: Sequence[float]) -> dict[str, Any]:
    """Of the runs' values (s), a run a round; quartiles are interpolated between neighbours."""
    values = np.array(data, dtype=np.float64)
    q1, median, q3 = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
    iqr = q3 - q1
    near = values[(values >= q1 - 1.5 * iqr) & (values <= q3 + 1.5 * iqr)]
    mean, total = float(values.mean()), float(values.sum())
    stddev = float(values.std(ddof=1)) if values.size > 1 else 0.0
    beyond = int(np.count_nonzero(np.abs(values - mean) > stddev))
    outside = int(values.size - near.size)
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": mean,
        "stddev": stddev,
        "rounds": int(values.size),
        "iterations": 1,
        "median": median,
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outside,
        "stddev_outliers": beyond,
        "outliers": f"{beyond};{outside}",
        "ld15iqr": float(near.min()),
        "hd15iqr": float(near.max()),
        "ops": values.size / total if total > 0 else 0.0,
        "total": total,
        "data": list(data),
    }
