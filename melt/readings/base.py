"""What a reading is, and the few words that all of them are written with.

A reading never touches a device: the device layer expands `paths` (or runs `argv`), and the functions here
see what was captured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from melt.errors import ParseError
from melt.readings.text import clean
from melt.records import Captured, Fact, Sensor

Captures = Mapping[str, Captured]
"""What a device answered, by concrete path, or by `" ".join(argv)` for a command. A glob without a match has
no key."""

NAME_LENGTH = 64

_HINTS = {"denied": "denied (needs root)", "hangs": "hangs (it did not answer in time)"}


@dataclass(frozen=True)
class Reading:
    """One question to a device: paths or a command, and pure parsers that never raise.

    `facts` gives the same fact names whatever was captured; what is not known is a fact with a reason.
    `sensors` gives those that answered with a usable value; `absent` and `left_out` tell about the others.
    """

    name: str
    about: str
    """One line for people."""
    paths: tuple[str, ...] = ()
    """Absolute globs (only `*`, which never crosses a `/`); each is read up to 64 KiB, within a limit."""
    argv: tuple[str, ...] = ()
    """Or one command, never through a shell."""
    sampled: tuple[str, ...] = ()
    """Which of `paths` are values; the others (a type, a name, a label) only say what a value is."""
    facts: Callable[[Captures], tuple[Fact, ...]] | None = None
    sensors: Callable[[Captures], tuple[Sensor, ...]] | None = None
    asked_always: bool = True
    """Whether its facts are asked of every device; otherwise only where the profile names it."""
    passed_over: Callable[[Captures], frozenset[str]] | None = None
    """Files that look like values and are none, such as those of a channel that is not connected."""
    explain: Callable[[bytes], str] | None = None
    """Why an answer that was read holds nothing usable, where it says so itself; empty where it does not."""


def absent(reading: Reading, captures: Captures) -> str:
    """One sentence that says why a sensor reading found nothing; empty when it found something."""
    if reading.sensors is None:
        return f"{reading.name} tells facts only"
    if reading.sensors(captures):
        return ""
    unusable = left_out(reading, captures)
    if not unusable:
        asked = " ".join(reading.argv) or _either(reading.sampled)
        return f"{asked}: missing" if reading.argv else f"no file matches {asked}"
    path, reason = next(iter(unusable.items()))
    more = f", and {len(unusable) - 1} more like it" if len(unusable) > 1 else ""
    return f"{path}: {reason}{more}"


def left_out(reading: Reading, captures: Captures) -> Mapping[str, str]:
    """The files (or the command) that no sensor came of, each with the reason."""
    found = reading.sensors(captures) if reading.sensors else ()
    used = {source for sensor in found for source in (sensor.paths or (" ".join(sensor.argv),))}
    asked = [path for glob in reading.sampled for path in matching(captures, glob)]
    if reading.argv and " ".join(reading.argv) in captures:
        asked.append(" ".join(reading.argv))
    if reading.passed_over:
        used |= reading.passed_over(captures)
    return {path: _why(reading, captures[path]) for path in asked if path not in used}


def _why(reading: Reading, captured: Captured) -> str:
    if captured.error is not None:
        return _HINTS.get(captured.error, captured.error)
    explained = reading.explain(captured.data) if reading.explain else ""
    return explained or f"'{clean(captured.data, 40)}' is not a usable value"


def _either(words: tuple[str, ...]) -> str:
    # of files in one folder, the folder is said once
    shown = [words[0], *(word.removeprefix(f"{words[0].rpartition('/')[0]}/") for word in words[1:])]
    first = ", ".join(shown[:-1])
    return f"{first} or {shown[-1]}" if first else shown[-1]


# ------------------------------------------------------------------------------------------- what was
# captured


def matching(captures: Captures, glob: str) -> Iterator[str]:
    """The captured paths that `glob` stands for, 2 before 10, leaving out those that do not exist."""
    parts = glob.split("/")
    found = [
        path for path, captured in captures.items() if captured.error != "missing" and _fits(path.split("/"), parts)
    ]
    return iter(sorted(found, key=_natural))


def _fits(path: list[str], parts: list[str]) -> bool:
    return len(path) == len(parts) and all(map(fnmatchcase, path, parts))


def _natural(path: str) -> list[tuple[int, str]]:
    # (number, text) pairs: a number sorts by value, a text by itself, and the two never meet in a comparison
    # of types
    return [
        (int(piece), "") if piece.isascii() and piece.isdigit() else (-1, piece)
        for piece in re.split(r"([0-9]{1,18})", path)
    ]


def answer(captures: Captures, source: str) -> bytes:
    """What `source` answered.

    Raises:
        ParseError: it is missing or failed; the text says which.
    """
    captured = captures.get(source)
    if captured is None:
        raise ParseError(f"{source}: missing")
    if captured.error is not None:
        raise ParseError(f"{source}: {_HINTS.get(captured.error, captured.error)}")
    return captured.data


def sibling(path: str, name: str) -> str:
    """The path of another file in the same folder."""
    return f"{path.rpartition('/')[0]}/{name}"


def folder(path: str) -> str:
    """The name of the folder that a file lies in."""
    return path.split("/")[-2]


# ----------------------------------------------------------------------------------------------- facts,
# sensors


def fact(name: str, captures: Captures, source: str, parse: Callable[[bytes], str | int | float]) -> Fact:
    """What `parse` makes of `source`, or the reason why it is not known."""
    try:
        return Fact(name, parse(answer(captures, source)), source=source)
    except ParseError as error:
        text = str(error)
        return unknown(name, text if text.startswith(source) else f"{source}: {text}", source)


def unknown(name: str, reason: str, source: str = "") -> Fact:
    """A fact that is not known, and why."""
    return Fact(name, None, reason=reason, source=source)


def first_known(facts: Iterable[Fact]) -> Fact:
    """The first fact that has a value; otherwise one with everybody's reason."""
    tried = tuple(facts)
    for candidate in tried:
        if candidate.value is not None:
            return candidate
    reasons = dict.fromkeys(candidate.reason or "" for candidate in tried)
    return unknown(tried[0].name, "; ".join(reasons), tried[0].source)


