"""Where an `ssh://` address leads: the address itself, and what a person's own `~/.ssh/config` says about it."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import paramiko

from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_PORT = 22
_MAX_CONFIG_BYTES = 1 << 20
_MAX_INCLUDES = 4
_PURE_CRITERIA = frozenset({"all", "canonical", "final", "host", "originalhost", "user", "localuser"})
_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True)
class Place:
    """One server: how it is called, where it listens, who signs in with what, and whose word is taken for its key."""

    address: str
    """As a person writes it, `ssh://` and what `~/.ssh/config` may know."""
    alias: str
    host: str
    port: int
    user: str
    known_as: str
    """What a known-hosts file calls it: `host`, or `[host]:port`."""
    identities: tuple[Path, ...]
    asks_agent: bool
    known_hosts: tuple[Path, ...]
    """The first one is where a key that a person accepts is written."""
    jumps: tuple[str, ...]

    @property
    def shown(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


@dataclass(frozen=True)
class Own:
    """What a caller fixes instead of the person's own files; None leaves it to them."""

    known_hosts: Path | None = None
    config: Path | None = None
    identity: Path | None = None


def find_place(address: str, own: Own) -> Place:
    """The server that an address leads to; the address wins over the configuration. Raises UsageError.

    `?config=FILE` after an address names a configuration that is read instead of `~/.ssh/config`.
    """
    bare, config = _split_config(address)
    user, alias, port = split_address(bare)
    options = _options(alias, config or own.config)
    command = options.get("proxycommand")
    jump = str(options.get("proxyjump") or "none")
    if command and jump == "none":
        raise UsageError(f"{address}: its ProxyCommand is not run by melt: give the host a ProxyJump in ~/.ssh/config")
    host = str(options.get("hostname", alias))
    port = port or _port(str(options.get("port", DEFAULT_PORT)), address)
    name = str(options.get("hostkeyalias", host))
    named = options.get("identityfile")
    identities = tuple(Path(word).expanduser() for word in named) if isinstance(named, list) else ()
    only = str(options.get("identitiesonly", "no")).lower() == "yes"
    return Place(
        address=address if address.startswith("ssh://") else f"ssh://{address}",
        alias=alias,
        host=host,
        port=port,
        user=user or str(options.get("user") or _user()),
        known_as=name if port == DEFAULT_PORT or "hostkeyalias" in options else f"[{name}]:{port}",
        identities=(own.identity,) if own.identity else identities or _default_keys(),
        asks_agent=not own.identity and not only and str(options.get("identityagent", "")).lower() != "none",
        known_hosts=(own.known_hosts,) if own.known_hosts else _known_hosts(options),
        jumps=tuple(word.strip() for word in jump.split(",") if word.strip() and word.strip().lower() != "none"),
    )


def _split_config(address: str) -> tuple[str, Path | None]:
    bare, asks, query = address.partition("?")
    if not asks:
        return address, None
    key, _, value = query.partition("=")
    path = Path(unquote(value))
    if key != "config" or not path.is_absolute():
        raise UsageError(f"address '{address}': only ?config=/FILE may follow it, a configuration in ssh's format")
    return bare, path


def split_address(address: str) -> tuple[str | None, str, int | None]:
    """User, host and port of `ssh://[user@]host[:port]`, or of the same without `ssh://`. Raises UsageError."""
    text = address if address.startswith("ssh://") else f"ssh://{address}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"address '{address}': {error}; write ssh://user@host:port") from error
    if parts.password is not None:
        raise UsageError("an address holds no password: melt signs in with keys only, `ssh-copy-id` installs one")
    host = parts.hostname and parts.netloc.rpartition("@")[2]
    if host and not host.startswith("["):
        host = host.partition(":")[0]  # as it is written: aliases tell capitals apart
    elif host:
        host = parts.hostname
    if not host or host.startswith("-") or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(f"address '{address}' is not understood; write ssh://user@host:port")
    return parts.username or None, host, port


def _port(text: str, address: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 1 << 16:
        raise UsageError(f"{address}: its Port in ~/.ssh/config is '{text}', which is no port")
    return int(text)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise UsageError("this account has no name: write the user into the address, ssh://user@host") from error


def _default_keys() -> tuple[Path, ...]:
    found = (Path.home() / ".ssh" / name for name in _DEFAULT_KEYS)
    return tuple(path for path in found if path.is_file())


def _known_hosts(options: paramiko.SSHConfigDict) -> tuple[Path, ...]:
    text = str(options.get("userknownhostsfile", "~/.ssh/known_hosts"))
    # the reader takes quotes off that go round all of it, and with them what tells a space in a name from one between
    words = [text] if Path(text).is_file() else text.split()
    return (*(Path(word.strip('"')).expanduser() for word in words), _SYSTEM_KNOWN_HOSTS)


def _options(alias: str, config: Path | None) -> paramiko.SSHConfigDict:
    path = config or Path.home() / ".ssh" / "config"
    if not path.exists() and config is None:
        return paramiko.SSHConfigDict(hostname=alias)
    try:
        return paramiko.SSHConfig.from_text("\n".join(_harmless(path, 0))).lookup(alias)
    except (paramiko.ssh_exception.ConfigParseError, paramiko.ssh_exception.CouldNotCanonicalize, ValueError) as error:
        raise UsageError(f"{path} is not understood: {error}") from error


def _harmless(path: Path, depth: int) -> Iterator[str]:
    """The lines of a configuration with what it includes; `Match exec`, which would run a program, matches nothing."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_CONFIG_BYTES)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    for line in text.splitlines():
        key, _, value = re.sub(r"^(\w+)\s*=\s*", r"\1 ", line.strip()).partition(" ")
        if key.lower() == "match" and not _is_pure(value):
            yield "Host !*"
        elif key.lower() == "include" and depth < _MAX_INCLUDES:
            for pattern in value.split():
                place = Path(pattern.strip('"')).expanduser()
                base = place if place.is_absolute() else Path.home() / ".ssh" / place
                for included in sorted(base.parent.glob(base.name)):
                    yield from _harmless(included, depth + 1)
        else:
            yield line


def _is_pure(criteria: str) -> bool:
    """Whether a Match line only compares names."""
    words = criteria.replace("=", " ").split()
    while words:
        word = words.pop(0).lstrip("!").lower()
        if word not in _PURE_CRITERIA:
            return False
        if word not in ("all", "canonical", "final"):
            del words[:1]
    return True
