"""Whether a device that slowed itself is found out, and one that did not is left alone; in virtual time.

A scenario of `throttle_*` is a virtual board that warms up under load. Its physics says whether it throttled while the
engine was measured; the analysis sees what such a board shows, by bits, a status, cooling states, caps or clocks that
left their pins, each read as seldom as the readings do. A spell shorter than two reads is in neither set.

A scenario of `slowed_*` is a series of latencies alone: AR(1) noise of 1 to 2 % with a correlation up to .8, and in the
steady ones a few outliers. Those that slow down have lost 5 to 12 % by two thirds of the run, as a step or as a ramp.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.harness import Figure
from benchmarks.virtual_runs import BOOT, Work, told
from melt.analysis.events import Asked
from melt.analysis.measured import measure
from melt.analysis.slowed import MIN_SAMPLES, slowed
from melt.analysis.trace import ENGINE_CPU
from melt.analysis.verdict import judge
from melt.records import ReasonCode, SensorNote
from melt.virtual.kinds import JETSON, PHONE, PI
from melt.virtual.physics import Board

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.harness import Bounds
    from melt.records import Quantity
    from melt.virtual.physics import History

Floats = NDArray[np.float64]
SCENARIOS = 300
_THROTTLE_SEED = 61_000
_SLOWED_SEED = 62_000
_STEP_S = 0.25
_SETTLING_S = 5.0
_BEFORE_S = 12.0
_MEASURED_S = 75.0
_INFERENCE_S = 0.5
_FULL_HZ = 2.4e9
_CORES = 4


@dataclass(frozen=True)
class Word:
    """A way in which a device says that it slows itself, and how seldom it is read."""

    channel: str
    quantity: Quantity
    period_s: float
    value: Callable[[NDArray[np.int64], Floats], NDArray[np.floating]]
    """What it shows at each throttle state and clock (a share)."""
    counts: Callable[[NDArray[np.int64], int], NDArray[np.bool_]]
    """Where a state is throttling in this word's sense, the state when the trace began being the second argument."""
    brief_s: float
    """A shorter spell lies between two reads, or is averaged away."""


WORDS = (
    Word("throttle.throttled", "throttle", 1.0, lambda s, _: 1.0 * (s > 0), lambda s, _: s > 0, 2.0),
    Word("thermal.status", "throttle", 2.0, lambda s, _: 1.0 * s, lambda s, _: s > 0, 4.0),
    Word("cooling.cpufreq", "cooling", 0.5, lambda s, _: 2.0 * s, lambda s, first: s > first, 1.0),
    Word("cpu.policy0.cap", "clock", 0.5, lambda _, c: _FULL_HZ * c, lambda s, first: s != first, 1.0),
    Word("cpu.policy0", "clock", 0.1, lambda _, c: _FULL_HZ * c, lambda s, _: s > 0, 5.0),
)
STICKY = "throttle.throttled_since_boot"
"""Set by what happened before, it says nothing of this run."""


@dataclass(frozen=True)
class Shown:
    """A run as its device shows it, and what it really did."""

    reasons: frozenset[ReasonCode]
    throttled: bool
    """Whether the physics slowed it while measuring, for long enough to be seen."""
    brief: bool
    """Whether it did, but only for less than that."""


# ------------------------------------------------------------------------------------------------- throttling


