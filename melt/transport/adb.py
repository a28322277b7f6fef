"""Devices behind the adb server of this computer: USB, network, paired Wireless debugging.

The server that runs is used, whoever started it, and never restarted: only one can hold a USB device, and replacing it
would end every session of everybody. Its protocol: a request is four hexadecimal digits and so many bytes, the answer
`OKAY`, or `FAIL` and a reason; after `host:transport:SERIAL` and a service the connection is that service's.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from melt.errors import TransportError, UsageError, nearest
from melt.transport.adb_devices import USABLE, advice, read_list
from melt.transport.adb_link import ANSWER_S, OPEN_S, check_features
from melt.transport.base import Deadline
from melt.transport.local import LocalTransport
from melt.transport.over_adb import OverAdb

if TYPE_CHECKING:
    from melt.transport.adb_devices import Listed
    from melt.transport.adb_link import Bytes

_OLDEST_SERVER = 39
_CONNECT_S = 5.0
_START_S = 20.0
_SETTLE_S = 5.0
_SERIAL = re.compile(r"[^\s/\x00-\x1f]+")
_NETWORK = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:]+):\d{1,5}")
_RECEIVE = 1 << 18
_CONNECTED = "already connected"
_UNSETTLED = ("connecting", "authorizing", "offline")


class AdbTransport(OverAdb):
    """A device that the adb server reaches, by its serial number: `adb://SERIAL`, or `adb://` for the only one."""

    @classmethod
    def connect(cls, address: str, server: Server | None = None) -> Self:
        """Reaches the device, starting an adb server if none runs.

        Raises UsageError for a malformed address, TransportError with what to do when the device cannot be reached,
        Unsupported when it is older than Android 8.
        """
        serial = address.removeprefix("adb:").removeprefix("//")
        if serial and not _SERIAL.fullmatch(serial):
            raise UsageError(f"address '{address}': after adb:// comes a serial number as 'adb devices' shows it")
        server = server or Server.of_this_computer()
        server.begin()
        link = ServerLink(server, serial or server.only_device())
        check_features(link.features(), link.name)
        return cls(address, link)


@dataclass(frozen=True)
class Server:
    """The adb server at a place."""

    host: str = "127.0.0.1"
    port: int = 5037

    @classmethod
    def of_this_computer(cls) -> Self:
        """The server that the environment names as adb's own programs read it. Raises UsageError."""
        name, port = os.environ.get("ANDROID_ADB_SERVER_ADDRESS"), os.environ.get("ANDROID_ADB_SERVER_PORT")
        if place := os.environ.get("ADB_SERVER_SOCKET"):
            kind, _, rest = place.partition(":")
            name, _, port = rest.rpartition(":")
            if kind != "tcp":
                raise UsageError(f"ADB_SERVER_SOCKET={place}: only tcp:HOST:PORT is known")
        if port and not (port.isdigit() and 0 < int(port) < 65536):  # noqa: PLR2004
            raise UsageError(f"the adb server's port '{port}' in the environment is not a port")
        return cls(name or cls.host, int(port) if port else cls.port)

    def begin(self) -> None:
        """Sees to it that a server answers, and one that is new enough. Raises TransportError."""
        try:
            said = self.ask("host:version")
        except ConnectionRefusedError:
            said = self._started()
        if int(said, 16) < _OLDEST_SERVER:
            raise TransportError(
                f"{self} is version {int(said, 16)} and melt needs {_OLDEST_SERVER}: "
                f"update Android's platform-tools, then 'adb kill-server'"
            )

    def _started(self) -> str:
        """Starts the server; its version."""
        failed: TransportError | None = None
        try:
            self._start()
        except TransportError as error:
            failed = error  # two at once cannot both start it: the other's is as good
        try:
            return self.ask("host:version")
        except ConnectionRefusedError as error:
            raise failed or TransportError(f"{self} was started and does not answer: try again") from error

    def only_device(self) -> str:
        """The serial of the one device that is there. Raises TransportError when there is none, or several."""
        known = self.devices()
        serials = sorted(serial for serial, state in known.items() if state == USABLE)
        if len(serials) > 1:
            raise TransportError(f"{self} has several devices: name one, {', '.join(f'adb://{s}' for s in serials)}")
        if not serials:
            told = [f"device {serial} {what}" for serial, state in known.items() if (what := advice(state))]
            raise TransportError(told[0] if told else f"{self} has no device: plug it in, allow USB debugging")
        return serials[0]

    def devices(self) -> dict[str, str]:
        """Each known serial with its state, `device` when all is well. Raises TransportError."""
        lines = [line.split("\t") for line in self.ask("host:devices").splitlines()]
        return {words[0]: words[1] for words in lines if len(words) > 1}

    def listed(self) -> tuple[Listed, ...]:
        """Every known device with what the server tells of it; starts no server.

        Raises ConnectionRefusedError when none runs, otherwise TransportError.
        """
        return read_list(self.ask("host:devices-l"))

    def ask(self, question: str, limit_s: float = OPEN_S) -> str:
        """The server's own answer. Raises ConnectionRefusedError when none runs, otherwise TransportError."""
        deadline = Deadline.after(limit_s)
        with self.dial(deadline) as wire:
            request(wire, question.encode(), deadline)
            size = int(_exactly(wire, 4, deadline), 16)
            return _exactly(wire, size, deadline).decode(errors="replace")

    def dial(self, deadline: Deadline) -> socket.socket:
        """A connection. Raises ConnectionRefusedError when no server runs, otherwise TransportError."""
        try:
            wire = socket.create_connection((self.host, self.port), timeout=max(0.01, min(_CONNECT_S, deadline.left_s)))
        except ConnectionRefusedError:
            raise
        except OSError as error:
            raise TransportError(f"{self} cannot be reached: {error.strerror or error}") from error
        wire.setblocking(False)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return wire

    def _start(self) -> None:
        if self.host not in ("127.0.0.1", "localhost", "::1"):
            raise TransportError(f"{self} does not answer: start it there with 'adb -a start-server'")
        # without ADB_MDNS=0 some networks make the server hang; a server outlives its starter and keeps no pipe of it
        argv = ["env", "ADB_MDNS=0", adb_program(), "-P", str(self.port), "start-server"]
        done = LocalTransport().run(argv, deadline=Deadline.after(_START_S))
        if not done.ok:
            raise TransportError(f"{self} does not run and could not be started: {done.complaint}")

    def __str__(self) -> str:
        return f"the adb server at {self.host}:{self.port}"


