"""The physics of a virtual board: energy that adds up, heat that settles, and a throttle that does not flutter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.virtual.kinds import KINDS
from melt.virtual.physics import Battery, Board, Heat, Model, Node, PowerModel, Rail, Throttle, Trip

MODEL = Model(
    PowerModel((Rail("a", 1.0, 3.0), Rail("b", 0.5, 1.0)), cores=4),
    Heat((Node("die", 8.0, 0.0, 0.8), Node("case", 60.0, 0.25))),
    Throttle((Trip(60.0, 0.8), Trip(70.0, 0.5))),
    Battery(3600.0),
)


def test_power_is_idle_and_what_busy_cores_add_and_falls_faster_than_the_clock() -> None:
    power = MODEL.power
    assert power.power_w(0.0).tolist() == [1.0, 0.5]
    assert power.power_w(4.0).tolist() == [4.0, 1.5]
    assert power.power_w(2.0).tolist() == [2.5, 1.0]
    assert power.power_w(99.0).tolist() == [4.0, 1.5]
    slow = power.power_w(4.0, 0.5) - power.power_w(0.0)
    assert slow.sum() == pytest.approx(4.0 * 0.5**2.3)
    assert power.power_w(np.zeros(5), np.ones(5)).shape == (5, 2)


def test_energy_is_the_sum_of_power_times_time_to_the_last_joule() -> None:
    board = Board(MODEL, seed=1)
    history = board.carry_out(0.1, [4.0] * 100 + [0.0] * 100)
    assert history.times_s[-1] == pytest.approx(20.0)
    assert history.total_j[-1] == pytest.approx(10 * 5.5 + 10 * 1.5)
    assert history.rails_j[-1].tolist() == pytest.approx([10 * 4.0 + 10 * 1.0, 10 * 1.5 + 10 * 0.5])
    assert np.all(np.diff(history.total_j) > 0)
    assert len(history.times_s) == 201


def test_the_same_seed_gives_the_same_noise_and_the_mean_stays() -> None:
    noisy = Model(PowerModel(MODEL.power.rails, 4, noise=0.05), MODEL.heat)
    first, again, other = (Board(noisy, seed).carry_out(0.1, [4.0] * 6000).total_j for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first[-1] == pytest.approx(5.5 * 600, rel=0.02)


@settings(deadline=None)
@given(st.floats(0.5, 12), st.floats(0.01, 30))
def test_heat_settles_where_it_should_however_long_the_steps_are(power_w: float, dt_s: float) -> None:
    heat = MODEL.heat
    now = heat.at_rest
    for _ in range(int(4000 / dt_s) + 1 if dt_s > 1 else 3000):
        now = heat.step(now, dt_s, power_w)
    if dt_s > 1:
        assert now == pytest.approx(heat.settled(power_w), abs=0.5)
    assert all(heat.ambient_c <= t <= want + 0.5 for t, want in zip(now, heat.settled(power_w), strict=True))
    assert heat.settled(power_w)[1] == pytest.approx(heat.ambient_c + power_w / 0.25)


def test_a_throttle_holds_until_it_is_cooler_by_its_hysteresis() -> None:
    throttle = MODEL.throttle
    assert [throttle.state(0, c) for c in (59.9, 60.0, 75.0)] == [0, 1, 2]
    assert throttle.state(1, 58.0) == 1
    assert throttle.state(1, 57.0) == 0
    assert throttle.state(2, 20.0) == 0
    assert [throttle.cap(s) for s in (0, 1, 2)] == [1.0, 0.8, 0.5]


def test_a_board_that_is_hot_is_slower_and_draws_less() -> None:
    board = Board(MODEL, settled_w=12.0)
    assert board.state.throttle == 2
    state = board.step(0.1, 4.0)
    assert state.clock == 0.5
    assert state.total_w < 3.0
    board.allowed = 0.1
    assert board.step(0.1, 4.0).clock == 0.1


def test_what_leaves_the_battery_is_what_the_board_draws() -> None:
    board = Board(MODEL, level=0.5)
    state = board.step(10.0, 4.0)
    assert state.voltage_v * state.current_a == pytest.approx(5.5)
    assert state.level == pytest.approx(0.5 - state.current_a * 10 / 3600)
    assert state.voltage_v < MODEL.battery.open_v(0.5)  # type: ignore[union-attr]
    board.charger = True
    assert board.step(10.0, 0.0).current_a < 0
    assert board.state.level > state.level


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_kind_idles_cool_and_is_warmed_by_its_work(kind: object) -> None:
    assert hasattr(kind, "model")
    board = Board(kind.model(2, 24.0), settled_w=kind.idle_w)
    assert board.state.temperatures_c[0] < 45
    assert board.state.throttle == 0
    board.carry_out(0.5, [2.0] * 120)
    assert board.state.temperatures_c[0] > 40
    names = {rail.name for rail in kind.rails}
    assert all(set(sensed.rails) <= names for sensed in kind.sensed.values())
    assert all(node < len(kind.heat.nodes) for node in kind.zones.values())
