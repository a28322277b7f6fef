"""What a profile wants held during a run, as files and commands of the device: what can be, what not, what needs root.

The host only finds out what there is to set. The device reads the old values, notes them in its undo journal, sets
them, reads them back at both ends of the run, and puts them back.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import DeviceError, ParseError
from melt.job import Hold, User
from melt.readings.base import answer, matching, sibling
from melt.readings.text import integer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from melt.device import Device
    from melt.device.root import Root
    from melt.readings import Captures
    from melt.records import Event

_POLICY = "/sys/devices/system/cpu/cpufreq/policy*"
_CLOCK_FILES = ("cpuinfo_max_freq", "cpuinfo_min_freq", "scaling_available_frequencies", "scaling_boost_frequencies")
_HELD_CLOCK = re.compile(r"/(policy[0-9]{1,4})/scaling_(max|min)_freq$")
_NOT_WRITABLE = 'for file in "$@"; do test -w "$file" || printf "%s\\n" "$file"; done'
_NEVER_OFF = "2147483647"
"""The longest time-out in ms that Android's setting holds: 24 days."""
_LONGEST = 4096
_IDS, _MOST_GROUPS = 3, 64
_MOST_HELD = 1024
"""The agent's limit."""

Refused = tuple[str, str, str]
"""What was to be held, at what, and why it cannot even be tried."""
FindRoot = Callable[[], tuple["Root | None", str]]
"""Gives the way to root, or why there is none and how to allow it."""


@dataclass(frozen=True)
class Pins:
    """What the agent is to hold; it runs as root where `root` is one, and the engine as `user` then."""

    files: tuple[tuple[str, str], ...] = ()
    """Paths as the device calls them, and values; each goes through `Device.there`."""
    holds: tuple[Hold, ...] = ()
    refused: tuple[Refused, ...] = ()
    root: Root | None = None
    user: User | None = None


@dataclass
class _Wanted:
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    holds: list[Hold] = dataclasses.field(default_factory=list)
    root_holds: list[Hold] = dataclasses.field(default_factory=list)
    refused: list[Refused] = dataclasses.field(default_factory=list)


def find_pins(device: Device, find_root: FindRoot) -> Pins:
    """What of the profile's `pin` is to be held on this device.

    `find_root` is asked only when something needs root; it gives the way to it, or why there is none and how to allow
    it. What cannot be held is among `refused`, and makes the run invalid. Raises TransportError, DeviceError.
    """
    pin = device.profile.pin
    wanted = _Wanted()
    _commands(device, wanted)
    if pin.governor is not None or pin.cpu_hz is not None:
        _cpu(device, wanted)
    _files(device, wanted)
    closed = any(sensor.as_root for sensor in device.sensors)
    if not pin.awake and not closed and not wanted.files and not wanted.holds and not wanted.root_holds:
        return Pins(refused=tuple(wanted.refused))
    user = _user(device)
    locked = [] if user.uid == 0 else _not_writable(device, wanted.files)
    if user.uid and device.probe([f"{device.root}/jobs/*/undo"]):
        device.put_back()  # the job is to find the values that were there before any of ours
    root, why = find_root() if user.uid and (locked or closed or wanted.root_holds) else (None, "")
    if pin.awake and device.profile.platform == "android":
        wanted.holds.append(_wake_lock(device) if root or user.uid == 0 else _screen())
    if user.uid and root is None:
        wanted.refused += [(path, wanted.files.pop(path), why) for path in locked]
        wanted.refused += [(hold.name, hold.value, why) for hold in wanted.root_holds]
        wanted.root_holds = []
    n = len(wanted.files) + len(wanted.holds) + len(wanted.root_holds) + len(wanted.refused)
    if n > _MOST_HELD:
        raise DeviceError(
            f"{device.name}: key 'pin' of profile {device.profile.name} holds {n} values there, and {_MOST_HELD} is "
            "the most: name fewer in 'pin.files'"
        )
    return Pins(
        files=tuple(wanted.files.items()),
        holds=(*wanted.root_holds, *wanted.holds),
        refused=tuple(wanted.refused),
        root=root,
        user=user if root else None,
    )


