"""Files on a device by their content: delivered once, found again by their hash."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import DeviceError, UsageError
from melt.transport import Deadline, Transport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_RESERVE_BYTES = 32 << 20
"""What is left free for the job's own output."""
_SLOWEST_BYTES_PER_S = 1 << 20
_BASE_LIMIT_S = 30.0


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
class Listing:
    """A folder of the device: what is free on its file system, and the size of each file."""

    free_bytes: int
    sizes: Mapping[str, int]


def list_folder(transport: Transport, agent: str, folder: str, deadline: Deadline) -> Listing:
    """What is in a folder of the device. Raises DeviceError when it cannot be read."""
    done = transport.run([agent, "list", folder], deadline=deadline)
    if not done.ok:
        raise DeviceError(f"folder {folder} of the device cannot be read: {done.complaint}")
    first, *rest = [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]
    return Listing(first["free_bytes"], {entry["name"]: entry["bytes"] for entry in rest})


@dataclass(frozen=True)
class Blobs:
    """The folder of blobs on one device."""

    transport: Transport
    folder: str
    device_name: str

    def deliver(self, files: Mapping[str, Path], agent: str) -> dict[str, str]:
        """Brings `files` (role to file) onto the device where they are not yet there; role to path on the device.

        Raises DeviceError, before anything is sent, when they do not fit.
        """
        deadline = Deadline.after(_BASE_LIMIT_S)
        listing = list_folder(self.transport, agent, self.folder, deadline)
        hashes = {role: sha256_of(path) for role, path in files.items()}
        missing = {
            hashes[role]: path for role, path in files.items() if listing.sizes.get(hashes[role]) != path.stat().st_size
        }
        need = sum(path.stat().st_size for path in missing.values())
        if missing and need + _RESERVE_BYTES > listing.free_bytes:
            raise DeviceError(
                f"{self.device_name} has {listing.free_bytes >> 20} MiB free below {self.folder}, where {need >> 20} "
                f"MiB and a reserve of {_RESERVE_BYTES >> 20} MiB are needed: free some, or name another 'workdir' "
                "in the lab file",
                code="no_space",
            )
        for digest, path in missing.items():
            limit_s = _BASE_LIMIT_S + path.stat().st_size / _SLOWEST_BYTES_PER_S
            self.transport.push(path, f"{self.folder}/{digest}", deadline=Deadline.after(limit_s), executable=True)
        return {role: f"{self.folder}/{digest}" for role, digest in hashes.items()}
