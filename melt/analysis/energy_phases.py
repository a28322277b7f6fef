"""The parts of a run that energy is told of: each a set of windows, long enough or a reason why not; and idle power."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.events import mark_t
from melt.analysis.generation import requests
from melt.analysis.trace import GAP_PERIODS
from melt.analysis.uncertainty import error_j, paused_s
from melt.records import IdlePower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.events import Float64s, Window
    from melt.analysis.generation import Request
    from melt.analysis.measured import Measured
    from melt.analysis.total import Total
    from melt.analysis.trace import Trace
    from melt.records import EnergyBasis

MIN_WINDOW_S = 60.0
MIN_GAUGE_S = 120.0
"""Under a battery's own gauge, whose values come every few seconds: windows of minutes."""
MIN_PERIODS = 20
MOST_PAUSED = 0.1
"""More of a window than this without a value is no measurement of it."""
STEP_S = 1.0
"""Over how long power is averaged where a peak or a standstill is looked for."""
IDLE_SPARE = 0.99
"""An idle window that was asked for as 60 s may have come out a little shorter."""


@dataclass(frozen=True)
class Phase:
    """A part of a run that may have come several times: its windows, and what its energy is shared by."""

    name: str
    windows: tuple[Window, ...]
    why_not: str = ""
    """Where there is no window: the reason."""
    units: int = 0
    """How many tokens, of the decoding or of the prompts, lie in it."""
    whole: bool = False
    """Whether it is all that was measured."""

    @property
    def length_s(self) -> float:
        return sum(end - begin for begin, end in self.windows) * 1e-9


@dataclass(frozen=True)
class Spent:
    """Energy over a phase, its half width, and what else is to be said."""

    energy_j: float
    error_j: float
    length_s: float
    notes: tuple[str, ...] = field(default=())


def phases_of(measured: Measured) -> dict[str, Phase]:
    """The whole measured window, and of a language model load, prefill and decode, by name."""
    whole = Phase(
        "measured window",
        (measured.window,) if measured.window else (),
        "no_measurement: the run has no measured window",
        whole=True,
    )
    made = requests(measured.landmarks)
    if not made:
        return {"whole": whole}
    kept = _kept(measured, made)
    prefills = [(r.prefill_begin, r.prefill_end, r.prompt_tokens) for r in kept if r.prefill_end is not None]
    decodes = [(r.tokens[0], r.tokens[-1], len(r.tokens) - 1) for r in kept if len(r.tokens) > 1]
    load = measured.phases.load
    return {
        "whole": whole,
        "load": Phase("load", (load,) if load else (), "no_measurement: the model load did not end"),
        "prefill": _pooled("prefill", prefills, "no_measurement: no prompt was evaluated to its end"),
        "decode": _pooled("decode", decodes, "too_few_samples: decoding lasts from one token to another"),
    }


def _kept(measured: Measured, made: Sequence[Request]) -> list[Request]:
    begin, end = mark_t(measured.landmarks, "measure.begin"), mark_t(measured.landmarks, "measure.end")
    if begin is None:
        return []
    return [r for r in made if begin <= r.prefill_begin and (end is None or r.prefill_begin <= end) and r.tokens]


def _pooled(name: str, parts: Sequence[tuple[int, int, int]], why_not: str) -> Phase:
    found = [(begin, end, units) for begin, end, units in parts if begin < end]
    windows = tuple((begin, end) for begin, end, _ in found)
    return Phase(name, windows, why_not, sum(units for _, _, units in found))


def spent(chosen: Total, phase: Phase, trace: Trace, *, measured_s: float, rests: bool = False) -> Spent | str:
    """The energy of a phase of a run whose measured window is `measured_s` long, or why it is not told.

    With `rests` it may be none at all: a single rail is switched off now and then, a whole device never is.
    """
    if not phase.windows:
        return phase.why_not
    if short := too_short(chosen, phase, measured_s):
        return short
    return _spent(chosen, phase, trace, rests=rests)


def too_short(chosen: Total, phase: Phase, measured_s: float) -> str:
    """Why a phase is too short for this total to tell of; empty when it is not."""
    least_s = MIN_GAUGE_S if chosen.gauge else MIN_WINDOW_S
    if measured_s < least_s:
        of = "energy from a battery's gauge" if chosen.gauge else "energy"
        return f"window_too_short: the measured window is {measured_s:.3g} s long, {of} needs {least_s:g} s"
    if phase.length_s < MIN_PERIODS * chosen.refresh_s:
        times = f" in {len(phase.windows)} parts" if len(phase.windows) > 1 else ""
        return (
            f"window_too_short: the {phase.name} of {phase.length_s:.3g} s{times} spans "
            f"{phase.length_s / chosen.refresh_s:.3g} periods of the sensor ({chosen.refresh_s:.3g} s), "
            f"energy needs {MIN_PERIODS}"
        )
    return ""


