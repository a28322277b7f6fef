"""What a job changes on the device is put back: by itself, or by the next one when it was killed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent_jobs import SLEEPS, WAITS, Bench, shell, wait_gone

from melt.job.plan import encode_word

if TYPE_CHECKING:
    from agent_jobs import Job

pytestmark = pytest.mark.peer

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def knob(tmp_path: Path) -> Path:
    """A setting of the device, with its old value; its name needs escaping."""
    made = tmp_path / "governor of\n100 % ü"
    made.write_text("powersave\n")
    return made


def killed(bench: Bench, knob: Path, name: str = "killed") -> Job:
    """A job whose agent was killed while it held a setting."""
    job = bench.job(name, engine=SLEEPS, settings=[(str(knob), "performance")])
    job.start()
    engine = job.engine_pid()
    assert knob.read_text() == "performance\n"
    job.kill()
    wait_gone(engine)
    return job


def journal(bench: Bench, *lines: tuple[str, str], boot_id: str = BOOT_ID) -> Path:
    """What a job that crashed has left behind."""
    folder = bench.root / "jobs" / "crashed"
    folder.mkdir(parents=True)
    text = "".join(f"{encode_word(path)} {encode_word(value)}\n" for path, value in lines)
    (folder / "undo").write_text(f"boot_id {boot_id}\n{text}")
    return folder


def test_a_setting_is_held_during_the_run_and_put_back(bench: Bench, knob: Path) -> None:
    job = bench.job(engine=("/bin/cat", str(knob)), settings=[(str(knob), "performance")])
    assert job.run()["undone"] is True
    assert job.stdout() == "performance\n"
    assert knob.read_text() == "powersave\n"
    told = job.event("agent.set")
    assert told["path"].encode("latin-1").decode() == str(knob)
    assert (told["asked"], told["got"], told["ok"], told["error"]) == ("performance", "performance", True, "")
    back = job.event("agent.restore")
    assert (back["asked"], back["got"], back["ok"]) == ("powersave", "powersave", True)
    assert job.event("agent.end")["undone"] is True
    assert not (job.folder / "undo").exists()
    assert (job.folder / "undo.done").read_text().startswith(f"boot_id {BOOT_ID}\n")


def test_settings_are_put_back_in_reverse_and_also_after_an_engine_that_failed(bench: Bench, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "a")]
    for path in paths:
        path.write_text("old\n")
    job = bench.job(engine=shell("kill -9 $$"), settings=[(str(path), f"new{i}") for i, path in enumerate(paths)])
    assert job.run()["undone"] is True
    assert {path.read_text() for path in paths} == {"old\n"}
    assert [event["path"] for event in job.events("agent.restore")] == [str(path) for path in reversed(paths)]


def test_settings_are_put_back_when_the_engine_cannot_be_started_or_is_stopped(bench: Bench, knob: Path) -> None:
    absent = bench.job("absent", engine=("/no/such/engine",), settings=[(str(knob), "performance")])
    absent.run()
    assert knob.read_text() == "powersave\n"
    stopped = bench.job("stopped", engine=SLEEPS, settings=[(str(knob), "performance")])
    stopped.start()
    assert stopped.verb("stop", "10000").returncode == 0
    assert knob.read_text() == "powersave\n"


def test_a_setting_that_is_not_there_is_told_and_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    job = bench.job(settings=[(str(tmp_path / "absent"), "1"), ("/proc/version", "1")])
    status = job.run()
    assert status["exit"] == 0
    absent, fixed = job.events("agent.set")
    assert (absent["ok"], absent["error"]) == (False, "No such file or directory")
    assert (fixed["ok"], fixed["error"] != "") == (False, True)
    assert not (tmp_path / "absent").exists()


def test_a_setting_that_the_device_rounds_is_told_as_it_was_read_back(bench: Bench) -> None:
    # the kernel keeps 15 letters of a thread's name; the agent's own file stands for a register that rounds
    job = bench.job(settings=[("/proc/self/comm", "a-name-far-too-long-for-it")])
    job.run()
    told = job.event("agent.set")
    assert (told["got"], told["ok"]) == ("a-name-far-too-", False)


def test_the_next_job_puts_back_what_a_killed_one_held(bench: Bench, knob: Path) -> None:
    dead = killed(bench, knob)
    job = bench.job("next", engine=("/bin/cat", str(knob)))
    job.run()
    assert job.stdout() == "powersave\n"
    assert job.event("agent.restore")["ok"] is True
    assert job.events("agent.leftover") == []
    assert (dead.folder / "undo.done").exists()
    assert not (dead.folder / "undo").exists()


def test_the_undo_verb_puts_back_what_killed_jobs_held(bench: Bench, knob: Path) -> None:
    dead = killed(bench, knob)
    done = bench.undo()
    assert (done.returncode, done.stderr) == (0, b"")
    assert knob.read_text() == "powersave\n"
    assert (dead.folder / "undo.done").exists()
    assert bench.undo().returncode == 0


def test_undo_leaves_a_running_job_alone(bench: Bench, knob: Path) -> None:
    job = bench.job(engine=SLEEPS, settings=[(str(knob), "performance")])
    job.start()
    job.engine_pid()
    done = bench.undo()
    assert (done.returncode, done.stderr.count(b"\n")) == (75, 1)
    assert knob.read_text() == "performance\n"
    assert job.verb("stop", "10000").returncode == 0


@pytest.mark.parametrize("first_made", [0, 1])
def test_of_two_killed_jobs_the_later_one_is_undone_first(bench: Bench, knob: Path, first_made: int) -> None:
    """What it found was what the earlier one held."""
    knob.write_text("of the second\n")
    lines = {"20260101T000000Z-a": "powersave", "20260101T000001Z-a": "of the first"}
    for name in sorted(lines, reverse=bool(first_made)):
        folder = bench.root / "jobs" / name
        folder.mkdir(parents=True)
        line = f"{encode_word(str(knob))} {encode_word(lines[name])}"
        (folder / "undo").write_text(f"boot_id {BOOT_ID}\n{line}\n")
    assert bench.undo().returncode == 0
    assert knob.read_text() == "powersave\n"


def test_two_work_folders_do_not_hold_values_of_one_device_at_once(bench: Bench, knob: Path, tmp_path: Path) -> None:
    """The later job would take what the first holds for what was there before."""
    whole = (str(tmp_path / "not there"), str(tmp_path))
    pinned = {"engine": WAITS, "settings": [(str(knob), "performance")], "whole": whole}
    other = Bench(bench.agent, tmp_path / "other")
    first, second = bench.job(**pinned), other.job(**pinned)
    first.start()
    first.engine_pid()
    refused = second.verb("start")
    assert (refused.returncode, refused.stderr) == (
        75,
        b"locked by a job of another work folder, which holds values of the device\n",
    )
    assert not (second.folder / "undo").exists()
    assert other.job("sets nothing", whole=whole, refused=[("/sys/a", "1", "it needs root")]).run()["exit"] == 0
    first.go()
    assert first.ended()["undone"] is True
    second.start()
    second.engine_pid()
    assert knob.read_text() == "performance\n"
    second.go()
    assert second.ended()["undone"] is True
    assert knob.read_text() == "powersave\n"


def test_what_a_killed_job_left_waits_while_another_work_folder_holds_values(
    bench: Bench, knob: Path, tmp_path: Path
) -> None:
    killed(bench, knob)
    other = Bench(bench.agent, tmp_path / "other")
    holder = other.job(engine=WAITS, settings=[(str(knob), "ondemand")], whole=[str(tmp_path)])
    holder.start()
    holder.engine_pid()
    job = bench.job("next", whole=[str(tmp_path)])
    assert job.run()["exit"] == 0
    assert job.event("agent.leftover")["journals"] == 1
    argv = [bench.agent, "undo", bench.lock, bench.root / "jobs", tmp_path]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (75, b"a job of another work folder holds values of the device\n")
    assert knob.read_text() == "ondemand\n"
    holder.go()
    holder.ended()
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 0
    assert knob.read_text() == "powersave\n"


def test_undo_without_a_lock_s_folder_says_so(bench: Bench) -> None:
    done = bench.undo()
    assert done.returncode == 1
    assert b"No such file or directory" in done.stderr


def test_after_a_reboot_only_what_the_kernel_has_not_forgotten_is_put_back(bench: Bench, knob: Path) -> None:
    knob.write_text("performance\n")
    lines = (("/sys/no/such/file", "1"), (str(knob), "powersave"), ("/proc/sys/no/such/file", "1"))
    folder = journal(bench, *lines, boot_id="another boot")
    assert bench.undo().returncode == 0
    assert knob.read_text() == "powersave\n"
    assert (folder / "undo.done").exists()


@pytest.mark.parametrize("path", ["/sys/no/such/file", "/no/such/file"])
def test_what_cannot_be_put_back_is_kept_and_told_to_the_next_job(bench: Bench, knob: Path, path: str) -> None:
    knob.write_text("performance\n")
    folder = journal(bench, (path, "1"), (str(knob), "powersave"))
    done = bench.undo()
    assert (done.returncode, done.stderr) == (1, b"1 undo journals could not be finished\n")
    assert knob.read_text() == "powersave\n"
    job = bench.job()
    assert job.run()["exit"] == 0
    assert job.event("agent.leftover")["journals"] == 1
    assert (folder / "undo").exists()


def test_a_setting_that_cannot_be_put_back_is_reported_and_its_journal_kept(bench: Bench, knob: Path) -> None:
    job = bench.job(engine=("/bin/rm", str(knob)), settings=[(str(knob), "performance")])
    status = job.run()
    assert (status["exit"], status["undone"]) == (0, False)
    assert job.event("agent.restore")["ok"] is False
    assert job.event("agent.end")["undone"] is False
    assert (job.folder / "undo").exists()


def test_a_value_too_long_to_be_put_back_is_not_changed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "long").write_text("x" * 5000)
    job = bench.job(settings=[(str(tmp_path / "long"), "1")])
    job.run()
    assert (tmp_path / "long").read_text() == "x" * 5000
    assert job.event("agent.set")["error"] == "File too large"


def test_more_old_values_than_the_journal_holds_change_nothing(bench: Bench, tmp_path: Path) -> None:
    paths = [tmp_path / f"v{i}" for i in range(1024)]
    for path in paths:
        path.write_bytes(b"\xff" * 400)
    job = bench.job(settings=[(str(path), "1") for path in paths], engine=("/bin/echo", "ran"))
    assert job.run()["exit"] == 127
    assert job.event("error")["kind"] == "start"
    assert {path.read_bytes() for path in paths} == {b"\xff" * 400}
    assert not (job.folder / "stdout").exists()


def test_a_full_journal_that_fits_is_put_back_whole(bench: Bench, tmp_path: Path) -> None:
    paths = [tmp_path / f"v{i}" for i in range(1024)]
    for i, path in enumerate(paths):
        path.write_bytes(b"%d \xff" % i * 30)
    before = [path.read_bytes() for path in paths]
    job = bench.job(settings=[(str(path), "1") for path in paths], engine=("/bin/cat", *map(str, paths)))
    assert job.run()["undone"] is True
    assert job.stdout() == "1\n" * 1024
    assert [path.read_bytes().rstrip(b"\n") for path in paths] == before


@pytest.mark.parametrize(
    "garbage", [b"", b"boot_id\n", b"\xff\xfe\n", b"no-second-word\n", b"/x %zz\n", b"a b c\n" * 1300]
)
def test_a_damaged_journal_never_crashes_the_agent(bench: Bench, garbage: bytes) -> None:
    folder = journal(bench)
    (folder / "undo").write_bytes(garbage)
    (bench.root / "jobs" / "stray file").write_text("not a job")
    done = bench.undo()
    assert done.returncode in (0, 1)
    assert bench.job().run()["exit"] == 0
