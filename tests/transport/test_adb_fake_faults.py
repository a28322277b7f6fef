"""What goes wrong on a link to an adb daemon and no real daemon does on demand, in the middle of every verb."""

from __future__ import annotations

import random
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psutil
import pytest
from adbd import ADB, ADB_WAYS, OwnServer, until
from fake_adbd import FakeAdbd, Fault, Manner, lives
from peers import LIMIT_S

from melt.errors import TransportError, TransportTimeout
from melt.transport import Deadline, Transport
from melt.transport.adb import AdbTransport
from melt.transport.adb_link import STALL_S
from melt.transport.adb_tcp import AdbTcpTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.peer

NOTICED_S = 15.0
"""What is silent is noticed before this: a TransportTimeout would say that it was the deadline that passed."""
SIZE = 3_000_001
MIDDLE = 1_300_007
"""Neither at the end of a message nor at the end of a piece of a file."""

IN_THE_MIDDLE = {
    "push": {"on": "sync:", "received_bytes": MIDDLE},
    "pull": {"on": "sync:", "sent_bytes": MIDDLE},
    "run": {"on": "shell", "sent_bytes": MIDDLE},
    "read": {"on": "shell", "sent_bytes": MIDDLE},
    "feed": {"on": "shell", "received_bytes": MIDDLE},
}
VERBS = list(IN_THE_MIDDLE)


@dataclass
class Trial:
    """A transport to a fake daemon, and a folder that is here and on its device."""

    transport: Transport
    fake: FakeAdbd
    folder: Path
    data: bytes

    def do(self, verb: str, limit_s: float = NOTICED_S) -> bytes:
        """What the verb brought to where it should, empty if it brought nothing."""
        does: Callable[[Deadline], bytes] = getattr(self, verb)
        return does(Deadline.after(limit_s))

    def push(self, deadline: Deadline) -> bytes:
        self.transport.push(self.folder / "data", self.there, deadline=deadline)
        return (self.folder / "device" / "there").read_bytes()

    def pull(self, deadline: Deadline) -> bytes:
        self.transport.pull(
            str(self.folder / "data"), self.folder / "here" / "back", deadline=deadline, limit_bytes=len(self.data)
        )
        return (self.folder / "here" / "back").read_bytes()

    def run(self, deadline: Deadline) -> bytes:
        return self.transport.run(["cat", str(self.folder / "data")], deadline=deadline).stdout

    def feed(self, deadline: Deadline) -> bytes:
        return self.transport.run(["cat"], deadline=deadline, stdin=self.data).stdout

    def read(self, deadline: Deadline) -> bytes:
        said, process = b"", self.transport.start(["cat", str(self.folder / "data")])
        try:
            while got := process.read(deadline):
                said += got
            assert process.wait(deadline).ok
        finally:
            process.close()
        return said

    @property
    def there(self) -> str:
        return str(self.folder / "device" / "there")

    def loss(self, verb: str) -> None:
        """The link is lost in the verb's middle: it says so, and leaves nothing behind under the target's name."""
        with pytest.raises(TransportError) as caught:
            self.do(verb)
        told_well(caught.value, self.fake)
        assert self.parts("here/*") == self.parts("here/.*") == self.parts("device/there") == []

    def parts(self, pattern: str) -> list[Path]:
        return list(self.folder.glob(pattern))


