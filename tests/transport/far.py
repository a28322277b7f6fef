"""This computer as a device that is far away: a real daemon of its own, a bridge on the way to it, a workspace.

The work folder of the far device is a folder here, so a test sees what lies on it without asking.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
from adbd import Daemon, OwnServer
from bridge import Bridge
from sshd import Sshd, start_sshd
from workspace import Workspace

from melt.places import cache_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAYS = ("ssh", "adb", "adb+tcp")


@dataclass
class Far:
    """A workspace whose device `here` is reached by one of the `WAYS`, through `bridge`."""

    way: str
    workspace: Workspace
    bridge: Bridge
    sshd: Sshd | None = None
    daemon: Daemon | None = None
    server: OwnServer | None = None
    inside: tuple[str, ...] = ()
    """What the SSH server is started by: see `start_sshd`."""

    def daemons(self) -> list[psutil.Process]:
        """The processes of the daemon itself, without the commands that it runs."""
        if self.sshd is not None:
            return [psutil.Process(self.sshd.process.pid), *self.sshd.sessions()]
        assert self.daemon is not None
        return [self.daemon.process]

    def freeze(self) -> None:
        for process in self.daemons():
            process.suspend()

    def thaw(self) -> None:
        for process in self.daemons():
            process.resume()

    def restart(self) -> None:
        """The daemon ends with all that hangs on it, as Android's init does it, and begins anew."""
        if self.daemon is not None:
            self.daemon.kill(with_children=True)
            self.daemon.start()
            return
        assert self.sshd is not None
        self.sshd.close()
        self.bridge.reset()
        self.sshd = start_sshd(self.sshd.folder, inside=self.inside)
        self.bridge.target = self.sshd.port

    def close(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.thaw()
        if self.sshd is not None:
            self.sshd.close()
        if self.daemon is not None:
            self.daemon.close()
        if self.server is not None:
            self._end_server(self.server)

    @staticmethod
    def _end_server(server: OwnServer) -> None:
        """Ours, or one that melt started in its place, at the same port."""
        with contextlib.suppress(subprocess.SubprocessError):
            server.adb("kill-server", limit_s=5)
        server.kill()


@contextlib.contextmanager
def far_device(way: str, folder: Path, toy_model: Path) -> Iterator[Far]:
    """A far device, ready to be run on; in the end everything of it is ended, and nothing of the job may be left."""
    folder.mkdir()
    workspace = Workspace(folder)
    shutil.copy(toy_model, folder / "toy.onnx")
    workspace.suite()
    workspace.workload()
    workspace.profile()
    home = folder / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    # what was compiled is not compiled again; the home is another one
    workspace.environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(cache_dir().parent)}
    with ExitStack() as stack:
        far = _over_ssh(workspace, folder, stack) if way == "ssh" else _over_adb(way, workspace, folder, stack)
        stack.callback(far.close)
        stack.callback(_end, workspace)
        yield far


def _over_ssh(workspace: Workspace, folder: Path, stack: ExitStack) -> Far:
    sshd = start_sshd(folder / "sshd")
    bridge = stack.enter_context(Bridge(sshd.port))
    kind, blob = (sshd.folder / "host.pub").read_text().split()[:2]
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{bridge.port} {kind} {blob}\n")
    lines = ("Host board", "HostName 127.0.0.1", f"Port {bridge.port}", f"IdentityFile {sshd.identity}")
    config = folder / "home" / ".ssh" / "config"
    config.write_text("\n".join((*lines, f"UserKnownHostsFile {known}\n")))
    reach(workspace, "ssh://board")
    return Far("ssh", workspace, bridge, sshd=sshd)


def _over_adb(way: str, workspace: Workspace, folder: Path, stack: ExitStack) -> Far:
    place = folder / "adb"
    place.mkdir()
    daemon = Daemon(place)
    bridge = stack.enter_context(Bridge(daemon.port))
    server = OwnServer(place) if way == "adb" else None
    if server is not None:
        names = ("ANDROID_ADB_SERVER_PORT", "ADB_MDNS", "ADB_LOCAL_TRANSPORT_MAX_PORT")
        workspace.environment |= {name: server.environment[name] for name in names}
    reach(workspace, f"{way}://127.0.0.1:{bridge.port}")
    return Far(way, workspace, bridge, daemon=daemon, server=server)


def reach(workspace: Workspace, address: str) -> None:
    device = {"profile": "bare", "address": address, "workdir": str(workspace.workdir)}
    workspace.write("lab.yaml", {"kind": "lab", "devices": {"here": device}})


def _end(workspace: Workspace) -> None:
    for child in workspace.children:
        if child.poll() is None:
            child.kill()
        child.communicate()


# When a step of the first run is under way, seen from the device's folder.


def delivering(workspace: Workspace) -> bool:
    blobs = workspace.workdir / "melt" / "blobs"
    if not blobs.is_dir():
        return False
    names = [path.name for path in blobs.iterdir()]
    agent_is_there = any(len(name) == 64 for name in names)
    return agent_is_there and any(name.endswith(".part") for name in names)


def starting(workspace: Workspace) -> bool:
    return bool(workspace.jobs())


def watching(workspace: Workspace) -> bool:
    return any('"engine_pid":0' not in text and '"state":"running"' in text for text in _statuses(workspace))


def collecting(workspace: Workspace) -> bool:
    return any('"state":"done"' in text for text in _statuses(workspace))


def _statuses(workspace: Workspace) -> list[str]:
    found = []
    for job in workspace.jobs():
        with contextlib.suppress(OSError):
            found.append((job / "status").read_text())
    return found


STEPS: dict[str, Callable[[Workspace], bool]] = {
    "deliver": delivering,
    "start": starting,
    "watch": watching,
    "collect": collecting,
}


def wait_for(step: str, workspace: Workspace, child: subprocess.Popen[str], limit_s: float = 90.0) -> None:
    """Returns when the step of the first run has begun; melt must not have ended before that."""
    end = time.monotonic() + limit_s
    while not STEPS[step](workspace):
        assert child.poll() is None, f"melt ended before it came to {step}: {child.communicate()}"
        assert time.monotonic() < end, f"melt did not come to {step} within {limit_s:.0f} s"
        time.sleep(0.002)
