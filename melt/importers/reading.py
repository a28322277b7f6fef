"""Files of other tools, read as what they are: somebody else's. Bounded, strict, and never a traceback."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import os
import re
import stat
from collections import Counter
from typing import TYPE_CHECKING, Any

from melt.errors import ParseError
from melt.files.reader import shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LARGEST_BYTES = 64 << 20
"""Of a file that is read into memory: some millions of samples."""
GLANCE_BYTES = 64 << 10
"""As much as tells whose file it is."""
SHORTEST_S, LONGEST_S = 1e-12, 1e8
"""A duration outside is none: a light ray takes longer through an atom's shell, and no benchmark takes three years."""
_NAME = 64
_WORD = 200
_MOST_DOUBLED = 20
_YEARS = range(2000, 2200)
"""A moment of another year is a clock that was never set."""


def read_bounded(path: Path, limit: int = LARGEST_BYTES) -> bytes:
    """The bytes of a regular file. Raises ParseError, which names it, for any other, or a larger one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not keep melt waiting
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise ParseError(f"{path.name}: it is no regular file")
            if about.st_size > limit:
                raise ParseError(f"{path.name}: {about.st_size} bytes, and at most {limit} are read: split it")
            return file.read(limit)
    except OSError as error:
        raise ParseError(f"{path.name}: it cannot be read: {error.strerror}") from None


def glance(path: Path) -> str:
    """The beginning of a regular file as text; empty for what is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return ""
            return _decoded(file.read(GLANCE_BYTES), errors="replace")
    except OSError:
        return ""


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, or in what a byte order mark says. Raises ParseError."""
    try:
        return _decoded(read_bounded(path), errors="strict")
    except UnicodeDecodeError as error:
        raise ParseError(
            f"{path.name}: byte {error.start} is not {error.encoding}: save it as UTF-8, as the tool writes it"
        ) from None


def _decoded(data: bytes, errors: str) -> str:
    marks = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8-sig"))
    encoding = next((name for mark, name in marks if data.startswith(mark)), "utf-8")
    return data.decode(encoding, errors)


class Pairs:
    """An object hook for `json`: a key that stands twice is left out, for which of the two is meant is not told."""

    def __init__(self) -> None:
        self.doubled: list[str] = []

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            for name, count in Counter(name for name, _ in pairs).items():
                if count > 1:
                    self.doubled.append(name)
                    del found[name]
        return found


def json_of(path: Path, problems: list[str]) -> dict[str, Any]:
    """The object of a JSON file; what is odd in it is added to `problems`. Raises ParseError where there is none."""
    pairs = Pairs()
    text = text_of(path)
    try:
        found = json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ParseError(f"{path.name}: it is nested too deep") from None
    except ValueError as error:
        raise ParseError(f"{path.name}: it is no whole JSON: {str(error)[:_WORD]}") from None
    problems += doubled(path, pairs)
    if not isinstance(found, dict):
        raise ParseError(f"{path.name}: it holds no JSON object")
    return found


def doubled(path: Path, pairs: Pairs) -> list[str]:
    """A sentence for each key that stood twice in one object, up to a few."""
    names = list(dict.fromkeys(pairs.doubled))
    sentences = [
        f"{path.name}: key '{shorten(name)}' stands twice in one object: taken as not told"
        for name in names[:_MOST_DOUBLED]
    ]
    more = len(names) - _MOST_DOUBLED
    return [*sentences, f"{path.name}: {more} more keys stand twice"] if more > 0 else sentences


def seconds(values: Sequence[Any], scale: float, key: str) -> tuple[list[float], str | None]:
    """The durations of a list, each times `scale`; and what is wrong with the first that is none, with its place."""
    found: list[float] = []
    for at, value in enumerate(values):
        known = number(value)
        if known is None or not SHORTEST_S <= known * scale <= LONGEST_S:
            return [], f"{key}[{at}] is {shorten(value)}, which is no duration"
        found.append(known * scale)
    return found, None if found else f"{key} is empty"


def number(value: Any) -> float | None:
    """The number that a field holds, NaN and infinity among them; None for what is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def word(value: Any) -> str | int | bool | None:
    """A short text, a whole number or a truth from a file; None for anything else, and for an empty text."""
    if isinstance(value, bool | int):
        return value if abs(value) < 1 << 63 else None
    text = shorten_to(value, _WORD) if isinstance(value, str) else ""
    return text or None


def shorten_to(value: str, length: int) -> str:
    """Printable, and no longer than `length`."""
    return "".join(c if c.isprintable() else "�" for c in value[:length])


def told(fields: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """Of an object the fields with words in them, by the names that melt has for them; null for those without."""
    inside = fields if isinstance(fields, dict) else {}
    return {ours: word(inside.get(theirs)) for theirs, ours in names.items()}


def section(fields: Any, name: str) -> dict[str, Any]:
    """An object inside of an object; empty where it is none."""
    inside = fields.get(name) if isinstance(fields, dict) else None
    return inside if isinstance(inside, dict) else {}


def slug(text: str) -> str:
    """A name for a workload or a device as `records.NAME` allows it: two texts that lose letters stay two names."""
    plain = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")
    if len(plain) > _NAME or not text.isascii():
        plain = f"{plain[: _NAME - 9]}-{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"
    return plain or "unnamed"


def instant(text: Any) -> str | None:
    """ISO 8601 with an offset, as UTC: `2026-11-21T03:15:00Z`. None for what is no moment, or has no zone."""
    if not isinstance(text, str) or len(text) > _NAME:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
        known = moment.tzinfo is not None and moment.year in _YEARS
        return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z") if known else None
    except (ValueError, OverflowError):
        return None
