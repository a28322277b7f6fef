"""A run starts on a cool and steady device, waits for that a while, and is skipped rather than made hot."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from melt.device import Device, open_device
from melt.errors import Interrupted, ParseError
from melt.files import load_lab
from melt.files.profile import BatterySpec
from melt.readings.thermal import celsius
from melt.records import Channel, Sensor, TotalRule
from melt.run.precheck import NO_SENSOR, NotReady, ceilings, wait_until_ready, zones

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from melt.records import Quantity

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def computer() -> Iterator[Device]:
    lab = load_lab(None)
    spec = lab.device("local")
    with open_device("local", spec, lab.profile(spec)) as device:
        yield dataclasses.replace(device, sensors=())


def zone(path: Path, name: str = "zone.test") -> Sensor:
    channel = Channel(name, "temperature", celsius, raw_per_unit=1000)
    return Sensor(name, (channel,), 0.1, str(path))


def known(**changes: Any) -> dict[str, Any]:
    """Resolved settings; a key without a group is one of the precheck's."""
    base = {
        "precheck.zone_max_c": 40.0,
        "precheck.slope_max_c_per_min": None,
        "precheck.max_wait_s": 0.0,
        "precheck.battery_min": None,
        "precheck.foreign_load_max": None,
        "limits.zone_max_c": None,
        "energy.idle": "per_block",
        "protocol.idle_s": 60.0,
    }
    return {**base, **{key if "." in key else f"precheck.{key}": value for key, value in changes.items()}}


def ask(device: Device, **settings: Any) -> tuple[str, ...]:
    return wait_until_ready(device, known(**settings), lambda _: None, lambda: False)


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
    with pytest.raises(NotReady, match=r"^zone\.\w+ cannot be read any more"):
        ask(dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),)))


def test_a_zone_that_goes_while_another_stays_is_waited_for_too(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "cool").write_text("30000\n")
    (tmp_path / "hot").write_text("90000\n")
    cool, hot = zone(tmp_path / "cool"), dataclasses.replace(zone(tmp_path / "hot"), name="zone.hot")
    hot = dataclasses.replace(hot, channels=(dataclasses.replace(hot.channels[0], name="zone.hot"),))
    (tmp_path / "hot").unlink()
    with pytest.raises(NotReady, match=r"zone\.hot cannot be read any more"):
        ask(dataclasses.replace(computer, sensors=(cool, hot)))


def test_a_device_without_any_zone_runs_with_the_caveat(computer: Device) -> None:
    assert ask(computer) == (NO_SENSOR,)


def test_a_temperature_that_was_not_watched_long_enough_is_not_called_steady(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("30000\n")
    with pytest.raises(NotReady, match="not been watched"):
        ask(dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),)), slope_max_c_per_min=0.5)


def test_the_wait_can_be_interrupted(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("90000\n")
    hot = dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),))
    began = time.monotonic()
    with pytest.raises(Interrupted):
        wait_until_ready(hot, known(max_wait_s=600.0), lambda _: None, lambda: time.monotonic() - began > 0.1)


def test_the_profile_says_which_zones_count(computer: Device, tmp_path: Path) -> None:
    sensors = (zone(tmp_path / "a"), zone(tmp_path / "b", "zone.battery"))
    thermal = computer.profile.thermal.model_copy(update={"ignore": ("zone.bat*",)})
    profile = computer.profile.model_copy(update={"thermal": thermal})
    chosen = zones(dataclasses.replace(computer, sensors=sensors, profile=profile))
    assert [(sensor.path, channel.name) for sensor, channel in chosen] == [(str(tmp_path / "a"), "zone.test")]


# ------------------------------------------------------------------------------------- slowed, battery, charger, load


def told(name: str, quantity: Quantity, path: Path, **more: Any) -> Sensor:
    """A sensor that is a program, as a phone's and a Pi's are."""
    channel = Channel(name, quantity, number, **more)
    return Sensor(name, (channel,), 1.0, argv=("/bin/cat", str(path)))


def number(raw: bytes) -> float:
    try:
        return float(raw)
    except ValueError:
        raise ParseError("not a number", raw) from None


def with_battery(device: Device, *sensors: Sensor, floor: float = 0.3, total: TotalRule | None = None) -> Device:
    profile = device.profile.model_copy(update={"battery": BatterySpec(floor=floor)})
    return dataclasses.replace(device, profile=profile, sensors=sensors, total=total)


