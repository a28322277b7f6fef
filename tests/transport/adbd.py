"""A real adb daemon (Debian 13's) and an adb server of our own, both on loopback only, ended by process id.

How the daemon is had and started is the virtual phone's way (melt/virtual/adbd.py); here are the faults.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import adbutils
import psutil
import pytest
from debian import unpacked

from melt.errors import DeviceError
from melt.transport.adb import AdbTransport, Server
from melt.transport.adb_tcp import AdbTcpTransport
from melt.virtual import adbd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from melt.transport import Transport

ADB = Path(adbutils.__file__).parent / "binaries" / "adb"
_LIMIT_S = 20.0


def daemon_files() -> Path:
    """The folder that the daemon is unpacked in, fetched once; skips, saying why, where it cannot be had."""
    try:
        return adbd.daemon_files()
    except DeviceError as error:
        pytest.skip(f"adb is NOT tested: {error}")


def other_adb() -> list[Path | str]:
    """An adb of another version than the one that melt brings, as a command; skips where it cannot be had."""
    files = unpacked("adb", "an adb server of another version is", with_all_it_needs=True)
    return [*adbd.linker(files), files / "usr/lib/android-sdk/platform-tools/adb"]


def until(what: str, true: Callable[[], object], limit_s: float = _LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"{what} did not happen within {limit_s:.0f} s"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Daemon:
    """An adb daemon at `127.0.0.1:port` whose device is this computer."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        daemon_files()
        self._argv = adbd.daemon_argv(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._left: set[psutil.Process] = set()
        self.start()

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begins anew at the same port."""
        with (self._folder / "adbd.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                env=adbd.daemon_environment(self._folder, self.port, os.environ["PATH"]),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until("the adb daemon's answer", lambda: answers(self.port))

    @property
    def process(self) -> psutil.Process:
        assert self._process is not None
        return psutil.Process(self._process.pid)

    def kill(self, *, with_children: bool = False) -> None:
        """Ends the daemon; with its process tree, as Android's init does."""
        if self._process is None:
            return
        children = self.process.children(recursive=True)
        self._process.kill()
        self._process.wait()
        self._process = None
        self._left.update(children)
        if with_children:
            self._end_children()

    def freeze(self) -> None:
        self.process.suspend()

    def thaw(self) -> None:
        self.process.resume()

    def close(self) -> None:
        self.kill()
        self._end_children()

    def _end_children(self) -> None:
        for child in self._left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._left.clear()


class OwnServer:
    """An adb server at a port of its own, which looks for no devices by itself."""

    def __init__(self, folder: Path) -> None:
        self.place = Server(port=free_port())
        self._home = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._home),
            "TMPDIR": str(self._home),
            "ANDROID_ADB_SERVER_PORT": str(self.place.port),
            "ADB_MDNS": "0",
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",
        }

    def start(self, program: Sequence[Path | str] = (ADB,)) -> None:
        """Begins, anew at the same port; `program` is another adb."""
        with (self._home / "adb-server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*program, "nodaemon", "server"],
                env=self.environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until("the adb server's answer", lambda: answers(self.place.port))

    def adb(self, *argv: str, limit_s: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        """Asks the real adb program."""
        return subprocess.run(
            [ADB, *argv],
            env=self.environment,
            capture_output=True,
            timeout=limit_s,
            stdin=subprocess.DEVNULL,
            check=True,
        )

    def forget(self, daemon: Daemon) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.adb("disconnect", daemon.serial)

    def freeze(self) -> None:
        assert self._process is not None
        psutil.Process(self._process.pid).suspend()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class AdbPeers:
    """One daemon and one server, and the two ways to the daemon."""

    def __init__(self, folder: Path) -> None:
        self.daemon = Daemon(folder)
        self.server = OwnServer(folder)

    def connect(self, way: str) -> Transport:
        if way == "adb":
            return AdbTransport.connect(f"adb://{self.daemon.serial}", self.server.place)
        return AdbTcpTransport.connect(f"adb+tcp://{self.daemon.serial}")

    def close(self) -> None:
        self.daemon.close()
        self.server.kill()


ADB_WAYS = ("adb", "adb-tcp")
