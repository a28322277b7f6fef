"""Listings of rails and batteries with some answers spoilt: no reading raises, or finds what it cannot use."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readings_bundle import CAPTURED, read

from melt.errors import ParseError
from melt.readings import READINGS, Reading, absent, found, left_out, text_of
from melt.records import NAME, Captured

if TYPE_CHECKING:
    from melt.records import Channel

POWER = ("ina3221", "ina238", "odpm", "pmic", "vcgencmd-throttled", "battery", "battery-dumpsys")
BUNDLES = [read(path.read_bytes()) for path in sorted(CAPTURED.glob("*-power.txt"))]
BUNDLES += [read(path.read_bytes()) for path in sorted(CAPTURED.glob("*-dumpsys.txt"))]
EVERYTHING = {source: captured for bundle in BUNDLES for source, captured in bundle.items()}
KNOWN = sorted({captured.data for bundle in BUNDLES for captured in bundle.values()})
EXAMPLES = 120

spoilt = st.one_of(
    st.binary(max_size=60),
    st.integers(-(10**21), 10**21).map(lambda number: f"{number}\n".encode()),
    st.sampled_from(KNOWN),
    st.sampled_from([b"", b"\n", b"NC\n", b"-0\n", b"1e3\n", b"nan\n", b"Battery\n", b"Full\n", "４２\n".encode()]),
    st.tuples(st.sampled_from(KNOWN), st.integers(0, 900), st.binary(max_size=4)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + 1 :]
    ),
)
errors = st.sampled_from(["missing", "denied", "hangs", "io: ENODATA"])


@st.composite
def listings(draw: st.DrawFn) -> dict[str, Captured]:
    """One listing, or all at once, of which a few answers are gone, failed, or something else."""
    captures = dict(draw(st.sampled_from([*BUNDLES, EVERYTHING])))
    for source in draw(st.lists(st.sampled_from(sorted(captures)), max_size=6, unique=True)):
        match draw(st.integers(0, 2)):
            case 0:
                del captures[source]
            case 1:
                captures[source] = Captured(source, error=draw(errors))
            case _:
                captures[source] = Captured(source, draw(spoilt))
    return captures


@pytest.mark.parametrize("name", POWER)
def test_a_power_reading_survives_a_spoilt_listing(name: str) -> None:
    reading: Reading = READINGS[name]

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(listings())
    def survives(captures: dict[str, Captured]) -> None:
        assert reading.sensors is not None
        sensors = reading.sensors(captures)
        channels = [channel for sensor in sensors for channel in sensor.channels]
        assert len({sensor.name for sensor in sensors}) == len(sensors)
        assert len({channel.name for channel in channels}) == len(channels)
        for sensor in sensors:
            assert sensor.channels
            assert re.fullmatch(NAME, sensor.name)
            for channel in sensor.channels:
                assert re.fullmatch(NAME, channel.name)
                assert channel.label
                assert math.isfinite(channel.parse(text_of(captures, sensor)))
        assert (absent(reading, captures) == "") == bool(sensors)
        assert all(left_out(reading, captures).values())

    survives()


def _channels() -> dict[str, Channel]:
    sensors = [s for bundle in BUNDLES for of_one in found(READINGS.values(), bundle).values() for s in of_one]
    return {channel.name: channel for sensor in sensors for channel in sensor.channels}


CHANNELS = _channels()


@settings(max_examples=40 * EXAMPLES, deadline=None)
@given(st.sampled_from(sorted(CHANNELS)), st.lists(spoilt, max_size=4).map(b"\n".join))
def test_a_channel_of_several_files_gives_a_number_or_a_parse_error(name: str, data: bytes) -> None:
    try:
        value = CHANNELS[name].parse(data)
    except ParseError:
        return
    assert isinstance(value, float)
    assert math.isfinite(value)
