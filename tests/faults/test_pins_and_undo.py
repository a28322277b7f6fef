"""What a run holds on a device: told when it does not hold, and back as it was whatever dies."""

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
from workspace import Workspace, ended, running_job, until

from melt.device import open_device
from melt.engines import Request, StopRules, engine_named
from melt.errors import Interrupted
from melt.files import load_lab, load_suite
from melt.job.plan import encode_word
from melt.lab import begin_session, make_plan
from melt.records import Channel, Sensor
from melt.run import Context, carry_out
from melt.transport import LocalTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from melt.store import StoredRun
    from melt.transport import Completed, Deadline
    from melt.transport.base import Process
    from melt.transport.source import Part

pytestmark = pytest.mark.peer

NOBODY = 65534
GOVERNOR = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
GPU = "/sys/class/devfreq/gpu/min_freq"


@dataclasses.dataclass(frozen=True)
class Board:
    """The files of a board below a folder, and a state of it that only a command sets."""

    root: Path
    mode: Path

    def path(self, name: str) -> Path:
        return self.root / name[1:]

    def values(self) -> dict[str, str]:
        """All that a run may change."""
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        return {str(path): path.read_text().strip() for path in (*files, self.mode)}


@pytest.fixture
def board(workspace: Workspace) -> Board:
    """A board whose profile holds its governor, its clocks, its GPU's floor and its mode."""
    made = Board(workspace.folder / "board", workspace.folder / "mode")
    files = {
        GOVERNOR: "schedutil",
        **{GOVERNOR.replace("scaling_governor", name): "300000" for name in ("scaling_min_freq", "cpuinfo_min_freq")},
        **{GOVERNOR.replace("scaling_governor", name): "1800000" for name in ("scaling_max_freq", "cpuinfo_max_freq")},
        GPU: "100000000",
    }
    for name, text in files.items():
        made.path(name).parent.mkdir(parents=True, exist_ok=True)
        made.path(name).write_text(f"{text}\n")
    made.mode.write_text("15W\n")
    write_to = ["/bin/sh", "-c", f'echo "$1" > {made.mode}', "sh"]
    command = {"read": ["/bin/cat", str(made.mode)], "set": [*write_to, "MAXN"], "restore": [*write_to, "{old}"]}
    workspace.profile(
        pin={
            "governor": "performance",
            "cpu_hz": "max",
            "files": {"/sys/class/devfreq/*/min_freq": "800000000"},
            "commands": {"mode": {**command, "expect": "MAXN"}},
        }
    )
    device = {"profile": "bare", "address": "local:", "workdir": str(workspace.workdir), "sysroot": str(made.root)}
    workspace.write("lab.yaml", {"kind": "lab", "devices": {"here": device}})
    return made


def held(board: Board) -> bool:
    return board.path(GOVERNOR).read_text() == "performance\n" and board.mode.read_text() == "MAXN\n"


def short(workspace: Workspace, min_s: float = 0.2, **more: Any) -> None:
    workspace.suite(protocol={"preset": "quick", "runs": 1, "min_s": min_s, "warmup_s": 0.0, "warmup_n": 1}, **more)


def test_what_a_profile_pins_is_held_recorded_and_put_back(workspace: Workspace, board: Board) -> None:
    before = board.values()
    short(workspace)
    said = workspace.run()
    assert said.code == 0, said
    (run,) = workspace.runs()
    assert [reason for reason in run.record.reasons if reason.code == "pin"] == []
    assert run.record.undo.complete
    # the record knows the board's files by the board's names
    assert set(run.record.undo.changed) == {
        f"{GOVERNOR} = performance",
        *(f"{GOVERNOR.replace('governor', end)} = 1800000" for end in ("max_freq", "min_freq")),
        f"{GPU} = 800000000",
        "mode = MAXN",
    }
    told = [event.get("ok") for event in run.events().landmarks if event.ev == "agent.held"]
    assert told == [True] * 5
    assert board.values() == before


def test_a_value_that_somebody_changes_during_the_run_makes_it_invalid(workspace: Workspace, board: Board) -> None:
    before = board.values()
    short(workspace, 2.0)
    child = workspace.begin()
    job, _ = running_job(workspace)
    until(lambda: b"measure.begin" in (job / "events.jsonl").read_bytes(), "the measured phase")
    board.path(GOVERNOR).write_text("ondemand\n")
    said = ended(child)
    assert said.code == 1, said
    (run,) = workspace.runs()
    assert (run.record.status, run.record.verdict) == ("ok", "invalid")
    (reason,) = [reason for reason in run.record.reasons if reason.code == "pin"]
    assert reason.detail == f"{GOVERNOR} was to be held at 'performance' and was not at the end: it is 'ondemand'"
    assert run.record.undo.complete
    assert board.values() == before


def test_a_file_that_rounds_what_is_written_makes_the_run_invalid(workspace: Workspace) -> None:
    # the kernel keeps 15 letters of a thread's name
    workspace.profile(pin={"files": {"/proc/self/comm": "a-name-far-too-long-for-it"}})
    short(workspace)
    assert workspace.run().code == 1
    (run,) = workspace.runs()
    assert "it is 'a-name-far-too-'" in next(r.detail for r in run.record.reasons if r.code == "pin")


