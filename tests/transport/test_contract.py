"""What every transport promises, tried on each of them with a real peer."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import pytest
from peers import LIMIT_S

from melt.errors import DeviceError, TransportTimeout, UsageError
from melt.transport import Completed, Deadline, Process

if TYPE_CHECKING:
    from pathlib import Path

    from peers import Peer

EVERY_BYTE = bytes(range(256)) * 256
PROMPT_S = 0.3
"""For what is meant to run into its deadline."""

HOSTILE = [
    "",
    " ",
    "two words",
    "-n",
    "--",
    "--help",
    "it's",
    'a "quoted" word',
    "$(touch escaped)",
    "`touch escaped`",
    "$HOME",
    "a;b|c&d>e<f",
    "*",
    "~",
    "{a,b}",
    "!!",
    "#no comment",
    "back\\slash\\",
    "line\nend\n",
    "\ttab\r",
    "%s%n%d",
    "ünïcödé 漢字 🦜",
    "\x01\x7f",
    "x" * 100_000,
]


def end_of(process: Process) -> bytes:
    """The rest of a command's stdout."""
    deadline, said = Deadline.after(LIMIT_S), b""
    while chunk := process.read(deadline):
        said += chunk
    return said


# ------------------------------------------------------------------------------------------------ run


def test_every_exit_code_arrives(peer: Peer) -> None:
    codes = {code: peer.sh(f"exit {code}").code for code in range(256)}
    assert codes == {code: code for code in range(256)}


def test_a_command_killed_by_a_signal_has_128_and_the_signal(peer: Peer) -> None:
    assert peer.sh("kill -9 $$").code == 137
    assert peer.sh("kill -15 $$").code == 143


def test_every_byte_passes_through_stdin_and_stdout(peer: Peer) -> None:
    done = peer.run("cat", stdin=EVERY_BYTE)
    assert (done.code, done.stderr) == (0, b"")
    assert done.stdout == EVERY_BYTE


def test_every_byte_passes_through_stderr(peer: Peer) -> None:
    done = peer.transport.run(["sh", "-c", "cat >&2"], deadline=Deadline.after(LIMIT_S), stdin=EVERY_BYTE)
    assert (done.code, done.stdout) == (0, b"")
    assert done.stderr == EVERY_BYTE


def test_both_outputs_at_once_are_kept_apart_and_whole(peer: Peer) -> None:
    done = peer.sh("head -c 1000000 /dev/zero >&2 & head -c 2000000 /dev/zero | tr '\\0' x; wait")
    assert done.stdout == b"x" * 2_000_000
    assert done.stderr == bytes(1_000_000)


def test_a_command_that_does_not_read_its_stdin_is_fine(peer: Peer) -> None:
    assert peer.run("true", stdin=bytes(1 << 20)).code == 0


def test_without_stdin_a_command_reads_an_end(peer: Peer) -> None:
    assert peer.run("cat", limit_s=LIMIT_S).stdout == b""


def test_no_word_is_read_by_a_shell(peer: Peer) -> None:
    done = peer.sh('cd "$1"; shift; for word; do printf "%s\\0" "$word"; done', peer.folder, *HOSTILE)
    assert done.stdout.decode().split("\0")[:-1] == HOSTILE
    assert peer.names() == []


def test_the_command_is_named_in_what_it_gives(peer: Peer) -> None:
    assert peer.run("echo", "a b").argv == ("echo", "a b")


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program", "/dev/null/program"])
def test_a_missing_program_gives_127(peer: Peer, program: str) -> None:
    done = peer.run(program, "word")
    assert (done.code, done.stdout) == (127, b"")
    assert program.rpartition("/")[2] in done.complaint


