"""The event file of a job: cut anywhere it gives what came before, and millions of inferences are a few arrays."""

from __future__ import annotations

import io
import itertools
import json
import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from melt.job import parse_events, read_events
from melt.job.events import MAX_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from melt.analysis.events import RunEvents

Inference = tuple[int, int, int]
"""Number, begin, end."""

EVENTS = (
    '{"t":10,"ev":"agent.begin","boot_id":"b","note":"caf\\u00e9 \\ud83d\\ude00"}\n'
    '{"t":20,"ev":"infer.begin","i":0}\n'
    '{"t":30,"ev":"infer.end","i":0}\n'
    '{"t":30,"ev":"unknown.kind","deep":{"a":[1,2,{"b":null}]}}\n'
    '{"t":50,"ev":"infer.batch","i":1,"ns":[0,9,1,9]}\n'
    '{"t":90,"ev":"done"}\n'
)


def told_by(text: str | bytes) -> RunEvents:
    return parse_events(io.BytesIO(text if isinstance(text, bytes) else text.encode()))


def events_of(text: str | bytes) -> list[tuple[int, str]]:
    return [(event.t, event.ev) for event in told_by(text).landmarks]


def inferences_of(told: RunEvents) -> list[Inference]:
    done = told.inferences
    return list(zip(done.i.tolist(), done.begin.tolist(), done.end.tolist(), strict=True))


def line(t: int, ev: str, **fields: Any) -> str:
    return json.dumps({"t": t, "ev": ev, **fields}, separators=(",", ":")) + "\n"


def batch(inferences: Sequence[Inference]) -> str:
    """Inferences whose numbers follow each other, as one line."""
    ns = []
    for number, (_, begin, end) in enumerate(inferences):
        ns += [begin - inferences[number - 1][2] if number else 0, end - begin]
    return line(inferences[0][1], "infer.batch", i=inferences[0][0], ns=ns)


def test_cut_at_any_byte_the_events_before_are_read() -> None:
    whole = events_of(EVENTS)
    assert [ev for _, ev in whole] == ["agent.begin", "unknown.kind", "done"]
    data = EVENTS.encode()
    seen = []
    for end in range(len(data) + 1):
        told = told_by(data[:end])
        part = [(event.t, event.ev) for event in told.landmarks]
        assert part == whole[: len(part)]
        all_of_it = [(0, 20, 30), (1, 50, 59), (2, 60, 69)]
        assert inferences_of(told) in ([], all_of_it[:1], all_of_it)
        seen.append((len(part), len(told.inferences), told.inferences.died_in))
    assert list(dict.fromkeys(seen)) == [(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 0), (2, 3, 0), (3, 3, 0)]


def test_what_belongs_to_an_event_is_kept_also_when_nobody_knows_it() -> None:
    first, unknown, _ = told_by(EVENTS).landmarks
    assert first.get("note") == "café 😀"
    assert unknown.get("deep") == {"a": [1, 2, {"b": None}]}
    assert unknown.get("nothing", 7) == 7


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"t"',
        b"{}",
        b'{"t":1}',
        b'{"ev":"x"}',
        b'{"t":null,"ev":"x"}',
        b'{"t":1.5,"ev":"x"}',
        b'{"t":NaN,"ev":"x"}',
        b'{"t":Infinity,"ev":"x"}',
        b'{"t":1e30,"ev":"x"}',
        b'{"t":99999999999999999999,"ev":"x"}',
        b'{"t":-99999999999999999999,"ev":"x"}',
        b'{"t":' + b"9" * 5000 + b',"ev":"x"}',
        b'{"t":1,"ev":7}',
        b'{"t":1,"ev":"\\ud800"}',
        b'{"t":1,"ev":"x","message":"\\ud800"}',
        b'{"t":1,"ev":"\xff\xfe"}',
        b'{"t":1,"ev":"x"} {"t":2,"ev":"y"}',
        b'{"t":1,"ev":"x",}',
        b"{'t':1,'ev':'x'}",
        b'{"t":1,"ev":"x","deep":' + b"[" * 100_000,
        b'{"t":1,"ev":"x","deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"\0" * 1000,
        b'{"t":1,"ev":"x","fill":"' + b"x" * MAX_LINE_BYTES + b'"}',
        b'{"t":1,"ev":"infer.batch","i":1,"ns":[' + b"0,1," * (MAX_LINE_BYTES // 4) + b"0,1]}",
        b"x" * (9 << 20),
    ],
)
def test_a_line_that_is_no_event_costs_itself_and_no_other(odd: bytes) -> None:
    told = told_by(b'{"t":5,"ev":"a"}\n' + odd + b'\n{"t":6,"ev":"b"}\n')
    assert [(event.t, event.ev) for event in told.landmarks] == [(5, "a"), (6, "b")]
    assert (len(told.inferences), told.inferences.died_in) == (0, 0)


