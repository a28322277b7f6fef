"""What a board draws and how warm it gets, as far as melt's own tests need it: pure, seeded, and exactly known.

The truth is a board's energy by rail, in joules since it was made. It is the sum of power times time over the steps, so
whatever measures the board can be held against it to the last joule. A step may be as long as one likes: power is
constant within it. Units are SI; a clock is a share of the highest one, from 0 to 1; a use of the processor is in
cores that are busy, from 0 to `cores`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Rail:
    """One supply of a board: what it draws idle, and how much more with every core busy at the full clock."""

    name: str
    idle_w: float
    dynamic_w: float


@dataclass(frozen=True)
class PowerModel:
    """Power by rail: idle + dynamic · (busy ÷ cores) · clock^exponent, and a share more for each degree over 25 °C."""

    rails: tuple[Rail, ...]
    cores: int
    clock_exponent: float = 2.3
    """Voltage rises with the clock, so power rises faster than the clock."""
    leakage_per_c: float = 0.0
    """Of the idle power."""
    noise: float = 0.0
    """Standard deviation of the dynamic power's slow wander, as a share of it."""
    noise_s: float = 0.5
    """The time over which that wander forgets itself."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(rail.name for rail in self.rails)

    def power_w(self, busy_cores: ArrayLike, clock: ArrayLike = 1.0, celsius: ArrayLike = 25.0) -> Numbers:
        """The power of each rail, shape (…, rails), for scalars or for arrays of one shape."""
        busy, share, warm = np.broadcast_arrays(*(np.asarray(x, float) for x in (busy_cores, clock, celsius)))
        idle = np.array([rail.idle_w for rail in self.rails])
        dynamic = np.array([rail.dynamic_w for rail in self.rails])
        use = np.clip(busy / self.cores, 0.0, 1.0) * share**self.clock_exponent
        leak = 1.0 + self.leakage_per_c * (warm - 25.0)
        return idle * leak[..., None] + dynamic * use[..., None]


@dataclass(frozen=True)
class Node:
    """One lump of a board that has one temperature. The first node is where the power goes."""

    name: str
    capacity_j_per_c: float
    to_ambient_w_per_c: float = 0.0
    to_next_w_per_c: float = 0.0
    """Towards the node after this one."""


@dataclass(frozen=True)
class Heat:
    """A chain of nodes in air of `ambient_c`: heat enters at the first and leaves through the others."""

    nodes: tuple[Node, ...]
    ambient_c: float = 24.0

    @property
    def at_rest(self) -> tuple[float, ...]:
        return (self.ambient_c,) * len(self.nodes)

    def settled(self, power_w: float) -> tuple[float, ...]:
        """The temperatures after any length of time at this power."""
        n = len(self.nodes)
        matrix = np.zeros((n, n))
        for i, node in enumerate(self.nodes):
            matrix[i, i] += node.to_ambient_w_per_c
            if i + 1 < n:
                matrix[i : i + 2, i : i + 2] += node.to_next_w_per_c * np.array([[1.0, -1.0], [-1.0, 1.0]])
        above = np.linalg.solve(matrix, np.array([power_w, *([0.0] * (n - 1))]))
        return tuple(float(self.ambient_c + x) for x in above)

    def step(self, temperatures_c: Sequence[float], dt_s: float, power_w: float) -> tuple[float, ...]:
        """The temperatures `dt_s` later at this power; in small enough parts to be stable and within 1 %."""
        now = list(temperatures_c)
        parts = max(1, int(np.ceil(dt_s / self._longest_s)))
        h = dt_s / parts
        for _ in range(parts):
            flow = [-node.to_ambient_w_per_c * (t - self.ambient_c) for node, t in zip(self.nodes, now, strict=True)]
            flow[0] += power_w
            for i, (a, b) in enumerate(pairwise(now)):
                through = self.nodes[i].to_next_w_per_c * (a - b)
                flow[i] -= through
                flow[i + 1] += through
            now = [t + h * f / node.capacity_j_per_c for t, f, node in zip(now, flow, self.nodes, strict=True)]
        return tuple(now)

    @property
    def _longest_s(self) -> float:
        """A twentieth of the shortest time constant."""
        before = (0.0, *(node.to_next_w_per_c for node in self.nodes))
        return min(
            node.capacity_j_per_c / max(1e-9, node.to_ambient_w_per_c + node.to_next_w_per_c + back) / 20
            for node, back in zip(self.nodes, before, strict=False)
        )


@dataclass(frozen=True)
class Trip:
    """At `at_c` the clock is capped to a share of the highest; let go at `hysteresis_c` less."""

    at_c: float
    cap: float
    hysteresis_c: float = 3.0


@dataclass(frozen=True)
class Throttle:
    """What the board does about heat: trips in rising order; the state is how many of them hold (0: none)."""

    trips: tuple[Trip, ...] = ()

    def state(self, before: int, celsius: float) -> int:
        """The state that follows `before` at this temperature."""
        now = before
        while now < len(self.trips) and celsius >= self.trips[now].at_c:
            now += 1
        while now and celsius <= self.trips[now - 1].at_c - self.trips[now - 1].hysteresis_c:
            now -= 1
        return now

    def cap(self, state: int) -> float:
        """The highest clock allowed in a state, as a share."""
        return self.trips[state - 1].cap if state else 1.0


@dataclass(frozen=True)
class Battery:
    """A cell (or several in a row): its open voltage over its level, and a resistance that the current falls over."""

    capacity_coulomb: float
    voltage_v: tuple[float, ...] = (3.3, 3.65, 3.72, 3.78, 3.85, 3.98, 4.12, 4.35)
    """From empty to full, at equal steps of the level."""
    resistance_ohm: float = 0.06
    charger_w: float = 15.0

    def open_v(self, level: float) -> float:
        """The voltage without a load at a level from 0 to 1."""
        return float(np.interp(level, np.linspace(0.0, 1.0, len(self.voltage_v)), self.voltage_v))

    def current_a(self, level: float, power_w: float) -> float:
        """The current that leaves it at this power (negative: into it): P = (V − R·I)·I, the smaller solution."""
        volts, ohms = self.open_v(level), self.resistance_ohm
        root = max(0.0, volts * volts - 4 * ohms * power_w)
        return (volts - float(np.sqrt(root))) / (2 * ohms) if ohms else power_w / volts


@dataclass(frozen=True)
class Model:
    """All that one kind of board is made of."""

    power: PowerModel
    heat: Heat
    throttle: Throttle = Throttle()
    battery: Battery | None = None


@dataclass(frozen=True)
class State:
    """A board at one moment; energies since it was made."""

    time_s: float
    rails_j: tuple[float, ...]
    power_w: tuple[float, ...]
    """By rail, over the step that ended now."""
    temperatures_c: tuple[float, ...]
    throttle: int
    clock: float
    """As it was over that step."""
    level: float
    voltage_v: float
    current_a: float
    """What leaves the battery: positive while discharging."""
    charger: bool

    @property
    def total_j(self) -> float:
        return sum(self.rails_j)

    @property
    def total_w(self) -> float:
        return sum(self.power_w)


@dataclass(frozen=True)
class History:
    """A board over n moments: the columns of its states."""

    times_s: Numbers
    rails_j: Numbers
    """(n, rails)"""
    temperatures_c: Numbers
    """(n, nodes)"""
    throttle: NDArray[np.int64]
    clock: Numbers
    level: Numbers
    voltage_v: Numbers
    current_a: Numbers

    @property
    def total_j(self) -> Numbers:
        """(n,): never falls."""
        return np.asarray(self.rails_j.sum(axis=1))


class Board:
    """A board that goes on in steps, in real time or as fast as one likes. The same seed gives the same board."""

    def __init__(self, model: Model, seed: int = 0, *, level: float = 0.8, settled_w: float | None = None) -> None:
        self.model = model
        self.charger = False
        self.allowed = 1.0
        """The highest clock that a person or a governor allows, as a share; heat may allow less."""
        self.held_back = 0
        """The state of throttling that something else than heat holds it in at least."""
        self._random = np.random.default_rng(seed)
        self._wander = 0.0
        idle = model.power.power_w(0.0)
        warm = model.heat.settled(settled_w) if settled_w is not None else model.heat.at_rest
        self.state = State(
            time_s=0.0,
            rails_j=(0.0,) * len(idle),
            power_w=tuple(map(float, idle)),
            temperatures_c=warm,
            throttle=model.throttle.state(0, warm[0]),
            clock=1.0,
            level=level,
            voltage_v=model.battery.open_v(level) if model.battery else 0.0,
            current_a=0.0,
            charger=False,
        )

    def step(self, dt_s: float, busy_cores: float) -> State:
        """Goes on by `dt_s` with that many cores busy on average; the new state, also in `state`."""
        before, model = self.state, self.model
        clock = min(self.allowed, model.throttle.cap(before.throttle))
        power = model.power.power_w(busy_cores, clock, before.temperatures_c[0])
        if model.power.noise:
            power = power + self._noise(dt_s) * (power - model.power.power_w(0.0, clock, before.temperatures_c[0]))
        total = float(power.sum())
        warm = model.heat.step(before.temperatures_c, dt_s, total)
        level, volts, amperes = self._battery(dt_s, total)
        self.state = State(
            time_s=before.time_s + dt_s,
            rails_j=tuple(j + dt_s * float(w) for j, w in zip(before.rails_j, power, strict=True)),
            power_w=tuple(map(float, power)),
            temperatures_c=warm,
            throttle=max(self.held_back, model.throttle.state(before.throttle, warm[0])),
            clock=clock,
            level=level,
            voltage_v=volts,
            current_a=amperes,
            charger=self.charger,
        )
        return self.state

    def carry_out(self, dt_s: float, busy_cores: ArrayLike) -> History:
        """Goes on by one step for each of `busy_cores`; the moment before the first of them is in the history too."""
        states = [self.state, *(self.step(dt_s, float(busy)) for busy in np.atleast_1d(np.asarray(busy_cores)))]
        return history(states)

    def _noise(self, dt_s: float) -> float:
        keep = float(np.exp(-dt_s / self.model.power.noise_s))
        self._wander = keep * self._wander + float(np.sqrt(1 - keep * keep)) * float(self._random.standard_normal())
        return max(-0.9, self.model.power.noise * self._wander)

    def _battery(self, dt_s: float, power_w: float) -> tuple[float, float, float]:
        battery, before = self.model.battery, self.state
        if battery is None:
            return before.level, 0.0, 0.0
        net_w = power_w - (battery.charger_w if self.charger and before.level < 1.0 else 0.0)
        if self.charger and before.level >= 1.0:
            net_w = 0.0
        amperes = battery.current_a(before.level, net_w)
        level = min(1.0, max(0.0, before.level - amperes * dt_s / battery.capacity_coulomb))
        return level, battery.open_v(before.level) - battery.resistance_ohm * amperes, amperes


def history(states: Sequence[State]) -> History:
    """The columns of states in the order of their times."""
    return History(
        times_s=np.array([s.time_s for s in states]),
        rails_j=np.array([s.rails_j for s in states]),
        temperatures_c=np.array([s.temperatures_c for s in states]),
        throttle=np.array([s.throttle for s in states], dtype=np.int64),
        clock=np.array([s.clock for s in states]),
        level=np.array([s.level for s in states]),
        voltage_v=np.array([s.voltage_v for s in states]),
        current_a=np.array([s.current_a for s in states]),
    )
