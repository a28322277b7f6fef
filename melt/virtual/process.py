"""The programs behind a virtual board: each dies with whoever started it, and is ended by its process id."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import psutil

from melt.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Word = str | Path
Program: TypeAlias = "subprocess.Popen[bytes]"
_PR_SET_PDEATHSIG = 1
_GRACE_S = 5.0


def run(argv: Sequence[Word], *, cwd: Path, env: Mapping[str, str] | None = None, limit_s: float = 60.0) -> str:
    """What a program prints. Raises DeviceError with its last words when it is missing, fails or takes too long."""
    name = Path(argv[0]).name
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=limit_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name} did not end within {limit_s:.0f} s") from None
    except OSError as error:
        raise DeviceError(f"{name} cannot be started: {error.strerror}") from None
    if done.returncode:
        raise DeviceError(f"{name} failed: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def start(
    argv: Sequence[Word],
    *,
    cwd: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    held: bool = False,
    signals: bool = True,
) -> Program:
    """A program that goes on, with what it says in `log`.

    It is killed with the thread that starts it; where that is not known to live as long as the process, `held` gives it
    a stdin whose end tells it instead. Without `signals` a Ctrl-C at the terminal passes it by. Raises DeviceError.
    """
    before = None if held else _die_with(os.getpid())
    try:
        with log.open("ab") as said:
            return subprocess.Popen(
                argv,
                cwd=cwd,
                env=env,
                stdin=subprocess.PIPE if held else subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                preexec_fn=before,  # noqa: PLW1509 - only a board does so, and it has one thread
                start_new_session=not signals,
            )
    except OSError as error:
        raise DeviceError(f"{Path(argv[0]).name} cannot be started: {error.strerror}") from None


def end(process: Program) -> None:
    """Ends a program and every process below it; one that is stopped too."""
    below: list[psutil.Process] = []
    if process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(process.pid).children(recursive=True)
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
        process.kill()
    for other in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            other.kill()
    process.wait()


def end_all_below(folder: Path) -> None:
    """Ends every process that works below `folder`: jobs that were started there and went on by themselves."""
    mark = f"{folder}/"
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if f"{process.cwd()}/".startswith(mark) and process.pid != os.getpid():
                process.kill()


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes a program: asks the kernel to be killed when its parent is gone."""
    libc = ctypes.CDLL(None, use_errno=True)

    def before() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return before