def test_what_may_not_be_executed_gives_126(peer: Peer, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\nexit 0\n")
    peer.push(plain, f"{peer.folder}/plain")
    assert peer.run(f"{peer.folder}/plain").code == 126
    assert peer.run(peer.folder).code == 126


def test_a_deadline_ends_the_work_and_its_children_and_keeps_what_was_said(peer: Peer) -> None:
    script = "sleep 600 & echo $!; sh -c 'sleep 600 & echo $!; wait' & echo complaint >&2; wait"
    with pytest.raises(TransportTimeout, match="sleep 600") as caught:
        peer.sh(script, limit_s=1.0)
    pids = [int(word) for word in caught.value.stdout.split()]
    assert len(pids) == 2
    assert caught.value.stderr == b"complaint\n"
    assert all(peer.gone(pid) for pid in pids)


def test_a_deadline_ends_what_outlives_its_starter(peer: Peer) -> None:
    with pytest.raises(TransportTimeout) as caught:
        peer.sh("sleep 600 & echo $!; exit 0", limit_s=PROMPT_S)
    assert peer.gone(int(caught.value.stdout))


def test_a_command_that_ignores_signals_is_ended_too(peer: Peer) -> None:
    with pytest.raises(TransportTimeout) as caught:
        peer.sh("trap '' TERM INT HUP; echo $$; while :; do sleep 0.1; done", limit_s=PROMPT_S)
    assert peer.gone(int(caught.value.stdout))


def test_a_deadline_that_has_passed_is_a_timeout(peer: Peer) -> None:
    with pytest.raises(TransportTimeout):
        peer.sh("sleep 600", limit_s=-1.0)


# ---------------------------------------------------------------------------------------------- start


def test_the_first_line_comes_while_the_command_still_runs(peer: Peer) -> None:
    fifo = f"{peer.folder}/fifo"
    assert peer.run("mkfifo", fifo).ok
    process = peer.transport.start(["sh", "-c", 'echo one; read -r line < "$1"; echo "$line"', "sh", fifo])
    try:
        assert process.read(Deadline.after(LIMIT_S)) == b"one\n"
        with pytest.raises(TransportTimeout):
            process.read(Deadline.after(PROMPT_S))
        assert peer.sh('echo two > "$1"', fifo).ok
        assert end_of(process) == b"two\n"
        assert process.read(Deadline.after(LIMIT_S)) == b""
        assert process.wait(Deadline.after(LIMIT_S)).code == 0
    finally:
        process.close()


def test_much_on_stderr_does_not_hold_up_stdout(peer: Peer) -> None:
    process = peer.transport.start(["sh", "-c", "head -c 500000 /dev/zero >&2; echo here; exit 3"])
    try:
        assert end_of(process) == b"here\n"
        done = process.wait(Deadline.after(LIMIT_S))
    finally:
        process.close()
    assert (done.code, done.stdout, len(done.stderr)) == (3, b"", 500_000)


def test_endless_words_on_stderr_do_not_hold_up_the_deadline(peer: Peer) -> None:
    process = peer.transport.start(["sh", "-c", "while :; do echo word >&2; done"])
    try:
        with pytest.raises(TransportTimeout):
            process.read(Deadline.after(PROMPT_S))
    finally:
        process.close()


def test_wait_gives_code_and_the_output_not_yet_read(peer: Peer) -> None:
    process = peer.transport.start(["sh", "-c", "echo out; echo err >&2; exit 7"])
    done = process.wait(Deadline.after(LIMIT_S))
    process.close()
    assert (done.code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_wait_ends_a_command_at_its_deadline_with_what_it_started(peer: Peer) -> None:
    process = peer.transport.start(["sh", "-c", "sleep 600 & echo $!; exit 0"])
    with pytest.raises(TransportTimeout) as caught:
        process.wait(Deadline.after(PROMPT_S))
    process.close()
    assert peer.gone(int(caught.value.stdout))


def test_a_started_command_has_no_stdin(peer: Peer) -> None:
    process = peer.transport.start(["cat"])
    assert process.wait(Deadline.after(LIMIT_S)) == Completed(("cat",), 0, b"", b"")
    process.close()


def test_a_command_is_answered_line_by_line(peer: Peer) -> None:
    process = peer.transport.start(["sh", "-c", 'while read -r x; do echo "<$x>"; done; echo end'], has_stdin=True)
    try:
        for word in (b"one", b"two", b"a" * 1000):
            process.write(word + b"\n", Deadline.after(LIMIT_S))
            said = b""
            while not said.endswith(b"\n"):
                said += process.read(Deadline.after(LIMIT_S))
            assert said == b"<%b>\n" % word
        done = process.wait(Deadline.after(LIMIT_S))
    finally:
        process.close()
    assert (done.code, done.stdout) == (0, b"end\n")


def test_every_byte_that_is_written_arrives_also_a_megabyte_at_once(peer: Peer) -> None:
    process = peer.transport.start(["wc", "-c"], has_stdin=True)
    process.write(EVERY_BYTE * 16, Deadline.after(LIMIT_S))
    process.write(EVERY_BYTE, Deadline.after(LIMIT_S))
    done = process.wait(Deadline.after(LIMIT_S))
    process.close()
    assert int(done.stdout) == 17 * len(EVERY_BYTE)


def test_writing_to_a_command_that_reads_nothing_ends_at_the_deadline(peer: Peer) -> None:
    process = peer.transport.start(["sh", "-c", "echo $$; exec sleep 600"], has_stdin=True)
    try:
        pid = int(process.read(Deadline.after(LIMIT_S)))
        with pytest.raises(TransportTimeout):
            process.write(bytes(64 << 20), Deadline.after(PROMPT_S))
    finally:
        process.close()
    assert peer.gone(pid)


def test_writing_to_a_command_that_has_ended_or_never_was_is_no_error(peer: Peer) -> None:
    for argv in (["true"], ["no-such-program"]):
        process = peer.transport.start(argv, has_stdin=True)
        assert end_of(process) == b""
        process.write(b"word\n", Deadline.after(LIMIT_S))
        process.wait(Deadline.after(LIMIT_S))
        process.close()


def test_letting_go_of_a_command_that_waits_for_its_stdin_ends_it(peer: Peer) -> None:
    process = peer.transport.start(["sh", "-c", "echo $$; exec cat"], has_stdin=True)
    pid = int(process.read(Deadline.after(LIMIT_S)))
    process.close()
    assert peer.gone(pid)


def test_closing_a_command_ends_it_with_its_children(peer: Peer) -> None:
    process = peer.transport.start(["sh", "-c", "sleep 600 & echo $! $$; wait"])
    child, leader = map(int, process.read(Deadline.after(LIMIT_S)).split())
    process.close()
    process.close()
    assert peer.gone(child)
    assert peer.gone(leader)


def test_starting_a_missing_program_gives_127(peer: Peer) -> None:
    process = peer.transport.start(["no-such-program"])
    assert process.read(Deadline.after(LIMIT_S)) == b""
    assert process.wait(Deadline.after(LIMIT_S)).code == 127
    process.close()


def test_two_commands_at_once_do_not_wait_for_each_other(peer: Peer) -> None:
    names = [f"{peer.folder}/{i}" for i in range(2)]
    assert peer.run("mkfifo", *names).ok
    script = 'echo ready; read -r line < "$1"; echo "$line"'
    first, second = (peer.transport.start(["sh", "-c", script, "sh", name]) for name in names)
    try:
        assert first.read(Deadline.after(LIMIT_S)) == second.read(Deadline.after(LIMIT_S)) == b"ready\n"
        for process, name in ((second, names[1]), (first, names[0])):
            assert peer.sh('echo "$1" > "$1"', name).ok
            assert end_of(process) == f"{name}\n".encode()
    finally:
        first.close()
        second.close()


def test_commands_from_several_threads_keep_their_outputs_apart(peer: Peer) -> None:
    said: dict[int, bytes] = {}

    def ask(i: int) -> None:
        said[i] = peer.sh('i=0; while [ $i -lt 50 ]; do echo "$1"; i=$((i+1)); done', str(i)).stdout

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {i: b"%d\n" % i * 50 for i in range(6)}


# --------------------------------------------------------------------------------------- push and pull


@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_001])
def test_a_file_comes_back_as_it_went(peer: Peer, tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "here").write_bytes(data)
    peer.push(tmp_path / "here", f"{peer.folder}/there")
    peer.pull(f"{peer.folder}/there", tmp_path / "back", limit_bytes=size)
    assert (tmp_path / "back").read_bytes() == data
    assert peer.names() == ["there"]


