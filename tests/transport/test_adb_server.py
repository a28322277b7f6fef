"""What an adb server may say instead of yes, each as one sentence that tells what to do."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from adbd import free_port
from peers import LIMIT_S

from melt.errors import TransportError, Unsupported, UsageError
from melt.transport import Deadline
from melt.transport.adb import AdbTransport, Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from adbd import AdbPeers

YES: Mapping[str, str | None] = {
    "host:version": "0029",
    "host:devices": "abc123\tdevice\nabd999\tunauthorized\n",
    "host:transport:abc123": None,
    "sync:": None,
    "host-serial:abc123:features": "shell_v2,cmd,stat_v2",
}


@contextmanager
def a_server(answers: Mapping[str, str | None]) -> Iterator[Server]:
    """A server that knows these questions: None for a bare yes, `!REASON` for a no, "~" for hanging up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def exactly(wire: socket.socket, size: int) -> bytes:
            return wire.recv(size, socket.MSG_WAITALL)

        def serve() -> None:
            while True:
                try:
                    wire, _ = listener.accept()
                except OSError:
                    return
                with wire:
                    while size := exactly(wire, 4):
                        answer = answers.get(exactly(wire, int(size, 16)).decode(), "!unknown host service")
                        if answer is None:
                            wire.sendall(b"OKAY")
                            continue
                        if answer == "~":
                            break
                        text = answer.removeprefix("!")
                        verdict = "FAIL" if answer.startswith("!") else "OKAY"
                        wire.sendall(f"{verdict}{len(text):04x}{text}".encode())
                        break

        thread = threading.Thread(target=serve)
        thread.start()
        yield Server(port=listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def complaint(address: str, answers: Mapping[str, str | None]) -> str:
    with a_server({**YES, **answers}) as server, pytest.raises(TransportError) as caught:
        AdbTransport.connect(address, server)
    return str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", "accept the question on its screen"),
        ("device still authorizing", "accept the question on its screen"),
        ("device offline", "plug it in again"),
        ("insufficient permissions for device: user in plugdev group", "udev rules"),
        ("device 'abc123' not found", "did you mean 'abc123'"),
        ("closed", "cannot be used: closed"),
    ],
)
def test_a_device_that_the_server_refuses_gives_one_sentence_with_what_to_do(said: str, told: str) -> None:
    text = complaint("adb://abc123", {"host:transport:abc123": f"!{said}"})
    assert text.startswith("device abc123 ")
    assert told in text
    assert "\n" not in text


def test_a_server_that_gives_no_answer_is_asked_what_is_wrong_with_the_device() -> None:
    silent: dict[str, str | None] = {"host:transport:abc123": "~"}
    assert "is offline" in complaint("adb://abc123", {**silent, "host:devices": "abc123\toffline\n"})
    assert "does not answer" in complaint("adb://abc123", silent)


def test_an_unknown_serial_is_named_with_the_nearest_known_one() -> None:
    unknown = {"host:transport:abc132": "!device 'abc132' not found"}
    assert "did you mean 'abc123'?" in complaint("adb://abc132", unknown)
    assert "no device is plugged in" in complaint("adb://abc132", {**unknown, "host:devices": ""})


def test_without_a_serial_the_only_device_is_meant() -> None:
    with a_server(YES) as server:
        assert AdbTransport.connect("adb://", server).address == "adb://"
    assert "adb://abc123, adb://x" in complaint("adb://", {"host:devices": "x\tdevice\nabc123\tdevice\n"})
    assert "plug it in" in complaint("adb://", {"host:devices": "x\toffline\n"})


def test_a_server_that_is_too_old_is_not_replaced_but_named() -> None:
    text = complaint("adb://abc123", {"host:version": "001f"})
    assert "version 31" in text
    assert "update Android's platform-tools" in text


def test_a_port_where_something_else_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            wire, _ = listener.accept()
            with wire:
                wire.recv(100)
                wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(TransportError, match="HTTP"):
            AdbTransport.connect("adb://abc123", Server(port=listener.getsockname()[1]))
        thread.join()


def test_a_device_that_is_too_old_says_so() -> None:
    answers = {**YES, "host-serial:abc123:features": "cmd"}
    with a_server(answers) as server, pytest.raises(Unsupported, match="shell_v2 and stat_v2"):
        AdbTransport.connect("adb://abc123", server)


def test_a_server_elsewhere_is_not_started() -> None:
    with pytest.raises(TransportError, match="start it there"):
        AdbTransport.connect("adb://abc123", Server(host="127.0.0.2", port=free_port()))


@pytest.mark.parametrize("address", ["adb://two words", "adb://a/b", "adb://a\nb"])
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="adb devices"):
        AdbTransport.connect(address)


@pytest.mark.peer
def test_what_the_real_server_says_of_an_unknown_device_and_an_unreachable_one_is_understood(
    adb_peers: AdbPeers,
) -> None:
    with pytest.raises(TransportError, match="device nobody is unknown to the adb server"):
        AdbTransport.connect("adb://nobody", adb_peers.server.place)
    gone = f"127.0.0.1:{free_port()}"
    with pytest.raises(TransportError, match=f"device {gone} is unknown to the adb server"):
        AdbTransport.connect(f"adb://{gone}", adb_peers.server.place)


@pytest.mark.peer
def test_a_network_device_that_the_server_forgot_is_found_again(adb_peers: AdbPeers) -> None:
    transport = adb_peers.connect("adb")
    adb_peers.server.forget(adb_peers.daemon)
    assert transport.run(["echo", "back"], deadline=Deadline.after(LIMIT_S)).stdout == b"back\n"