def test_a_pin_that_hangs_costs_the_run_and_not_the_device(workspace: Workspace, board: Board) -> None:
    before = board.values()
    board.path(GPU).unlink()
    os.mkfifo(board.path(GPU))
    short(workspace)
    said = workspace.run()
    assert said.code == 1, said
    (run,) = workspace.runs()
    assert run.record.status == "ok"
    assert "it hangs" in next(r.detail for r in run.record.reasons if r.code == "pin")
    board.path(GPU).unlink()
    board.path(GPU).write_text(f"{before[str(board.path(GPU))]}\n")
    assert board.values() == before


def test_a_killed_agent_leaves_everything_as_it_was_once_the_host_has_seen_it(
    workspace: Workspace, board: Board
) -> None:
    before = board.values()
    short(workspace, 20.0)
    child = workspace.begin()
    _, status = running_job(workspace)
    assert held(board)
    os.kill(status["agent_pid"], signal.SIGKILL)
    child.communicate(timeout=120)
    (run,) = workspace.runs()
    assert "agent_killed" in [reason.code for reason in run.record.reasons]
    assert run.record.undo.complete
    assert board.values() == before


def test_a_killed_host_and_a_killed_agent_are_mended_by_the_next_session(workspace: Workspace, board: Board) -> None:
    before = board.values()
    short(workspace, 20.0)
    child = workspace.begin()
    _, status = running_job(workspace)
    child.kill()
    child.communicate()
    os.kill(status["agent_pid"], signal.SIGKILL)
    assert held(board)
    short(workspace)
    said = workspace.run()
    assert said.code == 0, said
    assert board.values() == before


def test_a_device_that_rebooted_meanwhile_has_its_commands_undone_and_its_files_left_alone(
    workspace: Workspace, board: Board
) -> None:
    """After a reboot the kernel has its own values again, and what a command wrote to a disk has stayed."""
    crashed = workspace.workdir / "melt" / "jobs" / "20260101T000000Z-00000000"
    crashed.mkdir(parents=True)
    restore = ("/bin/sh", "-c", f'echo "$1" > {board.mode}', "sh", "15W")
    words = ("run", "mode", "15W", str(len(restore)), "2", *restore, "/bin/cat", str(board.mode))
    lines = ("boot_id 00000000-another-boot", "/sys/no/such/file 1", " ".join(map(encode_word, words)))
    (crashed / "undo").write_text("\n".join(lines) + "\n")
    board.mode.write_text("MAXN\n")
    short(workspace)
    said = workspace.run()
    assert said.code == 0, said
    assert (crashed / "undo.done").exists()
    assert board.mode.read_text() == "15W\n"


def test_what_cannot_be_put_back_is_told_and_tried_again(workspace: Workspace, board: Board) -> None:
    short(workspace, 2.0)
    child = workspace.begin()
    running_job(workspace)
    board.path(GPU).unlink()
    _, stderr = child.communicate(timeout=120)
    assert "could be put back: the next run there tries again" in stderr
    assert "Traceback" not in stderr
    (run,) = workspace.runs()
    assert not run.record.undo.complete
    board.path(GPU).write_text("800000000\n")
    short(workspace)
    assert workspace.run().code == 0
    assert board.path(GPU).read_text() == "100000000\n"


# ------------------------------------------------------------------------------- root, where an ordinary user runs melt


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
    if (setgid(0) || setuid(0)) { perror("sudo"); return 1; }
    execvp(argv[2], argv + 2);
    return 127;
}
"""
"""A program that does what `sudo -n` does for whoever may; it has to be root's own, with the bit that makes it so."""


@dataclasses.dataclass(frozen=True)
class Ordinary:
    """A board whose work folder is an ordinary user's and whose files are root's."""

    folder: Path
    workspace: Workspace
    board: Board

    def sudo(self, *, refuses: bool = False) -> None:
        source, program = self.folder / "sudo.c", self.folder / "bin" / "sudo"
        source.write_text(SUDO)
        defines = [f'-DLOG="{self.folder}/sudo.log"', f"-DREFUSES={int(refuses)}"]
        subprocess.run(["cc", *defines, "-o", program, source], check=True)
        program.chmod(0o4755)

    def asked(self) -> list[str]:
        log = self.folder / "sudo.log"
        return log.read_text().splitlines() if log.exists() else []

    def jobs(self) -> list[Path]:
        return list((self.folder / "work" / "melt" / "jobs").iterdir())

    def run(
        self,
        engine_args: Sequence[str],
        *sensors: Sensor,
        cancelled: Callable[[], bool] = lambda: False,
        **limits: float,
    ) -> StoredRun:
        """One run of /bin/sh as the engine."""
        folder = self.workspace.folder
        params = {"on_device": "/bin/sh", "args": list(engine_args)}
        self.workspace.write("toy.yaml", {"kind": "workload", "name": "toy", "engine": "command", "params": params})
        short(self.workspace, limits=limits)
        lab = load_lab(folder / "lab.yaml")
        plan = make_plan(*load_suite(str(folder / "suite.yaml")), lab, ("here",), {})
        session = begin_session(plan, self.workspace.results)
        spec = lab.device("here")
        with open_device("here", spec, lab.profile(spec)) as device:
            engine = engine_named("command")
            prepared = engine.prepare(Request("toy", None, device.machine, params, {}, StopRules(0.0, 1, 0.2, 11)))
            known = dataclasses.replace(device, sensors=(*device.sensors, *sensors))
            context = Context(session, known, engine, prepared, plan.cells[0].record, cancelled=cancelled)
            return carry_out(context, plan.order[0], 0.0)


