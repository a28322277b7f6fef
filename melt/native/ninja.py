"""cmake and ninja, run so that a build tells how far it is, ends in time, and can be ended and taken up again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sysconfig
import time
from typing import IO, TYPE_CHECKING

from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from melt.native.compilers import Say

_LIMIT_S = 7200
"""A Raspberry Pi 4 takes half an hour."""
_SAY_EVERY_S = 10
_GRACE_S = 10
_KEPT_BYTES = 1 << 20
_ERROR = re.compile(r"\berror\b[: ]|CMake Error|cannot find|undefined reference")
_PROGRESS = re.compile(rb"\[(\d+)/(\d+)\]")
_UNHASHED = re.compile(r"(C|CXX|CPP|LD|ASM|NINJA)FLAGS|CC|CXX|AR|RANLIB|(\w+_)?(INCLUDE|LIBRARY)_PATH|CPATH|CMAKE_\w+")
"""Variables that would change what is built, and that the name of the build does not tell."""


class BuildFailed(Exception):
    """cmake or ninja failed; their last words."""


def build_program(name: str) -> str:
    """Where `cmake` or `ninja` is: on the PATH, or beside this Python. Raises UsageError."""
    found = shutil.which(name) or shutil.which(name, path=sysconfig.get_path("scripts"))
    if found is None:
        raise UsageError(f"compiling llama.cpp needs cmake and ninja, and {name} is missing: pip install 'melt[llm]'")
    return found


@contextlib.contextmanager
def locked(path: Path, what: str, say: Say | None) -> Iterator[int]:
    """Holds the lock at `path`, which a started build inherits: it is free when the last of its processes has ended."""
    give_up = time.monotonic() + _LIMIT_S
    with path.open("w") as file:
        waiting = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise UsageError(f"another melt has been compiling {what} for {_LIMIT_S} s: end it") from None
                if say and not waiting:
                    say(f"waiting for another melt that is compiling {what}")
                waiting = True
                time.sleep(0.2)
        yield file.fileno()


def configure(argv: list[str], lock: int) -> None:
    """Runs cmake. Raises BuildFailed."""
    _run(argv, lock, lambda _: None)


def compile_all(folder: Path, targets: tuple[str, ...], lock: int, what: str, say: Say | None) -> None:
    """Runs ninja in a configured folder, politely, with a job for each processor. Raises BuildFailed."""
    nice = [found, "-n", "5"] if (found := shutil.which("nice")) else []
    jobs = len(os.sched_getaffinity(0))
    began = said = time.monotonic()

    def tell(line: bytes) -> None:
        nonlocal said
        now, progress = time.monotonic(), _PROGRESS.match(line)
        if say is None or progress is None or now < said + _SAY_EVERY_S:
            return
        said = now
        done, total = int(progress[1]), int(progress[2])
        left = (now - began) / max(done, 1) * (total - done)
        say(f"compiling {what}: {done} of {total} files, about {left:.0f} s left")

    _run([*nice, build_program("ninja"), "-C", str(folder), f"-j{jobs}", *targets], lock, tell)


def _run(argv: list[str], lock: int, tell: Callable[[bytes], None]) -> None:
    env = {name: value for name, value in os.environ.items() if not _UNHASHED.fullmatch(name)}
    env["NINJA_STATUS"] = "[%f/%t] "
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        pass_fds=(lock,),
        start_new_session=True,  # Ctrl-C reaches it through us, once
    )
    try:
        said = _read_all(process, tell)
        if process.wait(timeout=_GRACE_S):
            raise BuildFailed(
                telling_line(said.decode(errors="replace")) or f"{argv[0]} ended with {process.returncode}"
            )
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"{argv[0]} does not end") from None
    finally:
        _end(process)


def _read_all(process: subprocess.Popen[bytes], tell: Callable[[bytes], None]) -> bytes:
    """All that it writes until it ends, `tell` called with each line. Raises BuildFailed when it takes too long."""
    output = _output(process)
    said, rest, give_up = b"", b"", time.monotonic() + _LIMIT_S
    while True:
        if time.monotonic() > give_up:
            raise BuildFailed(f"it took longer than {_LIMIT_S} s")
        if not select.select([output], [], [], 1)[0]:
            continue
        block = os.read(output.fileno(), 1 << 16)
        if not block:
            return said
        said = (said + block)[-_KEPT_BYTES:]
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            tell(line)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends it and its compilers; ninja removes the half-written on SIGINT, and makes it again after SIGKILL."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_S)
    _output(process).close()


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise BuildFailed("its words cannot be read")
    return process.stdout


def telling_line(text: str) -> str:
    """Of a build's words the first line that tells of an error, or the last one; "" when it said nothing.

    Commands tell of none: ninja shows them with its progress, and after FAILED.
    """
    lines = [line.strip() for line in text.splitlines()]
    command = {n + 1 for n, line in enumerate(lines) if line.startswith("FAILED:")}
    lines = [line for n, line in enumerate(lines) if line and not line.startswith("[") and n not in command]
    errors = [n for n, line in enumerate(lines) if _ERROR.search(line)]
    if not errors:
        return (lines[-1:] or [""])[0][:300]
    # cmake's first line says where, and its second one what
    first = errors[0]
    return " ".join(lines[first : first + 1 + lines[first].startswith("CMake Error at")])[:300]
