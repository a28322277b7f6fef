"""One stream of the fake adb daemon, and the link that all of them share."""

from __future__ import annotations

import contextlib
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_adbd import Manner
    from fake_adbd_wire import Connection


class Gone(Exception):
    """The host, or the link to it, is no more."""


class Stream:
    """One open service."""

    def __init__(self, connection: Connection, own: int, theirs: int, service: str) -> None:
        self.service = service
        self.passed = {"received_bytes": 0, "sent_bytes": 0, "sent_messages": 0}
        self.gone = False
        self._connection = connection
        self._ids = (own, theirs)
        self._arrived: SimpleQueue[bytes] = SimpleQueue()
        self._credit = threading.Semaphore(1)
        self._on_gone: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def read(self) -> bytes:
        """What comes next; empty once the stream has ended."""
        data = self._arrived.get()
        if not data:
            self._arrived.put(b"")
        elif not self.gone:
            self.say(b"OKAY")
        return data

    def write(self, data: bytes) -> None:
        """Gives data to the host, each piece after the host has taken the one before. Raises Gone."""
        for at in range(0, len(data), self._connection.max_data):
            self._credit.acquire()
            if self.gone:
                self._credit.release()
                raise Gone
            self.say(b"WRTE", data[at : at + self._connection.max_data])

    def when_gone(self, act: Callable[[], None]) -> None:
        """What to do at the stream's end, whoever ends it."""
        with self._lock:
            self._on_gone = act
            late = self.gone
        if late:
            act()

    def say(self, command: bytes, data: bytes = b"") -> None:
        self._connection.send(command, *self._ids, data, stream=self)

    def take(self, data: bytes) -> None:
        """Something from the host."""
        self.passed["received_bytes"] += len(data)
        if data:
            self._arrived.put(data)

    def may_write(self) -> None:
        self._credit.release()

    def leave(self, *, close: bool) -> None:
        """No more of it: its service hears of it; once only."""
        with self._lock:
            if self.gone:
                return
            self.gone = True
            act = self._on_gone
        self._arrived.put(b"")
        self._credit.release()
        act()
        if close:
            with contextlib.suppress(Gone):
                self.say(b"CLSE")


class Link:
    """What all connections share: how fast it is, and how often the fault has yet to strike."""

    def __init__(self, manner: Manner) -> None:
        self.manner = manner
        self._lock = threading.Lock()
        self._strikes = manner.fault.times if manner.fault else 0
        self._pauses = manner.pauses
        self._since_pause = 0

    def room(self, stream: Stream, unit: str) -> int | None:
        """How much more of `unit` may pass before the fault; None if that is not what it waits for."""
        fault = self.manner.fault
        limit = getattr(fault, unit) if fault and stream.service.startswith(fault.on) else None
        return None if limit is None or not self._strikes else max(0, limit - stream.passed[unit])

    def strikes(self) -> bool:
        """Whether there is a strike left, which is then spent."""
        with self._lock:
            self._strikes -= 1
            return self._strikes >= 0

    def pace(self, size: int) -> None:
        """Takes as long as `size` bytes take on this link, and holds up everybody else."""
        manner = self.manner
        if not (manner.bytes_per_s or manner.pauses):
            return
        with self._lock:
            if manner.bytes_per_s:
                time.sleep(size / manner.bytes_per_s)
            self._since_pause += size
            if self._pauses and self._since_pause >= manner.pause_every_bytes:
                self._since_pause = 0
                self._pauses -= 1
                time.sleep(manner.pause_s)
