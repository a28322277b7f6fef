"""What a job wrote, read tolerantly: cut anywhere it gives what came before, and garbage is a row that says so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.errors import ParseError
from melt.job import ENGINE_SENSOR, notes, read_trace
from melt.job.trace import COLUMNS, unescape
from melt.records import Channel, Sensor

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

HEADER = "due_ns,t_ns,read_ns,sensor,error,raw\n"


def number(raw: bytes) -> float:
    try:
        return float(raw) / 1000
    except ValueError:
        raise ParseError("not a number", raw) from None


def word(index: int) -> Channel:
    def parse(raw: bytes) -> float:
        try:
            return float(raw.split()[index])
        except (ValueError, IndexError):
            raise ParseError("not enough words", raw) from None

    return Channel(f"pair.{index}", "count", parse)


SENSORS = (
    Sensor("zone.cpu", (Channel("zone.cpu", "temperature", number),), 0.1, path="/sys/zone"),
    Sensor("pair", (word(0), word(1)), 0.1, path="/sys/pair"),
    ENGINE_SENSOR,
)
SAMPLE = (
    f"{HEADER}"
    '1000,1010,50,zone.cpu,,"41500"\n'
    '1000,1020,60,pair,,"7 8\\n9"\n'
    '1000,1030,70,engine,,"hwm_kb 1644 anon_kb 112 file_kb 1200 shmem_kb 0 swap_kb 0 majflt 3 cpu_ticks 50 hz 100"\n'
    '2000,2010,50,zone.cpu,EIO,""\n'
    '2000,2020,60,pair,,"7 ""eight"", nine"\n'
    '2000,2030,0,zone.cpu,hang,""\n'
    '3000,3010,50,zone.cpu,,"-500"\n'
)
ROWS = 1 + 2 + 7 + 1 + 2 + 1 + 1


def read(tmp_path: Path, text: str | bytes) -> pd.DataFrame:
    path = tmp_path / "trace.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("latin-1"))
    frame = read_trace(path, SENSORS)
    assert tuple(frame.columns) == COLUMNS
    assert [str(frame[c].dtype) for c in ("t_ns", "due_ns", "read_ns", "value")] == ["int64"] * 3 + ["float64"]
    # a row has a value or an error, and one of them
    assert (frame["value"].isna() == frame["error"].notna()).all()
    return frame


def rows(frame: pd.DataFrame) -> list[list[object]]:
    return frame.astype(object).where(frame.notna(), None).to_numpy().tolist()


def test_a_trace_is_one_row_a_channel_and_sample_in_its_unit(tmp_path: Path) -> None:
    frame = read(tmp_path, SAMPLE)
    assert len(frame) == ROWS
    assert frame["t_ns"].is_monotonic_increasing
    first = frame.iloc[0]
    assert (first["t_ns"], first["due_ns"], first["read_ns"]) == (1010, 1000, 50)
    assert (first["sensor"], first["channel"], first["value"]) == ("zone.cpu", "zone.cpu", 41.5)
    engine = frame[frame["sensor"] == "engine"].set_index("channel")["value"]
    assert engine["engine.vm_hwm"] == 1644 * 1024
    assert engine["engine.cpu_s"] == 0.5
    assert engine["engine.majflt"] == 3
    assert list(frame[frame["channel"] == "zone.cpu"]["error"].fillna("")) == ["", "EIO", "hang", ""]


def test_a_text_that_its_parser_cannot_read_is_a_row_that_says_garbage(tmp_path: Path) -> None:
    frame = read(tmp_path, SAMPLE)
    pair = frame[(frame["sensor"] == "pair") & (frame["t_ns"] == 2020)]
    assert list(pair["error"].fillna("")) == ["", "garbage"]
    assert pair["value"].iloc[0] == 7


@pytest.mark.parametrize(
    "raw", ["", "\x85", "1\x0b2", "nan", "inf", "-inf", "1e999", "0x10", "41500 C", "\\x00", "é", "9" * 400]
)
def test_a_value_that_is_no_finite_number_is_garbage(tmp_path: Path, raw: str) -> None:
    frame = read(tmp_path, f'{HEADER}1,1,1,zone.cpu,,"{raw}"\n')
    assert list(frame["error"]) == ["garbage"]


def test_cut_at_any_byte_a_trace_gives_the_rows_before(tmp_path: Path) -> None:
    whole = read(tmp_path, SAMPLE)
    data = SAMPLE.encode()
    counts = []
    for end in range(len(data) + 1):
        part = read(tmp_path, data[:end])
        assert rows(part) == rows(whole)[: len(part)]
        counts.append(len(part))
    assert counts == sorted(counts)
    assert (counts[0], counts[-2], counts[-1]) == (0, ROWS - 1, ROWS)


def test_a_missing_empty_or_headless_trace_has_no_rows(tmp_path: Path) -> None:
    assert tuple(read_trace(tmp_path / "missing", SENSORS).columns) == COLUMNS
    for text in ("", "\n", HEADER, HEADER[:-1], "\n\n\n"):
        assert read(tmp_path, text).empty


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1,2,3",
        '1,2,3,zone.cpu,,"1",more',
        '1,2,3,unknown,,"1"',
        'x,2,3,zone.cpu,,"1"',
        '1,,3,zone.cpu,,"1"',
        '1.5,2,3,zone.cpu,,"1"',
        '1_0,2,3,zone.cpu,,"1"',
        ' 1,2,3,zone.cpu,,"1"',
        '²,2,3,zone.cpu,,"1"',
        f'{2**63},2,3,zone.cpu,,"1"',
        f'1,{10**30},3,zone.cpu,,"1"',
        f'1,{"9" * 5000},3,zone.cpu,,"1"',
        '1,2,3,zone.cpu,,"open',
        '"1,2,3,zone.cpu,,1',
        '1,2,3,zone.cpu,,"' + "x" * 200_000 + '"',
        "1,2,3,zone.cpu,,a\rb",
        "\x85\x0b\x0c\x1c\x1d\x1e\xa0",
        "\0" * 100,
    ],
)
def test_a_broken_line_costs_itself_and_no_other(tmp_path: Path, line: str) -> None:
    good = '1,2,3,zone.cpu,,"1000"\n', '4,5,6,zone.cpu,,"2000"\n'
    frame = read(tmp_path, f"{HEADER}{good[0]}{line}\n{good[1]}")
    clean = frame[frame["error"].isna()]
    assert [value for value in clean["value"] if value in (1.0, 2.0)] == [1.0, 2.0]
    assert len(frame) <= 3


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_never_raise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("random")
    read(folder, HEADER.encode() + data)
    read(folder, b'x\n1,2,3,zone.cpu,,"' + data + b'"\n')


def test_rows_are_sorted_by_time_and_those_of_one_moment_keep_their_order(tmp_path: Path) -> None:
    rows = [(5, "1000"), (3, "2000"), (5, "3000"), (-1, "4000")]
    frame = read(tmp_path, HEADER + "".join(f'1,{t},1,zone.cpu,,"{raw}"\n' for t, raw in rows))
    assert list(zip(frame["t_ns"], frame["value"], strict=True)) == [(-1, 4.0), (3, 2.0), (5, 1.0), (5, 3.0)]


@given(st.binary())
def test_what_the_agent_escapes_comes_back_as_it_was(raw: bytes) -> None:
    def one(byte: int) -> bytes:
        plain = {0x0A: b"\\n", 0x5C: b"\\\\"}
        return plain.get(byte) or (bytes([byte]) if 0x20 <= byte < 0x7F else b"\\x%02x" % byte)

    assert unescape(b"".join(map(one, raw))) == raw


def test_an_escape_that_is_none_stays_as_it_is() -> None:
    for raw in (b"\\", b"\\q", b"\\x", b"\\x1", b"\\xZZ", b"\\X41"):
        assert unescape(raw) == raw


@pytest.mark.parametrize(
    "raw", ["", "hwm_kb", "hwm_kb x", "anon_kb 1", "cpu_ticks 5 hz 0", "cpu_ticks 5", "hwm_kb 1 2 3", "hwm_kb nan"]
)
def test_the_agents_line_about_the_engine_may_lack_anything(tmp_path: Path, raw: str) -> None:
    frame = read(tmp_path, f'{HEADER}1,1,1,engine,,"{raw}"\n')
    assert len(frame) == len(ENGINE_SENSOR.channels)
    for value in frame["value"].dropna():
        assert math.isfinite(value)


def test_every_channel_of_a_trace_is_explained() -> None:
    told = notes(SENSORS)
    assert set(told) == {"zone.cpu", "pair.0", "pair.1", *(c.name for c in ENGINE_SENSOR.channels)}
    assert (told["zone.cpu"].unit, told["zone.cpu"].source, told["zone.cpu"].period_s) == ("c", "/sys/zone", 0.1)