def reader(device: Device) -> tuple[Root | None, User | None]:
    """Who starts a job that samples what only root may read, and whose its engine is; None where nobody need be root.

    Raises TransportError, DeviceError.
    """
    if not any(sensor.as_root for sensor in device.sensors):
        return None, None
    user, root = _user(device), device.superuser
    return (None, None) if user.uid == 0 or isinstance(root, str) else (root, user)


def find_root(device: Device) -> tuple[Root | None, str]:
    """The way to root on a device, or why there is none and how to allow it. Raises TransportError."""
    found = device.superuser
    return (None, found) if isinstance(found, str) else (found, "")


def as_root(device: Device) -> Callable[[Sequence[str]], Sequence[str]] | None:
    """What makes a command root's, where that can be had. Raises TransportError."""
    root, _ = find_root(device)
    return root.argv if root else None


def is_put_back(device: Device, run_id: str) -> bool:
    """Whether nothing that a job has held is left to be put back. Raises TransportError."""
    return not device.probe([f"{device.job_dir(run_id)}/undo"])


def held_clocks(events: Iterable[Event]) -> Mapping[str, float]:
    """The clock in Hz that each CPU policy was held at, by the channel of its clock: its floor is its ceiling."""
    limits: dict[str, dict[str, float]] = {}
    for event in events:
        found = _HELD_CLOCK.search(str(event.get("path"))) if event.ev == "agent.set" else None
        got = str(event.get("got"))
        if found and event.get("ok") is True and got.isdecimal():
            limits.setdefault(found[1], {})[found[2]] = float(got) * 1000
    return {f"cpu.{policy}.clock": ends["max"] for policy, ends in limits.items() if ends.get("min") == ends.get("max")}


def held_values(events: Iterable[Event]) -> tuple[str, ...]:
    """What a run was to be held at, `NAME=VALUE` sorted: what must match before its figures are put beside others'."""
    return tuple(sorted({f"{e.get('path')}={e.get('asked')}" for e in events if e.ev == "agent.set"}))


def held_facts(events: Iterable[Event], power_modes: Mapping[str, int]) -> Mapping[str, str]:
    """Those facts of a run that its pins have changed, as the readings would tell them: governor, power_mode."""
    held = {str(e.get("path")): str(e.get("got")) for e in events if e.ev == "agent.set" and e.get("ok") is True}
    facts = {}
    governors = {value for path, value in held.items() if path.endswith("/scaling_governor")}
    if len(governors) == 1:
        facts["governor"] = governors.pop()
    modes = [name for name, number in power_modes.items() if held.get("power_mode") == str(number)]
    if modes:
        facts["power_mode"] = modes[0]
    return facts


# -------------------------------------------------------------------------------------------------- what is wanted


def _commands(device: Device, wanted: _Wanted) -> None:
    """The power mode comes first: it brings clocks of its own."""
    profile = device.profile
    mode = profile.pin.power_mode
    if mode is not None and mode not in profile.power_modes:
        known = ", ".join(profile.power_modes) or "none"
        why = f"profile {profile.name} knows no such mode: key 'power_modes' has {known}"
        wanted.refused.append(("power_mode", mode, why))
    elif mode is not None:
        # source: `nvpmodel -h` of NVIDIA's Jetson Linux; -q ends with the mode's number on a line of its own
        number = str(profile.power_modes[mode])
        set_to = ("nvpmodel", "-m")
        wanted.root_holds.append(Hold("power_mode", number, (*set_to, number), (*set_to, "{old}"), ("nvpmodel", "-q")))
    for name, command in profile.pin.commands.items():
        hold = Hold(name, command.expect, command.set, command.restore, command.read)
        (wanted.root_holds if command.root else wanted.holds).append(hold)


def _cpu(device: Device, wanted: _Wanted) -> None:
    pin = device.profile.pin
    captures = device.probe(
        [f"{_POLICY}/scaling_governor", *(f"{_POLICY}/{name}" for name in _CLOCK_FILES)],
    )
    governors = list(matching(captures, f"{_POLICY}/scaling_governor"))
    if pin.governor is not None:
        wanted.files |= dict.fromkeys(governors, pin.governor)
        if not governors:
            wanted.refused.append(("governor", pin.governor, f"no file matches {_POLICY}/scaling_governor"))
    if pin.cpu_hz is None:
        return
    highest = list(matching(captures, f"{_POLICY}/cpuinfo_max_freq"))
    if not highest:
        wanted.refused.append(("cpu_hz", str(pin.cpu_hz), f"no file matches {_POLICY}/cpuinfo_max_freq"))
    for path in highest:
        try:
            khz = _clock_khz(captures, path, pin.cpu_hz)
        except ParseError as error:
            wanted.refused.append((path, str(pin.cpu_hz), str(error)))
            continue
        wanted.files |= {sibling(path, f"scaling_{end}_freq"): str(khz) for end in ("max", "min")}


