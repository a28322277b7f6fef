"""The agent's folder of blobs: brought in parts, hashed, listed; whatever a crash leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from agent_jobs import LIMIT_S, fill_up

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer

CORRUPT = 76
SIZES = (0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000, 300_001)
"""Around every border of the hash's padding, and of the agent's reads."""


class Folder:
    """A folder of blobs, and the agent's verbs on it."""

    def __init__(self, agent: Path, path: Path) -> None:
        self.agent = agent
        self.path = path

    def ask(self, *words: object) -> subprocess.CompletedProcess[bytes]:
        argv = [str(self.agent), *map(str, words)]
        return subprocess.run(argv, capture_output=True, timeout=LIMIT_S, check=False)

    def take(self, digest: str, data: bytes, begin: int, total: int) -> subprocess.CompletedProcess[bytes]:
        (self.path / "a.part").write_bytes(data)
        return self.ask("take", self.path, digest, "a.part", begin, total)

    def there(self, digest: str, data: bytes, begin: int, total: int) -> int:
        done = self.take(digest, data, begin, total)
        assert done.returncode == 0, done
        return int(json.loads(done.stdout)["bytes"])

    def names(self) -> set[str]:
        return {path.name for path in self.path.iterdir()}


@pytest.fixture
def folder(agent: Path, tmp_path: Path) -> Folder:
    return Folder(agent, tmp_path)


def made(size: int) -> tuple[bytes, str]:
    data = random.Random(size).randbytes(size)
    return data, hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", SIZES)
def test_a_file_in_one_part_becomes_a_blob(folder: Folder, size: int) -> None:
    data, digest = made(size)
    assert folder.there(digest, data, 0, size) == size
    assert folder.names() == {digest}
    assert (folder.path / digest).read_bytes() == data
    assert os.access(folder.path / digest, os.X_OK)
    assert listed(folder.agent, folder.path)[1]["checked"] is True


def test_a_file_in_many_parts_becomes_a_blob_and_leaves_nothing_else(folder: Folder) -> None:
    data, digest = made(300_001)
    for at in range(0, len(data), 65536):
        assert digest not in folder.names()
        there = folder.there(digest, data[at : at + 65536], at, len(data))
        assert there == min(at + 65536, len(data))
    assert folder.names() == {digest}
    assert (folder.path / digest).read_bytes() == data


def test_bytes_that_are_not_what_was_to_be_sent_are_not_kept(folder: Folder) -> None:
    data, digest = made(200_000)
    assert folder.there(digest, data[:131072], 0, len(data)) == 131072
    done = folder.take(digest, bytes(len(data) - 131072), 131072, len(data))
    assert (done.returncode, done.stdout) == (CORRUPT, b"")
    assert digest.encode() in done.stderr
    assert folder.names() == set()


def test_a_part_that_goes_elsewhere_is_refused_with_the_place_to_go_on_from(folder: Folder) -> None:
    data, digest = made(200_000)
    assert folder.there(digest, data[131072:], 131072, len(data)) == 0
    assert folder.there(digest, data[:65536], 0, len(data)) == 65536
    assert folder.there(digest, data[131072:], 131072, len(data)) == 65536
    assert folder.there(digest, data[65536:], 65536, len(data)) == len(data)
    assert (folder.path / digest).read_bytes() == data


def test_what_a_crash_left_behind_the_known_end_is_cut_off(folder: Folder) -> None:
    data, digest = made(200_000)
    folder.there(digest, data[:65536], 0, len(data))
    with (folder.path / f"{digest}.grown").open("ab") as grown:
        grown.write(b"half of a part")
    assert folder.there(digest, data[65536:], 65536, len(data)) == len(data)
    assert (folder.path / digest).read_bytes() == data


@pytest.mark.parametrize("state", [b"", b"65536", b"65536 xyz", b"70000 " + b"0" * 64, b"9" * 100, b"-64 " + b"0" * 64])
def test_a_state_that_cannot_be_read_begins_from_nothing(folder: Folder, state: bytes) -> None:
    data, digest = made(200_000)
    folder.there(digest, data[:65536], 0, len(data))
    (folder.path / f"{digest}.state").write_bytes(state)
    assert folder.there(digest, data[65536:], 65536, len(data)) == 0


def test_a_state_that_says_more_than_there_is_begins_from_nothing(folder: Folder) -> None:
    data, digest = made(200_000)
    folder.there(digest, data[:131072], 0, len(data))
    os.truncate(folder.path / f"{digest}.grown", 1000)
    assert folder.there(digest, data[131072:], 131072, len(data)) == 0


@pytest.mark.parametrize("words", [("short", "a.part"), ("0" * 64, "../a.part"), ("0" * 63 + "/", "a.part")])
def test_names_that_leave_the_folder_are_refused(folder: Folder, words: tuple[str, str]) -> None:
    (folder.path / "a.part").touch()
    assert folder.ask("take", folder.path, *words, 0, 0).returncode == 2
    assert folder.names() == {"a.part"}


