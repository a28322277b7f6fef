"""Opening a device: reach it, bring the agent, ask for the facts, find the sensors."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self, cast

from melt.device.answers import Probed, read
from melt.device.blobs import Blobs, sha256_of
from melt.device.connect import connect
from melt.device.line import Line
from melt.device.root import Root, find_root
from melt.device.sending import transfer_limit_s
from melt.device.sensors import understood, wanted
from melt.errors import DeviceError, TransportTimeout
from melt.native import build
from melt.places import cache_dir
from melt.records import Captured, Fact, Sensor, TotalRule
from melt.transport import Completed, Deadline, Transport
from melt.transport.base import NOT_EXECUTABLE, NOT_FOUND

if TYPE_CHECKING:
    from melt.files import LabDevice, Profile
    from melt.readings import Captures, Reading

Say = Callable[[str], None]

COMMAND_S = 30.0
"""The limit of a short command on a device."""
_PROBE_FILE_MS = 500
_PROBE_S = 60.0
_ASK_S = 15.0
"""The limit of a command that tells of the device: some of Android's wait 10 s for a service that is not there."""
_FACTS = "system"
_LONGEST_MACHINE = 64
_BELOW_SYSROOT = ("/sys/", "/proc/device-tree/")
_WHOLE = ("/sys/devices/system/cpu", "/sys/class", "/sys/")
_LEFT = 1
"""What the agent's undo ends with when something could not be put back."""
_UNDO_S = 120.0
"""The agent gives each command 10 s, and each file 2 s."""


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
    sysroot: str = ""
    """Where /sys and /proc/device-tree of it lie; all paths that are told or recorded are without it."""
    simulated: bool = False
    total: TotalRule | None = None
    """Which channels are the total of this unit, as its profile says."""
    no_total: str | None = None
    """Why the profile's rule cannot be used on this unit."""

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

    @property
    def whole(self) -> tuple[str, ...]:
        """Folders that all work folders on the device see: the first that is there is locked while values are held."""
        return (*map(self.there, _WHOLE), self.sysroot or "/")

    def job_dir(self, run_id: str) -> str:
        return f"{self.root}/jobs/{run_id}"

    def fact(self, name: str) -> str | int | float | None:
        """The value of a fact, None when it is not known."""
        found = self.facts.get(name)
        return found.value if found else None

    def run(self, argv: Iterable[str], limit_s: float = COMMAND_S) -> Completed:
        """A short command on the device. Raises TransportError."""
        return self.transport.run(list(argv), deadline=Deadline.after(limit_s))

    @property
    def superuser(self) -> Root | str:
        """How a command is run as root on it, or a sentence that says why none can be: asked once.

        Raises TransportError.
        """
        return _asked_once(cast("Line", self.transport), f"{self.root}/root", self.agent)

    def put_back(self) -> None:
        """Puts back what agents that died had held; a job that holds the device now has done so.

        Raises TransportError.
        """
        argv = (self.agent, "undo", self.lock, f"{self.root}/jobs", *self.whole)
        # what could not be put back may be root's to put back
        if self.run(argv, _UNDO_S).code == _LEFT and isinstance(self.superuser, Root):
            self.run(self.superuser.argv(argv), _UNDO_S)

    def probe(self, globs: Iterable[str]) -> dict[str, Captured]:
        """Every file that matches, read once by the agent, each within half a second; keyed by its path.

        Those of sensors that only root may read are read as root.
        """
        patterns = list(globs)
        closed = {path for sensor in self.sensors if sensor.as_root for path in sensor.paths}
        found = self._probed([glob for glob in patterns if glob not in closed], None)
        if closed and not isinstance(self.superuser, str):
            found |= self._probed([glob for glob in patterns if glob in closed], self.superuser)
        return found

    def _probed(self, globs: Sequence[str], root: Root | None) -> dict[str, Captured]:
        if not globs:
            return {}
        argv = [self.agent, "probe", str(_PROBE_FILE_MS), *map(self.there, globs)]
        done = self.run(root.argv(argv) if root else argv, _PROBE_S)
        if not done.ok:
            raise DeviceError(f"{self.name}: the agent could not read the device's files: {done.complaint}")
        return {c.source: c for c in (_captured(line, self.sysroot) for line in done.stdout.splitlines())}

    def opened_as_root(self, captures: Captures) -> dict[str, Captured]:
        """What was denied, as root has it; nothing where the profile does not ask for that, or there is no way."""
        denied = [path for path, captured in captures.items() if captured.error == "denied"]
        if not denied or not self.profile.as_root or isinstance(self.superuser, str):
            return {}
        return self._probed(denied, self.superuser)

    def there(self, path: str) -> str:
        """Where a file of the device is found on it."""
        return f"{self.sysroot}{path}" if self.sysroot and path.startswith(_BELOW_SYSROOT) else path

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
    readings = wanted(profile)
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
            sysroot=spec.sysroot or "",
            simulated=spec.simulated,
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


