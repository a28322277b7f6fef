"""TI's INA219, INA226 and INA228 on an I²C bus of this computer, such as a Raspberry Pi's, through smbus2.

Registers and steps as TI's data sheets SBOS448 (INA219), SBOS547 (INA226) and SLYS021 (INA228) give them. The INA228
adds up energy by itself: its power is the growth of that ÷ the time between two readings, and misses nothing.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.errors import DeviceError, UsageError
from melt.meters.base import HOST_CLOCK, Block, Instrument, library, silent
from melt.records import Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.files.instruments import MeterSpec
    from melt.transport import Deadline

_DEFAULT_HZ = 50.0
_TI = 0x5449
_TIMES_219 = ((1, 0x3, 532e-6), (2, 0x9, 1.06e-3), (4, 0xA, 2.13e-3), (8, 0xB, 4.26e-3), (16, 0xC, 8.51e-3))
"""Samples that the chip averages, the code for that, and how long it takes for each of shunt and bus."""
_MEANS_226 = (1, 4, 16, 64, 128, 256, 512, 1024)
_ONE_226_S = 1.1e-3
_ONE_228_S = 540e-6
_NARROW_228_V = 0.04096
_GAIN_219_V = 0.04
_WRAP_228 = 1 << 40


@dataclass(frozen=True)
class _Chip:
    """What is told apart between the chips: registers' lengths, steps, what their makers promise."""

    name: str
    shunt_max_v: float
    gain_error: float
    shunt_error_v: float
    """The largest offset of the shunt's voltage."""


_CHIPS = {
    "ina219": _Chip("ina219", 0.32, 0.01, 100e-6),
    "ina226": _Chip("ina226", 0.08192, 0.001, 10e-6),
    "ina228": _Chip("ina228", 0.16384, 0.01, 1e-6),
}


