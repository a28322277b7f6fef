"""Raw data of runs as the agent and the engine would have left it, made from a known truth."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from melt.job import parse_events
from melt.records import Event, SensorNote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from melt.analysis.events import RunEvents

    Floats = NDArray[np.float64]

S = 1_000_000_000
BOOT = 200 * 86_400 * S
"""The device has been up for 200 days: nanoseconds no longer fit a float64."""


def event(t: int, ev: str, **fields: Any) -> Event:
    return Event(t=t, ev=ev, **fields)


def told(events: Sequence[Event]) -> RunEvents:
    """What these events say when they are written to a file and read back."""
    return parse_events(io.BytesIO(b"".join(event.model_dump_json().encode() + b"\n" for event in events)))


def events_of(
    durations: Floats, *, start: int = BOOT, load_s: float = 0.5, warm: int = 3, idle_s: float = 0.0
) -> list[Event]:
    """A run that ended well: idle, load, the first inference, `warm` warm-ups, then `durations` (s) back to back."""
    found = [event(start, "agent.begin", boottime_ns=start + 7 * S, realtime_ns=start + 900 * S)]
    t = start + S // 10
    if idle_s:
        found += [event(t, "agent.idle.begin"), event(t + int(idle_s * S), "agent.idle.end")]
        t += int(idle_s * S)
    found += [event(t, "agent.engine.start", pid=12), event(t, "agent.affinity", asked="0", got="0", ok=True)]
    found += [event(t + 1000, "load.begin"), event(t + 1000 + int(load_s * S), "load.end")]
    t += 2000 + int(load_s * S)
    for i in range(1 + warm + durations.size):
        if i == 1:
            found.append(event(t, "mark", name="warmup.begin"))
        if i == 1 + warm:
            found.append(event(t, "mark", name="measure.begin"))
        end = t + (round(float(durations[i - 1 - warm]) * S) if i > warm else 3 * S // 100)
        found += [event(t, "infer.begin", i=i), event(end, "infer.end", i=i)]
        t = end
    found += [
        event(t, "mark", name="measure.end"),
        event(t, "mark", name="memory", vm_hwm_kb=9000, rss_anon_kb=3000, rss_file_kb=2000, rss_shmem_kb=10),
        event(t, "done"),
        event(t + 1000, "agent.engine.end", exit=0, signal=None, maxrss_kb=9100, majflt=4, utime_ns=S, stime_ns=S),
    ]
    t += S // 10
    last = event(t, "agent.end", boottime_ns=t + 7 * S, realtime_ns=t + 900 * S, cpu_ns=S // 100, missed=0, samples=9)
    return [*found, last]


def ends(events: Sequence[Event]) -> tuple[int, int]:
    return events[0].t, events[-1].t


def trace_of(
    events: Sequence[Event], channels: Mapping[str, Callable[[Floats], Floats]], period_s: float = 0.1
) -> pd.DataFrame:
    """A trace over a run: each channel is a function of the seconds since its start."""
    begin, end = ends(events)
    t = np.arange(begin, end + int(period_s * S), int(period_s * S))
    since = (t - begin) / S
    frames = [
        frame(t, np.broadcast_to(np.asarray(value(since), dtype=np.float64), t.shape), name)
        for name, value in channels.items()
    ]
    return pd.concat(frames, ignore_index=True) if frames else frame(t[:0], np.array([]), "none")


def frame(t: NDArray[np.int64], value: Floats, channel: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "t_ns": t,
            "due_ns": t,
            "read_ns": np.full(t.shape, 1000, dtype=np.int64),
            "sensor": channel.split(".", maxsplit=1)[0],
            "channel": channel,
            "value": value,
            "error": None,
        }
    )


def note(quantity: str, **more: Any) -> SensorNote:
    return SensorNote.model_validate(
        {"sensor": "s", "quantity": quantity, "unit": "1", "source": "/sys/x", "period_s": 0.1, **more}
    )


def ar1(rng: np.random.Generator, n: int, correlation: float, sd: float) -> Floats:
    """A stationary first-order series of mean 0 and standard deviation `sd`."""
    shocks = rng.normal(0, sd * np.sqrt(1 - correlation**2), n)
    shocks[0] = rng.normal(0, sd)
    found = np.empty(n)
    last = 0.0
    for i, shock in enumerate(shocks.tolist()):
        last = correlation * last + shock
        found[i] = last
    return found