def told_well(error: TransportError, fake: FakeAdbd) -> None:
    """It was not the deadline that was noticed; one sentence that names the device."""
    assert not isinstance(error, TransportTimeout), error
    assert fake.serial in str(error)
    assert re.search(r"\n|Traceback|Error|Exception|Errno|\.py\b", str(error)) is None, error


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    server = OwnServer(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@contextmanager
def trial_of(way: str, manner: Manner, server: OwnServer, folder: Path, size: int = SIZE) -> Iterator[Trial]:
    for name in ("", "device", "here"):
        (folder / name).mkdir(exist_ok=True)
    data = random.Random(1).randbytes(size)
    (folder / "data").write_bytes(data)
    with FakeAdbd(folder, manner) as fake:
        transport = reach(way, fake, server)
        try:
            yield Trial(transport, fake, folder, data)
        finally:
            transport.close()
            server.forget(fake)


def reach(way: str, fake: FakeAdbd, server: OwnServer, keys: Path | None = None) -> Transport:
    if way == "adb":
        return AdbTransport.connect(f"adb://{fake.serial}", server.place)
    return AdbTcpTransport.connect(f"adb+tcp://{fake.serial}", keys)


@pytest.mark.parametrize("way", ADB_WAYS)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("what", ["cut", "reset"])
def test_a_link_that_ends_is_a_lost_link_and_leaves_nothing(
    what: str, verb: str, way: str, server: OwnServer, tmp_path: Path
) -> None:
    with trial_of(way, Manner(Fault(what, **IN_THE_MIDDLE[verb])), server, tmp_path) as trial:
        trial.loss(verb)
        until("the part to go", lambda: trial.parts("device/.*") == [])
        assert trial.do(verb) == trial.data


# the adb server throws a message with a wrong magic away and says nothing: for melt behind it, the device is silent
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("what", "way"),
    [("garbage", "adb"), ("garbage", "adb-tcp"), ("length", "adb"), ("length", "adb-tcp"), ("magic", "adb-tcp")],
)
def test_what_is_no_message_is_a_lost_link_and_never_data(
    what: str, verb: str, way: str, server: OwnServer, tmp_path: Path
) -> None:
    fault = Fault(what, on=IN_THE_MIDDLE[verb]["on"], sent_messages=5)
    with trial_of(way, Manner(fault), server, tmp_path) as trial:
        trial.loss(verb)
        until("the part to go", lambda: trial.parts("device/.*") == [])
        assert trial.do(verb) == trial.data


@pytest.mark.parametrize("way", ADB_WAYS)
@pytest.mark.parametrize("what", ["cut", "reset"])
def test_a_link_that_ends_while_a_command_is_silent_is_a_lost_link(
    what: str, way: str, server: OwnServer, tmp_path: Path
) -> None:
    with trial_of(way, Manner(Fault(what, on="shell", after_s=0.3)), server, tmp_path) as trial:
        with pytest.raises(TransportError) as caught:
            trial.transport.run(["sleep", "600"], deadline=Deadline.after(NOTICED_S))
        told_well(caught.value, trial.fake)


@pytest.mark.parametrize("way", ADB_WAYS)
@pytest.mark.parametrize("sent_messages", [0, 2])
def test_a_link_that_ends_before_a_file_has_its_name_leaves_it_whole_or_not_there(
    sent_messages: int, way: str, server: OwnServer, tmp_path: Path
) -> None:
    with trial_of(way, Manner(Fault("cut", on="shell", sent_messages=sent_messages)), server, tmp_path) as trial:
        (tmp_path / "device" / "there").write_bytes(b"before")
        with pytest.raises(TransportError) as caught:
            trial.do("push")
        told_well(caught.value, trial.fake)
        assert (tmp_path / "device" / "there").read_bytes() in (b"before", trial.data)
        assert trial.do("push") == trial.data


@dataclass(frozen=True)
class Task:
    """A verb to try over each way to a daemon of its own."""

    verb: str
    manner: Manner
    size: int = SIZE


def all_at_once(tasks: list[Task], server: OwnServer, folder: Path, do: Callable[[Trial, str], None]) -> None:
    """For waiting takes as long for all as for one; fails for the first that fails."""

    def one(number: int, way: str, task: Task) -> None:
        with trial_of(way, task.manner, server, folder / str(number), task.size) as trial:
            do(trial, task.verb)

    each = [(way, task) for way in ADB_WAYS for task in tasks]
    with ThreadPoolExecutor(len(each)) as threads:
        for done in [threads.submit(one, number, *what) for number, what in enumerate(each)]:
            done.result()


def test_a_link_that_stands_still_for_ever_is_noticed_in_time(server: OwnServer, tmp_path: Path) -> None:
    tasks = [Task(verb, Manner(Fault("stall", **IN_THE_MIDDLE[verb]))) for verb in VERBS]
    all_at_once(tasks, server, tmp_path, lambda trial, verb: trial.loss(verb))


