"""Files on a device by their content: delivered once, found again by their hash."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.device.answers import LINE_BYTES, Entry, Hashed, Space, read
from melt.device.sending import PART_BYTES, Meter, Moved, Sending
from melt.errors import DeviceError, TransportError, TransportTimeout, UsageError
from melt.transport import Deadline, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

_RESERVE_BYTES = 32 << 20
"""What is left free for the job's own output."""
_COMMAND_S = 30.0
_SILENT_S = 60.0
"""While it hashes, the agent says something every second."""
_HASHING_S = 4 * 3600.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DEAD_PART_S = 600
_DEAD_BLOB_S = 86400
"""A part that nobody has written to for so long, and a blob that has not grown, are left from a melt that died."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises UsageError when it cannot be read.

    Remembered for as long as the file's size and time stamps stay the same: every run asks for it again.
    """
    try:
        now = path.stat()
        return _sha256_as_of(path, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


@functools.lru_cache(maxsize=256)
def _sha256_as_of(path: Path, *_stamps: int) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


@dataclass(frozen=True)
class Listed:
    """A file of a device's folder; the times are seconds of the device's own calendar clock."""

    size_bytes: int
    used_s: int
    changed_s: int
    checked: bool
    """Whether it has not been written to since its content was found to be what its name says."""


@dataclass(frozen=True)
class Listing:
    """A folder of the device: what is free on its file system, and each file."""

    free_bytes: int
    now_s: int
    files: Mapping[str, Listed]


def list_folder(transport: Transport, agent: str, folder: str, used: Iterable[str] = ()) -> Listing:
    """What is in a folder of the device; the files in `used` count as used now. Raises DeviceError."""
    done = transport.run([agent, "list", folder, *used], deadline=Deadline.after(_COMMAND_S))
    if not done.ok:
        raise DeviceError(f"folder {folder} of the device cannot be read: {done.complaint}")
    first, *rest = done.stdout.splitlines() or [b""]
    space, entries = read(Space, first), [read(Entry, line) for line in rest]
    files = {_name(e.name): Listed(e.size_bytes, e.used_s, e.changed_s, e.checked) for e in entries}
    return Listing(space.free_bytes, space.now_s, files)


def _name(told: str) -> str:
    """The agent writes each byte of a name as the code point of the same number."""
    try:
        return told.encode("latin-1").decode(errors="surrogateescape")
    except UnicodeEncodeError:
        return told


def hash_files(
    transport: Transport, agent: str, folder: str, names: Iterable[str], on_word: Callable[[], object] = lambda: None
) -> dict[str, str]:
    """The SHA-256 of files on the device, read there; one that cannot be read has none. Raises TransportError."""
    wanted = list(names)
    if not wanted:
        return {}
    found: dict[str, str] = {}
    rest = b""
    end = Deadline.after(_HASHING_S)
    process = transport.start([agent, "hash", folder, *wanted])
    try:
        while chunk := process.read(Deadline.after(min(_SILENT_S, end.left_s))):
            on_word()
            end.check(f"reading {folder} on the device")
            *lines, rest = (rest + chunk).split(b"\n")
            for told in (read(Hashed, line) for line in [*filter(None, lines), rest[LINE_BYTES:]] if line):
                if told.sha256:
                    found[_name(told.name)] = told.sha256
        done = process.wait(Deadline.after(_COMMAND_S))
    except TransportTimeout as error:
        raise TransportError(f"the device stopped answering while it read {folder}: {error}") from error
    finally:
        process.close()
    if not done.ok:
        raise DeviceError(f"files in {folder} of the device cannot be read: {done.complaint}")
    return found


@dataclass(frozen=True)
class Blobs:
    """The folder of blobs on one device; `say` is told what a person should know, `on_moved` how far it has come."""

    transport: Transport
    agent: str
    folder: str
    device_name: str

    def deliver(
        self,
        files: Mapping[str, Path],
        *,
        say: Callable[[str], None],
        on_moved: Callable[[Moved], None],
        verify: bool = False,
    ) -> dict[str, str]:
        """Brings `files` (role to file) onto the device where they are not yet there; role to path on the device.

        What is there is trusted by its size and time stamp; with `verify` it is read again. Raises TransportError: what
        had arrived by then is gone on from. Raises DeviceError: before anything is sent when it does not fit.
        """
        hashes = {role: sha256_of(path) for role, path in files.items()}
        wanted = {hashes[role]: path for role, path in files.items()}
        listing = list_folder(self.transport, self.agent, self.folder, [*wanted, self.agent.rpartition("/")[2]])
        here = {d for d, path in wanted.items() if d in listing.files and listing.files[d].size_bytes == _size(path)}
        doubtful = sorted(digest for digest in here if verify or not listing.files[digest].checked)
        nothing = Moved(0, 0, 0.0)
        read_again = hash_files(self.transport, self.agent, self.folder, doubtful, lambda: on_moved(nothing))
        for digest in doubtful:
            if read_again.get(digest) != digest:
                say(f"{self.device_name}: {wanted[digest].name} is damaged there and is delivered again")
                here.remove(digest)
        missing = {digest: path for digest, path in wanted.items() if digest not in here}
        if missing:
            self._make_room(listing, wanted, missing, say)
            meter = Meter(sum(map(_size, missing.values())), on_moved)
            for digest, path in missing.items():
                begun = listing.files.get(f"{digest}.grown")
                self._send(digest, path, begun.size_bytes if begun else 0, meter, say)
        return {role: f"{self.folder}/{digest}" for role, digest in hashes.items()}

    def _send(self, digest: str, path: Path, begun_bytes: int, meter: Meter, say: Callable[[str], None]) -> None:
        sending = Sending(self.transport, self.agent, self.folder, digest, path, _size(path), self.device_name)
        if sending.size_bytes > PART_BYTES:
            say(f"{self.device_name}: delivering {path.name}, {sending.size_bytes >> 20} MiB")
        before = meter.done_bytes
        try:
            sending.carry_out(begun_bytes, meter)
        except DeviceError as error:
            if error.code != "corrupt":
                raise
            say(f"{error}; it is sent once more")
            meter.skip(before - meter.done_bytes)
            sending.carry_out(0, meter)

    def _in_use(self) -> set[str]:
        """The blobs that a job on the device names in its plan: it may be another host's, under way or about to be."""
        plans = f"{self.folder.rpartition('/')[0]}/jobs/*/plan"
        done = self.transport.run([self.agent, "probe", "500", plans], deadline=Deadline.after(_COMMAND_S))
        return set(_DIGEST.findall(done.stdout.decode(errors="replace")))

    def _make_room(
        self, listing: Listing, wanted: Iterable[str], missing: Mapping[str, Path], say: Callable[[str], None]
    ) -> None:
        """Removes what died and, where space is short, the blobs that were used longest ago. Raises DeviceError."""
        grown = {digest: listing.files.get(f"{digest}.grown") for digest in missing}
        need = _RESERVE_BYTES
        for digest, path in missing.items():
            size, begun = _size(path), grown[digest]
            need += max(0, size - (begun.size_bytes if begun else 0)) + (PART_BYTES if size > PART_BYTES else 0)
        dead = {
            name: file
            for name, file in listing.files.items()
            if name[:64] not in missing and _is_dead(name, file, listing.now_s)
        }
        mine = {*wanted, self.agent.rpartition("/")[2]}
        old = {n: f for n, f in listing.files.items() if n[:64] not in mine and _DIGEST.match(n) and n not in dead}
        if listing.free_bytes + sum(file.size_bytes for file in dead.values()) < need:
            in_use = self._in_use()
            old = {name: file for name, file in old.items() if name[:64] not in in_use}
        free = listing.free_bytes + sum(file.size_bytes for file in dead.values())
        leave: list[str] = []
        for name in sorted(old, key=lambda name: old[name].used_s):
            if free >= need:
                break
            leave.append(name)
            free += old[name].size_bytes
        if free < need:
            raise DeviceError(
                f"{self.device_name} has {listing.free_bytes >> 20} MiB free below {self.folder}, and {need >> 20} MiB "
                f"are needed (a reserve of {_RESERVE_BYTES >> 20} MiB is in that): free some, or name another "
                "'workdir' in the lab file",
                code="no_space",
            )
        if leave:
            say(f"{self.device_name}: {len(leave)} files that were used longest ago make room for new ones")
        if gone := [*dead, *leave]:
            self.transport.run(
                ["rm", "-f", "--", *(f"{self.folder}/{name}" for name in gone)], deadline=Deadline.after(_COMMAND_S)
            )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _is_dead(name: str, file: Listed, now_s: int) -> bool:
    quiet_s = now_s - file.changed_s
    return (name.endswith(".part") and quiet_s > _DEAD_PART_S) or (
        name.endswith((".grown", ".state", ".new")) and quiet_s > _DEAD_BLOB_S
    )