@cache
def throttle_scenario(number: int) -> Shown:
    """A board in any air, any warmth and under any load, as one or several of its words show it."""
    rng = np.random.default_rng(_THROTTLE_SEED + number)
    kind = (PHONE, JETSON, PI)[number % 3]
    share = rng.uniform(0.4, 1.0)
    model = kind.model(_CORES, 25.0)
    load_w = float(model.power.power_w(share * _CORES).sum())
    above_c = model.heat.settled(load_w)[0] - model.heat.ambient_c
    # air in which this load ends up near the first trip: a closed box, where a board on a desk stays cool
    ambient_c = model.throttle.trips[0].at_c - above_c * rng.uniform(0.65, 1.1)
    board = Board(kind.model(_CORES, ambient_c), number, settled_w=rng.uniform(kind.idle_w, load_w))
    busy = np.concatenate((np.full(_steps(_BEFORE_S), 0.02), np.full(_steps(_MEASURED_S), share)))
    for _ in range(_steps(_SETTLING_S)):  # a board that begins hot lowers its clock step by step
        board.step(_STEP_S, 0.02 * _CORES)
    history = board.carry_out(_STEP_S, busy * _CORES)
    history = replace(history, times_s=history.times_s - history.times_s[0])  # the trace begins here
    some = rng.choice(len(WORDS), size=rng.integers(1, len(WORDS) + 1), replace=False)
    return _judged(history, [WORDS[i] for i in some], rng)


def _steps(seconds: float) -> int:
    return int(seconds / _STEP_S)


def _judged(history: History, words: Sequence[Word], rng: np.random.Generator) -> Shown:
    work = Work()
    work.part(_BEFORE_S - 0.5, 0.0)
    work.tell("infer.begin", i=0)
    work.part(0.5, 0.0)
    work.tell("infer.end", i=0)
    work.tell("mark", name="measure.begin")
    for i in range(1, int((_MEASURED_S - 2) / _INFERENCE_S)):
        work.tell("infer.begin", i=i)
        work.part(_INFERENCE_S, 1.0)
        work.tell("infer.end", i=i)
    work.tell("mark", name="measure.end")
    work.tell("done")
    events = told(work)
    asked = Asked(pins={word.channel: _FULL_HZ for word in words if word.channel == "cpu.policy0"})
    window = measure(events, asked).watched
    assert window is not None
    begin_s, end_s = ((t - BOOT) * 1e-9 for t in window)
    frames = [_read(word, history, rng) for word in words]
    notes = {word.channel: _note(word.quantity, word.period_s) for word in words}
    if rng.random() < 0.3:  # a board that throttled some day before
        frames.append(_frame(STICKY, np.arange(0.0, history.times_s[-1]), np.ones(int(np.ceil(history.times_s[-1])))))
        notes[STICKY] = _note("throttle", 1.0)
    frames.append(_frame(ENGINE_CPU, history.times_s, np.maximum(history.times_s - _BEFORE_S, 0.0) * 2))
    reasons = judge(events, pd.concat(frames, ignore_index=True), notes, asked)
    spells = {word: _longest_s(word, history, begin_s, end_s) for word in words}
    seen = any(spell_s > word.brief_s for word, spell_s in spells.items())
    return Shown(frozenset(r.code for r in reasons), seen, brief=not seen and any(spells.values()))


def _longest_s(word: Word, history: History, begin_s: float, end_s: float) -> float:
    """The longest time without a break, while measuring, over which the state was throttling in the word's sense."""
    first = int(history.throttle[0])
    inside = (history.times_s >= begin_s) & (history.times_s < end_s)
    longest = now = 0
    for on in (word.counts(history.throttle, first) & inside).tolist():
        now = now + 1 if on else 0
        longest = max(longest, now)
    return longest * _STEP_S


def _read(word: Word, history: History, rng: np.random.Generator) -> pd.DataFrame:
    """What reading it every period gives, some reads having failed; a clock wobbles by a per cent, and blinks."""
    at = np.arange(rng.uniform(0, min(word.period_s, 1.0)), history.times_s[-1], word.period_s)
    which = np.searchsorted(history.times_s, at, "right") - 1
    values = word.value(history.throttle[which], history.clock[which])
    if word.channel == "cpu.policy0":
        values = values * (1 + 0.004 * rng.standard_normal(at.size))
        values = np.where(rng.random(at.size) < 0.01, 0.6 * values, values)  # between two states
    values = np.where(rng.random(at.size) < 0.01, np.nan, values)  # a read that failed
    return _frame(word.channel, at, values)


