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

from melt.files.profile import load_profile
from melt.readings import READINGS, Reading, absent, found, left_out, matching, text_of
from melt.records import Captured

if TYPE_CHECKING:
    from melt.records import Response, Sensor

CAPTURED = Path(__file__).parent / "captured"
ANY_LINUX = frozenset(load_profile("linux").readings)

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
# of a phone's properties only what tells the kind of phone: no serial number, no subscriber, no account
kind() {
  sed -n -e '/^\[ro\.product\./p' -e '/^\[ro\.soc\./p' -e '/^\[ro\.build\./p' -e '/^\[ro\.board\.platform\]/p' \
    -e '/^\[ro\.hardware/p' -e '/^\[ro\.chipname\]/p'
}
call() {
  command -v "$1" >/dev/null 2>&1 || return 0
  out=$(answer "$@")
  case $?:$1 in
    0:getprop) echo "=== \$ $*"; printf '%s\n' "$out" | kind ;;
    0:*) echo "=== \$ $*"; printf '%s\n' "$out" ;;
    124:*) echo "=== \$ $* !! hangs" ;;
    *) echo "=== \$ $* !! failed" ;;
  esac
}
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


def asked(captures: dict[str, Captured]) -> list[Reading]:
    """The readings that `captures` has an answer to, and those that any Linux is asked for.

    Of a listing without /proc/cpuinfo only the former: somebody has published a part of what a device would tell.
    """
    whole = not captures or "/proc/cpuinfo" in captures

    def is_asked(reading: Reading) -> bool:
        if whole and (reading.name in ANY_LINUX or (reading.facts and reading.asked_always)):
            return True
        return " ".join(reading.argv) in captures or any(any(matching(captures, glob)) for glob in reading.paths)

    return [reading for reading in READINGS.values() if is_asked(reading)]


def told(captures: dict[str, Captured]) -> dict[str, Any]:
    """Everything that the readings make of `captures`, as plain JSON."""
    readings = asked(captures)
    facts = [fact for reading in readings if reading.facts for fact in reading.facts(captures)]
    sensors = [reading for reading in readings if reading.sensors]
    return {
        "facts": {fact.name: fact.value for fact in facts if fact.value is not None},
        "unknown": {fact.name: fact.reason for fact in facts if fact.value is None},
        "sensors": {
            sensor.name: _sensor(sensor, captures) for of_one in found(sensors, captures).values() for sensor in of_one
        },
        "absent": {reading.name: reason for reading in sensors if (reason := absent(reading, captures))},
        "left_out": {path: why for reading in sensors for path, why in left_out(reading, captures).items()},
    }


def _sensor(sensor: Sensor, captures: dict[str, Captured]) -> dict[str, Any]:
    return {
        "source": sensor.source,
        "period_s": sensor.period_s,
        "channels": {
            channel.name: {
                "value": channel.parse(text_of(captures, sensor)),
                "quantity": channel.quantity,
                **_set(boundary=channel.boundary, provenance=channel.provenance, wraps_at=channel.wraps_at),
                **_set(label=channel.label or None, not_for_energy=channel.not_for_energy),
                **_response(channel.response),
            }
            for channel in sensor.channels
        },
    }


def _response(response: Response | None) -> dict[str, Any]:
    return {"response": response.model_dump(exclude_defaults=True)} if response else {}


def _set(**fields: str | float | None) -> dict[str, str | float]:
    return {name: value for name, value in fields.items() if value is not None}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(told(read(Path(sys.argv[1]).read_bytes())), indent=2, ensure_ascii=False))
    else:
        print(script(), end="")
