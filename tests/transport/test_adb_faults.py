"""A real adb daemon and a real adb server that are killed and frozen in every state, over both ways to them."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import pytest
from adbd import ADB_WAYS, OwnServer, until
from peers import LIMIT_S, Peer

from melt.errors import DeviceError, TransportError, TransportTimeout
from melt.transport import Deadline, Transport
from melt.transport.adb import AdbTransport
from melt.transport.adb_tcp import AdbTcpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from adbd import AdbPeers, Daemon

pytestmark = pytest.mark.peer

NOTICED_S = 15.0
"""A dead peer is noticed before this: a TransportTimeout would say that it was the deadline that passed."""
HUGE = 3 << 30
"""Sparse, and so large that nobody copies it before it is cut."""


def reach(way: str, daemon: Daemon, server: OwnServer) -> Transport:
    if way == "adb":
        return AdbTransport.connect(f"adb://{daemon.serial}", server.place)
    return AdbTcpTransport.connect(f"adb+tcp://{daemon.serial}")


@dataclass
class Attempt:
    """One verb of a transport, tried in a thread."""

    state: str
    thread: threading.Thread
    raised: list[BaseException] = field(default_factory=list)

    def outcome(self) -> BaseException:
        self.thread.join(3 * NOTICED_S)
        assert not self.thread.is_alive(), self.state
        assert len(self.raised) == 1, f"nothing was raised by {self.state}"
        return self.raised[0]


@dataclass
class Trial:
    """A transport to a daemon of its own, and a folder of its device."""

    transport: Transport
    daemon: Daemon
    folder: Path

    def begin(self, state: str) -> Attempt:
        verb: Callable[[Deadline], None] = getattr(self, state)

        def tried() -> None:
            try:
                verb(Deadline.after(NOTICED_S))
            except BaseException as error:  # noqa: BLE001 - handed to the test
                attempt.raised.append(error)

        attempt = Attempt(state, threading.Thread(target=tried))
        attempt.thread.start()
        return attempt

    def run(self, deadline: Deadline) -> None:
        self.transport.run(["sh", "-c", "echo here > begun.run; exec sleep 600"], deadline=deadline)

    def read(self, deadline: Deadline) -> None:
        process = self.transport.start(["sh", "-c", "echo here > begun.read; echo one; exec sleep 600"])
        try:
            while process.read(deadline):
                pass
        finally:
            process.close()

    def push(self, deadline: Deadline) -> None:
        self.transport.push(self.folder / "huge", str(self.folder / "device" / "there"), deadline=deadline)

    def pull(self, deadline: Deadline) -> None:
        target = self.folder / "back"
        self.transport.pull(str(self.folder / "huge"), target, deadline=deadline, limit_bytes=HUGE)

    def wait_begun(self, attempt: Attempt) -> None:
        """Until it is under way on the device."""
        found = {"push": "device/.melt-*.part", "pull": ".back.*.part"}.get(attempt.state, f"begun.{attempt.state}")
        until(f"{attempt.state} to begin", lambda: any(part.stat().st_size for part in self.parts(found)))

    def parts(self, pattern: str) -> list[Path]:
        return list(self.folder.glob(pattern))

    def again(self) -> bytes:
        """What a command says, once the daemon that came back has done with the connections it had before."""
        end = Deadline.after(LIMIT_S)
        while True:
            try:
                return self.transport.run(["echo", "again"], deadline=end).stdout
            except TransportError:
                if not end.left_s:
                    raise
                time.sleep(0.1)


@pytest.fixture(params=ADB_WAYS)
def trial(request: pytest.FixtureRequest, adb_peers: AdbPeers, own_daemon: Daemon, tmp_path: Path) -> Iterator[Trial]:
    transport = reach(request.param, own_daemon, adb_peers.server)
    (tmp_path / "device").mkdir()
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(HUGE)
    yield Trial(transport, own_daemon, tmp_path)
    transport.close()


STATES = ["run", "read", "push", "pull"]


@pytest.mark.parametrize("state", STATES)
def test_a_daemon_that_is_killed_is_a_lost_link_and_never_an_exit_code(trial: Trial, state: str) -> None:
    attempt = trial.begin(state)
    trial.wait_begun(attempt)
    trial.daemon.kill()
    lost = attempt.outcome()
    assert isinstance(lost, TransportError)
    assert not isinstance(lost, TransportTimeout)
    assert trial.daemon.serial in str(lost)
    assert not (trial.folder / "back").exists()
    assert not (trial.folder / "device" / "there").exists()
    trial.daemon.start()
    assert trial.again() == b"again\n"


def test_a_daemon_that_freezes_is_noticed_in_time_whatever_is_under_way(trial: Trial) -> None:
    attempts = [trial.begin(state) for state in STATES]
    for attempt in attempts:
        trial.wait_begun(attempt)
    trial.daemon.freeze()
    lost = {attempt.state: attempt.outcome() for attempt in attempts}
    trial.daemon.thaw()
    for error in lost.values():
        assert isinstance(error, TransportError)
        assert not isinstance(error, TransportTimeout), lost
        assert trial.daemon.serial in str(error)
    # thawed, the daemon finds its client gone and takes the part away
    until("the part to go", lambda: not trial.parts("device/.*") and not trial.parts(".back.*"))
    assert trial.again() == b"again\n"


def test_a_frozen_daemon_is_noticed_in_time_before_anything_begins(trial: Trial) -> None:
    trial.daemon.freeze()
    lost = {state: trial.begin(state) for state in STATES}
    outcomes = {state: attempt.outcome() for state, attempt in lost.items()}
    trial.daemon.thaw()
    for error in outcomes.values():
        assert isinstance(error, TransportError)
        assert not isinstance(error, TransportTimeout), outcomes
        assert trial.daemon.serial in str(error)


def test_a_silent_command_on_a_living_device_is_left_alone(trial: Trial) -> None:
    """Longer than the silence after which the device is asked for a sign of life, twice."""
    done = trial.transport.run(["sh", "-c", "sleep 7; echo done; exit 3"], deadline=Deadline.after(LIMIT_S))
    assert (done.code, done.stdout) == (3, b"done\n")


def test_a_daemon_killed_with_its_process_tree_is_a_lost_link(trial: Trial) -> None:
    attempt = trial.begin("run")
    trial.wait_begun(attempt)
    trial.daemon.kill(with_children=True)
    assert type(attempt.outcome()) is TransportError


def test_a_command_that_says_too_much_is_ended(trial: Trial) -> None:
    peer = Peer(trial.transport, str(trial.folder))
    with pytest.raises(DeviceError, match="64 MiB") as caught:
        peer.sh("echo $$ > pid; exec cat /dev/zero")
    assert caught.value.code == "output"
    (pid,) = trial.parts("pid")
    assert peer.gone(int(pid.read_text()))


def test_what_is_read_as_it_comes_may_be_long(trial: Trial) -> None:
    process = trial.transport.start(["head", "-c", str(100 << 20), "/dev/zero"])
    size, deadline = 0, Deadline.after(LIMIT_S)
    while chunk := process.read(deadline):
        size += len(chunk)
    assert process.wait(deadline).code == 0
    process.close()
    assert size == 100 << 20


def test_a_large_file_comes_back_as_it_went(trial: Trial, tmp_path: Path) -> None:
    source, back = tmp_path / "large", tmp_path / "large.back"
    source.write_bytes(random.Random(1).randbytes(200_000_003))
    trial.transport.push(source, str(tmp_path / "device" / "large"), deadline=Deadline.after(LIMIT_S))
    trial.transport.pull(
        str(tmp_path / "device" / "large"), back, deadline=Deadline.after(LIMIT_S), limit_bytes=200_000_003
    )
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (source, tmp_path / "device" / "large", back)}
    assert len(hashes) == 1


def test_a_command_longer_than_one_request_arrives_whole(trial: Trial) -> None:
    words = ["'\n\\" + "é$(x)" * 10_000, "", "b" * 100_000, "last"]
    argv = ["sh", "-c", 'cat; printf "%s\\0" "$@"', "sh", *words]
    done = trial.transport.run(argv, deadline=Deadline.after(LIMIT_S), stdin=b"first\n")
    assert done.stdout.decode() == "first\n" + "".join(f"{word}\0" for word in words)


def test_a_read_only_place_is_named(trial: Trial, tiny_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    (tmp_path / "small").write_bytes(b"new")
    with pytest.raises(DeviceError, match="read-only") as caught:
        trial.transport.push(tmp_path / "small", f"{tiny_disk}/file", deadline=Deadline.after(LIMIT_S))
    assert caught.value.code == "read_only"


# --------------------------------------------------------------------------------------- the adb server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    (tmp_path / "server").mkdir()
    server = OwnServer(tmp_path / "server")
    yield server
    server.kill()


def test_a_killed_adb_server_is_a_lost_link_and_the_next_one_is_told_of_the_device(
    own_daemon: Daemon, own_server: OwnServer, tmp_path: Path
) -> None:
    trial = Trial(reach("adb", own_daemon, own_server), own_daemon, tmp_path)
    attempt = trial.begin("run")
    trial.wait_begun(attempt)
    own_server.kill()
    lost = attempt.outcome()
    assert isinstance(lost, TransportError)
    assert not isinstance(lost, TransportTimeout)
    own_server.start()
    assert trial.transport.run(["echo", "again"], deadline=Deadline.after(LIMIT_S)).stdout == b"again\n"


def test_a_frozen_adb_server_is_noticed_in_time(own_daemon: Daemon, own_server: OwnServer, tmp_path: Path) -> None:
    trial = Trial(reach("adb", own_daemon, own_server), own_daemon, tmp_path)
    attempt = trial.begin("run")
    trial.wait_begun(attempt)
    own_server.freeze()
    lost = attempt.outcome()
    assert isinstance(lost, TransportError)
    assert not isinstance(lost, TransportTimeout)


def test_a_server_is_started_where_none_runs_and_left_running(own_daemon: Daemon, own_server: OwnServer) -> None:
    own_server.kill()
    script = (
        "import sys; from melt.transport.adb import AdbTransport; from melt.transport import Deadline;"
        "link = AdbTransport.connect(sys.argv[1]);"
        "print(link.run(['echo', 'here'], deadline=Deadline.after(30)).stdout.decode(), end='')"
    )
    environment = {**own_server.environment, "PYTHONPATH": ":".join(sys.path)}
    argv = [sys.executable, "-c", script, f"adb://{own_daemon.serial}"]
    try:
        for _ in range(2):
            done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
            assert (done.stdout, done.returncode) == ("here\n", 0), done.stderr
            servers = listeners(own_server.place.port)
            assert len(servers) == 1
    finally:
        for server in listeners(own_server.place.port):
            server.kill()


def test_many_that_find_no_server_start_one_between_them(
    own_server: OwnServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_server.kill()
    for name, value in own_server.environment.items():
        monkeypatch.setenv(name, value)
    try:
        with ThreadPoolExecutor(6) as pool:
            begun = [pool.submit(own_server.place.begin) for _ in range(6)]
            assert [future.exception(60) for future in begun] == [None] * 6
        assert len(listeners(own_server.place.port)) == 1
    finally:
        for server in listeners(own_server.place.port):
            server.kill()


def listeners(port: int) -> list[psutil.Process]:
    found = psutil.net_connections("tcp")
    return [psutil.Process(one.pid) for one in found if one.status == "LISTEN" and one.laddr.port == port and one.pid]