def _frame(channel: str, at_s: Floats, values: NDArray[np.floating]) -> pd.DataFrame:
    return pd.DataFrame({"t_ns": BOOT + np.rint(at_s * 1e9).astype(np.int64), "channel": channel, "value": values})


def _note(quantity: Quantity, period_s: float) -> SensorNote:
    return SensorNote(sensor="virtual", quantity=quantity, unit="1", source="virtual", period_s=period_s)


def _first(wanted: Callable[[Shown], bool]) -> list[Shown]:
    """The first scenarios of a sort, as many as are wanted."""
    return list(islice((shown for shown in map(throttle_scenario, count()) if wanted(shown)), SCENARIOS))


def throttle_recall() -> float:
    """The share of the boards that throttled which are called so."""
    return _share(ReasonCode.THROTTLED in shown.reasons for shown in _first(lambda shown: shown.throttled))


def throttle_false() -> float:
    """The share of the steady boards which are called throttled."""
    steady = _first(lambda shown: not shown.throttled and not shown.brief)
    return _share(ReasonCode.THROTTLED in shown.reasons for shown in steady)


# ---------------------------------------------------------------------------------------------- latency alone


def slowed_recall() -> float:
    """The share of the series that slowed down which are called so."""
    return _share(any(slowed(latencies(number, slows=True))) for number in range(SCENARIOS))


def slowed_false() -> float:
    """The share of the steady series which are called slowed."""
    return _share(any(slowed(latencies(number, slows=False))) for number in range(SCENARIOS))


def latencies(number: int, *, slows: bool) -> Floats:
    """Latencies of a run (s): half of the series have as few samples as are judged at all."""
    rng = np.random.default_rng((_SLOWED_SEED + number, int(slows)))
    n = MIN_SAMPLES if number % 2 else int(rng.integers(MIN_SAMPLES, 1000))
    base_s = float(np.exp(rng.uniform(np.log(0.005), np.log(0.5))))
    steady = base_s * np.exp(_ar1(rng, n, rng.uniform(0, 0.8), rng.uniform(0.01, 0.02)))
    if slows:
        return steady * (1 + rng.uniform(0.05, 0.12) * _course(rng, np.arange(n) / n))
    return np.where(rng.random(n) < 0.005, steady * rng.uniform(1.5, 4.0, n), steady)


def _course(rng: np.random.Generator, at: Floats) -> Floats:
    """How much of the drop is there at each share of the run: all of it from two thirds on, at the latest."""
    third = 1 / 3
    which = rng.integers(3)
    if which == 0:
        return (at >= rng.uniform(third, 2 * third)).astype(np.float64)
    if which == 1:
        begin, end = rng.uniform(0, third), rng.uniform(0.5, 2 * third)
        return np.asarray(np.clip((at - begin) / (end - begin), 0, 1))
    return np.asarray(at / (2 * third))  # and goes on


def _ar1(rng: np.random.Generator, n: int, correlation: float, sd: float) -> Floats:
    shocks = rng.normal(0, sd * np.sqrt(1 - correlation**2), n)
    found, last = np.empty(n), rng.normal(0, sd)
    for i, shock in enumerate(shocks.tolist()):
        last = correlation * last + shock
        found[i] = last
    return found


def _share(found: Iterable[bool]) -> float:
    return float(np.mean(list(found)))


def _figure(name: str, target: Bounds, value: Callable[[], float]) -> Figure:
    return Figure(name, "1", target, 1, lambda _: value())


FIGURES = (
    _figure("throttle_recall", (0.99, None), throttle_recall),
    _figure("throttle_false", (None, 0.01), throttle_false),
    _figure("slowed_recall", (0.95, None), slowed_recall),
    _figure("slowed_false", (None, 0.01), slowed_false),
)
