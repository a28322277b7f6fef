"""Root on a device: found in every dialect of su and through sudo, refused with reasons, and never by asking anybody.

The dialects are shell scripts called su and sudo, which stand alone on PATH with the few tools that they need. The last
tests use this computer's own.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from melt.device.device import Device
from melt.device.root import TRY_S, Root, find_root
from melt.errors import TransportError
from melt.files import load_profile
from melt.transport import Completed, Deadline, LocalTransport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOSTILE = [
    "two words",
    "it's",
    '"quoted"',
    "$(touch owned)",
    "`touch owned`",
    "a;touch owned",
    "$HOME",
    "new\nline",
    "back\\slash",
    "*",
    "-n",
    "é",
    "",
]
TOOLS = ("sh", "cat", "printf", "sleep", "head", "mkdir")

# what each `su` and `sudo` makes of its words; a program that runs below it says by its user what it is
ID = 'echo "${USER_NOW:-2000}"\n'
LOG = 'echo "$0 $*" >>"$LOG"\n'
AOSP = 'case $1 in 0|root) shift; USER_NOW=0 exec "$@" ;;\n*) echo "su: invalid uid/gid \'$1\'" >&2; exit 1 ;; esac\n'
TOYBOX = (
    '[ "$1" = root ] && { shift; USER_NOW=0 exec "$@"; }\n'
    '[ "$1" = -c ] && { echo "su: must be suid to work properly" >&2; exit 1; }\n'
    "echo \"su: bad user '$1'\" >&2; exit 1\n"
)
# what follows -c is joined with spaces and goes to a shell; what follows a user are words of that user's shell
MAGISK = '[ "$1" = -c ] && { shift; USER_NOW=0 exec sh -c "$*"; }\nshift\nexec sh "$@"\n'
REFUSING = 'echo "Permission denied" >&2; exit 13\n'
HANGING = "exec sleep 600\n"
SUDO = (
    '[ "$1" = -n ] || { printf "[sudo] password for melt: "; cat >/dev/null; exit 1; }\nshift\nUSER_NOW=0 exec "$@"\n'
)
ASKING = '[ "$1" = -n ] && { echo "sudo: a password is required" >&2; exit 1; }\nprintf "[sudo] password for melt: "\n'


class Computer:
    """A device that is this computer with only some programs on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
        self.log = folder / "log"
        self.work = folder / "a work 'folder'"
        self.work.mkdir()
        self.asked: list[list[str]] = []
        self.programs = programs
        programs_folder = folder / "bin"
        programs_folder.mkdir()
        for tool in TOOLS:
            (programs_folder / tool).symlink_to(shutil.which(tool) or tool)
        for name, text in {"id": ID, **programs}.items():
            (programs_folder / name).write_text(f"#!/bin/sh\n{LOG if name != 'id' else ''}{text}")
            (programs_folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(programs_folder))
        monkeypatch.setenv("LOG", str(self.log))

    def run(self, argv: Sequence[str], limit_s: float) -> Completed:
        assert limit_s == TRY_S
        self.asked.append(list(argv))
        hangs = self.programs.get(argv[0]) == HANGING
        return LocalTransport().run(argv, deadline=Deadline.after(0.3 if hangs else 60))

    def push(self, text: bytes, path: str) -> None:
        source = self.work / "source"
        source.write_bytes(text)
        LocalTransport().push(source, path, deadline=Deadline.after(60))

    def root(self) -> Root | str:
        return find_root(self.run, self.push, str(self.work))

    def as_root(self, root: Root, words: Sequence[str]) -> Completed:
        return LocalTransport().run(root.argv(words), deadline=Deadline.after(60))


@pytest.mark.parametrize(
    ("programs", "prefix"),
    [
        ({"id": "echo 0\n", "su": AOSP, "sudo": SUDO}, ()),
        ({"sudo": SUDO, "su": AOSP}, ("sudo", "-n")),
        ({"su": AOSP}, ("su", "0")),
        ({"su": TOYBOX}, ("su", "root")),
        ({"su": MAGISK}, ("su", "-c")),
        ({"su": MAGISK, "sudo": ASKING}, ("su", "-c")),
    ],
    ids=["root already", "sudo", "aosp", "toybox", "magisk", "magisk and a sudo with a password"],
)
def test_root_is_found_in_each_dialect_and_runs_words_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: dict[str, str], prefix: tuple[str, ...]
) -> None:
    computer = Computer(tmp_path, monkeypatch, **programs)
    root = computer.root()
    assert isinstance(root, Root)
    assert root.prefix == prefix
    assert computer.as_root(root, ["id", "-u"]).stdout == b"0\n"
    said = computer.as_root(root, ["printf", "<%s>", *HOSTILE])
    assert said.ok
    assert said.stdout.decode() == "".join(f"<{word}>" for word in HOSTILE)
    assert not list(tmp_path.rglob("owned"))
    assert computer.as_root(root, ["sh", "-c", "exit 7"]).code == 7


def test_a_su_that_takes_one_string_never_sees_the_words_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(tmp_path, monkeypatch, su=MAGISK)
    root = computer.root()
    assert isinstance(root, Root)
    computer.log.unlink()
    computer.as_root(root, ["printf", "%s", "a;marker"])
    computer.as_root(root, ["printf", "%s", "a;marker"])
    assert "marker" not in computer.log.read_text()
    # the same command is the same file, and that is all that was left
    assert len(list(computer.work.glob("*.sh"))) == 1


