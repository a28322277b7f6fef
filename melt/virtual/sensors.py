"""What a sensor says of a truth that is known: late, coarse, averaged, off by a gain, or not at all.

Pure. A sensor makes its value anew every `refresh_s`, at moments `phase_s + k·refresh_s`, and shows the newest one to
whoever asks in between. Its noise belongs to the number k of the value, so asking twice gives the same figure twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]
Trouble = Literal["gone", "empty", "garbage", "negative", "hangs"]
"""What can be wrong with a sensor's file for a while."""

_MOMENT_S = 1e-3
"""How long the moment is that an instantaneous sensor sees."""


@dataclass(frozen=True)
class Fault:
    """From `begin_s` until `end_s` of the board's time, the sensor is not as it should be."""

    trouble: Trouble
    begin_s: float = 0.0
    end_s: float = float("inf")


@dataclass(frozen=True)
class SensorModel:
    """How a sensor of power, or a counter of energy, follows the energy that really went through it."""

    refresh_s: float = 0.1
    averages: bool = True
    """Whether a value is the mean over the refresh period before it, and no momentary one."""
    counts: bool = False
    """Whether it tells energy since the board was made, and no power."""
    lag_s: float = 0.0
    """How much later than it was so a value appears."""
    gain: float = 1.0
    offset: float = 0.0
    """In watts, or in joules of a counter."""
    noise: float = 0.0
    """Standard deviation of each value, in the same unit."""
    quantum: float = 0.0
    """The smallest step of a value, in the same unit; 0 for none."""
    wraps_at: float | None = None
    """Where a counter falls back to 0."""
    phase_s: float = 0.0
    seed: int = 0
    faults: tuple[Fault, ...] = ()

    def sample(self, times_s: ArrayLike, truth_s: ArrayLike, truth_j: ArrayLike) -> Numbers:
        """What it shows at `times_s` (any shape): watts, or joules of a counter; NaN while a fault holds.

        `truth_s` and `truth_j`, shape (n,), n ≥ 2, are moments in rising order and the true energy at each of them,
        taken to run straight in between, and straight on before the first and after the last.
        """
        asked = np.asarray(times_s, float)
        number = self.number(asked)
        values = self._value(number, np.asarray(truth_s, float), np.asarray(truth_j, float))
        return np.where([self.fault_at(t) is not None for t in asked.ravel()], np.nan, values.ravel()).reshape(
            asked.shape
        )

    def number(self, times_s: ArrayLike) -> NDArray[np.int64]:
        """Which of its values it shows at these times."""
        return np.floor((np.asarray(times_s, float) - self.phase_s) / self.refresh_s + 1e-9).astype(np.int64)

    def updates_s(self, begin_s: float, end_s: float) -> Numbers:
        """The moments from `begin_s` to `end_s` at which it makes a value anew."""
        first, last = self.number([begin_s, end_s])
        moments = self.phase_s + np.arange(first, last + 1) * self.refresh_s
        return moments[moments >= begin_s - 1e-9]

    def fault_at(self, time_s: float) -> Trouble | None:
        """What is wrong with it at this time, if anything is."""
        return next((f.trouble for f in self.faults if f.begin_s <= time_s < f.end_s), None)

    def _value(self, number: NDArray[np.int64], truth_s: Numbers, truth_j: Numbers) -> Numbers:
        at = self.phase_s + number * self.refresh_s - self.lag_s
        if self.counts:
            value = energy_at(at, truth_s, truth_j)
        else:
            over = self.refresh_s if self.averages else _MOMENT_S
            value = (energy_at(at, truth_s, truth_j) - energy_at(at - over, truth_s, truth_j)) / over
        value = self.gain * value + self.offset + self.noise * normal(number, self.seed)
        if self.quantum:
            value = np.round(value / self.quantum) * self.quantum
        return np.asarray(value % self.wraps_at if self.wraps_at else value)


def energy_at(times_s: ArrayLike, truth_s: Numbers, truth_j: Numbers) -> Numbers:
    """The true energy at any times, straight between the known moments and straight on beyond them."""
    t = np.asarray(times_s, float)
    found = np.interp(t, truth_s, truth_j)
    before = truth_j[0] + (t - truth_s[0]) * (truth_j[1] - truth_j[0]) / (truth_s[1] - truth_s[0])
    after = truth_j[-1] + (t - truth_s[-1]) * (truth_j[-1] - truth_j[-2]) / (truth_s[-1] - truth_s[-2])
    return np.asarray(np.where(t < truth_s[0], before, np.where(t > truth_s[-1], after, found)))


def normal(number: ArrayLike, seed: int) -> Numbers:
    """A figure of the standard normal distribution for each whole number, always the same for the same seed."""
    first, second = (_uniform(number, 2 * seed + which) for which in (0, 1))
    return np.asarray(np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second))


def _uniform(number: ArrayLike, seed: int) -> Numbers:
    """From above 0 to 1, by the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        x = np.asarray(number).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = x + np.uint64((seed * 0xD1B54A32D192ED03 + 0x8CB92BA72F3D8DD7) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (np.asarray(x >> np.uint64(11)).astype(np.float64) + 1.0) / 2.0**53
