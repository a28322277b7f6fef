"""What an adapter is given and gives: text in, metrics out, and nothing else raised than ParseError."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from melt.records import Metric

LARGEST = 1 << 53
"""A count or a time above it is none: beyond that a float no longer holds every whole number."""


@dataclass(frozen=True)
class Printed:
    """What a program left: its two streams, and the file that it was given to write its result to."""

    stdout: bytes = b""
    stderr: bytes = b""
    result: bytes = b""

    @property
    def told(self) -> str:
        """The result, which is on stdout where no file has it."""
        return (self.result or self.stdout).decode(errors="replace")


@dataclass(frozen=True)
class Told:
    """What of it could be read: the metrics by name, and what the program says of itself.

    `wrong` says what could not be used, and what to do; None when all of it could.
    """

    metrics: Mapping[str, Metric]
    engine: Mapping[str, Any] = field(default_factory=dict)
    wrong: str | None = None


@dataclass(frozen=True)
class Adapter:
    """One kind of output. `parse` is pure and raises ParseError alone: nothing in it could be read.

    `names` are the metrics that it stands for, so that each is a gap where there is none.
    """

    names: tuple[str, ...]
    parse: Callable[[Printed], Told]


def count(value: Any) -> int | None:
    """The count that a field of parsed JSON holds, or None: the text is untrusted."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST else None


def amount(value: Any) -> float | None:
    """The finite number, 0 or more, that a field of parsed JSON holds, or None."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LARGEST
    return float(value) if known else None
