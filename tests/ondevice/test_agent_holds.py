"""States that no file holds: asked for, set and put back by commands, and noted in the journal like a file's value."""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent_jobs import SLEEPS, WAITS, shell, until, wait_gone

from melt.job.plan import Hold, encode_word

if TYPE_CHECKING:
    from agent_jobs import Bench, Job

pytestmark = pytest.mark.peer

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
ODD = "15 W; $(reboot) % ü"
"""A state with all that a shell, a plan or a journal could trip over."""


@pytest.fixture
def mode(tmp_path: Path) -> Path:
    """A device's power mode, as the commands below know it; each notes in `calls` that it was carried out."""
    made = tmp_path / "mode"
    made.write_text(f"NV Power Mode:\n{ODD}\n")
    return made


def hold(mode: Path, value: str = "MAXN", **changes: tuple[str, ...]) -> Hold:
    note = f"echo set >> {mode}.calls; "
    commands = {
        "set": ("/bin/sh", "-c", f'{note}echo "$1" > {mode}', "sh", value),
        "restore": ("/bin/sh", "-c", f'printf "%s\\n" "$1" > {mode}', "sh", "{old}"),
        "read": ("/bin/cat", str(mode)),
    }
    return Hold("power_mode", value, **{**commands, **changes})


def calls(mode: Path) -> int:
    path = Path(f"{mode}.calls")
    return len(path.read_text().splitlines()) if path.exists() else 0


def shown(event: dict[str, object], key: str) -> str:
    """An event's word, whose bytes stand as code points of the same number."""
    return str(event[key]).encode("latin-1").decode()


def killed(bench: Bench, *holds: Hold, name: str = "killed") -> Job:
    job = bench.job(name, engine=SLEEPS, holds=holds)
    job.start()
    engine = job.engine_pid()
    job.kill()
    wait_gone(engine)
    return job


def test_a_state_is_held_during_the_run_and_put_back(bench: Bench, mode: Path) -> None:
    job = bench.job(engine=("/bin/cat", str(mode)), holds=[hold(mode)])
    assert job.run()["undone"] is True
    assert job.stdout() == "MAXN\n"
    assert mode.read_text() == f"{ODD}\n"
    for name in ("agent.set", "agent.held"):
        told = job.event(name)
        assert (told["path"], told["asked"], told["got"], told["ok"]) == ("power_mode", "MAXN", "MAXN", True)
    back = job.event("agent.restore")
    assert (shown(back, "asked"), shown(back, "got"), back["ok"]) == (ODD, ODD, True)
    assert (job.folder / "undo.done").exists()


def test_the_journal_is_on_disk_before_the_command_is_carried_out(bench: Bench, mode: Path) -> None:
    before = ("/bin/sh", "-c", f"cp undo {mode}.undo; echo MAXN > {mode}")
    bench.job(holds=[hold(mode, set=before)]).run()
    lines = Path(f"{mode}.undo").read_text().splitlines()
    assert lines[0] == f"boot_id {BOOT_ID}"
    assert lines[1].startswith(f"run power_mode {encode_word(ODD)} 5 2 /bin/sh -c ")


def test_a_state_that_is_as_wanted_already_is_left_alone_and_still_watched(bench: Bench, mode: Path) -> None:
    mode.write_text("MAXN\n")
    job = bench.job(engine=shell(f"echo 7W > {mode}"), holds=[hold(mode)])
    assert job.run()["undone"] is True
    assert calls(mode) == 0
    assert (job.event("agent.set")["ok"], job.event("agent.set")["tried"]) == (True, False)
    assert (job.event("agent.held")["got"], job.event("agent.held")["ok"]) == ("7W", False)
    assert job.events("agent.restore") == []


