"""The files that the kernel's own drivers make of a chip's registers, against what the readings make of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from kernel_arm import run
from readings_bundle import read

from melt.readings import READINGS, left_out, text_of

if TYPE_CHECKING:
    from melt.records import Captured, Response

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("arm machine")]

INA3221 = "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
INA2XX = "/sys/bus/i2c/drivers/ina2xx/*/hwmon/hwmon*"
SUPPLY = "/sys/class/power_supply"
BATTERY = "/sys/module/test_power/parameters"

# An INA3221's register holds a voltage in steps of 8 mV or 40 µV from its bit 3 on, and 0f says that a conversion is
# done. An INA226's steps are 1.25 mV and 2.5 µV. The drivers take a shunt for 10 mΩ unless they are told otherwise.
PLAN = f"""\
load /i2c-dev.ko
load /i2c-stub.ko chip_addr=0x40,0x41,0x45
load /ina3221.ko
load /ina2xx.ko
reg 40 0f 0001
reg 40 01 {230 << 3:04x}
reg 40 02 {625 << 3:04x}
reg 40 03 {(-25 << 3) & 0xFFFF:04x}
reg 40 04 {2386 << 3:04x}
reg 40 05 {1 << 3:04x}
reg 40 06 {413 << 3:04x}
reg 41 0f 0001
reg 41 02 {100 << 3:04x}
reg 45 fe 5449
reg 45 ff 2260
reg 45 01 {-800 & 0xFFFF:04x}
reg 45 02 {4000:04x}
reg 45 03 {20:04x}
chip ina3221 0x40
chip ina3221 0x41
chip ina226 0x45
say STATE fresh
show {INA3221}/*_*
show {INA3221}/samples
show {INA2XX}/*_*
write {INA3221}/samples 16
write {INA3221}/in3_enable 0
write {INA3221}/shunt1_resistor 2000
say STATE set
show {INA3221}/*_*
show {INA3221}/samples
say STATE plugged
load /test_power.ko battery_voltage=4021250 battery_current=-412500 battery_capacity=71
show {SUPPLY}/*/*
say STATE unplugged
write {BATTERY}/ac_online off
write {BATTERY}/usb_online off
show {SUPPLY}/*/*
say STATE charging
write {BATTERY}/battery_status charging
write {BATTERY}/battery_current 900000
show {SUPPLY}/*/*
say STATE end
"""


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Captured]]:
    said = run(PLAN, tmp_path_factory.mktemp("arm"))
    assert "FAILED" not in said, said
    parts = re.split(r"^STATE (\w+)\n", said, flags=re.MULTILINE)
    return {name: read(text.encode()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def told(reading: str, captures: dict[str, Captured]) -> dict[str, float]:
    find = READINGS[reading].sensors
    assert find is not None
    return {c.name: c.parse(text_of(captures, sensor)) for sensor in find(captures) for c in sensor.channels}


def response(reading: str, channel: str, captures: dict[str, Captured]) -> Response:
    find = READINGS[reading].sensors
    assert find is not None
    (found,) = (c.response for sensor in find(captures) for c in sensor.channels if c.name == channel)
    assert found is not None
    return found


def test_registers_come_out_as_volts_amperes_and_watts(states: dict[str, dict[str, Captured]]) -> None:
    values = told("ina3221", states["fresh"])
    assert len(values) == 18
    # no board describes these chips, so their rails have no names but the addresses
    rail = {name.removeprefix("ina3221.0-0040."): value for name, value in values.items() if "0-0040" in name}
    assert rail == pytest.approx(
        {
            "in1.voltage": 5.0,
            "in1.current": 0.92,
            "in1.power": 4.6,
            "in2.voltage": 19.088,
            "in2.current": -0.1,
            "in2.power": -1.9088,
            "in3.voltage": 3.304,
            "in3.current": 0.004,
            "in3.power": 0.013216,
        }
    )
    assert values["ina3221.0-0041.in1.voltage"] == pytest.approx(0.8)
    assert values["ina3221.0-0041.in1.power"] == 0


def test_the_shunts_own_voltages_and_their_sum_are_there_and_are_no_rails(
    states: dict[str, dict[str, Captured]],
) -> None:
    folder = "/sys/bus/i2c/drivers/ina3221/0-0040/hwmon/hwmon0"
    for file in ("in4_input", "in7_label", "in7_input", "curr4_input"):
        assert f"{folder}/{file}" in states["fresh"]
    assert left_out(READINGS["ina3221"], states["fresh"]) == {}


def test_a_channel_that_is_switched_off_is_no_rail_and_no_gap(states: dict[str, dict[str, Captured]]) -> None:
    off = "/sys/bus/i2c/drivers/ina3221/0-0040/hwmon/hwmon0/in3_input"
    assert states["set"][off].error == "io: ENODATA"
    assert {name for name in told("ina3221", states["set"]) if "in3" in name} == set()
    assert left_out(READINGS["ina3221"], states["set"]) == {}


def test_how_often_a_value_is_made_anew_is_told_with_the_samples(states: dict[str, dict[str, Captured]]) -> None:
    # three channels, two conversions of 1.1 ms each; then two channels, each the mean of 16
    fresh = response("ina3221", "ina3221.0-0040.in1.power", states["fresh"])
    assert (fresh.refresh_s, fresh.averages) == (pytest.approx(6.6e-3, abs=0.5e-3), False)
    averaged = response("ina3221", "ina3221.0-0040.in1.power", states["set"])
    assert (averaged.refresh_s, averaged.averages) == (pytest.approx(16 * 4.4e-3, abs=16 * 0.5e-3), True)
    # 80 µV over 2 mΩ, at 5 V
    assert averaged.offset_error == pytest.approx(0.2)


def test_another_shunt_makes_another_current_of_the_same_register(states: dict[str, dict[str, Captured]]) -> None:
    assert told("ina3221", states["set"])["ina3221.0-0040.in1.current"] == pytest.approx(0.92 * 5)


def test_an_ina226_that_gives_back_has_a_power_below_nothing(states: dict[str, dict[str, Captured]]) -> None:
    # -800 steps of 2.5 µV over 10 mΩ, and 20 steps of 6.25 mW, which have no sign
    values = told("ina238", states["fresh"])
    rail = {f"ina2xx.0-0045.{what}": value for what, value in (("voltage", 5.0), ("current", -0.2), ("power", -0.125))}
    assert values == pytest.approx(rail)
    averaging = response("ina238", "ina2xx.0-0045.power", states["fresh"])
    assert (averaging.refresh_s, averaging.averages) == (0.035, True)


def test_the_kernels_battery_gives_while_no_charger_is_on(states: dict[str, dict[str, Captured]]) -> None:
    values = told("battery", states["unplugged"])
    assert values == pytest.approx(
        {
            "battery.power": 0.4125 * 4.02125,
            "battery.current": -0.4125,
            "battery.voltage": 4.02125,
            "battery.level": 0.71,
            "battery.temperature": 2.6,
            "battery.charger": 0.0,
        }
    )
    assert told("battery", states["plugged"])["battery.charger"] == 1.0
    assert left_out(READINGS["battery"], states["plugged"]) == {}


def test_a_battery_that_is_charged_says_so_itself(states: dict[str, dict[str, Captured]]) -> None:
    values = told("battery", states["charging"])
    assert values["battery.power"] == pytest.approx(-0.9 * 4.02125)
    assert values["battery.charger"] == 1.0
