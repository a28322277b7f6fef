"""Instruments that exist only as software, each below its real library: a USB device, a serial port, an I²C bus."""

from __future__ import annotations

import array
import importlib
import os
import pty
import select
import struct
import threading
import time
import tty
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class MonsoonUsb:
    """An HVPM as pyusb shows it: what its library asks of it, and a packet of three samples every 0.6 ms."""

    idVendor, idProduct, serial_number = 0x2AB9, 0x0001, "26589"  # noqa: N815 - pyusb's names
    VOLTS = 4.0

    def __init__(self, power: Callable[[float], float], drop: Callable[[int], bool] = lambda _: False) -> None:
        self.power, self.drop = power, drop
        self.values = {
            0xC0: 32,  # firmware
            0xC1: 1,
            0x42: 26589,
            0x45: 2,  # a high voltage one
            0x43: 30000,
            0x44: 30000,
            0x0C: 20,
            0x29: 0x3C00,
            0x10: 2,
            0x88: 0xE000,
            0x89: 0xC800,
            0x1A: 36500,  # the scales
            0x1B: 6400,
            0x1C: 14000,
            0x1D: 600,
            0x1E: 3100,
            0x1F: 250,
            0x25: 15,  # the zeros
            0x26: 15,
            0x27: 0,
            0x28: 0,
        }
        self.written: list[tuple[int, int]] = []
        self.sampling = False
        self.began_s = 0.0
        self.packet, self.dropped = 0, 0
        self.resets = 0
        self.gone = False
        self._ctx = self  # what usb.util.dispose_resources lets go of

    def dispose(self, device: Any) -> None:
        assert device is self

    def detach_kernel_driver(self, number: int) -> None:
        assert number == 0

    def set_configuration(self) -> None:
        self.written.append((-1, 0))

    def reset(self) -> None:
        self.resets += 1

    def ctrl_transfer(self, kind: int, request: int, value: int, index: int, data: Any, _timeout: int) -> Any:
        opcode = index & 0xFF
        if kind == 0xC0:
            told = 0x80 * self.sampling if opcode == 0xC4 else self.values[opcode]
            return array.array("B", struct.pack("<I", told))
        if request == 0x02:
            assert value == 1250
            self.sampling, self.began_s, self.packet, self.dropped = True, time.monotonic(), 0, 0
        elif request == 0x03:
            self.sampling = False
        else:
            self.written.append((opcode, struct.unpack("<I", bytes(data))[0]))
        return len(data) if isinstance(data, tuple) else 0

    def read(self, endpoint: int, size: int, timeout: int) -> Any:  # noqa: ARG002 - by that name
        assert (endpoint, size) == (0x81, 64)
        if self.gone:
            raise importlib.import_module("usb.core").USBError(
                "No such device (it may have been disconnected)", errno=19
            )
        if not self.sampling:
            time.sleep(0.01)
            raise importlib.import_module("usb.core").USBTimeoutError("Operation timed out", errno=110)
        while True:
            number = self.packet
            self.packet += 1
            if not self.drop(number):
                break
            self.dropped += 1
        due_s = self.began_s + (3 * number + 3) / 5000
        time.sleep(max(0.0, due_s - time.monotonic()))
        return array.array("B", self.bytes(number))

    def bytes(self, number: int) -> bytes:
        """A packet: the first ten samples calibrate."""
        out = struct.pack("<HBB", self.dropped, 0, 3)
        for i in range(3 * number, 3 * number + 3):
            milliamps = 1000 * self.power(self.began_s + (i + 0.5) / 5000) / self.VOLTS
            coarse, fine = round(1015 + milliamps), min(65535, round(515 + 1000 * milliamps))
            kind = 0x00
            if i < 10:  # the steps are one mA and one µA
                coarse, fine, kind = (1000, 500, 0x10) if i % 2 else (1015 + 6400, 515 + 36500, 0x30)
            volts = round(self.VOLTS / (62.5e-6 * 4))
            out += struct.pack(">8HBB", coarse, fine, 1, 1, 1, 1, volts, 1, 0, kind)
        return out + bytes(64 - len(out))