class InaMeter:
    """One chip, read at a fixed rate by this computer's clock; its stamps are the moments of reading."""

    def __init__(self, spec: MeterSpec) -> None:
        if spec.chip is None or spec.shunt_ohm is None or spec.max_current_a is None:
            raise UsageError("an ina2xx meter needs chip, shunt_ohm and max_current_a")
        self._chip = _CHIPS[spec.chip]
        self._bus_number, self._address = spec.bus, int(spec.address, 16)
        self._shunt_ohm, self._max_a = spec.shunt_ohm, spec.max_current_a
        self._period_s = 1 / (spec.rate_hz or _DEFAULT_HZ)
        self._bus: Any = None
        self._index = 0
        self._due_s = 0.0
        self._energy: tuple[int, float] | None = None
        self._own_error = spec.gain_error is not None

    @property
    def _what(self) -> str:
        return f"the {self._chip.name.upper()} at {self._address:#x} of I²C bus {self._bus_number}"

    @property
    def _energy_step_j(self) -> float:
        return 16 * 3.2 * self._max_a / (1 << 19)

    def open(self) -> Instrument:
        if self._max_a * self._shunt_ohm > self._chip.shunt_max_v:
            raise UsageError(
                f"{self._max_a:g} A through {self._shunt_ohm:g} ohm is more than the {self._chip.shunt_max_v * 1e3:g} "
                f"mV that an {self._chip.name} reads: put in a smaller shunt, or a smaller max_current_a"
            )
        smbus = library("smbus2", "ina")
        try:
            self._bus = smbus.SMBus(self._bus_number)
            self._check_chip()
            self._set_up()
            volts, _, _ = self._now()
        except OSError as error:
            raise DeviceError(
                f"{self._what} does not answer: {error.strerror or error}: is I²C switched on, and its wiring right?",
                "meter",
            ) from None
        response = Response(
            refresh_s=self._period_s,
            averages=True,
            gain_error=self._chip.gain_error,
            offset_error=self._chip.shunt_error_v / self._shunt_ohm * volts,
        )
        return Instrument(
            type=self._chip.name,
            serial=None,
            rate_hz=1 / self._period_s,
            clock=HOST_CLOCK,
            response=response,
            about={
                "shunt_ohm": f"{self._shunt_ohm:g}",
                "how": self._how(),
                **(
                    {} if self._own_error else {"error": "the chip's alone, without its shunt's: gain_error is not set"}
                ),
            },
        )

    def start(self) -> None:
        self._due_s = time.monotonic()
        self._energy = None

    def read(self, deadline: Deadline) -> tuple[Block, ...]:
        self._due_s += self._period_s
        now_s = time.monotonic()
        if now_s > self._due_s + self._period_s:  # what could not be read in time is a gap, and not read twice
            missed = int((now_s - self._due_s) / self._period_s)
            self._index += missed
            self._due_s += missed * self._period_s
        if self._due_s > deadline.at:
            self._due_s -= self._period_s
            time.sleep(deadline.left_s)
            return ()
        time.sleep(max(0.0, self._due_s - now_s))
        try:
            begun = self._energy is not None or self._chip.name != "ina228"
            power_w, current_a, volts, at_s = self._value()
        except OSError as error:
            raise silent(self._what, error) from None
        if power_w is None:
            self._index += begun  # one that told no value is a gap, and the one before the first is none
            return ()
        self._index += 1
        return (
            Block(
                first_index=self._index - 1,
                rate_hz=1 / self._period_s,
                power_w=np.array([power_w]),
                host_ns=time.monotonic_ns(),
                current_a=np.array([current_a]),
                voltage_v=np.array([volts]),
                own_s=np.array([at_s]),
            ),
        )

    def stop(self) -> None:
        """The chip goes on; nobody reads it."""

    def close(self) -> None:
        if self._bus is not None:
            with contextlib.suppress(OSError):
                self._bus.close()
            self._bus = None

    def _value(self) -> tuple[float | None, float, float, float]:
        """Power since the last reading (None: not known), current, voltage, and when (s of this computer's clock)."""
        before_s = time.monotonic()
        counted = self._unsigned(0x09, 5) if self._chip.name == "ina228" else 0
        at_s = (before_s + time.monotonic()) / 2
        volts, amps, over = self._now()
        if self._chip.name != "ina228":
            return None if over else volts * amps, amps, volts, at_s
        last, self._energy = self._energy, (counted, at_s)
        if last is not None and 0 < last[0] - counted < _WRAP_228 // 2:
            self._set_up()  # less than before, and no wrap: it was reset, and has forgotten its steps
            last = self._energy = None
        if last is None or over:
            return None, amps, volts, at_s
        grown = (counted - last[0]) % _WRAP_228
        return grown * self._energy_step_j / (at_s - last[1]), amps, volts, at_s

    def _now(self) -> tuple[float, float, bool]:
        """Voltage, current, and whether that is too much: the shunt's register at its end, or the chip's own word."""
        if self._chip.name == "ina219":  # OVF is bit 0 of the bus register
            bus, shunt = self._unsigned(0x02, 2), self._signed(0x01, 2)
            over = abs(shunt) >= round(_GAIN_219_V * 2**self._gain_219 / 10e-6) or bool(bus & 1)
            return (bus >> 3) * 4e-3, shunt * 10e-6 / self._shunt_ohm, over
        if self._chip.name == "ina226":  # OVF is bit 2 of Mask/Enable
            bus, shunt = self._unsigned(0x02, 2), self._signed(0x01, 2)
            over = abs(shunt) >= (1 << 15) - 1 or bool(self._unsigned(0x06, 2) & 1 << 2)
            return bus * 1.25e-3, shunt * 2.5e-6 / self._shunt_ohm, over
        bus, current = self._unsigned(0x05, 3) >> 4, self._signed(0x07, 3) >> 4
        end = (1 << 19) - 1  # MATHOF is bit 9 of DIAG_ALRT
        over = max(abs(self._signed(0x04, 3) >> 4), abs(current)) >= end or bool(self._unsigned(0x0B, 2) & 1 << 9)
        return bus * 195.3125e-6, current * self._max_a / (1 << 19), over

    @property
    def _gain_219(self) -> int:
        """The code of the smallest range of the shunt's voltage that the largest current fits in."""
        return next(n for n in range(4) if self._max_a * self._shunt_ohm <= _GAIN_219_V * 2**n)

    def _set_up(self) -> None:
        if self._chip.name == "ina219":
            _, code, _ = self._mean_219()
            # 32 V, the gain, the same mean for bus and shunt, both without end
            self._write(0x00, 0x2000 | self._gain_219 << 11 | code << 7 | code << 3 | 0x7)
        elif self._chip.name == "ina226":
            self._write(0x00, 0x4000 | self._mean(_ONE_226_S) << 9 | 4 << 6 | 4 << 3 | 0x7)
        else:
            narrow = self._max_a * self._shunt_ohm <= _NARROW_228_V
            step = 13107.2e6 * self._max_a / (1 << 19) * self._shunt_ohm * (4 if narrow else 1)
            self._write(0x00, 0x4000 | (0x10 if narrow else 0))  # the accumulators begin at nothing
            self._write(0x02, min(0x7FFF, round(step)))
            self._write(0x01, 0xB000 | 4 << 9 | 4 << 6 | 4 << 3 | self._mean(_ONE_228_S))

    def _how(self) -> str:
        if self._chip.name == "ina228":
            return "energy accumulated by the chip, divided by the time between readings"
        means = self._mean_219()[0] if self._chip.name == "ina219" else _MEANS_226[self._mean(_ONE_226_S)]
        return f"voltage times current, the chip's means of {means}"

    def _mean_219(self) -> tuple[int, int, float]:
        fitting = [row for row in _TIMES_219 if 2 * row[2] <= self._period_s]
        return fitting[-1] if fitting else _TIMES_219[0]

    def _mean(self, one_s: float) -> int:
        """The code of the longest mean that is made anew in each period."""
        fitting = [code for code, n in enumerate(_MEANS_226) if 2 * one_s * n <= self._period_s]
        return fitting[-1] if fitting else 0

    def _check_chip(self) -> None:
        maker, expected = {"ina226": (0xFE, 0x226), "ina228": (0x3E, 0x228)}.get(self._chip.name, (None, 0))
        if maker is None:
            return  # an INA219 has no number by which it could be told
        told = self._unsigned(maker, 2), self._unsigned(maker + 1, 2) >> 4
        if told != (_TI, expected):
            raise DeviceError(
                f"at {self._address:#x} of I²C bus {self._bus_number} is no {self._chip.name.upper()}: its numbers are "
                f"{told[0]:#06x} and {told[1]:#05x}",
                "meter",
            )

    def _bytes(self, register: int, length: int) -> Sequence[int]:
        got: Sequence[int] = self._bus.read_i2c_block_data(self._address, register, length)
        return got

    def _unsigned(self, register: int, length: int) -> int:
        return int.from_bytes(bytes(self._bytes(register, length)), "big")

    def _signed(self, register: int, length: int) -> int:
        return int.from_bytes(bytes(self._bytes(register, length)), "big", signed=True)

    def _write(self, register: int, value: int) -> None:
        self._bus.write_i2c_block_data(self._address, register, list(value.to_bytes(2, "big")))
