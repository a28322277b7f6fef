"""An adb daemon whose purpose is faults: this computer as a device, over a link that fails on demand.

A process of its own on loopback, so that it dies as a daemon dies. It adopts what its commands leave behind: all of
that can be ended, as Android's init does when adbd restarts. Without faults it answers the real adb client as the real
daemon does (test_fake_adbd.py). Not offered: terminals, compression, sums over every byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import psutil

_PROGRAM = Path(__file__).with_name("fake_adbd_wire.py")
_LOOK_S = 0.05


@dataclass(frozen=True)
class Fault:
    """What happens to a connection, and when: after so much of one service's stream.

    `cut` ends it, `reset` too but with an RST, `stall` keeps it open and neither reads nor writes again. The others
    spoil the head of one message to the host (random bytes; a wrong magic; a length of 2 GiB) and go on.
    """

    what: Literal["cut", "reset", "stall", "garbage", "magic", "length"]
    on: str
    """What the service's name begins with."""
    received_bytes: int | None = None
    sent_bytes: int | None = None
    sent_messages: int | None = None
    after_s: float | None = None
    times: int = 1
    """So many streams are struck, later ones are served."""


@dataclass(frozen=True)
class Manner:
    """How a daemon behaves."""

    fault: Fault | None = None
    piece_bytes: int = 0
    """Reads and writes are no larger than this, and the kernel's receive buffer is a few KiB."""
    bytes_per_s: float = 0.0
    pause_s: float = 0.0
    """The link stands still for so long, in both directions,"""
    pause_every_bytes: int = 0
    """whenever so much has passed,"""
    pauses: int = 0
    """so many times."""
    offline: bool = False
    """Connections are accepted, and never answered."""
    untrusting: bool = False
    """Every key is refused, and nobody looks at the screen."""


class FakeAdbd:
    """The daemon, as a test holds it; what goes wrong inside it fails the test when it is closed."""

    def __init__(self, folder: Path, manner: Manner | None = None) -> None:
        self.port = 0
        self.manner = manner or Manner()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "fake-adbd.log"
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begins, anew at the same port."""
        argv = [sys.executable, _PROGRAM, str(self.port), json.dumps(dataclasses.asdict(self.manner))]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said.strip().isdigit(), f"the fake daemon did not begin: {self._log.read_text()}"
        self.port = int(said)

    def kill_tree(self) -> None:
        """Ends the daemon with everything that its commands ever started, as Android's init does."""
        if self._process is None:
            return
        end_tree(psutil.Process(self._process.pid))
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        self.kill_tree()
        complaints = self._log.read_text()
        assert not complaints, complaints


def end_tree(root: psutil.Process) -> None:
    """Ends a process and all below it; it is stopped first, so that it adds nothing meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root.suspend()
        while left := [one for one in root.children(recursive=True) if lives(one)]:
            for child in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(left, timeout=_LOOK_S)
        root.kill()


def lives(process: psutil.Process) -> bool:
    """Whether a process still runs; one that nobody has reaped does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
