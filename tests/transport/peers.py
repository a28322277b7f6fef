"""One device behind one transport, as the contract suite tries it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.device.line import Line
from melt.transport import Completed, Deadline, LocalTransport, Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRANSPORTS: dict[str, Callable[[], Transport]] = {
    "local": LocalTransport,
    "line": lambda: Line("local:", lambda _: LocalTransport()),
}

LIMIT_S = 30.0
"""Far longer than anything here takes: only a promise that is not kept runs into it."""


@dataclass(frozen=True)
class Peer:
    """A transport to try, and an empty folder on its device."""

    transport: Transport
    folder: str

    def run(self, *argv: str, stdin: bytes = b"", limit_s: float = LIMIT_S) -> Completed:
        return self.transport.run(argv, deadline=Deadline.after(limit_s), stdin=stdin)

    def sh(self, script: str, *words: str, limit_s: float = LIMIT_S) -> Completed:
        return self.run("sh", "-c", script, "sh", *words, limit_s=limit_s)

    def push(self, source: Path, target: str, *, executable: bool = False) -> None:
        self.transport.push(source, target, deadline=Deadline.after(LIMIT_S), executable=executable)

    def pull(self, source: str, target: Path, limit_bytes: int = 1 << 30) -> None:
        self.transport.pull(source, target, deadline=Deadline.after(LIMIT_S), limit_bytes=limit_bytes)

    def names(self) -> list[str]:
        """What is in the folder, hidden files too."""
        return self.run("ls", "-A", self.folder).stdout.decode().split()

    def gone(self, pid: int) -> bool:
        """Whether a process of the device has ended, within the limit; one that nobody has reaped has ended."""
        deadline = Deadline.after(LIMIT_S)
        while deadline.left_s:
            status = self.run("cat", f"/proc/{pid}/stat")
            if not status.ok or status.stdout.rpartition(b")")[2].split()[0] in (b"Z", b"X"):
                return True
            time.sleep(0.02)
        return False
