"""Power meters at this computer, mapped onto the device's clock; and switches of a device's USB power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.meters.base import Block, Instrument, Meter
from melt.meters.clock import ClockMap, RoundTrip, fit, round_trips
from melt.meters.folder import forget, keep
from melt.meters.ina2xx import InaMeter
from melt.meters.joulescope import JoulescopeMeter
from melt.meters.mapped import Mapped, channels
from melt.meters.monsoon import MonsoonMeter
from melt.meters.ppk2 import Ppk2Meter
from melt.meters.recorder import Recording, recover
from melt.meters.text import CommandMeter, CsvMeter
from melt.meters.usb import put_back, unplugged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from melt.device import Device
    from melt.files.instruments import MeterSpec

__all__ = [
    "Block",
    "ClockMap",
    "Instrument",
    "Mapped",
    "Meter",
    "Recording",
    "RoundTrip",
    "channels",
    "fit",
    "forget",
    "keep",
    "meter_of",
    "put_back",
    "recording",
    "recover",
    "round_trips",
    "unplugged",
]

METERS: Mapping[str, Callable[[MeterSpec], Meter]] = {
    "monsoon": MonsoonMeter,
    "joulescope": JoulescopeMeter,
    "ppk2": Ppk2Meter,
    "ina2xx": InaMeter,
    "csv": CsvMeter,
    "command": CommandMeter,
}
"""What drives each type of a lab file's meter."""


def meter_of(spec: MeterSpec) -> Meter:
    """The meter that a lab file means; nothing is opened."""
    return METERS[spec.type](spec)


def recording(name: str, spec: MeterSpec, device: Device, folder: Path) -> Recording:
    """A recording to begin with `with` before a job and to `stop` after it; its files are in `folder`."""
    return Recording(name, spec, meter_of(spec), device, folder)
