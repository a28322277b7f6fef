"""The transport seam: five verbs, melt's own types on both sides, a deadline on every call."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from melt.errors import TransportTimeout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.transport.source import Part

_LONGEST = 300
NOT_FOUND = 127
"""Exit code of a program that is not there, on every transport."""
NOT_EXECUTABLE = 126
"""Exit code of a program that may not be executed, on every transport."""


@dataclass(frozen=True)
class Deadline:
    """A moment on this computer's monotonic clock, handed down so that nested calls share one limit."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        return cls(time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """Seconds that are left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def check(self, what: str) -> None:
        """Raises TransportTimeout, naming `what`, when the moment has passed."""
        if time.monotonic() >= self.at:
            raise TransportTimeout(f"{what} took longer than its limit")


@dataclass(frozen=True)
class Completed:
    """A command that has ended: exit code 0–255 and both outputs as bytes, apart."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def complaint(self) -> str:
        """The last line of stderr, for an error's sentence."""
        lines = self.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1][:_LONGEST] if lines else f"exit code {self.code}"


class Process(Protocol):
    """A command that is under way, read while it writes, and written to if it was started with a stdin."""

    def read(self, deadline: Deadline) -> bytes:
        """What stdout has given since the last call: waits for the first byte; b"" is the end.

        Raises TransportTimeout when the deadline passes first; the command goes on.
        """

    def write(self, data: bytes, deadline: Deadline) -> None:
        """Gives the command's stdin all of `data`; what a command that has ended would have read is dropped.

        Raises TransportTimeout when the command takes no more before the deadline; it goes on.
        """

    def wait(self, deadline: Deadline) -> Completed:
        """The end of the command, with the stdout not yet read; its stdin ends first. Raises TransportTimeout."""

    def close(self) -> None:
        """Ends the command if it has not ended, and lets go of it."""


class Transport(Protocol):
    """One way to a device.

    `run` and `start` take an argument list: no word of it is ever given to a shell unquoted. A program that is
    missing gives exit code 127, one that may not be executed 126. When a deadline passes, TransportTimeout carries
    the output so far, and the command, with whatever it started in its session, has been ended. A lost link is
    TransportError, never an exit code.
    """

    address: str

    def run(self, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
        """Runs a command to its end."""

    def start(self, argv: Sequence[str], *, has_stdin: bool = False) -> Process:
        """Begins a command whose output is read while it runs; without `has_stdin` its stdin is empty."""

    def push(self, source: Path | Part, target: str, *, deadline: Deadline, executable: bool = False) -> None:
        """Makes `target` on the device a copy of `source`, whole or not at all.

        Raises UsageError when `source` cannot be read, DeviceError when `target` cannot be written.
        """

    def pull(self, source: str, target: Path, *, deadline: Deadline, limit_bytes: int) -> None:
        """Makes `target` here a copy of the device's `source`, whole or not at all; whoever keeps it syncs it.

        Raises DeviceError when it is missing or larger than `limit_bytes`.
        """

    def close(self) -> None:
        """Lets go of the link; what was started detached goes on."""


def shown(argv: Sequence[str]) -> str:
    """A command as a person would type it: for messages, and the one place where words are quoted."""
    return shlex.join(argv)
