"""`melt devices trust` and `melt doctor ssh://…` as a person types them, against a real SSH server."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from sshd import make_key
from workspace import Said

from melt.places import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sshd import Sshd

pytestmark = pytest.mark.peer

LIMIT_S = 120.0


class Person:
    """Somebody with a home of their own, whose `~/.ssh/config` knows the server as `board`."""

    def __init__(self, folder: Path, sshd: Sshd) -> None:
        self.home = folder / "home"
        self.folder = folder
        self.address = "ssh://board"
        self.known_hosts = self.home / ".ssh" / "known_hosts"
        self.known_hosts.parent.mkdir(parents=True, mode=0o700)
        self.config("Host board", "HostName 127.0.0.1", f"Port {sshd.port}", f"IdentityFile {sshd.identity}")
        (folder / "lab.yaml").write_text(
            "schema: 1\nkind: lab\ndevices:\n"
            '  pi: {profile: linux, address: "ssh://board"}\n'
            '  phone: {profile: linux, address: "adb+tcp://127.0.0.1:1"}\n'
        )

    def config(self, *lines: str) -> None:
        (self.home / ".ssh" / "config").write_text("\n".join((*lines, "")))

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.home), "XDG_CACHE_HOME": str(cache_dir().parent)}

    def melt(self, *argv: str, typed: str | None = None) -> Said:
        """Runs melt to its end, at a terminal where this is typed, else without one."""
        ours, its = pty.openpty()
        with os.fdopen(ours, "wb", buffering=0) as keyboard, os.fdopen(its, "rb", buffering=0) as terminal:
            if typed is not None:
                keyboard.write(typed.encode())
            done = subprocess.run(
                [sys.executable, "-m", "melt", *argv],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL if typed is None else terminal,
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
            )
        assert "Traceback" not in done.stderr
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def person(tmp_path: Path, sshd: Sshd) -> Person:
    return Person(tmp_path, sshd)


@pytest.fixture
def right(sshd: Sshd) -> str:
    """The server's fingerprint as OpenSSH shows it."""
    argv = ["ssh-keygen", "-lf", str(sshd.folder / "host.pub")]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]


@pytest.fixture
def old_key(tmp_path: Path, sshd: Sshd, person: Person) -> str:
    """The server was known, with another key: what the file of known hosts holds."""
    kind, blob = make_key(tmp_path / "old").with_suffix(".pub").read_text().split()[:2]
    text = f"# mine\n[127.0.0.1]:{sshd.port} {kind} {blob}\n"
    person.known_hosts.write_text(text)
    return text


@pytest.mark.parametrize("device", ["pi", "ssh://board"])
def test_a_yes_is_written_where_openssh_finds_it_and_the_device_is_ready(
    person: Person, sshd: Sshd, right: str, device: str
) -> None:
    said = person.melt("devices", "trust", device, "--lab", "lab.yaml", typed="y\n")
    assert said.code == 0, said
    assert right in said.stderr
    assert str(person.known_hosts) in said.stderr
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in said.stderr
    assert f"{device} is trusted from now on: ssh-ed25519 {right}" in said.stdout
    argv = ["ssh-keygen", "-lF", f"[127.0.0.1]:{sshd.port}", "-f", str(person.known_hosts)]
    assert right in subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    rows = json.loads(person.melt("devices", "--lab", "lab.yaml", "--json").stdout)
    assert {row["device"]: row["ready"] for row in rows if row["known_from"] == "lab"} == {
        "local": True,
        "pi": True,
        "phone": False,
    }


def test_what_is_trusted_already_is_said_and_nothing_is_written(person: Person, right: str) -> None:
    assert person.melt("devices", "trust", "ssh://board", "--yes").code == 0
    before = person.known_hosts.read_bytes()
    said = person.melt("devices", "trust", "ssh://board")
    assert said.code == 0, said
    assert f"was trusted already: ssh-ed25519 {right}" in said.stdout
    assert person.known_hosts.read_bytes() == before


@pytest.mark.parametrize("typed", ["n\n", "\n"])
def test_only_a_yes_is_a_yes(person: Person, typed: str) -> None:
    said = person.melt("devices", "trust", "ssh://board", typed=typed)
    assert said.code == 1
    assert "nothing was written" in said.sentence
    assert not person.known_hosts.exists()


def test_without_a_terminal_nobody_is_asked_and_yes_has_to_be_said(person: Person, right: str) -> None:
    said = person.melt("devices", "trust", "pi", "--lab", "lab.yaml")
    assert said.code == 2
    assert right in said.stderr
    assert not person.known_hosts.exists()
    (again,) = re.findall(r"`melt (.*)`", said.sentence)
    told = person.melt(*again.split(), "--json")
    assert told.code == 0, told
    data = json.loads(told.stdout)
    assert data["was_trusted"] is False
    assert (data["fingerprint"], data["known_hosts"]) == (right, str(person.known_hosts))
    assert person.known_hosts.exists()


