"""The small files of a result folder of the 2024 study, read strictly: what is no number, or negative, is named.

Sources of the formats: what the study's own programs write (brave-experiments on GitHub: `blade-public`,
`jetsonlab-public`, `jetson-monitor`, `LLMFarmEval-public` and its forks of llama.cpp and MLC-LLM). Stamps are seconds
or nanoseconds since 1970, on the clock of whoever wrote them; every one here is whole nanoseconds.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MAX_SMALL_BYTES = 64 << 20
"""A larger file of measurements, events or output is not the study's."""
_MAX_S = 4e9
"""Seconds since 1970 beyond this do not fit the stamps."""
_EVENT_FIELDS = 2
_STAMP = re.compile(r"[0-9]{1,19}")
_ROW_FIELDS = 3


@dataclass(frozen=True)
class Span:
    """A row of the host's file: what was done, from when to when (ns)."""

    begin: int
    end: int
    state: str

    @property
    def seconds(self) -> float:
        return (self.end - self.begin) * 1e-9


@dataclass(frozen=True)
class Question:
    """A prompt in the JSON of an app: its window, what it counted, and what the engine said of it."""

    span: Span
    prompt_tokens: int | None
    output_tokens: int | None
    said: str


@dataclass(frozen=True)
class Conversation:
    """A conversation in the JSON of an app."""

    model: str | None
    load: Span | None
    questions: tuple[Question, ...]
    left_out: tuple[int, ...] = ()
    """Which questions had no window that can be one."""


@dataclass(frozen=True)
class Counted:
    """What the engine counted and timed of one prompt: tokens evaluated and seconds; None where it did not tell."""

    prompt_tokens: int | None
    prefill_s: float | None
    decoded: int | None
    decode_s: float | None


def read_small(path: Path) -> str:
    """A text file of bounded size. Raises OSError or ValueError, whose text says why."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is no ordinary file")
    size = path.stat().st_size
    if size > MAX_SMALL_BYTES:
        raise ValueError(f"it is {size} bytes long, and such a file has at most {MAX_SMALL_BYTES}")
    return path.read_bytes().decode("utf-8", "replace")


def spans(text: str) -> tuple[list[Span], list[str]]:
    """The rows `start_date,duration,state` (s since 1970, s, words) of the host's file, and what of it is none."""
    found: list[Span] = []
    wrong: list[str] = []
    for number, row in enumerate(_rows(text.replace("\r", ""), wrong), 1):
        if not row or (number == 1 and row[0] == "start_date"):
            continue
        begin = _seconds(row[0])
        length = _seconds(row[1]) if len(row) >= _ROW_FIELDS else None
        if begin is None or length is None:
            wrong.append(f"line {number} holds no start and duration: left out")
        elif length <= 0:
            wrong.append(f"line {number} has the duration {length:g} s: left out")
        else:
            found.append(Span(_ns(begin), _ns(begin + length), ",".join(row[2:])))
    return found, wrong


def _rows(text: str, wrong: list[str]) -> Iterator[list[str]]:
    """The rows of a table as far as it is one; what ends it is added to `wrong`."""
    reader = csv.reader(io.StringIO(text))
    try:
        yield from reader
    except csv.Error as error:
        wrong.append(f"from line {reader.line_num} on it is no table: {error}: left out")


def stamps(text: str) -> tuple[dict[str, int], list[str]]:
    """Events by name (ns), of lines `name,ns` or `name ns` in any order, and what of the file is none."""
    found: dict[str, int] = {}
    wrong: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        if len(words) != _EVENT_FIELDS or not _STAMP.fullmatch(words[1]) or int(words[1]) > _MAX_S * 1e9:
            wrong.append(f"line {number} is no event and stamp: left out")
        else:
            found[words[0]] = int(words[1])
    return found, wrong


