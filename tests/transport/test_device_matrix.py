"""What a device itself does to a run, over every transport: full, read-only, damaged, killed, rebooted, not let in."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from fake_adbd import FakeAdbd, Manner
from far import WAYS, Far, far_device, reach, wait_for
from sshd import make_key
from test_link_matrix import PROTOCOL, check_once_each
from workspace import Said, ended, may, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.peer


@pytest.fixture(params=WAYS)
def far(request: pytest.FixtureRequest, tmp_path: Path, toy_model: Path) -> Iterator[Far]:
    with far_device(request.param, tmp_path / "far", toy_model) as made:
        made.workspace.suite(protocol=PROTOCOL, limits={"link_s": 2.0, "wall_s": 20.0})
        yield made


@pytest.fixture
def note(far: Far, record_property: Callable[[str, object], None]) -> Callable[[str, str, str], None]:
    """Puts a line into the table of faults: what happened, in which step, and what became of it."""
    return lambda fault, step, outcome: record_property("link fault", json.dumps([fault, far.way, step, outcome]))


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A file system of its own at `place`."""
    if not may("mount", "-t", "tmpfs", "-o", options, "none", str(place)):
        pytest.skip("a device's full and read-only folders are NOT tested: only root may mount one")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def refused(said: Said, far: Far, *words: str) -> None:
    """Exit 1, one sentence with these words, and what was refused is there as skipped, if it came so far."""
    assert said.code == 1, said
    assert "Traceback" not in said.stderr
    for word in words:
        assert word in said.stderr, said
    assert all(run.record.status == "skipped" for run in far.workspace.runs())
    assert far.workspace.jobs() == []


def test_a_full_work_folder_is_refused_before_anything_is_sent(far: Far, note: Callable[[str, str, str], None]) -> None:
    far.workspace.workdir.mkdir()
    with mounted(far.workspace.workdir, "size=8m"):
        refused(far.workspace.run(), far, "MiB free", "workdir")
        blobs = far.workspace.workdir / "melt" / "blobs"
        assert len(list(blobs.iterdir())) == 1  # the agent
    note("folder full", "deliver", "refused before")


