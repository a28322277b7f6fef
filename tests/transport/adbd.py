"""A real adb daemon (Debian 13's) and an adb server of our own, both on loopback only, ended by process id.

The daemon's packages are fetched once with an apt configuration of its own, made from this machine's source list with
the suite's name replaced, and unpacked into melt's cache: the system's packages are left alone. The daemon runs under
the dynamic linker it comes with, behind a preload that binds it to loopback (loopback_only.c).
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import adbutils
import psutil
import pytest

from melt.places import cache_dir
from melt.transport.adb import AdbTransport, Server
from melt.transport.adb_tcp import AdbTcpTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from melt.transport import Transport

SUITE = "trixie"
PACKAGE = "adbd"
ADB = Path(adbutils.__file__).parent / "binaries" / "adb"
_LIMIT_S = 20.0


def _without(reason: str) -> None:
    pytest.skip(f"adb is NOT tested: {reason}")


def _sources() -> str:
    """This machine's own Debian sources with the suite replaced."""
    release = platform.freedesktop_os_release()
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not codename:
        _without(f"the daemon comes from Debian's archive, and this is {release.get('ID')}")
    stanzas: list[str] = []
    for file in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", file.read_text()):
            suites = re.search(r"(?m)^Suites:(.*)$", stanza)
            if suites and codename in suites[1].split() and re.search(r"(?m)^Types:.*\bdeb\b", stanza):
                stanzas.append(re.sub(r"(?m)^Suites:.*$", f"Suites: {SUITE}", stanza))
    one_line = re.compile(rf"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+{re.escape(codename)}\s+main\b")
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.list"))]:
        for line in file.read_text().splitlines() if file.is_file() else ():
            if found := one_line.match(line):
                signed = re.search(r"signed-by=(\S+)", found[1] or "")
                key = f"Signed-By: {signed[1]}\n" if signed else ""
                stanzas.append(f"Types: deb\nURIs: {found[2]}\nSuites: {SUITE}\nComponents: main\n{key}")
    if not stanzas:
        _without(f"the source list names no {codename} main to take the archive from")
    return "\n\n".join(stanzas)


def _unpack(into: Path) -> None:
    """Fetches the daemon with all it needs, apt's whole state in a folder of this function's own."""
    work = into / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial", "packages"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "own.sources").write_text(_sources())
    settings = {
        "Dir::Etc::sourcelist": work / "own.sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": work / "state",
        "Dir::State::lists": work / "state/lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    (work / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))

    def apt(*argv: str) -> str:
        environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C"}
        command = ["apt-get", *argv]
        done = subprocess.run(
            command, cwd=work / "packages", env=environment, capture_output=True, text=True, timeout=180, check=False
        )
        if done.returncode:
            _without(f"{' '.join(command)} said {done.stderr[-300:]}")
        return done.stdout

    apt("update")
    names = re.findall(r"(?m)^Inst (\S+)", apt("-s", "install", "--no-install-recommends", PACKAGE))
    apt("download", *names)
    for package in (work / "packages").glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, into], check=True, timeout=60)
    shutil.rmtree(work)


def daemon_files() -> Path:
    """The folder that the daemon is unpacked in, fetched once; skips, saying why, where it cannot be had."""
    if platform.machine() != "x86_64":
        _without(f"its path names are those of x86_64, and this is {platform.machine()}")
    for program in ("apt-get", "dpkg", "cc"):
        if shutil.which(program) is None:
            _without(f"this machine has no {program}")
    peers = cache_dir() / "peers"
    kept = peers / f"{PACKAGE}-{SUITE}"
    if not kept.is_dir():
        peers.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=peers, ignore_cleanup_errors=True) as made:
            part = Path(made) / "part"
            part.mkdir()
            try:
                _unpack(part)
            except subprocess.TimeoutExpired as error:
                _without(str(error))
            with contextlib.suppress(OSError):  # someone else was faster
                part.rename(kept)
    return kept


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
        self._files = daemon_files()
        self._preload = folder / "loopback_only.so"
        source = Path(__file__).with_name("loopback_only.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self._preload, source, "-ldl"], check=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._left: set[psutil.Process] = set()
        self.start()

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begins anew at the same port."""
        libraries = self._files / "usr/lib/x86_64-linux-gnu"
        path = ":".join(str(part) for part in (libraries, libraries / "android", libraries / "systemd"))
        argv = [libraries / "ld-linux-x86-64.so.2", "--library-path", path, "--preload", self._preload]
        with (self._folder / "adbd.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, self._files / "usr/lib/android-sdk/platform-tools/adbd"],
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "ADBD_PORT": str(self.port)},
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

    def start(self) -> None:
        with (self._home / "adb-server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [ADB, "nodaemon", "server"],
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
