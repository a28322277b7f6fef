"""What a push sends: a file of this computer, or some bytes of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from melt.errors import UsageError

OnRead = Callable[[int], None]


def _nobody(_: int) -> None:
    """Nobody asked to be told."""


@dataclass(frozen=True)
class Part:
    """`length_bytes` of a file from `begin_bytes` on; `on_read` is told how many were taken, each time some are."""

    path: Path
    begin_bytes: int
    length_bytes: int
    on_read: OnRead = _nobody

    @property
    def name(self) -> str:
        return self.path.name


class Source:
    """An opened file or part, read straight into the buffers that it is sent from."""

    def __init__(self, data: BinaryIO, begin_bytes: int, length_bytes: int, on_read: OnRead) -> None:
        self._descriptor = data.fileno()
        self._at = begin_bytes
        self._left = length_bytes
        self._on_read = on_read
        self.size_bytes = length_bytes

    def fill(self, buffers: Sequence[memoryview]) -> int:
        """Reads on into the buffers, in order; how many bytes, 0 at the end. Raises OSError."""
        wanted: list[memoryview] = []
        room = self._left
        for buffer in buffers:
            if not room:
                break
            wanted.append(buffer[:room])
            room -= len(wanted[-1])
        got = os.preadv(self._descriptor, wanted, self._at) if wanted else 0
        self._at += got
        self._left -= got
        self._on_read(got)
        return got


@contextlib.contextmanager
def opened(source: Path | Part) -> Iterator[Source]:
    """The bytes of a file or part. Raises UsageError when it cannot be read."""
    path = source if isinstance(source, Path) else source.path
    try:
        data = path.open("rb", buffering=0)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    with data:
        if isinstance(source, Part):
            yield Source(data, source.begin_bytes, source.length_bytes, source.on_read)
        else:
            yield Source(data, 0, os.fstat(data.fileno()).st_size, _nobody)
