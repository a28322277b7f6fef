"""`melt calibrate` on a board made of files whose truth is known: from pulses on the device to a profile that loads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from sysfs_board import BUSY_W, IDLE_W, LAG_S, METER_GAIN, REFRESH_S, VOLTS, SysfsBoard
from workspace import Said, until

from melt.files import load_lab, load_profile

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer
SHORT = ("--seconds", "10", "--battery-seconds", "20")
BATTERY = {
    "sensors": {"battery.power": {"read": "battery", "label": "battery", "quantity": "power"}},
    "total": {"sum": ["battery.power"], "boundary": "battery"},
}


def melt(folder: Path, *argv: str) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "melt", *argv],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def told(said: Said) -> Any:
    assert said.code == 0, said
    return json.loads(said.stdout)


def test_a_rail_is_calibrated_and_the_profile_written_is_read_back_and_never_replaced_unasked(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        lab = board.lab()
        argv = ("calibrate", "board", "--lab", str(lab), *SHORT, "--against-w", str(BUSY_W / 1.02))
        data = told(melt(tmp_path, *argv, "--json"))
        again = melt(tmp_path, *argv)
    path = tmp_path / "device_profiles" / "fake-board-calibrated.yaml"
    assert data["profile"] == str(path)
    profile = load_profile("fake-board-calibrated", load_lab(lab).profiles)
    assert profile.total is not None
    assert profile.total.sum == ("input",)
    response = profile.sensors["input"].response
    assert response is not None
    assert response.calibrated
    assert response.refresh_s == pytest.approx(REFRESH_S, rel=0.1)
    assert response.averages is True
    assert response.lag_s == pytest.approx(LAG_S, abs=0.1)
    assert data["channels"]["input"]["step_w"] == pytest.approx(BUSY_W - IDLE_W, rel=0.1)
    assert data["channels"]["input"]["agreement"]["gain"] == pytest.approx(1.02, abs=0.02)
    assert response.gain_error == pytest.approx(0.02, abs=0.02)
    assert "SIMULATED" in profile.about
    assert again.code == 2
    assert "--force" in again.sentence
    assert not list(board.workdir.glob("melt/jobs/*"))


def test_the_total_is_held_against_a_meter_of_the_lab(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        argv = ("calibrate", "board", "--lab", str(board.lab()), "--seconds", "15", "--against", "bench", "--json")
        data = told(melt(tmp_path, *argv))
    found = data["channels"]["input"]
    assert found["agreement"]["gain"] == pytest.approx(METER_GAIN, abs=0.05)
    assert 0.0 < found["response"]["gain_error"] < 0.2


def test_a_gauges_unit_and_sign_are_found_and_energy_comes_of_it(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path, battery=True, milliamperes=True, positive=True) as board:
        lab = board.lab(**BATTERY)
        said = melt(tmp_path, "calibrate", "board", "--lab", str(lab), *SHORT)
        assert said.code == 0, said
        text = lab.read_text(encoding="utf-8").replace("profile: fake-board", "profile: fake-board-calibrated")
        lab.write_text(text, encoding="utf-8")
        data = told(melt(tmp_path, "doctor", "board", "--lab", str(lab), "--quick", "--json"))
    battery = load_profile("fake-board-calibrated", load_lab(lab).profiles).battery
    assert battery is not None
    assert battery.calibrated
    assert (battery.current_unit, battery.discharging) == ("ma", "positive")
    assert data["total"]["channels"] == ["battery.power"]
    (row,) = [row for row in data["sensors"] if row["channel"] == "battery.power"]
    assert row["value"] == pytest.approx(IDLE_W, rel=0.1)
    assert row["not_for_energy"] is None
    assert "unit and sign" in said.stdout
    assert f"{BUSY_W / VOLTS:.2g}"[:3] in said.stdout
    # the board is a program, so nobody is told to use the profile or to share it
    assert "simulated sensor" in said.stdout
    assert "Share it" not in said.stdout


def test_a_charger_that_is_plugged_in_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path, battery=True, charging=True) as board:
        said = melt(tmp_path, "calibrate", "board", "--lab", str(board.lab(**BATTERY)), *SHORT)
    assert said.code == 1
    assert "charger" in said.sentence
    assert "unplug" in said.sentence
    assert "loading" not in said.stderr
    assert not list(tmp_path.glob("device_profiles/*calibrated*"))


def test_sensors_that_do_not_follow_the_load_give_no_profile_but_a_sentence(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path, follows=False) as board:
        said = melt(tmp_path, "calibrate", "board", "--lab", str(board.lab()), *SHORT)
    assert said.code == 1
    assert "does not follow the load" in said.sentence
    assert not list(tmp_path.glob("device_profiles/*calibrated*"))


def test_a_device_without_power_and_a_wrong_channel_are_told(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        lab = str(board.lab())
        wrong = melt(tmp_path, "calibrate", "board", "--lab", lab, "--against", "imput")
        both = melt(tmp_path, "calibrate", "board", "--lab", lab, "--against", "input", "--against-w", "3")
        out = melt(tmp_path, "calibrate", "board", "--lab", lab, "--out", "x.txt")
        bare = str(board.lab(readings=["memory"], sensors={}, total=None))
        none = melt(tmp_path, "calibrate", "board", "--lab", bare)
    assert (wrong.code, both.code, out.code, none.code) == (2, 2, 2, 1)
    assert "did you mean 'input'" in wrong.sentence
    assert "one of them" in both.sentence
    assert ".yaml" in out.sentence
    assert "no sensor of power" in none.sentence


def test_ctrl_c_ends_the_load_on_the_device_and_leaves_nothing(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        argv = [sys.executable, "-m", "melt", "calibrate", "board", "--lab", str(board.lab())]
        with subprocess.Popen(argv, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as child:
            until(lambda: list(board.workdir.glob("melt/jobs/*/events.jsonl")), "the survey to begin", 60)
            time.sleep(0.5)
            child.send_signal(signal.SIGINT)
            _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "interrupted; its load was ended there" in stderr
    assert "Traceback" not in stderr
    assert not list(board.workdir.glob("melt/jobs/*"))
    assert not list(tmp_path.glob("device_profiles/*calibrated*"))
