"""`melt watch` on a board made of files: on a terminal, in a pipe, as JSON, and until Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, Any

import pytest
from sysfs_board import BUSY_W, IDLE_W, SysfsBoard
from workspace import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer
WATCH = [sys.executable, "-m", "melt", "watch"]


def watched(folder: Path, *argv: str) -> str:
    done = subprocess.run([*WATCH, *argv], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def looks(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_of_json_holds_clocks_heat_power_and_memory_on_one_time(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        told = looks(watched(tmp_path, "board", "--lab", str(board.lab()), "--json", "--seconds", "2"))
    assert len(told) >= 2
    assert told[0]["t_s"] < told[-1]["t_s"] < 60
    for now in told:
        assert now["clocks_hz"] == {"cpu.policy0.clock": 1.8e9, "cpu.policy0.cap": 2.4e9}
        assert now["temperatures_c"] == {"zone.cpu-thermal": 41.5}
        assert IDLE_W * 0.9 < now["total_w"] < BUSY_W
        assert now["power_w"]["input"] == now["total_w"]
        assert now["memory_bytes"]["memory.available"] > 0


def test_a_counter_is_told_as_power_from_its_second_value_on(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        lab = board.lab(
            readings=["rapl"],
            sensors={"input": {"read": "rapl", "quantity": "energy", "boundary": "module", "provenance": "counter"}},
        )
        domain = board.sysroot / "sys/class/powercap/intel-rapl:0"
        domain.mkdir(parents=True)
        (domain / "name").write_text("package-0\n", encoding="ascii")
        (domain / "max_energy_range_uj").write_text("262143328850\n", encoding="ascii")
        energy = domain / "energy_uj"
        began = time.monotonic()
        energy.write_text("0\n", encoding="ascii")
        with subprocess.Popen(
            [*WATCH, "board", "--lab", str(lab), "--json"], cwd=tmp_path, stdout=-1, stderr=-1, text=True
        ) as child:
            assert child.stdout is not None
            told = []
            while len(told) < 4:
                told.append(json.loads(child.stdout.readline()))
                new = energy.with_suffix(".new")
                new.write_text(f"{round(5e6 * (time.monotonic() - began))}\n", encoding="ascii")
                new.replace(energy)
            child.send_signal(signal.SIGTERM)
            child.communicate(timeout=30)
    assert told[0]["total_w"] is None
    assert "second value" in told[0]["reasons"]["input"]
    # when it was asked and when the file was new are not quite the same
    assert told[-1]["total_w"] == pytest.approx(5.0, rel=0.5)


def test_in_a_pipe_each_look_is_a_line_and_escapes_what_the_device_says(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        lab = board.lab()
        (board.sysroot / "sys/class/thermal/thermal_zone0/type").write_text("[red]\x1b[2J\n", encoding="ascii")
        text = watched(tmp_path, "board", "--lab", str(lab), "--seconds", "1")
    assert len(text.splitlines()) >= 2
    assert "1.80 GHz" in text
    assert " W" in text
    assert "41.5 °C" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("columns", [24, 80])
def test_on_a_terminal_it_is_live_and_ctrl_c_ends_it_cleanly(tmp_path: Path, columns: int) -> None:
    with SysfsBoard(tmp_path) as board:
        lab = board.lab()
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        with subprocess.Popen(
            [*WATCH, "board", "--lab", str(lab)],
            cwd=tmp_path,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={key: value for key, value in os.environ.items() if key != "COLUMNS"} | {"TERM": "xterm"},
        ) as child:
            os.close(theirs)
            shown = b""

            def live() -> bool:
                nonlocal shown
                shown += os.read(ours, 65536)
                return shown.count("°C".encode()) >= 2

            until(live, "two looks on the terminal", 60)
            child.send_signal(signal.SIGINT)
            assert child.stderr is not None
            complaint = child.stderr.read().decode()
        os.close(ours)
    assert child.returncode == 0, complaint
    assert "Traceback" not in complaint
    assert b"temperatures" in shown


def test_a_lost_listener_ends_it(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        argv = [*WATCH, "board", "--lab", str(board.lab()), "--json"]
        with subprocess.Popen(argv, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            child.stdout.close()
            assert child.wait(30) == 0


def test_a_device_that_is_not_in_the_lab_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run([*WATCH, "nowhere"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "is not in the lab" in done.stderr
