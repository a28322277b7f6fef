"""Values that only root may set, where melt reaches the device as an ordinary user: what root does, and what not."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pinned_board import GOVERNOR, GPU, Board, held, make_board, one_run
from workspace import Workspace, until

from melt.errors import Interrupted
from melt.transport import LocalTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from melt.transport import Completed, Deadline
    from melt.transport.base import Process
    from melt.transport.source import Part

pytestmark = pytest.mark.peer

NOBODY = 65534


class AsNobody(LocalTransport):
    """This computer, reached by an account that may do nothing."""

    def _words(self, argv: Sequence[str]) -> list[str]:
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *argv]

    def run(self, argv: Sequence[str], *, deadline: Deadline, stdin: bytes = b"") -> Completed:
        return super().run(self._words(argv), deadline=deadline, stdin=stdin)

    def start(self, argv: Sequence[str], *, has_stdin: bool = False) -> Process:
        return super().start(self._words(argv), has_stdin=has_stdin)

    def push(self, source: Path | Part, target: str, *, deadline: Deadline, executable: bool = False) -> None:
        super().push(source, target, deadline=deadline, executable=executable)
        os.chown(target, NOBODY, NOBODY)


SUDO = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc < 3 || strcmp(argv[1], "-n")) return 1;
    FILE *log = fopen(LOG, "a");
    if (log) { fprintf(log, "%s %s\n", argv[2], argc > 3 ? argv[3] : ""); fclose(log); }
    if (REFUSES) { fputs("sudo: a password is required\n", stderr); return 1; }
    if (strcmp(ALLOWS, "all") && strcmp(argv[2], ALLOWS)) { fputs("sudo: a password is required\n", stderr); return 1; }
    if (setgid(0) || setuid(0)) { perror("sudo"); return 1; }
    execvp(argv[2], argv + 2);
    return 127;
}
"""
"""A program that does what `sudo -n` does for whoever may; it has to be root's own, with the bit that makes it so."""
SU = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc != 3 || strcmp(argv[1], "-c")) { fputs("su: unknown user\n", stderr); return 1; }
    if (setgid(0) || setuid(0)) { perror("su"); return 1; }
    execl("/bin/sh", "sh", "-c", argv[2], NULL);
    return 127;
}
"""
"""What people put on a phone: it takes one string."""


@dataclasses.dataclass(frozen=True)
class Ordinary:
    """A board whose work folder is an ordinary user's and whose files are root's."""

    folder: Path
    workspace: Workspace
    board: Board

    def sudo(self, *, refuses: bool = False, allows: str = "all") -> None:
        source, program = self.folder / "sudo.c", self.folder / "bin" / "sudo"
        source.write_text(SUDO)
        defines = [f'-DLOG="{self.folder}/sudo.log"', f"-DREFUSES={int(refuses)}", f'-DALLOWS="{allows}"']
        subprocess.run(["cc", *defines, "-o", program, source], check=True)
        program.chmod(0o4755)

    def su(self) -> None:
        source, program = self.folder / "su.c", self.folder / "bin" / "su"
        source.write_text(SU)
        subprocess.run(["cc", "-o", program, source], check=True)
        program.chmod(0o4755)

    def asked(self) -> list[str]:
        log = self.folder / "sudo.log"
        return log.read_text().splitlines() if log.exists() else []

    def jobs(self) -> list[Path]:
        return list((self.folder / "work" / "melt" / "jobs").iterdir())


@pytest.fixture
def ordinary(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ordinary]:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("an agent that becomes root is NOT tested: only root can play the ordinary user and the superuser")
    board = make_board(workspace)
    with tempfile.TemporaryDirectory(prefix="melt-ordinary-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "bin").mkdir()
        moved = shutil.move(board.root, folder / "board")
        board.mode.rename(folder / "mode")
        profile = workspace.folder / "device_profiles" / "bare.yaml"
        text = profile.read_text().replace(str(board.mode), str(folder / "mode"))
        profile.write_text(text.replace("      expect: MAXN\n", "      expect: MAXN\n      root: true\n"))
        work = folder / "work"
        work.mkdir()
        os.chown(work, NOBODY, NOBODY)
        lab = yaml.safe_load((workspace.folder / "lab.yaml").read_text())
        lab["devices"]["here"] |= {"workdir": str(work), "sysroot": str(moved)}
        workspace.write("lab.yaml", {key: value for key, value in lab.items() if key != "schema"})
        monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        monkeypatch.setattr("melt.device.device.connect", lambda _: AsNobody())
        yield Ordinary(folder, workspace, Board(Path(moved), folder / "mode"))


def test_with_sudo_the_agent_is_root_for_what_it_holds_and_the_engine_is_not(ordinary: Ordinary) -> None:
    ordinary.sudo()
    before = ordinary.board.values()
    script = f"id -u; id -G; cat {ordinary.board.path(GOVERNOR)}; echo > made; echo > {ordinary.board.path(GPU)}"
    stored = one_run(ordinary.workspace, ["-c", f"({script}) 2>&1; true"])
    record = stored.record
    assert record.status == "ok", record.reasons
    assert [reason.detail for reason in record.reasons if reason.code == "pin"] == []
    said = (stored.path / "stdout.log").read_text().splitlines()
    assert said[:3] == [str(NOBODY), str(NOBODY), "performance"]
    assert "denied" in said[3]
    assert record.undo.complete
    assert ordinary.board.values() == before
    # once to ask, and once to start: the rest is the user's
    assert [line.split()[-1] for line in ordinary.asked()] == ["user", "start"]
    left = [path for path in (ordinary.folder / "work").rglob("*") if path.stat().st_uid != NOBODY]
    assert left == []
    assert ordinary.jobs() == []


def test_a_su_that_takes_one_string_does_as_well(ordinary: Ordinary) -> None:
    ordinary.su()
    before = ordinary.board.values()
    stored = one_run(ordinary.workspace, ["-c", f"id -u; cat {ordinary.board.path(GOVERNOR)} {ordinary.board.mode}"])
    assert [reason.detail for reason in stored.record.reasons if reason.code == "pin"] == []
    assert (stored.path / "stdout.log").read_text().split() == [str(NOBODY), "performance", "MAXN"]
    assert stored.record.undo.complete
    assert ordinary.board.values() == before
    assert ordinary.jobs() == []


def test_ctrl_c_ends_a_job_of_root_and_puts_its_values_back(ordinary: Ordinary) -> None:
    ordinary.sudo()
    before = ordinary.board.values()
    with pytest.raises(Interrupted):
        one_run(ordinary.workspace, ["-c", "sleep 60"], cancelled=lambda: held(ordinary.board))
    assert ordinary.board.values() == before
    assert ordinary.jobs() == []
    assert [line.split()[-1] for line in ordinary.asked()] == ["user", "start", "stop"]


def test_a_job_of_root_that_died_is_put_back_by_root(ordinary: Ordinary) -> None:
    ordinary.sudo()
    before = ordinary.board.values()

    def kill() -> None:
        jobs = ordinary.folder / "work" / "melt" / "jobs"

        def agent() -> Any:
            for path in jobs.glob("*/status"):
                status = json.loads(path.read_text())
                return status if status["engine_pid"] else None
            return None

        status = until(agent, "a job whose engine runs")
        os.kill(status["agent_pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    stored = one_run(ordinary.workspace, ["-c", "sleep 60"])
    killer.join()
    assert "agent_killed" in [reason.code for reason in stored.record.reasons]
    assert stored.record.undo.complete
    assert ordinary.board.values() == before


@pytest.mark.parametrize("sudo", [{"refuses": True}, {"allows": "id"}, None], ids=str)
def test_without_root_the_run_is_made_and_says_how_to_allow_it(ordinary: Ordinary, sudo: dict[str, Any] | None) -> None:
    """One that allows other programs than the agent is none either."""
    if sudo is not None:
        ordinary.sudo(**sudo)
    before = ordinary.board.values()
    stored = one_run(ordinary.workspace, ["-c", "true"])
    assert (stored.record.status, stored.record.verdict) == ("ok", "invalid")
    (reason,) = [reason for reason in stored.record.reasons if reason.code == "pin"]
    assert "no root" in reason.detail
    assert "allow sudo without a password" in reason.detail
    assert ("a password is required" in reason.detail) is (sudo is not None)
    assert stored.record.undo.complete
    assert ordinary.board.values() == before


def test_what_the_user_may_write_takes_no_root(ordinary: Ordinary) -> None:
    ordinary.sudo()
    for path in (*ordinary.board.root.rglob("*"), ordinary.board.mode):
        os.chown(path, NOBODY, NOBODY)
    profile = ordinary.workspace.folder / "device_profiles" / "bare.yaml"
    profile.write_text(profile.read_text().replace("root: true", "root: false"))
    before = ordinary.board.values()
    stored = one_run(ordinary.workspace, ["-c", "true"])
    assert [reason.detail for reason in stored.record.reasons if reason.code == "pin"] == []
    assert ordinary.asked() == []
    assert ordinary.board.values() == before
