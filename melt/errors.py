"""Every error that melt raises on purpose, sorted by whose fault it is.

    MeltError
    ├── UsageError          a file or a flag is wrong                       exit 2
    ├── NotComparable       the runs differ in what must be the same        exit 3
    ├── TransportError      the cable, the network; transient               exit 4
    │   └── TransportTimeout    no answer, or no progress, in time          exit 4
    ├── DeviceError         the device: full, locked, rebooted, noexec      exit 1
    ├── Unsupported         this device or engine cannot do that: a gap     exit 1
    ├── ParseError          a text we should have understood: our bug       exit 1
    └── Interrupted         a person pressed Ctrl-C                         exit 130

The text of an error is one sentence that names the file, key or device and says what to do.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHOWN = 20


class MeltError(Exception):
    """The base: catch it where a person is told, never to ignore it."""

    exit_code: ClassVar[int] = 1


class UsageError(MeltError):
    """A file or a flag is wrong: correct it and call again."""

    exit_code = 2


class NotComparable(MeltError):
    """The runs differ in what must be the same; `rows` are the cell, the key, both values, and how it is obtained."""

    exit_code = 3

    def __init__(self, message: str, rows: Sequence[tuple[str, str, str, str, str]] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


class TransportError(MeltError):
    """The link to the device failed: look at the cable; trying again may help, unless it is not `transient`."""

    exit_code = 4
    transient: ClassVar[bool] = True


class TransportTimeout(TransportError):
    """The device did not answer, or made no progress, before the deadline; what was started was ended.

    `stdout` and `stderr` hold what had come by then.
    """

    def __init__(self, message: str, stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class DeviceError(MeltError):
    """The device answered and cannot go on; `code` is the reason that the record carries."""

    def __init__(self, message: str, code: str = "device") -> None:
        super().__init__(message)
        self.code = code


class Unsupported(MeltError):
    """The device or the engine cannot do what was asked."""


class ParseError(MeltError):
    """A text could not be understood; `raw` is kept so that the parser can be mended."""

    def __init__(self, message: str, raw: bytes | str = b"") -> None:
        super().__init__(message)
        self.raw = raw if isinstance(raw, bytes) else raw.encode()


class Interrupted(MeltError):
    """A person asked to stop: what was measured is kept, and `--resume` goes on."""

    exit_code = 130


def nearest(word: str, valid: Iterable[str]) -> str:
    """A half-sentence that names the valid word nearest to `word`, or lists them when none is near."""
    known = sorted(valid)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"valid: {', '.join(known[:_SHOWN])}{more}" if known else "none is known"
