"""Memory of the engine process, from what it said of itself, from the agent's samples, and from the kernel at its end.

GPU memory lies in other books (nvmap, kgsl, dmabuf) and is not in these figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from melt.analysis import events as ev
from melt.analysis.trace import AVAILABLE, ENGINE_HWM, ENGINE_MAJFLT, ENGINE_RSS, ENGINE_SWAP, Trace
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.events import Phases
    from melt.records import Event

NO_SAMPLE = "no_sample: neither the engine nor the agent reported it"


def memory(events: Sequence[Event], trace: Trace, phases: Phases) -> dict[str, Metric]:
    """Peak memory and its split, swap, major faults, the drop of available memory; each a value or a gap."""
    ended = ev.engine_end(events)
    return {
        "peak_memory_bytes": _peak(events, trace, ended),
        **_split(events, trace),
        "swap_bytes": _highest(trace, ENGINE_SWAP),
        "major_faults": _faults(trace, ended),
        "mem_available_drop_bytes": _drop(events, trace, phases),
    }


def _peak(events: Sequence[Event], trace: Trace, ended: ev.EngineEnd | None) -> Metric:
    said = ev.mark(events, "memory")
    hwm_kb = None if said is None else ev.whole(said.get("vm_hwm_kb"))
    if hwm_kb is not None:
        return Metric(value=hwm_kb * 1024.0, note="VmHWM, read by the engine itself at its end")
    sampled = trace[ENGINE_HWM]
    if len(sampled):
        return Metric(value=float(sampled.v.max()), note="VmHWM as last sampled: what came after the sample is missing")
    if ended is not None and ended.maxrss_bytes:
        return Metric(value=float(ended.maxrss_bytes), note="ru_maxrss of the engine process at its end")
    return gap(NO_SAMPLE)


def _split(events: Sequence[Event], trace: Trace) -> dict[str, Metric]:
    """Anonymous, file-backed and shared bytes of the sample at the peak: the one with the largest sum."""
    kinds = list(ENGINE_RSS)
    series = [trace[channel] for channel in ENGINE_RSS.values()]
    together = series[0].t
    for other in series[1:]:
        together = np.intersect1d(together, other.t)
    rows = np.array([s.v[np.searchsorted(s.t, together)] for s in series]).T
    source = "sampled by the agent"
    said = ev.mark(events, "memory")
    own = [None if said is None else ev.whole(said.get(f"rss_{kind}_kb")) for kind in kinds]
    known = [kb * 1024.0 for kb in own if kb is not None]
    sampled = rows[np.argmax(rows.sum(axis=1))] if len(rows) else None
    best = sampled
    if len(known) == len(kinds) and (sampled is None or sum(known) > sampled.sum()):
        best, source = np.array(known), "read by the engine itself at its end"
    if best is None:
        return {f"peak_{kind}_bytes": gap(NO_SAMPLE) for kind in kinds}
    note = f"of the largest sample, {best.sum() / 2**20:.1f} MiB in all, {source}"
    return {f"peak_{kind}_bytes": Metric(value=float(v), note=note) for kind, v in zip(kinds, best, strict=True)}


def _highest(trace: Trace, channel: str) -> Metric:
    series = trace[channel]
    return Metric(value=float(series.v.max()), n=len(series)) if len(series) else gap(NO_SAMPLE)


def _faults(trace: Trace, ended: ev.EngineEnd | None) -> Metric:
    if ended is not None and ended.majflt is not None:
        return Metric(value=float(ended.majflt), note="of the whole life of the engine process")
    series = trace[ENGINE_MAJFLT]
    return Metric(value=float(series.v.max()), note="up to the last sample") if len(series) else gap(NO_SAMPLE)


def _drop(events: Sequence[Event], trace: Trace, phases: Phases) -> Metric:
    """Available memory before the engine (median of the idle window, or of all before it) less the least after."""
    available = trace[AVAILABLE]
    started = ev.first_t(events, "agent.engine.start") or (phases.load or (None,))[0]
    if not len(available) or started is None:
        return gap("no_sample: available memory was not sampled, or the engine never started")
    before = available.within(phases.idle or (int(available.t[0]), started))
    ended = ev.first_t(events, "agent.engine.end") or int(available.t[-1])
    during = available.within((started, ended))
    if not len(before) or not len(during):
        return gap("no_sample: available memory was not sampled both before and while the engine ran")
    note = "other processes' memory is in it too"
    return Metric(value=float(np.median(before.v) - during.v.min()), n=len(during), note=note)
