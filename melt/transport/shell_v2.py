"""Commands over an adb daemon's `shell,v2,raw` service: both outputs apart, an exit code, and an end that is an end.

The stream consists of packets: one byte that says what it is, four that give its length (little endian), the data.
The command's shell first writes its process id, which is also its session's, so that a second shell can end all of it:
a daemon that loses its client leaves a silent command running.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
from typing import TYPE_CHECKING

from melt.errors import DeviceError, TransportError, TransportTimeout, UsageError
from melt.transport.adb_link import CHUNK, Watched
from melt.transport.base import Completed, Deadline, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.transport.adb_link import Link

OUTPUT_LIMIT_BYTES = 64 << 20
"""A command that says more than this is ended."""

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_HEAD = struct.Struct("<BI")
_END_OF_STDIN = _HEAD.pack(_CLOSE_STDIN, 0)
_PACKET = 32768
_LONGEST_SERVICE = 32_000
"""An adb server takes 65,535 bytes; a longer command goes through stdin."""
_PID_LINE_LIMIT = 32
_GRACE_S = 5.0
_WAKE_S = 3600.0
_NAMED = 300
"""As much of a command as a message shows."""

_END_SESSION = r"""
session=$1 round=0 code=0
while [ $round -lt 20 ]; do
  round=$((round + 1)) ended=
  for file in /proc/[0-9]*/stat; do
    { IFS= read -r line < "$file"; } 2> /dev/null || continue
    set -- ${line##*) }
    [ "$4" = "$session" ] || continue
    case $1 in Z | X) continue ;; esac
    pid=${file#/proc/}
    if kill -9 "${pid%/stat}" 2> /dev/null; then ended=yes; elif [ -d "${file%/stat}" ]; then code=1; fi
  done
  [ "$ended" ] || break
done
exit $code
"""
"""The line of `stat` holds the program's name in brackets; after them the state, the parent, the group, the session."""


class Command:
    """A command on the device that is under way; see Process in base.py."""

    def __init__(self, link: Link, argv: Sequence[str], stdin: bytes = b"", *, has_stdin: bool = False) -> None:
        self._argv = tuple(argv)
        self._link = link
        self._shown = f"'{_shortened(shown(argv))}' on {link.name}"
        service, before = _service(argv)
        self._has_stdin = has_stdin
        self._out = memoryview(_stdin_packets(before + stdin) + (b"" if has_stdin else _END_OF_STDIN))
        self._in = bytearray()
        self._first_line: bytearray | None = bytearray()
        self._pid: int | None = None
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._code: int | None = None
        self._closed = False
        self._channel = Watched(link.open(service), link.name)

    def read(self, deadline: Deadline) -> bytes:
        while not self._stdout and self._code is None:
            if self._closed:
                return b""
            self._advance(deadline.left_s)
            if not self._stdout and self._code is None and not deadline.left_s:
                raise TransportTimeout(f"{self._shown} said nothing before its limit")
        said = bytes(self._stdout)
        self._stdout.clear()
        return said

    def write(self, data: bytes, deadline: Deadline) -> None:
        self._out = memoryview(bytes(self._out) + _stdin_packets(data))
        while self._out and self._code is None and not self._closed:
            left_s = deadline.left_s
            self._advance(left_s)
            if self._out and not left_s:
                raise TransportTimeout(f"{self._shown} read nothing before its limit")

    def wait(self, deadline: Deadline) -> Completed:
        if self._has_stdin:
            self._has_stdin = False
            self._out = memoryview(bytes(self._out) + _END_OF_STDIN)
        if not self._ended_by(deadline):
            ended = self._end()
            how = "was ended" if ended else "could not be ended: its user may not"
            self.close()
            message = f"{self._shown} took longer than its limit and {how}"
            raise TransportTimeout(message, bytes(self._stdout), bytes(self._stderr))
        self.close()
        assert self._code is not None  # noqa: S101 - what _ended_by has just said
        stdout = bytes(self._stdout)
        self._stdout.clear()
        return Completed(self._argv, self._code, stdout, bytes(self._stderr))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._code is None:
                # a lost link is not news to someone who lets go
                with contextlib.suppress(TransportError, DeviceError):
                    self._end()
        finally:
            self._channel.close(finished=self._code is not None)

    def _ended_by(self, deadline: Deadline) -> bool:
        """Whether the exit code came before the deadline."""
        while self._code is None:
            left_s = deadline.left_s
            self._advance(left_s)
            if not left_s:
                break
        return self._code is not None

    def _advance(self, wait_s: float) -> None:
        try:
            taken, got = self._channel.step(self._out[:CHUNK], min(wait_s, _WAKE_S))
        except TransportError:
            self._closed = True
            self._channel.close()
            raise
        self._out = self._out[taken:]
        if got is None:
            return
        if not got:
            self._closed = True
            self._channel.close()
            raise TransportError(f"the link to {self._link.name} was lost while {self._shown} ran: look at the cable")
        self._in += got
        try:
            self._parse()
        except TransportError:
            self._closed = True
            self._channel.close()
            raise
        if len(self._stdout) + len(self._stderr) > OUTPUT_LIMIT_BYTES:
            self._out = memoryview(b"")
            self._kill()
            self._closed = True
            self._channel.close()
            raise DeviceError(f"{self._shown} wrote more than {OUTPUT_LIMIT_BYTES >> 20} MiB and was ended", "output")

    def _parse(self) -> None:
        at, view = 0, memoryview(self._in)
        while len(view) - at >= _HEAD.size:
            kind, length = _HEAD.unpack_from(view, at)
            begin, end = at + _HEAD.size, at + _HEAD.size + length
            if length > OUTPUT_LIMIT_BYTES:
                raise TransportError(
                    f"{self._link.name} sent a packet of {length} bytes: the link is broken, try again"
                )
            if end > len(view):
                break
            at = end
            if kind == _STDOUT:
                self._take_stdout(view[begin:end])
            elif kind == _STDERR:
                self._stderr += view[begin:end]
            elif kind == _EXIT and length:
                self._code = view[begin]
        view.release()
        del self._in[:at]

    def _take_stdout(self, data: memoryview) -> None:
        """The first line is the shell's own: its process id."""
        if self._first_line is None:
            self._stdout += data
            return
        self._first_line += data
        line, newline, rest = self._first_line.partition(b"\n")
        if not (newline and line.isdigit()) and (newline or len(line) > _PID_LINE_LIMIT):
            raise TransportError(
                f"the shell of {self._link.name} began with {bytes(line[:60])!r} and not with its number"
            )
        if newline:
            self._pid = int(line)
            self._first_line = None
            self._stdout += rest

    def _kill(self) -> bool:
        """Ends the command's session through a second shell; whether it could. Raises TransportError."""
        if self._pid is None or self._code is not None:
            return self._code is not None
        ender = Command(self._link, ["sh", "-c", _END_SESSION, "sh", str(self._pid)])
        try:
            if not ender._ended_by(Deadline.after(_GRACE_S)):
                raise TransportError(f"{self._shown} may still run: {self._link.name} does not end it")
        finally:
            ender._closed = True
            ender._channel.close(finished=ender._code is not None)
        return ender._code == 0

    def _end(self) -> bool:
        """Ends the command and keeps what it had said by then; whether it could be ended. Raises TransportError."""
        grace = Deadline.after(_GRACE_S)
        while self._pid is None and self._code is None and grace.left_s:
            self._advance(grace.left_s)
        ended = self._kill()
        # what escaped from the session may hold the outputs: not for ever
        with contextlib.suppress(TransportError):
            self._ended_by(Deadline.after(_GRACE_S))
        return ended


def run(link: Link, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
    """Runs a command to its end; see Transport.run."""
    deadline.check(f"'{_shortened(shown(argv))}' on {link.name}")
    command = Command(link, argv, stdin)
    try:
        return command.wait(deadline)
    finally:
        command.close()


def _service(argv: Sequence[str]) -> tuple[bytes, bytes]:
    """The service that runs a command, and what goes through its stdin before the command's own.

    The shell replaces itself by the program: its process id stays, and no shell stands between the program and its
    signals. The device parses one string, in which every word is quoted.
    """
    try:
        line = f"exec {shown(argv)}".encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(f"a word of the command cannot be sent: {error.reason}") from error
    if b"\0" in line:
        raise UsageError("a word of the command holds a null byte, which no device takes")
    if len(line) <= _LONGEST_SERVICE:
        return b"shell,v2,raw:echo $$;" + line, b""
    # read takes single bytes, so that nothing of what follows is lost; a link that is cut must not run half a command
    end = b"end-" + secrets.token_hex(8).encode()
    launcher = b'echo $$;s=;while :;do IFS= read -r l||exit 125;[ "$l" = %b ]&&break;s="$s$l\n";done;eval "$s"' % end
    return b"shell,v2,raw:" + launcher, line + b"\n" + end + b"\n"


def _stdin_packets(data: bytes) -> bytes:
    pieces = []
    for at in range(0, len(data), _PACKET):
        piece = data[at : at + _PACKET]
        pieces += [_HEAD.pack(_STDIN, len(piece)), piece]
    return b"".join(pieces)


def _shortened(text: str) -> str:
    return text if len(text) <= _NAMED else f"{text[:_NAMED]}…"
