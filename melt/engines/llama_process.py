"""llama.cpp in a process of its own on this computer: what ends its native code ends that process, and melt goes on."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from melt.errors import UsageError
from melt.native.host import INSTALL, PACKAGE, PLACE_VARIABLE, host_library, need_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Say = Callable[[str], None]

_PROGRAM = Path(__file__).with_name("llama_worker.py")
_GRACE_S = 10
_START_LIMIT_S = 120
_LOG_BYTES = 1 << 14
_SHOWN = 300


class Refused(Exception):
    """llama.cpp cannot do what was asked: its own words, fit for a terminal, or "" when it had none."""


class Ended(Exception):
    """The process ended while it was asked, or took too long: half a sentence that says which."""


class LlamaProcess:
    """A started process, asked one thing after the other."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self._process, self._log = process, log
        self._rest = b""

    def ask(self, what: str, *, limit_s: float, tell: Callable[[str], None] | None = None, **values: Any) -> Any:
        """Its answer; `tell` gets the lines of llama.cpp's log that come before it. Raises Refused, and Ended."""
        give_up = time.monotonic() + limit_s
        asked = self._process.stdin
        if asked is None:
            raise Ended("cannot be asked")
        try:
            asked.write(json.dumps({"ask": what, **values}).encode() + b"\n")
            asked.flush()
        except BrokenPipeError:
            raise self._ended() from None
        while True:
            said = json.loads(self._line(give_up, limit_s))
            if "answer" in said:
                return said["answer"]
            if "refused" in said:
                raise Refused(_shown(said["refused"]))
            if tell:
                tell(said["log"])

    def _line(self, give_up: float, limit_s: float) -> bytes:
        answers = self._process.stdout
        if answers is None:
            raise Ended("cannot be heard")
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            if time.monotonic() > give_up:
                raise Ended(f"did not end within {limit_s:.0f} s")
            if select.select([answers], [], [], 1)[0]:
                parts.append(os.read(answers.fileno(), 1 << 20))
                if not parts[-1]:
                    raise self._ended()
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def _ended(self) -> Ended:
        try:
            code = self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            return Ended("does not answer any more")
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _LOG_BYTES))
        words = self._log.read().decode(errors="replace").strip().splitlines()
        last = f" ({_shown(words[-1])})" if words else ""
        if code == -signal.SIGKILL:
            return Ended(f"was killed, as a system does that has no memory left{last}")
        how = f"by signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"with {code}"
        return Ended(f"ended {how}{last}")


@contextlib.contextmanager
def llama_process(say: Say | None) -> Iterator[LlamaProcess]:
    """A process with llama.cpp of the runner's own version; it is gone at the end, whatever it was doing.

    Raises UsageError when llama-cpp-python or the library cannot be had, Unsupported for a processor without a level.
    """
    need_package()
    folder = host_library(say)
    with _started(folder) as worker:
        try:
            worker.ask("ready", limit_s=_START_LIMIT_S)
        except Ended as ended:
            raise UsageError(f"{PACKAGE} cannot be used, it {ended}: {INSTALL}") from None
        yield worker


@contextlib.contextmanager
def _started(folder: Path) -> Iterator[LlamaProcess]:
    # -P: a file llama_cpp.py in this folder or the person's is not the package
    argv = [sys.executable, "-P", str(_PROGRAM)]
    # without the second variable it would start a debugger, if there is one, to tell where it was when it ends badly
    env = os.environ | {PLACE_VARIABLE: str(folder), "GGML_NO_BACKTRACE": "1"}
    pipe = subprocess.PIPE
    try:
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        # a session of its own: Ctrl-C reaches it through us
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=log, env=env, start_new_session=True)
    except OSError as error:
        raise UsageError(f"llama.cpp cannot be started on this computer: {error.strerror}") from None
    try:
        yield LlamaProcess(process, log)
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # what was not written is not wanted any more
                if stream is not None:
                    stream.close()
        process.wait()
        log.close()


def _shown(words: str) -> str:
    """A native program's words, which may quote a file's."""
    return "".join(c if c.isprintable() else " " for c in words).strip()[:_SHOWN]
