"""A real OpenSSH server on the loopback, started for a test and ended by its process number."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from melt.transport.ssh import SshTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Sshd:
    """A running server with its files, and a key that it lets in."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def identity(self) -> Path:
        return self.folder / "client"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def config(self) -> Path:
        """An empty configuration: the person's own is none of a test's business."""
        return self.folder / "config"

    def connect(self, address: str = "", **changes: Path | None) -> SshTransport:
        own = {"known_hosts": self.known_hosts, "config": self.config, "identity": self.identity, **changes}
        return SshTransport(address or self.address, **own)

    def sessions(self) -> list[psutil.Process]:
        """The server's processes for connections, without what commands run in them."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in found if process.name().startswith("sshd")]

    def close(self) -> None:
        """Ends the server and its connections, a stopped one too."""
        if self.process.poll() is None:
            everybody = [*psutil.Process(self.process.pid).children(recursive=True), psutil.Process(self.process.pid)]
            for process in everybody:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()


def start_sshd(folder: Path, *lines: str, inside: Sequence[str] = ()) -> Sshd:
    """A server of our own with keys of its own; `lines` come first in its configuration, so they win.

    `inside` is a command that starts another one in its own place, in a namespace say.
    """
    if SSHD is None:
        pytest.skip("SSH is NOT tested: there is no sshd (Debian: apt install openssh-server)")
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in (("host", "ed25519"), ("client", "ed25519")):
        make_key(folder / name, kind)
    (folder / "authorized").write_bytes((folder / "client.pub").read_bytes())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = (
        *lines,
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'authorized'}",
        f"PidFile {folder / 'pid'}",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "StrictModes no",
        "MaxStartups 100",
        # an account without start-up files: what a person has in ~/.bashrc is not the transport's time
        f"SetEnv HOME={folder / 'home'}",
    )
    if not any(line.startswith("Subsystem") for line in lines):
        settings += ("Subsystem sftp internal-sftp",)
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    (folder / "config").touch()
    (folder / "home").mkdir(exist_ok=True)
    kind, blob = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {blob}\n")
    # it leaves its folder for / and starts itself again: absolute paths, and its folder for privilege separation
    if not _has_run_folder():
        pytest.skip("SSH is NOT tested: sshd needs /run/sshd, which only root can make")
    process = subprocess.Popen([*inside, SSHD, "-D", "-f", folder / "sshd_config", "-E", folder / "log"])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Sshd(folder, port, process)
        time.sleep(0.02)
    process.kill()
    process.wait()
    last = (folder / "log").read_text().strip().splitlines()[-1:]
    raise RuntimeError(f"sshd did not start: {last}")


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    if not path.exists():
        argv = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path


def _has_run_folder() -> bool:
    place = Path("/run/sshd")
    try:
        place.mkdir(mode=0o755, exist_ok=True)
    except OSError:
        return place.is_dir()
    return True
