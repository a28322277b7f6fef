"""From bytes that a kernel wrote to numbers and words: total, bounded, ParseError or nothing."""

from __future__ import annotations

import re

from melt.errors import ParseError

LONGEST_TEXT = 200
LARGEST_CPU = 8191

_INTEGER = re.compile(rb"[+-]?[0-9]{1,20}")
_CPU_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def clean(data: bytes, longest: int = LONGEST_TEXT) -> str:
    """The first `longest` characters of a text on one line, without what cannot be printed."""
    text = data[: 4 * longest].decode("utf-8", "replace").replace("\0", " ")
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:longest].strip()


def line(data: bytes) -> str:
    """The one text that a file holds (a name, a type, a model), at most 200 characters.

    Raises:
        ParseError: it holds none.
    """
    text = clean(data)
    if not text:
        raise ParseError("empty", data)
    return text


def integer(data: bytes) -> int:
    """The one whole number that a file holds.

    Raises:
        ParseError: it holds something else.
    """
    digits = data[:64].strip()
    if not _INTEGER.fullmatch(digits):
        raise ParseError(f"'{clean(data, 40)}' is not a whole number", data[:4096])
    return int(digits)


def scaled(data: bytes, *, times: int = 1, over: int = 1, low: float, high: float) -> float:
    """The number that a file holds, times `times` and over `over`, which is to be from `low` to `high`.

    Raises:
        ParseError: no number, or one outside the bounds, which a sensor prints when it has nothing to say.
    """
    value = integer(data) * times / over
    if not low <= value <= high:
        raise ParseError(f"{value:g} is outside {low:g} to {high:g}", data[:4096])
    return value


def counted(data: bytes, *, key: str, unit: str = "", times: int = 1) -> float:
    """The number after `key` in a table such as /proc/meminfo (`unit` is then kB) or /proc/vmstat.

    Raises:
        ParseError: the table has no such line.
    """
    end = f"[ \t]+{unit}" if unit else ""
    found = re.search(rf"^{re.escape(key)}:?[ \t]+([0-9]{{1,18}}){end}[ \t\r]*$".encode(), data, re.MULTILINE)
    if not found:
        raise ParseError(f"there is no line '{key}'", data[:4096])
    return float(int(found[1]) * times)


def cpu_list(data: bytes) -> tuple[int, ...]:
    """The CPU numbers of `0-3,5` or `0 1 2 3`, in order.

    Raises:
        ParseError: something else, or a number above 8191.
    """
    cpus: set[int] = set()
    for piece in re.split(r"[,\s]+", data[:65536].decode("ascii", "replace").strip()):
        found = _CPU_RANGE.fullmatch(piece)
        if not found:
            raise ParseError(f"'{clean(data, 40)}' is not a list of CPUs", data[:4096])
        first, last = int(found[1]), int(found[2] or found[1])
        if not first <= last <= LARGEST_CPU:
            raise ParseError(f"'{piece}' is not a range of CPUs below {LARGEST_CPU + 1}", data[:4096])
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))


def as_ranges(cpus: tuple[int, ...]) -> str:
    """CPU numbers as the kernel writes them: `0-3,5`."""
    spans: list[list[int]] = []
    for cpu in sorted(cpus):
        if spans and cpu == spans[-1][1] + 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