def _clock_khz(captures: Captures, path: str, asked: int | str) -> int:
    """The policy's nearest clock that is not above the one asked for. Raises ParseError."""
    highest = integer(answer(captures, path))
    listed = [clock for name in _CLOCK_FILES[2:] for clock in _clocks(captures, sibling(path, name))]
    if not isinstance(asked, int):
        return highest
    lowest = integer(answer(captures, sibling(path, "cpuinfo_min_freq")))
    # a driver without a list takes any clock between its ends
    found = [khz for khz in (listed or [min(asked // 1000, highest)]) if lowest <= khz <= asked // 1000]
    if not found:
        raise ParseError(f"it has no clock at or below {asked} Hz: its lowest is {lowest * 1000} Hz")
    return max(found)


def _clocks(captures: Captures, path: str) -> list[int]:
    try:
        return [int(word) for word in answer(captures, path)[:_LONGEST].split() if word.isdigit()]
    except ParseError:
        return []


def _files(device: Device, wanted: _Wanted) -> None:
    for glob, value in device.profile.pin.files.items():
        if device.sysroot and device.there(glob) == glob:
            wanted.refused.append((glob, value, "it is no file of this board, whose /sys alone is its own"))
            continue
        found = list(device.probe([glob]))
        wanted.files |= dict.fromkeys(found, value)
        if not found:
            wanted.refused.append((glob, value, "no file matches it"))


def _wake_lock(device: Device) -> Hold:
    """Keeps a phone from suspending; source: Linux, Documentation/ABI/testing/sysfs-power, `wake_lock`."""
    files = (device.there("/sys/power/wake_lock"), device.there("/sys/power/wake_unlock"))
    is_held = 'case " $(cat "$1") " in *" melt "*) true;; *) false;; esac'
    return Hold(
        "awake",
        "held",
        ("sh", "-c", 'echo melt > "$1"', "sh", files[0]),
        # to give back what is not held is an error to the kernel
        ("sh", "-c", f'if [ "$3" = free ] && {{ {is_held}; }}; then echo melt > "$2"; fi', "sh", *files, "{old}"),
        ("sh", "-c", f"if {{ {is_held}; }}; then echo held; else echo free; fi", "sh", files[0]),
    )


def _screen() -> Hold:
    """What an ordinary user of a phone can do: a screen that stays on; source: Android, Settings.System."""
    setting = ("system", "screen_off_timeout")
    name = " ".join(setting)
    back = f'if [ "$1" = null ]; then settings delete {name}; else settings put {name} "$1"; fi'
    return Hold(
        "awake",
        _NEVER_OFF,
        ("settings", "put", *setting, _NEVER_OFF),
        ("sh", "-c", back, "sh", "{old}"),
        ("settings", "get", *setting),
    )


# ------------------------------------------------------------------------------------------------------ who may do it


def _user(device: Device) -> User:
    """Whom the device's commands run as. Raises DeviceError."""
    done = device.run(["sh", "-c", "id -u; id -g; id -G"])
    ids = [[int(word) for word in line.split() if word.isdigit()] for line in done.stdout.splitlines()[:3]]
    if not done.ok or not all(ids) or len(ids) != _IDS:
        raise DeviceError(f"{device.name}: 'id' does not tell whom commands run as there: {done.complaint}")
    return User(ids[0][0], ids[1][0], tuple(ids[2][:_MOST_GROUPS]))


def _not_writable(device: Device, paths: Iterable[str]) -> list[str]:
    there = {device.there(path): path for path in paths}
    if not there:
        return []
    done = device.run(["sh", "-c", _NOT_WRITABLE, "sh", *there])
    return list(_known(done.stdout.decode(errors="surrogateescape").splitlines(), there))


def _known(lines: Iterable[str], there: Mapping[str, str]) -> Iterator[str]:
    return (there[line] for line in lines if line in there)
