"""Over SSH, what happens when the link or the device fails: a typed outcome, in time, and nothing left behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from peers import LIMIT_S
from sshd import Sshd, start_sshd

from melt.errors import DeviceError, MeltError, TransportError, TransportTimeout
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from melt.transport.ssh import SshTransport

NOTICED_S = 15.0
FOREVER_S = 600.0


def wait_until(true: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    deadline = Deadline.after(limit_s)
    while not true():
        assert deadline.left_s, "it never came to be"
        time.sleep(0.01)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def parts(folder: Path) -> list[Path]:
    """Names of files that are not whole yet, here or on the device."""
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


class State:
    """A transport in the middle of something, in a thread of its own; how that ends, and when."""

    def __init__(self, name: str, transport: SshTransport, folder: Path) -> None:
        self.name = name
        self.transport = transport
        self.folder = folder
        self.outcome: object = None
        self.ended_at = 0.0
        self.begun = threading.Event()
        folder.mkdir()
        (folder / "here").mkdir()
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        try:
            self.outcome = getattr(self, f"_{self.name}")()
        except MeltError as error:
            self.outcome = error
        self.ended_at = time.monotonic()

    def _idle(self) -> object:
        link = self.transport._link
        self.begun.set()
        wait_until(lambda: not link.alive, FOREVER_S)
        return self.transport.run(["true"], deadline=Deadline.after(FOREVER_S))

    def _command(self) -> object:
        script = 'echo $$ > "$1/pid"; sleep 600'
        return self.transport.run(["sh", "-c", script, "sh", str(self.folder)], deadline=Deadline.after(FOREVER_S))

    def _stream(self) -> object:
        script = 'echo one; echo $$ > "$1/pid"; sleep 600'
        process = self.transport.start(["sh", "-c", script, "sh", str(self.folder)])
        try:
            assert process.read(Deadline.after(FOREVER_S)) == b"one\n"
            return process.read(Deadline.after(FOREVER_S))
        finally:
            process.close()

    def _push(self) -> None:
        source = sparse(self.folder / "here" / "big", 16 << 30)
        self.transport.push(source, f"{self.folder}/big", deadline=Deadline.after(FOREVER_S))

    def _pull(self) -> None:
        sparse(self.folder / "big", 16 << 30)
        target = self.folder / "here" / "big"
        self.transport.pull(f"{self.folder}/big", target, deadline=Deadline.after(FOREVER_S), limit_bytes=1 << 40)

    def wait_until_under_way(self) -> None:
        signs: dict[str, Callable[[], object]] = {
            "idle": self.begun.is_set,
            "command": (self.folder / "pid").exists,
            "stream": (self.folder / "pid").exists,
            "push": lambda: parts(self.folder),
            "pull": lambda: parts(self.folder / "here"),
        }
        wait_until(signs[self.name])

    def process(self) -> int:
        wait_until(lambda: (self.folder / "pid").read_text().strip())
        return int((self.folder / "pid").read_text())


STATES = ("idle", "command", "stream", "push", "pull")


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Sshd]:
    server = start_sshd(tmp_path / "sshd")
    yield server
    server.close()


@pytest.mark.peer
def test_a_frozen_device_is_noticed_in_every_state_and_a_silent_command_is_not_one(
    sshd: Sshd, own_sshd: Sshd, tmp_path: Path
) -> None:
    live = sshd.connect()
    silent: list[object] = []
    patience = threading.Thread(
        target=lambda: silent.append(live.run(["sleep", "17"], deadline=Deadline.after(FOREVER_S)))
    )
    patience.start()
    states = [State(name, own_sshd.connect(), tmp_path / name) for name in STATES]
    for state in states:
        state.wait_until_under_way()
    sessions = own_sshd.sessions()
    for session in [psutil.Process(own_sshd.process.pid), *sessions]:
        session.suspend()
    frozen_at = time.monotonic()
    try:
        with pytest.raises(TransportError, match="silent"):  # the kernel takes the connection, nobody answers
            own_sshd.connect()
        connecting_s = time.monotonic() - frozen_at
        for state in states:
            state.thread.join(FOREVER_S)
    finally:
        for session in [psutil.Process(own_sshd.process.pid), *sessions]:
            session.resume()
    took = {state.name: state.ended_at - frozen_at for state in states} | {"connecting": connecting_s}
    print({name: round(took_s, 1) for name, took_s in took.items()})
    for state in states:
        assert isinstance(state.outcome, TransportError), state.name
        assert "silent" in str(state.outcome)
    assert max(took.values()) <= NOTICED_S, took
    for state in states:
        assert parts(state.folder / "here") == []
        if state.name in ("command", "stream"):
            wait_until(lambda state=state: gone(state.process()))
        state.transport.close()
    wait_until(lambda: not parts(tmp_path / "push"))
    patience.join()
    live.close()
    assert [done.code for done in silent] == [0]


@pytest.mark.parametrize("name", STATES)
def test_a_cut_link_is_an_error_and_leaves_nothing(own_sshd: Sshd, tmp_path: Path, name: str) -> None:
    state = State(name, own_sshd.connect(), tmp_path / "state")
    state.wait_until_under_way()
    for session in own_sshd.sessions():
        session.kill()
    state.thread.join(LIMIT_S)
    assert isinstance(state.outcome, TransportError)
    assert not isinstance(state.outcome, TransportTimeout)
    assert "closed the connection" in str(state.outcome)
    assert parts(tmp_path / "state" / "here") == []
    assert not (tmp_path / "state" / "here" / "big").exists() or name == "push"
    if name in ("command", "stream"):
        wait_until(lambda: gone(state.process()))
    wait_until(lambda: not parts(tmp_path / "state"))
    with pytest.raises(TransportError):
        state.transport.run(["true"], deadline=Deadline.after(LIMIT_S))
    state.transport.close()


def test_a_push_that_is_cut_leaves_the_old_file(own_sshd: Sshd, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    transport = own_sshd.connect()
    state = State("push", transport, folder)
    (folder / "big").write_bytes(b"old")
    state.wait_until_under_way()
    for session in own_sshd.sessions():
        session.kill()
    state.thread.join(LIMIT_S)
    wait_until(lambda: not parts(folder))
    assert (folder / "big").read_bytes() == b"old"
    transport.close()


def test_a_push_or_pull_past_its_deadline_leaves_nothing_and_the_link_goes_on(sshd: Sshd, tmp_path: Path) -> None:
    transport = sshd.connect()
    big = sparse(tmp_path / "big", 16 << 30)
    (tmp_path / "device").mkdir()
    with pytest.raises(TransportTimeout, match="big"):
        transport.push(big, f"{tmp_path}/device/big", deadline=Deadline.after(0.3))
    assert list((tmp_path / "device").iterdir()) == []
    with pytest.raises(TransportTimeout, match="big"):
        transport.pull(str(big), tmp_path / "device" / "big", deadline=Deadline.after(0.3), limit_bytes=1 << 40)
    assert list((tmp_path / "device").iterdir()) == []
    assert transport.run(["true"], deadline=Deadline.after(LIMIT_S)).ok
    transport.close()


@pytest.mark.peer
def test_a_device_that_stops_reading_is_a_stall_whatever_time_is_left(sshd: Sshd, tmp_path: Path) -> None:
    """The far `cat` is stopped, while sshd goes on answering: progress is what counts."""
    state = State("push", sshd.connect(), tmp_path / "state")
    state.wait_until_under_way()
    (part,) = parts(tmp_path / "state")
    writers = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "cat" and _has_open(p, part)]
    for writer in writers:
        writer.suspend()
    assert writers
    state.thread.join(60)
    assert isinstance(state.outcome, TransportTimeout)
    assert "has not moved for 15 s" in str(state.outcome)
    assert parts(tmp_path / "state") == []
    state.transport.close()


def _has_open(process: psutil.Process, path: Path) -> bool:
    try:
        return any(path.samefile(file.path) for file in process.open_files())
    except (psutil.Error, OSError):
        return False


@pytest.mark.parametrize("script", ["yes", "yes >&2", "head -c 70000000 /dev/zero"])
def test_too_much_output_ends_the_command(sshd: Sshd, script: str) -> None:
    transport = sshd.connect()
    with pytest.raises(DeviceError, match="64 MiB"):
        transport.run(["sh", "-c", script], deadline=Deadline.after(LIMIT_S))
    assert transport.run(["true"], deadline=Deadline.after(LIMIT_S)).ok
    transport.close()


def test_a_command_that_signals_its_own_group_still_has_an_exit_code(sshd: Sshd) -> None:
    transport = sshd.connect()
    assert transport.run(["sh", "-c", "kill -TERM 0; sleep 600"], deadline=Deadline.after(LIMIT_S)).code == 143
    with pytest.raises(TransportError, match="ended from outside"):
        transport.run(["sh", "-c", "kill -KILL 0"], deadline=Deadline.after(LIMIT_S))
    transport.close()


def test_a_deadline_spares_what_left_the_session(sshd: Sshd, tmp_path: Path) -> None:
    transport = sshd.connect()
    pid_file = tmp_path / "pid"
    script = 'setsid sh -c "echo \\$\\$ > $1; exec sleep 600" < /dev/null > /dev/null 2>&1 & sleep 0.5; sleep 600'
    detached = f"( {script.replace(' & sleep 0.5; sleep 600', '')} & ); sleep 600"
    with pytest.raises(TransportTimeout):
        transport.run(["sh", "-c", detached, "sh", str(pid_file)], deadline=Deadline.after(1.0))
    pid = int(pid_file.read_text())
    transport.close()
    assert psutil.pid_exists(pid)
    os.kill(pid, signal.SIGKILL)


def test_no_thread_of_a_closed_transport_stays(sshd: Sshd) -> None:
    before = set(threading.enumerate())
    transport = sshd.connect()
    assert transport.run(["true"], deadline=Deadline.after(LIMIT_S)).ok
    transport.close()
    transport.close()
    wait_until(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(TransportError):
        transport.start(["true"])
