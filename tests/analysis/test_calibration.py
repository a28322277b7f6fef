"""What is told of a sensor, held against simulated ones whose truth is known, over seeds.

The simulated sensors are those of melt's virtual boards: they quantise, average, lag and add noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from melt.analysis.calibration import (
    Agreement,
    Followed,
    Gauge,
    against_constant,
    agreement,
    as_power,
    follow,
    gauge,
    plateaus,
)
from melt.analysis.refresh import Load, Refresh, refresh
from melt.analysis.trace import Series
from melt.virtual.sensors import SensorModel

BOOT_NS = 5 * 10**15
"""Weeks since boot, so that nothing rests on small stamps."""
ON_S, OFF_S, REST_S = 1.291, 1.180, 5.0
IDLE_W, STEP_W = 2.0, 4.0


@dataclass(frozen=True)
class Case:
    refresh_s: float
    lag_s: float
    averages: bool
    counts: bool = False
    noise: float = 0.02
    quantum: float = 0.01
    read_s: float = 0.02
    length_s: float = 60.0
    gain: float = 1.0
    offset: float = 0.0


def record(case: Case, seed: int) -> tuple[Series, Load]:
    """A device under pulses, with warming up and a slow wander, as this sensor shows it to reads that are late."""
    random = np.random.default_rng(seed)
    pulses = int(case.length_s / (ON_S + OFF_S))
    begin = REST_S + np.arange(pulses) * (ON_S + OFF_S) + random.exponential(0.001, pulses)
    edges = np.stack([begin, begin + ON_S + random.exponential(0.001, pulses)], axis=1)
    true_s = np.arange(0, REST_S + case.length_s + 2, 0.002)
    busy = np.searchsorted(edges.ravel(), true_s, "right") % 2
    watts = IDLE_W + STEP_W * busy + 0.3 * (1 - np.exp(-true_s / 40)) + 0.05 * np.sin(true_s / 3)
    joules = np.concatenate([[0.0], np.cumsum(watts[:-1]) * 0.002])
    sensor = SensorModel(
        refresh_s=case.refresh_s,
        averages=case.averages,
        counts=case.counts,
        lag_s=case.lag_s,
        gain=case.gain,
        offset=case.offset,
        noise=0.0 if case.counts else case.noise,
        quantum=1e-6 if case.counts else case.quantum,
        phase_s=float(random.uniform(0, case.refresh_s)),
        seed=seed,
    )
    reads = np.arange(0, REST_S + case.length_s, case.read_s)
    reads = np.sort(reads + random.exponential(0.0005, reads.size))
    stamps = (reads * 1e9).astype(np.int64) + BOOT_NS
    at = (edges * 1e9).astype(np.int64) + BOOT_NS
    return Series(stamps, sensor.sample(reads, true_s, joules)), Load(at[:, 0], at[:, 1])


def told(case: Case, seed: int) -> tuple[Refresh, Followed]:
    series, load = record(case, seed)
    found = refresh(series, load)
    followed = follow(series, load, found, counts=case.counts)
    assert isinstance(followed, Followed), (case, seed, followed)
    return found, followed


def lag(seed: int) -> float:
    return float(np.random.default_rng(seed + 999).uniform(0, 0.3))


# ----------------------------------------------------------------------------------------------------- refresh


@pytest.mark.parametrize("averages", [True, False])
@pytest.mark.parametrize(
    ("refresh_s", "quantum"),
    [*((period, 0.01) for period in (0.05, 0.1, 0.237, 0.5, 1.0, 2.0)), *((p, 0.5) for p in (0.05, 0.1, 0.237, 1.0))],
)
def test_the_refresh_period_is_within_ten_percent(refresh_s: float, quantum: float, averages: bool) -> None:
    for seed in range(4):
        series, load = record(Case(refresh_s, lag(seed), averages, quantum=quantum), seed)
        found = refresh(series, load)
        assert found.refresh_s == pytest.approx(refresh_s, rel=0.1), (seed, found)
        assert not found.at_most


@pytest.mark.parametrize("refresh_s", [0.0005, 0.01, 0.02, 0.031])
def test_a_value_that_is_new_oftener_than_it_can_be_told_is_bounded_and_never_given_a_period(refresh_s: float) -> None:
    for seed in range(4):
        found = refresh(*record(Case(refresh_s, 0.1, averages=True), seed))
        assert found.at_most
        assert found.refresh_s is not None
        assert refresh_s <= found.refresh_s * 1.05
        assert found.refresh_s <= 2.1 * 0.02


def test_a_sensor_that_is_late_now_and_then_on_a_busy_device_keeps_its_period() -> None:
    random = np.random.default_rng(4)
    for _ in range(5):
        made = np.arange(1, 400) * 0.125 + np.where(random.random(399) < 0.12, random.uniform(0.08, 0.115, 399), 0.0)
        reads = np.arange(0, 50, 0.02)
        shown = np.searchsorted(np.sort(made), reads).astype(np.float64)
        found = refresh(Series((reads * 1e9).astype(np.int64), shown))
        assert found.refresh_s == pytest.approx(0.125, rel=0.1)
        assert not found.at_most


def test_a_sensor_without_noise_that_shows_the_edges_only_is_not_given_the_loads_period() -> None:
    for seed in range(6):
        series, load = record(Case(0.1, 0.1, averages=False, noise=0.0, quantum=0.5), seed)
        found = refresh(series, load)
        assert found.refresh_s is None or found.refresh_s == pytest.approx(0.1, rel=0.1), (seed, found)


def test_a_value_that_stands_still_or_changes_at_random_has_no_period_and_says_so() -> None:
    still = refresh(Series(np.arange(100) * 10**8, np.ones(100)))
    assert still.refresh_s is None
    assert still.reason == "its value did not change in 10 s"
    random = np.random.default_rng(3)
    at = np.sort(random.choice(4000, 60, replace=False))
    odd = refresh(Series(np.arange(4000) * 10**7, np.searchsorted(at, np.arange(4000)).astype(np.float64)))
    assert odd.refresh_s is None
    assert "irregularly" in (odd.reason or "")


def test_a_gauge_that_keeps_no_step_has_its_mean_period() -> None:
    random = np.random.default_rng(5)
    at = np.cumsum(random.uniform(4.6, 5.4, 40))
    reads = np.arange(0, 195, 0.1)
    found = refresh(Series((reads * 1e9).astype(np.int64), np.searchsorted(at, reads).astype(np.float64)))
    assert found.refresh_s == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("reads", [0, 1, 2])
def test_too_few_reads_are_no_error(reads: int) -> None:
    assert refresh(Series(np.arange(reads) * 10**9, np.arange(reads).astype(np.float64))).refresh_s is None


# ---------------------------------------------------------------------------------------------------- response


@pytest.mark.parametrize("refresh_s", [0.05, 0.1, 0.25, 0.5])
def test_the_lag_is_within_50_ms_inside_its_error_and_averaging_is_told(refresh_s: float) -> None:
    off, inside, right = [], [], []
    for averages in (True, False):
        for seed in range(12):
            _, followed = told(Case(refresh_s, lag(seed), averages), seed)
            off.append(abs(followed.lag_s - lag(seed)))
            inside.append(off[-1] <= followed.lag_error_s)
            right.append(followed.averages is averages)
            assert followed.step == pytest.approx(STEP_W, rel=0.03)
    assert max(off) <= 0.05
    assert np.mean(inside) >= 0.9
    assert np.mean(right) >= 0.95


@pytest.mark.parametrize("refresh_s", [0.001, 0.1, 0.5])
def test_a_counters_lag_is_told_from_its_differences(refresh_s: float) -> None:
    for seed in range(4):
        _, followed = told(Case(refresh_s, lag(seed), averages=True, counts=True), seed)
        assert followed.lag_s == pytest.approx(lag(seed), abs=0.05)
        assert followed.averages is True
        assert followed.step == pytest.approx(STEP_W, rel=0.05)


def test_where_the_two_ways_look_alike_what_is_assumed_decides_the_lag() -> None:
    series, load = record(Case(0.1, 0.15, averages=True, read_s=0.1), 3)
    found = Refresh(0.1, None, 0.1, len(series), len(series), at_most=True)
    momentary, averaging = (follow(series, load, found, assumed=assumed) for assumed in (None, True))
    assert isinstance(momentary, Followed)
    assert isinstance(averaging, Followed)
    assert momentary.averages is averaging.averages is None
    assert momentary.lag_s - averaging.lag_s == pytest.approx(0.05, abs=0.02)


def test_a_slow_sensor_is_still_told_with_an_error_that_is_larger() -> None:
    quick, slow = (told(Case(period, 0.2, averages=False), 1)[1] for period in (0.1, 2.0))
    assert slow.lag_s == pytest.approx(0.2, abs=max(0.05, slow.lag_error_s))
    assert slow.lag_error_s > quick.lag_error_s


def test_what_does_not_follow_the_load_is_a_sentence() -> None:
    series, load = record(Case(0.1, 0.1, averages=True), 1)
    random = np.random.default_rng(1)
    noise = Series(series.t, np.round(random.normal(size=len(series)), 3))
    assert follow(noise, load, refresh(noise, load)) == "its value does not follow the load"
    still = Series(series.t, np.ones(len(series)))
    assert "did not change" in str(follow(still, load, refresh(still, load)))
    few = Load(load.begin[:2], load.end[:2])
    assert "2 pulses" in str(follow(series, few, refresh(series)))


def test_a_value_that_the_load_lowers_does_not_follow_it() -> None:
    series, load = record(Case(0.1, 0.1, averages=True), 2)
    upside_down = Series(series.t, -series.v)
    found = follow(upside_down, load, refresh(upside_down, load))
    # half a period later it would look as if it followed; that is no lag below the pause
    assert isinstance(found, str) or found.lag_s > OFF_S / 2


# ------------------------------------------------------------------------------------------------ gain, offset


def test_gain_and_offset_against_another_channel_are_inside_their_errors() -> None:
    inside = []
    for seed in range(20):
        series, load = record(Case(0.1, 0.1, averages=True, gain=1.03, offset=0.2), seed)
        trusted, _ = record(Case(0.05, 0.0, averages=True, noise=0.005), seed)
        found = agreement(plateaus(series, load, 0.3)[0], plateaus(trusted, load, 0.3)[0])
        assert isinstance(found, Agreement)
        assert found.gain == pytest.approx(1.03, abs=0.01)
        assert found.offset == pytest.approx(0.2, abs=0.05)
        inside.append(abs(found.gain - 1.03) <= 2.5 * found.gain_error)
    assert np.mean(inside) >= 0.85


def test_a_constant_load_tells_the_gain_and_a_counter_is_made_power() -> None:
    t = np.arange(0, 20, 0.02)
    counter = Series((t * 1e9).astype(np.int64), np.floor(t / 0.1) * 0.1 * 5.1)
    found = against_constant(as_power(counter), 0, 20 * 10**9, 5.0)
    assert isinstance(found, Agreement)
    assert found.gain == pytest.approx(1.02, abs=0.005)
    assert "values only" in str(against_constant(as_power(counter), 0, 10**8, 5.0))


def test_a_reference_that_does_not_move_tells_nothing() -> None:
    assert "did not change" in str(agreement(np.arange(10.0), np.ones(10)))
    assert "needed" in str(agreement(np.arange(3.0), np.arange(3.0)))


# -------------------------------------------------------------------------------------------- a battery's gauge


def gauge_record(per_a: float, sign: int, *, step_a: float = 0.8, seed: int = 0) -> tuple[Series, Load]:
    """A gauge with a new value every 2 s under five slow pulses."""
    random = np.random.default_rng(seed)
    begin = 5.0 + np.arange(5) * 64.0
    load = Load((begin * 1e9).astype(np.int64), ((begin + 33) * 1e9).astype(np.int64))
    reads = np.arange(0, 325, 0.5)
    made = np.floor(reads / 2) * 2
    busy = ((made - 5.0) % 64 < 33) & (made >= 5)
    noise = random.normal(0, 0.02, 400)[(made / 2).astype(int)]
    amperes = 0.35 + step_a * busy + noise
    return Series((reads * 1e9).astype(np.int64), np.round(sign * amperes * per_a)), load


@pytest.mark.parametrize(("unit", "per_a"), [("ua", 1e6), ("ma", 1e3)])
@pytest.mark.parametrize(("discharging", "sign"), [("negative", -1), ("positive", 1)])
def test_unit_and_sign_of_a_gauge_are_told(unit: str, per_a: float, discharging: str, sign: int) -> None:
    for seed in range(10):
        found = gauge(*gauge_record(per_a, sign, seed=seed), settle_s=6)
        assert isinstance(found, Gauge), found
        assert (found.unit, found.discharging) == (unit, discharging)
        assert found.loaded_a == pytest.approx(1.15, rel=0.1)


def test_an_ambiguous_gauge_gives_no_result_and_says_why() -> None:
    still = str(gauge(*gauge_record(1e6, -1, step_a=0.0), settle_s=6))
    assert "does not raise the current" in still
    assert "no plausible current" in str(gauge(*gauge_record(15_500, -1), settle_s=6))
    assert "no plausible current" in str(gauge(*gauge_record(8.0, -1), settle_s=6))
    raw, load = gauge_record(1e6, -1)
    both = Series(raw.t, np.where(np.arange(len(raw)) % 200 < 100, raw.v, -raw.v))
    assert "changes its sign" in str(gauge(both, load, settle_s=6))
    assert "needed" in str(gauge(Series(raw.t[:3], raw.v[:3]), load, settle_s=6))


def test_heavier_noise_than_the_load_is_ambiguous_too() -> None:
    raw, load = gauge_record(1e6, -1, step_a=0.002)
    assert isinstance(gauge(raw, load, settle_s=6), str)
