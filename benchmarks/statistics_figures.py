"""How true the statistics are: simulated runs whose truth is known, through the functions that judge real ones.

`ci_coverage_min` and `ci_coverage_max` are the lowest and the highest coverage of `summarise` over several numbers of
runs. `aa_coverage_drift` is how often two equal cells of a session that drifts are told to be so, in the order that
melt plans. `warmup_bias` is the share of runs whose median lies within 1 % of the true steady level, transient and
noise together; `warmup_cap` that of steady series which are taken for ones that never settle. `analyse_scale` is what
ten times the samples cost.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.signal import lfilter

from benchmarks.harness import Figure
from benchmarks.virtual_runs import BOOT, Work, llm, told
from melt.analysis.contrast import contrast
from melt.analysis.events import Asked, Inferences, RunEvents
from melt.analysis.metrics import metrics
from melt.analysis.summary import summarise
from melt.analysis.verdict import judge
from melt.analysis.warmup import MIN_WINDOW, WINDOWS, warmup
from melt.files import load_lab, load_suite
from melt.lab import make_plan
from melt.records import EnergyBasis, Event, SensorNote, TotalRule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.harness import Bounds, Round

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

RUNS = (3, 5, 10, 20)
EXPERIMENTS = 10_000
"""A coverage of .95 is known to .0022 (one standard error) then, and to .0031 by the sessions."""
SESSIONS = 5_000
BLOCKS = 10
BETWEEN = 0.02
WITHIN = 0.01
OUTLIERS = 0.05
DRIFT = 0.05
SERIES = 300
STEADY = 2_000
LENGTHS = (130, 300, 1000)
SAMPLES = 40_000
TOKENS = 2_000
"""Ten times as many are an hour of a slow device; ten times that, and the events no longer fit into a cache."""
_SEEDS = {"coverage": 61_000, "drift": 62_000, "warmup": 63_000, "steady": 64_000, "scale": 65_000}


# -------------------------------------------------------------------------------------------- intervals of runs


def coverage(runs: int, experiments: int = EXPERIMENTS) -> float:
    """How often the interval of so many runs holds the true level, each run giving the median of its 50 samples.

    Between the runs 2 % (normal); within a run 1 %, and one sample in twenty 5 to 50 % slower.
    """
    rng = np.random.default_rng(_SEEDS["coverage"] + runs)
    truth, samples = 20.0, 50
    held = 0
    for _ in range(experiments):
        levels = truth * (1 + rng.normal(0, BETWEEN, (runs, 1)))
        within = 1 + rng.normal(0, WITHIN, (runs, samples))
        by_chance = rng.random((runs, samples)) / OUTLIERS
        slow = np.where(by_chance < 1, 1.05 + 0.45 * by_chance, 1.0)
        found = summarise(np.median(levels * within * slow, axis=1).tolist())
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    return held / experiments


@cache
def coverages() -> tuple[float, ...]:
    """The coverage at each number of `RUNS`."""
    return tuple(coverage(runs) for runs in RUNS)


# ------------------------------------------------------------------------------------------- sessions that drift

Order = Literal["blocks", "random", "in turn"]


def planned(folder: Path, sessions: int = SESSIONS) -> Bools:
    """Which slots of sessions are cell a's, shape (sessions, slots): the order that melt plans for a suite of two."""
    devices = -(-sessions * BLOCKS // 1000)
    for name in "ab":
        _write(folder / f"{name}.yaml", {"kind": "workload", "name": name, "engine": "onnxruntime", "model": _MODEL})
    suite = {"kind": "suite", "name": "aa", "workloads": ["a.yaml", "b.yaml"], "protocol": {"runs": 1000}}
    _write(folder / "suite.yaml", suite)
    names = tuple(f"d{number}" for number in range(devices))
    here = {"profile": "linux", "address": "local:"}
    _write(folder / "lab.yaml", {"kind": "lab", "devices": dict.fromkeys(names, here)})
    plan = make_plan(*load_suite(str(folder / "suite.yaml")), load_lab(folder / "lab.yaml"), names, {})
    of_a = np.array([slot.cell == "a" for slot in plan.order])
    return of_a[: sessions * BLOCKS * 2].reshape(sessions, BLOCKS * 2)


_MODEL = {"make": "mlp"}


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps({"schema": 1, **content}), encoding="utf-8")