def test_a_link_in_the_place_of_a_growing_blob_is_not_followed(folder: Folder, tmp_path: Path) -> None:
    data, digest = made(200_000)
    folder.there(digest, data[:65536], 0, len(data))
    victim = tmp_path / "victim"
    victim.write_bytes(data[:65536])
    (folder.path / f"{digest}.grown").unlink()
    (folder.path / f"{digest}.grown").symlink_to(victim)
    folder.take(digest, data[65536:], 65536, len(data))
    assert victim.read_bytes() == data[:65536]


def test_a_part_that_is_not_there_is_named(folder: Folder) -> None:
    done = folder.ask("take", folder.path, "0" * 64, "absent.part", 0, 10)
    assert (done.returncode, done.stderr) == (1, b"absent.part: No such file or directory\n")


def test_files_are_hashed_and_those_that_cannot_be_are_told(folder: Folder) -> None:
    data, digest = made(300_001)
    (folder.path / digest).write_bytes(data)
    (folder.path / 'odd "name"').write_bytes(b"x")
    (folder.path / "inside").mkdir()
    os.mkfifo(folder.path / "pipe")
    done = folder.ask("hash", folder.path, digest, 'odd "name"', "absent", "inside")
    told = [entry for entry in map(json.loads, done.stdout.splitlines()) if "name" in entry]
    assert told == [
        {"name": digest, "sha256": digest},
        {"name": 'odd "name"', "sha256": hashlib.sha256(b"x").hexdigest()},
        {"name": "absent", "error": "missing"},
        {"name": "inside", "error": "io: EISDIR"},
    ]
    checked = {file["name"]: file["checked"] for file in listed(folder.agent, folder.path)[1:]}
    assert checked == {digest: True, 'odd "name"': False}


def test_a_blob_that_is_written_to_is_no_longer_checked(folder: Folder) -> None:
    data, digest = made(1000)
    folder.there(digest, data, 0, len(data))
    with (folder.path / digest).open("r+b") as blob:
        blob.write(b"!")
    assert listed(folder.agent, folder.path)[1]["checked"] is False


def test_a_full_disk_keeps_what_was_there(agent: Path, tiny_disk: Path) -> None:
    folder = Folder(agent, tiny_disk)
    data, digest = made(400_000)
    assert folder.there(digest, data[:131072], 0, len(data)) == 131072
    (tiny_disk / "b.part").write_bytes(data[131072:])
    fill_up(tiny_disk)
    done = folder.ask("take", tiny_disk, digest, "b.part", 131072, len(data))
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert "b.part" not in folder.names()


def listed(agent: Path, folder: Path, *used: str) -> list[dict[str, Any]]:
    done = subprocess.run([agent, "list", folder, *used], capture_output=True, timeout=LIMIT_S, check=True)
    return [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]


def test_a_folder_is_listed_with_sizes_and_times_and_files_only(agent: Path, tmp_path: Path) -> None:
    sizes = {"plain": 5, "empty": 0, "two words": 1, 'odd"\n\\ü漢': 2, "é" * 127: 3}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    os.utime(tmp_path / "plain", ns=(1_000_000_000, 1_234_567_890_123_456_789))
    space, *files = listed(agent, tmp_path)
    assert space["free_bytes"] > 0
    assert abs(space["now_s"] - time.time()) < LIMIT_S
    assert {file["name"].encode("latin-1").decode(): file["bytes"] for file in files} == sizes
    assert next(file for file in files if file["name"] == "plain") == {
        "name": "plain",
        "bytes": 5,
        "used_s": 1,
        "changed_s": 1_234_567_890,
        "checked": False,
    }


def test_what_is_used_is_marked_so_in_the_same_breath(agent: Path, tmp_path: Path) -> None:
    for name in ("used", "left"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(5_000_000_000, 6_000_000_000))
    listing = {file["name"]: file for file in listed(agent, tmp_path, "used", "absent", "../used")[1:]}
    assert listing["left"]["used_s"] == 5
    assert listing["used"]["used_s"] > 1_000_000_000
    assert {file["changed_s"] for file in listing.values()} == {6}


def test_a_full_disk_is_listed_as_such(agent: Path, tiny_disk: Path) -> None:
    assert 0 < listed(agent, tiny_disk)[0]["free_bytes"] <= 1 << 20
    fill_up(tiny_disk)
    assert listed(agent, tiny_disk)[0]["free_bytes"] == 0


def test_a_folder_that_is_not_there_is_named(agent: Path, tmp_path: Path) -> None:
    done = subprocess.run([agent, "list", tmp_path / "absent"], capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == f"{tmp_path}/absent: No such file or directory\n".encode()
