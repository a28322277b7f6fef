"""Straight to an adb daemon's TCP port, without an adb server.

Messages, their check sums and the signatures are adb-shell's. The connection is our own: one stream each, so that
threads never wait for each other; everything is sent, however little the kernel takes at a time; and a daemon that
does not ask for the sum over every byte (version 0x01000001) is not given one, for that sum costs more than the rest.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

from adb_shell import constants
from adb_shell.adb_message import AdbMessage, unpack
from adb_shell.auth.sign_pythonrsa import PythonRSASigner

from melt.errors import TransportError, UsageError
from melt.transport.adb_link import ANSWER_S, CHUNK, OPEN_S, check_features
from melt.transport.base import Deadline
from melt.transport.over_adb import OverAdb

if TYPE_CHECKING:
    from melt.transport.adb_link import Bytes

_UNSUMMED_VERSION = 0x01000001
_BANNER = b"host::features=shell_v2,cmd,stat_v2\0"
_CONNECT_S = 5.0
_TRUST_S = 10.0
"""How long a person has to answer the question on the device's screen before melt says what it waits for."""
_LINGER_S = 0.5
_IDLE = 4
_ROOM = 1 << 17
_ALL_ONES = 0xFFFFFFFF
_DEFAULT_PORT = 5555


def _wire(name: bytes) -> int:
    return int.from_bytes(name, "little")


_AUTH, _CLSE, _CNXN, _OKAY, _OPEN, _STLS, _WRTE = map(
    _wire, (b"AUTH", b"CLSE", b"CNXN", b"OKAY", b"OPEN", b"STLS", b"WRTE")
)


class AdbTcpTransport(OverAdb):
    """A device whose daemon listens on the network: `adb+tcp://HOST:PORT`, port 5555 if none is named."""

    @classmethod
    def connect(cls, address: str, keys: Path | None = None) -> Self:
        """Reaches the device with the key pair in `keys` (otherwise adb's own folder) if it asks for one.

        Raises UsageError for a malformed address, TransportError with what to do when the device cannot be reached,
        Unsupported when it is older than Android 8.
        """
        try:
            parts = urlsplit(address)
            host, port = parts.hostname, parts.port or _DEFAULT_PORT
        except ValueError as error:
            raise UsageError(f"address '{address}': {error}") from error
        if parts.scheme != "adb+tcp" or not host or parts.path or parts.query or parts.username:
            raise UsageError(f"address '{address}': it should look like adb+tcp://HOST:PORT")
        link = DirectLink(host, port, keys or _key_folder())
        try:
            check_features(link.features(), link.name)
        except BaseException:
            link.close()
            raise
        return cls(address, link)


class Message(NamedTuple):
    """What the daemon sends."""

    command: int
    arg0: int
    arg1: int
    data: memoryview
    """There until the next message is taken."""


class Unsummed(AdbMessage):  # type: ignore[misc] # the library has no types
    """A message whose bytes are not summed up."""

    checksum = 0


class DirectLink:
    """A daemon at a port, with connections that wait for their next stream."""

    def __init__(self, host: str, port: int, keys: Path) -> None:
        self.name = f"device {host}:{port}"
        self._place = (host, port)
        self._keys = keys
        self._idle: list[Connection] = []
        self._lock = threading.Lock()

    def features(self) -> frozenset[str]:
        """What the daemon can do. Raises TransportError when it cannot be reached."""
        connection = self._connected(Deadline.after(OPEN_S))
        self.give_back(connection)
        return connection.features

    def open(self, service: bytes, limit_s: float = OPEN_S) -> DirectChannel:
        deadline = Deadline.after(limit_s)
        connection = self._connected(deadline)
        try:
            return DirectChannel(self, connection, service, deadline)
        except BaseException:
            connection.close()
            raise

    def give_back(self, connection: Connection) -> None:
        """Takes a connection on which no stream is open."""
        with self._lock:
            if len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connected(self, deadline: Deadline) -> Connection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return Connection(self._place, self._keys, self.name, deadline)
            if connection.silent():
                return connection
            connection.close()