def aa_coverage(order: Order, sessions: int = SESSIONS) -> float:
    """How often the interval of b ÷ a holds 1 where both are the same, in a session that drifts by 5 % in all.

    Ten runs of each, 2 % between runs. In `blocks` the runs of a block are pairs, else the sides are two groups.
    """
    rng = np.random.default_rng(_SEEDS["drift"])
    slots = BLOCKS * 2
    if order == "blocks":
        with tempfile.TemporaryDirectory() as folder:
            of_a = planned(Path(folder), sessions)
    else:
        of_a = np.tile(np.arange(slots) < BLOCKS, (sessions, 1))
        if order == "random":
            of_a = rng.permuted(of_a, axis=1)
    drift = 1 + DRIFT * np.linspace(0, 1, slots)
    values = 20.0 * drift * (1 + rng.normal(0, BETWEEN, (sessions, slots)))
    held = 0
    for run_values, mine in zip(values, of_a, strict=True):
        found = contrast(run_values[mine].tolist(), run_values[~mine].tolist(), paired=order == "blocks")
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1 <= found.high
    return held / sessions


# ------------------------------------------------------------------------------------------------------ warm-up


@dataclass(frozen=True)
class Series:
    """A series of latencies around a steady level of 1: without its transient, and with it."""

    steady: Floats
    moving: Floats
    settled: int
    """From this sample on the transient is under 1 %."""


