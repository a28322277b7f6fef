"""The device's clock as this computer sees it, by round trips over an open stream, with a bound that can be checked.

A round trip says that the device's clock had the told value at some moment between sending and receiving: the offset is
known to half of the time between. The shortest of many is kept, one before a run and one after it; the line through the
two is the mapping. Pure but for `round_trips`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.errors import DeviceError
from melt.records import Strict
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.events import Int64s
    from melt.transport import Process, Transport

TRIPS = 16
"""How many round trips are made at least."""
_MOST_TRIPS = 96
_WARM_UP = 4
_SHORT_NS = 4_000_000
"""With a round trip as short as this the search ends after `TRIPS`."""
_LIMIT_S = 20.0
_ONE_S = 5.0
MOST_DRIFT = 500e-6
"""Two clocks that run further apart than this are not two crystals: one of them was stopped, or began anew."""
UNKNOWN_DRIFT = 200e-6
"""What two clocks may run apart where there are no round trips after the run: 100 ppm each."""
_WANDER = 1e-6
"""By how much the rate of a crystal changes while it warms up."""


class RoundTrip(Strict):
    """One question and its answer, all in ns: when it was sent and received here, what the device's clock said."""

    sent_ns: int
    device_ns: int
    received_ns: int

    @property
    def took_ns(self) -> int:
        return self.received_ns - self.sent_ns

    @property
    def middle_ns(self) -> int:
        return self.sent_ns + self.took_ns // 2

    @property
    def offset_ns(self) -> int:
        """Device's clock less this computer's, to half of `took_ns`."""
        return self.device_ns - self.middle_ns


@dataclass(frozen=True)
class ClockMap:
    """This computer's monotonic clock to the device's: at `host_ns` the device's is `offset_ns` ahead."""

    host_ns: int
    offset_ns: int
    drift: float
    """Seconds that the device's clock gains in one of this computer's."""
    bound_s: float
    """How far a mapped stamp may be off between the round trips before and those after."""

    def device_ns(self, host_ns: Int64s) -> Int64s:
        """The device's clock at these moments of this computer's."""
        since = host_ns - self.host_ns
        return np.asarray(host_ns + self.offset_ns + np.rint(since * self.drift).astype(np.int64), dtype=np.int64)


def fit(before: Sequence[RoundTrip], after: Sequence[RoundTrip], until_ns: int | None = None) -> ClockMap:
    """The mapping between the shortest round trip before and the shortest one after.

    Without any after, the drift is not known, and the bound holds until `until_ns`.
    Raises DeviceError when there are none before, or when the two clocks do not run alike.
    """
    if not before:
        raise DeviceError("the device's clock was never asked for: nothing measured here can be put on it", "clock")
    first = min(before, key=lambda trip: trip.took_ns)
    if not after:
        length_ns = max(0, (until_ns or first.middle_ns) - first.middle_ns)
        bound_ns = first.took_ns / 2 + UNKNOWN_DRIFT * length_ns
        return ClockMap(first.middle_ns, first.offset_ns, 0.0, bound_ns * 1e-9)
    last = min(after, key=lambda trip: trip.took_ns)
    length_ns = last.middle_ns - first.middle_ns
    grown_ns = last.offset_ns - first.offset_ns
    loose_ns = (first.took_ns + last.took_ns) / 2
    if length_ns <= 0 or abs(grown_ns) > MOST_DRIFT * length_ns + loose_ns:
        raise DeviceError(
            f"the device's clock and this computer's do not run alike: {grown_ns * 1e-9:.3g} s apart in "
            f"{length_ns * 1e-9:.3g} s: one of the two was restarted or slept",
            "clock",
        )
    # between two points that are each right to half a round trip, the line is right to the larger of the two halves
    bound_ns = max(first.took_ns, last.took_ns) / 2 + _WANDER * length_ns / 4
    return ClockMap(first.middle_ns, first.offset_ns, grown_ns / length_ns, bound_ns * 1e-9)


def round_trips(transport: Transport, agent: str, name: str, least: int = TRIPS) -> tuple[RoundTrip, ...]:
    """Asks the clock of the device `name` over one open stream, after a few questions that are not counted.

    Goes on, within limits, until one of the answers was quick. Raises TransportError, DeviceError.
    """
    process = transport.start([agent, "clock"], has_stdin=True)
    try:
        for _ in range(_WARM_UP):
            _ask(process, name)
        end, trips = Deadline.after(_LIMIT_S), [_ask(process, name) for _ in range(least)]
        while len(trips) < _MOST_TRIPS and min(trip.took_ns for trip in trips) > _SHORT_NS and end.left_s:
            trips.append(_ask(process, name))
        return tuple(trips)
    finally:
        process.close()


def _ask(process: Process, name: str) -> RoundTrip:
    deadline, said = Deadline.after(_ONE_S), b""
    sent_ns = time.monotonic_ns()
    process.write(b"\n", deadline)
    while not said.endswith(b"\n"):
        got = process.read(deadline)
        if not got:
            raise DeviceError(f"{name}: the agent does not tell the device's clock: try again", "clock")
        said += got
    received_ns = time.monotonic_ns()
    if not said.strip().isdigit():
        raise DeviceError(f"{name}: the agent told no clock: {said[:60]!r}", "clock")
    return RoundTrip(sent_ns=sent_ns, device_ns=int(said), received_ns=received_ns)
