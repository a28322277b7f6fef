"""Whether a server is the one it was: known-hosts files, read as OpenSSH reads them, and a line added when asked to."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import TransportError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MAX_BYTES = 16 << 20


class HostRefused(TransportError):
    """Nobody has vouched for this server's key: trying again does not help, a person has to decide."""

    transient = False


class HostUnknown(HostRefused):
    """No known-hosts file names the server."""


class HostChanged(HostRefused):
    """The server shows another key than the one that was accepted, or one that was withdrawn."""


@dataclass(frozen=True)
class HostKey:
    """A server's public key."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """As OpenSSH shows it: `SHA256:` and 43 letters."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"


@dataclass(frozen=True)
class _Entry:
    key: HostKey
    place: str
    revoked: bool


def known_kinds(name: str, files: Sequence[Path]) -> list[str]:
    """The kinds of key that are known of a server, so that it is asked for one of these."""
    return list(dict.fromkeys(entry.key.kind for entry in _entries(name, files) if not entry.revoked))


def check_host(key: HostKey, name: str, files: Sequence[Path], device: str, address: str) -> None:
    """Passes when a file says that `name` has this key. Raises HostUnknown, HostChanged."""
    entries = list(_entries(name, files))
    for entry in entries:
        if entry.revoked and entry.key == key:
            raise HostChanged(f"{device}: its key {key.fingerprint} is revoked in {entry.place}: do not use it")
    known = [entry for entry in entries if not entry.revoked]
    if any(entry.key == key for entry in known):
        return
    if known:
        old = known[0]
        raise HostChanged(
            f"{device} shows the key {key.kind} {key.fingerprint}, but {old.place} has {old.key.kind} "
            f"{old.key.fingerprint}: it was set up anew, or another machine answers; if you know why, remove that line"
        )
    raise HostUnknown(
        f"{device} shows the key {key.kind} {key.fingerprint}, which {files[0]} does not have: "
        f"`melt devices trust {shlex.quote(address)}` shows it and asks whether it is the right one"
    )


def trust(name: str, key: HostKey, known_hosts: Path) -> None:
    """Adds the key of `name` (`Place.known_as`) to a known-hosts file. Raises UsageError."""
    line = f"{name} {key.kind} {base64.b64encode(key.blob).decode()}\n"
    try:
        known_hosts.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(known_hosts, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    line = f"\n{line}"
            file.write(line.encode())
    except OSError as error:
        raise UsageError(f"{known_hosts} cannot be written: {error.strerror}") from error


def _entries(name: str, files: Sequence[Path]) -> Iterator[_Entry]:
    for path in files:
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(_MAX_BYTES)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            marker = words.pop(0) if words and words[0].startswith("@") else ""
            if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked"):  # noqa: PLR2004
                continue
            if not _matches(name, words[0]):
                continue
            try:
                blob = base64.b64decode(words[2], validate=True)
            except binascii.Error:
                continue
            yield _Entry(HostKey(words[1], blob), f"{path}:{number}", bool(marker))


def _matches(name: str, patterns: str) -> bool:
    if patterns.startswith("|1|"):
        try:
            _, _, salt, digest = patterns.split("|")
            made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
            return hmac.compare_digest(made, base64.b64decode(digest))
        except (ValueError, binascii.Error):
            return False
    found = False
    for word in patterns.split(","):
        # square brackets belong to the name here: only * and ? are patterns
        pattern = word.lstrip("!").replace("[", "[[]").lower()
        if fnmatch.fnmatchcase(name.lower(), pattern):
            if word.startswith("!"):
                return False
            found = True
    return found
