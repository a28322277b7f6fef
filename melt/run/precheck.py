"""What must be so before a run starts: the device is cool and steady. The wait is bounded, and it fails closed."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from melt.errors import Interrupted, ParseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from melt.device import Device
    from melt.records import Sensor

NO_SENSOR = "precheck: no sensor"
"""The caveat of a device without any zone: nothing could be checked."""
_PAUSE_S = 2.0
_SLOPE_WINDOW_S = 20.0


class NotReady(Exception):
    """The device did not become ready in time; `why` is the reason that the record carries."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def zones(device: Device) -> list[Sensor]:
    """The temperature sensors that the profile wants looked at."""
    thermal = device.profile.thermal
    return [
        sensor
        for sensor in device.sensors
        if sensor.path is not None
        and sensor.channels[0].quantity == "temperature"
        and any(fnmatchcase(sensor.name, pattern) for pattern in thermal.check)
        and not any(fnmatchcase(sensor.name, pattern) for pattern in thermal.ignore)
    ]


def wait_until_ready(
    device: Device, settings: Mapping[str, Any], say: Callable[[str], None], cancelled: Callable[[], bool]
) -> tuple[str, ...]:
    """Waits until every checked zone is below its target and steady; the caveats to keep with the run.

    `settings` are the resolved `precheck.*`. Raises NotReady when that takes longer than `max_wait_s`, Interrupted.
    """
    watched = zones(device)
    if not watched:
        return (NO_SENSOR,)
    target_c, slope_max = settings["precheck.zone_max_c"], settings["precheck.slope_max_c_per_min"]
    began = time.monotonic()
    history: list[tuple[float, float]] = []
    told = False
    while True:
        temperatures = _read(device, watched)
        now = time.monotonic()
        why = _why_not(temperatures, target_c)
        if why is None and slope_max is not None:
            history = [*history, (now, max(temperatures.values()))]
            why = _too_steep(history, slope_max)
        if why is None:
            return ()
        if now - began >= settings["precheck.max_wait_s"]:
            raise NotReady(f"{why} after {settings['precheck.max_wait_s']:.0f} s of waiting")
        if not told:
            say(f"{device.name}: waiting up to {settings['precheck.max_wait_s']:.0f} s: {why}")
            told = True
        if cancelled():
            raise Interrupted(f"{device.name}: interrupted while waiting for it to cool")
        time.sleep(min(_PAUSE_S, max(0.05, settings["precheck.max_wait_s"] - (now - began))))


def _read(device: Device, watched: list[Sensor]) -> dict[str, float]:
    captures = device.probe([sensor.path for sensor in watched if sensor.path])
    out = {}
    for sensor in watched:
        captured = captures.get(sensor.path or "")
        if captured is None or captured.error is not None:
            continue
        try:
            out[sensor.name] = sensor.channels[0].parse(captured.data)
        except ParseError:
            continue
    return out


def _why_not(temperatures: Mapping[str, float], target_c: float | None) -> str | None:
    if not temperatures:
        return "no zone can be read any more"
    hottest = max(temperatures, key=lambda name: temperatures[name])
    if target_c is not None and temperatures[hottest] >= target_c:
        return f"{hottest} is at {temperatures[hottest]:.1f} °C, wanted below {target_c:g} °C (precheck.zone_max_c)"
    return None


def _too_steep(history: list[tuple[float, float]], slope_max: float) -> str | None:
    """Whether the hottest zone still changes, over the last 20 s of looking."""
    t, c = history[-1]
    before = [(t0, c0) for t0, c0 in history if t - t0 >= _SLOPE_WINDOW_S]
    if not before:
        return "the temperature has not been watched for long enough"
    t0, c0 = before[-1]
    slope = abs(c - c0) / (t - t0) * 60
    if slope >= slope_max:
        return f"the temperature changes by {slope:.1f} °C a minute, wanted under {slope_max:g}"
    return None
