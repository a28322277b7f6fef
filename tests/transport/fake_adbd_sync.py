"""The fake adb daemon's files: its answers and what it does to the disk are those of Android's daemon."""

# a slash at the end of a path means something, and Path drops it
# ruff: noqa: PTH102, PTH108, PTH114, PTH116, PTH118, PTH208

from __future__ import annotations

import contextlib
import os
import stat
import struct
from typing import TYPE_CHECKING

from fake_adbd_stream import Gone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_adbd_stream import Stream

_HEAD = struct.Struct("<4sI")
_STAT = struct.Struct("<4s3I")
_STAT2 = struct.Struct("<4sIQQIIIIQqqq")
_ENTRY = struct.Struct("<4s4I")
_ENTRY2 = struct.Struct("<4sIQQIIIIQqqqI")
_DATA_LIMIT = 65536


def sync(stream: Stream, service: bytes) -> None:
    """`sync:`, until the client asks for the end of it."""
    del service
    files = _Files(stream)
    answers = {
        b"STAT": files.stat,
        b"STA2": files.stat2,
        b"LST2": files.stat2,
        b"LIST": files.list,
        b"LIS2": files.list,
        b"SEND": files.send,
        b"RECV": files.receive,
    }
    going_on = True
    while going_on:
        kind, length = _HEAD.unpack(files.exactly(_HEAD.size))
        if kind == b"QUIT":
            return
        word = files.exactly(length)
        if kind not in answers:
            files.fail(f"unknown command {int.from_bytes(kind, 'little'):08x}")
            return
        going_on = answers[kind](kind, word)


class _Files:
    """Each answer says whether the service goes on."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._in = bytearray()
        self._modified_s = 0

    def exactly(self, length: int) -> bytes:
        while len(self._in) < length:
            self._take()
        taken = bytes(self._in[:length])
        del self._in[:length]
        return taken

    def fail(self, why: str) -> None:
        said = why.encode()
        self._stream.write(_HEAD.pack(b"FAIL", len(said)) + said)

    def stat(self, kind: bytes, path: bytes) -> bool:
        try:
            found = os.lstat(path)
            self._stream.write(_STAT.pack(kind, found.st_mode, _short(found.st_size), int(found.st_mtime)))
        except OSError:
            self._stream.write(_STAT.pack(kind, 0, 0, 0))
        return True

    def stat2(self, kind: bytes, path: bytes) -> bool:
        try:
            found = os.lstat(path) if kind == b"LST2" else os.stat(path)
            self._stream.write(_STAT2.pack(kind, 0, *_facts(found)))
        except OSError as error:
            self._stream.write(_STAT2.pack(kind, error.errno or 0, *[0] * 10))
        return True

    def list(self, kind: bytes, path: bytes) -> bool:
        with contextlib.suppress(OSError):
            for name in [b".", b"..", *os.listdir(path)]:
                with contextlib.suppress(FileNotFoundError):
                    found = os.lstat(os.path.join(path, name))
                    if kind == b"LIST":
                        facts = (found.st_mode, _short(found.st_size), int(found.st_mtime), len(name))
                        self._stream.write(_ENTRY.pack(b"DENT", *facts) + name)
                    else:
                        self._stream.write(_ENTRY2.pack(b"DNT2", 0, *_facts(found), len(name)) + name)
        end = _ENTRY.pack(b"DONE", *[0] * 4) if kind == b"LIST" else _ENTRY2.pack(b"DONE", *[0] * 12)
        self._stream.write(end)
        return True

    def receive(self, kind: bytes, path: bytes) -> bool:
        del kind
        try:
            source = os.open(path, os.O_RDONLY)
        except OSError as error:
            self.fail(f"open failed: {error.strerror}")
            return True
        try:
            while data := os.read(source, _DATA_LIMIT):
                self._stream.write(_HEAD.pack(b"DATA", len(data)) + data)
        except OSError as error:
            self.fail(f"read failed: {error.strerror}")
            return True
        finally:
            os.close(source)
        self._stream.write(_HEAD.pack(b"DONE", 0))
        return True

    def send(self, kind: bytes, word: bytes) -> bool:
        """A file is made anew unless something that is no file has its name; what is not whole is taken away."""
        del kind
        path, _, mode_word = word.rpartition(b",")
        mode = int(mode_word, 0)
        mode |= mode >> 3 & 0o070
        mode |= mode >> 3 & 0o007
        own = not os.path.lexists(path) or stat.S_ISREG(os.lstat(path).st_mode) or os.path.islink(path)
        target = None
        pieces = self._pieces()
        try:
            try:
                if own:
                    _unlink(path)
                what = "couldn't create file"
                target = _created(path, mode & 0o777)
                what = "write failed"
                self._filled(target, pieces)
            except OSError as error:
                self.fail(f"{what}: {error.strerror}")
                # what the client sends until it has heard of it
                for _ in pieces:
                    pass
                raise Gone from error
            with contextlib.suppress(OSError):
                os.fchmod(target, mode & 0o777)
                os.utime(path, (self._modified_s, self._modified_s), follow_symlinks=False)
        except Gone:
            if own and target is not None:
                _unlink(path)
            raise
        finally:
            if target is not None:
                os.close(target)
        self._stream.write(_HEAD.pack(b"OKAY", 0))
        return True

    def _filled(self, target: int, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(target, left) :]

    def _pieces(self) -> Iterator[bytes]:
        """A file's content as it comes: a part of it is on the disk when the link is lost. Raises Gone."""
        while True:
            kind, left = _HEAD.unpack(self.exactly(_HEAD.size))
            if kind == b"DONE":
                self._modified_s = left
                return
            if kind != b"DATA":
                raise Gone
            while left:
                if not self._in:
                    self._take()
                piece = bytes(self._in[:left])
                del self._in[: len(piece)]
                left -= len(piece)
                yield piece

    def _take(self) -> None:
        data = self._stream.read()
        if not data:
            raise Gone
        self._in += data


def _created(path: bytes, mode: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT
    try:
        return os.open(path, flags | os.O_EXCL, mode)
    except FileExistsError:
        return os.open(path, flags, mode)
    except FileNotFoundError:
        # the daemon makes the folders that are missing, where they can be made
        slashes = [at for at, byte in enumerate(path) if byte == ord("/") and at]
        for at in slashes:
            with contextlib.suppress(OSError):
                os.mkdir(path[:at], 0o775)
        return os.open(path, flags | os.O_EXCL, mode)


def _unlink(path: bytes) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _facts(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        int(found.st_atime),
        int(found.st_mtime),
        int(found.st_ctime),
    )


def _short(size_bytes: int) -> int:
    return size_bytes & 0xFFFFFFFF
