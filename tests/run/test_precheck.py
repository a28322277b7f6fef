"""A run starts on a cool and steady device, waits for that a while, and is skipped rather than made hot."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from melt.device import Device, open_device
from melt.errors import Interrupted
from melt.files import load_lab
from melt.readings.thermal import celsius
from melt.records import Channel, Sensor
from melt.run.precheck import NO_SENSOR, NotReady, wait_until_ready, zones

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def computer() -> Iterator[Device]:
    lab = load_lab(None)
    spec = lab.device("local")
    with open_device("local", spec, lab.profile(spec)) as device:
        yield dataclasses.replace(device, sensors=())


def zone(path: Path) -> Sensor:
    channel = Channel("zone.test", "temperature", celsius, raw_per_unit=1000)
    return Sensor("zone.test", (channel,), 0.1, str(path))


def ask(device: Device, **settings: Any) -> tuple[str, ...]:
    base = {"precheck.zone_max_c": 40.0, "precheck.slope_max_c_per_min": None, "precheck.max_wait_s": 0.0}
    known = {**base, **{f"precheck.{key}": value for key, value in settings.items()}}
    return wait_until_ready(device, known, lambda _: None, lambda: False)


def test_a_cool_device_starts_at_once_and_without_caveat(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("39900\n")
    assert ask(dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),))) == ()


def test_a_hot_device_is_not_made_hotter_and_the_reason_has_the_figures(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("40000\n")
    with pytest.raises(NotReady) as caught:
        ask(dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),)))
    assert "zone.test is at 40.0 °C" in caught.value.why
    assert "zone_max_c" in caught.value.why


def test_a_device_that_cools_while_it_is_waited_for_starts(computer: Device, tmp_path: Path) -> None:
    path = tmp_path / "temp"
    path.write_text("50000\n")
    cooling = threading.Timer(0.5, path.write_text, ["30000\n"])
    cooling.start()
    assert ask(dataclasses.replace(computer, sensors=(zone(path),)), max_wait_s=30.0) == ()
    cooling.join()


def test_a_zone_that_cannot_be_read_any_more_fails_closed(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("not a number\n")
    with pytest.raises(NotReady, match="no zone can be read"):
        ask(dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),)))


def test_a_device_without_any_zone_runs_with_the_caveat(computer: Device) -> None:
    assert ask(computer) == (NO_SENSOR,)


def test_a_temperature_that_was_not_watched_long_enough_is_not_called_steady(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("30000\n")
    with pytest.raises(NotReady, match="not been watched"):
        ask(dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),)), slope_max_c_per_min=0.5)


def test_the_wait_can_be_interrupted(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("90000\n")
    hot = dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),))
    settings = {"precheck.zone_max_c": 40.0, "precheck.slope_max_c_per_min": None, "precheck.max_wait_s": 600.0}
    began = time.monotonic()
    with pytest.raises(Interrupted):
        wait_until_ready(hot, settings, lambda _: None, lambda: time.monotonic() - began > 0.1)


def test_the_profile_says_which_zones_count(computer: Device, tmp_path: Path) -> None:
    sensors = (zone(tmp_path / "a"), dataclasses.replace(zone(tmp_path / "b"), name="zone.battery"))
    thermal = computer.profile.thermal.model_copy(update={"ignore": ("zone.bat*",)})
    profile = computer.profile.model_copy(update={"thermal": thermal})
    chosen = zones(dataclasses.replace(computer, sensors=sensors, profile=profile))
    assert [sensor.name for sensor in chosen] == ["zone.test"]