PPK2_META = (
    "Calibrated: 0\nR0: 1003.3506\nR1: 101.5865\nR2: 10.3027\nR3: 0.9636\nR4: 0.0564\n"
    "GS0: 1.0\nGS1: 1.0\nGS2: 1.0\nGS3: 1.0\nGS4: 1.0\nGI0: 1.0\nGI1: 0.9695\nGI2: 0.9609\nGI3: 0.9523\nGI4: 0.9582\n"
    "O0: 112.9420\nO1: 75.4627\nO2: 64.6020\nO3: 50.1263\nO4: 81.3060\nVDD: 3701\nHW: 9173\nmode: 2\n"
    "S0: 0.0\nS1: 0.0\nS2: 0.0\nS3: 0.0\nS4: 0.0\nI0: 0.0\nI1: 0.0\nI2: 0.0\nI3: 0.0\nI4: 0.0\n"
    "UG0: 1.0\nUG1: 1.0\nUG2: 1.0\nUG3: 1.0\nUG4: 1.0\nIA: 56\nEND\n"
)
"""In the form in which a kit tells its calibration; composed, with numbers like a real one's."""


class Ppk2Port:
    """A PPK2 at a pseudo terminal: answers commands, and sends a hundred thousand samples in a second."""

    VOLTS = 3.7

    def __init__(self, power: Callable[[float], float], lose: Callable[[int], bool] = lambda _: False) -> None:
        self.power, self.lose = power, lose
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave
        self.commands: list[bytes] = []
        self._sampling = threading.Event()
        self._over = threading.Event()
        self.began_s, self.index = 0.0, 0
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._send)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        while not self._over.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            try:
                command = os.read(self._master, 64)
            except OSError:
                return
            self.commands.append(command)
            if command[:1] == b"\x19":
                os.write(self._master, PPK2_META.encode())
            elif command[-1:] == b"\x06" or b"\x06" in command[:1]:
                self.began_s, self.index = time.monotonic(), 0
                self._sampling.set()
            elif command[:1] == b"\x07":
                self._sampling.clear()

    def _send(self) -> None:
        while not self._over.is_set():
            if not self._sampling.wait(0.05):
                continue
            time.sleep(0.004)
            due = int((time.monotonic() - self.began_s) * 100_000)
            pieces = []
            while self.index < due and len(pieces) < 900:
                if not self.lose(self.index):
                    pieces.append(self.word(self.index))
                self.index += 1
            data = b"".join(pieces)
            while data and not self._over.is_set():
                if select.select([], [self._master], [], 0.05)[1]:
                    data = data[os.write(self._master, data[:2048]) :]

    def word(self, index: int) -> bytes:
        """A sample in range 4, whose step is the largest."""
        amps = self.power(self.began_s + (index + 0.5) / 100_000) / self.VOLTS
        # the inverse of what the kit's calibration says, without its square
        plain = amps / 0.9582
        for _ in range(6):
            plain = amps / (plain + 0.9582)
        adc = round((plain * 0.0564 / (1.8 / 163840) + 81.3060) / 4)
        return struct.pack("<I", min(adc, 0x3FFF) | 4 << 14 | (index % 64) << 18)

    def close(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(5)
        os.close(self._master)
        os.close(self._slave)


class InaBus:
    """An I²C bus with one chip, registers as its data sheet has them."""

    VOLTS, SHUNT_OHM, MAX_A = 5.0, 0.015, 5.0

    def __init__(self, chip: str, power: Callable[[float], float], address: int = 0x40) -> None:
        self.chip, self.power, self.address = chip, power, address
        self.written: dict[int, int] = {}
        self.began_s = self.last_s = time.monotonic()
        self.joules = 0.0
        self.closed = False
        self.fails = False
        self.over: str | None = None
        """How it tells of too much current: "full", "minus" (the shunt's register at an end), "flag", or not."""

    def __call__(self, number: int) -> InaBus:
        if number != 1:
            raise FileNotFoundError(2, f"No such file or directory: '/dev/i2c-{number}'")
        return self

    def read_i2c_block_data(self, address: int, register: int, length: int) -> list[int]:
        if self.fails or address != self.address:
            raise OSError(121, "Remote I/O error")
        now_s = time.monotonic()
        self.joules += self.power((now_s + self.last_s) / 2) * (now_s - self.last_s)
        self.last_s = now_s
        return list((self._told(register, now_s) % (1 << 8 * length)).to_bytes(length, "big"))

    def write_i2c_block_data(self, address: int, register: int, data: list[int]) -> None:
        assert address == self.address
        self.written[register] = int.from_bytes(bytes(data), "big")
        if self.chip == "ina228" and register == 0 and self.written[0] & 0x4000:
            self.joules = 0.0

    def close(self) -> None:
        self.closed = True

    def _told(self, register: int, now_s: float) -> int:
        """A register's value, as it is where the current is too much."""
        end = {"ina219": 8000, "ina226": 0x7FFF, "ina228": 0x7FFFF << 4}[self.chip]
        shunt = {"ina219": 1, "ina226": 1, "ina228": 4}[self.chip]
        flag_at, flag = {"ina219": (2, 1), "ina226": (6, 1 << 2), "ina228": (0x0B, 1 << 9)}[self.chip]
        if self.over in ("full", "minus") and register == shunt:
            return end if self.over == "full" else -end
        return self._value(register, now_s) | (flag if self.over == "flag" and register == flag_at else 0)

    def _value(self, register: int, now_s: float) -> int:
        amps = self.power(now_s) / self.VOLTS
        if self.chip == "ina219":
            return {1: round(amps * self.SHUNT_OHM / 10e-6), 2: round(self.VOLTS / 4e-3) << 3 | 0x2}[register]
        if self.chip == "ina226":
            numbers = {0xFE: 0x5449, 0xFF: 0x2260, 6: 1 << 3}
            return {1: round(amps * self.SHUNT_OHM / 2.5e-6), 2: round(self.VOLTS / 1.25e-3), **numbers}[register]
        step_a = self.written.get(2, 0) / (13107.2e6 * self.SHUNT_OHM)
        if step_a == 0:
            step_a = 1.0  # not set up yet
        return {
            4: round(amps * self.SHUNT_OHM / 312.5e-9) << 4,
            0x0B: 0x0003,
            5: round(self.VOLTS / 195.3125e-6) << 4,
            7: round(amps / step_a) << 4,
            9: int(self.joules / (16 * 3.2 * step_a)) % (1 << 40),
            0x3E: 0x5449,
            0x3F: 0x2281,
        }[register]


class JoulescopeDriver:
    """The driver's face as its Python binding has it; its statistics come from a thread, as the real one's do."""

    def __init__(
        self,
        power: Callable[[float], float],
        paths: tuple[str, ...] = ("u/js220/000415",),
        drop: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self.power, self.paths, self.drop = power, list(paths), drop
        self.published: list[tuple[str, Any]] = []
        self.opened: list[str] = []
        self.finalized = 0
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __call__(self) -> JoulescopeDriver:
        return self

    def device_paths(self) -> list[str]:
        return self.paths

    def open(self, path: str) -> None:
        self.opened.append(path)

    def close(self, path: str) -> None:
        self.opened.remove(path)

    def publish(self, topic: str, value: Any) -> None:
        self.published.append((topic, value))

    def subscribe(self, topic: str, flags: str, fn: Callable[[str, Any], None]) -> None:
        assert (topic, flags) == (f"{self.opened[-1]}/s/stats/value", "pub")
        count = dict(self.published)[f"{self.opened[-1]}/s/stats/scnt"]
        self._over.clear()
        self._threads.append(threading.Thread(target=self._send, args=(topic, count, fn), daemon=True))
        self._threads[-1].start()

    def unsubscribe(self, _topic: str, _fn: Callable[[str, Any], None]) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(5)

    def finalize(self) -> None:
        self._over.set()
        self.finalized += 1

    def _send(self, topic: str, count: int, fn: Callable[[str, Any], None]) -> None:
        rate = 2_000_000 if "js110" in topic else 1_000_000
        began_s, number = time.monotonic(), 0
        while not self._over.is_set():
            end_s = began_s + (number + 1) * count / rate
            time.sleep(max(0.0, end_s - time.monotonic()))
            if not self.drop(number):
                fn(
                    topic,
                    joulescope_message(77_000_000 + number * count, count, rate, self.power(end_s - count / rate / 2)),
                )
            number += 1


def joulescope_message(begin: int, count: int, rate: int, watts: float) -> dict[str, Any]:
    """What `s/stats/value` brings, in the form that pyjoulescope_driver 2.2.12 gives it to a subscriber."""
    volts, seconds = 5.0, count / rate

    def signal(avg: float, unit: str) -> dict[str, Any]:
        return {key: {"value": avg, "units": unit} for key in ("avg", "min", "max")} | {"std": {"value": 0.0}}

    return {
        "time": {
            "samples": {"value": [begin, begin + count], "units": "samples"},
            "utc": {"value": [0, 0], "units": "time64"},
            "sample_freq": {"value": rate, "units": "Hz"},
            "range": {"value": [begin / rate, begin / rate + seconds], "units": "s"},
            "delta": {"value": seconds, "units": "s"},
            "decimate_factor": {"value": 1, "units": "samples"},
        },
        "signals": {
            "current": signal(watts / volts, "A"),
            "voltage": signal(volts, "V"),
            "power": signal(watts, "W"),
        },
        "accumulators": {"charge": {"value": 0.0, "units": "C"}, "energy": {"value": 0.0, "units": "J"}},
        "source": "sensor",
    }