def test_no_root_is_told_with_the_reason_of_each_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(tmp_path, monkeypatch, sudo=ASKING, su=REFUSING)
    assert computer.root() == (
        "no root: this account answers as user 2000; 'sudo -n' says \"sudo: a password is required\"; "
        "'su 0' says \"Permission denied\"; 'su root' says \"Permission denied\"; 'su -c' says \"Permission denied\": "
        "allow sudo without a password for this account, or root for adb's shell in the phone's root manager"
    )


def test_what_is_not_there_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(tmp_path, monkeypatch)
    assert computer.root() == (
        "no root: this account answers as user 2000; 'sudo' is not there; 'su' is not there: allow sudo without a "
        "password for this account, or root for adb's shell in the phone's root manager"
    )
    assert [argv[0] for argv in computer.asked] == ["id", "sudo", "su"]


def test_a_su_that_waits_for_somebody_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = Computer(tmp_path, monkeypatch, su=HANGING).root()
    assert isinstance(reason, str)
    assert reason.count("did not answer within 10 s") == 3


@pytest.mark.parametrize(
    ("su", "reason"),
    [
        ('echo "2000"\n', "answers as user 2000"),
        ("exit 0\n", "answers with no user"),
        # one that wants a password reads its end: nobody gives it one
        (
            'printf "Password: "; read -r x || { echo "su: Authentication failure" >&2; exit 1; }\n',
            "Authentication failure",
        ),
        ("printf '\\na\\033[31mb\\nTry --help\\n' >&2; exit 1\n", 'says "a [31mb"'),
        ("exit 126\n", "may not be executed"),
        ("exit 3\n", 'says "exit code 3"'),
        ("echo 10; exit 0\n", "answers as user 10"),
        ('echo "usage: su [uid] 0"\n', "answers with no user"),
        ('echo 0; echo "usage: su [uid]"\n', "answers with no user"),
        ("echo 0; exit 1\n", 'says "exit code 1"'),
        ("head -c 100000 /dev/zero\n", "answers with no user"),
    ],
)
def test_what_su_says_is_never_taken_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, su: str, reason: str
) -> None:
    said = Computer(tmp_path, monkeypatch, su=su).root()
    assert isinstance(said, str)
    assert reason in said
    assert said.isprintable()


def test_words_that_a_su_prints_before_its_answer_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Computer(
        tmp_path, monkeypatch, su='echo "WARNING: linker: text relocations"\nshift\nUSER_NOW=0 "$@"\n'
    ).root()
    assert isinstance(root, Root)
    assert root.prefix == ("su", "0")


def test_an_opened_device_is_asked_once_and_keeps_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(tmp_path, monkeypatch, su=MAGISK)
    (computer.work / "agent").write_text('#!/bin/sh\n[ "$1" = user ] && exec id -u\n')
    (computer.work / "agent").chmod(0o755)
    device = Device(
        name="phone",
        profile=load_profile("linux"),
        address="local:",
        transport=LocalTransport(),
        machine="aarch64",
        root=str(computer.work),
        agent=str(computer.work / "agent"),
        facts={},
        sensors=(),
        absent={},
    )
    root = device.superuser
    assert isinstance(root, Root)
    assert device.superuser is root
    assert computer.log.read_text().count("/agent' user") == 1
    assert device.run(root.argv(["printf", "%s", "a b"])).stdout == b"a b"


def test_a_lost_link_is_no_refusal(tmp_path: Path) -> None:
    def lost(_argv: Sequence[str], _limit_s: float) -> Completed:
        raise TransportError("the cable is out")

    def nowhere(_text: bytes, _path: str) -> None:
        raise AssertionError

    with pytest.raises(TransportError, match="cable"):
        find_root(lost, nowhere, str(tmp_path))


def test_a_way_is_told_in_words() -> None:
    assert str(Root(())) == "this account is root"
    assert str(Root(("sudo", "-n"))) == "sudo -n"


# ------------------------------------------------------------------------------- this computer's own su and sudo


def _unprivileged(argv: Sequence[str], limit_s: float) -> Completed:
    """As this account, and where that is root as nobody."""
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    return LocalTransport().run([*drop, *argv], deadline=Deadline.after(limit_s))


def _no_push(_text: bytes, _path: str) -> None:
    raise AssertionError("no way that was found here needs a file")


@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="root without setpriv")
def test_this_computers_own_su_and_sudo_are_asked_without_a_password(tmp_path: Path) -> None:
    found = find_root(_unprivileged, _no_push, str(tmp_path))
    if isinstance(found, Root):  # this account may use sudo without a password
        assert _unprivileged(found.argv(["id", "-u"]), 60).stdout.split() == [b"0"]
    else:
        assert "this account answers as user" in found
        assert "'su" in found
        assert "sudo" in found


@pytest.mark.skipif(not shutil.which("sudo"), reason="sudo is not installed")
def test_this_computers_own_sudo_is_used_where_it_needs_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an `id` that says another user, first on PATH: sudo has a PATH of its own and does not see it
    (tmp_path / "id").write_text("#!/bin/sh\necho 2000\n")
    (tmp_path / "id").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def run(argv: Sequence[str], limit_s: float) -> Completed:
        return LocalTransport().run(argv, deadline=Deadline.after(limit_s))

    found = find_root(run, _no_push, str(tmp_path))
    if isinstance(found, Root):
        assert found.prefix == ("sudo", "-n")
        assert run(found.argv(["id", "-u"]), 60).stdout == b"0\n"
    else:
        assert "'sudo -n' says" in found
