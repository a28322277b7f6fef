"""The small parsers that the readings are made of, each with what it must refuse."""

from __future__ import annotations

import re

import pytest

from melt.errors import ParseError
from melt.readings import matching
from melt.readings.base import NAME_LENGTH, Names, name_of
from melt.readings.cpuinfo import parse as parse_cpuinfo
from melt.readings.system import pretty_name
from melt.readings.text import as_ranges, cpu_list
from melt.readings.thermal import celsius, steps
from melt.records import NAME, Captured


@pytest.mark.parametrize(("text", "value"), [(b"45123\n", 45.123), (b"-5000", -5.0), (b"200000\n", 200.0)])
def test_millidegrees_become_degrees(text: bytes, value: float) -> None:
    assert celsius(text) == value


@pytest.mark.parametrize("text", [b"-274000\n", b"2147483647", b"0\n", b"45\n", b"", b"45.1", b"4_5000", b"\xb245000"])
def test_what_no_sensor_measures_is_not_a_temperature(text: bytes) -> None:
    with pytest.raises(ParseError):
        celsius(text)


def test_a_cooling_state_of_minus_one_is_off_and_others_below_zero_are_none() -> None:
    assert steps(b"-1\n") == 0
    assert steps(b"7\n") == 7
    with pytest.raises(ParseError):
        steps(b"-2\n")


@pytest.mark.parametrize(("text", "cpus"), [(b"0-3,5\n", (0, 1, 2, 3, 5)), (b"4 5 6\n", (4, 5, 6)), (b"0", (0,))])
def test_a_list_of_cpus_is_read_in_both_spellings_and_written_in_one(text: bytes, cpus: tuple[int, ...]) -> None:
    assert cpu_list(text) == cpus
    assert cpu_list(as_ranges(cpus).encode()) == cpus


def test_a_long_list_of_cpus_is_read_to_its_end() -> None:
    cpus = tuple(range(0, 1024, 2))
    assert cpu_list(" ".join(map(str, cpus)).encode()) == cpus


@pytest.mark.parametrize("text", [b"", b"3-1", b"0-99999", b"a", b"0--1", b"0,x"])
def test_what_is_no_list_of_cpus_is_refused(text: bytes) -> None:
    with pytest.raises(ParseError):
        cpu_list(text)


def test_the_name_of_a_system_is_unquoted() -> None:
    assert pretty_name(b'A=1\nPRETTY_NAME="A \\"b\\" \\$c"\n') == 'A "b" $c'
    assert pretty_name(b"PRETTY_NAME=Plain\n") == "Plain"
    with pytest.raises(ParseError):
        pretty_name(b'NAME="x"\n')


def test_names_keep_to_the_alphabet_and_the_length_and_never_collide() -> None:
    names = Names()
    given = [names.new(name_of("zone", kind)) for kind in ["A b", "a  B", "a b", "a-b.2", "é", "", "x" * 99, "x" * 99]]
    assert given[:3] == ["zone.a-b", "zone.a-b.2", "zone.a-b.3"]
    assert len(set(given)) == len(given)
    assert all(re.fullmatch(NAME, name) for name in given)
    assert max(map(len, given)) == NAME_LENGTH


def test_a_glob_stays_in_its_folder_and_counts_like_a_person() -> None:
    paths = ["/a/z10/t", "/a/z2/t", "/a/z2/t/t", "/a/z3/u", "/b/z1/t"]
    captures = {path: Captured(path) for path in paths} | {"/a/z0/t": Captured("/a/z0/t", error="missing")}
    assert list(matching(captures, "/a/z*/t")) == ["/a/z2/t", "/a/z10/t"]


def test_lines_after_the_last_processor_are_about_the_board() -> None:
    table = parse_cpuinfo(b"processor\t: 0\nCPU part\t: 0xd08\n\nHardware\t: BCM2835\n")
    assert table.first("Hardware") == "BCM2835"
    assert "Hardware" not in table.cpus[0]
