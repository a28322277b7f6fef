"""A command over SSH: the few lines of `sh` that carry it, and how its outputs and its end are read.

The login shell starts `sh` with a fixed script; the words of the command are its arguments, quoted by `shown`. The
script marks where each output begins, gives the process number that everything can be ended by, and says the exit
code last. All marks hold a number of this command alone: without the last one there is no exit code, only a lost link.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from typing import TYPE_CHECKING

import paramiko

from melt.errors import DeviceError, TransportError, TransportTimeout, UsageError
from melt.transport.base import NOT_EXECUTABLE, NOT_FOUND, Completed, Deadline, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.transport.ssh_link import Link

MAX_OUTPUT_BYTES = 64 << 20
"""More than this from one command is a mistake, and is not kept."""
GRACE_S = 5.0
"""For what has to be put in order after a deadline."""
_START_S = 15.0
_CHUNK = 1 << 20
_PIECE = 1 << 15
_SHOWN = 200
_MAX_COMMAND_BYTES = 131_000
"""A Linux kernel takes 128 KiB as one argument, and sshd gives the command to the login shell as one."""

END = (
    # $1 leads a session: ends every process of that session and every descendant, until none is left.
    "exec 2>/dev/null; l=$1; a=$l; k=; r=0; "
    # m: pid state parent group session
    'm() { case $2 in Z|X) return;; esac; [ "$1" = $$ ] && return; case " $a " in *" $1 "*) ;; '
    '*) [ "$5" = "$l" ] || case " $a " in *" $3 "*) ;; *) return;; esac; a="$a $1";; esac; f="$f $1"; }; '
    's() { f=; for p in /proc/[0-9]*/stat; do read -r t <"$p" || continue; p=${p#/proc/}; '
    'm "${p%/stat}" ${t##*) }; done; }; '
    'while [ $r -lt 50 ]; do s; while [ "$a" != "$k" ]; do k=$a; s; done; '
    '[ "$f" ] || exit 0; kill -9 $f; r=$((r+1)); done'
)

_BEGIN = (
    # The shell's own words ("Killed") are no output of the command. `trap :` keeps the shell through a `kill 0` and is
    # undone in the subshell; `exec` there takes a program, never a builtin of the same name.
    "_n=$1 _e=$2; shift 2; export LC_ALL=C; exec 3>&2 2>/dev/null; trap : HUP INT QUIT TERM USR1 USR2; "
    'echo "$_n"; echo "$_n+$$" >&3; '
)
_WITH_STDIN = _BEGIN + '(exec "$@" 2>&3 3>&-); _c=$?; echo "$_n=$_c" >&3'
# A command without stdin uses the channel's as its lifeline: when it ends before the command, the link was lost, and
# what nobody waits for any more is ended.
_WITH_LIFELINE = (
    _BEGIN + "exec 4<&0 </dev/null; "
    '(while read -r _x; do :; done; exec sh -c "$_e" sh $$) <&4 >/dev/null 3>&- 4<&- & '
    '(exec "$@" 2>&3 3>&- 4<&-); _c=$?; kill -9 $!; echo "$_n=$_c" >&3'
)


class Command:
    """A command under way on the device, with its outputs read as they come; for use by one thread.

    Without `has_stdin` its stdin is empty. Raises TransportError, and UsageError for a word with a zero byte.
    """

    def __init__(
        self, link: Link, argv: Sequence[str], deadline: Deadline, *, has_stdin: bool, urgent: bool = False
    ) -> None:
        self.argv = tuple(argv)
        self._link = link
        self._urgent = urgent
        self._nonce = secrets.token_hex(8)
        self._out, self._err = bytearray(), bytearray()
        self._begun = False
        self._pid: int | None = None
        self._too_much = False
        self._ended = False
        self._closed = False
        self._wake = threading.Event()
        script = _WITH_STDIN if has_stdin else _WITH_LIFELINE
        line = wire(["exec", "sh", "-c", script, "sh", self._nonce, END, *argv])
        self._channel = link.open_session(deadline, urgent=urgent)
        try:
            for stream in (self._channel.in_buffer, self._channel.in_stderr_buffer):
                stream.set_event(_Waker(self._wake))  # type: ignore[arg-type]
            self._channel.exec_command(line)
        except (paramiko.SSHException, EOFError, OSError) as error:
            link.give_back(self._channel, urgent=urgent)
            if link.alive:
                raise TransportError(f"{link.name} refuses to run commands: is it an account with a shell?") from error
            raise link.lost() from error

    @property
    def what(self) -> str:
        return f"'{_short(shown(self.argv))}' on {self._link.name}"

    def send(self, data: bytes, limit_s: float) -> int:
        """Gives the command's stdin some of `data`; the number of bytes taken, 0 when it takes no more.

        Raises TimeoutError when it takes nothing for `limit_s`, TransportError.
        """
        self._channel.settimeout(max(0.01, limit_s))
        try:
            return self._channel.send(data)
        except TimeoutError:
            raise
        except (paramiko.SSHException, EOFError, OSError) as error:
            if self._link.alive:
                return 0
            raise self._link.lost() from error

    def send_end(self) -> None:
        """The end of stdin."""
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self._channel.shutdown_write()

    def send_all(self, data: bytes) -> None:
        """Gives the command its whole stdin, in a thread: it may write before it reads, or not read at all."""

        def work() -> None:
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                self._channel.settimeout(None)
                self._channel.sendall(data)
                self._channel.shutdown_write()

        threading.Thread(target=work, name="melt ssh stdin", daemon=True).start()

    def read(self, deadline: Deadline) -> bytes:
        """What stdout has given since the last call; b"" is the end. Raises TransportTimeout, TransportError."""
        while True:
            if self._begun and self._out:
                data = bytes(self._out)
                self._out.clear()
                return data
            if self._ended:
                self.completed()
                return b""
            if not self._pump(deadline):
                raise TransportTimeout(f"{self.what} said nothing before its limit")
            self._end_too_much()

    def finish(self, deadline: Deadline) -> Completed:
        """The end of the command. Raises TransportTimeout after it was ended, TransportError, DeviceError."""
        try:
            while not self._ended:
                if not self._pump(deadline):
                    self.end()
                    message = f"{self.what} took longer than its limit and was ended"
                    raise TransportTimeout(message, bytes(self._out), self._said())
                self._end_too_much()
            return self.completed()
        finally:
            self.close()

    def completed(self) -> Completed:
        """What a command whose outputs have ended gave. Raises TransportError when nobody said that it is all."""
        if not self._channel.eof_received and not self._link.alive:
            raise self._link.lost()
        found = self._last_mark()
        if found is None:
            words = self._said().decode(errors="replace").strip()[-300:]
            said = f" ('{words}')" if words else ""
            if self._pid is None:
                raise TransportError(
                    f"{self.what} did not start{said}: the account there needs a shell like sh or bash"
                )
            raise TransportError(
                f"{self.what} was ended from outside{said}: the device may be restarting, or out of memory"
            )
        out = bytes(self._out) if self._begun else b""
        return Completed(self.argv, int(found.group(1)), out, self._said())

    def end(self) -> None:
        """Ends the command on the device, with all of its session. Raises TransportError when the link is lost."""
        grace = Deadline.after(GRACE_S)
        while self._pid is None and not self._ended and self._pump(grace):
            pass
        if self._ended or self._pid is None:
            return
        argv = ["sh", "-c", END, "sh", str(self._pid)]
        ender = Command(self._link, argv, grace, has_stdin=False, urgent=True)
        try:
            while not ender._ended and ender._pump(grace):
                pass
        finally:
            ender.close()
        while not self._ended and self._pump(grace):
            pass
        if not self._channel.eof_received and not self._link.alive:
            raise self._link.lost()

    def close(self) -> None:
        """Lets go of the channel; a lifeline that is still held is let go of too."""
        if not self._closed:
            self._closed = True
            self._ended = True
            self._link.give_back(self._channel, urgent=self._urgent)

    @property
    def ended(self) -> bool:
        return self._ended

    def _pump(self, deadline: Deadline) -> bool:
        """Takes what has come, waiting for the first of it; False when the deadline passes first."""
        channel = self._channel
        while True:
            self._wake.clear()
            over = bool(channel.eof_received or channel.closed)  # asked first: what came before the end is read below
            came = False
            if channel.in_buffer.read_ready():
                self._take_out(channel.recv(_CHUNK))
                came = True
            if channel.in_stderr_buffer.read_ready():
                self._take_err(channel.recv_stderr(_CHUNK))
                came = True
            if came:
                return True
            if over:
                self._ended = True
                return True
            if not self._wake.wait(deadline.left_s):
                return False

    def _take_out(self, data: bytes) -> None:
        self._out += data
        if not self._begun:
            mark = f"{self._nonce}\n".encode()
            before, found, _ = self._out.partition(mark)
            if found:  # what a start-up file of the login shell prints is not the command's
                del self._out[: len(before) + len(mark)]
                self._begun = True
        self._check_size()

    def _take_err(self, data: bytes) -> None:
        self._err += data
        if self._pid is None:
            found = re.search(rb"%b\+(\d+)\n" % self._nonce.encode(), self._err)
            if found:
                self._pid = int(found.group(1))
                del self._err[: found.end()]
        self._check_size()

    def _check_size(self) -> None:
        if len(self._out) + len(self._err) > MAX_OUTPUT_BYTES:
            self._too_much = True
        if self._too_much:
            self._out.clear()
            self._err.clear()

    def _end_too_much(self) -> None:
        if self._too_much:
            self.end()
            raise DeviceError(f"{self.what} printed more than {MAX_OUTPUT_BYTES >> 20} MiB and was ended")

    def _last_mark(self) -> re.Match[bytes] | None:
        return re.search(rb"%b=(\d{1,3})\n" % self._nonce.encode(), self._err)

    def _said(self) -> bytes:
        found = self._last_mark()
        return bytes(self._err if found is None else self._err[: found.start()] + self._err[found.end() :])


class _Waker:
    """What paramiko sets when a stream has something: cleared by the reader alone, who reads both streams."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        """Not theirs to clear: the other stream may have set it."""


class SshProcess:
    """A command that is under way on the device."""

    def __init__(self, link: Link, argv: Sequence[str], *, has_stdin: bool = False) -> None:
        self._command = Command(link, argv, Deadline.after(_START_S), has_stdin=has_stdin)
        self._has_stdin = has_stdin

    def read(self, deadline: Deadline) -> bytes:
        return self._command.read(deadline)

    def write(self, data: bytes, deadline: Deadline) -> None:
        left = memoryview(data)
        while left and not self._command.ended:
            try:
                taken = self._command.send(bytes(left[:_PIECE]), deadline.left_s)
            except TimeoutError:
                raise TransportTimeout(f"{self._command.what} read nothing before its limit") from None
            if not taken:
                return
            left = left[taken:]

    def wait(self, deadline: Deadline) -> Completed:
        if self._has_stdin:
            self._command.send_end()
        return self._command.finish(deadline)

    def close(self) -> None:
        try:
            if not self._command.ended:
                with contextlib.suppress(TransportError, DeviceError):
                    self._command.end()
        finally:
            self._command.close()


def wire(argv: Sequence[str]) -> bytes:
    """The one line that the login shell is given. Raises UsageError for a word that no command can carry."""
    line = shown(argv)
    if "\0" in line:
        raise UsageError(f"a word of the command {argv[-1]!r} holds a zero byte")
    return line.encode("utf-8", "surrogateescape")


def refused(argv: Sequence[str]) -> Completed | None:
    """What a command that cannot even be sent gives; None for every other."""
    if not argv or not argv[0] or argv[0].startswith("-"):  # `exec` would take it for an option
        return Completed(tuple(argv), NOT_FOUND, b"", f"{''.join(argv[:1])}: not found\n".encode())
    if len(wire(argv)) + len(wire([_WITH_LIFELINE, END])) + 200 > _MAX_COMMAND_BYTES:
        return Completed(tuple(argv), NOT_EXECUTABLE, b"", f"{argv[0]}: Argument list too long\n".encode())
    return None


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
