"""What a reading makes of a captured bundle, of one dump or of a few files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from readings_bundle import CAPTURED, read

from melt.readings import READINGS
from melt.records import Captured

if TYPE_CHECKING:
    from melt.records import Channel, Sensor

DUMP = "dumpsys thermalservice"


def bundle(name: str) -> dict[str, Captured]:
    return read((CAPTURED / f"{name}.txt").read_bytes())


def sensors(reading: str, captures: dict[str, Captured]) -> tuple[Sensor, ...]:
    found = READINGS[reading].sensors
    assert found is not None
    return found(captures)


def channels(reading: str, captures: dict[str, Captured]) -> dict[str, Channel]:
    return {channel.name: channel for sensor in sensors(reading, captures) for channel in sensor.channels}


def facts(reading: str, captures: dict[str, Captured]) -> dict[str, Any]:
    tell = READINGS[reading].facts
    assert tell is not None
    return {fact.name: fact.value for fact in tell(captures)}


def dumped(text: str) -> dict[str, Captured]:
    return {DUMP: Captured(DUMP, text.encode())}


def files(**texts: object) -> dict[str, Captured]:
    """Captures of files below /sys, `__` for a slash."""
    paths = {f"/sys/{name.replace('__', '/')}": str(text) for name, text in texts.items()}
    return {path: Captured(path, text.encode()) for path, text in paths.items()}
