"""A device that lies, a host whose files change, and what two hosts do to each other in one folder of blobs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, cast

import pytest
from workspace import Workspace, ended, running_job, until

from melt import native
from melt.device import Blobs, Moved, blobs, sha256_of
from melt.device.sending import PART_BYTES
from melt.errors import DeviceError, TransportError, UsageError
from melt.run import patience
from melt.run.patience import Patience
from melt.transport import Completed, Deadline, LocalTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import psutil

    from melt.device import Device
    from melt.transport.source import Part

pytestmark = pytest.mark.peer

GARBAGE = [
    "",
    "nonsense",
    "{}",
    "[1]",
    '{"bytes":1e400}',
    '{"bytes":-67108864,"free_bytes":-1,"now_s":0}',
    '{"free_bytes":"a","now_s":"b"}',
    '{"sha256":1}',
    '{"free_bytes":1,"now_s":1}\n{"name":5,"bytes":1,"used_s":0,"changed_s":0,"checked":true}',
    "[" * 100_000,
    '{"name":{},"sha256":"x"}',
]


class Pushes(LocalTransport):
    """This computer's transport, which counts what is sent and calls something before each time."""

    def __init__(self, before: Callable[[int], object] = lambda _: None) -> None:
        self.count = 0
        self._before = before

    def push(self, source: Path | Part, target: str, *, deadline: Deadline, executable: bool = False) -> None:
        self.count += 1
        self._before(self.count)
        super().push(source, target, deadline=deadline, executable=executable)


