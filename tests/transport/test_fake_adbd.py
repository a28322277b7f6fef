"""The fake adb daemon without faults is a daemon: the real adb client is told the same by it as by the real one."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from adbd import ADB, until
from fake_adbd import FakeAdbd, lives

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adbd import AdbPeers, OwnServer

pytestmark = pytest.mark.peer

PREPARED = """
echo small > small; chmod 640 small; : > empty; head -c 3000000 /dev/zero | tr '\\0' '\\347' > large
ln -s small link; ln -s nowhere dangling; mkdir -p tree/in; echo 1 > 'tree/a b'; echo 2 > 'tree/é$x'
"""
"""Here and on the device at once: both are this computer. $D is the folder's path, for the device's side."""

SAME = {
    "exit code": "for code in 0 1 42 127 255; do adb shell exit $code; echo $?; done",
    "shell that is killed": "adb shell 'kill -9 $$'; echo $?; adb shell 'kill -1 $$'; echo $?",
    "outputs apart": "adb shell 'echo out; echo err >&2; exit 3'",
    "outputs together": "adb shell -x 'echo out; echo err >&2; exit 3'",
    "no protocol": "adb exec-out 'printf \"a\\nb\"; echo err >&2; exit 3'",
    "program that is not there": "adb shell no-such-program",
    "words that a shell would take apart": "adb shell printf '%s.' \"'a b'\" \"'\\$HOME'\" é '\\;'",
    "stdin to its end": "adb shell 'cat; echo end' < small; adb shell md5sum < large",
    "stdin that nobody reads": "adb shell 'exec 0<&-; echo hi' < large; adb shell exit 3 < large",
    "no stdin": "adb shell -n 'cat; echo end' < small",
    "commands from stdin": "echo 'echo $0; exit 9' | adb shell",
    "binary output": "for way in shell exec-out; do adb $way cat $D/large | cmp - large && echo same; done",
    "what a command is given": "adb shell 'umask; readlink /proc/self/fd/[012] | cut -d: -f1; echo $TERM'",
    "session of its own": 'adb shell \'ps -o pid=,pgid=,sid= -p $$ | tr -s " " "\\n" | sort -u | grep -c .\'',
    "output that a child still holds": "adb shell '(sleep 0.3; echo later) & echo now'",
    "two at once": "adb shell 'sleep 0.3; echo one' > 1 & adb shell 'echo two; exit 2' > 2; echo $?; wait; cat 1 2",
    "client that dies": """
        adb shell "trap 'echo hup > $D/said; exit' HUP; : > $D/begun; while :; do sleep 0.05; done" &
        until [ -e begun ]; do sleep 0.05; done; kill -9 $!; until [ -e said ]; do sleep 0.05; done; cat said""",
    "states": "adb get-state; adb get-devpath; adb wait-for-device; adb features | grep -xE 'shell_v2|stat_v2|ls_v2'",
    "push small, empty, large": "adb push small $D/1; adb push empty $D/2; adb push large $D/3; cmp large 3",
    "push several to a folder": "adb push small empty $D/tree/in",
    # with itself the real daemon agrees only without the client's word on how soon the daemon hung up
    "push several, one refused": """mkdir -p mix/small
        adb push small empty $D/mix 2>&1 | grep -v 'copy response: EOF' | sort""",
    "push what is missing": "adb push no-such-file $D/x",
    "push into a missing folder": "for to in new/deep/file newer/; do adb push small $D/$to; done; adb push tree $D/x",
    "push below a file": "adb push small $D/small/under",
    "push onto what is there": "chmod 400 empty; for to in empty link dangling tree; do adb push small $D/$to; done",
    "push onto what takes nothing": "for to in /proc/version /proc/x /dev/full; do adb push large $to; echo $?; done",
    "push keeps times": "touch -d @1000000000 small; adb push small $D/1; stat -c %Y 1; adb push --sync small $D/1",
    "folders there and back": "adb push tree $D/t2; adb pull $D/t2 t3",
    "odd names": """cp small "a 'b"; cp small 'é\\n'; adb push "a 'b" 'é\\n' $D/tree/in
        adb pull "$D/a 'b" "$D/é\\n" tree""",
    "pull small, empty, large": "adb pull $D/small 1; adb pull $D/empty 2; adb pull $D/large 3; cmp large 3",
    "pull keeps mode and time": "touch -d @1000000000 small; adb pull -a $D/small 1; stat -c '%a %Y' 1",
    "pull what is missing": "adb pull $D/no-such-file x; adb pull $D/dangling x; adb pull $D/small/under x",
    "pull what has no size": "adb pull /proc/version x; adb pull $D/link y",
    "pull what cannot be read": "adb pull /proc/self/mem x; adb pull /proc/self/attr y; rm -rf y",
    "list": "adb ls $D | sed 's/ [0-9a-f]* / /2' | sort; adb ls $D/small; adb ls $D/no-such-folder",
}


@dataclass(frozen=True)
class Answer:
    """What a script on the host's side said and left behind."""

    code: int
    stdout: str
    stderr: list[str]
    """Without rates; sorted, for adb's own threads write in any order."""
    files: dict[str, tuple[str, str]]
    """Each name with its mode, and its content's hash."""


