"""Meters that speak in lines of text: a file that grows, and a command that prints."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np

from melt.errors import DeviceError, TransportTimeout
from melt.meters.base import HOST_CLOCK, OWN_CLOCK, Block, Instrument
from melt.transport import Deadline, LocalTransport

if TYPE_CHECKING:
    from melt.files.instruments import MeterSpec
    from melt.transport import Process

_RATE_HZ = 1000.0
"""More lines in a second than this are not a meter's."""
_PIECE = 1 << 20
_LONGEST_LINE = 1 << 16
_LOOK_S = 0.005
_LATENCY_S = 0.020
"""What a line is on its way at most when it is the least late: assumed, for nobody has measured it."""
_END_S = 2.0
_LEAP_S = 3600.0
"""A stamp so far after the last one is no stamp."""
_MOST_LEAPS = 20
_SCALE = {"w": 1.0, "mw": 1e-3, "uw": 1e-6}
_NS = re.compile(r"[0-9]{12,}")
"""A whole number this long is ns; seconds of the Unix era have ten digits."""


class _Source(Protocol):
    """Where the bytes come from."""

    def bytes(self, deadline: Deadline) -> bytes:
        """What has come; nothing when the deadline passes first. Raises DeviceError at the end."""


class Lines:
    """Lines of text, each a sample, as blocks. A line that is none is a sample that was lost."""

    def __init__(self, source: _Source, what: str) -> None:
        self._source, self._what = source, what
        self._rest = b""
        self._index = 0
        self._last_s: float | None = None
        self._leaps = 0

    def blocks(self, deadline: Deadline, read: _Reader) -> tuple[Block, ...]:
        """What has come, each unbroken stretch a block."""
        self._rest += self._source.bytes(deadline)
        host_ns = time.monotonic_ns()
        *lines, self._rest = self._rest.split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            raise DeviceError(
                f"{self._what} wrote a line of more than {_LONGEST_LINE} bytes: it is no meter's", "meter"
            )
        out: list[tuple[int, float, float]] = []
        for line in lines:
            if not line.strip():
                continue
            found = read.sample(line.decode(errors="replace"), host_ns)
            if found is not None and np.isfinite(found).all() and self._follows(found[0]):
                out.append((self._index, *found))
            self._index += 1
        if not out:
            return ()
        index, own_s, power_w = (np.array(column) for column in zip(*out, strict=True))
        cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), index.size]
        return tuple(Block(int(index[a]), _RATE_HZ, power_w[a:b], host_ns, own_s=own_s[a:b]) for a, b in pairwise(cuts))

    def _follows(self, moment_s: float) -> bool:
        """Whether a stamp may stand after the last one. Raises DeviceError where all of them leap."""
        last_s = self._last_s
        if last_s is not None and moment_s > last_s + _LEAP_S:
            self._leaps += 1
            if self._leaps < _MOST_LEAPS:
                return False
            raise DeviceError(
                f"{self._what} gives stamps more than an hour after each other: are they seconds, or ns?", "meter"
            )
        self._leaps = 0
        if last_s is not None and moment_s <= last_s:
            return False
        self._last_s = moment_s
        return True


class _Reader(Protocol):
    """How a line is read."""

    def sample(self, line: str, host_ns: int) -> tuple[float, float] | None:
        """Its moment (s) and power (W); None for what is none."""


