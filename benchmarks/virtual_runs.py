"""Runs in virtual time, as the agent and an engine would have left them: no clock is read, nothing is waited for.

A board's true energy is known, and its sensors follow it in their own way. The truth comes from the physics and the
sensors of the virtual boards alone; what analyses a run never sees it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from melt.analysis.events import Asked, Inferences, RunEvents
from melt.records import EnergyBasis, Event, Response, SensorNote, TotalRule
from melt.virtual.sensors import energy_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.analysis.events import Window
    from melt.virtual.kinds import Kind
    from melt.virtual.sensors import SensorModel

Floats = NDArray[np.float64]
BOOT = 40 * 86_400 * 1_000_000_000
"""The board has been up for 40 days (ns)."""
_LONGEST_S = 0.05
"""Power wanders: no part of the truth is longer than this."""
_AFTER_S = 0.4
"""How long the trace goes on after the engine's last work."""


@dataclass(frozen=True)
class Sensing:
    """A sensor: which rails it sees, how it really follows them, and what its profile says of it."""

    name: str
    rails: tuple[str, ...]
    model: SensorModel
    told: Response | None
    period_s: float
    boundary: Literal["rail", "module", "board_input"] = "board_input"


@dataclass
class Work:
    """What an engine does, as parts of constant use of the processors, with the stamps of its events (s)."""

    lengths_s: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """As a share of all processors."""
    events: list[tuple[float, str, dict[str, object]]] = field(default_factory=list)
    now_s: float = 0.0

    def part(self, length_s: float, busy: float) -> None:
        self.lengths_s.append(length_s)
        self.busy.append(busy)
        self.now_s += length_s

    def tell(self, ev: str, **fields: object) -> None:
        self.events.append((self.now_s, ev, fields))


@dataclass(frozen=True)
class Made:
    """A run as it would lie in its folder, and the truth of it."""

    events: RunEvents
    trace: pd.DataFrame
    sensors: Mapping[str, SensorNote]
    asked: Asked
    truth_s: Floats
    truth_j: Floats
    """Of the total, at `truth_s`."""

    def true_j(self, *windows: Window) -> float:
        """What was really spent in these windows (ns) together."""
        edges = (np.array(windows, dtype=np.int64) - BOOT) * 1e-9
        return float(np.diff(energy_at(edges, self.truth_s, self.truth_j), axis=1).sum())


def llm(
    rng: np.random.Generator, *, measured_s: float, prefill_s: float, token_s: float, tokens: int, idle_s: float = 61.0
) -> Work:
    """A language model that answers requests until `measured_s` are over; its power pulses with each token."""
    work = Work()
    _idle_and_load(work, idle_s, rng.uniform(1.0, 4.0))
    work.tell("mark", name="measure.begin")
    begin_s, i = work.now_s, 0
    while work.now_s - begin_s < measured_s:
        i += 1
        work.tell("infer.begin", i=i)
        work.tell("prefill.begin", n=64, cached=0)
        work.part(prefill_s * rng.uniform(0.9, 1.1), 0.97)
        work.tell("prefill.end")
        work.tell("token", i=0)
        for number in range(1, tokens):
            each_s = token_s * float(np.exp(0.03 * rng.standard_normal()))
            work.part(0.7 * each_s, 0.62)
            work.part(0.3 * each_s, 0.25)
            work.tell("token", i=number)
        work.tell("infer.end", i=i)
        work.part(rng.uniform(0.001, 0.02), 0.05)
    _end(work)
    return work


def inferences(
    rng: np.random.Generator, *, measured_s: float, each_s: float, pause: float, idle_s: float = 61.0
) -> Work:
    """A network that computes and then waits, `pause` being the share of time that it waits."""
    work = Work()
    _idle_and_load(work, idle_s, 0.4)
    work.tell("mark", name="measure.begin")
    begin_s, i = work.now_s, 0
    while work.now_s - begin_s < measured_s:
        i += 1
        length_s = each_s * float(np.exp(0.02 * rng.standard_normal()))
        work.tell("infer.begin", i=i)
        work.part(length_s * (1 - pause), 0.9)
        if pause:
            work.part(length_s * pause, 0.03)
        work.tell("infer.end", i=i)
    _end(work)
    return work


def _idle_and_load(work: Work, idle_s: float, load_s: float) -> None:
    work.part(0.3, 0.02)
    work.tell("agent.idle.begin")
    work.part(idle_s, 0.01)
    work.tell("agent.idle.end")
    work.part(0.05, 0.05)
    work.tell("load.begin")
    work.part(load_s, 0.2)
    work.tell("load.end")
    work.tell("infer.begin", i=0)
    work.part(0.2, 0.9)
    work.tell("infer.end", i=0)


def _end(work: Work) -> None:
    work.tell("mark", name="measure.end")
    work.tell("done")
    work.part(_AFTER_S, 0.03)