def test_odd_numbers_beside_an_event_are_kept_as_they_are() -> None:
    (event,) = told_by('{"t":1,"ev":"x","a":NaN,"b":1e999,"c":123456789012345678901234567890,"t2":true}\n').landmarks
    assert math.isnan(event.get("a"))
    assert event.get("c") == 123456789012345678901234567890


def test_events_of_one_stamp_keep_their_order_and_the_others_are_sorted() -> None:
    order = [(7, "c"), (5, "a"), (5, "b"), (7, "d"), (-3, "first")]
    assert events_of("".join(line(*one) for one in order)) == [(-3, "first"), (5, "a"), (5, "b"), (7, "c"), (7, "d")]


def test_a_job_that_wrote_no_events_has_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "missing", tmp_path / "empty"):
        told = read_events(path)
        assert (told.landmarks, len(told.inferences), told.inferences.died_in) == ((), 0, 0)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    told_by(data)


# ------------------------------------------------------------------------------------------------------- inferences


@pytest.mark.parametrize(
    "odd",
    [
        line(50, "infer.begin"),
        line(50, "infer.begin", i=None),
        line(50, "infer.begin", i=True),
        line(50, "infer.begin", i=1.5),
        line(50, "infer.begin", i=1 << 62),
        line(10**18, "infer.begin", i=1),
        line(-(10**18), "infer.begin", i=1),
        '{"t":050,"ev":"infer.begin","i":1}\n',
        '{"t":50,"ev":"infer.begin","i":01}\n',
        '{"t":50,"ev":"infer.begin","i":1\n',
        line(50, "infer.batch", i=1),
        line(50, "infer.batch", ns=[0, 1]),
        line(50, "infer.batch", i=1, ns=7),
        line(50, "infer.batch", i=1, ns=[0]),
        line(50, "infer.batch", i=1, ns=[0, 1, 2]),
        line(50, "infer.batch", i=1, ns=[0, -1]),
        line(50, "infer.batch", i=1, ns=[0, 1.5]),
        line(50, "infer.batch", i=1, ns=[0, True]),
        line(50, "infer.batch", i=1, ns=[0, None]),
        line(50, "infer.batch", i=1, ns=[0, 10**30]),
        line(50, "infer.batch", i=1, ns=[0, 10**18 - 50]),
        line(50, "infer.batch", i=1, ns=[999_999_999_999_999_999] * 2000),
        line(10**18, "infer.batch", i=1, ns=[0, 1]),
        '{"t":50,"ev":"infer.batch","i":1,"ns":[0,]}\n',
        '{"t":50,"ev":"infer.batch","i":1,"ns":[,1]}\n',
        '{"t":50,"ev":"infer.batch","i":1,"ns":[0,01]}\n',
        '{"t":50,"ev":"infer.batch","i":1,"ns":[0 1]}\n',
        '{"t":50,"ev":"infer.batch","i":1,"ns":[0,1]\n',
        '{"t":50,"ev":"infer.batch","i":1,"ns":[0,1,{"t":50,"ev":"agent.kill"}\n',
    ],
)
def test_a_line_that_is_no_inference_costs_itself_and_no_other(odd: str) -> None:
    told = told_by(line(1, "infer.begin", i=0) + odd + line(2, "infer.end", i=0) + line(3, "done"))
    assert inferences_of(told) == [(0, 1, 2)]
    assert told.inferences.died_in == 0
    assert [event.ev for event in told.landmarks] == ["done"]


def test_an_empty_batch_is_no_inference() -> None:
    assert len(told_by(line(50, "infer.batch", i=1, ns=[])).inferences) == 0


def expected(lines: Iterable[str]) -> tuple[list[Inference], int]:
    """What the lines say, told in the plainest way: the events in order, one after the other."""
    events: list[tuple[int, str, int]] = []
    for told in map(json.loads, lines):
        if told["ev"] == "infer.batch":
            t = told["t"]
            for number, (gap, took) in enumerate(zip(told["ns"][::2], told["ns"][1::2], strict=True), told["i"]):
                events += [(t + gap, "infer.begin", number), (t + gap + took, "infer.end", number)]
                t += gap + took
        elif told["ev"].startswith("infer."):
            events.append((told["t"], told["ev"], told["i"]))
    began: dict[int, int] = {}
    done = []
    for t, ev, i in sorted(events, key=lambda event: event[0]):
        if ev == "infer.begin":
            began[i] = t
        elif i in began:
            done.append((i, began.pop(i), t))
    return sorted(done, key=lambda one: (one[1], one[0], one[2])), len(began)


