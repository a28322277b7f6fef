"""What a daemon on the network may ask for or lack: keys, sums over every byte, encryption, patience."""

from __future__ import annotations

import secrets
import socket
import struct
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest
from adbd import ADB, free_port
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from peers import LIMIT_S

from melt.errors import TransportError, Unsupported, UsageError
from melt.transport import Deadline
from melt.transport.adb_tcp import AdbTcpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from adbd import AdbPeers

HEAD = struct.Struct("<4s5I")
FEATURES = b"device::ro.product.name=x;features=shell_v2,cmd,stat_v2"
PLAIN, SUMMED = 0x01000001, 0x01000000


class Scripted:
    """The daemon's side of one connection, a step at a time; everything it is sent has to be well-formed."""

    def __init__(self, wire: socket.socket, *, summed: bool = False) -> None:
        self._wire = wire
        self._summed = summed

    def say(self, command: bytes, arg0: int = 0, arg1: int = 0, data: bytes = b"", piece: int = 1 << 20) -> None:
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        message = HEAD.pack(command, arg0, arg1, len(data), sum(data) & 0xFFFFFFFF, magic) + data
        for at in range(0, len(message), piece):
            self._wire.sendall(message[at : at + piece])

    def hear(self, command: bytes, piece: int = 1 << 20) -> tuple[int, int, bytes]:
        """The next message, which must be such a one."""
        said, arg0, arg1, length, total, magic = HEAD.unpack(self._exactly(HEAD.size, piece))
        data = self._exactly(length, piece)
        assert said == command
        assert magic == int.from_bytes(command, "little") ^ 0xFFFFFFFF
        if self._summed or command in (b"CNXN", b"AUTH"):
            assert total == sum(data) & 0xFFFFFFFF
        return arg0, arg1, data

    def greet(self, version: int = PLAIN, banner: bytes = FEATURES) -> None:
        self.hear(b"CNXN")
        self.say(b"CNXN", version, 4096, banner)

    def shell(self, *, piece: int = 1 << 20) -> bytes:
        """Answers one command as a shell would that echoes its stdin; what it was asked for."""
        local, _, service = self.hear(b"OPEN")
        self.say(b"OKAY", 7, local, piece=piece)
        stdin, packets = b"", b""
        while True:
            _, _, data = self.hear(b"WRTE", piece)
            self.say(b"OKAY", 7, local, piece=piece)
            packets += data
            while len(packets) >= 5 and len(packets) >= 5 + int.from_bytes(packets[1:5], "little"):
                size = int.from_bytes(packets[1:5], "little")
                kind, content, packets = packets[0], packets[5 : 5 + size], packets[5 + size :]
                stdin += content
                if kind == 4:
                    break
            else:
                continue
            break
        for kind, content in ((1, b"12345\n"), (1, stdin), (2, b"complaint"), (3, b"\xff")):
            for at in range(0, len(content), 3000):
                part = content[at : at + 3000]
                self.say(b"WRTE", 7, local, bytes([kind]) + len(part).to_bytes(4, "little") + part, piece=piece)
                self.hear(b"OKAY", piece)
        self.say(b"CLSE", 7, local)
        self.hear(b"CLSE")
        return service

    def _exactly(self, size: int, piece: int) -> bytes:
        got = b""
        while len(got) < size:
            part = self._wire.recv(min(piece, size - len(got)))
            if not part:
                raise ConnectionResetError
            got += part
        return got


@contextmanager
def a_daemon(script: Callable[[Scripted], None], *, summed: bool = False, buffer: int = 0) -> Iterator[str]:
    """The address of a daemon that plays `script` on each connection; what goes wrong in it fails the test."""
    wrong: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)

        def serve() -> None:
            while True:
                try:
                    wire, _ = listener.accept()
                except OSError:
                    return
                with wire:
                    try:
                        script(Scripted(wire, summed=summed))
                    except (ConnectionError, TimeoutError):
                        pass
                    except BaseException as error:  # noqa: BLE001 - handed to the test
                        wrong.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"adb+tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert wrong == []


