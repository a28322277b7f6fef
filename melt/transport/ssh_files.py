"""Files over SSH: a `cat` at the far end of a channel, so that a server without SFTP will do.

A push writes under another name beside its target and is renamed when its size is right; whatever ends it early ends
its stdin, and then the script on the device takes the other name away by itself.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

from melt.errors import DeviceError, TransportError, TransportTimeout
from melt.places import appearing
from melt.transport.base import Completed, Deadline
from melt.transport.source import opened
from melt.transport.ssh_command import GRACE_S, Command

if TYPE_CHECKING:
    from pathlib import Path

    from melt.transport.source import Part
    from melt.transport.ssh_link import Link

STALL_S = 15.0
"""A transfer that has not moved for this long has failed, however much time it still had."""
_BLOCK = 1 << 20
_NO_FILE, _NOT_A_FILE, _TOO_LARGE, _SHORT, _IS_A_FOLDER = 41, 42, 43, 44, 45

# $1 target, $2 the name meanwhile, $3 size, $4 mode
_PUSH = (
    f'[ -d "$1" ] && exit {_IS_A_FOLDER}; trap "" HUP; '
    'cat >"$2"; c=$?; '
    'if [ $c = 0 ]; then s=$(stat -c %s "$2" 2>/dev/null || wc -c <"$2"); '
    f'if [ "$s" -eq "$3" ]; then chmod "$4" "$2" && mv -f "$2" "$1" && exit 0; c=$?; else c={_SHORT}; fi; fi; '
    'rm -f "$2"; exit $c'
)
# $1 source, $2 the largest size
_PULL = (
    f'[ -e "$1" ] || exit {_NO_FILE}; [ -f "$1" ] || exit {_NOT_A_FILE}; '
    f's=$(stat -L -c %s "$1" 2>/dev/null) && [ "$s" -gt "$2" ] && exit {_TOO_LARGE}; '
    'exec cat "$1"'
)


def push(link: Link, source: Path | Part, target: str, *, deadline: Deadline, executable: bool) -> None:
    """Makes `target` on the device a copy of `source`. Raises UsageError, DeviceError, TransportError."""
    place = _plain(target)
    folder, slash, _ = place.rpartition("/")
    meanwhile = f"{folder}{slash}.melt-{secrets.token_hex(6)}.part"
    what = f"copying {source.name} to {target} on {link.name}"
    buffer = memoryview(bytearray(_BLOCK))
    with opened(source) as data:
        deadline.check(what)
        mode = "755" if executable else "644"
        argv = ["sh", "-c", _PUSH, "sh", place, meanwhile, str(data.size_bytes), mode]
        command = Command(link, argv, deadline, has_stdin=True)
        try:
            while got := data.fill([buffer]):
                if not _send(command, buffer[:got], deadline, what):
                    break  # the script has given up: its last words say why
            command.send_end()
            try:
                done = command.finish(deadline)
            except TransportTimeout as error:
                raise TransportTimeout(f"{what} took longer than its limit") from error
        except BaseException:
            _clear_away(link, command, meanwhile)
            raise
    if not done.ok:
        raise _write_error(done, target, link.name)


def _send(command: Command, view: memoryview, deadline: Deadline, what: str) -> bool:
    while view:
        limit_s = min(STALL_S, deadline.left_s)
        if not limit_s:
            raise TransportTimeout(f"{what} took longer than its limit")
        try:
            # paramiko copies what it is handed: hand it no more than it sends at once
            sent = command.send(bytes(view[:32_704]), limit_s)
        except TimeoutError:
            raise TransportTimeout(f"{what} has not moved for {limit_s:.0f} s") from None
        if not sent:
            return False
        view = view[sent:]
    return True


def _clear_away(link: Link, command: Command, meanwhile: str) -> None:
    """After a push that failed here: its end of input makes the script tidy up; if not that, then we."""
    with contextlib.suppress(TransportError, DeviceError):
        if not command.ended:
            command.send_end()
            with contextlib.suppress(TransportTimeout):
                command.finish(Deadline.after(GRACE_S))
                return
        grace = Deadline.after(GRACE_S)
        Command(link, ["rm", "-f", meanwhile], grace, has_stdin=False, urgent=True).finish(grace)


def pull(link: Link, source: str, target: Path, *, deadline: Deadline, limit_bytes: int) -> None:
    """Makes `target` here a copy of the device's `source`. Raises DeviceError, TransportError."""
    what = f"copying {source} from {link.name}"
    deadline.check(what)
    try:
        with appearing(target, synced=False) as temporary, temporary.open("wb") as out:
            argv = ["sh", "-c", _PULL, "sh", _plain(source), str(limit_bytes)]
            command = Command(link, argv, deadline, has_stdin=False)
            try:
                done = 0
                while chunk := _receive(command, deadline, what):
                    done += len(chunk)
                    if done > limit_bytes:
                        raise DeviceError(f"{source} on {link.name} is larger than {limit_bytes} bytes")
                    out.write(chunk)
                completed = command.completed()
            except BaseException:
                with contextlib.suppress(TransportError):
                    command.end()
                raise
            finally:
                command.close()
            if not completed.ok:
                raise _read_error(completed, source, link.name, limit_bytes)
            temporary.chmod(0o644)
    except OSError as error:
        raise DeviceError(f"{target} on this computer cannot be written: {error.strerror}") from error


def _receive(command: Command, deadline: Deadline, what: str) -> bytes:
    limit_s = min(STALL_S, deadline.left_s)
    try:
        return command.read(Deadline.after(limit_s))
    except TransportTimeout:
        if limit_s < STALL_S:
            raise TransportTimeout(f"{what} took longer than its limit") from None
        raise TransportTimeout(f"{what} has not moved for {limit_s:.0f} s") from None


def _plain(path: str) -> str:
    """A path that no program takes for an option."""
    return path if path.startswith("/") else f"./{path}"


def _write_error(done: Completed, target: str, name: str) -> DeviceError:
    said = done.stderr.decode(errors="replace")
    hints = (
        ("No space left", "no space is left: free some, or name another workdir", "no_space"),
        ("quota exceeded", "the quota is used up", "no_space"),
        ("Read-only file system", "the file system is read-only: name another workdir", "read_only"),
        ("Permission denied", "permission denied: name a workdir that this user may write to", "read_only"),
        ("No such file", "the folder does not exist", "missing"),
        ("nonexistent", "the folder does not exist", "missing"),
    )
    words, code = done.complaint, "device"
    if done.code == _IS_A_FOLDER:
        words = "it is a folder"
    elif done.code == _SHORT:
        words = "it arrived with another size"
    for sign, hint, reason in hints:
        if sign.lower() in said.lower():
            words, code = hint, reason
            break
    return DeviceError(f"{target} on {name} cannot be written: {words}", code=code)


def _read_error(done: Completed, source: str, name: str, limit_bytes: int) -> DeviceError:
    if done.code == _NO_FILE:
        return DeviceError(f"{source} is not on {name}", code="missing")
    if done.code == _NOT_A_FILE:
        return DeviceError(f"{source} on {name} is not a file")
    if done.code == _TOO_LARGE:
        return DeviceError(f"{source} on {name} is larger than {limit_bytes} bytes and was left where it is")
    return DeviceError(f"{source} on {name} cannot be read: {done.complaint}")
