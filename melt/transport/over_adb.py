"""The five verbs over a link to an adb daemon, whichever way the link takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.transport import adb_sync, shell_v2

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.transport.adb_link import Link
    from melt.transport.base import Completed, Deadline, Process
    from melt.transport.source import Part


class OverAdb:
    """A device behind an adb daemon."""

    def __init__(self, address: str, link: Link) -> None:
        self.address = address
        self._link = link

    def run(self, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
        return shell_v2.run(self._link, argv, deadline=deadline, stdin=stdin)

    def start(self, argv: Sequence[str], *, has_stdin: bool = False) -> Process:
        return shell_v2.Command(self._link, argv, has_stdin=has_stdin)

    def push(self, source: Path | Part, target: str, *, deadline: Deadline, executable: bool = False) -> None:
        adb_sync.push(self._link, source, target, deadline=deadline, executable=executable)

    def pull(self, source: str, target: Path, *, deadline: Deadline, limit_bytes: int) -> None:
        adb_sync.pull(self._link, source, target, deadline=deadline, limit_bytes=limit_bytes)

    def close(self) -> None:
        self._link.close()
