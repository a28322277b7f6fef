"""The two mappings, meter to computer and computer to device: the truth lies inside the stated bound."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.errors import DeviceError
from melt.meters import arrival, pulses
from melt.meters.base import Block
from melt.meters.clock import MOST_DRIFT, RoundTrip, fit
from melt.meters.reducing import Reducer

S = 1_000_000_000


class Device:
    """A clock that starts elsewhere and runs at another rate, asked over a link whose two ways differ."""

    def __init__(self, offset_ns: int, drift: float) -> None:
        self.offset_ns, self.drift = offset_ns, drift

    def at(self, host_ns: int) -> int:
        return host_ns + self.offset_ns + round(host_ns * self.drift)

    def trip(self, host_ns: int, there_ns: int, back_ns: int) -> RoundTrip:
        return RoundTrip(
            sent_ns=host_ns, device_ns=self.at(host_ns + there_ns), received_ns=host_ns + there_ns + back_ns
        )


ways = st.tuples(st.integers(1_000, 30_000_000), st.integers(1_000, 30_000_000))


@given(
    offset=st.integers(-(10**15), 10**15),
    drift=st.floats(-2e-4, 2e-4),
    before=st.lists(ways, min_size=16, max_size=20),
    after=st.lists(ways, min_size=16, max_size=20),
    length_s=st.integers(1, 4000),
)
@settings(max_examples=300, deadline=None)
def test_the_truth_lies_inside_the_bound_wherever_the_answer_was_given(
    offset: int, drift: float, before: list[tuple[int, int]], after: list[tuple[int, int]], length_s: int
) -> None:
    device = Device(offset, drift)
    first = [device.trip(i * 100_000_000, *way) for i, way in enumerate(before)]
    last = [device.trip((10 + length_s) * S + i * 100_000_000, *way) for i, way in enumerate(after)]
    found = fit(first, last)
    shortest = [min(trips, key=lambda trip: trip.took_ns) for trips in (first, last)]
    assert found.bound_s <= max(t.took_ns for t in shortest) / 2e9 + 1e-6 * (length_s + 20)
    for host_ns in np.linspace(shortest[0].middle_ns, shortest[1].middle_ns, 7).astype(np.int64):
        mapped = int(found.device_ns(np.array([host_ns]))[0])
        assert abs(mapped - device.at(int(host_ns))) <= found.bound_s * S + 2


def test_the_bound_is_needed_where_all_answers_take_longer_than_the_questions() -> None:
    device = Device(-3 * S, 0.0)
    trips = [[device.trip(at * S + i * 1000, 1_000_000, 9_000_000) for i in range(16)] for at in (0, 60)]
    found = fit(*trips)
    off_s = abs(int(found.device_ns(np.array([30 * S]))[0]) - device.at(30 * S)) * 1e-9
    assert off_s == pytest.approx(0.004)
    assert 0.004 < found.bound_s < 0.0052


def test_without_round_trips_afterwards_the_bound_grows_with_the_length() -> None:
    device = Device(5 * S, 1e-4)
    trips = [device.trip(i * 1000, 100_000, 300_000) for i in range(16)]
    found = fit(trips, (), until_ns=100 * S)
    assert found.bound_s == pytest.approx(0.0002 + 0.02, rel=0.01)
    assert abs(int(found.device_ns(np.array([100 * S]))[0]) - device.at(100 * S)) <= found.bound_s * S


def test_a_clock_that_began_anew_or_stood_still_is_no_clock() -> None:
    before = [Device(500 * S, 0).trip(0, 100_000, 100_000)]
    for later in (Device(-50 * S, 0), Device(500 * S, 3 * MOST_DRIFT)):
        with pytest.raises(DeviceError, match="restarted or slept"):
            fit(before, [later.trip(60 * S, 100_000, 100_000)])
    with pytest.raises(DeviceError, match="never asked"):
        fit((), before)


# --------------------------------------------------------------------------------- the meter's own clock


@pytest.mark.parametrize("skew", [0.0, 80e-6, -120e-6])
@pytest.mark.parametrize("length_s", [2.0, 30.0, 900.0])
def test_the_line_under_the_arrivals_is_the_meters_clock(skew: float, length_s: float) -> None:
    rng = np.random.default_rng(7)
    own = np.arange(0.05, length_s, 0.05)
    truth = 10**12 + own * (1 + skew) * 1e9
    late = rng.exponential(0.004, own.size) + (rng.random(own.size) < 0.02) * 0.3
    found = arrival.fit(own, (truth + late * 1e9).astype(np.int64))
    off_s = np.abs(found.host_ns(own) - truth) * 1e-9
    assert off_s.max() <= found.bound_s + 0.0015
    assert found.bound_s < 0.003


def test_a_line_by_least_squares_would_be_late_by_the_mean() -> None:
    """Held against the way that is not taken, so that the test above says something."""
    rng = np.random.default_rng(7)
    own = np.arange(0.05, 60, 0.05)
    arrived = own + rng.exponential(0.02, own.size)
    line = np.polyval(np.polyfit(own, arrived, 1), own)
    assert np.abs(line - own).mean() > 0.015
    found = arrival.fit(own, (arrived * 1e9).astype(np.int64))
    assert np.abs(found.host_ns(own) * 1e-9 - own).max() < 0.002


def test_one_arrival_is_enough_and_a_wild_slope_is_not_believed() -> None:
    one = arrival.fit(np.array([3.0]), np.array([7 * S]))
    assert int(one.host_ns(np.array([4.0]))[0]) == 8 * S
    own = np.arange(1.0, 12.0)
    wild = arrival.fit(own, (own * 1.01e9).astype(np.int64))
    assert wild.skew == 0.0
    assert wild.bound_s > 0.05


# -------------------------------------------------------------------------------------------- reducing


def blocks(values: np.ndarray, sizes: list[int], lost: set[int], rate: float = 100_000.0) -> list[Block]:
    """`values` cut in pieces of these sizes, without the samples that were lost."""
    out, at = [], 0
    for size in itertools.cycle(sizes):
        if at >= values.size:
            return out
        here = [i for i in range(at, min(at + size, values.size)) if i not in lost]
        for _, run in itertools.groupby(enumerate(here), lambda pair: pair[1] - pair[0]):
            index = [i for _, i in run]
            out.append(Block(index[0], rate, values[index], at, voltage_v=np.full(len(index), 4.0)))
        at += size
    return out


@given(st.lists(st.integers(1, 977), min_size=1, max_size=5), st.sets(st.integers(0, 9_999), max_size=30))
@settings(max_examples=60, deadline=None)
def test_the_means_do_not_depend_on_how_the_samples_came(sizes: list[int], lost: set[int]) -> None:
    values = np.random.default_rng(3).random(10_000)
    reducer = Reducer(100_000.0)
    given_back = [b for block in blocks(values, sizes, lost) for b in reducer.take(block)]
    kept = np.setdiff1d(np.arange(10_000), sorted(lost))
    assert reducer.factor == 100
    assert reducer.lost == int(kept[-1]) - int(kept[0]) + 1 - kept.size
    means = {int(i): p for block in given_back for i, p in zip(block.index, block.power_w, strict=True)}
    for number in range(100):
        here = kept[kept // 100 == number]
        if here.size >= 90 and (number < 99 or here.size == 100):
            assert means[number] == pytest.approx(values[here].mean())
        elif here.size < 90:
            assert number not in means
    assert all(block.rate_hz == 1000.0 for block in given_back)
    assert all(block.current_a is None and np.all(block.voltage_v == 4.0) for block in given_back)


def test_a_mean_that_lacks_more_than_a_tenth_is_a_gap_and_one_that_lacks_less_is_none() -> None:
    values = np.ones(300)
    for gone, there in ((10, [0, 1, 2]), (11, [0, 2])):
        reducer = Reducer(100_000.0)
        found = [b for block in blocks(values, [300], set(range(120, 120 + gone))) for b in reducer.take(block)]
        assert [int(i) for block in found for i in block.index] == there


def test_a_slow_meter_passes_as_it_is_and_its_gaps_are_counted() -> None:
    reducer = Reducer(50.0)
    first = Block(10, 50.0, np.ones(5), 0)
    again = Block(13, 50.0, np.ones(4), 0)
    assert reducer.take(first) == (first,)
    assert [(b.first_index, len(b)) for b in reducer.take(again)] == [(15, 2)]
    assert reducer.take(Block(20, 50.0, np.ones(1), 0))[0].first_index == 20
    assert reducer.lost == 3


# ---------------------------------------------------------------------------------------------- pulses


def drawn(
    lag_s: float, noise_w: float, period_s: float = 0.001
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int]]]:
    """What a meter sees of pulses when its stamps are late by `lag_s`."""
    edges = [(int((5 + k * 0.3) * 1e9), int((5 + k * 0.3 + 0.17) * 1e9)) for k in range(10)]
    t = np.arange(4.5, 8.6, period_s)
    fine = np.arange(4.4, 8.7, 0.0001)
    busy = np.zeros(fine.size)
    for on, off in edges:
        busy[(fine >= on * 1e-9) & (fine < off * 1e-9)] = 2.0
    total = np.concatenate(([0], np.cumsum(busy) * 0.0001))
    at = np.interp(t - lag_s, fine, total[:-1])
    before = np.interp(t - lag_s - period_s, fine, total[:-1])
    power = 1.0 + (at - before) / period_s + np.random.default_rng(1).normal(0, noise_w, t.size)
    return (t * 1e9).astype(np.int64), power, edges


@pytest.mark.parametrize("lag_s", [0.0, 0.004, -0.0123, 0.05])
@pytest.mark.parametrize("period_s", [0.001, 0.01])
def test_the_lag_between_pulses_and_power_is_found(lag_s: float, period_s: float) -> None:
    t, power, edges = drawn(lag_s, 0.2, period_s)
    found = pulses.check(t, power, edges, period_s)
    assert found.lag_s == pytest.approx(lag_s, abs=0.0015)
    assert found.fit is not None
    assert found.fit > 0.8


def test_no_lag_is_told_where_the_power_does_not_follow() -> None:
    t, power, edges = drawn(0.0, 0.1)
    flat = pulses.check(t, np.random.default_rng(2).normal(1, 0.1, t.size), edges, 0.001)
    assert (flat.lag_s, flat.why) == (None, "the power does not follow the device's pulses: is it behind this meter?")
    assert pulses.check(t, power, [], 0.001).why == "the device drew no pulses"
    assert "gave 0 values" in (pulses.check(t + 10**12, power, edges, 0.001).why or "")


def test_pulses_are_read_from_the_devices_own_lines() -> None:
    lines = [b'{"t":1,"ev":"step.begin","i":0}', b'{"t":5,"ev":"step.end","i":0}', b"garbage", b"[]"]
    assert pulses.pulses_in(b"\n".join([*lines, b'{"t":7,"ev":"step.begin","i":1}'])) == ((1, 5),)
