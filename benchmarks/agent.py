"""What sampling costs, and how late it is: the agent reads 20 files on tmpfs at 50 Hz beside an engine that sleeps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Figure, Round
from melt.analysis.events import agent_cpu_share, last, whole
from melt.device import open_device
from melt.errors import DeviceError
from melt.files import LabDevice, load_profile
from melt.job import JobPlan, collect, read_events, read_trace, start, watch
from melt.records import Channel, Sensor
from melt.store import new_run_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from melt.records import Event

FILES = 20
PERIOD_S = 0.02
ENGINE = ("/bin/sleep", "5")
TMPFS = Path("/dev/shm")  # noqa: S108 - the folder beneath is made by tempfile
_LIMIT_S = 60.0
_ROUNDS = 5


def cpu_share(this: Round) -> float:
    """CPU time of the agent ÷ wall, from its first event to its last.

    In it are the sampling of the files, that of the engine's own memory (10 Hz), the writing of the trace, the start
    of the engine, and the status lines. Not in it: reading the plan and detaching (a few ms, before the first event).
    """
    events, _ = _job(this)
    share = agent_cpu_share(events)
    if share is None:
        raise DeviceError("the agent did not say what CPU time it took")
    return share


def late_p99_s(this: Round) -> float:
    """The 99th percentile of (begin of the read − its deadline), over all files and the whole job.

    Twenty deadlines fall on one instant and the files are read one after the other: the later ones wait for the
    earlier, and that counts. A deadline that was left out counts as a whole period.
    """
    events, trace = _job(this)
    end = last(events, "agent.end")
    left_out = whole(end.get("missed")) if end else None
    if left_out is None:
        raise DeviceError("the agent did not say how many deadlines it missed")
    late_s = (trace["t_ns"] - trace["read_ns"] // 2 - trace["due_ns"]).to_numpy() * 1e-9
    return float(np.percentile(np.concatenate([late_s, np.full(left_out, PERIOD_S)]), 99))


def _job(this: Round) -> tuple[Sequence[Event], pd.DataFrame]:
    """One job on this computer, in a work folder of its own so that its lock is nobody else's."""
    spec = LabDevice(profile="linux", address="local:", workdir=str(this.folder))
    with tempfile.TemporaryDirectory(dir=TMPFS, prefix="melt-bench-") as files:
        sensors = sensors_in(Path(files))
        with open_device("local", spec, load_profile("linux")) as device:
            plan = JobPlan(new_run_id(), device.lock, _LIMIT_S, ENGINE, sensors=sensors)
            start(device, plan)
            ended = watch(device, plan.run_id, _LIMIT_S)
            if ended.state != "done" or ended.exit != 0:
                raise DeviceError(f"the job did not end well: {ended.model_dump_json()}")
            folder = this.folder / plan.run_id
            folder.mkdir()
            collect(device, plan.run_id, folder)
    return read_events(folder / "events.jsonl").landmarks, read_trace(folder / "trace.csv", sensors)


def sensors_in(folder: Path) -> list[Sensor]:
    """Twenty files, each read at 50 Hz."""
    return [_sensor(folder / f"file{i:02}", 40_000 + i) for i in range(FILES)]


def _sensor(path: Path, value: int) -> Sensor:
    path.write_text(f"{value}\n", encoding="ascii")
    return Sensor(path.name, (Channel(path.name, "count", float),), PERIOD_S, path=str(path))


CPU_SHARE = Figure("agent_cpu_share", "1", (None, 0.008), _ROUNDS, cpu_share)
LATE_P99 = Figure("agent_late_p99_s", "s", (None, 0.003), _ROUNDS, late_p99_s)