def series(rng: np.random.Generator, n: int) -> Series:
    """Noise of 1 to 5 %, each sample correlated with the next by 0 to .8; a transient of .3 to 3 windows.

    It begins 5 to 100 % above the steady level, or 2 to 40 % below it.
    """
    correlation, sd = rng.uniform(0, 0.8), rng.uniform(0.01, 0.05)
    shocks = rng.normal(0, sd * np.sqrt(1 - correlation**2), n)
    shocks[0] = rng.normal(0, sd)
    steady = np.exp(np.asarray(lfilter([1.0], [1.0, -correlation], shocks), dtype=np.float64))
    window = max(MIN_WINDOW, n // WINDOWS)
    size = rng.uniform(0.05, 1.0) * rng.choice([1.0, -0.4])
    over = rng.uniform(0.3, 3) * window
    settled = int(np.ceil(max(over * np.log(abs(size) / 0.01), 0)))
    return Series(steady, steady * (1 + size * np.exp(-np.arange(n) / over)), settled)


@dataclass(frozen=True)
class Kept:
    """The shares of series whose median keeps at most 1 % of error, by what is discarded.

    `melt`, `nothing`, and an `oracle` that knows when the transient is over and discards half at most. `added` is by
    how much the transient moves the median of the samples that melt keeps, `added_oracle` the same of the oracle's.
    `without` is what series give that have no transient at all.
    """

    melt: float
    nothing: float
    oracle: float
    without: float
    added: float
    added_oracle: float


def kept(lengths: tuple[int, ...] = LENGTHS, number: int = SERIES) -> Kept:
    """What remains in the median of so many series, each of one of these lengths."""
    rng = np.random.default_rng(_SEEDS["warmup"])
    rows = []
    for _ in range(number):
        one = series(rng, int(rng.choice(lengths)))
        head, known = warmup(one.moving).discarded, min(one.settled, one.moving.size // 2)
        of_melt, of_oracle = float(np.median(one.moving[head:])), float(np.median(one.moving[known:]))
        of_kept, of_known = float(np.median(one.steady[head:])), float(np.median(one.steady[known:]))
        levels = (of_melt, float(np.median(one.moving)), of_oracle, float(np.median(one.steady)))
        rows.append((*levels, of_melt / of_kept, of_oracle / of_known))
    within = np.mean(np.abs(np.array(rows) - 1) <= 0.01, axis=0)
    return Kept(*(float(share) for share in within))


def warmup_cap(number: int = STEADY) -> float:
    """The share of steady series, of the same noise, of which half was not enough."""
    rng = np.random.default_rng(_SEEDS["steady"])
    lengths = (64, *LENGTHS)
    return float(np.mean([warmup(series(rng, int(rng.choice(lengths))).steady).capped for _ in range(number)]))


# -------------------------------------------------------------------------------------------------------- scale


@dataclass(frozen=True)
class Raw:
    """The raw data of a run, as the analysis is given them."""

    events: RunEvents
    trace: pd.DataFrame
    sensors: dict[str, SensorNote]
    asked: Asked

    def analysed(self) -> None:
        metrics(self.events, self.trace, self.sensors, self.asked)
        judge(self.events, self.trace, self.sensors, self.asked)


def network(samples: int) -> Raw:
    """A run of a network of so many inferences of 10 ms, with as long a trace: a sample of each sensor every 0.1 s."""
    rng = np.random.default_rng(_SEEDS["scale"])
    lengths = np.rint(1e7 * np.exp(rng.normal(0, 0.02, samples + 1))).astype(np.int64)
    end = BOOT + 65_000_000_000 + np.cumsum(lengths)
    begin = end - lengths
    stamps = ((BOOT, "agent.begin"), (BOOT + 10**9, "agent.idle.begin"), (BOOT + 62 * 10**9, "agent.idle.end"))
    landmarks = [Event(t=t, ev=ev) for t, ev in stamps]
    landmarks += [Event(t=BOOT + 63 * 10**9, ev="load.begin"), Event(t=BOOT + 64 * 10**9, ev="load.end")]
    landmarks += [
        Event(t=int(begin[1]), ev="mark", name="measure.begin"),
        Event(t=int(end[-1]), ev="mark", name="measure.end"),
        Event(t=int(end[-1]) + 1000, ev="done"),
        Event(t=int(end[-1]) + 2000, ev="agent.engine.end", exit=0, signal=None),
        Event(t=int(end[-1]) + 10**9, ev="agent.end"),
    ]
    done = Inferences(np.arange(samples + 1, dtype=np.int64), begin, end, 0)
    return _sampled(RunEvents(tuple(landmarks), done), int(end[-1]) + 10**9)


def model(tokens: int) -> Raw:
    """A run of a language model that generated so many tokens, 32 a request."""
    rng = np.random.default_rng(_SEEDS["scale"])
    work: Work = llm(rng, measured_s=tokens * 0.05, prefill_s=0.05, token_s=0.05, tokens=32)
    return _sampled(told(work), BOOT + round(work.now_s * 1e9))


def _sampled(events: RunEvents, end: int) -> Raw:
    rng = np.random.default_rng(_SEEDS["scale"])
    t = np.arange(BOOT, end, 100_000_000, dtype=np.int64)
    used_s = (t - BOOT).astype(np.float64) * 0.9e-9
    channels: dict[str, tuple[SensorNote, Floats]] = {
        "power": (_note("power", "w", boundary="board_input", provenance="measured"), rng.normal(5, 0.2, t.size)),
        "engine.cpu_s": (_note("load", "1"), used_s),
        **{f"clock{i}": (_note("clock", "hz"), rng.normal(1.8e9, 1e6, t.size)) for i in range(4)},
        **{f"zone{i}": (_note("temperature", "c"), rng.normal(50, 0.2, t.size)) for i in range(4)},
    }
    parts = [pd.DataFrame({"t_ns": t, "channel": name, "value": value}) for name, (_, value) in channels.items()]
    asked = Asked(energy=EnergyBasis(total=TotalRule(sum=("power",), boundary="board_input")))
    sensors = {name: note for name, (note, _) in channels.items()}
    return Raw(events, pd.concat(parts, ignore_index=True), sensors, asked)


def _note(quantity: str, unit: str, **more: str) -> SensorNote:
    about = {"sensor": "made", "quantity": quantity, "unit": unit, "source": "made", "period_s": 0.1}
    return SensorNote.model_validate({**about, **more})


@cache
def _of_sizes() -> tuple[tuple[Raw, Raw], ...]:
    return ((network(SAMPLES), network(10 * SAMPLES)), (model(TOKENS), model(10 * TOKENS)))


def analyse_scale(_: Round) -> float:
    """CPU time of the analysis of ten times the samples ÷ that of one: the worse of a network and a language model.

    The least of five turns each: others only ever take time away.
    """
    worst = 0.0
    for small, large in _of_sizes():
        least = {1: np.inf, 10: np.inf}
        for _turn in range(5):
            for times, raw in ((1, small), (10, large)):
                begin = time.process_time()
                raw.analysed()
                least[times] = min(least[times], time.process_time() - begin)
        worst = max(worst, float(least[10] / least[1]))
    return worst


# ----------------------------------------------------------------------------------------------------- figures


def _figure(name: str, target: Bounds, value: Callable[[], float]) -> Figure:
    return Figure(name, "1", target, 1, lambda _: value())


FIGURES = (
    _figure("ci_coverage_min", (0.93, None), lambda: min(coverages())),
    _figure("ci_coverage_max", (None, 0.97), lambda: max(coverages())),
    _figure("aa_coverage_drift", (0.93, None), lambda: aa_coverage("blocks")),
    _figure("warmup_bias", (0.9, None), lambda: kept().melt),
    _figure("warmup_cap", (None, 0.05), warmup_cap),
    Figure("analyse_scale", "1", (None, 11.0), 3, analyse_scale),
)
