"""The fake adb daemon's commands."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from typing import TYPE_CHECKING

from fake_adbd_stream import Gone

if TYPE_CHECKING:
    from fake_adbd_stream import Stream

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_PACKET = struct.Struct("<BI")
_CHUNK = 16384


def shell(stream: Stream, service: bytes) -> None:
    """`shell,v2,raw:COMMAND` in packets, or `shell:COMMAND` and `exec:COMMAND` with everything in one stream."""
    words, _, command = service.partition(b":")
    packets = b"v2" in words.split(b",")
    terminal = next((word[5:] for word in words.split(b",") if word.startswith(b"TERM=")), b"dumb")
    outer, inner = socket.socketpair()
    errors, inner_errors = socket.socketpair()
    process = subprocess.Popen(
        [b"/bin/sh", b"-c", command] if command else [b"-/bin/sh"],
        executable="/bin/sh",
        stdin=inner,
        stdout=inner,
        stderr=inner_errors if packets else inner,
        start_new_session=True,
        env={**os.environb, b"TERM": terminal},
    )
    inner.close()
    inner_errors.close()

    def hang_up() -> None:
        """Its outputs are closed, lest it waits on them; only the shell itself is told."""
        process.send_signal(signal.SIGHUP)
        for end in (outer, errors):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    stream.when_gone(hang_up)
    pumps = [
        threading.Thread(target=_feed, args=(stream, outer, packets), daemon=True),
        threading.Thread(target=_pump, args=(errors, stream, _STDERR if packets else None), daemon=True),
    ]
    for pump in pumps:
        pump.start()
    _pump(outer, stream, _STDOUT if packets else None)
    pumps[1].join()
    code = process.wait()
    stream.when_gone(lambda: None)
    if packets:
        stream.write(_PACKET.pack(_EXIT, 1) + bytes([code if code >= 0 else 128 - code]))
    outer.close()
    errors.close()


def _pump(source: socket.socket, stream: Stream, kind: int | None) -> None:
    with contextlib.suppress(OSError, Gone):
        while data := source.recv(_CHUNK):
            stream.write(data if kind is None else _PACKET.pack(kind, len(data)) + data)


def _feed(stream: Stream, target: socket.socket, packets: bool) -> None:
    """The client's bytes into the command's stdin; one that takes no more does not keep the client from going on."""
    waiting = bytearray()
    with contextlib.suppress(Gone):
        while data := stream.read():
            if not packets:
                with contextlib.suppress(OSError):
                    target.sendall(data)
                continue
            waiting += data
            while len(waiting) >= _PACKET.size:
                kind, length = _PACKET.unpack_from(waiting)
                if len(waiting) < _PACKET.size + length:
                    break
                content = waiting[_PACKET.size : _PACKET.size + length]
                del waiting[: _PACKET.size + length]
                with contextlib.suppress(OSError):
                    if kind == _STDIN:
                        target.sendall(content)
                    elif kind == _CLOSE_STDIN:
                        target.shutdown(socket.SHUT_WR)