@functools.lru_cache(maxsize=64)
def _asked_once(transport: Line, folder: str, agent: str) -> Root | str:
    """Somebody may have to touch a phone's screen each time that it is asked, and nobody does."""

    def run(argv: Sequence[str], limit_s: float) -> Completed:
        return transport.run(argv, deadline=Deadline.after(limit_s))

    def push(data: bytes, target: str) -> None:
        made = run(["mkdir", "-p", str(PurePosixPath(target).parent)], COMMAND_S)
        if not made.ok:
            raise DeviceError(f"{target} cannot be made on the device: {made.complaint}", code="read_only")
        with tempfile.TemporaryDirectory(prefix="melt-") as temporary:
            source = Path(temporary) / "file"
            source.write_bytes(data)
            transport.push(source, target, deadline=Deadline.after(COMMAND_S))

    # what is asked is what root is wanted for: there are accounts that may use sudo for some programs alone
    return find_root(run, push, folder, (agent, "user"))


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


def _understand(device: Device, readings: list[Reading]) -> Device:
    if device.probe([f"{device.root}/jobs/*/undo"]):
        with contextlib.suppress(TransportTimeout):  # the facts are to be those of the device as it was
            device.put_back()
    captures = _capture(device, readings)
    as_root = device.opened_as_root(captures)
    captures = {**captures, **as_root}
    facts = [fact for reading in readings if reading.facts is not None for fact in reading.facts(captures)]
    told = understood(device.profile, captures)
    return dataclasses.replace(
        device,
        facts={fact.name: fact for fact in facts},
        sensors=tuple(dataclasses.replace(s, as_root=bool(as_root.keys() & set(s.paths))) for s in told.sensors),
        absent=told.absent,
        total=told.total,
        no_total=told.no_total,
    )


def _capture(device: Device, readings: list[Reading]) -> Captures:
    captures = device.probe(dict.fromkeys(path for reading in readings for path in reading.paths))
    for reading in readings:
        if reading.argv:
            captures[" ".join(reading.argv)] = _answer(device, reading.argv)
    return captures


def _answer(device: Device, argv: tuple[str, ...]) -> Captured:
    source = " ".join(argv)
    try:
        done = device.run(argv, _ASK_S)
    except TransportTimeout:
        return Captured(source, error="hangs")
    if done.code == NOT_FOUND:
        return Captured(source, error="missing")
    return Captured(source, done.stdout) if done.ok else Captured(source, error=f"failed ({done.complaint})")


def _captured(line: bytes, sysroot: str) -> Captured:
    """One line of the agent's probe; it writes each byte as the code point of the same number."""
    entry = read(Probed, line)
    path = entry.path.encode("latin-1").decode(errors="surrogateescape")
    for place in _BELOW_SYSROOT:
        if sysroot and path.startswith(f"{sysroot}{place}"):
            path = path.removeprefix(sysroot)
    return Captured(path, entry.data.encode("latin-1"), entry.error)
