"""One run of melt as a person gets it: a suite file, a lab, a session, a worker, the agent, the default sensors."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melt.errors import DeviceError
from melt.files import load_lab, load_suite
from melt.lab import Progress, begin_session, carry_out_session, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from melt.store import Session, StoredRun


@dataclass(frozen=True)
class Carried:
    """A stored run, and how long the worker took for it: precheck to the last file synced and the device tidied."""

    run: StoredRun
    wall_s: float


def one_run(folder: Path, workload: dict[str, Any], protocol: dict[str, Any], address: str = "local:") -> Carried:
    """A session of one run on this computer, reached by `address`, everything below `folder`.

    A second call with the same folder finds model, library and programs delivered, as a second session does. Raises
    DeviceError when the run is not usable.
    """
    steps: list[tuple[str, float]] = []

    def on_progress(progress: Progress) -> None:
        steps.append((progress.step, time.monotonic()))

    session, said = whole(folder, [workload], {"runs": 1, **protocol}, address=address, on_progress=on_progress)
    runs = [run for run in session.runs() if run.record.usable]
    if len(runs) != 1 or not steps or steps[-1][0] != "done":
        raise DeviceError(f"the run has no usable result: {'; '.join(said) or 'nothing was said'}")
    return Carried(runs[0], steps[-1][1] - steps[0][1])


def whole(
    folder: Path,
    workloads: list[dict[str, Any]],
    protocol: dict[str, Any],
    *,
    sweep: dict[str, Any] | None = None,
    address: str = "local:",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[Session, list[str]]:
    """A session of some workloads on this computer, and what was said meanwhile."""
    for workload in workloads:
        _write(folder / f"{workload['name']}.yaml", {"kind": "workload", **workload})
    suite: dict[str, Any] = {"kind": "suite", "name": "bench", "workloads": [f"{w['name']}.yaml" for w in workloads]}
    suite["protocol"] = {"preset": "quick", **protocol}
    suite["precheck"] = {"zone_max_c": 200}  # a warm computer is not waited for: that would be a figure of its fan
    _write(folder / "suite.yaml", suite | ({"sweep": sweep} if sweep else {}))
    here = {"profile": "linux", "address": address, "workdir": str(folder / "device")}
    _write(folder / "lab.yaml", {"kind": "lab", "devices": {"here": here}})
    (folder / "device").mkdir(exist_ok=True)
    lab = load_lab(folder / "lab.yaml")
    plan = make_plan(*load_suite(str(folder / "suite.yaml")), lab, ("here",), {})
    session = begin_session(plan, folder / "results")
    said: list[str] = []
    carry_out_session(session, plan, lab, say=said.append, on_progress=on_progress, cancelled=threading.Event())
    return session, said


def _write(path: Path, content: dict[str, Any]) -> None:
    """A file that a person would write in YAML, of which JSON is a part."""
    path.write_text(json.dumps({"schema": 1, **content}), encoding="utf-8")
