"""A real adb daemon, Debian 13's, that is reached from this computer only.

It runs under the dynamic linker that it comes with, behind a preload that binds it to loopback (loopback_only.c): by
itself it would listen on every interface and ask nobody who is there.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from melt.errors import DeviceError
from melt.virtual import debian
from melt.virtual.process import run

_MACHINE = "x86_64"
_LIBRARIES = f"usr/lib/{_MACHINE}-linux-gnu"


def daemon_files() -> Path:
    """The folder that the daemon is unpacked in, fetched once. Raises DeviceError where it cannot be had."""
    if platform.machine() != _MACHINE:
        raise DeviceError(f"its path names are those of {_MACHINE}, and this is {platform.machine()}")
    if shutil.which("cc") is None:
        raise DeviceError("this computer has no cc (Debian: apt install gcc libc6-dev)")
    return debian.unpacked("adbd", with_all_it_needs=True)


def linker(files: Path) -> list[Path | str]:
    """How a program of the unpacked `files` is started: the linker that it comes with, and where its libraries are."""
    libraries = files / _LIBRARIES
    path = ":".join(str(part) for part in (libraries, libraries / "android", libraries / "systemd"))
    return [libraries / "ld-linux-x86-64.so.2", "--library-path", path]


def daemon_argv(folder: Path) -> list[Path | str]:
    """The daemon's command line, with its preload compiled into `folder`. Raises DeviceError."""
    files = daemon_files()
    preload = folder / "loopback_only.so"
    if not preload.exists():
        source = Path(__file__).with_name("loopback_only.c")
        part = folder / f".{preload.name}.{os.getpid()}"
        run(["cc", "-shared", "-fPIC", "-O1", "-o", part, source, "-ldl"], cwd=folder)
        part.replace(preload)
    return [*linker(files), "--preload", preload, files / "usr/lib/android-sdk/platform-tools/adbd"]


def daemon_environment(folder: Path, port: int, path: str) -> dict[str, str]:
    """What the daemon, and so every command on its device, finds in its environment."""
    return {"PATH": path, "HOME": str(folder), "ADBD_PORT": str(port)}