def _spent(chosen: Total, phase: Phase, trace: Trace, *, rests: bool = False) -> Spent | str:
    windows = phase.windows
    for one in chosen.curves:
        if not all(one.covers(window) for window in windows):
            return f"sensor_gap: {one.name} does not cover the whole {phase.name}"
        pause_s = paused_s(one, windows)
        if pause_s > MOST_PAUSED * phase.length_s:
            of = f"{pause_s:.3g} of the {phase.length_s:.3g} s of the {phase.name}"
            return f"sensor_gap: {one.name} gave no value for {of}"
    if chosen.gauge and (plugged := plugged_in(trace, windows)):
        return f"charger: {plugged}, and a battery's gauge means nothing then: unplug it, and run again"
    if chosen.gauge and not charger_told(trace, windows):
        return (
            f"charger: nothing tells whether one was plugged in during the {phase.name}, and a battery's gauge means "
            "nothing without that"
        )
    energy_j = sum(one.spent(*windows) for one in chosen.curves)
    if not rests and (still := _standstill(chosen, phase, energy_j)):
        return still
    notes = []
    if not phase.whole and not chosen.averages:
        notes.append("the sensor is not known to average: under a pulsing load this may be off by 31 %")
    pause_s = max(paused_s(one, windows) for one in chosen.curves)
    if pause_s:
        notes.append(f"pauses of {pause_s:.3g} s in all between values")
    if len(windows) > 1:
        notes.append(f"{len(windows)} parts pooled")
    return Spent(energy_j, error_j(chosen.curves, windows, phase=not phase.whole), phase.length_s, tuple(notes))


def steps_j(chosen: Total, window: Window) -> tuple[float, Float64s]:
    """How long (s) a step is, a second or an update where that is longer, and the energy (J) of each in `window`."""
    step_ns = int(max(STEP_S, chosen.refresh_s) * 1e9)
    edges = np.arange(window[0], window[1], step_ns)
    used_j = np.sum([np.diff(one.energy.along(edges)) for one in chosen.curves], axis=0)
    return step_ns * 1e-9, np.asarray(used_j, dtype=np.float64)


def _standstill(chosen: Total, phase: Phase, energy_j: float) -> str:
    """Why a total that stands still or falls is none; empty for one that grows.

    Between its growth there may be pauses of five steps, or of five times what is usual to a counter of few digits.
    """
    step_s, used_j = steps_j(chosen, (phase.windows[0][0], phase.windows[-1][1]))
    grew = np.flatnonzero(used_j > 0)
    still = np.diff(np.concatenate(([-1], grew, [used_j.size]))) - 1
    usual = float(np.median(np.diff(grew))) if grew.size > 1 else 1.0
    falls = int(np.count_nonzero(used_j < 0))
    long, often = int(still.max()) > GAP_PERIODS * usual, falls > MOST_PAUSED * used_j.size
    if energy_j > 0 and not long and not often:
        return ""
    names = " + ".join(chosen.channels)
    still_s = phase.length_s if energy_j <= 0 else max(int(still.max()), falls) * step_s
    for_s = f"for {still_s:.3g} s of the {phase.name}"
    if chosen.gauge:
        return (
            f"sensor_gap: {names} tells of no power drawn {for_s}: the battery took charge, or the sign of its gauge "
            "is wrong, which melt calibrate tells"
        )
    if all(one.note.quantity == "energy" for one in chosen.curves):
        return f"sensor_gap: {names} did not grow {for_s}: the counter stands still"
    return f"sensor_gap: {names} showed no power above 0 W {for_s}: the sensor stands still, or its sign is wrong"


def charger_told(trace: Trace, windows: Sequence[Window]) -> bool:
    """Whether some channel tells all through the windows whether a charger is plugged in."""
    return any(
        all(series.longest_pause_s(window) <= GAP_PERIODS * trace.notes[name].period_s for window in windows)
        for name, series in trace.of("charger").items()
    )


def plugged_in(trace: Trace, windows: Sequence[Window]) -> str:
    """Which charger was plugged in at a moment of the windows, in words; empty when none was.

    The value before a window counts as well: it holds until another one is read.
    """
    for name, series in trace.of("charger").items():
        for begin, end in windows:
            low = max(int(np.searchsorted(series.t, begin, "right")) - 1, 0)
            high = int(np.searchsorted(series.t, end, "right"))
            if np.any(series.v[low:high] > 0):
                return f"{name} says that a charger was plugged in"
    return ""


# ------------------------------------------------------------------------------------------------- idle power


def own_idle(chosen: Total, trace: Trace, window: Window | None, run_id: str) -> IdlePower | str:
    """The power in the run's own idle window, or the reason why it is not known."""
    if window is None:
        return "no_idle_window: idle power was not measured, so there is no net energy"
    idle = Phase("idle window", (window,), whole=True)
    if idle.length_s < IDLE_SPARE * MIN_WINDOW_S:
        needed = f"energy needs {MIN_WINDOW_S:g} s"
        return f"window_too_short: the idle window is {idle.length_s:.3g} s long, {needed}"
    if short := too_short(chosen, idle, max(MIN_WINDOW_S, MIN_GAUGE_S)):
        return short
    found = _spent(chosen, idle, trace)
    if isinstance(found, str):
        return found
    return IdlePower(
        power_w=found.energy_j / found.length_s,
        error_w=found.error_j / found.length_s,
        length_s=found.length_s,
        run_id=run_id,
        channels=chosen.channels,
    )


def idle_of(chosen: Total, trace: Trace, window: Window | None, basis: EnergyBasis) -> IdlePower | str:
    """Idle power from the run's own idle window, else that of the block's; or the reason why it is not known."""
    if window is not None or basis.idle is None:
        return own_idle(chosen, trace, window, "")
    if basis.idle.channels != chosen.channels:
        return (
            f"other_total: idle power was measured by {' + '.join(basis.idle.channels)} in run {basis.idle.run_id}, "
            f"this run by {' + '.join(chosen.channels)}"
        )
    return basis.idle