@pytest.fixture
def ordinary(workspace: Workspace, board: Board, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Ordinary]:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("an agent that becomes root is NOT tested: only root can play the ordinary user and the superuser")
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
    stored = ordinary.run(["-c", f"({script}) 2>&1; true"])
    record = stored.record
    assert record.status == "ok", record.reasons
    assert [reason.detail for reason in record.reasons if reason.code == "pin"] == []
    said = (stored.path / "stdout.log").read_text().splitlines()
    assert said[:3] == [str(NOBODY), str(NOBODY), "performance"]
    assert "denied" in said[3]
    assert record.undo.complete
    assert ordinary.board.values() == before
    # once to ask, and once to start: the rest is the user's
    assert [line.split()[-1] for line in ordinary.asked()] == ["-u", "start"]
    left = [path for path in (ordinary.folder / "work").rglob("*") if path.stat().st_uid != NOBODY]
    assert left == []
    assert ordinary.jobs() == []


def test_ctrl_c_ends_a_job_of_root_and_puts_its_values_back(ordinary: Ordinary) -> None:
    ordinary.sudo()
    before = ordinary.board.values()
    with pytest.raises(Interrupted):
        ordinary.run(["-c", "sleep 60"], cancelled=lambda: held(ordinary.board))
    assert ordinary.board.values() == before
    assert ordinary.jobs() == []
    assert [line.split()[-1] for line in ordinary.asked()] == ["-u", "start", "stop"]


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
    stored = ordinary.run(["-c", "sleep 60"])
    killer.join()
    assert "agent_killed" in [reason.code for reason in stored.record.reasons]
    assert stored.record.undo.complete
    assert ordinary.board.values() == before


@pytest.mark.parametrize("there", [True, False])
def test_without_root_the_run_is_made_and_says_how_to_allow_it(ordinary: Ordinary, there: bool) -> None:
    if there:
        ordinary.sudo(refuses=True)
    before = ordinary.board.values()
    stored = ordinary.run(["-c", "true"])
    assert (stored.record.status, stored.record.verdict) == ("ok", "invalid")
    (reason,) = [reason for reason in stored.record.reasons if reason.code == "pin"]
    assert "no root" in reason.detail
    assert "allow sudo without a password" in reason.detail
    assert ("a password is required" in reason.detail) is there
    assert stored.record.undo.complete
    assert ordinary.board.values() == before


def test_what_the_user_may_write_takes_no_root(ordinary: Ordinary) -> None:
    ordinary.sudo()
    for path in (*ordinary.board.root.rglob("*"), ordinary.board.mode):
        os.chown(path, NOBODY, NOBODY)
    profile = ordinary.workspace.folder / "device_profiles" / "bare.yaml"
    profile.write_text(profile.read_text().replace("root: true", "root: false"))
    before = ordinary.board.values()
    stored = ordinary.run(["-c", "true"])
    assert [reason.detail for reason in stored.record.reasons if reason.code == "pin"] == []
    assert ordinary.asked() == []
    assert ordinary.board.values() == before


def test_a_command_that_says_a_temperature_over_the_ceiling_ends_the_engine_and_keeps_the_data(
    workspace: Workspace,
) -> None:
    """A sensor that is a program, on this computer as the device."""
    temperature = workspace.folder / "degrees"
    temperature.write_text("30\n")
    profile = {"kind": "profile", "name": "bare", "verified": True, "readings": ["load", "memory"]}
    workspace.write("device_profiles/bare.yaml", profile)
    channel = Channel("zone.said", "temperature", float, raw_per_unit=1)
    sensor = Sensor("zone.said", (channel,), 0.2, argv=("/bin/cat", str(temperature)))
    here = Ordinary(workspace.folder, workspace, Board(workspace.folder, workspace.folder))

    def heat_up() -> None:
        jobs = workspace.workdir / "melt" / "jobs"
        until(lambda: [p for p in jobs.glob("*/trace.csv") if p.read_text().count("zone.said") > 2], "three samples")
        temperature.write_text("91\n")

    heat = threading.Thread(target=heat_up)
    heat.start()
    stored = here.run(["-c", "sleep 60"], sensor, zone_max_c=90.0)
    heat.join()
    assert (stored.record.status, stored.record.verdict) == ("failed", "invalid")
    assert "ceiling" in [reason.code for reason in stored.record.reasons]
    assert stored.trace().query("sensor == 'zone.said'")["value"].max() == 91.0
