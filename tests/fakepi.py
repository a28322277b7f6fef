"""A fake Raspberry Pi 4: Debian's programs for arm64 under an emulator, behind an SSH server on loopback.

Its processes live in namespaces of their own, in which alone the kernel knows the emulator, and end with the first of
them (fakepi.sh). What cannot be made here skips the test, saying loudly what that leaves untested.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from debian import SUITE, fetch

from melt.places import cache_dir
from melt.transport.ssh import SshTransport

PACKAGES = ("base-files", "base-passwd", "coreutils", "dash", "grep", "libstdc++6", "mawk", "openssh-server", "sed")
LEFT_OUT = ("systemd", "libsystemd-shared", "perl-base")
"""Large, and needed only by scripts that install packages."""
CAPTURED = Path(__file__).parent / "readings" / "captured" / "raspberry-pi-4.txt"
_INIT = Path(__file__).with_name("fakepi.sh")
_WHAT = "a device with another processor (the fake Pi) is"
_CORES = {f"/sys/devices/system/cpu/{name}": "0-3\n" for name in ("possible", "present")}
"""What ONNX Runtime looks for beside what melt reads."""
_START_S = 120.0


@dataclass(frozen=True)
class FakePi:
    """A running fake Pi with its files, and a key that it lets in."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return f"ssh://pi@127.0.0.1:{self.port}"

    @property
    def identity(self) -> Path:
        return self.folder / "client"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def config(self) -> Path:
        """A configuration in which the Pi is `Host pi`: with it as a home's .ssh/config, `ssh://pi` is the address."""
        return self.folder / "config"

    @property
    def sys(self) -> Path:
        """The folder that the Pi sees as /sys: rewrite a file in place to move a sensor."""
        return self.folder / "sys"

    def connect(self) -> SshTransport:
        return SshTransport(self.address, known_hosts=self.known_hosts, config=self.config, identity=self.identity)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs on the Pi, as this computer sees it; the first is its init."""
        if self.process.poll() is not None:
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def close(self) -> None:
        """Switches the Pi off: its first process ends, and the kernel ends all others."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            for one in self.processes()[:1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def start_fake_pi(folder: Path) -> FakePi:
    """A Pi that answers. `folder` is an empty one of its own, with what its /sys shows and its log."""
    emulator = _emulator()
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        _without("only root may map the ids of its namespaces (and it needs unshare)")
    system = rootfs()
    folder.mkdir(parents=True, exist_ok=True)
    port = _configure(folder)
    namespaces = ["--user", "--mount", "--pid", "--fork", "--kill-child"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", *namespaces, "sh", _INIT, folder, system, emulator],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "QEMU_CPU": "cortex-a72", "LC_ALL": "C"},
        )
    made = FakePi(folder, port, process)
    try:
        _bring_up(made)
    except BaseException:
        made.close()
        raise
    return made


def _bring_up(made: FakePi) -> None:
    deadline = time.monotonic() + _START_S
    process, log = made.process, made.folder / "log"
    assert process.stdin is not None
    if _line(process, deadline) != "unshared":
        _without(f"no namespaces of its own: {log.read_text().strip()[-300:]}")
    try:
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{kind}").write_text("0 0 65536\n")
    except OSError as error:
        _without(f"the ids of its namespaces cannot be mapped: {error.strerror}")
    process.stdin.write("mapped\n")
    process.stdin.flush()
    said = _line(process, deadline)
    if said.startswith("cannot"):
        _without(f"it {said}: {log.read_text().strip()[-300:]}")
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", made.port), timeout=5) as probe:
            if probe.recv(4) == b"SSH-":
                return
        time.sleep(0.05)
    raise RuntimeError(f"the fake Pi does not answer: {said}: {log.read_text()[-2000:]}")


def _line(process: subprocess.Popen[str], deadline: float) -> str:
    """The next line of its first process; empty when it ended or took too long."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        if ready.select(max(0.0, deadline - time.monotonic())):
            return process.stdout.readline().strip()
    return ""


def _configure(folder: Path) -> int:
    """Keys, the server's and the client's configuration, and what the Pi shows of itself; gives the port."""
    (folder / "root").mkdir(mode=0o755)
    (folder / "run").mkdir()
    for key in (folder / "run" / "host", folder / "client"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(key)]
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    shutil.copy(folder / "client.pub", folder / "run" / "authorized")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = (
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        "HostKey /run/sshd/host",
        "AuthorizedKeysFile /run/sshd/authorized",
        "PidFile none",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "UsePAM no",
        "StrictModes no",
        "SetEnv QEMU_CPU=cortex-a72",
        "Subsystem sftp internal-sftp",
    )
    (folder / "run" / "sshd_config").write_text("\n".join(settings) + "\n")
    kind, blob = (folder / "run" / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {blob}\n")
    lines = ("Host pi", "HostName 127.0.0.1", f"Port {port}", "User pi", f"IdentityFile {folder / 'client'}")
    (folder / "config").write_text("\n".join((*lines, f"UserKnownHostsFile {folder / 'known_hosts'}\n")))
    files = {**_CORES, **_captured()}
    (folder / "cpuinfo").write_text(files["/proc/cpuinfo"])
    (folder / "sys").mkdir(mode=0o755)
    for path, text in files.items():
        if path.startswith("/sys/"):
            place = folder / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    return port


def _captured() -> dict[str, str]:
    """The files of a Pi 4: path and content."""
    parts = re.split(r"(?m)^=== (.*)\n", CAPTURED.read_text(encoding="utf-8"))[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _emulator() -> str:
    """The emulator's path; empty on an Arm machine."""
    if platform.machine() == "aarch64":
        return ""
    found = shutil.which("qemu-aarch64-static")
    return found or _without("the package qemu-user-static is missing")


def _without(reason: str) -> NoReturn:
    pytest.skip(f"{_WHAT} NOT tested: {reason}")


# ------------------------------------------------------------------------------------------------- the root file system


def rootfs() -> Path:
    """Debian for arm64, unpacked without anything of it being run; kept in the cache by what it is made of."""
    recipe = "\n".join((SUITE, *PACKAGES, *LEFT_OUT, Path(__file__).read_text(encoding="utf-8").rpartition("# ---")[2]))
    peers = cache_dir() / "peers"
    kept = peers / f"arm64-{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not kept.is_dir():
        for program in ("apt-get", "dpkg"):
            if shutil.which(program) is None:
                _without(f"this machine has no {program}")
        peers.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=peers, ignore_cleanup_errors=True) as made:
            part = Path(made) / "part"
            part.mkdir(mode=0o755)
            try:
                fetch(PACKAGES, part, _WHAT, with_all_they_need=True, architecture="arm64", left_out=LEFT_OUT)
            except subprocess.TimeoutExpired as error:
                _without(str(error))
            _settle(part)
            with contextlib.suppress(OSError):  # someone else was faster
                part.rename(kept)
    return kept


def _settle(root: Path) -> None:
    """What installing would have done: accounts and awk; and no file that gives another account's rights."""
    master = root / "usr/share/base-passwd"
    accounts = (master / "passwd.master").read_text().replace("/bin/bash", "/bin/sh")
    accounts += "sshd:*:100:65534::/run/sshd:/usr/sbin/nologin\npi:*:1000:1000::/home/pi:/bin/sh\n"
    (root / "etc/passwd").write_text(accounts)
    (root / "etc/group").write_text((master / "group.master").read_text() + "pi:*:1000:\n")
    (root / "usr/bin/awk").symlink_to("mawk")
    shutil.rmtree(root / "usr/share/doc")
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o777)