class Connection:
    """A connection to the daemon, greeted and trusted."""

    def __init__(self, place: tuple[str, int], keys: Path, name: str, deadline: Deadline) -> None:
        self.moved = 0
        self.name = name
        self.max_data = CHUNK
        self.features: frozenset[str] = frozenset()
        self._sums = True
        self._last_id = 0
        self._out: deque[memoryview] = deque()
        self._head = bytearray(constants.MESSAGE_SIZE)
        self._room = memoryview(bytearray(_ROOM))
        self._body: memoryview | None = None
        self._filled = 0
        self._poll = select.poll()
        try:
            self._wire = socket.create_connection(place, timeout=max(0.01, min(_CONNECT_S, deadline.left_s)))
        except ConnectionRefusedError as error:
            raise TransportError(
                f"nothing listens at {place[0]}:{place[1]}: 'adb tcpip {place[1]}' over USB makes the device listen"
            ) from error
        except OSError as error:
            raise TransportError(f"{name} cannot be reached: {error.strerror or error}") from error
        try:
            self._wire.setblocking(False)
            self._wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._greet(keys, deadline)
        except BaseException:
            self._wire.close()
            raise

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    @property
    def flushed(self) -> bool:
        return not self._out

    def queue(self, command: bytes, arg0: int, arg1: int, data: Bytes = b"") -> None:
        """Appends a message to what is sent; `data` may not change until everything is."""
        kind = AdbMessage if self._sums else Unsummed
        # the library sums up bytes and bytearrays only
        message = kind(command, arg0, arg1, bytes(data) if self._sums else data)
        self._out.append(memoryview(message.pack()))
        if data:
            self._out.append(memoryview(data))

    def exchange(self, wait_s: float) -> Message | None:
        """Sends what is queued and takes the next message, waiting for progress at most `wait_s`.

        Raises TransportError when the daemon is gone.
        """
        before = self.moved
        try:
            self._flush()
            message = self._take()
            if message is None and self.moved == before and wait_s:
                self._poll.register(self._wire, select.POLLIN | (select.POLLOUT if self._out else 0))
                self._poll.poll(wait_s * 1000)
                self._flush()
                message = self._take()
        except OSError as error:
            raise TransportError(f"{self.name} hung up ({error.strerror or error}): look at its network") from error
        return message

    def expect(self, deadline: Deadline, what: str) -> Message:
        """The next message. Raises TransportError when none comes in time."""
        while (message := self.exchange(deadline.left_s)) is None:
            if not deadline.left_s:
                raise TransportError(f"{self.name} does not answer ({what}): look at its network")
        return message

    def silent(self) -> bool:
        """Whether the daemon has neither hung up nor left anything unread."""
        return not self._out and not select.select([self._wire], [], [], 0)[0]

    def close(self) -> None:
        self._wire.close()

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._wire.sendmsg(list(self._out)[:16])
            except BlockingIOError:
                return
            self.moved += sent
            while sent:
                step = min(sent, len(self._out[0]))
                sent -= step
                if step == len(self._out[0]):
                    self._out.popleft()
                else:
                    self._out[0] = self._out[0][step:]

    def _take(self) -> Message | None:
        """The next message if all of it is here."""
        while True:
            goal = memoryview(self._head) if self._body is None else self._body
            if self._filled < len(goal):
                try:
                    got = self._wire.recv_into(goal[self._filled :])
                except BlockingIOError:
                    return None
                if not got:
                    raise ConnectionResetError("end of stream")
                self._filled += got
                self.moved += got
                continue
            command, arg0, arg1, length, _ = unpack(bytes(self._head))
            if command ^ int.from_bytes(self._head[-4:], "little") != _ALL_ONES:
                # to take it for a message would be to wait for ever, or to take what is no data for data
                raise TransportError(
                    f"{self.name} sent what is no message: the link is broken, or no adb daemon is there"
                )
            if self._body is None and length:
                if length > CHUNK:
                    raise TransportError(f"{self.name} announced {length} bytes: no adb daemon is there")
                if length > len(self._room):
                    self._room = memoryview(bytearray(CHUNK))
                self._body, self._filled = self._room[:length], 0
                continue
            message = Message(command, arg0, arg1, self._room[:length])
            self._body, self._filled = None, 0
            return message

    def _greet(self, keys: Path, deadline: Deadline) -> None:
        self.queue(constants.CNXN, _UNSUMMED_VERSION, CHUNK, _BANNER)
        message = self.expect(deadline, "greeting")
        if message.command == _AUTH:
            message = self._authenticated(message, keys, deadline)
        if message.command == _STLS:
            raise TransportError(
                f"{self.name} wants a paired, encrypted link, which only the adb server speaks: "
                f"'adb pair', 'adb connect', then use adb://{self.name.removeprefix('device ')}"
            )
        if message.command != _CNXN:
            raise TransportError(f"{self.name} greets with {message.command:#x}: no adb daemon is there")
        self._sums = message.arg0 < _UNSUMMED_VERSION
        self.max_data = min(CHUNK, message.arg1)
        _, _, said = bytes(message.data).rstrip(b"\0").decode(errors="replace").partition("features=")
        self.features = frozenset(said.split(";")[0].split(","))

    def _authenticated(self, question: Message, keys: Path, deadline: Deadline) -> Message:
        """Signs the daemon's random bytes; if it does not know the key, offers it and waits for a person."""
        signer = _signer(keys, self.name)
        self.queue(constants.AUTH, constants.AUTH_SIGNATURE, 0, signer.Sign(bytes(question.data)))
        message = self.expect(deadline, "authentication")
        if message.command != _AUTH:
            return message
        if public := signer.GetPublicKey():
            self.queue(constants.AUTH, constants.AUTH_RSAPUBLICKEY, 0, public.strip().encode() + b"\0")
            with contextlib.suppress(TransportError):
                return self.expect(Deadline.after(_TRUST_S), "authentication")
        raise TransportError(
            f"{self.name} does not trust this computer's key {keys / 'adbkey'}: unlock it, accept the question on its "
            f"screen, then try again"
        )