def ask(script: str, serial: str, server: OwnServer, folder: Path) -> Answer:
    folder.mkdir()
    path = f"{ADB.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", f"{PREPARED}\n{script}"],
        env={**server.environment, "PATH": path, "ANDROID_SERIAL": serial, "D": str(folder), "LC_ALL": "C.UTF-8"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )

    def plain(said: bytes) -> str:
        text = said.decode("utf-8", "backslashreplace").replace(str(folder), "HERE").replace(serial, "SERIAL")
        return re.sub(r" [0-9.]+ MB/s \((\d+) bytes in [0-9.]+s\)", r" (\1 bytes)", text)

    return Answer(done.returncode, plain(done.stdout), sorted(plain(done.stderr).splitlines()), dict(left(folder)))


def left(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    for path in sorted(folder.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        yield str(path.relative_to(folder)), (f"{path.lstat().st_mode:o}", content)


@pytest.fixture(scope="module")
def fake(adb_peers: AdbPeers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAdbd]:
    with FakeAdbd(tmp_path_factory.mktemp("fake")) as daemon:
        adb_peers.server.adb("connect", daemon.serial)
        adb_peers.server.adb("connect", adb_peers.daemon.serial)
        yield daemon
        adb_peers.server.forget(daemon)


@pytest.mark.parametrize("name", SAME)
def test_the_adb_client_is_told_the_same_by_both(
    name: str, fake: FakeAdbd, adb_peers: AdbPeers, tmp_path: Path
) -> None:
    real = ask(SAME[name], adb_peers.daemon.serial, adb_peers.server, tmp_path / "real")
    assert ask(SAME[name], fake.serial, adb_peers.server, tmp_path / "fake") == real
    assert real.stdout or real.stderr


def test_what_a_command_leaves_behind_is_ended_with_the_daemon(adb_peers: AdbPeers, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with FakeAdbd(tmp_path) as daemon:
        adb_peers.server.adb("connect", daemon.serial)
        script = f"setsid sh -c 'echo $$ > {pid}; sleep 600 & wait' > /dev/null 2>&1 < /dev/null &"
        adb_peers.server.adb("-s", daemon.serial, "shell", script)
        until("its number", lambda: pid.exists() and pid.read_text().endswith("\n"))
        escaped = psutil.Process(int(pid.read_text()))
        until("its child", escaped.children)
        both = [escaped, *escaped.children()]
        daemon.kill_tree()
        assert [process for process in both if lives(process)] == []
        adb_peers.server.forget(daemon)


def test_what_goes_wrong_in_the_daemon_fails_the_test_that_uses_it(tmp_path: Path) -> None:
    def misuse() -> None:
        with FakeAdbd(tmp_path) as daemon, socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as wire:
            wire.sendall(bytes(24))
            assert wire.recv(1) == b""
            until("its complaint", lambda: "what is no message" in (tmp_path / "fake-adbd.log").read_text())

    with pytest.raises(AssertionError, match="what is no message"):
        misuse()


def test_a_daemon_whose_test_is_killed_ends(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from fake_adbd import FakeAdbd, lives;"
        "print(FakeAdbd(Path(sys.argv[1]))._process.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as test:
        assert test.stdout is not None
        daemon = psutil.Process(int(test.stdout.readline()))
        assert lives(daemon)
        test.kill()
    until("the daemon's end", lambda: not lives(daemon))