@pytest.mark.parametrize("step", ["start", "watch"])
def test_a_work_folder_that_fills_up_costs_its_runs_and_is_told(
    far: Far, step: str, note: Callable[[str, str, str], None]
) -> None:
    workspace = far.workspace
    workspace.workdir.mkdir()
    with mounted(workspace.workdir, "size=100m"):
        child = workspace.begin()
        wait_for(step, workspace, child)
        fill = os.open(workspace.workdir / "fill", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(fill, bytes(1 << 16)):
                pass
        os.close(fill)
        said = ended(child, 120)
        assert said.code == 1, said
        assert "Traceback" not in said.stderr
        records = [run.record for run in workspace.runs()]
        assert len(records) == 2
        assert not any(record.usable for record in records)
        for record in records:
            told = " ".join(f"{reason.code} {reason.detail}" for reason in record.reasons)
            assert "no_space" in told or "no space" in told.lower(), record
            assert told in said.stderr or record.reasons[0].detail in said.stderr
        assert workspace.jobs() == []
    note("folder full", step, {record.status for record in records}.pop() + ", no_space")


@pytest.mark.parametrize("options", ["ro", "noexec"])
def test_a_work_folder_that_may_not_be_used_is_refused(
    far: Far, options: str, note: Callable[[str, str, str], None]
) -> None:
    far.workspace.workdir.mkdir()
    with mounted(far.workspace.workdir, f"size=100m,{options}"):
        refused(far.workspace.run(), far, "workdir")
    note({"ro": "folder read-only", "noexec": "folder noexec"}[options], "deliver", "refused before")


def test_a_blob_that_was_damaged_is_replaced(far: Far, note: Callable[[str, str, str], None]) -> None:
    workspace = far.workspace
    assert workspace.run().code == 0
    for blob in (workspace.workdir / "melt" / "blobs").iterdir():
        stamp, size = blob.stat(), blob.stat().st_size
        if size == (workspace.folder / "toy.onnx").stat().st_size:
            blob.write_bytes(bytes(size))
            rotten = blob, stamp
    found = workspace.run()
    assert found.code == 0, found
    assert "damaged" in found.stderr
    blob, stamp = rotten
    blob.write_bytes(bytes(stamp.st_size))
    os.utime(blob, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    verified = workspace.run("--verify")
    assert verified.code == 0, verified
    assert "damaged" in verified.stderr
    note("blob damaged", "deliver", "delivered again")


def test_a_job_killed_with_its_process_tree_costs_one_run(far: Far, note: Callable[[str, str, str], None]) -> None:
    workspace = far.workspace
    child = workspace.begin()
    wait_for("watch", workspace, child)
    (job,) = workspace.jobs()
    status = json.loads((job / "status").read_text())
    kill_all(status["agent_pid"], status["engine_pid"])
    said = ended(child, 120)
    assert said.code == 1, said
    assert "agent_killed" in said.stderr
    first, second = sorted((run.record for run in workspace.runs()), key=lambda record: record.block)
    assert "agent_killed" in [reason.code for reason in first.reasons]
    assert second.usable
    assert workspace.jobs() == []
    note("job's tree killed", "watch", "agent_killed, data kept")


def kill_all(*pids: int) -> None:
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (*psutil.Process(pid).children(recursive=True), psutil.Process(pid)):
                process.kill()


@pytest.mark.parametrize("far", ["ssh"], indirect=True)
@pytest.mark.parametrize("step", ["start", "watch", "collect"])
def test_a_reboot_is_told_from_a_killed_job(
    far: Far, step: str, tmp_path: Path, note: Callable[[str, str, str], None]
) -> None:
    workspace = far.workspace
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("11111111-1111-4111-8111-111111111111\n")
    script = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"'
    far.inside = ("unshare", "--mount", "sh", "-c", script, "sh", str(boot_id))
    if not may(*far.inside, "true"):
        pytest.skip("a reboot is NOT tested: it needs a mount namespace")
    far.restart()
    child = workspace.begin()
    wait_for(step, workspace, child)
    far.bridge.shut()
    assert far.sshd is not None
    far.sshd.close()
    kill_all(*(process.pid for process in workspace.processes() if on(far, process)))
    boot_id.write_text("22222222-2222-4222-8222-222222222222\n")
    time.sleep(1)
    far.restart()
    far.bridge.open()
    said = ended(child, 120)
    assert "Traceback" not in said.stderr
    records = sorted((run.record for run in workspace.runs()), key=lambda record: record.block)
    assert workspace.jobs() == []
    if step == "collect":
        assert said.code == 0, said
        check_once_each(far)
        assert records[0].boot_id != records[1].boot_id
    elif records[0].usable:  # it had not begun
        assert step == "start"
    else:
        assert said.code == 1, said
        assert "rebooted" in [reason.code for reason in records[0].reasons]
        assert records[0].boot_id == "11111111-1111-4111-8111-111111111111"
        assert "rebooted" in said.stderr
        assert records[1].usable
    note("device rebooted", step, "rebooted, data kept" if not records[0].usable else "goes on")


def on(far: Far, process: psutil.Process) -> bool:
    """Whether a process runs on the far device: it was started from its work folder."""
    try:
        return str(far.workspace.workdir) in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return False


ADDRESSES = {
    "ssh": {
        "port closed": ("ssh://closed", "nothing listening"),
        "unknown name": ("ssh://no-such-host.invalid", "no-such-host.invalid"),
        "unknown host key": ("ssh://unknown", "melt devices trust"),
        "changed host key": ("ssh://changed", "known_changed"),
        "wrong key": ("ssh://wrong", "key"),
    },
    "adb": {"unknown device": ("adb://nobody", "nobody"), "port closed": ("adb://127.0.0.1:1", "127.0.0.1:1")},
    "adb+tcp": {
        "port closed": ("adb+tcp://127.0.0.1:1", "127.0.0.1:1"),
        "unknown name": ("adb+tcp://no-such-host.invalid:5555", "no-such-host"),
    },
}


def hosts(far: Far) -> None:
    """Entries of the person's ~/.ssh/config that lead to the same server, each wrong in its own way."""
    if far.sshd is None:
        return
    folder = far.workspace.folder
    other = make_key(folder / "other").with_suffix(".pub").read_text().split()[1]
    (folder / "known_changed").write_text(f"[127.0.0.1]:{far.bridge.port} ssh-ed25519 {other}\n")
    (folder / "known_nobody").touch()
    good = f"HostName 127.0.0.1\nPort {far.bridge.port}\nUserKnownHostsFile {folder / 'known_hosts'}\n"
    config = folder / "home" / ".ssh" / "config"
    config.write_text(
        f"Host closed\nHostName 127.0.0.1\nPort 1\n"
        f"Host unknown\nUserKnownHostsFile {folder / 'known_nobody'}\n{good}"
        f"Host changed\nUserKnownHostsFile {folder / 'known_changed'}\n{good}"
        f"Host wrong\nIdentityFile {folder / 'other'}\nIdentitiesOnly yes\n{good}"
        f"Host unknown changed\nIdentityFile {far.sshd.identity}\n" + config.read_text()
    )


def test_a_device_that_cannot_be_reached_is_told_in_one_sentence(
    far: Far, record_property: Callable[[str, object], None]
) -> None:
    hosts(far)
    for fault, (address, word) in ADDRESSES[far.way].items():
        reach(far.workspace, address)
        said = far.workspace.run()
        assert said.code == 4, (fault, said)
        assert "Traceback" not in said.stderr
        (sentence,) = [line for line in said.stderr.splitlines() if line.startswith("here: ")]
        assert word in sentence, (fault, sentence)
        assert far.workspace.runs() == []
        record_property("link fault", json.dumps([fault, far.way, "deliver", "told, exit 4"]))


@pytest.mark.parametrize("far", ["adb", "adb+tcp"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "manner", "words"),
    [
        # straight to the daemon there is no server that has made itself a key
        ("unauthorised", Manner(untrusting=True), {"adb": "accept the question", "adb+tcp": "adb keygen"}),
        ("offline", Manner(offline=True), {"adb": "offline", "adb+tcp": "does not answer"}),
    ],
    ids=["unauthorised", "offline"],
)
def test_a_phone_that_does_not_let_us_in_is_told_with_what_to_do(
    far: Far, fault: str, manner: Manner, words: dict[str, str], note: Callable[[str, str, str], None]
) -> None:
    with FakeAdbd(far.workspace.folder, manner) as phone:
        reach(far.workspace, f"{far.way}://{phone.serial}")
        said = far.workspace.run()
    assert said.code == 4, said
    (sentence,) = [line for line in said.stderr.splitlines() if line.startswith("here: ")]
    assert words[far.way] in sentence
    assert far.workspace.runs() == []
    note(fault, "deliver", "told, exit 4")


@pytest.mark.parametrize("far", ["ssh"], indirect=True)
def test_a_server_that_comes_back_with_another_key_is_not_spoken_to(
    far: Far, note: Callable[[str, str, str], None]
) -> None:
    assert far.sshd is not None
    workspace = far.workspace
    child = workspace.begin()
    wait_for("watch", workspace, child)
    far.bridge.shut()
    kept = (far.sshd.folder / "host").read_bytes()
    (far.sshd.folder / "host").unlink()
    far.restart()
    far.bridge.open()
    said = ended(child, 120)
    assert said.code == 4, said
    assert "shows the key" in said.stderr
    (far.sshd.folder / "host").write_bytes(kept)
    far.restart()
    again = workspace.run("--resume")
    assert again.code == 0, again
    check_once_each(far)
    note("host key changed", "watch", "refused, then resumed")


def test_ctrl_c_while_the_link_is_away_loses_nothing(far: Far, note: Callable[[str, str, str], None]) -> None:
    workspace = far.workspace
    workspace.suite(protocol=PROTOCOL)
    child = workspace.begin()
    wait_for("watch", workspace, child)
    far.bridge.shut()
    time.sleep(3)
    child.send_signal(signal.SIGINT)
    said = ended(child, 60)
    assert said.code == 130, said
    assert "Traceback" not in said.stderr
    far.bridge.open()
    until(lambda: not any(on(far, process) for process in workspace.processes()), "the job to end", 60)
    again = workspace.run("--resume")
    assert again.code == 0, again
    check_once_each(far)
    note("Ctrl-C, link away", "watch", "resumed")
