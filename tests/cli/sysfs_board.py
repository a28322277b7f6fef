"""A board that is a folder of files: a thread writes what its sensors would say of the load that melt puts on it.

It follows the pulses of the job under way, as its plan and its first event tell them, so nothing depends on how busy
this computer is.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import yaml

if TYPE_CHECKING:
    from pathlib import Path

IDLE_W, BUSY_W, VOLTS = 3.0, 7.0, 3.9
REFRESH_S, LAG_S = 0.1, 0.12
METER_GAIN = 1.05
METER = f"""
import sys, time
from pathlib import Path
while True:
    watts = int(Path(sys.argv[1]).read_text()) * 1e-6 / {METER_GAIN}
    print(time.monotonic_ns(), watts, flush=True)
    time.sleep(0.05)
"""
"""A meter that shows less than the rail's sensor."""


@dataclass
class SysfsBoard:
    """A folder with /sys below it; a rail that averages, a zone, a policy, and maybe a battery."""

    folder: Path
    battery: bool = False
    charging: bool = False
    milliamperes: bool = False
    positive: bool = False
    follows: bool = True
    """Whether the sensors see the load at all."""
    _files: dict[str, int] = field(default_factory=dict)
    _end: threading.Event = field(default_factory=threading.Event)

    @property
    def sysroot(self) -> Path:
        return self.folder / "root"

    @property
    def rail(self) -> Path:
        return self.sysroot / "sys/class/hwmon/hwmon3/power1_input"

    @property
    def workdir(self) -> Path:
        return self.folder / "device"

    def lab(self, **profile: object) -> Path:
        """Writes a lab file with this board as `board`, and its profile; the path of the lab file."""
        readings = ["hwmon-power", "thermal", "cpu-clock", "memory", *(["battery"] if self.battery else [])]
        rail = {"read": "hwmon-power", "label": "VIN", "quantity": "power"}
        base: dict[str, object] = {
            "schema": 1,
            "kind": "profile",
            "name": "fake-board",
            "readings": readings,
            "sensors": {"input": {**rail, "boundary": "module", "provenance": "measured"}},
            "total": {"sum": ["input"], "boundary": "module", "excludes": ["carrier board"]},
        }
        (self.folder / "device_profiles").mkdir(exist_ok=True)
        text = yaml.safe_dump({**base, **profile})
        (self.folder / "device_profiles" / "fake-board.yaml").write_text(text, encoding="utf-8")
        entry = {
            "profile": "fake-board",
            "address": "local:",
            "workdir": str(self.workdir),
            "sysroot": str(self.sysroot),
            "simulated": True,
        }
        argv = [sys.executable, "-c", METER, str(self.rail)]
        meter = {"type": "command", "boundary": "board_input", "argv": argv, "gain_error": 0.01}
        lab = {"schema": 1, "kind": "lab", "devices": {"board": entry}, "meters": {"bench": meter}}
        (self.folder / "lab.yaml").write_text(yaml.safe_dump(lab), encoding="utf-8")
        return self.folder / "lab.yaml"

    def __enter__(self) -> Self:
        hwmon, zone = "/sys/class/hwmon/hwmon3", "/sys/class/thermal/thermal_zone0"
        policy = "/sys/devices/system/cpu/cpufreq/policy0"
        self._write(f"{hwmon}/name", "monitor")
        self._write(f"{hwmon}/power1_label", "VIN")
        self._write(f"{zone}/type", "cpu-thermal")
        self._write(f"{zone}/temp", "41500")
        self._write(f"{policy}/scaling_cur_freq", "1800000")
        self._write(f"{policy}/scaling_max_freq", "2400000")
        self._open(f"{hwmon}/power1_input")
        if self.battery:
            supply = "/sys/class/power_supply/battery"
            status = "Charging" if self.charging else "Discharging"
            for name, text in {"type": "Battery", "status": status, "capacity": "74", "voltage_now": "3900000"}.items():
                self._write(f"{supply}/{name}", text)
            self._open(f"{supply}/current_now")
        self._tell(time.monotonic())
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        for descriptor in self._files.values():
            os.close(descriptor)

    def _write(self, path: str, text: str) -> None:
        file = self.sysroot / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n", encoding="ascii")

    def _open(self, path: str) -> None:
        self._write(path, "0" * 12)
        name = path.rpartition("/")[2]
        self._files[name] = os.open(self.sysroot / path.lstrip("/"), os.O_WRONLY)

    def _live(self) -> None:
        number = 0
        while not self._end.is_set():
            number = max(number + 1, int(time.monotonic() / REFRESH_S) + 1)
            self._end.wait(max(0.0, number * REFRESH_S - time.monotonic()))
            self._tell(number * REFRESH_S)

    def _tell(self, now_s: float) -> None:
        at_s = now_s - LAG_S
        busy = (self._busy_s(at_s) - self._busy_s(at_s - REFRESH_S)) / REFRESH_S if self.follows else 0.0
        # a little of its own, so that every value differs from the one before
        power_w = IDLE_W + (BUSY_W - IDLE_W) * busy + 0.003 * (int(now_s / REFRESH_S) % 7)
        self._put("power1_input", round(power_w * 1e6))
        if self.battery:
            amperes = power_w / VOLTS * (1e3 if self.milliamperes else 1e6)
            self._put("current_now", round(amperes if self.positive else -amperes))

    def _put(self, name: str, value: int) -> None:
        # of one width and in one write, as a sysfs file answers: never half a number
        os.pwrite(self._files[name], f"{value:+012d}\n".encode(), 0)

    def _busy_s(self, at_s: float) -> float:
        """The busy time until `at_s` in the job under way."""
        wave = self._wave()
        if wave is None:
            return 0.0
        begin_s, length_s, on_s, off_s = wave
        since = min(max(at_s - begin_s, 0.0), length_s)
        whole, part = divmod(since, on_s + off_s)
        return float(whole * on_s + min(part, on_s))

    def _wave(self) -> tuple[float, float, float, float] | None:
        for plan in self.workdir.glob("melt/jobs/*/plan"):
            try:
                (engine,) = [line for line in plan.read_text().splitlines() if line.startswith("engine ")]
                with (plan.parent / "events.jsonl").open() as events:
                    begins = [line for line in events if '"step.begin"' in line]
                words = engine.split()
                length, on, off = (int(word) / 1000 for word in words[words.index("burn") + 1 :][:3])
                return json.loads(begins[0])["t"] * 1e-9, length, on, off
            except (OSError, ValueError, IndexError):
                continue
        return None
