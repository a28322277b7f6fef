"""What a device answered, in one text file that a person can read, send and put right by hand.

    Any words about the device, until the first header.
    === /proc/sys/kernel/osrelease
    6.12.25+rpt-rpi-v8
    === $ uname -m
    aarch64
    === /sys/class/powercap/intel-rapl:0/energy_uj !! denied

A new device is two files beside this one, and no code:

    python tests/readings/readings_bundle.py | ssh DEVICE sh > tests/readings/captured/DEVICE.txt
    python tests/readings/readings_bundle.py tests/readings/captured/DEVICE.txt > tests/readings/captured/DEVICE.json

The first prints a script of a few lines for any POSIX shell (`adb shell` does too). It reads what the readings ask
for, without serial numbers and the host's name. Look at both files before sending them: the second is what melt will
believe of the device.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melt.readings import READINGS, absent, left_out
from melt.records import Captured

if TYPE_CHECKING:
    from melt.records import Sensor

CAPTURED = Path(__file__).parent / "captured"

PROLOGUE = r"""# melt: what this device tells about itself; it reads and writes nothing else
limit=; command -v timeout >/dev/null 2>&1 && limit='timeout 2'
answer() { $limit "$@" 2>/dev/null; }
file() {
  for f in "$@"; do
    [ -f "$f" ] || continue
    [ -r "$f" ] || { echo "=== $f !! denied"; continue; }
    answer head -c 65536 "$f" >/dev/null
    case $? in
      0) echo "=== $f"; answer head -c 65536 "$f" | sed '/^Serial/d'; echo ;;
      124) echo "=== $f !! hangs" ;;
      *) echo "=== $f !! io" ;;
    esac
  done
}
call() { echo "=== \$ $*"; answer "$@"; }
"""


def script() -> str:
    """A POSIX shell script that prints the bundle of the device that it runs on."""
    paths = dict.fromkeys(path for reading in READINGS.values() for path in reading.paths)
    commands = [reading.argv for reading in READINGS.values() if reading.argv]
    calls = [f"call {shlex.join(argv)}" for argv in commands] + [f"file {path}" for path in paths]
    return PROLOGUE + "\n".join(calls) + "\n"


def read(text: bytes) -> dict[str, Captured]:
    """The captures in a bundle, by path or command."""
    found: dict[str, Captured] = {}
    for part in (b"\n" + text).split(b"\n=== ")[1:]:
        header, _, data = part.partition(b"\n")
        source, _, error = header.decode().partition(" !! ")
        source = source.removeprefix("$ ").strip()
        found[source] = Captured(source, data, error.strip() or None)
    return found


def told(captures: dict[str, Captured]) -> dict[str, Any]:
    """Everything that the readings make of `captures`, as plain JSON."""
    facts = [fact for reading in READINGS.values() if reading.facts for fact in reading.facts(captures)]
    sensors = [reading for reading in READINGS.values() if reading.sensors]
    return {
        "facts": {fact.name: fact.value for fact in facts if fact.value is not None},
        "unknown": {fact.name: fact.reason for fact in facts if fact.value is None},
        "sensors": {
            sensor.name: _sensor(sensor, captures)
            for reading in sensors
            if reading.sensors
            for sensor in reading.sensors(captures)
        },
        "absent": {reading.name: reason for reading in sensors if (reason := absent(reading, captures))},
        "left_out": {path: why for reading in sensors for path, why in left_out(reading, captures).items()},
    }


def _sensor(sensor: Sensor, captures: dict[str, Captured]) -> dict[str, Any]:
    source = sensor.path or " ".join(sensor.argv)
    return {
        "source": source,
        "period_s": sensor.period_s,
        "channels": {
            channel.name: {
                "value": channel.parse(captures[source].data),
                "quantity": channel.quantity,
                **_set(boundary=channel.boundary, provenance=channel.provenance, wraps_at=channel.wraps_at),
            }
            for channel in sensor.channels
        },
    }


def _set(**fields: str | float | None) -> dict[str, str | float]:
    return {name: value for name, value in fields.items() if value is not None}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(told(read(Path(sys.argv[1]).read_bytes())), indent=2, ensure_ascii=False))
    else:
        print(script(), end="")
