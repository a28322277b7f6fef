"""From an address to a connection that is signed in: resolve, dial, through jump hosts, host key, keys."""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import threading
from typing import TYPE_CHECKING

import paramiko

from melt.errors import TransportError, TransportTimeout, UsageError
from melt.transport.base import Deadline
from melt.transport.ssh_config import Own, Place, find_place
from melt.transport.ssh_hosts import HostKey, check_host, known_kinds
from melt.transport.ssh_link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DIAL_S = 10.0
LOGIN_S = 30.0
_MAX_JUMPS = 8


class LoginRefused(TransportError):
    """The device answers and does not let us in: trying again does not help."""

    transient = False


def sign_in(address: str, own: Own) -> Link:
    """A connection on which commands can be run.

    Raises UsageError (the address or a configuration), HostUnknown, HostChanged, LoginRefused, TransportError.
    """
    return _signed_in(find_place(address, own), own, None, _MAX_JUMPS)


def show_key(address: str, own: Own) -> tuple[Place, HostKey]:
    """The key that a server shows now, without a check and without signing in there. Raises as `sign_in`."""
    place = find_place(address, own)
    link = _reached(place, own, None, _MAX_JUMPS)
    try:
        return place, _key_of(link)
    finally:
        link.close()


def _signed_in(place: Place, own: Own, through: Link | None, jumps_left: int) -> Link:
    link = _reached(place, own, through, jumps_left)
    try:
        check_host(_key_of(link), place.known_as, place.known_hosts, link.name, place.address)
        _authenticate(link, place)
        link.signed_in()
    except BaseException:
        link.close()
        raise
    return link


def _reached(place: Place, own: Own, through: Link | None, jumps_left: int) -> Link:
    """A connection whose key exchange is done; its host key has been looked at by nobody yet."""
    below = through
    try:
        if through is None:
            for jump in place.jumps:
                if not jumps_left:
                    raise UsageError(f"{place.alias}: its ProxyJump in ~/.ssh/config goes round in a circle")
                below = _signed_in(find_place(jump, own), own, below, jumps_left - 1)
        sock = _dial(place) if below is None else _dial_through(below, place)
        link = Link(sock, place.shown, Deadline.after(LOGIN_S), below)
    except BaseException:
        if below is not None and through is None:
            below.close()
        raise
    try:
        options = link.transport.get_security_options()
        known = set(known_kinds(place.known_as, place.known_hosts))
        # first the kinds that are known: any other one that the server has would look like a changed key
        options.key_types = tuple(sorted(options.key_types, key=lambda kind: _kind_of(kind) not in known))
        link.transport.start_client()
    except (paramiko.SSHException, EOFError, OSError) as error:
        link.close()
        if link.why:
            raise link.lost() from error
        if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
            raise TransportError(f"{place.shown} and melt have no way of encryption in common: {error}") from error
        if "banner" in str(error) or "Indecipherable" in str(error):
            raise TransportError(f"{place.shown} does not answer as an SSH server: is the port right?") from error
        raise link.lost() from error
    return link


def _kind_of(algorithm: str) -> str:
    return "ssh-rsa" if algorithm.startswith("rsa-sha2") else algorithm


def _key_of(link: Link) -> HostKey:
    try:
        key = link.transport.get_remote_server_key()
    except paramiko.SSHException as error:
        raise link.lost() from error
    return HostKey(key.get_name(), key.asbytes())


def _dial(place: Place) -> socket.socket:
    deadline = Deadline.after(DIAL_S)
    failed: OSError | None = None
    for family, kind, protocol, _, where in _resolved(place, deadline):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(0.1, deadline.left_s))
            sock.connect(where)
            # without it every command waits for an acknowledgement that the other side delays: 45 ms, not 3
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failed = error
        else:
            return sock
    if isinstance(failed, TimeoutError):
        raise TransportTimeout(f"{place.shown} did not answer within {DIAL_S:g} s: is it on, and on this network?")
    if failed is not None and failed.errno == errno.ECONNREFUSED:
        raise TransportError(f"{place.shown} has nothing listening on that port: is its SSH server on?")
    reason = failed.strerror if failed else "no address"
    raise TransportError(f"{place.shown} cannot be reached ({reason}): look at the network and the address")


