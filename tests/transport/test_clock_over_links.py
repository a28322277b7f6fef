"""The device's clock asked for over every link: the mapping is right to the bound that it states."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import numpy as np
import pytest

from melt.errors import DeviceError
from melt.meters import fit, round_trips
from melt.native import build

if TYPE_CHECKING:
    from peers import Peer


def test_the_clock_is_known_to_the_stated_bound(peer: Peer) -> None:
    agent = str(build("agent", platform.machine(), here=True))
    before, after = (round_trips(peer.transport, agent, "here") for _ in range(2))
    assert min(len(before), len(after)) >= 16
    found = fit(before, after)
    here_ns = np.linspace(before[0].sent_ns, after[-1].received_ns, 50).astype(np.int64)
    # its device is this computer, so nothing is to change
    assert np.abs(found.device_ns(here_ns) - here_ns).max() * 1e-9 <= found.bound_s
    assert all(trip.sent_ns <= trip.device_ns <= trip.received_ns for trip in (*before, *after))


def test_an_agent_that_tells_no_clock_is_an_error(peer: Peer) -> None:
    for program in ("true", "cat", "no-such-agent"):
        with pytest.raises(DeviceError, match="clock"):
            round_trips(peer.transport, program, "here")
