"""Nordic's Power Profiler Kit II through ppk2-api, which speaks to its serial port.

The library opens the port, reads the calibration and sets the mode. Its own conversion works a sample at a time and
looks past the counter that each of them carries; here the same formula is applied to many at once, and the counter
tells what was lost. A sample is four bytes, little endian: 14 bits of the converter, 3 of the range, 6 of the counter
from bit 18 (as Nordic's own application, pc-nrfconnect-ppk, reads them).
The library's filter, which smooths three samples after each change of range, is left out.
"""

from __future__ import annotations

import contextlib
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.errors import DeviceError
from melt.meters.base import Block, Instrument, library, silent
from melt.records import Response
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.analysis.events import Float64s
    from melt.files.instruments import MeterSpec

RATE_HZ = 100_000.0
_LOOK_S = 0.005
_EMPTY_S = 2.0
"""A kit that was told to stop is silent long before."""
_LATENCY_S = 0.005
"""What a sample is on its way at most when it is the least late: assumed, for nobody has measured it."""
_COUNTS = 64
_RANGES = 5
_WORD = 4
_PRODUCT = "PPK2"


class Ppk2Meter:
    """One PPK2, as an ammeter in a supply whose voltage is known, or as the supply itself."""

    def __init__(self, spec: MeterSpec) -> None:
        self._port, self._serial = spec.port, spec.serial
        self._supply_v = spec.supply_v
        self._volts = spec.supply_v or spec.voltage_v or 0.0
        self._api: Any = None
        self._at = ""
        self._samples: Samples | None = None

    def open(self) -> Instrument:
        ppk2_api = library("ppk2_api.ppk2_api", "ppk2")
        port, serial = self._found()
        self._at = port
        try:
            # without a limit a port that takes nothing would hang for ever
            self._api = ppk2_api.PPK2_API(port, timeout=1, write_timeout=1, exclusive=True)
            self._api.stop_measuring()  # a process that died may have left it running
            self._emptied(port)
            calibrated = self._api.get_modifiers()
            if not calibrated:
                raise DeviceError(f"what is at {port} tells no calibration: it is no PPK2, or is in use", "meter")
            if self._supply_v is None:
                self._api.use_ampere_meter()
            else:
                self._api.use_source_meter()
            # the library wants a voltage in both modes; as an ammeter the kit supplies nothing of it
            self._api.set_source_voltage(round(self._volts * 1000))
            self._api.toggle_DUT_power("ON")
        except (OSError, ValueError) as error:
            raise silent(f"the PPK2 at {port}", error) from error
        return Instrument(
            type="ppk2",
            serial=serial,
            rate_hz=RATE_HZ,
            latency_s=_LATENCY_S,
            response=Response(refresh_s=1 / RATE_HZ, averages=False, gain_error=0.1),
            about={
                "port": port,
                "hardware": str(self._api.modifiers["HW"]).strip(),
                "mode": f"ammeter in {self._volts:g} V" if self._supply_v is None else f"supplies {self._volts:g} V",
            },
        )

    def start(self) -> None:
        try:
            self._samples = Samples(self._api.modifiers, self._volts)
            self._emptied(self._at)
            self._api.start_measuring()
        except (OSError, ValueError) as error:
            raise silent("the PPK2", error) from error

    def read(self, deadline: Deadline) -> tuple[Block, ...]:
        if self._samples is None:
            return ()
        while True:
            try:
                data = bytes(self._api.get_data())
            except (OSError, ValueError, TypeError) as error:
                raise silent("the PPK2", error) from error
            if data or not deadline.left_s:
                return self._samples.take(data, time.monotonic_ns())
            time.sleep(min(_LOOK_S, deadline.left_s))

    def stop(self) -> None:
        try:
            self._api.stop_measuring()
        except (OSError, ValueError) as error:
            raise silent("the PPK2", error) from error

    def close(self) -> None:
        if self._api is not None:
            with contextlib.suppress(OSError, ValueError):
                self._api.stop_measuring()
                self._api.ser.close()
            self._api.ser = None  # its destructor would close the port once more
            self._api = None

    def _emptied(self, port: str) -> None:
        """Throws away what was sent before it was asked for. Raises DeviceError for what never ends."""
        quiet, end = 0, Deadline.after(_EMPTY_S)
        while quiet < 2:  # noqa: PLR2004
            if not end.left_s:
                raise DeviceError(f"what is at {port} never stops sending: it is no PPK2", "meter")
            quiet = 0 if self._api.get_data() else quiet + 1
            time.sleep(_LOOK_S)

    def _found(self) -> tuple[str, str | None]:
        """The port and the serial number of the kit that is meant."""
        ports = library("serial.tools.list_ports", "ppk2").comports()
        if self._port is not None:
            told = next((port.serial_number for port in ports if port.device == self._port), None)
            return self._port, told
        kits = [port for port in ports if port.product == _PRODUCT and self._serial in (None, port.serial_number)]
        names = sorted({str(port.serial_number) for port in kits})
        if len(names) > 1:
            raise DeviceError(f"several PPK2 are plugged in: name one by 'serial', {', '.join(names)}", "meter")
        if not kits:
            which = f" with the serial number {self._serial}" if self._serial else ""
            raise DeviceError(f"no PPK2{which} is plugged in: look at its cable, or name its 'port'", "meter")
        # a kit has two ports, and the first is the one that measures
        kit = min(kits, key=lambda port: str(port.device))
        return kit.device, kit.serial_number


class Samples:
    """The stream of bytes as blocks of current and power."""

    def __init__(self, modifiers: Mapping[str, Any], volts: float) -> None:
        self._volts = volts
        table = {
            key: [float(modifiers[key][str(n)]) for n in range(_RANGES)]
            for key in ("R", "GS", "GI", "O", "S", "I", "UG")
        }
        self._of = {key: np.array(values) for key, values in table.items()}
        self._rest = b""
        self._next = 0
        self._counter: int | None = None

    def take(self, data: bytes, host_ns: int) -> tuple[Block, ...]:
        """The samples that are whole; a counter that jumps moves the index on by as much, less than 64."""
        data = self._rest + data
        whole = len(data) - len(data) % _WORD
        self._rest = data[whole:]
        words = np.frombuffer(data[:whole], "<u4").astype(np.int64)
        if not words.size:
            return ()
        counts = (words >> 18) & (_COUNTS - 1)
        before = (int(counts[0]) - 1) % _COUNTS if self._counter is None else self._counter
        steps = (np.diff(np.concatenate(([before], counts))) - 1) % _COUNTS
        index = self._next + np.arange(words.size) + np.cumsum(steps)
        self._counter, self._next = int(counts[-1]), int(index[-1]) + 1
        current_a = self._amps(words)
        cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), index.size]
        return tuple(
            Block(int(index[a]), RATE_HZ, current_a[a:b] * self._volts, host_ns, current_a[a:b])
            for a, b in pairwise(cuts)
        )

    def _amps(self, words: Any) -> Float64s:
        at = np.minimum((words >> 14) & 0x7, _RANGES - 1)
        of = {key: values[at] for key, values in self._of.items()}
        plain = ((words & 0x3FFF) * 4 - of["O"]) * (1.8 / 163840 / of["R"])
        amps = of["UG"] * (plain * (of["GS"] * plain + of["GI"]) + of["S"] * self._volts + of["I"])
        return np.asarray(amps, dtype=np.float64)
