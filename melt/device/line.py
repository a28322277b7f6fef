"""The line to a device: dialled when it is needed, and anew after it was let go of."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from melt.transport import Completed, Deadline, Process, Transport
    from melt.transport.source import Part


class Line:
    """A transport that outlives its connection: after `close`, the next verb makes a new one.

    Every verb raises what the transport's does, and what `dial` does when there is no connection.
    """

    def __init__(self, address: str, dial: Callable[[str], Transport]) -> None:
        self.address = address
        self._dial = dial
        self._dialling = threading.Lock()
        self._now: Transport | None = None

    def run(self, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
        return self._connected().run(argv, deadline=deadline, stdin=stdin)

    def start(self, argv: Sequence[str], *, has_stdin: bool = False) -> Process:
        return self._connected().start(argv, has_stdin=has_stdin)

    def push(self, source: Path | Part, target: str, *, deadline: Deadline, executable: bool = False) -> None:
        self._connected().push(source, target, deadline=deadline, executable=executable)

    def pull(self, source: str, target: Path, *, deadline: Deadline, limit_bytes: int) -> None:
        self._connected().pull(source, target, deadline=deadline, limit_bytes=limit_bytes)

    def close(self) -> None:
        with self._dialling:
            before, self._now = self._now, None
        if before is not None:
            before.close()

    def _connected(self) -> Transport:
        with self._dialling:
            if self._now is None:
                self._now = self._dial(self.address)
            return self._now
