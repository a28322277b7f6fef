"""One blob on its way to a device, in parts, so that a cut link costs one of them at most."""

from __future__ import annotations

import collections
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.device.answers import Taken, read
from melt.errors import DeviceError
from melt.transport import Deadline
from melt.transport.source import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from melt.transport import Transport

PART_BYTES = 64 << 20
_CORRUPT = 76
_BASE_LIMIT_S = 60.0
_SLOWEST_BYTES_PER_S = 16 << 10
"""Below this a link is of no use. What ends a transfer that does not move at all is the transport, within seconds."""
_WINDOW_S = 5.0
_TELL_EVERY_S = 0.25


def transfer_limit_s(size_bytes: int) -> float:
    """The longest that this many bytes may take on the slowest link that is of use."""
    return _BASE_LIMIT_S + size_bytes / _SLOWEST_BYTES_PER_S


@dataclass(frozen=True)
class Moved:
    """How far a delivery has come, and how fast it goes now, over the last 5 s."""

    done_bytes: int
    total_bytes: int
    rate_bytes_per_s: float

    @property
    def left_s(self) -> float | None:
        """The time it still takes at this rate; None while nothing moves."""
        return (self.total_bytes - self.done_bytes) / self.rate_bytes_per_s if self.rate_bytes_per_s else None


class Meter:
    """Counts what is sent of `total_bytes` and tells of it, a few times a second at most."""

    def __init__(self, total_bytes: int, on_moved: Callable[[Moved], None]) -> None:
        self._total_bytes = total_bytes
        self._on_moved = on_moved
        self._done_bytes = 0
        self._told_at = 0.0
        self._seen = collections.deque([(time.monotonic(), 0)])

    @property
    def done_bytes(self) -> int:
        """What counts as done by now."""
        return self._done_bytes

    def add(self, n_bytes: int) -> None:
        """So many more were sent; fewer than none when some have to be sent again."""
        now = time.monotonic()
        self._done_bytes += n_bytes
        self._seen.append((now, self._done_bytes))
        while now - self._seen[0][0] > _WINDOW_S:
            self._seen.popleft()
        if now - self._told_at >= _TELL_EVERY_S:
            self._told_at = now
            since, before = self._seen[0]
            rate = max(0.0, (self._done_bytes - before) / (now - since)) if now > since else 0.0
            self._on_moved(Moved(self._done_bytes, self._total_bytes, rate))

    def skip(self, n_bytes: int) -> None:
        """So many need not be sent: they count as done, and not towards the rate."""
        self._done_bytes += n_bytes
        self._seen = collections.deque([(time.monotonic(), self._done_bytes)])


@dataclass(frozen=True)
class Sending:
    """A file of this computer that becomes the blob `digest` in a device's `folder`."""

    transport: Transport
    agent: str
    folder: str
    digest: str
    path: Path
    size_bytes: int
    device_name: str

    def carry_out(self, begun_bytes: int, meter: Meter) -> None:
        """Sends what is missing, `begun_bytes` being there of an earlier try; the device checks the whole.

        Raises TransportError, and DeviceError: with the code `corrupt` when what arrived is not what was to be sent.
        """
        at = min(begun_bytes, self.size_bytes) // PART_BYTES * PART_BYTES
        meter.skip(at)
        parts_left = 2 * (self.size_bytes // PART_BYTES + 1)  # the device may know of fewer than it seemed, once
        while True:
            length = min(PART_BYTES, self.size_bytes - at)
            name = f"{self.digest}.{secrets.token_hex(4)}.part"
            self._push(Part(self.path, at, length, meter.add), name)
            there = self._take(name, at)
            if there == self.size_bytes:
                return
            parts_left -= 1
            if there % PART_BYTES or not parts_left:
                raise DeviceError(
                    f"{self.device_name} keeps {there} bytes of {self.path}, which is not what was sent: look at its "
                    f"disk, and remove {self.folder}/{self.digest}.grown there",
                    code="corrupt",
                )
            meter.add(there - at - length)
            at = there

    def _push(self, part: Part, name: str) -> None:
        deadline = Deadline.after(transfer_limit_s(part.length_bytes))
        self.transport.push(part, f"{self.folder}/{name}", deadline=deadline)

    def _take(self, name: str, at: int) -> int:
        """The device puts a part in its place; how many bytes are there now."""
        words = [self.agent, "take", self.folder, self.digest, name, str(at), str(self.size_bytes)]
        done = self.transport.run(words, deadline=Deadline.after(transfer_limit_s(self.size_bytes)))
        if done.code == _CORRUPT:
            raise DeviceError(
                f"{self.path} did not arrive on {self.device_name} as it was read: it changed meanwhile, or the "
                "device's disk is bad",
                code="corrupt",
            )
        if not done.ok:
            code = "no_space" if "No space" in done.complaint else "device"
            raise DeviceError(f"{self.device_name}: {self.path} cannot be kept there: {done.complaint}", code=code)
        return read(Taken, done.stdout).size_bytes
