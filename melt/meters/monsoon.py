"""Monsoon's High Voltage Power Monitor through its own library (PyPI `Monsoon`), which speaks to it over USB.

The library's sample engine is not used: it gives the samples of a packet one time stamp, throws away a packet at every
call, and prints. Here a sample's time is its number ÷ 5000 Hz; the packets' own count of those that were dropped, and
the places that calibration takes, move the number on. A packet: two bytes, dropped so far; flags; how many samples;
then for each sample eight big-endian words (main coarse and fine, USB coarse and fine, aux coarse and fine, main volts,
USB volts) and a word whose low byte says what it is.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.errors import DeviceError
from melt.meters.base import Block, Instrument, library, silent
from melt.records import Response

if TYPE_CHECKING:
    from melt.analysis.events import Float64s
    from melt.files.instruments import MeterSpec
    from melt.transport import Deadline

RATE_HZ = 5000.0
_VENDOR, _PRODUCT = 0x2AB9, 0x0001
_HIGH_VOLTAGE = 2
_CALIBRATION_MS = 1250
_A_PACKET = 3
"""Samples in a packet; a dropped one had as many."""
_LATENCY_S = 0.002
"""What a packet is on its way at most when it is the least late: assumed, for nobody has measured it."""
_PACKET_BYTES = 64
_MOST_PACKETS = 512
_COARSE, _FINE, _VOLTS, _KIND = 0, 1, 6, 8
_MEASURED, _ZERO, _REFERENCE = 0x00, 0x10, 0x30
_FINE_BELOW = 64000
_STEP_V = 62.5e-6 * 4
_KEPT_CALIBRATIONS = 5
_WRAP = 1 << 16


class MonsoonMeter:
    """The main channel of one HVPM: what flows out of its terminals, in the place of a battery."""

    def __init__(self, spec: MeterSpec) -> None:
        self._serial, self._supply_v = spec.serial, spec.supply_v
        self._protocol: Any = None
        self._monsoon: Any = None
        self._usb: Any = None
        self._packets = Packets()

    def open(self) -> Instrument:
        try:
            pmapi, hvpm = library("Monsoon.pmapi", "monsoon"), library("Monsoon.HVPM", "monsoon")
            self._usb = library("usb.core", "monsoon")
            device = self._found()
            with contextlib.suppress(self._usb.USBError, NotImplementedError):
                device.detach_kernel_driver(0)  # nothing may be attached
            device.set_configuration()
            self._protocol = pmapi.USB_protocol()
            self._protocol.DEVICE = device
            self._protocol.stopSampling()  # a process that died may have left it running
            self._monsoon = hvpm.Monsoon()
            self._monsoon.Protocol = self._protocol
            self._monsoon.fillStatusPacket()
            told = self._monsoon.statusPacket
            if told.hardwareModel != _HIGH_VOLTAGE:
                raise DeviceError("this Monsoon is no HVPM, whose packets melt reads: use it as a csv meter", "meter")
            if self._supply_v is not None:
                self._monsoon.setVout(self._supply_v)
        except (ValueError, OSError) as error:
            raise silent("the Monsoon", error) from error
        return Instrument(
            type="monsoon",
            serial=str(told.serialNumber),
            rate_hz=RATE_HZ,
            latency_s=_LATENCY_S,
            response=Response(refresh_s=1 / RATE_HZ, averages=True, gain_error=0.01),
            about={
                "model": "HVPM",
                "firmware": str(told.firmwareVersion),
                "supply": "left as it was" if self._supply_v is None else f"{self._supply_v:g} V",
            },
        )

    def start(self) -> None:
        self._packets = Packets()
        try:
            self._monsoon.StartSampling(_CALIBRATION_MS)
            self._packets.scale(self._monsoon.statusPacket)
        except (ValueError, OSError) as error:
            raise silent("the Monsoon", error) from error

    def read(self, deadline: Deadline) -> tuple[Block, ...]:
        """Reads packets for a while; every read may wait a second, as the library has it."""
        got: list[bytes] = []
        while deadline.left_s and len(got) < _MOST_PACKETS:
            try:
                data = bytes(self._monsoon.BulkRead())
            except self._usb.USBTimeoutError:
                break
            except (ValueError, OSError) as error:
                raise silent("the Monsoon", error) from error
            got += [data[at : at + _PACKET_BYTES] for at in range(0, len(data), _PACKET_BYTES)]
        return self._packets.take(got, time.monotonic_ns())

    def stop(self) -> None:
        try:
            self._protocol.stopSampling()
        except (ValueError, OSError) as error:
            raise silent("the Monsoon", error) from error

    def close(self) -> None:
        if self._protocol is not None:
            with contextlib.suppress(ValueError, OSError):
                self._protocol.closeDevice()
            self._protocol = None

    def _found(self) -> Any:
        def ours(device: Any) -> bool:
            """The library's own look-up prints, and takes any."""
            try:
                return (device.idVendor, device.idProduct) == (_VENDOR, _PRODUCT) and (
                    self._serial is None or str(device.serial_number) == self._serial
                )
            except (ValueError, OSError):
                return False  # another user's, or one that is going away

        try:
            device = self._usb.find(custom_match=ours)
        except self._usb.NoBackendError:
            raise DeviceError("libusb is not installed on this computer: install libusb-1.0", "meter") from None
        if device is None:
            which = f" with the serial number {self._serial}" if self._serial else ""
            raise DeviceError(
                f"no Monsoon{which} is plugged in, or this user may not open it: look at its cable and the udev rules",
                "meter",
            )
        return device


