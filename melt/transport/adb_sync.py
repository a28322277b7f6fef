"""Files over an adb daemon's `sync:` service: whole or not at all, bounded, and given up when nothing moves.

Requests and answers are four letters and a number (little endian), with data where the letters say so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import secrets
import stat
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self

from melt.errors import DeviceError, MeltError, TransportError, TransportTimeout, UsageError
from melt.places import appearing
from melt.transport import shell_v2
from melt.transport.adb_link import Watched
from melt.transport.base import Deadline
from melt.transport.source import opened

if TYPE_CHECKING:
    from pathlib import Path

    from melt.transport.adb_link import Bytes, Link
    from melt.transport.source import Part, Source

_HEAD = struct.Struct("<4sI")
_STAT = struct.Struct("<4sIQQIIIIQqqq")
_DATA_LIMIT = 65536
_DATAS = 15
"""Data pieces in one write: with their heads just below what one message to a daemon carries."""
_REASON_LIMIT = 65536
_TIDY_S = 15.0
_FAILURES = {
    "No space left": ("no space is left", "no_space"),
    "Disk quota exceeded": ("the quota is used up", "no_space"),
    "Read-only file system": ("the file system is read-only", "read_only"),
    "Permission denied": ("permission denied", "read_only"),
    "Operation not permitted": ("permission denied", "read_only"),
    "No such file": ("the folder does not exist", "missing"),
    "Not a directory": ("a part of its path is not a folder", "missing"),
}


@dataclass(frozen=True)
class _Stat:
    error: int
    mode: int
    size_bytes: int


def push(link: Link, source: Path | Part, target: str, *, deadline: Deadline, executable: bool) -> None:
    """Makes `target` on the device a copy of `source`; see Transport.push."""
    what = f"copying {source.name} to {target} on {link.name}"
    with opened(source) as data:
        deadline.check(what)
        folder = posixpath.dirname(target) or "."
        temporary = posixpath.join(folder, f".melt-{secrets.token_hex(8)}.part")
        with _Sync(link, what, deadline) as sync:
            _check_place(sync, folder, target, link.name)
            try:
                refusal = sync.send(data, temporary, 0o755 if executable else 0o644)
            except BaseException as error:
                sync.close()
                # the daemon takes a part away itself when it loses its client; one that is gone cannot be asked
                if isinstance(error, TransportTimeout) or not isinstance(error, TransportError):
                    _remove(link, temporary)
                raise
        if refusal is not None:
            _remove(link, temporary)
            raise _cannot_write(target, link.name, refusal)
    _rename(link, temporary, target)


def pull(link: Link, source: str, target: Path, *, deadline: Deadline, limit_bytes: int) -> None:
    """Makes `target` here a copy of the device's `source`; see Transport.pull."""
    what = f"copying {source} from {link.name}"
    deadline.check(what)
    with _Sync(link, what, deadline) as sync:
        (found,) = sync.stat(source)
        if found.error in (errno.ENOENT, errno.ENOTDIR):
            raise DeviceError(f"{source} is not on {link.name}", code="missing")
        if found.error:
            raise DeviceError(f"{source} on {link.name} cannot be read: {os.strerror(found.error)}")
        if not stat.S_ISREG(found.mode):
            raise DeviceError(f"{source} on {link.name} is not a file")
        if found.size_bytes > limit_bytes:
            raise DeviceError(f"{source} is larger than {limit_bytes} bytes and was left on {link.name}")
        try:
            with appearing(target, synced=False) as temporary:
                with temporary.open("wb", buffering=0) as out:
                    sync.receive(source, out, limit_bytes)
                temporary.chmod(0o644)
        except OSError as error:
            words, code = _in_words(error.strerror or str(error))
            raise DeviceError(f"{target} on this computer cannot be written: {words}", code=code) from error