def test_a_temperature_that_a_command_tells_counts_too(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "said").write_text("39.5\n")
    phone = dataclasses.replace(computer, sensors=(told("zone.skin", "temperature", tmp_path / "said"),))
    assert ask(phone) == ()
    (tmp_path / "said").write_text("40.5\n")
    with pytest.raises(NotReady, match=r"zone\.skin is at 40\.5 °C"):
        ask(phone)


def test_a_command_that_hangs_or_is_gone_fails_closed(computer: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("melt.run.precheck._COMMAND_S", 0.2)
    for argv in (("/bin/sleep", "600"), ("/no/such/program",), ("/bin/false",)):
        channel = Channel("zone.skin", "temperature", number)
        sensor = Sensor("zone.skin", (channel,), 1.0, argv=argv)
        with pytest.raises(NotReady, match=r"^zone\.\w+ cannot be read any more"):
            ask(dataclasses.replace(computer, sensors=(sensor,)))


def test_every_channel_of_one_text_is_looked_at(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "said").write_text("30 50\n")
    channels = tuple(
        Channel(name, "temperature", lambda raw, i=i: float(raw.split()[i]))
        for i, name in enumerate(("zone.a", "zone.b"))
    )
    sensor = Sensor("said", channels, 1.0, argv=("/bin/cat", str(tmp_path / "said")))
    with pytest.raises(NotReady, match=r"zone\.b is at 50"):
        ask(dataclasses.replace(computer, sensors=(sensor,)))


def test_a_zone_whose_text_is_no_number_cannot_end_a_run_and_that_is_a_caveat(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("30000\n")
    (tmp_path / "said").write_text("30\n")
    sensors = (zone(tmp_path / "temp"), told("zone.skin", "temperature", tmp_path / "said"))
    phone = dataclasses.replace(computer, sensors=sensors)
    assert ceilings(phone, 85.0) == {"zone.test": 85000.0}
    assert ceilings(phone, None) == {}
    assert ask(phone, **{"limits.zone_max_c": 85.0}) == ("limits.zone_max_c: not watched during the run: zone.skin",)


def test_a_device_that_is_slowed_now_is_waited_for(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "bit").write_text("1\n")
    pi = dataclasses.replace(computer, sensors=(told("throttle.under_voltage", "throttle", tmp_path / "bit"),))
    with pytest.raises(NotReady, match=r"throttle\.under_voltage is 1: the device is slowed now after 0 s of waiting"):
        ask(pi)
    mended = threading.Timer(0.5, (tmp_path / "bit").write_text, ["0\n"])
    mended.start()
    assert ask(pi, max_wait_s=30.0) == (NO_SENSOR,)
    mended.join()
    (tmp_path / "bit").write_text("no bits\n")
    with pytest.raises(NotReady, match="cannot be read any more"):
        ask(pi)


def test_what_once_was_since_the_boot_holds_up_nothing(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "bit").write_text("1\n")
    sensor = told("throttle.under_voltage_since_boot", "throttle", tmp_path / "bit")
    assert ask(dataclasses.replace(computer, sensors=(sensor,))) == (NO_SENSOR,)


@pytest.mark.parametrize(
    ("level", "floor", "asked", "ready"),
    [(0.3, 0.3, None, True), (0.29, 0.3, None, False), (0.29, 0.3, 0.2, True), (0.5, 0.3, 0.6, False)],
)
def test_no_run_starts_on_a_battery_under_its_floor(
    computer: Device, tmp_path: Path, level: float, floor: float, asked: float | None, ready: bool
) -> None:
    (tmp_path / "level").write_text(f"{level}\n")
    phone = with_battery(computer, told("battery.level", "level", tmp_path / "level"), floor=floor)
    if ready:
        assert ask(phone, battery_min=asked) == (NO_SENSOR,)
        return
    began = time.monotonic()
    with pytest.raises(NotReady, match=r"the battery is at [0-9]+%, and no run starts under [0-9]+%") as caught:
        ask(phone, battery_min=asked, max_wait_s=600.0)  # it does not charge by waiting
    assert time.monotonic() - began < 300
    assert "charge it" in caught.value.why


def test_a_battery_that_is_charged_is_waited_for(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "level").write_text("0.29\n")
    (tmp_path / "charger").write_text("1\n")
    sensors = (
        told("battery.level", "level", tmp_path / "level"),
        told("battery.charger", "charger", tmp_path / "charger"),
    )
    phone = with_battery(computer, *sensors)
    with pytest.raises(NotReady, match="after 0 s of waiting"):
        ask(phone)
    charged = threading.Timer(0.5, (tmp_path / "level").write_text, ["0.31\n"])
    charged.start()
    assert ask(phone, max_wait_s=60.0) == (NO_SENSOR,)
    charged.join()


def test_a_battery_whose_level_nobody_tells_is_a_caveat_and_one_that_went_silent_is_not(
    computer: Device, tmp_path: Path
) -> None:
    assert ask(with_battery(computer)) == (NO_SENSOR, "precheck: no battery level")
    with pytest.raises(NotReady, match="the battery's level cannot be read any more"):
        ask(with_battery(computer, told("battery.level", "level", tmp_path / "gone")))


BATTERY_TOTAL = TotalRule(sum=("battery.power",), boundary="battery")


@pytest.mark.parametrize(
    ("total", "why_not", "settings", "ready"),
    [
        (BATTERY_TOTAL, None, {}, False),
        # nobody asks for energy, nobody can have it, or it comes from somewhere else
        (BATTERY_TOTAL, None, {"energy.idle": "never"}, True),
        (BATTERY_TOTAL, None, {"protocol.idle_s": 0.0}, True),
        (BATTERY_TOTAL, "its sign is not known", {}, True),
        (TotalRule(sum=("battery.power",), boundary="board_input"), None, {}, True),
        # what `melt calibrate` writes: no rule, and the gauge is all there is
        (None, None, {}, False),
        (None, "its sign is not known", {}, True),
    ],
)
def test_a_charger_matters_where_energy_comes_from_the_battery(
    computer: Device,
    tmp_path: Path,
    total: TotalRule | None,
    why_not: str | None,
    settings: dict[str, Any],
    ready: bool,
) -> None:
    for name, text in (("level", "0.9"), ("charger", "1"), ("power", "2.5")):
        (tmp_path / name).write_text(f"{text}\n")
    phone = with_battery(
        computer,
        told("battery.level", "level", tmp_path / "level"),
        told("battery.charger", "charger", tmp_path / "charger"),
        told("battery.power", "power", tmp_path / "power", boundary="battery", not_for_energy=why_not),
        total=total,
    )
    if ready:
        assert ask(phone, **settings) == (NO_SENSOR,)
        return
    with pytest.raises(NotReady, match="a charger is plugged in") as caught:
        ask(phone, **settings)
    assert "unplug it" in caught.value.why
    (tmp_path / "charger").write_text("0\n")
    assert ask(phone, **settings) == (NO_SENSOR,)
    (tmp_path / "charger").unlink()
    with pytest.raises(NotReady, match="which says whether a charger is plugged in"):
        ask(phone, **settings)


def test_the_load_of_others_is_waited_for_and_told_in_cores(computer: Device, tmp_path: Path) -> None:
    """A counter that grows as somebody keeps three cores busy, and then stands still."""
    began, busy_until = time.monotonic(), [float("inf")]

    def busy(_: bytes) -> float:
        return 100 + 3 * (min(time.monotonic(), busy_until[0]) - began)

    (tmp_path / "stat").write_text("any\n")
    sensor = Sensor("cpu.time", (Channel("cpu.busy_s", "count", busy),), 1.0, str(tmp_path / "stat"))
    device = dataclasses.replace(computer, sensors=(sensor,))
    with pytest.raises(NotReady, match=r"others keep 3\.0 cores busy, wanted at most 0\.5") as caught:
        ask(device, foreign_load_max=0.5, max_wait_s=1.5)
    assert "precheck.foreign_load_max" in caught.value.why
    assert ask(device, foreign_load_max=None) == (NO_SENSOR,)
    busy_until[0] = time.monotonic()
    assert ask(device, foreign_load_max=0.5, max_wait_s=60.0) == (NO_SENSOR,)


def test_one_look_says_nothing_of_the_load(computer: Device) -> None:
    with pytest.raises(NotReady, match="the load has not been watched for long enough"):
        ask(computer, foreign_load_max=1000.0)
    assert ask(computer, foreign_load_max=1000.0, max_wait_s=60.0) == (NO_SENSOR,)


def test_a_device_that_never_cools_is_given_up_when_the_wait_is_over(computer: Device, tmp_path: Path) -> None:
    (tmp_path / "temp").write_text("70000\n")
    began = time.monotonic()
    with pytest.raises(NotReady, match=r"70\.0 °C, wanted below 40 °C \(precheck\.zone_max_c\) after 1 s of waiting"):
        ask(dataclasses.replace(computer, sensors=(zone(tmp_path / "temp"),)), max_wait_s=1.0)
    assert time.monotonic() - began >= 1.0