def text_of(captures: Captures, sensor: Sensor) -> bytes:
    """What a sample of `sensor` would have been, had it been taken when the captures were.

    Raises:
        ParseError: a file or the command of it is missing or failed; the text says which.
    """
    if not sensor.paths:
        return answer(captures, " ".join(sensor.argv))
    return b"\n".join(answer(captures, path).rstrip(b"\n\0") for path in sensor.paths)


def part(data: bytes, index: int) -> bytes:
    """The text of one of a sensor's files, counted from 0; empty when there is none."""
    texts = data.split(b"\n")
    return texts[index] if index < len(texts) else b""


def found(readings: Iterable[Reading], captures: Captures) -> dict[str, tuple[Sensor, ...]]:
    """The sensors of each reading by its name; a channel that two readings give is the first one's."""
    taken: set[str] = set()
    all_found: dict[str, tuple[Sensor, ...]] = {}
    for reading in readings:
        kept = []
        for sensor in reading.sensors(captures) if reading.sensors else ():
            channels = tuple(channel for channel in sensor.channels if channel.name not in taken)
            if channels:
                kept.append(replace(sensor, channels=channels))
        taken.update(channel.name for sensor in kept for channel in sensor.channels)
        all_found[reading.name] = tuple(kept)
    return all_found


def usable(captures: Captures, sensor: Sensor) -> Sensor | None:
    """`sensor` with those of its channels that the captured text holds now; None when it holds none."""
    try:
        data = text_of(captures, sensor)
    except ParseError:
        return None
    kept = []
    for channel in sensor.channels:
        try:
            channel.parse(data)
        except ParseError:
            continue
        kept.append(channel)
    return replace(sensor, channels=tuple(kept)) if kept else None


def only(sensor: Sensor, captures: Captures) -> tuple[Sensor, ...]:
    """The sensors of a reading that has one: `sensor`, as far as it is usable."""
    found = usable(captures, sensor)
    return (found,) if found else ()


# ---------------------------------------------------------------------------------------------------------
# names


def name_of(*parts: str) -> str:
    """A sensor's name made of what the kernel calls it: small letters, digits, `.`, `_`, `-`, at most 64."""
    words = [re.sub(r"[^a-z0-9_.-]+", "-", part.lower()).strip("-.") or "unnamed" for part in parts]
    return ".".join(words)[:NAME_LENGTH]


class Names:
    """Gives out names of which no two are alike: the second `fan` becomes `fan.2`.

    The limit of it: two things of the same type are told apart by the order of their paths, and the kernel
    may number them anew at the next boot. A profile that needs one of them must name it by something else.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, name: str) -> str:
        """`name`, or `name` with the first free number from 2 on."""
        free, number = name, 1
        while free in self._taken:
            number += 1
            suffix = f".{number}"
            free = name[: NAME_LENGTH - len(suffix)] + suffix
        self._taken.add(free)
        return free