class _Sync:
    """One `sync:` service, from the first request to the last."""

    def __init__(self, link: Link, what: str, deadline: Deadline) -> None:
        self._what = what
        self._name = link.name
        self._deadline = deadline
        self._in = bytearray()
        self._finished = False
        self._all_said = False
        self._channel = Watched(link.open(b"sync:"), link.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close(finished=self._finished)

    def stat(self, *paths: str) -> list[_Stat]:
        """What each path leads to: asked together, for one round trip."""
        self._write(b"".join(_request(b"STA2", path.encode("utf-8", "surrogateescape")) for path in paths))
        found = []
        for _ in paths:
            kind, error, _, _, mode, _, _, _, size, *_ = _STAT.unpack(self._exactly(_STAT.size))
            if kind != b"STA2":
                raise TransportError(
                    f"{self._name} answered a file question with {kind!r}: the link is broken, try again"
                )
            found.append(_Stat(error, mode, size))
        return found

    def send(self, data: Source, path: str, mode: int) -> str | None:
        """Writes a file on the device; the device's reason if it refuses."""
        request = f"{path},{stat.S_IFREG | mode}".encode("utf-8", "surrogateescape")
        self._write(_request(b"SEND", request))
        pieces = _Pieces(data)
        while block := pieces.next():
            self._write(block)
            if self._in:
                # only a refusal comes before the end
                break
        else:
            self._write(_HEAD.pack(b"DONE", int(time.time()) & 0xFFFFFFFF))
            # the adb server and two sockets hold megabytes yet to go: on a slow link nothing seems to move until then
            self._all_said = True
        kind, length = _HEAD.unpack(self._exactly(_HEAD.size))
        if kind == b"OKAY":
            self._quit()
            return None
        return self._reason(kind, length)

    def receive(self, path: str, out: BinaryIO, limit_bytes: int) -> None:
        """Reads a file of the device into `out`."""
        self._write(_request(b"RECV", path.encode("utf-8", "surrogateescape")))
        done = left = 0
        while True:
            view = memoryview(self._some())
            while view:
                if left:
                    piece, view = view[:left], view[left:]
                    _write_all(out, piece)
                    left -= len(piece)
                    continue
                head, view = view[: _HEAD.size], view[_HEAD.size :]
                kind, left = _HEAD.unpack(head if len(head) == _HEAD.size else self._filled_up(head))
                if kind == b"DONE":
                    self._quit()
                    return
                if kind != b"DATA":
                    self._in[:0] = view
                    words, code = _in_words(self._reason(kind, left))
                    raise DeviceError(f"{path} on {self._name} cannot be read: {words}", code=code)
                done += left
                if done > limit_bytes:
                    raise DeviceError(f"{path} on {self._name} grew beyond {limit_bytes} bytes")

    def _some(self) -> Bytes:
        """What is here, otherwise what comes next."""
        if not self._in:
            return self._read()
        kept, self._in = self._in, bytearray()
        return kept

    def _filled_up(self, head: memoryview) -> bytes:
        begun = bytes(head)
        return begun + self._exactly(_HEAD.size - len(begun))

    def _quit(self) -> None:
        self._write(_HEAD.pack(b"QUIT", 0))
        self._finished = True

    def _reason(self, kind: bytes, length: int) -> str:
        if kind != b"FAIL" or length > _REASON_LIMIT:
            raise TransportError(f"{self._name} answered {kind!r} while {self._what}: the link is broken, try again")
        return self._exactly(length).decode(errors="replace")

    def _write(self, data: Bytes) -> None:
        left = memoryview(data)
        while left:
            taken, got = self._step(left)
            left = left[taken:]
            if got is not None:
                self._in += self._checked(got)
                if self._in.startswith(b"FAIL"):
                    return

    def _exactly(self, length: int) -> bytes:
        while len(self._in) < length:
            self._in += self._read()
        taken = bytes(self._in[:length])
        del self._in[:length]
        return taken

    def _read(self) -> Bytes:
        while True:
            _, got = self._step(b"")
            if got is not None:
                return self._checked(got)

    def _checked(self, got: Bytes) -> Bytes:
        if not got:
            raise TransportError(f"the link to {self._name} was lost while {self._what}: look at the cable")
        return got

    def _step(self, data: Bytes) -> tuple[int, Bytes | None]:
        if not self._deadline.left_s:
            raise TransportTimeout(f"{self._what} took longer than its limit")
        if not self._all_said:
            self._channel.check_progress(self._what)
        return self._channel.step(data, self._deadline.left_s)


class _Pieces:
    """A file cut into data pieces, each behind its head, read straight to where it is sent from."""

    def __init__(self, data: Source) -> None:
        step = _HEAD.size + _DATA_LIMIT
        self._data = data
        self._block = memoryview(bytearray(step * _DATAS))
        self._heads = range(0, len(self._block), step)
        self._slots = [self._block[at + _HEAD.size : at + step] for at in self._heads]

    def next(self) -> memoryview:
        """The next pieces, empty at the end; the one before is gone then."""
        left = self._data.fill(self._slots)
        end = 0
        for at in self._heads:
            length = min(left, _DATA_LIMIT)
            if not length:
                break
            _HEAD.pack_into(self._block, at, b"DATA", length)
            end, left = at + _HEAD.size + length, left - length
        return self._block[:end]


def _request(kind: bytes, data: bytes) -> bytes:
    if b"\0" in data:
        raise UsageError("a path on the device holds a null byte")
    return _HEAD.pack(kind, len(data)) + data


def _write_all(out: BinaryIO, data: Bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[out.write(left) :]


def _check_place(sync: _Sync, folder: str, target: str, name: str) -> None:
    """The daemon would make folders that are missing, and mv would move into a folder of the target's name."""
    place, present = sync.stat(folder, target)
    if place.error:
        raise _cannot_write(target, name, os.strerror(place.error))
    if not stat.S_ISDIR(place.mode):
        raise _cannot_write(target, name, os.strerror(errno.ENOTDIR))
    if not present.error and stat.S_ISDIR(present.mode):
        raise DeviceError(f"{target} on {name} cannot be written: it is a folder")


def _rename(link: Link, temporary: str, target: str) -> None:
    try:
        done = shell_v2.run(link, ["mv", "-f", "--", temporary, target], deadline=Deadline.after(_TIDY_S))
    except BaseException as error:
        if not isinstance(error, TransportError):
            _remove(link, temporary)
        raise
    if not done.ok:
        _remove(link, temporary)
        raise _cannot_write(target, link.name, done.complaint)


def _remove(link: Link, temporary: str) -> None:
    """Takes a part away where that is still possible."""
    with contextlib.suppress(MeltError):
        shell_v2.run(link, ["rm", "-f", "--", temporary], deadline=Deadline.after(_TIDY_S))


def _in_words(reason: str) -> tuple[str, str]:
    for words, meaning in _FAILURES.items():
        if words in reason:
            return meaning
    return reason, "device"


def _cannot_write(target: str, name: str, reason: str) -> DeviceError:
    words, code = _in_words(reason)
    return DeviceError(f"{target} on {name} cannot be written: {words}", code=code)
