"""This computer as a device."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import psutil

from melt.errors import DeviceError, TransportTimeout
from melt.places import appearing
from melt.transport.base import NOT_EXECUTABLE, NOT_FOUND, Completed, Deadline, shown
from melt.transport.source import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.transport.base import Process
    from melt.transport.source import Part

_CHUNK = 1 << 20
_GRACE_S = 5.0


class LocalTransport:
    """Commands and files of this computer, behind the same seam as any other device's."""

    address = "local:"

    def run(self, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
        try:
            child = _spawn(argv, stdin=subprocess.PIPE)
        except OSError as error:
            return _not_started(argv, error)
        with child:
            try:
                stdout, stderr = child.communicate(stdin, timeout=deadline.left_s)
            except subprocess.TimeoutExpired:
                _end(child)
                stdout, stderr = _remains(child)
                message = f"'{shown(argv)}' on this computer took longer than its limit and was ended"
                raise TransportTimeout(message, stdout, stderr) from None
            except BaseException:
                _end(child)
                raise
        return Completed(tuple(argv), _code(child), stdout, stderr)

    def start(self, argv: Sequence[str], *, has_stdin: bool = False) -> Process:
        try:
            return LocalProcess(argv, _spawn(argv, stdin=subprocess.PIPE if has_stdin else subprocess.DEVNULL))
        except OSError as error:
            return NotStarted(_not_started(argv, error))

    def push(self, source: Path | Part, target: str, *, deadline: Deadline, executable: bool = False) -> None:
        place = Path(target)
        what = f"copying {source.name} to {target}"
        buffer = memoryview(bytearray(_CHUNK))
        try:
            with opened(source) as data, appearing(place) as temporary:
                with temporary.open("wb") as out:
                    while got := data.fill([buffer]):
                        deadline.check(what)
                        out.write(buffer[:got])
                temporary.chmod(0o755 if executable else 0o644)
        except OSError as error:
            raise _write_error(error, target) from error

    def pull(self, source: str, target: Path, *, deadline: Deadline, limit_bytes: int) -> None:
        data = _open_file(source)
        try:
            with data, appearing(target, synced=False) as temporary:
                if os.fstat(data.fileno()).st_size > limit_bytes:
                    raise DeviceError(f"{source} is larger than {limit_bytes} bytes and was left where it is")
                with temporary.open("wb") as out:
                    _copy(data, out, deadline, f"copying {source} from this computer", limit_bytes)
                temporary.chmod(0o644)
        except OSError as error:
            raise _write_error(error, str(target)) from error

    def close(self) -> None:
        """Nothing is held."""


class LocalProcess:
    """A command of this computer that is under way."""

    def __init__(self, argv: Sequence[str], child: subprocess.Popen[bytes]) -> None:
        self._argv = tuple(argv)
        self._child = child
        self._stderr = bytearray()
        if child.stdin is not None:
            os.set_blocking(child.stdin.fileno(), False)

    def read(self, deadline: Deadline) -> bytes:
        if self._child.stdout is None or self._child.stderr is None:
            return b""
        out, err = self._child.stdout.fileno(), self._child.stderr.fileno()
        poll = select.poll()
        poll.register(out, select.POLLIN)
        poll.register(err, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(deadline.left_s * 1000)}
            # stderr is read along: a command that fills its pipe would never come to its next line of stdout
            if err in ready:
                chunk = os.read(err, _CHUNK)
                self._stderr += chunk
                if not chunk:
                    poll.unregister(err)
            if out in ready:
                return os.read(out, 65536)
            if not deadline.left_s:
                raise TransportTimeout(f"'{shown(self._argv)}' on this computer said nothing before its limit")

    def write(self, data: bytes, deadline: Deadline) -> None:
        if self._child.stdin is None:
            return
        left, poll = memoryview(data), select.poll()
        poll.register(self._child.stdin, select.POLLOUT)
        while left:
            if not poll.poll(deadline.left_s * 1000):
                raise TransportTimeout(f"'{shown(self._argv)}' on this computer read nothing before its limit")
            try:
                left = left[os.write(self._child.stdin.fileno(), left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return

    def wait(self, deadline: Deadline) -> Completed:
        try:
            stdout, stderr = self._child.communicate(timeout=deadline.left_s)
        except subprocess.TimeoutExpired:
            _end(self._child)
            stdout, stderr = _remains(self._child)
            message = f"'{shown(self._argv)}' on this computer took longer than its limit and was ended"
            self.close()
            raise TransportTimeout(message, stdout, bytes(self._stderr) + stderr) from None
        return Completed(self._argv, _code(self._child), stdout, bytes(self._stderr) + stderr)

    def close(self) -> None:
        if self._child.returncode is None:
            _end(self._child)
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()
        self._child.wait()


class NotStarted:
    """A command that never was: its program is missing or may not be executed."""

    def __init__(self, completed: Completed) -> None:
        self._completed = completed

    def read(self, deadline: Deadline) -> bytes:
        del deadline  # there is nothing to wait for
        return b""

    def write(self, data: bytes, deadline: Deadline) -> None:
        """Nobody is there to read it."""

    def wait(self, deadline: Deadline) -> Completed:
        del deadline
        return self._completed

    def close(self) -> None:
        """Nothing is held."""


def _spawn(argv: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
    # A session of its own: a Ctrl-C meant for melt does not reach it, and the deadline can end all of it.
    return subprocess.Popen(
        list(argv),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _code(child: subprocess.Popen[bytes]) -> int:
    """The exit code as a shell reports it: 128 + signal for a killed process."""
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _not_started(argv: Sequence[str], error: OSError) -> Completed:
    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
    message = f"{argv[0]}: {error.strerror}\n".encode()
    return Completed(tuple(argv), NOT_FOUND if missing else NOT_EXECUTABLE, b"", message)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a command that has not been waited for: its session, and its descendants that have left the session."""
    members: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        members = psutil.Process(child.pid).children(recursive=True)
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == child.pid:
                members.append(process)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _remains(child: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What a command that has been ended had written; a descendant that escaped may hold the pipes, so not for ever."""
    try:
        return child.communicate(timeout=_GRACE_S)
    except subprocess.TimeoutExpired as held:
        return held.stdout or b"", held.stderr or b""


def _open_file(source: str) -> BinaryIO:
    """A regular file, opened; a pipe without a writer would never open."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DeviceError(f"{source} is not on this computer", code="missing") from error
    except OSError as error:
        raise DeviceError(f"{source} on this computer cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DeviceError(f"{source} on this computer is not a file")
    return os.fdopen(descriptor, "rb")


def _copy(data: BinaryIO, out: BinaryIO, deadline: Deadline, what: str, limit_bytes: int) -> None:
    done = 0
    while chunk := data.read(_CHUNK):
        deadline.check(what)
        done += len(chunk)
        if done > limit_bytes:
            raise DeviceError(f"{what}: it grew beyond {limit_bytes} bytes")
        out.write(chunk)


def _write_error(error: OSError, target: str) -> DeviceError:
    hints = {
        errno.ENOSPC: ("no space is left", "no_space"),
        errno.EDQUOT: ("the quota is used up", "no_space"),
        errno.EROFS: ("the file system is read-only", "read_only"),
        errno.EACCES: ("permission denied", "read_only"),
        errno.ENOENT: ("the folder does not exist", "missing"),
    }
    words, code = hints.get(error.errno or 0, (error.strerror or str(error), "device"))
    free = ""
    if code == "no_space":
        with contextlib.suppress(OSError):
            free = f" ({shutil.disk_usage(Path(target).parent).free} bytes free)"
    return DeviceError(f"{target} on this computer cannot be written: {words}{free}", code=code)
