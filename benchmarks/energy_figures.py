"""How true the energy figures are: of virtual boards, whose true energy is known, in virtual time.

`energy_error` is the largest error of any scenario in which the instrument itself has none of its own. For
`energy_coverage` the instruments are off as well, and every figure that a scenario gives has to hold the truth within
what it states; a scenario in which one does not is not covered. `phase_energy_error` is the 95th percentile over
prefills and decodes of averaging sensors whose lag is known to 50 ms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Figure
from benchmarks.virtual_runs import Sensing, inferences, llm, made
from melt.analysis.measured import measure
from melt.analysis.metrics import metrics
from melt.records import Response
from melt.virtual.kinds import JETSON, PHONE, PI
from melt.virtual.sensors import SensorModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Bounds
    from benchmarks.virtual_runs import Made, Work
    from melt.analysis.events import Window
    from melt.records import Metric
    from melt.virtual.kinds import Kind

ERROR_SCENARIOS = 48
COVERAGE_SCENARIOS = 200
PHASE_SCENARIOS = 100
_SEEDS = {"error": 51_000, "coverage": 52_000, "phase": 53_000}
_LAG_KNOWN_TO_S = 0.05


@dataclass(frozen=True)
class Stated:
    """One figure of a run beside the truth (J)."""

    name: str
    value: float
    half_width: float
    truth: float

    @property
    def error(self) -> float:
        return abs(self.value / self.truth - 1)

    @property
    def covered(self) -> bool:
        return abs(self.value - self.truth) <= self.half_width


def stated(run: Made) -> dict[str, Stated]:
    """Every energy that the analysis gives of a run, gross and net, beside the truth; without what it leaves out."""
    found = metrics(run.events, run.trace, run.sensors, run.asked)
    measured = measure(run.events, run.asked)
    idle = measured.phases.idle
    windows = {"energy_j": (measured.window,), **_phases(run)}
    assert idle is not None
    idle_w = run.true_j(idle) / ((idle[1] - idle[0]) * 1e-9)
    told: dict[str, Stated] = {}
    for name, of in windows.items():
        parts = [window for window in of if window is not None]
        if not parts:
            continue
        length_s = sum(end - begin for begin, end in parts) * 1e-9
        true_j = run.true_j(*parts)
        _note(told, found, name, true_j)
        _note(told, found, name.replace("_j", "_net_j"), true_j - idle_w * length_s)
    return told


def _note(told: dict[str, Stated], found: dict[str, Metric], name: str, truth: float) -> None:
    metric = found.get(name)
    if metric is not None and metric.value is not None:
        assert metric.error is not None
        told[name] = Stated(name, metric.value, metric.error, truth)


def _phases(run: Made) -> dict[str, tuple[Window, ...]]:
    """The phases by the stamps that the engine gave, found here once more and not by what is under test."""
    stamps: dict[str, list[int]] = {}
    decodes: list[list[int]] = []
    for event in run.events.landmarks:
        stamps.setdefault(event.ev, []).append(event.t)
        if event.ev == "prefill.begin":
            decodes.append([])
        elif event.ev == "token":
            decodes[-1].append(event.t)
    if not decodes:
        return {}
    return {
        "energy_load_j": ((stamps["load.begin"][0], stamps["load.end"][0]),),
        "energy_prefill_j": tuple(zip(stamps["prefill.begin"], stamps["prefill.end"], strict=True)),
        "energy_decode_j": tuple((tokens[0], tokens[-1]) for tokens in decodes),
    }


# --------------------------------------------------------------------------------------------------- scenarios


def error_scenario(number: int) -> Made:
    """A board and its sensors as they are shipped, at another moment of its refresh, under another load."""
    rng = np.random.default_rng(_SEEDS["error"] + number)
    kind = (PHONE, JETSON, PI)[number % 3]
    # a sensor of moments sees a load that stops and goes by chance: what it then states is coverage's to hold
    averaging = all(one.model.averages for one in kind.sensed.values())
    work = _work(rng, measured_s=rng.uniform(70, 95), pauses=averaging)
    return made(work, kind, _shipped(kind, rng), rng)


def coverage_scenario(number: int) -> Made:
    """A board with sensors of any refresh, lag and error that a profile may state, under any load."""
    rng = np.random.default_rng(_SEEDS["coverage"] + number)
    kind = (PHONE, JETSON, PI)[number % 3]
    work = _work(rng, measured_s=rng.uniform(70, 120), pauses=True)
    return made(work, kind, (_any_sensor(kind, rng),), rng)


def phase_scenario(number: int) -> Made:
    """Requests whose prefill and decode each last at least 20 refresh periods of an averaging sensor."""
    rng = np.random.default_rng(_SEEDS["phase"] + number)
    kind = (PHONE, JETSON, PI)[number % 3]
    refresh_s = float(np.exp(rng.uniform(np.log(0.1), np.log(1.0))))
    prefill_s, decode_s = (refresh_s * rng.uniform(23, 60) for _ in range(2))
    token_s = rng.uniform(0.03, 0.15)
    tokens = int(decode_s / token_s) + 2
    work = llm(rng, measured_s=62.0, prefill_s=prefill_s, token_s=token_s, tokens=tokens)
    lag_s = rng.uniform(0.1, 0.5)
    model = _model(rng, refresh_s=refresh_s, lag_s=lag_s, noise=0.02)
    told = _response(model, rng, lag_error_s=_LAG_KNOWN_TO_S)
    names = tuple(rail.name for rail in kind.rails)
    return made(work, kind, (Sensing("total", names, model, told, min(0.1, refresh_s / 2)),), rng)


def _work(rng: np.random.Generator, *, measured_s: float, pauses: bool) -> Work:
    which = rng.integers(3)
    if which == 0:
        token_s = rng.uniform(0.03, 0.2)
        return llm(
            rng,
            measured_s=measured_s,
            prefill_s=rng.uniform(0.5, 6),
            token_s=token_s,
            tokens=int(rng.integers(30, 132)),
        )
    pause = 0.0 if which == 1 or not pauses else rng.uniform(0.2, 0.7)
    return inferences(rng, measured_s=measured_s, each_s=float(np.exp(rng.uniform(np.log(0.02), 0))), pause=pause)


def _shipped(kind: Kind, rng: np.random.Generator) -> tuple[Sensing, ...]:
    sensed = {name: one for name, one in kind.sensed.items() if kind is not PHONE or name != "battery"}
    if kind is JETSON:
        sensed = {"VDD_IN": kind.sensed["VDD_IN"]}
    found = []
    for name, one in sensed.items():
        model = replace(one.model, phase_s=rng.uniform(0, one.model.refresh_s), seed=int(rng.integers(1 << 31)))
        found.append(Sensing(name.lower(), one.rails, model, _response(model, rng, lag_error_s=0.0), 0.1))
    return tuple(found)


def _any_sensor(kind: Kind, rng: np.random.Generator) -> Sensing:
    refresh_s = float(np.exp(rng.uniform(np.log(0.01), np.log(1.5))))
    counts, averages = rng.random() < 0.25, rng.random() < 0.7
    model = _model(rng, refresh_s=refresh_s, lag_s=rng.uniform(0, 0.3), noise=0.0 if counts else rng.uniform(0, 0.05))
    model = replace(model, counts=counts, averages=averages, quantum=1e-3 if counts else rng.choice([0, 0.005, 0.05]))
    gain, offset = rng.uniform(0, 0.03), rng.uniform(0, 0.03)
    model = replace(
        model,
        gain=1 + rng.uniform(-1, 1) * gain,
        offset=0.0 if counts else rng.uniform(-1, 1) * offset,
        wraps_at=200.0 if counts and rng.random() < 0.5 else None,
    )
    told = _response(model, rng, lag_error_s=rng.uniform(0.0, 0.1)).model_copy(
        update={"gain_error": gain, "offset_error": offset}
    )
    period_s = float(rng.choice([0.05, 0.1, 0.2]))
    return Sensing("total", tuple(rail.name for rail in kind.rails), model, _forget(told, rng), period_s)


def _forget(told: Response, rng: np.random.Generator) -> Response:
    """A profile in which nobody has measured everything."""
    if rng.random() < 0.25:
        told = told.model_copy(update={"refresh_s": None, "calibrated": False})
    if rng.random() < 0.25:
        told = told.model_copy(update={"averages": None, "calibrated": False})
    return told


def _model(rng: np.random.Generator, *, refresh_s: float, lag_s: float, noise: float) -> SensorModel:
    return SensorModel(
        refresh_s=refresh_s,
        lag_s=lag_s,
        noise=noise,
        quantum=0.005,
        phase_s=rng.uniform(0, refresh_s),
        seed=int(rng.integers(1 << 31)),
    )


def _response(model: SensorModel, rng: np.random.Generator, *, lag_error_s: float) -> Response:
    """What a calibration says of a sensor: the truth, but for the lag, which it knows to `lag_error_s`."""
    lag_s = max(model.lag_s + rng.uniform(-1, 1) * lag_error_s, 0.0)
    return Response(
        refresh_s=model.refresh_s, averages=model.averages, lag_s=lag_s, lag_error_s=lag_error_s, calibrated=True
    )


# ----------------------------------------------------------------------------------------------------- figures


def energy_error(number: int = ERROR_SCENARIOS) -> float:
    """The largest error of the whole window's energy over the scenarios, as a share."""
    return max(stated(error_scenario(i))["energy_j"].error for i in range(number))


def energy_coverage(number: int = COVERAGE_SCENARIOS) -> float:
    """The share of scenarios in which every stated figure holds the truth."""
    return float(np.mean([all(one.covered for one in stated(coverage_scenario(i)).values()) for i in range(number)]))


def phase_energy_error(number: int = PHASE_SCENARIOS) -> float:
    """The 95th percentile of the errors of prefill and of decode, as a share."""
    wanted = ("energy_prefill_j", "energy_decode_j")
    errors = [found[name].error for i in range(number) for found in [stated(phase_scenario(i))] for name in wanted]
    return float(np.percentile(errors, 95))


def _figure(name: str, target: Bounds, value: Callable[[], float]) -> Figure:
    return Figure(name, "1", target, 1, lambda _: value())


FIGURES = (
    _figure("energy_error", (None, 0.01), energy_error),
    _figure("energy_coverage", (0.95, None), energy_coverage),
    _figure("phase_energy_error", (None, 0.03), phase_energy_error),
)