class DirectChannel:
    """The stream of a connection that has just this one."""

    def __init__(self, link: DirectLink, connection: Connection, service: bytes, deadline: Deadline) -> None:
        self._link = link
        self._connection = connection
        self._local = connection.next_id()
        self._remote = 0
        self._ended = False
        self._credit = True
        self._offered = 0
        self._kept: deque[bytes] = deque()
        self._signs: set[int] = set()
        connection.queue(constants.OPEN, self._local, 0, service + b"\0")
        while not self._remote:
            self._await(deadline, "opening a service")
            if self._ended:
                raise TransportError(f"{link.name} refuses the service {service[:40]!r}")

    @property
    def moved(self) -> int:
        return self._connection.moved

    def step(self, data: Bytes, wait_s: float) -> tuple[int, Bytes | None]:
        if self._kept:
            return 0, self._kept.popleft()
        if self._ended:
            return 0, b""
        if data and self._credit and not self._offered:
            # a slice would be a copy
            chunk = memoryview(data)[: self._connection.max_data]
            self._connection.queue(constants.WRTE, self._local, self._remote, chunk)
            self._credit, self._offered = False, len(chunk)
        message = self._connection.exchange(wait_s)
        got = None if message is None else self._handle(message)
        taken = 0
        if self._connection.flushed:
            taken, self._offered = self._offered, 0
        return taken, b"" if self._ended else got

    def probe(self) -> None:
        """A second stream on the same connection: what another connection could do says nothing about this one."""
        sign = self._connection.next_id()
        self._signs.add(sign)
        self._connection.queue(constants.OPEN, sign, 0, b"sync:\0")
        deadline = Deadline.after(ANSWER_S)
        while sign in self._signs:
            self._await(deadline, "sign of life")

    def close(self, *, finished: bool = False) -> None:
        """Keeps the connection for the next stream if the daemon ends this one."""
        connection, end = self._connection, Deadline.after(_LINGER_S)
        with contextlib.suppress(TransportError):
            while finished and not self._ended and end.left_s:
                self._await(end, "the end of a service")
            while self._ended and not connection.flushed and end.left_s:
                connection.exchange(end.left_s)
            if self._ended and connection.flushed and not self._signs:
                self._link.give_back(connection)
                return
        connection.close()

    def _await(self, deadline: Deadline, what: str) -> None:
        """Takes one message, and keeps what it brings for the next step."""
        if got := self._handle(self._connection.expect(deadline, what)):
            self._kept.append(bytes(got))

    def _handle(self, message: Message) -> Bytes | None:
        """Answers a message; the data that it brings."""
        connection = self._connection
        if message.arg1 in self._signs:
            self._signs.discard(message.arg1)
            if message.command == _OKAY:
                connection.queue(constants.CLSE, message.arg1, message.arg0)
        elif message.arg1 != self._local:
            return None
        elif message.command == _OKAY:
            self._remote = message.arg0
            self._credit = True
        elif message.command == _WRTE:
            connection.queue(constants.OKAY, self._local, self._remote)
            return message.data or None
        elif message.command == _CLSE:
            if not self._ended and self._remote:
                connection.queue(constants.CLSE, self._local, self._remote)
            self._ended = True
        return None


def _key_folder() -> Path:
    home = os.environ.get("ANDROID_USER_HOME")
    return Path(home) if home else Path.home() / ".android"


def _signer(keys: Path, name: str) -> PythonRSASigner:
    private, public = keys / "adbkey", keys / "adbkey.pub"
    try:
        return PythonRSASigner(public.read_text() if public.exists() else None, private.read_text())
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise TransportError(
            f"{name} asks for a key and {private} cannot be used ({error}): 'adb keygen {private}' makes one"
        ) from error