def test_what_somebody_else_changed_during_the_run_is_told_and_put_back_all_the_same(
    bench: Bench, mode: Path, tmp_path: Path
) -> None:
    knob = tmp_path / "knob"
    knob.write_text("schedutil\n")
    change = shell(f"echo 7W > {mode}; echo ondemand > {knob}")
    job = bench.job(engine=change, holds=[hold(mode)], settings=[(str(knob), "performance", "/sys/shown")])
    assert job.run()["undone"] is True
    assert [(e["path"], e["got"], e["ok"]) for e in job.events("agent.held")] == [
        ("power_mode", "7W", False),
        ("/sys/shown", "ondemand", False),
    ]
    assert [event["path"] for event in job.events("agent.restore")] == ["/sys/shown", "power_mode"]
    assert (mode.read_text(), knob.read_text()) == (f"{ODD}\n", "schedutil\n")


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (("/no/such/program",), "/no/such/program: it is not there"),
        (shell("echo useless; exit 3"), "/bin/sh: exit code 3: useless"),
        (shell("kill -9 $$"), "/bin/sh: it was ended"),
    ],
)
def test_a_state_that_cannot_be_asked_for_is_not_changed(
    bench: Bench, mode: Path, read: tuple[str, ...], why: str
) -> None:
    job = bench.job(holds=[hold(mode, read=read)])
    assert job.run()["exit"] == 0
    assert calls(mode) == 0
    told = job.event("agent.set")
    assert (told["ok"], told["got"], told["error"]) == (False, "", why)
    assert job.events("agent.held") == []


def test_a_command_that_refuses_is_told_in_its_own_words(bench: Bench, mode: Path) -> None:
    refuses = shell("echo 'not as root?' >&2; exit 4")
    job = bench.job(holds=[hold(mode, set=refuses)])
    assert job.run()["undone"] is True
    told = job.event("agent.set")
    assert (told["ok"], shown(told, "got"), told["error"]) == (False, ODD, "/bin/sh: exit code 4: not as root?")


def test_a_command_that_complains_and_does_it_has_done_it(bench: Bench, mode: Path) -> None:
    odd = ("/bin/sh", "-c", f"echo MAXN > {mode}; echo warning >&2; exit 1")
    job = bench.job(holds=[hold(mode, set=odd)])
    job.run()
    assert (job.event("agent.set")["ok"], job.event("agent.set")["error"]) == (True, "")


def test_a_command_that_hangs_is_ended_and_what_it_left_is_put_back(bench: Bench, mode: Path, tmp_path: Path) -> None:
    hangs = ("/bin/sh", "-c", f"echo half > {mode}; echo $$ > {tmp_path}/pid; sleep 600 & wait")
    job = bench.job(holds=[hold(mode, set=hangs)])
    job.run()
    assert job.event("agent.set")["error"] == "/bin/sh: it hangs"
    wait_gone(int((tmp_path / "pid").read_text()))
    assert mode.read_text() == f"{ODD}\n"
    assert (job.folder / "undo.done").exists()


def test_of_a_long_answer_the_last_line_is_the_state_and_it_is_whole(bench: Bench, mode: Path) -> None:
    mode.write_text("a line that the tool says of something else\n" * 300 + f"{ODD}\n")
    job = bench.job(holds=[hold(mode)])
    assert job.run()["undone"] is True
    assert mode.read_text() == f"{ODD}\n"
    assert shown(job.event("agent.restore"), "asked") == ODD


@pytest.mark.parametrize(
    ("state", "why"),
    [("x" * 3000, "File too large"), ("x" * 9000, "File too large"), ("15W\0 or more", "")],
)
def test_a_state_that_could_not_be_put_back_whole_is_not_changed(
    bench: Bench, mode: Path, state: str, why: str
) -> None:
    mode.write_text(f"{state}\n")
    job = bench.job(holds=[hold(mode)])
    assert job.run()["exit"] == 0
    assert (calls(mode), mode.read_text()) == (0, f"{state}\n")
    told = job.event("agent.set")
    assert (told["ok"], told["tried"]) == (False, False)
    assert why in str(told["error"])


@pytest.mark.parametrize("talks", ["sleep 600", "yes"])
def test_a_command_that_leaves_something_behind_with_its_output_open_has_ended(
    bench: Bench, mode: Path, talks: str
) -> None:
    leaves = ("/bin/sh", "-c", f"echo MAXN > {mode}; setsid {talks} & echo $! > {mode}.left")
    job = bench.job(holds=[hold(mode, set=leaves)])
    job.run()
    told = job.event("agent.set")
    assert (told["ok"], told["tried"], told["error"]) == (True, True, "")
    assert mode.read_text() == f"{ODD}\n"
    wait_gone(int(Path(f"{mode}.left").read_text()))


