"""A TCP bridge on the loopback between melt and a real peer, which does to the link what cables and networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 1 << 16
_LOOK_S = 0.05
_PORT_LIMIT_S = 30.0
_RESET = struct.pack("ii", 1, 0)


class Bridge:
    """Listens at `port` and passes everything on to `target` in both directions, until told otherwise."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.rate_bytes_per_s: float | None = None
        self.stall_every_bytes: int | None = None
        self.stall_s = 0.0
        self.flips = 0
        """How many of the next large messages to melt get one wrong bit."""
        self._passing = threading.Event()
        self._passing.set()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._over = False
        self._listener: socket.socket | None = None
        self.port = 0
        self.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._over = True
        self._passing.set()
        self.shut()

    def open(self) -> None:
        """The link is there (again), for new connections."""
        self._passing.set()
        if self._listener is not None:
            return
        listener = _listening(self.port)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def reset(self) -> None:
        """Every connection ends at once with a reset; new ones are welcome."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for sock in (sock for pair in pairs for sock in pair):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.shutdown(socket.SHUT_RD)
            with contextlib.suppress(OSError):
                sock.close()

    def shut(self) -> None:
        """Nobody is there any more: connections are reset, new ones refused."""
        if self._listener is not None:
            # a close alone leaves the port open for as long as another thread waits in accept
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.reset()

    def hold(self) -> None:
        """The cable is out: connections stay and nothing comes through, in neither direction; new ones hear nothing."""
        self._passing.clear()

    def release(self) -> None:
        """The cable is in again; what hung on it meanwhile was given up by the other end."""
        self.reset()
        self._passing.set()

    def _accept(self, listener: socket.socket) -> None:
        while not self._over:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        while not self._passing.wait(_LOOK_S):
            if self._over:
                return
        try:
            far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        for sock in (near, far):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (near, far)
        with self._lock:
            self._pairs.add(pair)
        pumps = [
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True),
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True),
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        with self._lock:
            self._pairs.discard(pair)
        for sock in pair:
            with contextlib.suppress(OSError):
                sock.close()

    def _pump(self, source: socket.socket, sink: socket.socket, to_melt: bool) -> None:
        since_stall = 0
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK):
                while not self._passing.wait(_LOOK_S):
                    if self._over:
                        return
                if to_melt and self.flips and len(chunk) > 1000:
                    self.flips -= 1
                    chunk = bytearray(chunk)
                    chunk[len(chunk) // 2] ^= 1
                sink.sendall(chunk)
                if self.rate_bytes_per_s:
                    time.sleep(len(chunk) / self.rate_bytes_per_s)
                since_stall += len(chunk)
                if self.stall_every_bytes and since_stall >= self.stall_every_bytes:
                    since_stall = 0
                    time.sleep(self.stall_s)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _listening(port: int) -> socket.socket:
    """Listens on that port, or on a free one for 0; a stranger's connection that has it meanwhile is waited for."""
    give_up = time.monotonic() + _PORT_LIMIT_S
    while True:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            listener.close()
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)
        else:
            return listener
