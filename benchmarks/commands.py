"""How long a short command takes on a connection that is already made: each look at a running job is one."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.harness import Figure, Round
from benchmarks.peers import peer
from melt.errors import DeviceError
from melt.transport import Deadline

if TYPE_CHECKING:
    from melt.transport import Transport

_ARGV = ("true",)
_WARM_UP = 10
_COMMANDS = 101
_LIMIT_S = 30.0
_ROUNDS = 5


def command_s(this: Round, way: str) -> float:
    """The median time of a command, from the call of `run` to its exit code."""
    with peer(way, this.folder) as here, contextlib.closing(here.connect()) as transport:
        for _ in range(_WARM_UP):
            _took_s(transport)
        return statistics.median(_took_s(transport) for _ in range(_COMMANDS))


def _took_s(transport: Transport) -> float:
    begun = time.monotonic()
    done = transport.run(_ARGV, deadline=Deadline.after(_LIMIT_S))
    took_s = time.monotonic() - begun
    if not done.ok:
        raise DeviceError(f"'{_ARGV[0]}' failed: {done.complaint}")
    return took_s


def _command(way: str, most_s: float) -> Figure:
    return Figure(f"{way}_command_s", "s", (None, most_s), _ROUNDS, lambda this: command_s(this, way))


COMMANDS = (_command("ssh", 0.010), _command("adb", 0.030), _command("adb_tcp", 0.010))