def test_what_was_set_and_cannot_be_asked_for_again_is_told_as_tried(bench: Bench, mode: Path) -> None:
    once = shell(f"test ! -e {mode}.calls && cat {mode}")
    job = bench.job(holds=[hold(mode, read=once)], refused=[("/sys/a", "1", "it needs root")])
    assert job.run()["undone"] is False
    told, refused = job.events("agent.set")
    assert (told["got"], told["ok"], told["tried"]) == ("", False, True)
    assert (refused["got"], refused["ok"], refused["tried"]) == ("", False, False)


def test_a_file_that_hangs_is_given_up_and_the_job_goes_on(bench: Bench, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stuck")
    (tmp_path / "fine").write_text("old\n")
    settings = [(str(tmp_path / "stuck"), "1"), (str(tmp_path / "fine"), "new")]
    job = bench.job(engine=("/bin/cat", str(tmp_path / "fine")), settings=settings)
    status = job.run()
    assert (status["exit"], job.stdout()) == (0, "new\n")
    stuck, fine = job.events("agent.set")
    assert (stuck["ok"], stuck["error"], fine["ok"]) == (False, "it hangs", True)
    assert status["undone"] is True  # a file that could not be read was never changed
    assert (tmp_path / "fine").read_text() == "old\n"


def test_a_wall_limit_holds_after_files_that_hung(bench: Bench, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "stuck")
    job = bench.job(engine=SLEEPS, settings=[(str(tmp_path / "stuck"), "1")], wall_s=0.2)
    assert job.run()["why"] == "wall"


def test_what_cannot_even_be_tried_is_told_with_the_reason(bench: Bench) -> None:
    job = bench.job(refused=[("/sys/a", "performance", "it needs root: allow 'sudo -n'")])
    assert job.run()["undone"] is True
    told = job.event("agent.set")
    assert (told["path"], told["asked"], told["ok"]) == ("/sys/a", "performance", False)
    assert told["error"] == "it needs root: allow 'sudo -n'"
    assert job.events("agent.restore") == []


def test_a_state_that_brings_another_value_of_its_own_leaves_both_as_they_were(bench: Bench, tmp_path: Path) -> None:
    mode, clock = tmp_path / "mode", tmp_path / "clock"
    mode.write_text("15W\n")
    clock.write_text("1200\n")
    brings = f'echo "$1" > {mode}; test "$1" = MAXN && echo 2000 > {clock} || echo 1500 > {clock}'
    held = Hold(
        "power_mode",
        "MAXN",
        ("/bin/sh", "-c", brings, "sh", "MAXN"),
        ("/bin/sh", "-c", brings, "sh", "{old}"),
        ("/bin/cat", str(mode)),
    )
    job = bench.job(engine=("/bin/cat", str(clock)), holds=[held], settings=[(str(clock), "1900")])
    assert job.run()["undone"] is True
    assert job.stdout() == "1900\n"
    assert (mode.read_text(), clock.read_text()) == ("15W\n", "1200\n")


def test_the_next_job_puts_back_what_a_killed_one_held(bench: Bench, mode: Path) -> None:
    dead = killed(bench, hold(mode))
    assert mode.read_text() == "MAXN\n"
    job = bench.job("next", engine=("/bin/cat", str(mode)))
    job.run()
    assert job.stdout() == f"{ODD}\n"
    assert shown(job.event("agent.restore"), "got") == ODD
    assert (dead.folder / "undo.done").exists()


def test_a_job_that_holds_the_same_as_a_killed_one_finds_what_was_before_both(bench: Bench, mode: Path) -> None:
    killed(bench, hold(mode))
    assert bench.job("next", holds=[hold(mode)]).run()["undone"] is True
    assert mode.read_text() == f"{ODD}\n"


def test_after_a_reboot_a_command_is_undone_and_the_kernel_s_files_are_left_alone(bench: Bench, mode: Path) -> None:
    mode.write_text("MAXN\n")
    restore = hold(mode).restore
    words = ["run", "power_mode", "15W", str(len(restore)), "2", *restore[:-1], "15W", "/bin/cat", str(mode)]
    folder = bench.root / "jobs" / "crashed"
    folder.mkdir(parents=True)
    lines = ["boot_id another-boot", "/sys/no/such/file 1", " ".join(map(encode_word, words))]
    (folder / "undo").write_text("\n".join(lines) + "\n")
    assert bench.undo().returncode == 0
    assert mode.read_text() == "15W\n"
    assert (folder / "undo.done").exists()


def test_a_journal_keeps_only_what_is_not_yet_back(bench: Bench, mode: Path, tmp_path: Path) -> None:
    knob, gone = tmp_path / "knob", tmp_path / "gone"
    for path in (knob, gone):
        path.write_text("old\n")
    never = ("/bin/sh", "-c", "exit 1", "sh", "{old}")
    settings = [(str(knob), "new"), (str(gone), "new", "/sys/gone")]
    job = bench.job(engine=("/bin/rm", str(gone)), holds=[hold(mode, restore=never)], settings=settings)
    assert job.run()["undone"] is False
    assert knob.read_text() == "old\n"
    left = (job.folder / "undo").read_text().splitlines()[1:]
    assert [line.split()[:2] for line in left] == [["run", "power_mode"], [str(gone), "old"]]
    knob.write_text("chosen by somebody\n")
    gone.write_text("new\n")
    assert bench.undo().returncode == 1
    assert (knob.read_text(), gone.read_text()) == ("chosen by somebody\n", "old\n")
    assert [line.split()[:2] for line in (job.folder / "undo").read_text().splitlines()[1:]] == [["run", "power_mode"]]


@pytest.mark.parametrize(
    "line",
    [
        b"run",
        b"run a",
        b"run a old 1 1 /bin/false",
        b"run a old 9 9 /bin/false /bin/false",
        b"run a old -1 3 /bin/false /bin/false",
        b"run a old 2147483647 2147483647 x x",
        b"run a old x y /bin/false /bin/false",
        b"run a old 1 1 /bin/false %zz",
        b"run a old 30 40" + b" x" * 70,
        b"relative old",
    ],
)
def test_a_damaged_line_of_a_journal_is_carried_out_by_nobody(bench: Bench, line: bytes, tmp_path: Path) -> None:
    (tmp_path / "knob").write_text("new\n")
    folder = bench.root / "jobs" / "crashed"
    folder.mkdir(parents=True)
    good = f"{tmp_path}/knob old\n".encode()
    (folder / "undo").write_bytes(b"boot_id " + BOOT_ID.encode() + b"\n" + line + b"\n" + good)
    assert bench.undo().returncode == 1
    assert (tmp_path / "knob").read_text() == "old\n"
    assert (folder / "undo").exists()


def test_a_job_that_is_stopped_puts_its_states_back(bench: Bench, mode: Path) -> None:
    job = bench.job(engine=WAITS, holds=[hold(mode)])
    job.start()
    until(lambda: mode.read_text() == "MAXN\n", "the state is held")
    assert job.verb("stop", "10000").returncode == 0
    assert mode.read_text() == f"{ODD}\n"


def test_after_thirty_kills_at_random_moments_one_more_job_leaves_everything_as_it_was(
    bench: Bench, tmp_path: Path
) -> None:
    """From the first value that is set to the last that is put back."""
    knobs = [tmp_path / f"knob{i}" for i in range(6)]
    modes = [tmp_path / f"mode{i}" for i in range(2)]
    for path in (*knobs, *modes):
        path.write_text(f"{path.name} as it was\n")
    before = [path.read_text() for path in (*knobs, *modes)]

    def slow(mode: Path) -> Hold:
        to = ("/bin/sh", "-c", f'sleep 0.01; echo "$1" > {mode}; sleep 0.01', "sh")
        return Hold(mode.name, "held", (*to, "held"), (*to, "{old}"), ("/bin/cat", str(mode)))

    def planned(name: str) -> Job:
        settings = [(str(path), "held") for path in knobs]
        return bench.job(name, engine=shell("sleep 0.02"), holds=[slow(mode) for mode in modes], settings=settings)

    chance, phases = random.Random(5), set()
    for i in range(30):
        job = planned(f"killed{i}")
        job.start()
        time.sleep(chance.uniform(0, 0.2))
        phases.add(job.status()["phase"])
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            job.kill()
    assert len(phases) > 1  # not all of them at the same moment
    assert planned("last").run()["undone"] is True
    assert [path.read_text() for path in (*knobs, *modes)] == before
    assert list((bench.root / "jobs").glob("*/undo")) == []