class Packets:
    """Packets as blocks of current, voltage and power."""

    def __init__(self) -> None:
        self._next = 0
        self._dropped: int | None = None
        self._zero: deque[Float64s] = deque(maxlen=_KEPT_CALIBRATIONS)
        self._reference: deque[Float64s] = deque(maxlen=_KEPT_CALIBRATIONS)
        self._scales = np.array([1.0, 1.0])
        self._offsets = np.array([0.0, 0.0])

    def scale(self, told: Any) -> None:
        """Takes the coarse and the fine channel's scale and zero from what the meter told of itself."""
        self._scales = np.array([told.mainCoarseScale, told.mainFineScale], dtype=np.float64)
        self._offsets = np.array([told.mainCoarseZeroOffset, told.mainFineZeroOffset], dtype=np.float64)

    def take(self, packets: list[bytes], host_ns: int) -> tuple[Block, ...]:
        """The samples of the packets; those before the meter has calibrated itself only count.

        Raises DeviceError for a calibration that no current can be told by.
        """
        rows: list[Any] = []
        indices: list[int] = []
        for packet in packets:
            if len(packet) < 4 + 18:
                continue
            dropped, count = int.from_bytes(packet[:2], "little"), min(packet[3], (len(packet) - 4) // 18)
            if self._dropped is not None:
                self._next += ((dropped - self._dropped) % _WRAP) * _A_PACKET
            self._dropped = dropped
            words = np.frombuffer(packet, ">u2", count * 9, 4).reshape(count, 9)
            for row in words:
                kind = int(row[_KIND]) & 0x30
                if kind == _MEASURED and self._calibrated:
                    rows.append(row)
                    indices.append(self._next)
                elif kind == _ZERO and row[_COARSE] and row[_FINE]:
                    self._zero.append(row[[_COARSE, _FINE]].astype(np.float64))
                elif kind == _REFERENCE and row[_COARSE] and row[_FINE]:
                    self._reference.append(row[[_COARSE, _FINE]].astype(np.float64))
                self._next += 1
        return self._blocks(np.array(indices, dtype=np.int64), rows, host_ns)

    @property
    def _calibrated(self) -> bool:
        return len(self._zero) == len(self._reference) == _KEPT_CALIBRATIONS

    def _blocks(self, index: Any, rows: list[Any], host_ns: int) -> tuple[Block, ...]:
        if not rows:
            return ()
        words = np.stack(rows).astype(np.float64)
        zero = self._offsets + np.mean(self._zero, axis=0)
        span = np.mean(self._reference, axis=0) - zero
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(span != 0, self._scales / span, 0.0)
        if not slope.all():  # every current would be 0
            raise DeviceError("the Monsoon gave a calibration that tells no current: switch it off and on", "meter")
        coarse_ma, fine_ua = ((words[:, [_COARSE, _FINE]] - zero) * slope).T
        current_a = np.where(words[:, _FINE] < _FINE_BELOW, fine_ua * 1e-6, coarse_ma * 1e-3)
        volts = words[:, _VOLTS] * _STEP_V
        cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), index.size]
        return tuple(
            Block(int(index[a]), RATE_HZ, current_a[a:b] * volts[a:b], host_ns, current_a[a:b], volts[a:b])
            for a, b in pairwise(cuts)
        )