def test_a_slow_link_and_one_that_goes_on_after_each_pause_are_none_that_stand_still(
    server: OwnServer, tmp_path: Path
) -> None:
    """A pause outlasts the silence after which the device is asked for a sign of life; all of them, the patience."""
    pausing = Manner(piece_bytes=1 << 16, bytes_per_s=20e6, pause_s=3.5, pause_every_bytes=SIZE // 2, pauses=4)
    # so slow that an adb server and its sockets may take a file at once, and have nothing to say until it has arrived
    rates = dict.fromkeys(VERBS, SIZE / (STALL_S + 1))
    rates["feed"] *= 2  # the data goes there and comes back

    def do(trial: Trial, verb: str) -> None:
        begun = time.monotonic()
        assert trial.do(verb, 2 * LIMIT_S) == trial.data
        assert time.monotonic() - begun > STALL_S

    tasks = [Task(verb, pausing, 2 * SIZE + SIZE // 2) for verb in VERBS]
    tasks += [Task(verb, Manner(piece_bytes=1 << 14, bytes_per_s=rates[verb])) for verb in VERBS]
    all_at_once(tasks, server, tmp_path, do)


@pytest.mark.parametrize("way", ADB_WAYS)
def test_messages_may_come_and_go_in_any_pieces(way: str, server: OwnServer, tmp_path: Path) -> None:
    with trial_of(way, Manner(piece_bytes=7), server, tmp_path, size=200_003) as trial:
        for verb in VERBS:
            assert trial.do(verb, LIMIT_S) == trial.data


def test_a_daemon_that_lets_nobody_in_is_named_in_time(server: OwnServer, tmp_path: Path) -> None:
    subprocess.run([ADB, "keygen", tmp_path / "adbkey"], check=True, capture_output=True, env={"HOME": str(tmp_path)})

    def refused(way: str, fake: FakeAdbd) -> str:
        with pytest.raises(TransportError) as caught:
            reach(way, fake, server, tmp_path)
        told_well(caught.value, fake)
        return str(caught.value)

    silent, untrusting = Manner(offline=True), Manner(untrusting=True)
    with (
        FakeAdbd(tmp_path, silent) as offline,
        FakeAdbd(tmp_path, untrusting) as locked,
        ThreadPoolExecutor() as threads,
    ):
        begun = time.monotonic()
        asked = [threads.submit(refused, way, fake) for fake in (offline, locked) for way in ADB_WAYS]
        said = [one.result() for one in asked]
        assert time.monotonic() - begun < NOTICED_S
        assert all("does not trust" in sentence and "accept the question" in sentence for sentence in said[2:]), said
        server.forget(offline)
        server.forget(locked)


@pytest.mark.parametrize("way", ADB_WAYS)
@pytest.mark.parametrize("verb", ["push", "pull", "run"])
def test_a_daemon_killed_with_all_it_started_is_a_lost_link_until_it_is_back(
    verb: str, way: str, server: OwnServer, tmp_path: Path
) -> None:
    slow = Manner(piece_bytes=1 << 14, bytes_per_s=1e6)
    with trial_of(way, slow, server, tmp_path) as trial:
        script = 'setsid sh -c "echo \\$\\$ > $0/pid; exec sleep 600" < /dev/null > /dev/null 2>&1 &'
        trial.transport.run(["sh", "-c", script, str(tmp_path)], deadline=Deadline.after(LIMIT_S))
        until("its number", lambda: trial.parts("pid") and (tmp_path / "pid").read_text().endswith("\n"))
        escaped = psutil.Process(int((tmp_path / "pid").read_text()))
        with ThreadPoolExecutor() as threads:
            attempt = threads.submit(trial.loss, verb)
            time.sleep(0.5)
            trial.fake.kill_tree()
            attempt.result()
        assert not lives(escaped)
        trial.fake.manner = replace(slow, bytes_per_s=0.0)
        trial.fake.start()
        assert trial.do(verb) == trial.data