class ServerLink:
    """One device through the server."""

    def __init__(self, server: Server, serial: str) -> None:
        self._server = server
        self._serial = serial
        self.name = f"device {serial}"

    def features(self) -> frozenset[str]:
        """What the device's daemon can do. Raises TransportError when it cannot be reached."""
        # opening a service first puts a network device that the server has lost back in its place
        self.open(b"sync:").close()
        try:
            return frozenset(self._server.ask(f"host-serial:{self._serial}:features").split(","))
        except ConnectionRefusedError as error:
            raise TransportError(f"{self._server} has gone: try again") from error

    def open(self, service: bytes, limit_s: float = OPEN_S) -> ServerChannel:
        deadline = Deadline.after(limit_s)
        try:
            return self._open(service, deadline)
        except ConnectionRefusedError:
            self._server.begin()
        except Refusal as refusal:
            if not refusal.absent:
                raise self._explained(refusal) from refusal
        # a server that has lost a network device, or still holds its dead connection, has to be told
        self._reconnect(deadline)
        try:
            return self._open(service, deadline)
        except ConnectionRefusedError as error:
            raise TransportError(f"{self._server} has gone: try again") from error
        except Refusal as refusal:
            raise self._explained(refusal) from refusal

    def close(self) -> None:
        """Nothing is held: each channel is a connection of its own."""

    def _open(self, service: bytes, deadline: Deadline) -> ServerChannel:
        wire = self._server.dial(deadline)
        try:
            request(wire, f"host:transport:{self._serial}".encode(), deadline)
            request(wire, service, deadline)
        except TransportError as error:
            wire.close()
            if isinstance(error, Refusal):
                raise
            wrong = self._state() or f"does not answer ({error}): look at its cable"
            raise TransportError(f"{self.name} {wrong}") from error
        except BaseException:
            wire.close()
            raise
        return ServerChannel(wire, self)

    def _reconnect(self, deadline: Deadline) -> None:
        if not _NETWORK.fullmatch(self._serial):
            return
        with contextlib.suppress(TransportError):
            self._server.ask(f"host:disconnect:{self._serial}", deadline.left_s)
        # a connection that the server is still taking down is "already connected" to it, and gone a moment later
        said, state = _CONNECTED, None
        while said.startswith(_CONNECTED) and state is None and deadline.left_s:
            said = ""
            with contextlib.suppress(TransportError):
                said = self._server.ask(f"host:connect:{self._serial}", deadline.left_s)
            settled = Deadline.after(min(_SETTLE_S, deadline.left_s))
            while (state := self._server.devices().get(self._serial)) in _UNSETTLED and settled.left_s:
                time.sleep(0.1)

    def _state(self) -> str | None:
        """What the server knows to be wrong with the device."""
        with contextlib.suppress(TransportError, ConnectionRefusedError):
            return advice(self._server.devices().get(self._serial, ""))
        return None

    def _explained(self, refusal: Refusal) -> TransportError:
        if (sentence := advice(refusal.reason)) is not None:
            return TransportError(f"{self.name} {sentence}")
        if refusal.absent:
            known = sorted(self._server.devices())
            hint = nearest(self._serial, known) if known else "no device is plugged in"
            return TransportError(f"{self.name} is unknown to {self._server}: {hint}")
        return TransportError(f"{self.name} cannot be used: {refusal.reason}")


