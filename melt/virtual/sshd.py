"""A real OpenSSH server with keys of its own, that is reached from this computer only and lets one key in."""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from melt.errors import DeviceError
from melt.virtual.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACES = "/usr/sbin:/sbin:/usr/local/sbin"


def server() -> str:
    """The server's path. Raises DeviceError where there is none."""
    found = shutil.which("sshd") or shutil.which("sshd", path=_PLACES)
    if found is None:
        raise DeviceError("this computer has no sshd (Debian: apt install openssh-server)")
    if os.geteuid() == 0:
        # where a server that root starts separates its privileges; anybody else's does without
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return found


def server_argv(folder: Path, port: int, environment: Mapping[str, str]) -> list[Path | str]:
    """The server's command line, with its settings and keys written into `folder`. Raises DeviceError."""
    found = server()
    for name in ("host", "client"):
        if not (folder / name).exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "melt", "-f", folder / name], cwd=folder)
    (folder / "authorized").write_bytes((folder / "client.pub").read_bytes())
    words = " ".join(f'"{name}={value}"' for name, value in environment.items())
    settings = (
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f'HostKey "{folder / "host"}"',
        f'AuthorizedKeysFile "{folder / "authorized"}"',
        f'PidFile "{folder / "pid"}"',
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "StrictModes no",
        "MaxStartups 100",
        f"SetEnv {words}",
        "Subsystem sftp internal-sftp",
    )
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    kind, key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (folder / "config").write_text(
        f'Host *\n  IdentityFile "{folder / "client"}"\n  IdentitiesOnly yes\n'
        f'  UserKnownHostsFile "{folder / "known_hosts"}"\n'
    )
    # it leaves its folder for / and starts itself again: absolute paths
    return [found, "-D", "-e", "-f", folder / "sshd_config"]


def address(folder: Path, port: int) -> str:
    """How melt reaches it, with a configuration of its own: the person's own keys and known hosts stay out of it."""
    return f"ssh://{getpass.getuser()}@127.0.0.1:{port}?config={quote(str(folder / 'config'))}"