class Tight(LocalTransport):
    """This computer's transport, to a device with 33 MiB free."""

    def run(self, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
        done = super().run(argv, deadline=deadline, stdin=stdin)
        if argv[1] != "list":
            return done
        first, _, rest = done.stdout.partition(b"\n")
        told = json.dumps({**json.loads(first), "free_bytes": 33 << 20}).encode()
        return Completed(done.argv, done.code, told + b"\n" + rest, done.stderr)


def agent() -> str:
    return str(native.build("agent", native.host_machine(), here=True))


def deliver(
    line: LocalTransport, folder: Path, files: Mapping[str, Path], program: str = "", moved: list[Moved] | None = None
) -> dict[str, str]:
    folder.mkdir(exist_ok=True, parents=True)
    on_moved = (moved if moved is not None else []).append
    return Blobs(line, program or agent(), str(folder), "here").deliver(files, say=lambda _: None, on_moved=on_moved)


def liar(tmp_path: Path, verb: str, answer: str) -> str:
    """The agent, but for one verb, which gives this answer."""
    (tmp_path / "answer").write_text(answer + "\n" if answer else "")
    script = tmp_path / "agent"
    script.write_text(f'#!/bin/sh\n[ "$1" = {verb} ] && exec cat {tmp_path}/answer\nexec {agent()} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(os.urandom(1000))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(2 * PART_BYTES + 5))
    return path


@pytest.mark.parametrize("verb", ["list", "take"])
def test_an_answer_that_no_agent_gives_is_told_of_the_device(tmp_path: Path, small: Path, verb: str) -> None:
    for answer in GARBAGE:
        with pytest.raises(DeviceError):
            deliver(LocalTransport(), tmp_path / "blobs", {"model": small}, liar(tmp_path, verb, answer))


def test_hashes_that_no_agent_tells_are_told_of_the_device(tmp_path: Path) -> None:
    for answer in ["nonsense", "[1]", *GARBAGE[5:]]:
        with pytest.raises(DeviceError):
            blobs.hash_files(LocalTransport(), liar(tmp_path, "hash", answer), str(tmp_path), ["x"])


def test_a_device_that_never_stops_talking_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "_HASHING_S", 0.5)
    endless = tmp_path / "agent"
    endless.write_text("#!/bin/sh\nexec timeout 5 yes '{\"bytes\":1}'\n")
    endless.chmod(0o755)
    with pytest.raises(TransportError):  # not a DeviceError: that is how the words end by themselves, after 5 s
        blobs.hash_files(LocalTransport(), str(endless), str(tmp_path), ["x"])


def test_a_file_that_goes_away_while_another_is_sent_is_the_persons_to_mend(tmp_path: Path, small: Path) -> None:
    twin = tmp_path / "twin"
    twin.write_bytes(os.urandom(1000))
    line = Pushes(lambda count: twin.unlink() if count == 1 else None)
    with pytest.raises(UsageError, match="twin"):
        deliver(line, tmp_path / "blobs", {"model": small, "input": twin})


def cut_at(count: int) -> None:
    if count > 2:
        raise TransportError("cut")


def test_what_had_arrived_is_gone_on_from_after_a_weekend(tmp_path: Path, large: Path) -> None:
    folder = tmp_path / "blobs"
    with pytest.raises(TransportError):
        deliver(Pushes(cut_at), folder, {"model": large})
    for path in folder.iterdir():
        os.utime(path, (time.time() - 3 * 86400,) * 2)
    line = Pushes()
    deliver(line, folder, {"model": large})
    assert line.count == 1


def test_what_is_sent_once_more_never_counts_as_less_than_nothing(tmp_path: Path, large: Path) -> None:
    moved: list[Moved] = []
    with pytest.raises(DeviceError):
        deliver(LocalTransport(), tmp_path / "blobs", {"m": large}, liar(tmp_path, "take", '{"bytes":3}'), moved=moved)
    assert min(m.done_bytes for m in moved) >= 0


def test_a_part_of_what_another_host_has_brought_whole_is_not_asked_for_again(tmp_path: Path, large: Path) -> None:
    folder, digest = tmp_path / "blobs", sha256_of(large)
    deliver(LocalTransport(), folder, {"model": large})
    (folder / "late.part").write_bytes(b"x")
    argv = [agent(), "take", str(folder), digest, "late.part", str(PART_BYTES), str(large.stat().st_size)]
    told = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert told == {"bytes": large.stat().st_size}
    assert not (folder / "late.part").exists()


def test_what_a_job_on_the_device_names_is_not_evicted(tmp_path: Path, small: Path) -> None:
    root = tmp_path / "melt"
    place = deliver(LocalTransport(), root / "blobs", {"model": small})["model"]
    (root / "jobs" / "theirs").mkdir(parents=True)
    (root / "jobs" / "theirs" / "plan").write_text(f"engine {place}\n")
    new = tmp_path / "new"
    new.write_bytes(os.urandom((1 << 20) + 500))
    with pytest.raises(DeviceError, match="MiB free"):
        deliver(Tight(), root / "blobs", {"model": new})
    assert (root / "blobs" / sha256_of(small)).exists()


class Answers:
    """A device that answers; it has what `Patience` uses of one."""

    name = "pi"

    def close(self) -> None:
        """Nothing is held."""

    def run(self, argv: Sequence[str], limit_s: float) -> Completed:
        assert limit_s > 0
        return Completed(tuple(argv), 0, b"", b"")


def test_a_long_watch_outlives_any_number_of_losses_that_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(patience, "_HOLDS_S", 0.0, raising=False)
    losses = iter(range(30))

    def step() -> str:
        for _ in losses:
            raise TransportError("pi: silent")
        return "done"

    assert Patience(cast("Device", Answers()), lambda _: None, lambda: False)(step, 60) == "done"


def test_a_killed_watcher_costs_nothing(workspace: Workspace) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 1, "min_s": 3.0, "seed": 3})
    child = workspace.begin()
    job, _ = running_job(workspace)

    def watcher() -> psutil.Process | None:
        return next((p for p in workspace.processes() if p.info["cmdline"][1:2] == ["watch"]), None)

    until(watcher, "the watcher").kill()
    said = ended(child)
    (run,) = workspace.runs()
    assert (said.code, run.record.run_id, workspace.jobs()) == (0, job.name, [])
