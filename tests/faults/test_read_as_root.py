"""A sensor that only root may read, where melt reaches the device as an ordinary user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pinned_board import one_run
from test_pins_as_root import NOBODY, Ordinary, ordinary  # noqa: F401 - a fixture is known by its name

from melt.device import open_device
from melt.files import load_lab

if TYPE_CHECKING:
    from melt.device import Device

pytestmark = pytest.mark.peer
POWER = "/sys/class/hwmon/hwmon0/power1_input"


def closed(board: Ordinary, **profile: Any) -> None:
    """Gives the board a rail whose file is root's alone, and a profile that holds nothing."""
    folder = board.board.path(POWER).parent
    folder.mkdir(parents=True)
    for name, text in (("name", "ina"), ("power1_label", "VIN"), ("power1_input", "2500000")):
        (folder / name).write_text(f"{text}\n")
    board.board.path(POWER).chmod(0o400)
    file = board.workspace.folder / "device_profiles" / "bare.yaml"
    known = yaml.safe_load(file.read_text())
    del known["pin"]
    file.write_text(yaml.safe_dump({**known, "readings": ["hwmon-power"], **profile}))


def opened(board: Ordinary) -> Device:
    lab = load_lab(board.workspace.folder / "lab.yaml")
    spec = lab.device("here")
    return open_device("here", spec, lab.profile(spec))


def test_it_is_read_as_root_where_the_profile_says_so_and_the_engine_is_not_root(ordinary: Ordinary) -> None:
    ordinary.sudo()
    closed(ordinary, as_root=True)
    stored = one_run(ordinary.workspace, ["-c", "id -u; sleep 1"])
    rows = stored.trace()
    power = rows[rows["channel"] == "hwmon.ina.vin.power"]
    assert stored.record.status == "ok", stored.record.reasons
    assert len(power) > 5
    assert power["error"].isna().all()
    assert set(power["value"]) == {2.5}
    assert (stored.path / "stdout.log").read_text().split() == [str(NOBODY)]
    assert [path for path in (ordinary.folder / "work").rglob("*") if path.stat().st_uid != NOBODY] == []
    assert ordinary.jobs() == []
    assert [line.split()[-1] for line in ordinary.asked()] == ["user", "probe", "start"]


def test_without_the_profiles_word_root_is_not_asked_and_the_reason_stands(ordinary: Ordinary) -> None:
    ordinary.sudo()
    closed(ordinary)
    with opened(ordinary) as device:
        assert device.sensors == ()
        assert "denied (needs root)" in device.absent["hwmon-power"]
    assert ordinary.asked() == []


def test_where_root_is_refused_the_reason_stands(ordinary: Ordinary) -> None:
    ordinary.sudo(refuses=True)
    closed(ordinary, as_root=True)
    with opened(ordinary) as device:
        assert device.sensors == ()
        assert "denied (needs root)" in device.absent["hwmon-power"]


def test_what_is_asked_later_is_read_as_root_too(ordinary: Ordinary) -> None:
    ordinary.sudo()
    closed(ordinary, as_root=True)
    with opened(ordinary) as device:
        found = device.probe([POWER, "/sys/class/hwmon/hwmon0/name"])
    assert {path.rpartition("/")[2]: captured.data for path, captured in found.items()} == {
        "power1_input": b"2500000\n",
        "name": b"ina\n",
    }
