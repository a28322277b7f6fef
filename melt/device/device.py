"""Opening a device: reach it, bring the agent, ask for the facts, find the sensors."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from melt.device.answers import Probed, read
from melt.device.blobs import Blobs, sha256_of
from melt.device.connect import connect
from melt.device.line import Line
from melt.device.sending import transfer_limit_s
from melt.errors import DeviceError, UsageError, nearest
from melt.native import build
from melt.places import cache_dir
from melt.readings import READINGS, Captures, Reading, absent, left_out
from melt.records import Captured, Fact, Sensor
from melt.transport import Completed, Deadline, Transport
from melt.transport.base import NOT_EXECUTABLE, NOT_FOUND

if TYPE_CHECKING:
    from melt.files import LabDevice, Profile

Say = Callable[[str], None]

COMMAND_S = 30.0
"""The limit of a short command on a device."""
_PROBE_FILE_MS = 500
_PROBE_S = 60.0
_FACTS = "system"
_LONGEST_MACHINE = 64


@dataclass(frozen=True)
class Device:
    """One unit, reached and understood; `sensors` are those found on it, `absent` why the others were not."""

    name: str
    profile: Profile
    address: str
    transport: Transport
    machine: str
    root: str
    """The folder on the device below which everything is melt's."""
    agent: str
    """The agent's path on the device."""
    facts: Mapping[str, Fact]
    sensors: tuple[Sensor, ...]
    absent: Mapping[str, str]

    @property
    def here(self) -> bool:
        """Whether the device is this computer."""
        return self.address.startswith("local:")

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.transport, self.agent, f"{self.root}/blobs", self.name)

    @property
    def lock(self) -> str:
        return f"{self.root}/lock"

    def job_dir(self, run_id: str) -> str:
        return f"{self.root}/jobs/{run_id}"

    def fact(self, name: str) -> str | int | float | None:
        """The value of a fact, None when it is not known."""
        found = self.facts.get(name)
        return found.value if found else None

    def run(self, argv: Iterable[str], limit_s: float = COMMAND_S) -> Completed:
        """A short command on the device. Raises TransportError."""
        return self.transport.run(list(argv), deadline=Deadline.after(limit_s))

    def probe(self, globs: Iterable[str]) -> dict[str, Captured]:
        """Every file that matches, read once by the agent, each within half a second; keyed by its path."""
        patterns = list(globs)
        if not patterns:
            return {}
        done = self.run([self.agent, "probe", str(_PROBE_FILE_MS), *patterns], _PROBE_S)
        if not done.ok:
            raise DeviceError(f"{self.name}: the agent could not read the device's files: {done.complaint}")
        return {c.source: c for c in map(_captured, done.stdout.splitlines())}

    def close(self) -> None:
        """Lets go of the link; the next question to the device makes it anew."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_device(name: str, spec: LabDevice, profile: Profile, say: Say | None = None) -> Device:
    """Reaches a device and makes it ready to carry out jobs; nothing is installed outside its work folder.

    Raises TransportError when it cannot be reached, DeviceError when its work folder cannot be used.
    """
    readings = _readings(profile)
    transport = Line(spec.address, connect)
    try:
        bare = Device(
            name=name,
            profile=profile,
            address=spec.address,
            transport=transport,
            machine=_machine(name, transport),
            root=f"{_workdir(name, spec, transport)}/melt",
            agent="",
            facts={},
            sensors=(),
            absent={},
        )
        ready = dataclasses.replace(bare, agent=_bring_agent(bare, say))
        return _understand(ready, readings)
    except BaseException:
        transport.close()
        raise


def _workdir(name: str, spec: LabDevice, transport: Transport) -> str:
    """The lab's choice, else this computer's cache, else Android's folder for such, else `.melt` in the home folder."""
    if spec.workdir is not None:
        return spec.workdir.rstrip("/")
    if spec.address.startswith("local:"):
        return str(cache_dir() / "device")
    # on a phone HOME is a folder that nobody may write to, and only below this one may a program be executed
    script = 'if [ -w /data/local/tmp ]; then printf %s /data/local/tmp; else printf %s "$HOME"; fi'
    done = transport.run(["sh", "-c", script], deadline=Deadline.after(COMMAND_S))
    home = done.stdout.decode(errors="surrogateescape").rstrip("/")
    if not done.ok or not home.startswith("/"):
        raise DeviceError(f"{name}: the account has no home folder: name a 'workdir' in the lab file")
    return f"{home}/.melt"