def conversations(text: str) -> list[Conversation]:
    """The conversations of an app's JSON. Raises ValueError where it is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is no JSON: {error}") from None
    if not isinstance(data, list) or not all(isinstance(one, dict) for one in data):
        raise ValueError("it is no list of conversations")
    return [_conversation(one) for one in data]


def timings(text: str) -> list[Counted]:
    """The rows of a table of llama.cpp's timings (`t_p_eval_ms`, `n_p_eval`, `t_eval_ms`, `n_eval`), one a prompt.

    Raises ValueError where it is none.
    """
    return [
        Counted(
            _count(row.get("n_p_eval")),
            _scaled(row.get("t_p_eval_ms"), 1e-3),
            _count(row.get("n_eval")),
            _scaled(row.get("t_eval_ms"), 1e-3),
        )
        for row in table(text)
    ]


def told_by_mlc(text: str) -> Counted | None:
    """What MLC's verbose statistics say of a prompt; None where they are none.

    Seconds are tokens ÷ throughput: the printed times are rounded to a tenth of a second.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    prompt_tokens, prefill_s = _part(data.get("prefill"))
    decoded, decode_s = _part(data.get("decode"))
    known = (prompt_tokens, prefill_s, decoded, decode_s)
    return None if all(one is None for one in known) else Counted(*known)


def table(text: str) -> list[dict[str, str]]:
    """The rows of a table with a head. Raises ValueError where it is none."""
    try:
        return [{key: value for key, value in row.items() if key} for row in csv.DictReader(io.StringIO(text))]
    except csv.Error as error:
        raise ValueError(f"it is no table: {error}") from None


def number(value: object) -> float | None:
    """A finite number, or None."""
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and not isinstance(value, bool) else None


def _conversation(data: Mapping[str, Any]) -> Conversation:
    load = data.get("modelLoadTime")
    records = data.get("questionRecords", data.get("chatRecords"))
    read = [_question(one) for one in records] if isinstance(records, list) else []
    model = data.get("modelName")
    return Conversation(
        str(model) if model else None,
        _window(load) if isinstance(load, dict) else None,
        tuple(one for one in read if one is not None),
        tuple(at for at, one in enumerate(read) if one is None),
    )


def _question(data: object) -> Question | None:
    time = data.get("time") if isinstance(data, dict) else None
    span = _window(time) if isinstance(time, dict) else None
    if span is None or not isinstance(data, dict):
        return None
    return Question(
        span, _count(data.get("input_tokens")), _count(data.get("output_tokens")), str(data.get("runtimeStats") or "")
    )


def _window(data: Mapping[str, Any]) -> Span | None:
    start = data.get("start")
    begin = _iso(start) if isinstance(start, str) and "T" in start else _seconds(start)
    length = _seconds(data.get("duration"))
    if begin is None or length is None or length <= 0:
        return None
    return Span(_ns(begin), _ns(begin + length), "")


def _iso(text: str) -> float | None:
    """Seconds since 1970; None also for a moment without a zone, which would be another on each computer."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _part(data: object) -> tuple[int | None, float | None]:
    """Tokens and seconds of a phase in MLC's statistics: `total tokens` or `total_tokens`, `throughput`."""
    if not isinstance(data, dict):
        return None, None
    tokens = _count(_word(data.get("total tokens", data.get("total_tokens"))))
    rate = number(_word(data.get("throughput")))
    return tokens, (tokens / rate if tokens and rate and rate > 0 else None)


def _word(value: object) -> object:
    words = str(value).split()
    return words[0] if words else None


def _seconds(value: object) -> float | None:
    found = number(value)
    return found if found is not None and abs(found) < _MAX_S else None


def _scaled(value: object, by: float) -> float | None:
    found = number(value)
    return found * by if found is not None and found > 0 else None


def _count(value: object) -> int | None:
    """A number of tokens above 0; the study writes -1 and 0 for one that it does not know."""
    found = number(value)
    return int(found) if found is not None and 0 < found < 1e9 and found == int(found) else None  # noqa: PLR2004


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
