"""How often the nightly gate cries wolf, and how often it sees a change; over histories made from a seed.

A history is 14 nights of 5 runs, 2 % between runs and 1 % between days, and two sessions more that hold the change.
In `gate_false_alarms`, `gate_power_8` and `gate_power_5` they are two nights; in `gate_false_alarms_same_night` a
night and its rerun, which share their day's noise. Every one goes through `melt.analysis.gate.gate` as it is shipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Figure
from melt.analysis.gate import Finding, Night, SessionValues, gate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Bounds

NIGHTS, RUNS = 14, 5
RUN_SD, DAY_SD = 0.02, 0.01
FALSE_ALARM_HISTORIES = 100_000
POWER_HISTORIES = 20_000
_LEVEL = 20.0
_SEEDS = {"null": 71_000, "same_night": 72_000, "power_8": 73_000, "power_5": 74_000}


def history(
    rng: np.random.Generator,
    changes: Sequence[float],
    *,
    runs: int = RUNS,
    run_sd: float = RUN_SD,
    day_sd: float = DAY_SD,
) -> list[Night]:
    """A night for each change, of one session of its own noise (shares: .08 is 8 % above the level)."""
    days = np.log1p(changes) + rng.normal(0, day_sd, len(changes))
    values = _LEVEL * np.exp(days[:, None] + rng.normal(0, run_sd, (days.size, runs)))
    return [night(i, of) for i, of in enumerate(values.tolist())]


def night(number: int, *sessions: Sequence[float]) -> Night:
    """A night of a first session and reruns without a reboot; they are named by number."""
    return Night(
        tuple(
            SessionValues(f"night-{number:03}" + f"-{i}" * bool(i), tuple(values), independent=not i)
            for i, values in enumerate(sessions)
        )
    )


def two_nights(rng: np.random.Generator, change: float) -> Finding:
    """What the gate says of the second night of a change."""
    return gate(history(rng, [0.0] * NIGHTS + [change] * 2))


def same_night(rng: np.random.Generator, change: float) -> Finding:
    """What the gate says of the first night of a change, of which there is a rerun in the same boot."""
    day = np.log1p(change) + rng.normal(0, DAY_SD)
    values = _LEVEL * np.exp(day + rng.normal(0, RUN_SD, (2, RUNS)))
    return gate([*history(rng, [0.0] * NIGHTS), night(NIGHTS, *values.tolist())])


def gate_false_alarms(number: int = FALSE_ALARM_HISTORIES) -> float:
    """The share of histories without a change that are confirmed by two nights."""
    return _confirmed("null", number, lambda rng: two_nights(rng, 0.0))


def gate_false_alarms_same_night(number: int = FALSE_ALARM_HISTORIES) -> float:
    """The share of histories without a change that are confirmed by a rerun in the night."""
    return _confirmed("same_night", number, lambda rng: same_night(rng, 0.0))


def gate_power_8(number: int = POWER_HISTORIES) -> float:
    """The share of changes of 8 % that are confirmed by two nights."""
    return _confirmed("power_8", number, lambda rng: two_nights(rng, 0.08))


def gate_power_5(number: int = POWER_HISTORIES) -> float:
    """The share of changes of 5 % that are confirmed by two nights."""
    return _confirmed("power_5", number, lambda rng: two_nights(rng, 0.05))


def _confirmed(name: str, number: int, found: Callable[[np.random.Generator], Finding]) -> float:
    rng = np.random.default_rng(_SEEDS[name])
    return sum(found(rng).found == "confirmed" for _ in range(number)) / number


def _figure(name: str, target: Bounds, value: Callable[[], float]) -> Figure:
    return Figure(name, "1", target, 1, lambda _: value())


FIGURES = (
    _figure("gate_false_alarms", (None, 0.001), gate_false_alarms),
    _figure("gate_power_8", (0.92, None), gate_power_8),
    _figure("gate_power_5", (0.45, None), gate_power_5),
    _figure("gate_false_alarms_same_night", (None, 0.004), gate_false_alarms_same_night),
)
