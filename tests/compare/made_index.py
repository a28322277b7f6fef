"""Indexes as `melt.history` gives them, made from a few words: for comparisons without a folder."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from melt.analysis.units import unit_of
from melt.history.index import Index
from melt.history.table import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from melt.store import Unreadable

Level = float | None
HARD = {"engine": "onnxruntime", "engine_version": "1.31", "machine": "x86_64", "profile": "linux", "threads": 1}


def runs(
    figures: Mapping[str, Callable[[int], Level] | Level],
    *,
    cell: str = "toy",
    device: str = "pi5",
    session: str = "20261121T030000Z",
    suite: str = "nightly",
    n: int = 5,
    blocks: Sequence[int] | None = None,
    hard: Mapping[str, Any] | None = None,
    soft: Mapping[str, Any] | None = None,
    **more: Any,
) -> list[dict[str, Any]]:
    """`n` runs of one cell; a figure is a number, or what a block gives. None is a gap."""
    workload = cell.partition("[")[0]
    keys = {**HARD, "workload": workload, "metric_version": 2, **(hard or {})}
    rows = []
    for block in blocks if blocks is not None else range(n):
        run_id = f"{session}-{zlib.crc32(repr((suite, device, cell, block)).encode()):08x}"
        about = {
            "suite": suite,
            "suite_sha256": "0" * 64,
            "session": session,
            "run_id": run_id,
            "device": device,
            "started_utc": pd.Timestamp(session[:15], tz="UTC"),
            "profile": "linux",
            "workload": workload,
            "cell": cell,
            "block": block,
            "status": "ok",
            "verdict": "valid",
            "usable": True,
            "counts": True,
            "reasons": "",
            "caveats": "",
            "simulated": False,
            "synthetic_model": False,
            "boot_id": "b",
            "boottime_s": pd.Timestamp(session[:15], tz="UTC").timestamp() + block,
            "melt": "0.1.0",
            "folder": f"{session}/{run_id}",
            "stamp": "",
            "hard": json.dumps({k: v for k, v in keys.items() if v is not None}, sort_keys=True),
            "soft": json.dumps({"kernel": "6.1", **(soft or {})}, sort_keys=True),
            "metric_version": keys["metric_version"],
        }
        for metric, level in figures.items():
            value = level(block) if callable(level) else level
            gap = {"reason": "no_sensor: made without it"} if value is None else {}
            rows.append({**about, "metric": metric, "value": value, "unit": unit_of(metric), **gap, **more})
    return rows


def index(rows: Iterable[Mapping[str, Any]], unreadable: tuple[Unreadable, ...] = ()) -> Index:
    """The rows with the columns and the types of index.parquet."""
    listed = list(rows)
    columns = {}
    for field in COLUMNS:
        word = pa.types.is_dictionary(field.type)
        column = pa.array([row.get(field.name) for row in listed], field.type.value_type if word else field.type)
        columns[field.name] = column.dictionary_encode() if word else column
    return Index(pa.table(columns).to_pandas(), unreadable)


def noisy(level: float, sd: float = 0.01, seed: int = 1, drift: float = 0.0) -> Callable[[int], float]:
    """A level with noise, and a drift from block to block."""

    def of(block: int) -> float:
        random = np.random.default_rng([seed, block])
        return float(level * np.exp(random.normal(0, sd) + drift * block))

    return of
