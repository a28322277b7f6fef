"""Joulescope's JS110 and JS220 through their driver (PyPI `pyjoulescope_driver`).

Their statistics are read, not their samples: the means of current, voltage and power over each so many samples, made of
every one of a million in a second (two, for a JS110, and there by the driver on this computer). The numbers of the
samples that a mean begins and ends with tell when it was, and what was lost.
"""

from __future__ import annotations

import contextlib
import queue
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.errors import DeviceError
from melt.meters.base import Block, Instrument, library, silent
from melt.records import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.files.instruments import MeterSpec
    from melt.transport import Deadline

_DEFAULT_HZ = 100.0
_SAMPLES_HZ = {"js110": 2_000_000, "js220": 1_000_000}
_GAIN_ERROR = {"js110": 0.01, "js220": 0.001}
_LATENCY_S = 0.010
"""What a mean is on its way at most when it is the least late: assumed, for nobody has measured it."""
_MOST = 100_000
"""Means that wait to be read; more than this and the reader has died."""


class JoulescopeMeter:
    """One Joulescope; both ranges change by themselves."""

    def __init__(self, spec: MeterSpec) -> None:
        self._serial, self._rate_hz = spec.serial, spec.rate_hz or _DEFAULT_HZ
        self._driver: Any = None
        self._path = ""
        self._opened = False
        self._queue: queue.Queue[tuple[int, Mapping[str, Any]]] = queue.Queue(_MOST)
        self._means = Means()

    def open(self) -> Instrument:
        module = library("pyjoulescope_driver", "joulescope")
        try:
            self._driver = module.Driver()
            self._path = self._found(self._driver.device_paths())
            self._driver.open(self._path)
            self._opened = True
            model = self._path.split("/")[1]
            about = {"model": model.upper(), "means": "of every sample"}
            if model == "js110":
                self._driver.publish(f"{self._path}/s/i/range/select", "auto")
            else:
                self._driver.publish(f"{self._path}/s/i/range/mode", "auto")
        except (RuntimeError, OSError, ValueError) as error:
            raise silent("the Joulescope", error) from error
        samples = round(_SAMPLES_HZ[model] / self._rate_hz)
        return Instrument(
            type="joulescope",
            serial=self._path.split("/")[-1],
            rate_hz=_SAMPLES_HZ[model] / samples,
            latency_s=_LATENCY_S,
            response=Response(
                refresh_s=samples / _SAMPLES_HZ[model], averages=True, gain_error=_GAIN_ERROR[model], offset_error=0.0
            ),
            about=about,
        )

    def start(self) -> None:
        self._queue, self._means = queue.Queue(_MOST), Means()
        model = self._path.split("/")[1]
        try:
            if model == "js110":
                for signal in "ivp":
                    self._driver.publish(f"{self._path}/s/{signal}/ctrl", 1)
            self._driver.publish(f"{self._path}/s/stats/scnt", round(_SAMPLES_HZ[model] / self._rate_hz))
            self._driver.publish(f"{self._path}/s/stats/ctrl", 1)
            self._driver.subscribe(f"{self._path}/s/stats/value", "pub", self._came)
        except (RuntimeError, OSError, ValueError) as error:
            raise silent("the Joulescope", error) from error

    def read(self, deadline: Deadline) -> tuple[Block, ...]:
        got: list[tuple[int, Mapping[str, Any]]] = []
        with contextlib.suppress(queue.Empty):
            got.append(self._queue.get(timeout=max(0.001, deadline.left_s)))
            while len(got) < _MOST:
                got.append(self._queue.get_nowait())
        return tuple(block for host_ns, value in got if (block := self._means.take(value, host_ns)) is not None)

    def stop(self) -> None:
        try:
            self._driver.unsubscribe(f"{self._path}/s/stats/value", self._came)
            self._driver.publish(f"{self._path}/s/stats/ctrl", 0)
            if self._path.split("/")[1] == "js110":
                for signal in "ivp":
                    self._driver.publish(f"{self._path}/s/{signal}/ctrl", 0)
        except (RuntimeError, OSError, ValueError) as error:
            raise silent("the Joulescope", error) from error

    def close(self) -> None:
        if self._driver is not None:
            with contextlib.suppress(RuntimeError, OSError, ValueError):
                if self._opened:
                    self._driver.close(self._path)
            self._driver.finalize()
            self._driver, self._opened = None, False

    def _came(self, topic: str, value: Mapping[str, Any]) -> None:
        """Called by the driver's own thread."""
        del topic
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait((time.monotonic_ns(), value))

    def _found(self, paths: list[str]) -> str:
        """The device that is meant: `u/js220/001234`."""
        known = [path for path in paths if path.split("/")[1] in _SAMPLES_HZ]
        named = [path for path in known if self._serial in (None, path.split("/")[-1])]
        serials = ", ".join(path.split("/")[-1] for path in known)
        if not named:
            which = f" with the serial number {self._serial}" if self._serial else ""
            there = f"; there are {serials}" if serials else ""
            raise DeviceError(
                f"no Joulescope{which} is plugged in, or this user may not open it{there}: look at its cable and the "
                "udev rules",
                "meter",
            )
        if len(named) > 1:
            raise DeviceError(f"several Joulescopes are plugged in: name one by 'serial', {serials}", "meter")
        return named[0]


class Means:
    """The driver's statistics as blocks of one mean each."""

    def __init__(self) -> None:
        self._origin: int | None = None

    def take(self, value: Mapping[str, Any], host_ns: int) -> Block | None:
        """A mean; none for a message that says nothing of power."""
        try:
            begin, end = (int(n) for n in value["time"]["samples"]["value"])
            rate_hz = float(value["time"]["sample_freq"]["value"]) / (end - begin)
            current, voltage, power = (
                float(value["signals"][signal]["avg"]["value"]) for signal in ("current", "voltage", "power")
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
        if self._origin is None:
            self._origin = begin
        if not np.isfinite(power):
            return None
        return Block(
            first_index=round((begin - self._origin) / (end - begin)),
            rate_hz=rate_hz,
            power_w=np.array([power]),
            host_ns=host_ns,
            current_a=np.array([current]),
            voltage_v=np.array([voltage]),
        )
