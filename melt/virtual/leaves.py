"""A folder of small files that stand for a kernel's: rewritten in place, and listened to.

A reader may hold a file open for hours and read it again from its start, as melt's agent does. So a value is never
written under another name and renamed, and never emptied before it is written: the new text goes over the old one with
line ends up to its length, and then the file is cut. What others write is what they ask for.
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from melt.virtual.sensors import Trouble

_LONGEST = 4096


class Leaves:
    """The files below `root`, each by its path on the device, `/sys/…`, or by its name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, int] = {}
        self._texts: dict[str, bytes] = {}
        self._broken: dict[str, Trouble] = {}

    def put(self, path: str, text: str | float) -> None:
        """Makes `text` and a line end the file's content, unless the file is broken just now."""
        data = f"{text}".rstrip("\n").encode() + b"\n"
        before = self._texts.get(path)
        if data == before or path in self._broken:
            return
        self._texts[path] = data
        if path not in self._open:
            self._create(path)
        self._write(path, data)

    def asked(self, path: str) -> str | None:
        """What somebody else has written since the last `put` or `asked`; None when nobody has."""
        if path not in self._open or path in self._broken:
            return None
        data = os.pread(self._open[path], _LONGEST, 0)
        # an empty file is one that is being written at this moment
        if not data or data == self._texts[path]:
            return None
        self._texts[path] = data
        return data.decode(errors="replace").strip()

    def matching(self, pattern: str) -> list[str]:
        """The files, by their paths, that a shell pattern stands for."""
        return [path for path in self._texts if fnmatchcase(path, pattern)]

    def link(self, path: str, target: str) -> None:
        """Makes `path` lead to the folder or file `target`, both on the device."""
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        # relative: a board whose programs see the tree at another path follows it too
        place.symlink_to(os.path.relpath(self._place(target), place.parent))

    def break_(self, path: str, trouble: Trouble) -> None:
        """The file is not as it should be until `mend`: also for whoever holds it open, as far as a file can."""
        if self._broken.get(path) == trouble or path not in self._open:
            return
        self._broken[path] = trouble
        place = self._place(path)
        if trouble == "garbage":
            self._write(path, b"?!\n")
        elif trouble == "negative":
            self._write(path, b"-" + self._texts[path].lstrip(b"-"))
        else:
            os.ftruncate(self._open[path], 0)
            if trouble != "empty":
                place.unlink(missing_ok=True)
            if trouble == "hangs":
                os.mkfifo(place)

    def mend(self, path: str) -> None:
        """The file is as it was before it broke."""
        trouble = self._broken.pop(path, None)
        if trouble is None:
            return
        if trouble in ("gone", "hangs"):
            self._place(path).unlink(missing_ok=True)
            os.close(self._open.pop(path))
            self._create(path)
        self._write(path, self._texts[path])

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _place(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def _create(self, path: str) -> None:
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        self._open[path] = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def _write(self, path: str, data: bytes) -> None:
        descriptor = self._open[path]
        longer = os.fstat(descriptor).st_size - len(data)
        os.pwrite(descriptor, data + b"\n" * max(longer, 0), 0)
        if longer > 0:
            os.ftruncate(descriptor, len(data))