class CsvMeter:
    """A text file that something else appends to: what stands in it before the start does not count."""

    def __init__(self, spec: MeterSpec) -> None:
        self._path = Path(spec.path or "")
        self._column, self._time_column, self._scale = spec.column or "", spec.time_column, _SCALE[spec.unit]
        self._latency_s = _latency_s(spec)
        self._file: BinaryIO | None = None
        self._lines: Lines | None = None
        self._separator: str | None = None
        self._power_at = 0
        self._time_at: int | None = None

    def open(self) -> Instrument:
        try:
            self._file = self._opened()
            head = self._file.read(_LONGEST_LINE) or b""
        except OSError as error:
            raise DeviceError(f"{self._path} cannot be read: {error.strerror}: start what writes it", "meter") from None
        names = head.partition(b"\n")[0].decode(errors="replace").strip()
        self._separator = next((mark for mark in "\t;," if mark in names), None)
        columns = [name.strip().strip('"') for name in names.split(self._separator)]
        self._power_at = self._place(self._column, columns)
        self._time_at = None if self._time_column is None else self._place(self._time_column, columns)
        return Instrument(
            type="csv",
            serial=None,
            rate_hz=_RATE_HZ,
            clock=HOST_CLOCK if self._time_at is None else OWN_CLOCK,
            latency_s=self._latency_s,
            about={"path": str(self._path), "column": self._column},
        )

    def start(self) -> None:
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)
            # a line that is half written now would be read from its middle
            self._lines = Lines(_Growing(self._file, self._path, in_line=self._ends_inside_a_line()), str(self._path))

    def read(self, deadline: Deadline) -> tuple[Block, ...]:
        return () if self._lines is None else self._lines.blocks(deadline, self)

    def stop(self) -> None:
        """What is written from now on is nobody's."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def sample(self, line: str, host_ns: int) -> tuple[float, float] | None:
        """The values of a line's columns."""
        fields = line.split(self._separator)
        with contextlib.suppress(ValueError, IndexError, OverflowError):
            power = self._number(fields[self._power_at]) * self._scale
            return (host_ns * 1e-9 if self._time_at is None else self._number(fields[self._time_at])), power
        return None

    def _opened(self) -> BinaryIO:
        """Raises OSError, DeviceError for what cannot grow: a pipe, a terminal, a folder."""
        # neither waits for the other end of a pipe nor takes a terminal for its own
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DeviceError(
                    f"{self._path} is no regular file: use type command, argv [cat, {self._path}]", "meter"
                )
            return os.fdopen(descriptor, "rb", buffering=0)
        except BaseException:
            os.close(descriptor)
            raise

    def _number(self, field: str) -> float:
        text = field.strip().strip('"')
        return float(text.replace(",", ".") if self._separator == ";" else text)

    def _place(self, name: str, columns: list[str]) -> int:
        if name in columns:
            return columns.index(name)
        if name.isdigit() and 0 < int(name) <= len(columns):
            return int(name) - 1
        shown = ", ".join(columns)[:200] or "none"
        raise DeviceError(f"{self._path} has no column '{name}': its first line has {shown}", "meter")

    def _ends_inside_a_line(self) -> bool:
        if self._file is None or not self._file.tell():
            return False
        self._file.seek(-1, os.SEEK_END)
        return self._file.read(1) != b"\n"


class _Growing:
    """The bytes that are appended to a file."""

    def __init__(self, file: BinaryIO, path: Path, *, in_line: bool) -> None:
        self._file, self._path, self._in_line = file, path, in_line

    def bytes(self, deadline: Deadline) -> bytes:
        while True:
            got = self._file.read(_PIECE) or b""
            if got and self._in_line:
                _, newline, got = got.partition(b"\n")
                self._in_line = not newline
            if got or not deadline.left_s:
                return got
            self._check()
            time.sleep(min(_LOOK_S, deadline.left_s))

    def _check(self) -> None:
        """Raises DeviceError for a file that was cut, or is another one now."""
        try:
            now, mine = self._path.stat(), os.fstat(self._file.fileno())
        except OSError as error:
            raise DeviceError(f"{self._path} is gone: {error.strerror}", "meter") from None
        if (now.st_ino, now.st_dev) != (mine.st_ino, mine.st_dev) or now.st_size < self._file.tell():
            raise DeviceError(f"{self._path} was cut or replaced while it was read: let it only grow", "meter")


class CommandMeter:
    """A command that prints a line for each value: seconds of its clock (a long whole number: ns), and the power."""

    def __init__(self, spec: MeterSpec) -> None:
        self._argv, self._scale, self._latency_s = spec.argv or (), _SCALE[spec.unit], _latency_s(spec)
        self._process: Process | None = None
        self._lines: Lines | None = None

    def open(self) -> Instrument:
        about = {"argv": " ".join(self._argv)[:200]}
        return Instrument(type="command", serial=None, rate_hz=_RATE_HZ, latency_s=self._latency_s, about=about)

    def start(self) -> None:
        self._process = LocalTransport().start(self._argv)
        self._lines = Lines(_Printed(self._process, self._argv[0]), f"'{self._argv[0]}'")

    def read(self, deadline: Deadline) -> tuple[Block, ...]:
        return () if self._lines is None else self._lines.blocks(deadline, self)

    def stop(self) -> None:
        """Ended as it is let go of."""

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None

    def sample(self, line: str, host_ns: int) -> tuple[float, float] | None:
        """The two words of a line."""
        del host_ns
        words = line.replace(",", " ").split()
        with contextlib.suppress(ValueError, IndexError, OverflowError):
            moment = int(words[0]) * 1e-9 if _NS.fullmatch(words[0]) else float(words[0])
            return moment, float(words[1]) * self._scale
        return None


class _Printed:
    """The bytes that a command prints."""

    def __init__(self, process: Process, name: str) -> None:
        self._process, self._name = process, name

    def bytes(self, deadline: Deadline) -> bytes:
        try:
            got = self._process.read(deadline)
        except TransportTimeout:
            return b""
        if got:
            return got
        done = self._process.wait(Deadline.after(_END_S))
        words = f": {done.complaint}" if done.stderr.strip() else ""
        raise DeviceError(f"the command '{self._name}' ended with code {done.code}{words}", "meter")


def _latency_s(spec: MeterSpec) -> float:
    return _LATENCY_S if spec.latency_s is None else spec.latency_s
