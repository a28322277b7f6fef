"""The part of a file that has come so far: it outlives whoever fetches it, and has one writer at a time."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from melt.errors import Interrupted, TransportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed import ReadableBuffer

Say = Callable[[str], None]

_MB = 1_000_000
_TOLD_EVERY_S = 10.0
_LOCK_LOOK_S = 0.2


class Part(io.FileIO):
    """A file that grows: it tells how far it has come, and ends the download when a person says so."""

    def __init__(self, path: Path, cancelled: Callable[[], bool]) -> None:
        super().__init__(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666), "r+b")
        self.path = path
        self._cancelled = cancelled
        self._told_s = time.monotonic()
        self._tell: Callable[[], None] = lambda: None
        self._most_bytes: int | None = None

    def size_bytes(self) -> int:
        """How much has come."""
        return os.fstat(self.fileno()).st_size

    def exists(self) -> bool:
        """Whether the name still is this file's: it was neither removed nor given its own name."""
        try:
            return os.path.samestat(os.fstat(self.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def watched(self, name: str, size_bytes: int, say: Say) -> None:
        """From now on, tells from time to time how much of the file there is."""
        self._tell = lambda: say(f"{name}: {megabytes(self.tell())} of {megabytes(size_bytes)}")
        self._most_bytes = size_bytes

    def write(self, data: ReadableBuffer, /) -> int:
        """All of `data`: an unbuffered file may take less at once, and whoever calls does not look."""
        if self._cancelled():
            raise Interrupted("interrupted while a model was fetched")
        rest = memoryview(data)
        length = len(rest)
        if self._most_bytes is not None and self.tell() + length > self._most_bytes:
            raise self.refused(f"the hub sends more than {self._most_bytes} bytes, which is not what it had said")
        while rest:
            rest = rest[super().write(rest) or 0 :]
        if time.monotonic() - self._told_s >= _TOLD_EVERY_S:
            self._told_s = time.monotonic()
            self._tell()
        return length

    def refused(self, why: str) -> TransportError:
        """The error for a file that is not the hub's; what came is removed."""
        self.path.unlink(missing_ok=True)
        return TransportError(f"{why}: it is removed, try again")


@contextlib.contextmanager
def alone(path: Path, say: Say, cancelled: Callable[[], bool]) -> Iterator[Part]:
    """The part at `path`, made if need be, while nobody else fetches it. Raises OSError, Interrupted."""
    waiting = False
    while True:
        with Part(path, cancelled) as part:
            while True:
                try:
                    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not waiting:
                        say("waiting for another melt that fetches the same file")
                    waiting = True
                if cancelled():
                    raise Interrupted("interrupted while another melt fetched a model")
                time.sleep(_LOCK_LOOK_S)
            if not part.exists():  # whoever had it gave it its own name, or removed it
                continue
            try:
                yield part
            finally:
                if part.exists() and not part.size_bytes():
                    path.unlink()
            return


def megabytes(size_bytes: int) -> str:
    """A size for a person."""
    return f"{size_bytes / _MB:.1f} MB" if size_bytes >= _MB else f"{size_bytes} bytes"
