"""Event lines that a program printed by itself, put among those of the agent."""

from __future__ import annotations

import contextlib
import heapq
import json
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from melt.analysis.events import whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MAX_LINE_BYTES = 1 << 20
_AGENTS = "agent."
"""What the agent's events begin with: no program speaks in its name."""
_BEGIN = frozenset({"infer.begin", "step.begin", "infer.batch", "prefill.begin"})


@dataclass(frozen=True)
class Life:
    """The program's life as the agent saw it (ns); None where it did not begin, or nobody saw how it ended."""

    begin: int | None = None
    end: int | None = None
    ended_well: bool = False
    """It ended by itself, with exit code 0."""


@dataclass
class Survey:
    """What the program's own lines say together."""

    first: int | None = None
    """When its first inference began."""
    names: set[str] = field(default_factory=set)
    """The events and marks that it wrote."""
    strays: int = 0
    """Lines that bear the stamp of another clock."""
    broken: int = 0
    """Lines that begin as an event and are none."""


def life(events: Path) -> Life:
    """What the agent's events say of the program's life."""
    begin = end = None
    killed, code = False, None
    for line in _lines(events):
        event = _event(line)
        if event is None:
            continue
        name = event["ev"]
        if name == "agent.engine.start" and begin is None:
            begin = event["t"]
        elif name == "agent.engine.end":
            end, code = event["t"], event.get("exit")
        killed = killed or name == "agent.kill"
    return Life(begin, end, end is not None and code == 0 and not killed)


def survey(sources: Sequence[Path], of: Life) -> Survey:
    """Reads the program's lines once."""
    found = Survey()
    for path in sources:
        for line in _lines(path):
            event = _event(line)
            if event is None:
                found.broken += line.startswith(b'{"t"')
            elif not _is_own(event):
                continue
            elif not _is_in(event, of):
                found.strays += 1
            else:
                _note(found, event)
    return found


def merge(events: Path, sources: Sequence[Path], of: Life, more: Sequence[dict[str, Any]]) -> None:
    """Puts the program's lines and `more` into the file of events, in order of time; the sources stay as they are.

    The file appears whole under its name. Raises OSError when there is no space for it.
    """
    streams = [_stamped(events)] + [_stamped(path, of) for path in sources]
    streams.append((event["t"], _text(event)) for event in sorted(more, key=lambda event: event["t"]))
    temporary = events.with_suffix(".merged")
    try:
        with temporary.open("wb") as file:
            file.writelines(line for _, line in heapq.merge(*streams, key=lambda one: one[0]))
        temporary.replace(events)
    finally:
        temporary.unlink(missing_ok=True)


def _stamped(path: Path, of: Life | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their stamps: of a program's only what is its own, of the agent's all of them."""
    last = 0
    for line in _lines(path):
        event = _event(line)
        if of is None:
            last = event["t"] if event else last
            yield last, line
        elif event is not None and _is_own(event) and _is_in(event, of):
            yield event["t"], line


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, each with an end; one that is too long is left out, and no file has none."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while line := file.readline(_MAX_LINE_BYTES + 1):
            if len(line) > _MAX_LINE_BYTES and not line.endswith(b"\n"):
                _skip_line(file)
            elif line.strip():
                yield line if line.endswith(b"\n") else line + b"\n"


def _skip_line(file: IO[bytes]) -> None:
    while (rest := file.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass


def _event(line: bytes) -> dict[str, Any] | None:
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    known = isinstance(event, dict) and whole(event.get("t")) is not None and isinstance(event.get("ev"), str)
    return event if known else None


def _is_own(event: dict[str, Any]) -> bool:
    return not event["ev"].startswith(_AGENTS)


def _is_in(event: dict[str, Any], of: Life) -> bool:
    """Whether a stamp lies in the program's life: one that does not is of another clock than CLOCK_MONOTONIC."""
    return of.begin is not None and of.begin <= event["t"] and (of.end is None or event["t"] <= of.end)


def _note(found: Survey, event: dict[str, Any]) -> None:
    name = event["ev"]
    found.names.add(name)
    if name == "mark" and isinstance(event.get("name"), str):
        found.names.add(event["name"])
    if name in _BEGIN:
        found.first = event["t"] if found.first is None else min(found.first, event["t"])


def _text(event: dict[str, Any]) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"
