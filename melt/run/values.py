"""What every sensor of a device says at one moment, asked from here and without a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.errors import ParseError, TransportTimeout
from melt.readings import Captures, text_of
from melt.records import Captured
from melt.transport.base import NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from melt.device import Device
    from melt.readings import Reading
    from melt.records import Sensor

_LINK_S = 5.0
"""What a link may take beside the command."""
Value = float | str
"""A number in the unit of its channel, or why there is none."""


def capture(device: Device, sensors: Iterable[Sensor]) -> Captures:
    """The answers of the files and commands of these sensors. Raises TransportError when the link is lost."""
    asked = list(sensors)
    captures = dict(device.probe(dict.fromkeys(path for sensor in asked for path in sensor.paths)))
    for sensor in asked:
        source = " ".join(sensor.argv)
        if sensor.argv and source not in captures:
            captures[source] = _answer(device, sensor.argv, source, sensor.timeout_s)
    return captures


def _answer(device: Device, argv: tuple[str, ...], source: str, limit_s: float = 10.0) -> Captured:
    try:
        done = device.run(argv, limit_s + _LINK_S)
    except TransportTimeout:
        return Captured(source, b"", "hangs")
    error = None if done.ok else "missing" if done.code == NOT_FOUND else "failed"
    return Captured(source, done.stdout if done.ok else b"", error)


def values(sensors: Iterable[Sensor], captures: Captures) -> Mapping[str, Value]:
    """Each channel's number, or why there is none, by its name."""
    found: dict[str, Value] = {}
    for sensor in sensors:
        for channel in sensor.channels:
            try:
                found[channel.name] = float(channel.parse(text_of(captures, sensor)))
            except ParseError as error:
                found[channel.name] = str(error)
    return found


def capture_readings(device: Device, readings: Iterable[Reading]) -> Captures:
    """The answers of whole readings, with the files that only name a value. Raises TransportError."""
    asked = list(readings)
    captures = dict(device.probe(dict.fromkeys(path for reading in asked for path in reading.paths)))
    for reading in asked:
        if reading.argv:
            source = " ".join(reading.argv)
            captures[source] = _answer(device, reading.argv, source)
    return captures
