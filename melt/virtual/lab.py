"""The lab of virtual boards: starts them for as long as it is open, and leaves nothing running."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from melt.errors import DeviceError, UsageError, nearest
from melt.files import Lab, LabDevice
from melt.files.lab import THIS_COMPUTER
from melt.places import cache_folder, package_dir, shipped
from melt.virtual import process, sshd
from melt.virtual.adbd import daemon_files
from melt.virtual.board import BoardFile
from melt.virtual.kinds import KINDS, Kind
from melt.virtual.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

WORD = "virtual"
"""What stands in a lab file's place on the command line."""
TRUTH = "truth.csv"
_START_S = 60.0
_HERE = LabDevice(profile="linux", address="local:")
_NEEDS = {
    "adb": ("adb_shell", "the package adb-shell: pip install 'melt[adb]'"),
    "ssh": ("paramiko", "the package paramiko: pip install 'melt[ssh]'"),
}


def profiles() -> Path:
    """The folder with the profiles of virtual boards."""
    return package_dir() / WORD / "device_profiles"


@contextlib.contextmanager
def virtual_lab(
    folder: Path | None = None,
    *,
    only: Collection[str] = (),
    scenarios: Mapping[str, Scenario] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Lab]:
    """A lab with this computer, and those of the virtual boards that are in `only` (without a name: all of them).

    They run until the block ends, or whoever opened it. What this computer lacks for one of them leaves that one out,
    with a sentence to `say`. Their files are in `folder`, one folder for each, otherwise in melt's cache. Raises
    UsageError when another melt has them there, DeviceError when none of those asked for can be started.
    """
    wanted = _wanted(only)
    place = folder or cache_folder(WORD)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone(place))
        began: dict[str, tuple[Kind, int, process.Program]] = {}
        missing: dict[str, str] = {}
        for kind in wanted:
            try:
                _can_be_had(kind)
                port = _port(place / kind.name)
                child = _begin(place / kind.name, kind, port, (scenarios or {}).get(kind.name, Scenario()))
                stack.callback(process.end, child)
                began[kind.name] = (kind, port, child)
            except DeviceError as error:
                missing[kind.name] = str(error)
        devices = {THIS_COMPUTER: _HERE}
        for name, (kind, port, child) in began.items():
            try:
                _until_ready(place / name, child)
                devices[name] = _device(place / name, kind, port)
            except DeviceError as error:
                missing[name] = str(error)
        sentences = [f"the virtual {name} is left out: {why}" for name, why in missing.items()]
        if wanted and len(missing) == len(wanted):
            raise DeviceError("; ".join(sentences))
        for sentence in sentences:
            say(sentence)
        yield Lab(
            devices, (profiles(), shipped("device_profiles")), usual=tuple(n for n in devices if n != THIS_COMPUTER)
        )


def listed(only: Collection[str] = ()) -> Lab:
    """The same devices without a board behind any of them, for whoever wants to know no more than their names.

    Raises UsageError.
    """
    boards = {
        kind.name: LabDevice(profile=kind.profile, address="local:", tags=(WORD,), simulated=True)
        for kind in _wanted(only)
    }
    return Lab({THIS_COMPUTER: _HERE, **boards}, (profiles(), shipped("device_profiles")), usual=tuple(boards))


def _wanted(only: Collection[str]) -> list[Kind]:
    for name in only:
        if name not in (THIS_COMPUTER, *KINDS):
            raise UsageError(f"device '{name}' is not in the lab: {nearest(name, (THIS_COMPUTER, *KINDS))}")
    return [kind for name, kind in KINDS.items() if not only or name in only]


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Holds the folder: two labs in one would write each other's files."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"the virtual boards in {place} are in use by another melt: wait for it, or give this one a cache of "
                "its own with XDG_CACHE_HOME"
            ) from None
        yield


def _can_be_had(kind: Kind) -> None:
    """Raises DeviceError, with what to install, where this computer lacks what a board needs."""
    package, told = _NEEDS[kind.link]
    if importlib.util.find_spec(package) is None:
        raise DeviceError(f"it is reached with {told}")
    if kind.link == "adb":
        try:
            daemon_files()
        except DeviceError as error:
            raise DeviceError(f"its adb daemon cannot be had: {error}") from None
    else:
        sshd.server()


def _port(folder: Path) -> int:
    """The port that the board had before, where it is free: a run that is to be adopted knows its device by it."""
    folder.mkdir(exist_ok=True)
    kept = folder / "port"
    with contextlib.suppress(OSError, ValueError, OverflowError), socket.socket() as tried:
        port = int(kept.read_text())
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(("127.0.0.1", port))
        return port
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    kept.write_text(str(port))
    return port


def _begin(folder: Path, kind: Kind, port: int, scenario: Scenario) -> process.Program:
    for name in ("ready", "failed"):
        (folder / name).unlink(missing_ok=True)
    (folder / "work").mkdir(exist_ok=True)
    told = BoardFile(kind=kind.name, port=port, scenario=scenario)
    (folder / "board.json").write_text(told.model_dump_json())
    argv: list[str | Path] = [sys.executable, "-m", "melt.virtual.board", folder]
    # numpy's threads would be load that nobody asked for
    modules = os.pathsep.join(filter(None, (str(package_dir().parent), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": modules, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return process.start(argv, cwd=folder, log=folder / "log", env=env, held=True, signals=False)


def _until_ready(folder: Path, child: process.Program) -> None:
    end = time.monotonic() + _START_S
    while not (folder / "ready").exists():
        if (folder / "failed").exists():
            raise DeviceError((folder / "failed").read_text())
        if child.poll() is not None or time.monotonic() > end:
            raise DeviceError(f"it did not start: {folder / 'log'} says why")
        time.sleep(0.02)


def _device(folder: Path, kind: Kind, port: int) -> LabDevice:
    ssh = sshd.address(folder / "server", port)
    return LabDevice(
        profile=kind.profile,
        address=f"adb+tcp://127.0.0.1:{port}" if kind.link == "adb" else ssh,
        workdir=str(folder / "work"),
        tags=(WORD,),
        sysroot=str(folder / "sysroot"),
        simulated=True,
    )