def keys(folder: Path) -> tuple[Path, rsa.RSAPublicKey]:
    """A key pair as adb itself makes it."""
    folder.mkdir()
    subprocess.run([ADB, "keygen", folder / "adbkey"], check=True, capture_output=True, env={"HOME": str(folder)})
    private = load_pem_private_key((folder / "adbkey").read_bytes(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    return folder, private.public_key()


def echoed(address: str, keys: Path | None = None, size: int = 20_000) -> None:
    transport = AdbTcpTransport.connect(address, keys)
    data = secrets.token_bytes(size)
    done = transport.run(["program", "a b"], deadline=Deadline.after(LIMIT_S), stdin=data)
    transport.close()
    assert (done.code, done.stdout, done.stderr) == (255, data, b"complaint")


def test_a_command_passes_with_what_the_daemon_asks_for(tmp_path: Path) -> None:
    def script(daemon: Scripted) -> None:
        daemon.greet()
        assert daemon.shell() == b"shell,v2,raw:echo $$;exec program 'a b'\0"

    with a_daemon(script) as address:
        echoed(address)


def test_an_old_daemon_gets_the_sum_over_every_byte() -> None:
    def script(daemon: Scripted) -> None:
        daemon.greet(SUMMED)
        daemon.shell()

    with a_daemon(script, summed=True) as address:
        echoed(address)


def test_messages_may_come_and_go_in_any_pieces() -> None:
    def script(daemon: Scripted) -> None:
        daemon.greet()
        daemon.shell(piece=7)

    with a_daemon(script, buffer=2048) as address:
        echoed(address)


def test_a_daemon_that_asks_for_a_key_is_given_a_signature(tmp_path: Path) -> None:
    folder, public = keys(tmp_path / "keys")

    def script(daemon: Scripted) -> None:
        daemon.hear(b"CNXN")
        token = secrets.token_bytes(20)
        daemon.say(b"AUTH", 1, 0, token)
        kind, _, signature = daemon.hear(b"AUTH")
        assert kind == 2
        public.verify(signature, token, padding.PKCS1v15(), Prehashed(SHA1()))  # noqa: S303 - adb's choice
        daemon.say(b"CNXN", PLAIN, 4096, FEATURES)
        daemon.shell()

    with a_daemon(script) as address:
        echoed(address, folder)


def test_a_key_that_is_new_to_the_device_is_offered_and_may_be_accepted(tmp_path: Path) -> None:
    folder, _ = keys(tmp_path / "keys")

    def script(daemon: Scripted) -> None:
        daemon.hear(b"CNXN")
        for _ in range(2):
            daemon.say(b"AUTH", 1, 0, secrets.token_bytes(20))
            kind, _, offered = daemon.hear(b"AUTH")
        assert kind == 3
        assert offered.rstrip(b"\0").decode() == (folder / "adbkey.pub").read_text().strip()
        time.sleep(0.2)
        daemon.say(b"CNXN", PLAIN, 4096, FEATURES)
        daemon.shell()

    with a_daemon(script) as address:
        echoed(address, folder)


def test_a_key_that_nobody_accepts_says_what_to_do(tmp_path: Path) -> None:
    folder, _ = keys(tmp_path / "keys")

    def script(daemon: Scripted) -> None:
        daemon.hear(b"CNXN")
        for _ in range(2):
            daemon.say(b"AUTH", 1, 0, secrets.token_bytes(20))
            daemon.hear(b"AUTH")

    with a_daemon(script) as address, pytest.raises(TransportError, match="accept the question on its screen"):
        AdbTcpTransport.connect(address, folder)


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    def script(daemon: Scripted) -> None:
        daemon.hear(b"CNXN")
        daemon.say(b"AUTH", 1, 0, secrets.token_bytes(20))

    with a_daemon(script) as address, pytest.raises(TransportError, match="adb keygen"):
        AdbTcpTransport.connect(address, tmp_path)


def test_a_device_that_wants_a_paired_link_is_left_to_the_adb_server() -> None:
    def script(daemon: Scripted) -> None:
        daemon.hear(b"CNXN")
        daemon.say(b"STLS", SUMMED)

    with a_daemon(script) as address, pytest.raises(TransportError, match=r"use adb://127\.0\.0\.1:"):
        AdbTcpTransport.connect(address)


def test_a_device_that_is_too_old_says_so() -> None:
    def script(daemon: Scripted) -> None:
        daemon.greet(SUMMED, b"device::ro.product.name=old")

    with a_daemon(script) as address, pytest.raises(Unsupported, match="Android"):
        AdbTcpTransport.connect(address)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"CNXN" + b"\xff" * 20, b"\0" * 24])
def test_what_is_no_adb_daemon_is_named(said: bytes) -> None:
    def script(daemon: Scripted) -> None:
        daemon.hear(b"CNXN")
        daemon._wire.sendall(said)

    with a_daemon(script) as address, pytest.raises(TransportError, match=r"127\.0\.0\.1"):
        AdbTcpTransport.connect(address)


def test_a_port_where_nothing_listens_says_how_to_make_the_device_listen() -> None:
    with pytest.raises(TransportError, match="adb tcpip"):
        AdbTcpTransport.connect(f"adb+tcp://127.0.0.1:{free_port()}")


def test_a_name_that_does_not_resolve_is_named() -> None:
    with pytest.raises(TransportError, match=r"no-such-host\.invalid"):
        AdbTcpTransport.connect("adb+tcp://no-such-host.invalid:5555")


@pytest.mark.parametrize(
    "address", ["adb+tcp://", "adb+tcp://host:port", "adb+tcp://host:70000", "adb+tcp://me@host", "adb+tcp://host/x"]
)
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"adb\+tcp"):
        AdbTcpTransport.connect(address)


def test_a_daemon_that_begins_its_output_with_something_else_is_not_believed() -> None:
    def script(daemon: Scripted) -> None:
        daemon.greet()
        local, _, _ = daemon.hear(b"OPEN")
        daemon.say(b"OKAY", 7, local)
        daemon.say(b"WRTE", 7, local, b"\1" + (8).to_bytes(4, "little") + b"welcome\n")
        daemon.hear(b"WRTE")

    with a_daemon(script) as address:
        transport = AdbTcpTransport.connect(address)
        with pytest.raises(TransportError, match="welcome"):
            transport.run(["true"], deadline=Deadline.after(LIMIT_S))


@pytest.mark.peer
def test_a_connection_is_used_again_and_one_that_died_meanwhile_is_not(adb_peers: AdbPeers) -> None:
    transport = adb_peers.connect("adb-tcp")
    for _ in range(2):
        before = connections(adb_peers)
        assert all(transport.run(["true"], deadline=Deadline.after(LIMIT_S)).ok for _ in range(20))
        assert connections(adb_peers) == before == 1
        adb_peers.daemon.kill()
        adb_peers.daemon.start()
        assert transport.run(["true"], deadline=Deadline.after(LIMIT_S)).ok
    transport.close()


def connections(peers: AdbPeers) -> int:
    """How many clients the daemon has that are of this process."""
    ends = peers.daemon.process.net_connections("tcp")
    own = psutil.Process().net_connections("tcp")
    mine = {end.laddr.port for end in own if end.raddr and end.raddr.port == peers.daemon.port}
    return sum(end.status == "ESTABLISHED" and end.raddr.port in mine for end in ends)
