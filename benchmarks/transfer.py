"""How fast a large file is copied, against the program that people use for it; and what it costs to find it there.

Each copy is a person's: connecting is in it, and so is what makes melt's appear whole, a rename. Neither side syncs.
Both write to the same file system under a name that was not there; the source is in memory, and nothing waits for the
disk when a copy begins.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Figure, Round
from benchmarks.peers import WAYS, peer
from melt.device import Blobs
from melt.errors import DeviceError
from melt.native import build
from melt.transport import Deadline, LocalTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.peers import Peer
    from melt.transport import Transport

SIZE_BYTES = 512 << 20
_LIMIT_S = 120.0
_ROUNDS = 5


def rate_ratio(this: Round, way: str, verb: str) -> float:
    """melt's bytes per second ÷ the other program's, through the same server."""
    source = _source(this.folder)
    with peer(way, this.folder / "peer") as here:
        rival = here.rival()

        def ours(target: Path) -> float:
            return _took_s(lambda: _copy(here, verb, source, target), target)

        def theirs(target: Path) -> float:
            return _took_s(lambda: rival(verb, source, target), target)

        return interleaved_ratio(this, ours, theirs)


def interleaved_ratio(this: Round, ours: Callable[[Path], float], theirs: Callable[[Path], float]) -> float:
    """Their seconds ÷ ours: two copies of each, the one's around the other's two, in turns first."""
    outer, inner = (theirs, ours) if this.number % 2 else (ours, theirs)
    took_s = [copy(this.folder / f"target{turn}") for turn, copy in enumerate((outer, inner, inner, outer))]
    outer_s, inner_s = took_s[0] + took_s[3], took_s[1] + took_s[2]
    return outer_s / inner_s if outer is theirs else inner_s / outer_s


def repush_s(this: Round) -> float:
    """The longest that a file, delivered before, takes to be delivered again, over the ways to a device.

    In it: the file is hashed here anew, as it is by a melt that has just been started.
    """
    source = _source(this.folder)
    took_s = [_redelivered_s(LocalTransport(), source, this.folder / "local")]
    for way in WAYS:
        with peer(way, this.folder / "peer") as here, contextlib.closing(here.connect()) as transport:
            took_s.append(_redelivered_s(transport, source, this.folder / way))
    return max(took_s)


def _redelivered_s(transport: Transport, source: Path, folder: Path) -> float:
    folder.mkdir(exist_ok=True)
    agent = build("agent", platform.machine(), here=True)
    blobs = Blobs(transport, str(agent), str(folder), folder.name)
    sent: list[object] = []

    def deliver() -> float:
        sent.clear()
        begun = time.monotonic()
        blobs.deliver({"model": source}, say=lambda _: None, on_moved=sent.append)
        return time.monotonic() - begun

    deliver()
    source.touch()  # another time stamp: what this process remembers of its hash no longer counts
    took_s = deliver()
    if sent:
        raise DeviceError(f"{folder.name}: what was there has been sent again")
    return took_s


def _copy(here: Peer, verb: str, source: Path, target: Path) -> None:
    with contextlib.closing(here.connect()) as transport:
        if verb == "push":
            transport.push(source, str(target), deadline=Deadline.after(_LIMIT_S))
        else:
            transport.pull(str(source), target, deadline=Deadline.after(_LIMIT_S), limit_bytes=SIZE_BYTES)


def _took_s(copy: Callable[[], None], target: Path) -> float:
    os.sync()
    begun = time.monotonic()
    copy()
    took_s = time.monotonic() - begun
    if target.stat().st_size != SIZE_BYTES:
        raise DeviceError(f"of {SIZE_BYTES} bytes {target.stat().st_size} arrived")
    target.unlink()
    return took_s


def _source(folder: Path) -> Path:
    """Half a gigabyte that cannot be compressed, made in the first round."""
    path = folder / "source"
    if not path.exists():
        path.write_bytes(np.random.default_rng(1).integers(1 << 64, size=SIZE_BYTES // 8, dtype=np.uint64).tobytes())
    return path


def _ratio(way: str, verb: str, least: float) -> Figure:
    return Figure(f"{way}_{verb}_ratio", "1", (least, None), _ROUNDS, lambda this: rate_ratio(this, way, verb))


RATIOS = (
    _ratio("ssh", "push", 0.65),
    _ratio("ssh", "pull", 0.65),
    _ratio("adb", "push", 0.95),
    _ratio("adb", "pull", 0.9),
    _ratio("adb_tcp", "push", 0.8),
    _ratio("adb_tcp", "pull", 0.5),
)
REPUSH = Figure("repush_s", "s", (None, 0.5), _ROUNDS, repush_s)
