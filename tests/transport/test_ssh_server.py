"""Servers that are unlike the usual one: restricted, noisy, read-only; and large files."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from peers import LIMIT_S
from sshd import Sshd, start_sshd

from melt.errors import DeviceError, TransportError, UsageError
from melt.transport import Deadline

if TYPE_CHECKING:
    from pathlib import Path

    from melt.transport.ssh import SshTransport


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_large(path: Path, mib: int) -> Path:
    block = random.Random(mib).randbytes(1 << 20)
    with path.open("wb") as file:
        for i in range(mib):
            file.write(block[i:] + block[:i])
    return path


def there_and_back(transport: SshTransport, source: Path, folder: Path) -> None:
    transport.push(source, f"{folder}/there", deadline=Deadline.after(120), executable=True)
    transport.pull(f"{folder}/there", folder / "back", deadline=Deadline.after(120), limit_bytes=1 << 30)
    assert sha256(folder / "there") == sha256(folder / "back") == sha256(source)
    assert os.access(folder / "there", os.X_OK)


def test_a_large_file_arrives_whole_both_ways(sshd: Sshd, tmp_path: Path) -> None:
    transport = sshd.connect()
    there_and_back(transport, make_large(tmp_path / "here", 96), tmp_path)
    transport.close()


def test_a_server_that_changes_keys_often_does_not_stop_a_transfer(tmp_path: Path) -> None:
    server = start_sshd(tmp_path / "sshd", "RekeyLimit 4M")
    try:
        transport = server.connect()
        there_and_back(transport, make_large(tmp_path / "here", 32), tmp_path)
        assert transport.run(["true"], deadline=Deadline.after(LIMIT_S)).ok
        transport.close()
    finally:
        server.close()


def test_few_sessions_and_no_sftp_are_enough(tmp_path: Path) -> None:
    server = start_sshd(tmp_path / "sshd", "MaxSessions 2", "Subsystem sftp /bin/false")
    try:
        transport = server.connect()
        said: dict[int, bytes] = {}

        def ask(i: int) -> None:
            said[i] = transport.run(["echo", str(i)], deadline=Deadline.after(LIMIT_S)).stdout

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert said == {i: b"%d\n" % i for i in range(12)}
        there_and_back(transport, make_large(tmp_path / "here", 2), tmp_path)
        transport.close()
    finally:
        server.close()


def test_more_commands_than_a_connection_holds_wait_for_each_other(sshd: Sshd) -> None:
    transport = sshd.connect()
    codes: list[int] = []

    def ask() -> None:
        codes.append(transport.run(["sleep", "0.2"], deadline=Deadline.after(LIMIT_S)).code)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 20
    transport.close()


def test_what_a_start_up_file_prints_is_not_the_commands(tmp_path: Path) -> None:
    server = start_sshd(tmp_path / "sshd")
    (server.folder / "home" / ".bashrc").write_text("echo welcome; echo hello >&2\n")
    (server.folder / "home" / ".profile").write_text("echo welcome\n")
    try:
        transport = server.connect()
        done = transport.run(["sh", "-c", "echo out; echo err >&2"], deadline=Deadline.after(LIMIT_S))
        assert done.stdout == b"out\n"
        assert done.stderr.replace(b"hello\n", b"") == b"err\n"
        there_and_back(transport, make_large(tmp_path / "here", 1), tmp_path)
        transport.close()
    finally:
        server.close()


def test_an_account_that_runs_no_commands_is_named(tmp_path: Path) -> None:
    server = start_sshd(tmp_path / "sshd", "ForceCommand echo only files here; exit 1")
    try:
        transport = server.connect()
        with pytest.raises(TransportError, match="did not start"):
            transport.run(["true"], deadline=Deadline.after(LIMIT_S))
        transport.close()
    finally:
        server.close()


def test_a_read_only_file_system_is_named(sshd: Sshd, tmp_path: Path, tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    (tmp_path / "here").write_bytes(b"new")
    transport = sshd.connect()
    with pytest.raises(DeviceError, match="read-only") as caught:
        transport.push(tmp_path / "here", f"{tiny_disk}/there", deadline=Deadline.after(LIMIT_S))
    assert caught.value.code == "read_only"
    transport.close()


def test_messages_come_in_one_language(sshd: Sshd) -> None:
    transport = sshd.connect()
    assert transport.run(["printenv", "LC_ALL"], deadline=Deadline.after(LIMIT_S)).stdout == b"C\n"
    transport.close()


def test_a_command_inherits_no_signal_and_no_descriptor_of_its_carrier(sshd: Sshd) -> None:
    transport = sshd.connect()
    done = transport.run(["cat", "/proc/self/status"], deadline=Deadline.after(LIMIT_S)).stdout.decode()
    ignored = int(next(line.split()[1] for line in done.splitlines() if line.startswith("SigIgn")), 16)
    assert not ignored & 0b100_0000_0000_0011  # HUP, INT, TERM
    listed = transport.run(["ls", "/proc/self/fd"], deadline=Deadline.after(LIMIT_S)).stdout.split()
    assert listed == [b"0", b"1", b"2", b"3"]  # the last one is the folder that ls reads
    transport.close()


def test_words_that_no_program_takes_are_refused_here(sshd: Sshd) -> None:
    transport = sshd.connect()
    with pytest.raises(UsageError, match="zero byte"):
        transport.run(["echo", "a\0b"], deadline=Deadline.after(LIMIT_S))
    done = transport.run(["echo", "x" * 200_000], deadline=Deadline.after(LIMIT_S))
    assert (done.code, done.complaint) == (126, "echo: Argument list too long")
    for program in ("-c", ""):
        assert transport.run([program], deadline=Deadline.after(LIMIT_S)).code == 127
    assert transport.run(["cd", "/"], deadline=Deadline.after(LIMIT_S)).code == 127  # a word of the shell, no program
    transport.close()


def test_relative_names_that_look_like_options_are_names(sshd: Sshd, tmp_path: Path) -> None:
    transport = sshd.connect()
    (tmp_path / "here").write_bytes(b"data")
    with pytest.raises(DeviceError, match="-rf") as caught:
        transport.pull("-rf", tmp_path / "back", deadline=Deadline.after(LIMIT_S), limit_bytes=4)
    assert caught.value.code == "missing"
    with pytest.raises(DeviceError, match="--help/there") as caught:
        transport.push(tmp_path / "here", "--help/there", deadline=Deadline.after(LIMIT_S))
    assert caught.value.code == "missing"
    transport.close()
