"""The fake adb daemon's process: connections, their streams, and what goes wrong with them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import struct
import sys
import threading
from typing import NoReturn

import psutil
from fake_adbd import Fault, Manner, end_tree
from fake_adbd_shell import shell
from fake_adbd_stream import Gone, Link, Stream
from fake_adbd_sync import sync

_HEAD = struct.Struct("<4s5I")
_VERSION = 0x01000001
_MAX_DATA = 1 << 20
_BANNER = (
    b"device::ro.product.name=fake;ro.product.model=fake;ro.product.device=fake;"
    b"features=shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir,fixed_push_symlink_timestamp"
)
_AUTH_TOKEN, _AUTH_PUBLIC_KEY = 1, 3
_SMALL = 4096
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.05
"""A thread that waits on the socket looks up so often whether the fault has struck."""
_SERVICES = {"shell": shell, "exec": shell, "sync": sync}


class Connection:
    """One client."""

    def __init__(self, wire: socket.socket, link: Link) -> None:
        self.max_data = _MAX_DATA
        self._wire = wire
        self._link = link
        self._piece = link.manner.piece_bytes or _MAX_DATA
        self._struck: str | None = None
        self._sending = threading.Lock()
        self._streams: dict[int, Stream] = {}
        self._last_id = 0
        self._random = random.Random(1)
        wire.settimeout(_LOOK_S)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def serve(self) -> None:
        try:
            with contextlib.suppress(Gone):
                self._greet()
                while True:
                    self._handle()
        finally:
            for stream in list(self._streams.values()):
                stream.leave(close=False)
            self._wire.close()

    def send(self, command: bytes, own: int, theirs: int, data: bytes = b"", *, stream: Stream | None = None) -> None:
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        head = _HEAD.pack(command, own, theirs, len(data), 0, magic)
        with self._sending:
            if stream is not None:
                room = self._link.room(stream, "sent_messages")
                if room is None:
                    room = self._link.room(stream, "sent_bytes")
                    due = room is not None and command == b"WRTE" and len(data) > room
                else:
                    due = room == 0
                if due and self._link.strikes():
                    assert room is not None
                    head, data = self._spoiled(head, data, room)
                stream.passed["sent_messages"] += 1
                stream.passed["sent_bytes"] += len(data)
            self._push(head + data)

    def _spoiled(self, head: bytes, data: bytes, room: int) -> tuple[bytes, bytes]:
        fault = self._link.manner.fault
        assert fault is not None
        match fault.what:
            case "garbage":
                return self._random.randbytes(len(head)), data
            case "magic":
                return head[:20] + b"\0\0\0\0", data
            case "length":
                return head[:12] + (1 << 31).to_bytes(4, "little") + head[16:], data
            case _:
                if fault.sent_bytes is not None:
                    self._push(head + data[:room])
                self._strike(fault.what)
                return self._stopped()

    def _push(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            if self._struck:
                self._stopped()
            try:
                sent = self._wire.send(left[: self._piece])
            except TimeoutError:
                continue
            except OSError as error:
                raise Gone from error
            left = left[sent:]
            self._link.pace(sent)

    def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            if self._struck:
                self._ended()
            try:
                part = self._wire.recv(min(size - len(got), self._piece))
            except TimeoutError:
                continue
            except OSError as error:
                raise Gone from error
            if not part:
                raise Gone
            got += part
            self._link.pace(len(part))
        return bytes(got)

    def _strike(self, what: str) -> None:
        self._struck = what
        if what == "cut":
            with contextlib.suppress(OSError):
                self._wire.shutdown(socket.SHUT_WR)

    def _stopped(self) -> NoReturn:
        """The fault, as a writer sees it."""
        if self._struck == "stall":
            threading.Event().wait()
        raise Gone

    def _ended(self) -> NoReturn:
        """The fault, as the reader sees it, who alone closes: otherwise the kernel would hold the RST back."""
        if self._struck == "cut":
            # what came after the end is thrown away: to leave it unread would be a reset
            with contextlib.suppress(OSError):
                self._wire.settimeout(1)
                while self._wire.recv(_MAX_DATA):
                    pass
        if self._struck == "reset":
            self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stopped()

    def _greet(self) -> None:
        while True:
            command, kind, size, data = self._message()
            if self._link.manner.offline:
                continue
            if self._link.manner.untrusting:
                if command != b"AUTH" or kind != _AUTH_PUBLIC_KEY:
                    self.send(b"AUTH", _AUTH_TOKEN, 0, self._random.randbytes(20))
                continue
            assert command == b"CNXN", (command, data)
            self.max_data = min(_MAX_DATA, size)
            self.send(b"CNXN", _VERSION, _MAX_DATA, _BANNER)
            return

    def _message(self) -> tuple[bytes, int, int, bytes]:
        command, arg0, arg1, length, _, magic = _HEAD.unpack(self._exactly(_HEAD.size))
        assert magic == int.from_bytes(command, "little") ^ 0xFFFFFFFF, "the host sent what is no message"
        assert length <= _MAX_DATA, length
        stream = self._streams.get(arg1) if command == b"WRTE" else None
        if stream is not None:
            room = self._link.room(stream, "received_bytes")
            fault = self._link.manner.fault
            if fault and room is not None and length > room and self._link.strikes():
                stream.take(self._exactly(room))
                self._strike(fault.what)
                self._ended()
        return command, arg0, arg1, self._exactly(length)

    def _handle(self) -> None:
        command, theirs, own, data = self._message()
        if command == b"OPEN":
            self._open(theirs, data.rstrip(b"\0"))
            return
        stream = self._streams.get(own)
        if stream is None:
            # a message may cross the end of its stream
            if command == b"WRTE":
                self.send(b"CLSE", 0, theirs)
        elif command == b"WRTE":
            stream.take(data)
        elif command == b"OKAY":
            stream.may_write()
        elif command == b"CLSE":
            del self._streams[own]
            stream.leave(close=True)
        else:
            raise AssertionError((command, data))

    def _open(self, theirs: int, service: bytes) -> None:
        name = service.decode("utf-8", "surrogateescape")
        words = name.partition(":")[0].split(",")
        serve = _SERVICES.get(words[0])
        if serve is None or "pty" in words:
            self.send(b"CLSE", 0, theirs)
            return
        self._last_id += 1
        stream = self._streams[self._last_id] = Stream(self, self._last_id, theirs, name)
        fault = self._link.manner.fault
        if fault and fault.after_s is not None and name.startswith(fault.on) and self._link.strikes():
            timer = threading.Timer(fault.after_s, self._strike, [fault.what])
            timer.daemon = True
            timer.start()
        stream.say(b"OKAY")

        def served() -> None:
            with contextlib.suppress(Gone):
                serve(stream, service)
            stream.leave(close=True)

        threading.Thread(target=served, daemon=True).start()


def main() -> None:
    """Serves until its stdin ends, which it does when the test's process does."""
    port, said = int(sys.argv[1]), json.loads(sys.argv[2])
    manner = Manner(**{**said, "fault": Fault(**said["fault"]) if said["fault"] else None})
    # what a command leaves behind becomes a child of this process, and is found by end_tree
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("this kernel lets no process adopt its descendants' children")
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.umask(0)
    listener = socket.create_server(("127.0.0.1", port))
    if manner.piece_bytes:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
    link = Link(manner)

    def accept() -> None:
        while True:
            wire, _ = listener.accept()
            threading.Thread(target=Connection(wire, link).serve, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    for child in psutil.Process().children(recursive=True):
        end_tree(child)
    os._exit(0)


if __name__ == "__main__":
    main()