def made(work: Work, kind: Kind, sensings: tuple[Sensing, ...], rng: np.random.Generator) -> Made:
    """The run of `work` on a board, its total being the sum of the sensors, which see all its rails between them."""
    model = kind.model(4, 24.0)
    lengths = np.array(work.lengths_s)
    parts = np.ceil(lengths / _LONGEST_S).astype(np.int64)
    step_s = np.repeat(lengths / parts, parts)
    busy = np.repeat(np.array(work.busy), parts) * model.power.cores
    truth_s = np.concatenate(([0.0], np.cumsum(step_s)))
    celsius = _celsius(kind, truth_s, busy, model.power.cores)
    still = model.power.power_w(busy, 1.0, celsius)
    idle = model.power.power_w(np.zeros_like(busy), 1.0, celsius)
    power = still + (_wander(step_s, model.power.noise, model.power.noise_s, rng)[:, None] * (still - idle))
    rails_j = np.concatenate((np.zeros((1, len(kind.rails))), np.cumsum(power * step_s[:, None], axis=0)))
    end_s = float(truth_s[-1])
    frames, notes = [], {}
    for sensing in sensings:
        seen = rails_j[:, [model.power.names.index(rail) for rail in sensing.rails]].sum(axis=1)
        frames.append(_polled(sensing, end_s, truth_s, seen, rng))
        notes[sensing.name] = _note(sensing)
    rule = TotalRule(sum=tuple(notes), boundary=sensings[0].boundary)
    used = [i for i, name in enumerate(model.power.names) if any(name in sensing.rails for sensing in sensings)]
    return Made(
        events=told(work),
        trace=pd.concat(frames, ignore_index=True),
        sensors=notes,
        asked=Asked(energy=EnergyBasis(total=rule)),
        truth_s=truth_s,
        truth_j=rails_j[:, used].sum(axis=1),
    )


def _celsius(kind: Kind, truth_s: Floats, busy: Floats, cores: int) -> Floats:
    """How warm the die is at each part, from the mean power of each second."""
    model = kind.model(cores, 24.0)
    each_s = 1.0
    edges = np.arange(0.0, truth_s[-1] + each_s, each_s)
    work = np.concatenate(([0.0], np.cumsum(busy * np.diff(truth_s))))
    mean = np.diff(np.interp(edges, truth_s, work)) / each_s
    now, found = model.heat.settled(kind.idle_w), []
    for share in mean:
        now = model.heat.step(now, each_s, float(model.power.power_w(share, 1.0, now[0]).sum()))
        found.append(now[0])
    return np.asarray(np.interp(truth_s[:-1], edges[1:], found))


def _wander(step_s: Floats, sd: float, over_s: float, rng: np.random.Generator) -> Floats:
    keep = np.exp(-step_s / over_s)
    shocks = np.sqrt(1 - keep**2) * rng.standard_normal(step_s.size)
    found, last = np.empty(step_s.size), 0.0
    for i, (share, shock) in enumerate(zip(keep.tolist(), shocks.tolist(), strict=True)):
        last = share * last + shock
        found[i] = last
    return np.maximum(-0.9, sd * found)


def _polled(sensing: Sensing, end_s: float, truth_s: Floats, seen_j: Floats, rng: np.random.Generator) -> pd.DataFrame:
    due = np.arange(0.0, end_s, sensing.period_s)
    at = due + rng.uniform(0.0, 0.5e-3, due.size)
    values = sensing.model.sample(at, truth_s, seen_j)
    values[rng.random(due.size) < 0.002] = np.nan  # a read that failed now and then
    t = BOOT + np.rint(at * 1e9).astype(np.int64)
    return pd.DataFrame({"t_ns": t, "channel": sensing.name, "value": values})


def _note(sensing: Sensing) -> SensorNote:
    counts = sensing.model.counts
    return SensorNote(
        sensor="virtual",
        quantity="energy" if counts else "power",
        unit="j" if counts else "w",
        source="virtual",
        period_s=sensing.period_s,
        boundary="rail",
        provenance="counter" if counts else "measured",
        wraps_at=sensing.model.wraps_at,
        response=sensing.told,
    )


def told(work: Work) -> RunEvents:
    """What the job would have read from the file of events."""
    stamped = [(BOOT + round(at * 1e9), ev, fields) for at, ev, fields in work.events]
    begun = {fields["i"]: t for t, ev, fields in stamped if ev == "infer.begin"}
    ended = {fields["i"]: t for t, ev, fields in stamped if ev == "infer.end"}
    order = sorted(ended, key=lambda i: begun[i])
    done = Inferences(
        np.array(order, dtype=np.int64),
        np.array([begun[i] for i in order], dtype=np.int64),
        np.array([ended[i] for i in order], dtype=np.int64),
        0,
    )
    landmarks = tuple(Event(t=t, ev=ev, **fields) for t, ev, fields in stamped if not ev.startswith("infer."))
    return RunEvents(landmarks, done)