class ServerChannel:
    """A connection to the server that has become a service's."""

    def __init__(self, wire: socket.socket, link: ServerLink) -> None:
        self.moved = 0
        self._wire = wire
        self._link = link
        self._poll = select.poll()
        self._buffer = memoryview(bytearray(_RECEIVE))

    def step(self, data: Bytes, wait_s: float) -> tuple[int, Bytes | None]:
        taken, got = self._try(data)
        if not taken and got is None and wait_s:
            self._poll.register(self._wire, select.POLLIN | (select.POLLOUT if data else 0))
            self._poll.poll(wait_s * 1000)
            taken, got = self._try(data)
        self.moved += taken + (len(got) if got else 0)
        return taken, got

    def _try(self, data: Bytes) -> tuple[int, Bytes | None]:
        """What can be done without waiting; a reset says no more than an end does."""
        try:
            return 0, self._buffer[: self._wire.recv_into(self._buffer)]
        except BlockingIOError:
            pass
        except OSError:
            return 0, b""
        if not data:
            return 0, None
        try:
            return self._wire.send(data), None
        except BlockingIOError:
            return 0, None
        except OSError:
            return 0, b""

    def probe(self) -> None:
        self._link.open(b"sync:", ANSWER_S).close()

    def close(self, *, finished: bool = False) -> None:
        del finished  # a connection to the server serves once
        self._wire.close()


class Refusal(TransportError):
    """The server said no; `reason` in its own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the adb server refuses: {reason}")
        self.reason = reason
        self.absent = "not found" in reason or "offline" in reason or "no devices" in reason


def request(wire: socket.socket, question: bytes, deadline: Deadline) -> None:
    """Asks the server and reads whether it agrees. Raises Refusal or TransportError."""
    _send(wire, b"%04x%b" % (len(question), question), deadline)
    verdict = _exactly(wire, 4, deadline)
    if verdict == b"FAIL":
        size = int(_exactly(wire, 4, deadline), 16)
        raise Refusal(_exactly(wire, size, deadline).decode(errors="replace").strip())
    if verdict != b"OKAY":
        raise TransportError(f"what listens at the adb server's port is not one: it said {verdict!r}")


def adb_program() -> str:
    """The adb of this computer, otherwise the one that comes with adbutils. Raises UsageError."""
    try:
        import adbutils  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UsageError("no adb server runs and there is no adb program: pip install 'melt[adb]'") from error
    return str(adbutils.adb_path())


def _send(wire: socket.socket, data: bytes, deadline: Deadline) -> None:
    left = memoryview(data)
    while left:
        _ready(wire, select.POLLOUT, deadline)
        try:
            left = left[wire.send(left) :]
        except BlockingIOError:
            continue
        except OSError as error:
            raise TransportError(f"the adb server hung up: {error.strerror}") from error


def _exactly(wire: socket.socket, size: int, deadline: Deadline) -> bytes:
    taken = bytearray()
    while len(taken) < size:
        _ready(wire, select.POLLIN, deadline)
        try:
            got = wire.recv(size - len(taken))
        except BlockingIOError:
            continue
        except OSError as error:
            raise TransportError(f"the adb server hung up: {error.strerror}") from error
        if not got:
            raise TransportError("the adb server hung up")
        taken += got
    return bytes(taken)


def _ready(wire: socket.socket, event: int, deadline: Deadline) -> None:
    poll = select.poll()
    poll.register(wire, event)
    if not poll.poll(deadline.left_s * 1000):
        raise TransportError("no answer in time")
