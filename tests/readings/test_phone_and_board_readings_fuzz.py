"""No words of a phone or a board bring their parsers down: a value, or a ParseError."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readings_asked import DUMP, channels, facts

from melt.errors import ParseError
from melt.readings.android import properties
from melt.readings.clocks import device_hertz
from melt.readings.gpu import any_hertz, percent, thousandths
from melt.readings.jetson import clocks_held, memory_cap_hz, power_mode, power_mode_id, release
from melt.records import Captured

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = 150

_lines = st.sampled_from(
    [
        b"Thermal Status: 3\n",
        b"HAL Ready: true\n",
        b"HAL Ready: false\n",
        b"Current temperatures from HAL:\n",
        b"Current cooling devices from HAL:\n",
        b"\tTemperature{mValue=41.5, mType=0, mName=CPU, mStatus=0}\n",
        b"\tTemperature{mValue=NaN, mType=9, mName=, mStatus=}\n",
        b"\tTemperature{mName=a, mName=b, mType=-1, mValue=1e5}\n",
        b"\tCoolingDevice{mValue=2, mType=2, mName=thermal-cpufreq-0}\n",
        b"\tCoolingDevice{mValue=2.5, mType=x, mName=TYPE_CPU}\n",
        b"zone: 41000\n",
        b"zone=-41.5\n",
        b"[ro.product.model]: [a\nb]\n",
        b"[ro.soc.model]: []]\n",
        b"[]: [\n",
        b"NV Power Mode: MAXN\n",
        b"12\n",
        b"cpu0: Online=1 MinFreq=1 MaxFreq=2 CurrentFreq=1\n",
        b"EMC MinFreq=1 MaxFreq=2 CurrentFreq=1 FreqOverride=1\n",
        b"# R36 (release), REVISION: 4.3,\n",
        b"\xff\x00{}[]=,:",
    ]
)
words = st.one_of(st.binary(max_size=200), st.lists(_lines, max_size=12).map(b"".join))
PARSERS: list[Callable[[bytes], object]] = [
    any_hertz,
    clocks_held,
    device_hertz,
    memory_cap_hz,
    percent,
    power_mode,
    power_mode_id,
    release,
    thousandths,
]


@pytest.mark.parametrize("parse", PARSERS, ids=[getattr(parse, "__name__", "thousandths") for parse in PARSERS])
def test_a_parser_gives_a_value_or_a_parse_error(parse: Callable[[bytes], object]) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(words)
    def gives(data: bytes) -> None:
        try:
            value = parse(data)
        except ParseError:
            return
        assert isinstance(value, str) or math.isfinite(float(str(value)))

    gives()


@settings(max_examples=EXAMPLES, deadline=None)
@given(words, words)
def test_any_dump_is_survived_and_what_was_found_may_vanish(first: bytes, second: bytes) -> None:
    for name, channel in channels("thermalservice", {DUMP: Captured(DUMP, first)}).items():
        assert re.fullmatch(r"thermal\.[a-z0-9._-]+", name)
        assert math.isfinite(channel.parse(first))
        try:
            assert math.isfinite(channel.parse(second))
        except ParseError:
            continue


@settings(max_examples=EXAMPLES, deadline=None)
@given(words)
def test_any_properties_are_survived(data: bytes) -> None:
    assert all(isinstance(value, str) for value in properties(data).values())
    told_of = facts("getprop", {"getprop": Captured("getprop", data)})
    assert set(told_of) == set(facts("getprop", {}))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z.]{1,20}", fullmatch=True), st.text("ab[]: =", max_size=20), max_size=8))
def test_properties_that_were_printed_are_read_back(wanted: dict[str, str]) -> None:
    text = "".join(f"[{name}]: [{value}]\n" for name, value in wanted.items())
    assert properties(text.encode()) == wanted
