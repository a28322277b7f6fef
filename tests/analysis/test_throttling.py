"""Throttling, low voltage and chargers are what the device says of itself in the measured window, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from raw_run import events_of, note, told, trace_of

from melt.analysis.events import Asked
from melt.analysis.verdict import judge

STEADY = np.full(600, 0.1)
PIN_HZ = 2.0e9
PINNED = Asked(pins={"cpu.policy0": PIN_HZ})


def reasons(asked: Asked | None = None, **channels: Any) -> dict[str, str]:
    """What is said of a minute's run whose channels are functions of the seconds, by code."""
    events = events_of(STEADY)
    named = {name.replace("__", "."): value for name, value in channels.items()}
    quantity = {
        "throttle": "throttle",
        "thermal": "throttle",
        "cooling": "cooling",
        "cpu": "clock",
        "zone": "temperature",
    }
    notes = {name: note(quantity[name.split(".")[0]]) for name in named if name.split(".")[0] in quantity}
    found = judge(told(events), trace_of(events, named), notes, asked or Asked())
    return {reason.code.value: reason.detail for reason in found}


def test_a_bit_that_comes_on_or_was_on_all_along_is_throttling() -> None:
    said = reasons(throttle__throttled=lambda t: 1.0 * (t > 30))
    assert said == {"throttled": "throttle.throttled rose from 0 to 1"}
    assert reasons(throttle__throttled=lambda t: 1 + 0 * t) == {"throttled": "throttle.throttled was 1 while measuring"}
    assert reasons(throttle__throttled=lambda t: 0 * t) == {}


def test_a_status_that_was_up_before_the_measurement_alone_is_none() -> None:
    assert reasons(thermal__status=lambda t: 2.0 * (t < 0.5)) == {}
    assert "thermal.status rose from 0 to 3" in reasons(thermal__status=lambda t: 3.0 * (t > 20))["throttled"]


def test_a_bit_that_remembers_since_the_device_started_counts_where_it_rises() -> None:
    assert reasons(throttle__throttled_since_boot=lambda t: 1 + 0 * t) == {}
    assert set(reasons(throttle__throttled_since_boot=lambda t: 1.0 * (t > 30))) == {"throttled"}


def test_low_voltage_is_a_reason_of_its_own_in_a_sustained_cell_too() -> None:
    low = {"throttle__under_voltage": lambda t: 1.0 * (t > 30)}
    assert set(reasons(**low)) == set(reasons(Asked(mode="sustained"), **low)) == {"under_voltage"}
    assert "a stronger supply" in reasons(**low)["under_voltage"]
    assert reasons(throttle__under_voltage_since_boot=lambda t: 1 + 0 * t) == {}


def test_in_a_sustained_cell_heat_is_the_result() -> None:
    hot = {"throttle__throttled": lambda t: 1.0 * (t > 30), "cpu__policy0": lambda t: np.where(t > 30, 1e9, PIN_HZ)}
    assert reasons(Asked(mode="sustained", pins=PINNED.pins), **hot) == {}


@pytest.mark.parametrize(
    ("clock", "throttled"),
    [
        (lambda t: PIN_HZ + 0 * t, False),
        (
            lambda t: PIN_HZ * np.where(np.abs(t % 10 - 5) < 0.1, 0.6, 1.0),
            False,
        ),  # between states
        (lambda t: PIN_HZ * np.where(t > 45, 0.95, 1.0), True),
        (lambda t: PIN_HZ * np.where((t > 20) & (t < 30), 0.5, 1.0), True),
        (lambda t: PIN_HZ * np.where(t < 0.6, 0.5, 1.0), False),
    ],
)
def test_a_clock_off_its_pin_while_the_engine_is_busy_is_throttling(clock: Any, throttled: bool) -> None:
    said = reasons(PINNED, cpu__policy0=clock, engine__cpu_s=lambda t: 2.0 * t, cpu__busy_s=lambda t: 2.0 * t)
    assert ("throttled" in said) is throttled
    assert not throttled or "was pinned at 2000 MHz and ran at" in said["throttled"]


def test_a_clock_off_its_pin_while_the_engine_waits_or_without_a_pin_is_none() -> None:
    slow = {"cpu__policy0": lambda t: 1e9 + 0 * t}
    assert reasons(PINNED, **slow, engine__cpu_s=lambda t: 0.1 * t, cpu__busy_s=lambda t: 0.1 * t) == {}
    assert set(reasons(PINNED, **slow)) == {"throttled"}
    assert reasons(None, **slow) == {}


def test_a_sensor_that_vanished_is_named() -> None:
    gone = {name: (lambda t: np.where(t > 20, np.nan, 40.0)) for name in ("zone__a", "zone__b")}
    said = reasons(zone__c=lambda t: 40 + 0 * t, **gone)
    assert said["sensor_gap"].startswith("zone.a, zone.b vanished 16.3 s into")
    paused = reasons(zone__a=lambda t: np.where((t > 20) & (t < 22), np.nan, 40.0))
    assert paused["sensor_gap"].startswith("zone.a gave no value for 2")
