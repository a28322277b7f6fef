"""How an SSH connection comes to be: host keys, keys, configuration, jump hosts, and each way that it fails."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from peers import LIMIT_S
from sshd import Sshd, make_key, start_sshd

from melt.errors import TransportError, UsageError
from melt.transport import Deadline
from melt.transport.ssh import SshTransport, fingerprint, trust
from melt.transport.ssh_config import Own, find_place, split_address
from melt.transport.ssh_hosts import HostChanged, HostRefused, HostUnknown
from melt.transport.ssh_login import LoginRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def works(transport: SshTransport) -> bool:
    try:
        return transport.run(["echo", "fine"], deadline=Deadline.after(LIMIT_S)).stdout == b"fine\n"
    finally:
        transport.close()


def shown_by_openssh(key: Path) -> str:
    return subprocess.run(["ssh-keygen", "-lf", key], check=True, capture_output=True, text=True).stdout.split()[1]


# ------------------------------------------------------------------------------------------ host keys


def test_an_unknown_host_is_refused_until_it_is_trusted(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "folder" / "known_hosts"
    with pytest.raises(HostUnknown, match="melt devices trust") as caught:
        sshd.connect(known_hosts=known)
    right = shown_by_openssh(sshd.folder / "host.pub")
    assert right in str(caught.value)
    assert not known.exists()
    key, name, file = fingerprint(sshd.address, known_hosts=known, config=sshd.config)
    assert (key.kind, key.fingerprint, file) == ("ssh-ed25519", right, known)
    trust(name, key, known)
    assert known.stat().st_mode & 0o777 == 0o600
    assert works(sshd.connect(known_hosts=known))
    found = subprocess.run(["ssh-keygen", "-F", name, "-f", known], check=False, capture_output=True)
    assert found.returncode == 0


def test_trust_adds_a_line_and_leaves_the_others(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_bytes(b"# mine\nother ssh-ed25519 AAAA")
    key, name, file = fingerprint(sshd.address, known_hosts=known, config=sshd.config)
    trust(name, key, file)
    assert known.read_text().splitlines()[:2] == ["# mine", "other ssh-ed25519 AAAA"]
    assert works(sshd.connect(known_hosts=known))


def test_a_changed_host_key_is_refused_with_both_fingerprints_and_the_line(sshd: Sshd, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    known = tmp_path / "known_hosts"
    kind, blob = other.with_suffix(".pub").read_text().split()[:2]
    known.write_text(f"# a comment\n[127.0.0.1]:{sshd.port} {kind} {blob}\n")
    with pytest.raises(HostChanged) as caught:
        sshd.connect(known_hosts=known)
    for word in (shown_by_openssh(other), shown_by_openssh(sshd.folder / "host.pub"), f"{known}:2"):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["[127.0.0.1]:{port}", "[127.0.0.?]:*", "!other,[127.0.0.1]:{port}"])
def test_a_known_hosts_line_may_hold_patterns(sshd: Sshd, tmp_path: Path, name: str) -> None:
    known = tmp_path / "known_hosts"
    rest = sshd.known_hosts.read_text().split(maxsplit=1)[1]
    known.write_text(f"{name.format(port=sshd.port)} {rest}")
    assert works(sshd.connect(known_hosts=known))


@pytest.mark.parametrize("name", ["127.0.0.1", "[127.0.0.1]:1", "!*,*", "![127.0.0.1]:*,*", "nonsense"])
def test_a_line_for_another_host_vouches_for_nothing(sshd: Sshd, tmp_path: Path, name: str) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"{name} {sshd.known_hosts.read_text().split(maxsplit=1)[1]}")
    with pytest.raises(HostUnknown):
        sshd.connect(known_hosts=known)


def test_hashed_names_are_read(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_bytes(sshd.known_hosts.read_bytes())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert known.read_text().startswith("|1|")
    assert works(sshd.connect(known_hosts=known))


def test_a_revoked_key_is_refused_although_it_is_known(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    line = sshd.known_hosts.read_text()
    known.write_text(f"{line}@revoked * {line.split(maxsplit=1)[1]}")
    with pytest.raises(HostChanged, match=f"revoked in {re.escape(str(known))}:2"):
        sshd.connect(known_hosts=known)


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_the_kind_of_key_that_is_known_is_asked_for(tmp_path: Path, kind: str) -> None:
    extra = make_key(tmp_path / "extra", kind)
    server = start_sshd(tmp_path / "sshd", f"HostKey {extra}")
    try:
        word, blob = extra.with_suffix(".pub").read_text().split()[:2]
        server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {word} {blob}\n")
        assert works(server.connect())
    finally:
        server.close()


# ----------------------------------------------------------------------------------------------- keys


def test_a_key_that_the_device_does_not_know_is_named_with_what_to_do(sshd: Sshd, tmp_path: Path) -> None:
    wrong = make_key(tmp_path / "wrong")
    with pytest.raises(LoginRefused, match="ssh-copy-id") as caught:
        sshd.connect(identity=wrong)
    assert str(wrong) in str(caught.value)


def test_keys_that_cannot_be_used_say_why(sshd: Sshd, tmp_path: Path) -> None:
    locked = make_key(tmp_path / "locked", passphrase="five words")  # noqa: S106
    (tmp_path / "garbage").write_text("no key\n")
    for path, words in ((locked, "passphrase"), (tmp_path / "garbage", "no key"), (tmp_path / "absent", "missing")):
        with pytest.raises(LoginRefused, match=words):
            sshd.connect(identity=path)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_kinds_of_keys_sign_in(tmp_path: Path, kind: str) -> None:
    server = start_sshd(tmp_path / "sshd")
    try:
        key = make_key(tmp_path / "key", kind)
        (server.folder / "authorized").write_bytes(key.with_suffix(".pub").read_bytes())
        assert works(server.connect(identity=key))
    finally:
        server.close()


ASK = """
import sys, pathlib
from melt.transport import Deadline
from melt.transport.ssh import SshTransport
address, known, config = sys.argv[1:]
transport = SshTransport(address, known_hosts=pathlib.Path(known), config=pathlib.Path(config))
print(transport.run(["echo", "fine"], deadline=Deadline.after(30)).stdout.decode(), end="")
transport.close()
"""


def test_keys_of_the_agent_sign_in(sshd: Sshd, tmp_path: Path) -> None:
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(tmp_path / "agent")], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent"), "HOME": str(tmp_path)}
        while not (tmp_path / "agent").exists():
            assert agent.poll() is None
        words = [sshd.address, str(sshd.known_hosts), str(sshd.config)]
        ask = [sys.executable, "-c", ASK, *words]
        empty = subprocess.run(ask, env=environment, capture_output=True, text=True, check=False)
        assert "LoginRefused" in empty.stderr
        subprocess.run(["ssh-add", "-q", str(sshd.identity)], env=environment, check=True, capture_output=True)
        done = subprocess.run(ask, env=environment, capture_output=True, text=True, check=False)
        assert done.stdout == "fine\n", done.stderr
    finally:
        agent.kill()
        agent.wait()


# ------------------------------------------------------------------------------------- nobody to talk to


def test_a_closed_port_says_that_nothing_listens(sshd: Sshd) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TransportError, match=f"127.0.0.1:{port} has nothing listening"):
        sshd.connect(f"ssh://pi@127.0.0.1:{port}")


def test_a_name_that_does_not_resolve_is_named(sshd: Sshd) -> None:
    with pytest.raises(TransportError, match=r"'no-such-device\.invalid' does not resolve"):
        sshd.connect("ssh://pi@no-such-device.invalid")


@pytest.mark.parametrize(
    ("words", "said"), [(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200, "not answer as an SSH"), (b"", "SSH server|closed")]
)
def test_what_is_no_ssh_server_says_so(sshd: Sshd, words: bytes, said: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(words)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(TransportError, match=said):
            sshd.connect(f"ssh://pi@127.0.0.1:{server.getsockname()[1]}")
        thread.join()


# ------------------------------------------------------------------------------------ addresses, settings


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("ssh://pi@raspberrypi.lan", ("pi", "raspberrypi.lan", None)),
        ("ssh://Pi5", (None, "Pi5", None)),
        ("ssh://pi@[fe80::1]:2222", ("pi", "fe80::1", 2222)),
        ("pi@10.0.0.2:22", ("pi", "10.0.0.2", 22)),
    ],
)
def test_an_address_is_taken_apart(address: str, parts: tuple[object, ...]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["ssh://", "ssh://pi@", "ssh://a/b", "ssh://a:b", "ssh://a:99999", "ssh://a?x", "ssh://-oProxyCommand=x"]
)
def test_an_address_that_is_none_says_how_to_write_one(address: str) -> None:
    with pytest.raises(UsageError, match="ssh://user@host:port"):
        split_address(address)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="no password") as caught:
        split_address("ssh://pi:hunter2@host")
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Sshd]:
    server = start_sshd(tmp_path / "far")
    yield server
    server.close()


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config"
    path.write_text(text)
    return path


def entry(alias: str, server: Sshd, more: str = "") -> str:
    user = split_address(server.address)[0]
    return (
        f"Host {alias}\n HostName 127.0.0.1\n User {user}\n Port {server.port}\n"
        f" IdentityFile {server.identity}\n UserKnownHostsFile {server.known_hosts}\n IdentitiesOnly yes\n{more}\n"
    )


def test_a_host_of_the_configuration_is_reached_by_its_alias(sshd: Sshd, tmp_path: Path) -> None:
    config = settings(tmp_path, entry("pi5", sshd) + "Host *\n Port 1\n")
    assert works(SshTransport("ssh://pi5", config=config))


def test_an_address_wins_over_the_configuration(sshd: Sshd, tmp_path: Path) -> None:
    config = settings(tmp_path, entry("pi5", sshd))
    place = find_place("ssh://other@pi5:2222", Own(config=config))
    assert (place.user, place.host, place.port) == ("other", "127.0.0.1", 2222)


def test_a_jump_host_is_gone_through_and_both_host_keys_are_checked(sshd: Sshd, far: Sshd, tmp_path: Path) -> None:
    config = settings(tmp_path, entry("gate", sshd) + entry("board", far, " ProxyJump gate\n"))
    before = len(sshd.sessions())
    transport = SshTransport("ssh://board", config=config)
    assert len(sshd.sessions()) > before
    (tmp_path / "here").write_bytes(os.urandom(3_000_000))
    transport.push(tmp_path / "here", f"{tmp_path}/there", deadline=Deadline.after(LIMIT_S))
    transport.pull(f"{tmp_path}/there", tmp_path / "back", deadline=Deadline.after(LIMIT_S), limit_bytes=1 << 30)
    assert (tmp_path / "back").read_bytes() == (tmp_path / "here").read_bytes()
    assert works(transport)
    for server in (sshd, far):
        line = server.known_hosts.read_bytes()
        server.known_hosts.write_bytes(b"")
        try:
            with pytest.raises(HostUnknown, match=f":{server.port} shows"):
                SshTransport("ssh://board", config=config)
        finally:
            server.known_hosts.write_bytes(line)


def test_several_jumps_are_gone_through_in_order(sshd: Sshd, far: Sshd, tmp_path: Path) -> None:
    jumps = " ProxyJump gate,far\n"
    config = settings(tmp_path, entry("gate", sshd) + entry("far", far) + entry("board", sshd, jumps))
    assert works(SshTransport("ssh://board", config=config))


def test_a_cut_of_the_jump_host_ends_what_runs_through_it(sshd: Sshd, far: Sshd, tmp_path: Path) -> None:
    config = settings(tmp_path, entry("gate", far) + entry("board", sshd, " ProxyJump gate\n"))
    transport = SshTransport("ssh://board", config=config)
    threading.Timer(0.5, lambda: [session.kill() for session in far.sessions()]).start()
    with pytest.raises(TransportError, match=f":{far.port} closed"):
        transport.run(["sleep", "600"], deadline=Deadline.after(600))
    transport.close()


def test_what_the_jump_host_cannot_reach_is_named(sshd: Sshd, tmp_path: Path) -> None:
    config = settings(tmp_path, entry("gate", sshd) + "Host board\n HostName 127.0.0.1\n Port 1\n ProxyJump gate\n")
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:1 cannot be reached from the jump host"):
        SshTransport("ssh://board", config=config)


def test_a_circle_of_jumps_is_named(tmp_path: Path) -> None:
    config = settings(tmp_path, "Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(UsageError, match="circle"):
        SshTransport("ssh://a", config=config)


def test_a_configuration_never_runs_a_program(sshd: Sshd, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    text = f'Match exec "touch {trace}"\n Port 1\nMatch host pi5 exec="touch {trace}"\n Port 1\n' + entry("pi5", sshd)
    assert works(SshTransport("ssh://pi5", config=settings(tmp_path, text)))
    with pytest.raises(UsageError, match="ProxyJump"):
        SshTransport("ssh://x", config=settings(tmp_path, f"Host x\n ProxyCommand touch {trace}\n"))
    assert not trace.exists()


def test_included_files_are_read(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "pi.conf").write_text(entry("pi5", sshd))
    assert works(SshTransport("ssh://pi5", config=settings(tmp_path, f"Include {tmp_path}/more/*.conf\n")))


@pytest.mark.parametrize("text", ["Host x\n Port seven\n", "Nonsense\n"])
def test_a_configuration_that_is_not_understood_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="config"):
        SshTransport("ssh://x", config=settings(tmp_path, text))


def test_refusals_are_told_apart_from_what_may_pass() -> None:
    assert issubclass(HostRefused, TransportError)
    assert issubclass(LoginRefused, TransportError)
