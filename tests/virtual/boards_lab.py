"""A person's folder with a suite, and the virtual boards that carry it out."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from melt import makers
from melt.files import load_suite
from melt.lab import begin_session, carry_out_session, make_plan
from melt.store import StoredRun, read_runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from melt.files import Lab


@dataclass(frozen=True)
class Bench:
    """`folder` holds the suite, its model and the results; the boards live in `boards`."""

    folder: Path

    @property
    def boards(self) -> Path:
        return self.folder / "boards"

    def carry_out(
        self, lab: Lab, *devices: str, precheck: Mapping[str, Any] | None = None, **protocol: Any
    ) -> Mapping[str, StoredRun]:
        """One run of a small network on each device; a device without one fails the test."""
        base = {"preset": "quick", "runs": 1, "min_s": 2.0, "warmup_s": 0.2, "warmup_n": 1}
        self._write(
            "suite.yaml",
            kind="suite",
            name="virtual",
            workloads=["toy"],
            protocol={**base, **protocol},
            precheck=dict(precheck or {}),
        )
        self._write("toy.yaml", kind="workload", name="toy", engine="onnxruntime", model={"path": "toy.onnx"})
        if not (self.folder / "toy.onnx").exists():
            makers.make("mlp", self.folder / "toy.onnx")
        plan = make_plan(*load_suite(str(self.folder / "suite.yaml")), lab, devices, {})
        session = begin_session(plan, self.folder / "results")
        said: list[str] = []
        carry_out_session(session, plan, lab, say=said.append, on_progress=lambda _: None, cancelled=threading.Event())
        runs, unreadable = read_runs(session.path)
        assert not unreadable
        found = {run.record.device: run for run in runs}
        assert set(found) == set(devices), said
        return found

    def truth(self, device: str) -> pd.DataFrame:
        """What really was: `t_ns`, `total_j`, and the energy of each rail."""
        return pd.read_csv(self.boards / device / "truth.csv")

    def true_j(self, device: str, begin_ns: float, end_ns: float) -> float:
        """What the board really spent between two moments of its clock."""
        truth = self.truth(device)
        return float(np.diff(np.interp([begin_ns, end_ns], truth["t_ns"], truth["total_j"]))[0])

    def _write(self, file: str, **data: Any) -> None:
        (self.folder / file).write_text(yaml.safe_dump({"schema": 1, **data}, sort_keys=False))


def trace_of(run: StoredRun) -> pd.DataFrame:
    return pd.read_parquet(run.path / "trace.parquet")


def stamps(run: StoredRun, *names: str) -> list[int]:
    """When the first event of each name was, in the device's clock (ns)."""
    events = pd.read_json(run.path / "events.jsonl", lines=True)
    return [int(events.loc[events["ev"] == name, "t"].iloc[0]) for name in names]


def cpu_s(run: StoredRun) -> float:
    """How long the engine computed, all of its threads together."""
    events = pd.read_json(run.path / "events.jsonl", lines=True)
    ended = events[events["ev"] == "agent.engine.end"].iloc[0]
    return float(ended["utime_ns"] + ended["stime_ns"]) * 1e-9
