"""Commands as root on a device: whether that can be had there, and how. Nobody is ever asked for a password."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import TransportTimeout
from melt.transport.base import NOT_EXECUTABLE, NOT_FOUND, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from melt.transport import Completed

    Run = Callable[[Sequence[str], float], Completed]
    """A command and its limit in seconds; its stdin is empty. Raises TransportTimeout when the limit passes."""
    Push = Callable[[bytes, str], None]
    """Makes a file of these bytes on the device, whole or not at all."""

TRY_S = 10.0
"""A phone's su may wait for somebody to touch the screen; nobody will."""
_WHO = ("id", "-u")
_ROOT = "0"
_A_USER = re.compile(r"[0-9]{1,10}", re.ASCII)
_SHOWN = 160


@dataclass(frozen=True)
class _Dialect:
    """One way to become root: what stands before a command, and whether that takes one string in its place."""

    prefix: tuple[str, ...]
    of_one_string: bool = False

    def asks(self, who: Sequence[str]) -> list[str]:
        return [*self.prefix, shown(who)] if self.of_one_string else [*self.prefix, *who]


_DIALECTS = (
    _Dialect(()),
    # never a prompt: its words would come to stand in an answer
    _Dialect(("sudo", "-n")),
    # of Android's own builds for developers
    _Dialect(("su", "0")),
    _Dialect(("su", "root")),
    # of those that people put on a phone
    _Dialect(("su", "-c"), of_one_string=True),
)


@dataclass(frozen=True)
class Root:
    """How a command is run as root on one device."""

    prefix: tuple[str, ...]
    folder: str = ""
    """Where the files of commands are put, for a way that takes one string."""
    push: Push | None = None
    """Set for such a way only."""

    def argv(self, words: Sequence[str]) -> list[str]:
        """The argument list that runs `words` as root.

        For a way that takes one string, `words` are put into a file on the device, and the string names that file
        only: no shell but the file's own ever reads them, and there they are quoted. Raises TransportError and
        DeviceError when the file cannot be brought.
        """
        if self.push is None:
            return [*self.prefix, *words]
        text = f"#!/bin/sh\nexec {shown(words)}\n".encode(errors="surrogateescape")
        # named by what it holds: the same command is the same file, however often it is run
        path = f"{self.folder}/{hashlib.sha256(text).hexdigest()[:32]}.sh"
        self.push(text, path)
        return [*self.prefix, shown(["sh", path])]

    def __str__(self) -> str:
        return shown(self.prefix) if self.prefix else "this account is root"


def find_root(run: Run, push: Push, folder: str, who: Sequence[str] = _WHO) -> Root | str:
    """The first way to become root that works on a device; otherwise one sentence that says why each of them did not.

    `folder` is where melt's files lie on the device; `who` prints the number of the user that it runs as. Raises
    TransportError when the link is lost.
    """
    refused: dict[str, str] = {}
    missing: set[str] = set()
    for dialect in _DIALECTS:
        program = dialect.prefix[0] if dialect.prefix else ""
        if program in missing:
            continue
        why = _refusal(run, dialect, who)
        if why is None:
            if dialect.of_one_string:
                return Root(dialect.prefix, folder, push)
            return Root(dialect.prefix)
        if why == _NOT_THERE:
            missing.add(program)
            refused[program] = why
        else:
            refused[shown(dialect.prefix)] = why
    return _sentence(refused)


_NOT_THERE = "is not there"


def _refusal(run: Run, dialect: _Dialect, who: Sequence[str]) -> str | None:
    """Why a way did not make root; None when it did."""
    try:
        done = run(dialect.asks(who), TRY_S)
    except TransportTimeout:
        return f"did not answer within {TRY_S:g} s"
    if done.code == NOT_FOUND and dialect.prefix:
        return _NOT_THERE
    said = done.stdout[:4096].decode(errors="replace").strip().rpartition("\n")[2]
    if done.ok and said == _ROOT:
        return None
    if done.ok:
        return f"answers as user {said}" if _A_USER.fullmatch(said) else "answers with no user"
    if done.code == NOT_EXECUTABLE:
        return "may not be executed"
    return _first_line(done.stderr) or done.complaint


def _first_line(said: bytes) -> str:
    """The line that says what is wrong: after it some print how they are to be used."""
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in said[:4096].decode(errors="replace"))
    return " ".join(text.strip().partition("\n")[0].split())[:_SHOWN]


def _sentence(refused: dict[str, str]) -> str:
    own = refused.pop("", "")
    reasons = [f"'{way}' {_joined(why)}" for way, why in refused.items()]
    return (
        f"no root: this account {_joined(own)}; {'; '.join(reasons)}: allow sudo without a password for this account, "
        "or root for adb's shell in the phone's root manager"
    )


def _joined(why: str) -> str:
    """A reason of ours goes on the sentence; the device's own words are quoted."""
    ours = ("is not", "did not", "answers ", "may not")
    return why if why.startswith(ours) else f'says "{why}"'
