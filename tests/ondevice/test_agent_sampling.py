"""Sensors at their own deadlines: what is read is what was there, and one that fails or hangs stops no other."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent_jobs import (
    LIMIT_S,
    WAITS,
    command_sensor,
    file_sensor,
    fill_up,
    is_gone,
    shell,
    until,
    wait_gone,
)
from agent_jobs import Bench as TheBench

from melt.job import ENGINE_SENSOR, read_trace
from melt.records import Sensor

if TYPE_CHECKING:
    from agent_jobs import Bench, Job

pytestmark = pytest.mark.peer


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """Where the files of sensors are."""
    made = tmp_path / "board"
    made.mkdir()
    return made


def sampled(job: Job, sensor: str, n: int = 1, value: bytes | None = None, error: str | None = None) -> None:
    """Waits until the trace holds so many such rows."""

    def enough() -> bool:
        return (
            sum((value is None or r.value == value) and (error is None or r.error == error) for r in job.rows(sensor))
            >= n
        )

    until(enough, f"{n} rows of {sensor} with value {value!r} and error {error!r}: {job.log()}")


def test_every_sensor_keeps_to_the_grid_of_its_own_period(bench: Bench, board: Path) -> None:
    periods = {f"s{i}": 0.005 + 0.003 * i for i in range(20)}
    for name in periods:
        (board / name).write_text(f"{name}\n")
    sensors = [file_sensor(name, board / name, period_s) for name, period_s in periods.items()]
    sensors.append(command_sensor("said", "/bin/echo", "word"))
    job = bench.job(engine=WAITS, sensors=sensors)
    job.start()
    sampled(job, "said", 4)
    job.go()
    job.ended()
    rows = job.rows()
    (start,) = {row.due_ns for row in rows if row.sensor != "engine"} & {min(r.due_ns for r in rows)}
    for name, period_s in (*periods.items(), ("said", 0.2)):
        own = [row for row in rows if row.sensor == name]
        assert len(own) > 2
        assert {(row.due_ns - start) % round(period_s * 1e9) for row in own} == {0}
        assert all(a.due_ns < b.due_ns and a.t_ns <= b.t_ns for a, b in pairwise(own))
        assert all(row.due_ns <= row.t_ns and row.read_ns > 0 for row in own)
        assert {row.value for row in own} == {b"word" if name == "said" else name.encode()}
    end = job.event("agent.end")
    assert end["samples"] == len(rows)
    assert end["hung"] == 0
    assert end["missed"] >= 0


def test_the_samples_and_the_missed_deadlines_account_for_every_deadline(bench: Bench, board: Path) -> None:
    (board / "fast").write_text("1\n")
    job = bench.job(engine=WAITS, sensors=[file_sensor("fast", board / "fast", 0.001)], memory_period_s=0)
    job.start()
    sampled(job, "fast", 200)
    job.go()
    job.ended()
    rows = job.rows("fast")
    last = (rows[-1].due_ns - rows[0].due_ns) // 1_000_000
    skipped = last + 1 - len(rows)
    # the deadlines skipped after the last row are counted too
    assert 0 <= skipped <= job.event("agent.end")["missed"]


def test_every_byte_comes_through_the_trace(bench: Bench, board: Path) -> None:
    every = bytes(range(256)) + b'"quoted, words" \\n \\x41 \\\\ ' + bytes(range(255, -1, -1)) + b"."
    (board / "bytes").write_bytes(every)
    job = bench.job(sensors=[file_sensor("bytes", board / "bytes")])
    job.run()
    assert {row.value for row in job.rows("bytes")} == {every}


def test_random_bytes_come_through_the_trace(bench: Bench, board: Path) -> None:
    data = {f"s{i}": random.Random(i).randbytes(1000 * i) + b"." for i in range(8)}
    for name, content in data.items():
        (board / name).write_bytes(content)
    job = bench.job(sensors=[file_sensor(name, board / name) for name in data])
    job.run()
    for name, content in data.items():
        assert {row.value for row in job.rows(name)} == {content}


def several(name: str, *paths: Path, period_s: float = 0.02, timeout_s: float = 5.0, reopen: bool = False) -> Sensor:
    first, *also = map(str, paths)
    return Sensor(name, (), period_s, path=first, also=tuple(also), timeout_s=timeout_s, reopen=reopen)


@pytest.mark.parametrize("reopen", [False, True])
def test_several_files_of_one_sensor_are_one_row_with_a_line_end_between_them(
    bench: Bench, board: Path, reopen: bool
) -> None:
    for name, content in (("volt", b"5000\n"), ("curr", b"120\n\n"), ("lines", b"a\nb\0"), ("empty", b"")):
        (board / name).write_bytes(content)
    paths = [board / name for name in ("volt", "empty", "curr", "lines", "empty")]
    job = bench.job(engine=WAITS, sensors=[several("rail", *paths, reopen=reopen)], idle_s=0.1)
    job.start()
    sampled(job, "rail", 3)
    (board / "curr").write_bytes(b"121\n")
    sampled(job, "rail", 2, b"5000\n\n121\na\nb\n")
    job.go()
    job.ended()
    rows = job.rows("rail")
    assert rows[0].value == b"5000\n\n120\na\nb\n"
    assert {row.error for row in rows} == {""}


def test_one_file_of_several_that_fails_is_the_row_s_error_until_it_is_back(bench: Bench, board: Path) -> None:
    (board / "a").write_text("1\n")
    (board / "c").write_text("3\n")
    job = bench.job(engine=WAITS, sensors=[several("all", board / "a", board / "b", board / "c")])
    job.start()
    sampled(job, "all", 2, error="missing")
    (board / "b").write_text("2\n")
    sampled(job, "all", 2, b"1\n2\n3")
    job.go()
    assert job.ended()["exit"] == 0
    assert {row.value for row in job.rows("all") if row.error} == {b""}


def test_one_file_of_several_that_hangs_costs_that_sensor_only(bench: Bench, board: Path) -> None:
    (board / "a").write_text("1\n")
    os.mkfifo(board / "stuck")
    sensors = [several("both", board / "a", board / "stuck", timeout_s=0.1), file_sensor("fine", board / "a")]
    job = bench.job(engine=WAITS, sensors=sensors)
    job.start()
    sampled(job, "both", 1, error="hangs")
    seen = len(job.rows("fine"))
    sampled(job, "fine", seen + 3, b"1")
    job.go()
    job.ended()
    assert job.event("agent.sensor")["sensor"] == "both"


def test_line_ends_and_nuls_at_the_end_are_left_out_and_nothing_else(bench: Bench, board: Path) -> None:
    for name, content in (("lines", b"a\nb \n\n"), ("nul", b"device\0"), ("empty", b""), ("blank", b"\n")):
        (board / name).write_bytes(content)
    job = bench.job(sensors=[file_sensor(path.name, path) for path in board.iterdir()])
    job.run()
    found = {row.sensor: (row.error, row.value) for row in job.rows()}
    assert found["lines"] == ("", b"a\nb ")
    assert found["nul"] == ("", b"device")
    assert found["empty"] == found["blank"] == ("", b"")


def test_a_large_file_is_cut_at_16384_bytes(bench: Bench, board: Path) -> None:
    data = random.Random(1).randbytes(20_000)
    (board / "large").write_bytes(data)
    (board / "full").write_bytes(b"x" * 16_384)
    argv = ("/bin/cat", str(board / "large"))
    sensors = [file_sensor(name, board / name) for name in ("large", "full")]
    job = bench.job(sensors=[*sensors, command_sensor("said", *argv)])
    job.run()
    assert {row.value for row in job.rows("large")} == {data[:16_384]}
    assert {row.value for row in job.rows("full")} == {b"x" * 16_384}
    assert {row.value for row in job.rows("said")} <= {data[:16_384]}


def test_a_table_that_the_kernel_gives_in_pages_is_read_on(bench: Bench) -> None:
    text = Path("/proc/kallsyms")
    if not os.access(text, os.R_OK):
        pytest.skip("a table in pages is NOT tested: this kernel has no /proc/kallsyms")
    job = bench.job(sensors=[file_sensor("table", text)])
    job.run()
    assert {len(row.value.rstrip(b"\n")) for row in job.rows("table")} <= {16_383, 16_384}


def test_a_missing_file_is_said_to_be_and_read_once_it_appears(bench: Bench, board: Path) -> None:
    job = bench.job(engine=WAITS, sensors=[file_sensor("late", board / "late"), file_sensor("fine", "/proc/uptime")])
    job.start()
    sampled(job, "late", error="missing")
    (board / "late").write_text("7\n")
    sampled(job, "late", value=b"7")
    job.go()
    job.ended()
    rows = job.rows("late")
    assert {(row.error, row.value) for row in rows} <= {("missing", b""), ("", b""), ("", b"7")}
    assert not {row.error for row in job.rows("fine")} - {""}


def test_a_file_that_vanishes_is_missing_from_then_on(bench: Bench, board: Path) -> None:
    (board / "brief").write_text("7\n")
    job = bench.job(engine=WAITS, sensors=[file_sensor("brief", board / "brief", reopen=True)])
    job.start()
    sampled(job, "brief", value=b"7")
    (board / "brief").unlink()
    sampled(job, "brief", error="missing")
    job.go()
    job.ended()
    errors = [row.error for row in job.rows("brief")]
    assert errors == sorted(errors)


def test_a_held_file_shows_what_is_rewritten_and_a_reopened_one_also_what_is_replaced(
    bench: Bench, board: Path
) -> None:
    (board / "value").write_text("1\n")
    sensors = [
        file_sensor("held", board / "value"),
        file_sensor("reopened", board / "value", reopen=True),
    ]
    job = bench.job(engine=WAITS, sensors=sensors)
    job.start()
    for name in ("held", "reopened"):
        sampled(job, name, value=b"1")
    with (board / "value").open("r+b") as value:
        value.write(b"2")
    for name in ("held", "reopened"):
        sampled(job, name, value=b"2")
    (board / "new").write_text("3\n")
    (board / "new").rename(board / "value")
    sampled(job, "reopened", n=3, value=b"3")
    job.go()
    job.ended()
    assert {row.value for row in job.rows("held")} == {b"1", b"2"}
    assert {row.value for row in job.rows("reopened")} == {b"1", b"2", b"3"}


def test_a_folder_and_a_file_below_a_file_are_rows_with_an_error(bench: Bench, board: Path) -> None:
    (board / "file").write_text("1\n")
    job = bench.job(sensors=[file_sensor("folder", board), file_sensor("below", board / "file" / "x")])
    job.run()
    assert {row.error for row in job.rows("folder")} == {"io: EISDIR"}
    assert {row.error for row in job.rows("below")} == {"io"}


def test_sensors_that_hang_are_given_up_and_stop_no_other(bench: Bench, board: Path) -> None:
    for name in ("stuck", "mute"):
        os.mkfifo(board / name)
    (board / "fine").write_text("1\n")
    sensors = [
        file_sensor("before", board / "fine"),
        file_sensor("stuck", board / "stuck", timeout_s=0.1),
        file_sensor("between", board / "fine"),
        file_sensor("mute", board / "mute", timeout_s=0.1),
        file_sensor("after", board / "fine"),
        file_sensor("slow", board / "fine", 0.5),
        command_sensor("said", "/bin/echo", "1"),
    ]
    job = bench.job(engine=WAITS, sensors=sensors)
    job.start()
    until(lambda: len(job.events("agent.sensor")) == 2, "both are given up")
    rows = {name: len(job.rows(name)) for name in ("before", "between", "after", "said", "slow")}
    for name, n in rows.items():
        sampled(job, name, n + 2)
    job.go()
    job.ended()
    assert [event["sensor"] for event in job.events("agent.sensor")] == ["stuck", "mute"]
    assert {event["error"] for event in job.events("agent.sensor")} == {"hangs"}
    for name in ("stuck", "mute"):
        (row,) = job.rows(name)
        assert (row.error, row.value) == ("hangs", b"")
        assert row.read_ns > 100_000_000
    assert job.event("agent.end")["hung"] == 2
    for name in ("before", "between", "after", "slow"):
        period_ns = 500_000_000 if name == "slow" else 20_000_000
        own = job.rows(name)
        assert {(row.due_ns - own[0].due_ns) % period_ns for row in own} == {0}
        assert len({row.due_ns for row in own}) == len(own)


def test_a_read_that_comes_back_after_it_was_given_up_changes_nothing(bench: Bench, board: Path) -> None:
    os.mkfifo(board / "stuck")
    (board / "fine").write_text("1\n")
    sensors = [file_sensor("stuck", board / "stuck", timeout_s=0.05), file_sensor("fine", board / "fine")]
    job = bench.job(engine=WAITS, sensors=sensors)
    job.start()
    until(lambda: bool(job.events("agent.sensor")), "it is given up")
    with (board / "stuck").open("wb") as pipe:
        pipe.write(b"too late\n")
    sampled(job, "fine", len(job.rows("fine")) + 20)
    job.go()
    job.ended()
    assert [row.error for row in job.rows("stuck")] == ["hangs"]


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(bench: Bench, board: Path) -> None:
    script = f"sleep 600 & echo $! $$ >> {board}/pids; wait"
    job = bench.job(engine=WAITS, sensors=[command_sensor("slow", *shell(script), timeout_s=0.1, period_s=30.0)])
    job.start()
    sampled(job, "slow", error="hangs")
    wait_gone(*map(int, (board / "pids").read_text().split()))
    assert not is_gone(job.engine_pid())
    job.go()
    job.ended()


def test_what_a_command_leaves_behind_is_ended_after_each_sample(bench: Bench, board: Path) -> None:
    script = f"sleep 600 > /dev/null & echo $! >> {board}/pids; echo 5"
    job = bench.job(engine=WAITS, sensors=[command_sensor("leaves", *shell(script))])
    job.start()
    sampled(job, "leaves", 2, value=b"5")
    wait_gone(*map(int, (board / "pids").read_text().split()[:2]))
    assert not is_gone(job.engine_pid())
    job.go()
    job.ended()


def test_a_command_that_is_under_way_at_the_end_is_ended_with_what_it_started(bench: Bench) -> None:
    script = "setsid sleep 600 & echo $! >> pids; sleep 600 & echo $! $$ >> pids; wait"
    job = bench.job(engine=WAITS, sensors=[command_sensor("slow", *shell(script))])
    job.start()
    pids = job.pids(3)
    job.go()
    job.ended()
    wait_gone(*pids)


def test_a_command_that_fails_is_a_row_with_a_word_for_it(bench: Bench) -> None:
    sensors = [
        command_sensor("absent", "/no/such/program"),
        command_sensor("fails", *shell("echo 5; exit 3")),
        command_sensor("killed", *shell("kill -9 $$")),
        command_sensor("silent", "/bin/true"),
        command_sensor("lines", *shell("echo a; echo b")),
        command_sensor("reads", "/bin/cat"),
        command_sensor("found", "echo", "by its name"),
    ]
    job = bench.job(engine=WAITS, sensors=sensors)
    job.start()
    for sensor in sensors:
        sampled(job, sensor.name)
    job.go()
    job.ended()
    found = {row.sensor: (row.error, row.value) for row in job.rows()}
    del found["engine"]
    assert found == {
        "absent": ("missing", b""),
        "fails": ("failed", b""),
        "killed": ("failed", b""),
        "silent": ("", b""),
        "lines": ("", b"a\nb"),
        "reads": ("", b""),
        "found": ("", b"by its name"),
    }


def test_the_engine_s_memory_and_time_are_rows_that_the_host_reads(bench: Bench) -> None:
    job = bench.job(engine=WAITS, memory_period_s=0.01)
    job.start()
    sampled(job, "engine", 5)
    job.go()
    job.ended()
    frame = read_trace(job.folder / "trace.csv", [ENGINE_SENSOR])
    assert frame["error"].isna().all()
    by_channel = frame.groupby("channel")["value"]
    assert set(by_channel.groups) == {channel.name for channel in ENGINE_SENSOR.channels}
    assert (by_channel.max()["engine.vm_hwm"] % 4096, by_channel.min()["engine.vm_hwm"] > 0) == (0, True)
    assert by_channel.max()["engine.cpu_s"] < LIMIT_S
    due = [row.due_ns for row in job.rows("engine")]
    assert {(t - due[0]) % 10_000_000 for t in due} == {0}


def test_a_full_disk_ends_the_trace_at_a_whole_row_and_nothing_else(agent: Path, tiny_disk: Path, board: Path) -> None:
    bench = TheBench(agent, tiny_disk)
    (board / "large").write_bytes(b"x" * 16_000)
    job = bench.job(engine=WAITS, sensors=[file_sensor("large", board / "large", 0.01)])
    job.start()
    job.engine_pid()
    fill_up(tiny_disk)
    until(lambda: not os.statvfs(tiny_disk).f_bavail, "the disk is full")
    job.go()
    status = job.ended()
    assert (status["exit"], status["undone"]) == (0, True)
    assert job.event("agent.engine.end")["exit"] == 0
    assert job.event("agent.end")["samples"] > 0
    assert (job.folder / "trace.csv").read_bytes().endswith(b"\n")
    assert {row.value for row in job.rows("large")} <= {b"x" * 16_000}


def test_a_trace_that_fills_the_disk_loses_nothing_that_was_written(agent: Path, tiny_disk: Path, board: Path) -> None:
    bench = TheBench(agent, tiny_disk)
    (board / "large").write_bytes(b"x" * 16_000)
    job = bench.job(engine=WAITS, sensors=[file_sensor("large", board / "large", 0.002)])
    job.start()
    until(lambda: "bytes of samples are lost" in job.log() or os.statvfs(tiny_disk).f_bavail < 20, "the disk is full")
    job.go()
    assert job.ended()["exit"] == 0
    assert len(job.rows("large")) > 20