SMALL = st.integers(0, 4)
NUMBER = st.integers(0, 2)
ONE = st.builds(line, SMALL, st.sampled_from(["infer.begin", "infer.end", "done"]), i=NUMBER)
PAIR = st.builds(
    lambda t, took, i: line(t, "infer.begin", i=i) + line(t + took, "infer.end", i=i), SMALL, st.integers(-1, 3), NUMBER
)
BATCH = st.builds(
    lambda t, i, ns: line(t, "infer.batch", i=i, ns=[n for both in ns for n in both]),
    SMALL,
    NUMBER,
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=4),
)
LOOKS = st.sampled_from(
    [
        lambda text: text,
        lambda text: text.replace(":", ": ").replace(",", ", "),
        lambda text: text.replace('{"t"', '{"x":1,"t"'),
        lambda text: " " + text,
    ]
)


class Trickle(io.BytesIO):
    """A file that gives a few bytes at a time."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self.most = most

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self.most if size is None or size < 0 else min(size, self.most))


@settings(deadline=None, max_examples=400)
@given(st.lists(st.tuples(st.one_of(ONE, PAIR, BATCH), LOOKS), max_size=14), st.integers(1, 300))
@example(
    [(line(1, "infer.begin", i=1), str), (line(1, "infer.end", i=1) * 2, str), (line(1, "infer.begin", i=1), str)], 9
)
@example([(line(2, "infer.begin", i=1) + line(1, "infer.end", i=1), str)], 300)
@example([(line(1, "infer.begin", i=2) + line(1, "infer.end", i=1) + line(1, "infer.batch", i=1, ns=[0, 1]), str)], 300)
def test_pairs_and_batches_doubled_lost_and_in_any_order_say_what_they_say_one_by_one(
    pieces: list[tuple[str, Any]], most: int
) -> None:
    lines = [look(one) + "\n" for text, look in pieces for one in text.splitlines()]
    told = parse_events(Trickle("".join(lines).encode(), most))
    done, died_in = expected(lines)
    assert sorted(inferences_of(told), key=lambda one: (one[1], one[0], one[2])) == done
    assert told.inferences.died_in == died_in
    assert np.all(np.diff(told.inferences.begin) >= 0)
    assert len(told.landmarks) == sum('"done"' in text for text in lines)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**15), st.integers(0, 10**15)), min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=6),
    st.integers(-(10**17), 10**17),
    st.integers(0, 10**17),
)
def test_inferences_written_as_pairs_or_in_batches_of_any_length_are_the_same(
    gaps: list[tuple[int, int]], cuts: list[int], t: int, first: int
) -> None:
    inferences = []
    for number, (gap, took) in enumerate(gaps):
        inferences.append((first + number, t + gap, t + gap + took))
        t += gap + took
    pairs = "".join(line(b, "infer.begin", i=i) + line(e, "infer.end", i=i) for i, b, e in inferences)
    edges = sorted({0, len(inferences), *(cut for cut in cuts if cut < len(inferences))})
    parts = [inferences[begin:end] for begin, end in itertools.pairwise(edges)]
    assert inferences_of(told_by(pairs)) == inferences
    assert inferences_of(told_by("".join(map(batch, parts)))) == inferences


def test_an_inference_takes_less_than_a_hundred_bytes_of_memory_while_it_is_read(tmp_path: Path) -> None:
    n, size = 300_000, 1000
    ns = [0, 6000] + [200, 6000] * (size - 1)
    with (tmp_path / "batches").open("w") as file:
        for first in range(0, n, size):
            file.write(line(first * 6200, "infer.batch", i=first, ns=ns))
    with (tmp_path / "pairs").open("w") as file:
        for i in range(n):
            file.write(line(i * 6200, "infer.begin", i=i) + line(i * 6200 + 6000, "infer.end", i=i))
    for name in ("batches", "pairs"):
        tracemalloc.start()
        done = read_events(tmp_path / name).inferences
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(done) == n
        assert np.all(done.end - done.begin == 6000)
        assert peak < 100 * n + (40 << 20)