def machine_of(name: str, spec: LabDevice) -> str:
    """A device's processor, `x86_64` or `aarch64`, without making the device ready.

    Raises TransportError, DeviceError.
    """
    with contextlib.closing(connect(spec.address)) as transport:
        return _machine(name, transport)


def _machine(name: str, transport: Transport) -> str:
    done = transport.run(["uname", "-m"], deadline=Deadline.after(COMMAND_S))
    machine = done.stdout[:_LONGEST_MACHINE].decode(errors="replace").strip()
    if not done.ok or not machine:
        raise DeviceError(f"{name}: 'uname -m' does not tell the processor: {done.complaint}")
    return {"arm64": "aarch64", "armv8l": "aarch64", "amd64": "x86_64"}.get(machine, machine)


def _bring_agent(device: Device, say: Say | None) -> str:
    """The path of a working agent on the device, delivered when it is not there."""
    program = build("agent", device.machine, here=device.here, say=say)
    digest = sha256_of(program)
    path = f"{device.root}/blobs/{digest}"
    done = device.run([path, "version"])
    if brought := not done.ok:
        made = device.run(["mkdir", "-p", f"{device.root}/blobs", f"{device.root}/jobs"])
        if not made.ok:
            raise DeviceError(
                f"{device.name}: the work folder {device.root} cannot be made: {made.complaint}; name another "
                "'workdir' in the lab file",
                code="read_only",
            )
        limit_s = transfer_limit_s(program.stat().st_size)
        device.transport.push(program, path, deadline=Deadline.after(limit_s), executable=True)
        done = device.run([path, "hash", f"{device.root}/blobs", digest])
    if done.code == NOT_EXECUTABLE:
        raise DeviceError(
            f"{device.name}: programs may not be executed in {device.root} (mounted noexec?); name another 'workdir' "
            "in the lab file",
            code="noexec",
        )
    if not done.ok:
        raise DeviceError(f"{device.name}: the agent does not run on this device: {done.complaint}")
    if brought and digest not in done.stdout.decode(errors="replace").partition("sha256")[2]:
        raise DeviceError(f"{device.name}: the agent arrived damaged: try again; if that recurs, its disk is bad")
    return path


def _readings(profile: Profile) -> list[Reading]:
    for name in profile.readings:
        if name not in READINGS:
            raise UsageError(f"profile '{profile.name}': reading '{name}' is not known: {nearest(name, READINGS)}")
    facts = [reading for reading in READINGS.values() if reading.facts is not None]
    return list({r.name: r for r in (*facts, *(READINGS[name] for name in profile.readings))}.values())


def _understand(device: Device, readings: list[Reading]) -> Device:
    captures = _capture(device, readings)
    facts: dict[str, Fact] = {}
    sensors: list[Sensor] = []
    missing: dict[str, str] = {}
    for reading in readings:
        if reading.facts is not None:
            facts.update({fact.name: fact for fact in reading.facts(captures)})
        if reading.sensors is not None and reading.name in device.profile.readings:
            found = reading.sensors(captures)
            period_s = device.profile.periods_s.get(reading.name)
            sensors += [dataclasses.replace(s, period_s=period_s) if period_s else s for s in found]
            # a reading that found nothing is told as a whole, one that found some by the files it could not use
            missing |= left_out(reading, captures) if found else {reading.name: absent(reading, captures)}
    return dataclasses.replace(device, facts=facts, sensors=tuple(sensors), absent=missing)


def _capture(device: Device, readings: list[Reading]) -> Captures:
    captures = device.probe(dict.fromkeys(path for reading in readings for path in reading.paths))
    for reading in readings:
        if reading.argv:
            done = device.run(reading.argv)
            source = " ".join(reading.argv)
            error = None if done.ok else "missing" if done.code == NOT_FOUND else "failed"
            captures[source] = Captured(source, done.stdout if done.ok else b"", error)
    return captures


def _captured(line: bytes) -> Captured:
    """One line of the agent's probe; it writes each byte as the code point of the same number."""
    entry = read(Probed, line)
    path = entry.path.encode("latin-1").decode(errors="surrogateescape")
    return Captured(path, entry.data.encode("latin-1"), entry.error)
