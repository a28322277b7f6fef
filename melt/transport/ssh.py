"""A device reached over SSH: any server that runs commands, with keys and a known host key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.transport.local import NotStarted
from melt.transport.ssh_command import Command, SshProcess, refused
from melt.transport.ssh_config import Own
from melt.transport.ssh_files import pull, push
from melt.transport.ssh_hosts import HostKey, trust
from melt.transport.ssh_login import show_key, sign_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.transport.base import Completed, Deadline, Process
    from melt.transport.source import Part

__all__ = ["SshTransport", "fingerprint", "trust"]


class SshTransport:
    """One connection to `ssh://user@host:port`, or to a host of `~/.ssh/config`; made at once, usable by many threads.

    `known_hosts`, `config` and `identity` stand in for the person's own files. A peer that dies or freezes is noticed
    within 15 seconds, in whatever state. Raises UsageError, and TransportError when it cannot be reached: then
    HostUnknown, HostChanged and LoginRefused are those where trying again does not help.
    """

    def __init__(
        self,
        address: str,
        *,
        known_hosts: Path | None = None,
        config: Path | None = None,
        identity: Path | None = None,
    ) -> None:
        self.address = address
        self._link = sign_in(address, Own(known_hosts, config, identity))

    def run(self, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
        if (never := refused(argv)) is not None:
            return never
        deadline.check(f"a command on {self._link.name}")
        command = Command(self._link, argv, deadline, has_stdin=bool(stdin))
        if stdin:
            command.send_all(stdin)
        return command.finish(deadline)

    def start(self, argv: Sequence[str], *, has_stdin: bool = False) -> Process:
        if (never := refused(argv)) is not None:
            return NotStarted(never)
        return SshProcess(self._link, argv, has_stdin=has_stdin)

    def push(self, source: Path | Part, target: str, *, deadline: Deadline, executable: bool = False) -> None:
        push(self._link, source, target, deadline=deadline, executable=executable)

    def pull(self, source: str, target: Path, *, deadline: Deadline, limit_bytes: int) -> None:
        pull(self._link, source, target, deadline=deadline, limit_bytes=limit_bytes)

    def close(self) -> None:
        self._link.close()


def fingerprint(
    address: str, *, known_hosts: Path | None = None, config: Path | None = None
) -> tuple[HostKey, str, Path]:
    """The key that the server shows now, unchecked, for a person to compare; the name and file to `trust` it under.

    Raises UsageError, TransportError.
    """
    place, key = show_key(address, Own(known_hosts, config))
    return key, place.known_as, place.known_hosts[0]
