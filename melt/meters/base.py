"""The seam to a power meter: five verbs, melt's own types on both sides; the instruments' libraries stay behind it."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from melt.errors import DeviceError, UsageError
from melt.records import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.analysis.events import Float64s
    from melt.transport import Deadline

HOST_CLOCK = "host"
"""`Instrument.clock` of a meter whose samples are stamped on this computer, as they are taken."""
OWN_CLOCK = "own"
"""`Instrument.clock` of a meter that counts or stamps its samples itself."""


@dataclass(frozen=True)
class Instrument:
    """What a meter says of itself once it is open."""

    type: str
    serial: str | None
    rate_hz: float
    """How many samples it gives in a second; where there is no fixed rate, how many at most."""
    clock: str = OWN_CLOCK
    latency_s: float = 0.0
    """How long a sample is on its way at most when it is the least late: half of it is taken off, and not known."""
    response: Response = field(default_factory=Response)
    """How it follows the power, and how far it may be off, as its maker says."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What else a reader wants to know: the model, the firmware, how it is set."""


@dataclass(frozen=True)
class Block:
    """Samples of one unbroken stretch. A sample that was lost is in no block: the next one's `first_index` is higher.

    Sample i is the mean power (W) since sample i − 1, or the momentary one; it ends at (i + 1) ÷ `rate_hz` on the
    meter's own clock, or at `own_s` where a meter has no fixed rate: seconds of that clock, or of this computer's
    monotonic one.
    """

    first_index: int
    rate_hz: float
    power_w: Float64s
    host_ns: int
    """When the last sample had arrived, on this computer's monotonic clock."""
    current_a: Float64s | None = None
    voltage_v: Float64s | None = None
    own_s: Float64s | None = None

    def __len__(self) -> int:
        return int(self.power_w.size)

    @property
    def index(self) -> Any:
        """The number of each sample."""
        return self.first_index + np.arange(len(self), dtype=np.int64)


class Meter(Protocol):
    """A power meter, opened once, then started and stopped. All verbs are called from one thread at a time."""

    def open(self) -> Instrument:
        """Finds the meter and makes it ready; changes what it supplies only if the lab file asks for it.

        Raises UsageError for a missing library, DeviceError when the meter is not there or is not what was said.
        """

    def start(self) -> None:
        """Begins to measure. Raises DeviceError."""

    def read(self, deadline: Deadline) -> tuple[Block, ...]:
        """What has come since the last call, in order; waits for something until the deadline, then gives nothing.

        Raises DeviceError when the meter will give nothing any more.
        """

    def stop(self) -> None:
        """Ends measuring. Raises DeviceError."""

    def close(self) -> None:
        """Lets go of the meter, whatever state it is in."""


def library(module: str, extra: str) -> Any:
    """An instrument's library. Raises UsageError, saying how to install it, where it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a library that nobody mends any more warns of its own source
            return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"this meter needs a library that is not installed: pip install 'melt[{extra}]'") from error


def silent(what: str, error: Exception) -> DeviceError:
    """A meter's error as ours: whatever its library raises, in one line."""
    words = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
    return DeviceError(f"{what} failed: {words}: look at its cable", code="meter")
