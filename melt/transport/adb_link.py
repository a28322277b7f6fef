"""What both ways to an adb daemon have in common: a link that opens services, and a watched channel to one of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeAlias

from melt.errors import TransportError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Collection

OPEN_S = 10.0
"""How long a device may take to open a service: as long again as a phone under full load was seen to take."""
QUIET_S = 3.0
"""After so much silence the device is asked for a sign of life, by a service that costs it next to nothing.

Short, for the kernel and the adb server still take bytes some seconds after the device has stopped to.
"""
ANSWER_S = 6.0
"""How long that sign may take: on a slow link it waits behind a megabyte of a push."""
STALL_S = 12.0
"""A transfer that moves nothing for so long is given up, even if the device is alive."""
CHUNK = 1 << 20
"""The most that one message to a daemon carries."""

Bytes: TypeAlias = bytes | bytearray | memoryview
NEEDED = ("shell_v2", "stat_v2")


class Channel(Protocol):
    """A stream to one service of the daemon."""

    @property
    def moved(self) -> int:
        """Bytes that have gone or come; while it grows, the link lives."""

    def step(self, data: Bytes, wait_s: float) -> tuple[int, Bytes | None]:
        """Gives away some of `data` and takes what has come, waiting for one of them for at most `wait_s`.

        How many bytes were taken, and what came: None for nothing, empty for the end. What was not taken has to be
        offered again; what came is there until the next step. Raises TransportError.
        """

    def probe(self) -> None:
        """Asks the daemon for a sign of life over the same link. Raises TransportError after ANSWER_S without one."""

    def close(self, *, finished: bool = False) -> None:
        """Lets go of the service; what it does may go on. `finished`: it is about to end by itself."""


class Link(Protocol):
    """A daemon that opens services."""

    name: str
    """The device as a message names it."""

    def open(self, service: bytes, limit_s: float = OPEN_S) -> Channel:
        """A channel to a service. Raises TransportError."""

    def close(self) -> None:
        """Lets go of the daemon."""


class Watched:
    """A channel on which a dead or frozen device is noticed, whoever should speak next."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._name = name
        self._moved_at = self._sign_at = time.monotonic()

    def step(self, data: Bytes, wait_s: float) -> tuple[int, Bytes | None]:
        """As Channel.step; raises TransportError when the device is gone."""
        before = self._channel.moved
        patience = QUIET_S - (time.monotonic() - self._sign_at)
        taken, got = self._channel.step(data, max(0.0, min(wait_s, patience)))
        now = time.monotonic()
        if self._channel.moved != before or got is not None:
            self._moved_at = self._sign_at = now
        elif now - self._sign_at >= QUIET_S:
            self._channel.probe()
            self._sign_at = time.monotonic()
        return taken, got

    def check_progress(self, what: str) -> None:
        """Raises TransportError, naming `what`, when nothing has moved for STALL_S."""
        if time.monotonic() - self._moved_at >= STALL_S:
            raise TransportError(f"{what} moved nothing for {STALL_S:.0f} s: look at the cable of {self._name}")

    def close(self, *, finished: bool = False) -> None:
        self._channel.close(finished=finished)


def check_features(features: Collection[str], name: str) -> None:
    """Raises Unsupported when a daemon is too old to tell exit codes and file sizes."""
    if missing := [word for word in NEEDED if word not in features]:
        raise Unsupported(
            f"{name} does not offer {' and '.join(missing)}, which Android has since version 8: use a newer device"
        )
