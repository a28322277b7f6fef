"""`melt doctor` on this computer and on a board made of files: what a newcomer reads, and what a program gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sysfs_board import REFRESH_S, SysfsBoard
from workspace import Said

from melt.cli.advice import better_profile
from melt.device import Device
from melt.files import load_profile
from melt.places import shipped
from melt.records import Fact

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer


def melt(folder: Path, *argv: str, columns: int = 100) -> Said:
    done = subprocess.run(
        [sys.executable, "-m", "melt", *argv],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": str(columns)},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def told(said: Said) -> Any:
    assert said.code == 0, said
    return json.loads(said.stdout)


def flat(text: str) -> str:
    """Text without what a table puts between words, so that no width of a terminal matters."""
    return " ".join(word for word in text.replace("│", " ").split() if set(word) - set("─┏┓┗┛┃━┡┩└┘┴┬┼├┤╇┳┻"))


def test_it_measures_how_often_a_sensor_is_really_new(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        data = told(melt(tmp_path, "doctor", "board", "--lab", str(board.lab()), "--json"))
    rows = {row["channel"]: row for row in data["sensors"]}
    found = rows["input"]["refresh"]
    assert found["refresh_s"] == pytest.approx(REFRESH_S, rel=0.1)
    assert found["reads"] >= 2 * found["changes"] > 20
    assert rows["zone.cpu-thermal"]["refresh"]["reason"] is not None
    assert rows["input"]["boundary"] == "module"
    assert data["total"] == {"channels": ["input"], "boundary": "module", "excludes": ["carrier board"], "reason": None}
    assert data["simulated"] is True
    assert not list(board.workdir.glob("melt/jobs/*"))


def test_a_newcomer_reads_what_where_it_ends_what_not_and_what_to_do(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        lab = board.lab(readings=["hwmon-power", "thermal", "cpu-clock", "memory", "rapl"])
        said = melt(tmp_path, "doctor", "board", "--lab", str(lab), "--quick")
    assert said.code == 0, said
    text = flat(said.stdout)
    for part in (
        "verified: false",
        "simulated",
        "What can be measured",
        "Energy yes VIN [module, measured]",
        "leaves out: carrier board",
        "Temperature yes",
        "Clocks yes",
        "Memory yes",
        "Throttling yes",
        "Battery no",
        "What cannot, and why",
        "rapl",
        "What to do",
        "melt calibrate board --lab",
        "nobody has run it on this hardware",
    ):
        assert part in text, (part, text)
    assert "not asked for (--quick)" in text


def test_an_uncalibrated_gauge_gives_no_energy_and_says_what_to_do(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path, battery=True) as board:
        profile = {
            "sensors": {"battery.power": {"read": "battery", "label": "battery", "quantity": "power"}},
            "total": {"sum": ["battery.power"], "boundary": "battery"},
        }
        said = melt(tmp_path, "doctor", "board", "--lab", str(board.lab(**profile)), "--quick", "--json")
    data = told(said)
    (energy,) = [kind for kind in data["can_be_measured"] if kind["name"] == "Energy"]
    assert energy["can"] != "yes"
    assert "calibrate" in energy["remark"]
    assert "no charger plugged in: melt calibrate board" in data["what_to_do"][0]


def test_a_device_without_power_is_told_to_get_a_meter_and_why(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        profile = {"readings": ["memory"], "sensors": {}, "total": None, "no_power": "a Fake 1 measures no current"}
        text = flat(melt(tmp_path, "doctor", "board", "--lab", str(board.lab(**profile)), "--quick").stdout)
    assert "Energy no a Fake 1 measures no current" in text
    assert "Add an external meter" in text


def test_a_busy_device_is_told_without_its_rhythm(tmp_path: Path) -> None:
    with SysfsBoard(tmp_path) as board:
        lab = str(board.lab())
        told(melt(tmp_path, "doctor", "board", "--lab", lab, "--quick", "--json"))
        lock = board.workdir / "melt" / "lock"
        with subprocess.Popen(["flock", str(lock), "sh", "-c", "echo held; exec sleep 60"], stdout=-1) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            said = melt(tmp_path, "doctor", "board", "--lab", lab)
            holder.kill()
    assert said.code == 0, said
    assert "busy" in said.stdout
    assert "Energy" in said.stdout
    assert not list(board.workdir.glob("melt/jobs/*"))


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_every_width_of_a_terminal_shows_every_kind_and_escapes_what_a_device_says(
    tmp_path: Path, columns: int
) -> None:
    with SysfsBoard(tmp_path) as board:
        lab = board.lab()
        (board.sysroot / "sys/class/thermal/thermal_zone0/type").write_text("[red]x[/red]\x1b[2J\n", encoding="ascii")
        (board.sysroot / "sys/class/hwmon/hwmon3/power1_label").write_text("[bold]VIN\x07\n", encoding="ascii")
        said = melt(tmp_path, "doctor", "board", "--lab", str(lab), "--quick", "--all", columns=columns)
    assert said.code == 0, said
    assert "\x1b" not in said.stdout
    assert "\x07" not in said.stdout
    for kind in ("Energy", "Temperature", "Clocks", "Memory", "Throttling", "Battery"):
        assert kind in said.stdout


def test_a_profile_that_fits_better_is_named_and_one_of_ones_own_never_called_worse() -> None:
    names = sorted(path.stem for path in shipped("device_profiles").glob("*.yaml"))

    def better(profile: str, **facts: str) -> str | None:
        known = {name: Fact(name, value) for name, value in facts.items()}
        made = load_profile(profile) if profile in names else load_profile("linux").model_copy(update={"name": profile})
        device = Device("d", made, "local:", None, "aarch64", "/", "/a", known, (), {})  # type: ignore[arg-type]
        found = better_profile(device, names)
        return found[0] if found else None

    assert better("linux", soc="Raspberry Pi 5 Model B Rev 1.0") == "raspberry-pi-5"
    assert better("raspberry-pi-5", soc="Raspberry Pi 5 Model B Rev 1.0") is None
    assert better("raspberry-pi-4", soc="Raspberry Pi 5 Model B Rev 1.0") == "raspberry-pi-5"
    assert better("linux", soc="AMD EPYC") is None
    assert better("my-board", soc="Raspberry Pi 5 Model B Rev 1.0") is None
    if "pixel-8" in names:
        assert better("android", device_model="Google Pixel 8") == "pixel-8"
        assert better("android", device_model="Google Pixel 8 Pro") is None
    if "jetson-orin-nano" in names:
        assert better("jetson", soc="NVIDIA Orin Nano Developer Kit") == "jetson-orin-nano"


def test_what_a_program_gets_of_this_computer_is_whole(tmp_path: Path) -> None:
    data = told(melt(tmp_path, "doctor", "local", "--quick", "--json"))
    assert [kind["name"] for kind in data["can_be_measured"]][:2] == ["Energy", "Temperature"]
    assert data["watched_s"] == 0
    assert data["not_watched"]
    assert all((row["value"] is None) == bool(row["reason"]) for row in data["sensors"])
    assert yaml.safe_load(yaml.safe_dump(data["what_to_do"])) == data["what_to_do"]
