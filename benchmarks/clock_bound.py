"""How well a meter at this computer is put on the device's clock: the bound that is stated, over real links.

The device is this computer, behind a real SSH server and a real adb daemon: its clock is this one's, so that the truth
is known. A round maps the clock over some seconds, as a run does, over each way to a device.
"""

from __future__ import annotations

import contextlib
import platform
import time
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import Figure, Round
from benchmarks.peers import WAYS, peer
from melt.errors import DeviceError
from melt.meters import fit, round_trips
from melt.native import build

if TYPE_CHECKING:
    from melt.transport import Transport

_APART_S = 3.0
_ROUNDS = 3


def bound_s(this: Round) -> float:
    """The largest stated bound over the ways to a device. Raises DeviceError where the truth lies outside of one."""
    agent = str(build("agent", platform.machine(), here=True))
    bounds_s = []
    for way in WAYS:
        with peer(way, this.folder / "peer") as here, contextlib.closing(here.connect()) as transport:
            bounds_s.append(_held(transport, agent, way))
    return max(bounds_s)


def _held(transport: Transport, agent: str, way: str) -> float:
    """The stated bound (s) of a mapping whose truth is that nothing changes."""
    before = round_trips(transport, agent, way)
    time.sleep(_APART_S)
    after = round_trips(transport, agent, way)
    found = fit(before, after)
    here_ns = np.linspace(before[0].sent_ns, after[-1].received_ns, 101).astype(np.int64)
    off_s = float(np.abs(found.device_ns(here_ns) - here_ns).max()) * 1e-9
    if off_s > found.bound_s:
        raise DeviceError(f"{way}: the mapping is off by {off_s:.6f} s, and {found.bound_s:.6f} s is stated")
    return found.bound_s


CLOCK_BOUND = Figure("clock_bound_s", "s", (None, 0.005), _ROUNDS, bound_s)