def _resolved(place: Place, deadline: Deadline) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    """In a thread: a resolver has time limits of its own, and they are long."""
    answer: queue.SimpleQueue[object] = queue.SimpleQueue()

    def work() -> None:
        try:
            answer.put(socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=work, name="melt resolve", daemon=True).start()
    try:
        found = answer.get(timeout=deadline.left_s)
    except queue.Empty:
        found = TimeoutError("no answer")
    if isinstance(found, list):
        return found
    raise TransportError(
        f"the name '{place.host}' does not resolve ({found}): look at its spelling, or give the number of its address"
    )


def _dial_through(below: Link, place: Place) -> paramiko.Channel:
    try:
        return below.transport.open_channel(
            "direct-tcpip", (place.host, place.port), ("127.0.0.1", 0), window_size=8 << 20, timeout=DIAL_S
        )
    except paramiko.ChannelException as error:
        raise TransportError(
            f"{place.shown} cannot be reached from the jump host {below.name} ({error.text}): "
            f"is it switched on, and does the jump host allow forwarding?"
        ) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        if below.alive:
            raise TransportTimeout(f"{place.shown} did not answer within {DIAL_S:g} s through {below.name}") from error
        raise below.lost() from error


def _authenticate(link: Link, place: Place) -> None:
    tried: list[str] = []
    with contextlib.ExitStack() as stack:
        for name, key in _keys(place, tried, stack):
            if _accepted(link, place, key):
                return
            tried.append(name)
            if not link.alive:
                break
        else:
            if _accepted(link, place, None):  # an account without a password, as boards in a drawer have
                return
    if not link.alive and not tried:
        raise link.lost()
    keys = ", ".join(tried) or "no key was found here"
    where = f"-p {place.port} " if place.port != 22 else ""  # noqa: PLR2004
    raise LoginRefused(
        f"{place.shown} does not let '{place.user}' in (tried: {keys}): "
        f"put a key there, `ssh-copy-id {where}{place.user}@{place.host}`, or name one as IdentityFile in ~/.ssh/config"
    )


def _accepted(link: Link, place: Place, key: paramiko.PKey | None) -> bool:
    try:
        if key is None:
            link.transport.auth_none(place.user)
        else:
            link.transport.auth_publickey(place.user, key)
    except paramiko.AuthenticationException:
        # also what paramiko calls a connection that ends meanwhile: silence is told apart, a server's refusal is not
        if link.why:
            raise link.lost() from None
        return False
    except (paramiko.SSHException, EOFError, OSError) as error:
        if link.alive:
            return False
        raise link.lost() from error
    return link.transport.is_authenticated()


def _keys(place: Place, tried: list[str], stack: contextlib.ExitStack) -> Iterator[tuple[str, paramiko.PKey]]:
    """The person's own files first, then what the agent holds; a file that cannot be used is noted in `tried`."""
    for path in place.identities:
        key = _load(path, tried)
        if key is not None:
            yield str(path), key
    if place.asks_agent:
        try:
            agent = paramiko.Agent()
            stack.callback(agent.close)
            held = agent.get_keys()
        except (paramiko.SSHException, EOFError, OSError):
            return  # a socket that is there and nobody behind it
        for key in held:
            yield f"the agent's {key.get_name()}", key


def _load(path: Path, tried: list[str]) -> paramiko.PKey | None:
    try:
        return paramiko.PKey.from_path(path)
    except FileNotFoundError:
        tried.append(f"{path} is missing")
    except OSError as error:
        tried.append(f"{path} cannot be read, {error.strerror}")
    except (TypeError, paramiko.PasswordRequiredException):
        tried.append(f"{path} needs a passphrase, `ssh-add` it")
    except (ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
        tried.append(f"{path} is no key that melt can read")
    return None
