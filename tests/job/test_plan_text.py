"""The plan's text: every word comes back as it was, whatever is in it, and no word becomes an instruction."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from melt.job import JobPlan
from melt.job.plan import encode_word
from melt.records import Channel, Sensor

HOSTILE = [
    "",
    " ",
    "%",
    "%20",
    "100%",
    "a b",
    "a\nrun_id evil",
    "\r\n",
    "\t",
    "#",
    'it\'s "quoted"',
    "$(id); `id` | tee",
    "\\n",
    "é",
    "日本語",
    "\x7f\x1b[31m",
    "\u2028",
    "\udcff\udc80",  # bytes that are no UTF-8, as os.fsdecode gives them
    "engine",
    "x" * 10_000,
]
WORD = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))


def decode(text: str) -> list[list[bytes]]:
    """What the agent reads: lines of words."""
    assert text.endswith("\n")
    return [[unquote_to_bytes(word) for word in line.split(" ")] for line in text[:-1].split("\n")]


def as_bytes(word: str) -> bytes:
    return word.encode(errors="surrogateescape")


def plan(**changes: Any) -> JobPlan:
    return JobPlan(**{"run_id": "r1", "lock": "/w/lock", "wall_s": 900.0, "engine": ["/w/e"], **changes})


def lines(text: str, first: str) -> list[list[bytes]]:
    return [words[1:] for words in decode(text) if words[0] == first.encode()]


@given(WORD)
@example("")
def test_a_word_comes_back_as_it_was_and_is_plain_ascii(word: str) -> None:
    encoded = encode_word(word)
    assert unquote_to_bytes(encoded) == as_bytes(word)
    assert re.fullmatch(r"[!-~]*", encoded)


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_word_stays_one_word_of_its_line(word: str) -> None:
    sensor = Sensor("s", (), 0.5, argv=("dumpsys", word))
    file = Sensor("f", (), 0.5, path=f"/{word}")
    text = plan(
        engine=["/w/engine", word, "last"],
        env={"NAME": word},
        sensors=[sensor, file],
        settings=[("/sys/x", word)],
        lock=f"/{word}",
    ).text()
    assert lines(text, "engine") == [[b"/w/engine", as_bytes(word), b"last"]]
    assert lines(text, "env") == [[b"NAME=" + as_bytes(word)]]
    assert lines(text, "set") == [[b"/sys/x", as_bytes(word)]]
    assert lines(text, "lock") == [[b"/" + as_bytes(word)]]
    assert lines(text, "sample")[0][-2:] == [b"dumpsys", as_bytes(word)]
    assert lines(text, "sample")[1][-1] == b"/" + as_bytes(word)
    assert lines(text, "run_id") == [[b"r1"]]


@given(st.lists(WORD, min_size=1), st.dictionaries(st.from_regex(r"[A-Z_]+", fullmatch=True), WORD))
def test_the_engines_words_and_its_environment_come_back_as_they_were(argv: list[str], env: dict[str, str]) -> None:
    text = plan(engine=argv, env=env).text()
    assert lines(text, "engine") == [[as_bytes(word) for word in argv]]
    assert lines(text, "env") == ([[as_bytes(f"{k}={v}") for k, v in env.items()]] if env else [])


def test_a_plan_says_its_version_first_and_its_engine_last() -> None:
    text = plan(idle_s=60.0, cpus="0,2-3", memory_max_bytes=1 << 30, memory_period_s=0.25).text()
    assert decode(text) == [
        [b"melt-plan", b"1"],
        [b"run_id", b"r1"],
        [b"lock", b"/w/lock"],
        [b"wall_ms", b"900000"],
        [b"idle_ms", b"60000"],
        [b"memory_period_ms", b"250"],
        [b"memory_max_bytes", b"1073741824"],
        [b"cpus", b"0,2-3"],
        [b"engine", b"/w/e"],
    ]


def test_what_is_not_limited_is_not_said() -> None:
    assert {words[0] for words in decode(plan().text())} == {
        b"melt-plan",
        b"run_id",
        b"lock",
        b"wall_ms",
        b"idle_ms",
        b"memory_period_ms",
        b"engine",
    }


def test_a_sensors_way_of_reading_period_and_limit_are_said() -> None:
    channel = Channel("t", "temperature", float)
    sensors = [
        Sensor("a", (channel,), 0.02, path="/sys/a"),
        Sensor("b", (channel,), 1.0, path="/sys/b", reopen=True, timeout_s=0.25),
        Sensor("c", (channel,), 0.2, argv=("vcgencmd", "measure_temp")),
    ]
    text = plan(sensors=sensors, ceilings={"a": 85000.0, "b": 1e-3}).text()
    assert lines(text, "sample") == [
        [b"a", b"20000", b"1000", b"file", b"/sys/a"],
        [b"b", b"1000000", b"250", b"reopen", b"/sys/b"],
        [b"c", b"200000", b"1000", b"command", b"vcgencmd", b"measure_temp"],
    ]
    assert [(name, float(value)) for name, value in lines(text, "ceiling")] == [(b"a", 85000.0), (b"b", 0.001)]


def test_settings_are_held_in_the_order_given() -> None:
    held = [(f"/sys/{n}", "performance") for n in (3, 1, 2)]
    assert [(path.decode(), value.decode()) for path, value in lines(plan(settings=held).text(), "set")] == held
