"""What the transports are measured on: the real servers of the tests, on loopback, with the programs people use."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import psutil
import pytest

from melt.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from adbd import AdbPeers
    from sshd import Sshd

    from melt.transport import Transport

WAYS = ("ssh", "adb", "adb_tcp")
_LIMIT_S = 120.0


class Copy(Protocol):
    """Copies a file by the program that people use: `scp` or `adb`. Raises DeviceError."""

    def __call__(self, verb: str, source: Path, target: Path) -> None: ...


@dataclass(frozen=True)
class Peer:
    """A real server whose device is this computer."""

    connect: Callable[[], Transport]
    """Makes a new connection."""
    freeze: Callable[[], None]
    """Stops the processes that serve connections, old and new."""
    rival: Callable[[], Copy]
    """Makes ready the program that people use there: the first word to an adb server takes 3 s."""


@contextlib.contextmanager
def peer(way: str, folder: Path) -> Iterator[Peer]:
    """The peer of one of `WAYS`, ended afterwards. Raises DeviceError, saying why, where it cannot be had."""
    if way == "ssh":
        with sshd(folder) as server:
            yield Peer(server.connect, lambda: _freeze(server), lambda: _scp(server))
    else:
        with adbd(folder) as peers:
            yield Peer(lambda: peers.connect(way.replace("_", "-")), peers.daemon.freeze, lambda: _adb(peers))


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[Sshd]:
    """An OpenSSH server with its files in `folder`."""
    with needed():
        from sshd import start_sshd  # noqa: PLC0415 - of the tests: on the path only while figures are measured

        server = start_sshd(folder)
    with contextlib.closing(server):
        yield server


@contextlib.contextmanager
def adbd(folder: Path) -> Iterator[AdbPeers]:
    """An adb daemon and an adb server with their files in `folder`."""
    with needed():
        from adbd import AdbPeers  # noqa: PLC0415 - as above

        folder.mkdir(exist_ok=True)
        peers = AdbPeers(folder)
    with contextlib.closing(peers):
        yield peers


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """What a test would be skipped for is why a figure fails."""
    try:
        yield
    except pytest.skip.Exception as skipped:
        raise DeviceError(str(skipped)) from None


@contextlib.contextmanager
def environment(**changes: str) -> Iterator[None]:
    """This process's environment with some variables changed, put back afterwards."""
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            del os.environ[name]
        os.environ.update({name: before[name] for name in changes if name in before})


def _freeze(server: Sshd) -> None:
    for process in (psutil.Process(server.process.pid), *server.sessions()):
        process.suspend()


def _scp(server: Sshd) -> Copy:
    argv = ["scp", "-q", "-B", "-P", str(server.port), "-F", str(server.config), "-i", str(server.identity)]
    account = server.address.removeprefix("ssh://").rpartition(":")[0]

    def copy(verb: str, source: Path, target: Path) -> None:
        ends = (str(source), f"{account}:{target}") if verb == "push" else (f"{account}:{source}", str(target))
        _carried_out([*argv, "-o", f"UserKnownHostsFile={server.known_hosts}", *ends])

    return copy


def _adb(peers: AdbPeers) -> Copy:
    from adbd import ADB  # noqa: PLC0415 - as above

    peers.server.adb("connect", peers.daemon.serial)

    def copy(verb: str, source: Path, target: Path) -> None:
        argv = [str(ADB), "-s", peers.daemon.serial, verb, str(source), str(target)]
        _carried_out(argv, peers.server.environment)

    return copy


def _carried_out(argv: list[str], environ: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        raise DeviceError(f"{argv[0]} failed: {done.stderr.decode(errors='replace').strip()[-300:]}")