@pytest.mark.parametrize("name", ["two words", "-n", "line\nend", "it's $(x) `y`", "漢字🦜", "é" * 127, ".hidden"])
def test_a_file_may_have_any_name(peer: Peer, tmp_path: Path, name: str) -> None:
    (tmp_path / "here").write_bytes(EVERY_BYTE)
    peer.push(tmp_path / "here", f"{peer.folder}/{name}")
    peer.pull(f"{peer.folder}/{name}", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == EVERY_BYTE


def test_only_what_is_pushed_as_a_program_can_be_executed(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\necho fine\n")
    peer.push(tmp_path / "program", f"{peer.folder}/program", executable=True)
    assert peer.run(f"{peer.folder}/program").stdout == b"fine\n"
    peer.push(tmp_path / "program", f"{peer.folder}/program")
    assert peer.run(f"{peer.folder}/program").code == 126


def test_a_program_is_replaced_while_it_runs(peer: Peer, tmp_path: Path) -> None:
    peer.pull(peer.sh("readlink -f $(command -v cat)").stdout.decode().strip(), tmp_path / "cat")
    peer.push(tmp_path / "cat", f"{peer.folder}/cat", executable=True)
    assert peer.run("mkfifo", f"{peer.folder}/fifo").ok
    process = peer.transport.start([f"{peer.folder}/cat", "/dev/null", f"{peer.folder}/fifo"])
    try:
        peer.push(tmp_path / "cat", f"{peer.folder}/cat", executable=True)
        assert peer.sh('echo alive > "$1/fifo"', peer.folder).ok
        assert end_of(process) == b"alive\n"
    finally:
        process.close()


@pytest.mark.parametrize("place", ["no/such/folder/file", "file/below"])
def test_a_file_that_cannot_be_written_names_its_place(peer: Peer, tmp_path: Path, place: str) -> None:
    (tmp_path / "here").write_bytes(b"new")
    peer.push(tmp_path / "here", f"{peer.folder}/file")
    with pytest.raises(DeviceError, match=place):
        peer.push(tmp_path / "here", f"{peer.folder}/{place}")
    assert peer.names() == ["file"]


def test_a_folder_is_not_overwritten_by_a_file(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(b"new")
    assert peer.run("mkdir", f"{peer.folder}/taken").ok
    with pytest.raises(DeviceError, match="taken"):
        peer.push(tmp_path / "here", f"{peer.folder}/taken")
    assert peer.names() == ["taken"]
    assert peer.run("ls", "-A", f"{peer.folder}/taken").stdout == b""


def test_a_file_for_which_there_is_no_space_leaves_the_old_one_whole(
    peer: Peer, tmp_path: Path, tiny_disk: Path
) -> None:
    (tmp_path / "small").write_bytes(b"old")
    (tmp_path / "big").write_bytes(bytes(2 << 20))
    peer.push(tmp_path / "small", f"{tiny_disk}/file")
    with pytest.raises(DeviceError, match="space") as caught:
        peer.push(tmp_path / "big", f"{tiny_disk}/file")
    assert caught.value.code == "no_space"
    peer.pull(f"{tiny_disk}/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"old"
    assert peer.run("ls", "-A", str(tiny_disk)).stdout == b"file\n"


def test_a_push_that_is_too_slow_leaves_nothing(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(bytes(5 << 20))
    with pytest.raises(TransportTimeout, match="here"):
        peer.transport.push(tmp_path / "here", f"{peer.folder}/there", deadline=Deadline.after(0))
    assert peer.names() == []


def test_pushing_a_file_that_is_not_here_blames_who_named_it(peer: Peer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent"):
        peer.push(tmp_path / "absent", f"{peer.folder}/there")
    assert peer.names() == []


@pytest.mark.parametrize("name", ["absent", "file/below"])
def test_pulling_what_is_not_there_says_missing(peer: Peer, tmp_path: Path, name: str) -> None:
    (tmp_path / "here").write_bytes(b"data")
    peer.push(tmp_path / "here", f"{peer.folder}/file")
    with pytest.raises(DeviceError, match=name) as caught:
        peer.pull(f"{peer.folder}/{name}", tmp_path / "back")
    assert caught.value.code == "missing"
    assert not (tmp_path / "back").exists()


def test_pulling_what_is_larger_than_the_limit_leaves_what_was_here(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(bytes(1001))
    (tmp_path / "back").write_bytes(b"old")
    peer.push(tmp_path / "here", f"{peer.folder}/there")
    with pytest.raises(DeviceError, match="1000"):
        peer.pull(f"{peer.folder}/there", tmp_path / "back", limit_bytes=1000)
    assert (tmp_path / "back").read_bytes() == b"old"


def test_a_file_whose_size_the_kernel_does_not_tell_comes_whole_or_not_at_all(peer: Peer, tmp_path: Path) -> None:
    peer.pull("/proc/cpuinfo", tmp_path / "back")
    assert b"\n" in (tmp_path / "back").read_bytes()
    with pytest.raises(DeviceError, match="20"):
        peer.pull("/proc/cpuinfo", tmp_path / "other", limit_bytes=20)
    assert not (tmp_path / "other").exists()


def test_a_folder_or_a_pipe_cannot_be_pulled_and_hangs_nothing(peer: Peer, tmp_path: Path) -> None:
    assert peer.run("mkfifo", f"{peer.folder}/fifo").ok
    for name in (peer.folder, f"{peer.folder}/fifo"):
        with pytest.raises(DeviceError, match="not a file"):
            peer.pull(name, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_pull_that_is_too_slow_leaves_nothing(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(bytes(5 << 20))
    peer.push(tmp_path / "here", f"{peer.folder}/there")
    with pytest.raises(TransportTimeout, match="there"):
        peer.transport.pull(f"{peer.folder}/there", tmp_path / "back", deadline=Deadline.after(0), limit_bytes=10 << 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "here"]


def test_what_was_started_detached_outlives_the_command_that_started_it(peer: Peer) -> None:
    pid = peer.sh("sleep 600 < /dev/null > /dev/null 2>&1 & echo $!").stdout.decode().strip()
    assert peer.run("kill", "-0", pid).ok
    assert peer.run("kill", "-9", pid).ok
    assert peer.gone(int(pid))
