"""Delivery to a folder of this computer: what is sent, what is not, and what a cut link costs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from melt import native
from melt.device import Blobs, Moved, sha256_of
from melt.device.sending import PART_BYTES
from melt.errors import DeviceError, TransportError, UsageError
from melt.transport import Completed, Deadline, LocalTransport
from melt.transport.source import Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.peer

LARGE_BYTES = 2 * PART_BYTES + 1000


@dataclass
class Watched(LocalTransport):
    """This computer's transport, which counts what goes over it and loses the link when told to."""

    bytes_left: int = 1 << 40
    sent_bytes: int = 0
    pushes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    before_push: Callable[[], object] = lambda: None

    def run(self, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
        self.commands.append(argv[1] if len(argv) > 1 else argv[0])
        return super().run(argv, deadline=deadline, stdin=stdin)

    def push(self, source: Path | Part, target: str, *, deadline: Deadline, executable: bool = False) -> None:
        assert isinstance(source, Part)
        self.before_push()

        def on_read(n_bytes: int) -> None:
            source.on_read(n_bytes)
            self.sent_bytes += n_bytes
            self.bytes_left -= n_bytes
            if self.bytes_left < 0:
                raise TransportError("the link was cut")

        told = Part(source.path, source.begin_bytes, source.length_bytes, on_read)
        self.pushes.append(target)
        super().push(told, target, deadline=deadline, executable=executable)


class Folder:
    """A folder of blobs on this computer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.mkdir()
        self.line = Watched()
        self.said: list[str] = []
        self.moved: list[Moved] = []

    def deliver(self, files: Mapping[str, Path], *, verify: bool = False) -> dict[str, str]:
        agent = str(native.build("agent", native.host_machine(), here=True))
        blobs = Blobs(self.line, agent, str(self.path), "here")
        return blobs.deliver(files, say=self.said.append, on_moved=self.moved.append, verify=verify)

    def names(self) -> set[str]:
        return {path.name for path in self.path.iterdir()}

    def again(self) -> Watched:
        """A new line, with nothing counted."""
        self.line = Watched()
        return self.line


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "blobs")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(os.urandom(1000))
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large"
    path.write_bytes(os.urandom(LARGE_BYTES))
    return path


def test_a_file_arrives_once_under_its_hash_however_often_it_is_asked_for(folder: Folder, small: Path) -> None:
    places = folder.deliver({"model": small, "twin": small})
    assert places == dict.fromkeys(("model", "twin"), f"{folder.path}/{sha256_of(small)}")
    assert folder.names() == {sha256_of(small)}
    assert len(folder.line.pushes) == 1
    line = folder.again()
    assert folder.deliver({"model": small}) == {"model": places["model"]}
    assert (line.pushes, line.commands) == ([], ["list"])


def test_a_large_file_goes_in_parts_and_tells_how_far_it_is(folder: Folder, large: Path) -> None:
    folder.deliver({"model": large})
    assert (folder.path / sha256_of(large)).read_bytes() == large.read_bytes()
    assert folder.names() == {sha256_of(large)}
    assert len(folder.line.pushes) == 3
    done = [moved.done_bytes for moved in folder.moved]
    assert done == sorted(done)
    assert {moved.total_bytes for moved in folder.moved} == {LARGE_BYTES}
    assert any("129 MiB" in sentence or "128 MiB" in sentence for sentence in folder.said)


def test_a_cut_costs_the_part_that_was_under_way_and_no_other(folder: Folder, large: Path) -> None:
    folder.line.bytes_left = 2 * PART_BYTES - 5
    with pytest.raises(TransportError, match="cut"):
        folder.deliver({"model": large})
    assert sha256_of(large) not in folder.names()
    line = folder.again()
    folder.deliver({"model": large})
    assert line.sent_bytes == LARGE_BYTES - PART_BYTES
    assert (folder.path / sha256_of(large)).read_bytes() == large.read_bytes()
    assert folder.names() == {sha256_of(large)}


def test_a_growing_blob_whose_state_is_lost_is_begun_anew(folder: Folder, large: Path) -> None:
    folder.line.bytes_left = 2 * PART_BYTES - 5
    with pytest.raises(TransportError):
        folder.deliver({"model": large})
    (folder.path / f"{sha256_of(large)}.state").unlink()
    folder.again()
    folder.deliver({"model": large})
    assert (folder.path / sha256_of(large)).read_bytes() == large.read_bytes()


def test_a_blob_of_another_size_is_sent_again(folder: Folder, small: Path) -> None:
    (folder.path / sha256_of(small)).write_bytes(b"cut")
    folder.deliver({"model": small})
    assert (folder.path / sha256_of(small)).read_bytes() == small.read_bytes()


def test_a_blob_that_was_written_to_is_read_again_and_replaced(folder: Folder, small: Path) -> None:
    folder.deliver({"model": small})
    blob = folder.path / sha256_of(small)
    blob.write_bytes(bytes(1000))
    line = folder.again()
    folder.deliver({"model": small})
    assert blob.read_bytes() == small.read_bytes()
    assert "damaged" in folder.said[-1]
    assert len(line.pushes) == 1


def test_a_blob_that_rotted_silently_is_found_by_verify_alone(folder: Folder, small: Path) -> None:
    folder.deliver({"model": small})
    blob = folder.path / sha256_of(small)
    stamp = blob.stat()
    blob.write_bytes(bytes(1000))
    os.utime(blob, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    folder.deliver({"model": small})
    assert blob.read_bytes() == bytes(1000)
    folder.deliver({"model": small}, verify=True)
    assert blob.read_bytes() == small.read_bytes()


def test_a_blob_that_came_by_another_way_is_trusted_once_it_was_read(folder: Folder, small: Path) -> None:
    (folder.path / sha256_of(small)).write_bytes(small.read_bytes())
    folder.deliver({"model": small})
    assert folder.line.pushes == []
    line = folder.again()
    folder.deliver({"model": small})
    assert line.commands == ["list"]


def test_a_file_that_changed_behind_its_time_stamp_goes_by_its_new_hash(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "changing"
    path.write_bytes(os.urandom(1000))
    stamp = path.stat()
    sha256_of(path)
    with path.open("r+b") as same:
        same.write(b"another beginning")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    digest = sha256_of(path)  # its time of change tells: it is read again
    folder.deliver({"model": path})
    assert folder.names() == {digest}


def test_a_file_that_changes_while_it_is_sent_is_told_and_not_kept(folder: Folder, small: Path) -> None:
    digest = sha256_of(small)
    folder.line.before_push = lambda: small.write_bytes(os.urandom(1000))
    with pytest.raises(DeviceError, match="changed meanwhile") as caught:
        folder.deliver({"model": small})
    assert caught.value.code == "corrupt"
    assert digest not in folder.names()
    assert len(folder.line.pushes) == 2


def test_what_does_not_fit_is_refused_before_anything_is_sent(tiny_disk: Path, large: Path) -> None:
    folder = Folder(tiny_disk / "blobs")
    with pytest.raises(DeviceError, match="'workdir'") as caught:
        folder.deliver({"model": large})
    assert caught.value.code == "no_space"
    assert folder.line.pushes == []


def test_a_missing_file_is_the_persons_to_mend(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent"):
        folder.deliver({"model": tmp_path / "absent"})


def test_what_died_is_swept_and_what_is_under_way_is_not(folder: Folder, small: Path) -> None:
    other = "ab" * 32
    old, fresh = (f"{other}.0badcafe.part", f"{other}.grown"), (f"{other}.12345678.part", ".melt-1.part")
    for name in (*old, *fresh):
        (folder.path / name).touch()
    for name in old:
        os.utime(folder.path / name, (0, 0))
    folder.deliver({"model": small})
    assert folder.names() == {sha256_of(small), *fresh}


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder of which all but 40 MiB is taken by five blobs of 8 MiB."""
    folder = Folder(tmp_path / "crowded")
    files = {}
    for number in range(5):
        path = tmp_path / f"old{number}"
        path.write_bytes(os.urandom(8 << 20))
        files[str(number)] = path
    places = folder.deliver(files)
    for number, place in places.items():
        os.utime(place, ns=(int(number) * 10**9, 10**18))
    real = LocalTransport.run

    def with_little_space(
        self: LocalTransport, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b""
    ) -> Completed:
        done = real(self, argv, deadline=deadline, stdin=stdin)
        if argv[1] != "list":
            return done
        first, _, rest = done.stdout.partition(b"\n")
        kept, _, now = first.partition(b",")
        assert kept.startswith(b'{"free_bytes":')
        return Completed(done.argv, done.code, b'{"free_bytes":%d,%b\n%b' % (40 << 20, now, rest), done.stderr)

    monkeypatch.setattr(LocalTransport, "run", with_little_space)
    folder.said.clear()
    return folder


def test_where_space_is_short_the_blobs_used_longest_ago_go_first(crowded: Folder, tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.write_bytes(os.urandom(20 << 20))
    before = sorted(crowded.names(), key=lambda name: (crowded.path / name).stat().st_atime)
    crowded.deliver({"model": path})
    assert crowded.names() == {*before[2:], sha256_of(path)}
    assert "2 files" in crowded.said[0]


def test_what_this_very_run_needs_is_never_evicted(crowded: Folder, tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.write_bytes(os.urandom(20 << 20))
    oldest = tmp_path / "old0"
    crowded.deliver({"model": path, "input": oldest})
    assert {sha256_of(path), sha256_of(oldest)} <= crowded.names()


def test_nothing_is_evicted_for_what_does_not_fit_even_then(crowded: Folder, tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.write_bytes(os.urandom(60 << 20))
    before = crowded.names()
    with pytest.raises(DeviceError):
        crowded.deliver({"model": path})
    assert crowded.names() == before
