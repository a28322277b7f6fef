"""No answer of a device brings a reading down: facts and sensors never raise, a channel raises ParseError only."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readings_bundle import CAPTURED, read

from melt.errors import ParseError
from melt.readings import READINGS, Reading, absent, left_out, text_of
from melt.records import NAME, Captured

if TYPE_CHECKING:
    from melt.records import Channel

BUNDLES = [read(path.read_bytes()) for path in sorted(CAPTURED.glob("*.txt"))]
KNOWN = sorted({captured.data for bundle in BUNDLES for captured in bundle.values()})
EXAMPLES = 60

_words = st.sampled_from(
    [b"0", b"-1", b"9" * 30, b"max", b"1 0", b"\x00", b"[", b"cpu  1", b"0-8191", b":", b"\xff", b"\n", b" kB", b"0x"]
)
answers = st.one_of(
    st.binary(max_size=300),
    st.lists(_words, max_size=8).map(b"".join),
    st.integers(-(10**22), 10**22).map(lambda number: f"{number}\n".encode()),
    st.sampled_from(KNOWN),
    st.tuples(st.sampled_from(KNOWN), st.integers(0, 400)).map(lambda cut: cut[0][: cut[1]]),
)
errors = st.sampled_from([None, None, None, "missing", "denied", "hangs", "io: EAGAIN"])
numbers = st.sampled_from(["0", "1", "10", "007", "x y", "é", "9" * 25])


@st.composite
def captures_of(draw: st.DrawFn, reading: Reading) -> dict[str, Captured]:
    """Answers of any kind to paths that the reading's globs stand for."""
    sources = [" ".join(reading.argv)] if reading.argv else []
    for number in draw(st.lists(numbers, min_size=1, max_size=3, unique=True)):
        sources += [glob.replace("*", number) for glob in reading.paths]
    found = {}
    for source in sources:
        if draw(st.integers(0, 5)):
            error = draw(errors)
            found[source] = Captured(source, b"" if error else draw(answers), error)
    return found


@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS)
def test_a_reading_survives_any_answer(reading: Reading) -> None:
    silent = [fact.name for fact in reading.facts({})] if reading.facts else []

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(captures_of(reading))
    def survives(captures: dict[str, Captured]) -> None:
        if reading.facts:
            assert [fact.name for fact in reading.facts(captures)] == silent
        if reading.sensors:
            sensors = reading.sensors(captures)
            names = [channel.name for sensor in sensors for channel in sensor.channels]
            assert len(set(names)) == len(names)
            assert all(re.fullmatch(NAME, name) for name in names)
            for sensor in sensors:
                for channel in sensor.channels:
                    # what was found at the start is usable at the start
                    assert math.isfinite(channel.parse(text_of(captures, sensor)))
            assert (absent(reading, captures) == "") == bool(sensors)
        left_out(reading, captures)

    survives()


def parser_of(channel: Channel) -> str:
    """What tells one parser from another: its function and its settings, and not which rail or zone it looks for."""
    function = getattr(channel.parse, "func", channel.parse)
    named = f"{function.__module__}.{function.__qualname__}"
    # where a function lies in memory is another place in each worker that runs the tests
    settings = re.sub(r" at 0x[0-9a-f]+", "", str(getattr(channel.parse, "keywords", "")))
    return f"{channel.quantity} {named} {settings}"


# one channel of each parser: a hundred rails and zones are read alike
CHANNELS = {
    parser_of(channel): channel
    for bundle in BUNDLES
    for reading in READINGS.values()
    if reading.sensors
    for sensor in reading.sensors(bundle)
    for channel in sensor.channels
}


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_a_channel_gives_a_number_or_a_parse_error(name: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(answers)
    def gives(data: bytes) -> None:
        try:
            value = CHANNELS[name].parse(data)
        except ParseError:
            return
        assert isinstance(value, float)
        assert math.isfinite(value)

    gives()
