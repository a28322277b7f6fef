"""What a run takes beside what was asked for: everything melt does around the engine, on this computer.

The workload is the demo's MobileNetV3-L: 50 MB of model, library and program to be found delivered, and the few
hundred events that such a run leaves. A toy model would leave 200,000 a second, and the figure would be that of
reading them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness import Figure, Round
from benchmarks.ort import WORKLOAD
from benchmarks.session import one_run
from melt.analysis.events import first_t
from melt.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.records import Event

PROTOCOL = {"warmup_s": 0.1, "warmup_n": 3, "min_s": 0.5, "min_n": 11}
_ROUNDS = 7


def run_overhead_local_s(this: Round) -> float:
    """Wall of the worker's run − idle window − (the engine process from its start to its end, as the agent saw them).

    In it: precheck, finding what is delivered, start, the agent's lead, noticing the end, collect, metrics, the
    check of the outputs, writing and syncing the run folder, tidying the device.
    """
    carried = one_run(this.folder, WORKLOAD, PROTOCOL)
    events = carried.run.events().landmarks
    engine_s = _between(events, "agent.engine.start", "agent.engine.end")
    if engine_s is None:
        raise DeviceError("the agent did not say when the engine began and ended")
    idle_s = _between(events, "agent.idle.begin", "agent.idle.end") or 0.0
    return carried.wall_s - engine_s - idle_s


def _between(events: Sequence[Event], begin: str, end: str) -> float | None:
    begun, ended = first_t(events, begin), first_t(events, end)
    return None if begun is None or ended is None else (ended - begun) * 1e-9


RUN_OVERHEAD = Figure("run_overhead_local_s", "s", (None, 1.0), _ROUNDS, run_overhead_local_s)