@pytest.mark.parametrize("more", [(), ("--yes",)])
def test_a_changed_key_is_refused_with_the_line_and_never_replaced(
    person: Person, right: str, old_key: str, more: tuple[str, ...]
) -> None:
    said = person.melt("devices", "trust", "pi", "--lab", "lab.yaml", *more, typed="y\n")
    assert said.code == 4
    assert f"{person.known_hosts}:2" in said.sentence
    assert right in said.sentence
    assert "remove that line" in said.sentence
    assert person.known_hosts.read_text() == old_key


def test_a_file_that_keeps_nothing_is_told(person: Person, sshd: Sshd) -> None:
    person.config("Host board", "HostName 127.0.0.1", f"Port {sshd.port}", "UserKnownHostsFile /dev/null")
    said = person.melt("devices", "trust", "ssh://board", "--yes")
    assert said.code == 2
    assert "/dev/null keeps nothing" in said.sentence


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("local", "ssh:// only"),
        ("phone", "accept this computer on its screen"),
        ("adb://abc", "accept this computer on its screen"),
        ("board", "such as ssh://board"),
        ("phon", "did you mean 'phone'?"),
    ],
)
def test_what_is_not_reached_by_ssh_is_not_trusted_here(person: Person, device: str, told: str) -> None:
    said = person.melt("devices", "trust", device, "--lab", "lab.yaml", "--yes")
    assert said.code == 2
    assert told in said.sentence


def test_the_lab_file_may_stand_before_trust(person: Person) -> None:
    said = person.melt("devices", "--lab", "lab.yaml", "--json", "trust", "pi", "--yes")
    assert said.code == 0, said
    assert json.loads(said.stdout)["device"] == "pi"


def test_a_server_that_nobody_knows_is_told_with_the_command_that_makes_it_known(person: Person) -> None:
    rows = json.loads(person.melt("devices", "--lab", "lab.yaml", "--json").stdout)
    (problem,) = [row["problem"] for row in rows if row["device"] == "pi"]
    (command,) = re.findall(r"`melt (devices trust [^`]*)`", problem)
    assert person.melt(*command.split(), "--yes").code == 0
    rows = json.loads(person.melt("devices", "--lab", "lab.yaml", "--json").stdout)
    assert [row["problem"] for row in rows if row["device"] == "pi"] == [None]


def test_doctor_takes_an_address_and_says_which_profile_it_took(person: Person) -> None:
    assert person.melt("devices", "trust", "ssh://board", "--yes").code == 0
    told = json.loads(person.melt("doctor", "ssh://board", "--json").stdout)
    assert (told["device"], told["profile"], told["profile_chosen_by"]) == ("ssh://board", "linux", "address")
    assert told["facts"]["machine"]["value"]
    said = person.melt("doctor", "ssh://board")
    assert said.code == 0, said
    assert "profile linux, chosen by the address" in said.stdout
    named = json.loads(person.melt("doctor", "pi", "--lab", "lab.yaml", "--json").stdout)
    assert (named["device"], named["profile_chosen_by"]) == ("pi", "lab")


@pytest.fixture
def meeting() -> Iterator[tuple[int, list[socket.socket]]]:
    """A port that answers nobody before three are there at the same time, or the limit has passed; who came in time."""
    came: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(8)  # melt gives a silent server up after that

        def serve() -> None:
            try:
                while len(came) < 3:
                    came.append(listener.accept()[0])
            except TimeoutError:
                pass
            for wire in came:
                wire.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], came
        thread.join()


def test_devices_are_looked_at_all_at_the_same_time(person: Person, meeting: tuple[int, list[socket.socket]]) -> None:
    port, came = meeting
    lines = [f'  dead{i}: {{profile: linux, address: "ssh://127.0.0.1:{port}"}}' for i in range(3)]
    person.folder.joinpath("lab.yaml").write_text("\n".join(("schema: 1\nkind: lab\ndevices:", *lines, "")))
    rows = json.loads(person.melt("devices", "--lab", "lab.yaml", "--json").stdout)
    assert [row["device"] for row in rows if row["known_from"] == "lab"] == ["local", "dead0", "dead1", "dead2"]
    assert all(row["problem"] for row in rows if row["device"].startswith("dead"))
    assert len(came) == 3


def test_on_a_terminal_it_is_said_what_is_waited_for(person: Person) -> None:
    ours, its = pty.openpty()
    argv = [sys.executable, "-m", "melt", "devices", "--lab", "lab.yaml"]
    environment = {**person.environment, "TERM": "xterm"}
    silent = socket.create_server(("127.0.0.1", 0))
    person.folder.joinpath("lab.yaml").write_text(
        "schema: 1\nkind: lab\ndevices:\n"
        f'  silent: {{profile: linux, address: "ssh://127.0.0.1:{silent.getsockname()[1]}"}}\n'
    )
    with subprocess.Popen(
        argv, cwd=person.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=its
    ) as child:
        os.close(its)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
                if b"looking at" in shown:
                    silent.close()  # which ends its connection, and with that the waiting
        except OSError:  # how a terminal ends whose other side is closed
            pass
        finally:
            silent.close()
            os.close(ours)
        assert child.stdout is not None
        table = child.stdout.read()
    assert child.returncode == 0
    assert re.search(rb"looking at [a-z, ]*silent", shown)
    assert b"looking at" not in table
    assert b"silent" in table
