"""Rails and batteries: what the power readings make of listings of each generation, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from readings_bundle import CAPTURED, read

from melt.errors import ParseError
from melt.readings import READINGS, absent, found, left_out, text_of
from melt.readings.battery import (
    NOT_CALIBRATED,
    amperes,
    charger,
    told_charge,
    told_charger,
    told_level,
    unusable,
    watts,
)
from melt.readings.odpm import joules
from melt.readings.raspberry import BITS, bit
from melt.records import Captured, Channel, Sensor

if TYPE_CHECKING:
    from collections.abc import Mapping

IIO = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
ORIN = "/sys/bus/i2c/drivers/ina3221"
SUPPLY = "/sys/class/power_supply"


def captured(name: str) -> dict[str, Captured]:
    return read((CAPTURED / f"{name}.txt").read_bytes())


def of_files(files: Mapping[str, object]) -> dict[str, Captured]:
    return {path: Captured(path, f"{text}\n".encode()) for path, text in files.items()}


def sensors(reading: str, captures: dict[str, Captured]) -> dict[str, Sensor]:
    find = READINGS[reading].sensors
    assert find is not None
    return {sensor.name: sensor for sensor in find(captures)}


def channels(reading: str, captures: dict[str, Captured]) -> dict[str, Channel]:
    return {c.name: c for sensor in sensors(reading, captures).values() for c in sensor.channels}


def values(reading: str, captures: dict[str, Captured]) -> dict[str, float]:
    return {
        channel.name: channel.parse(text_of(captures, sensor))
        for sensor in sensors(reading, captures).values()
        for channel in sensor.channels
    }


def power(reading: str, captures: dict[str, Captured]) -> dict[str, float]:
    """Watts by the device's own name of a rail."""
    told = values(reading, captures)
    return {c.label: told[c.name] for c in channels(reading, captures).values() if c.quantity == "power"}


# ---------------------------------------------------------------------------------------------------- INA3221


@pytest.mark.parametrize(
    ("bundle", "rails"),
    [
        ("jetson-nano-jetpack-4-power", {"POM_5V_IN": 2.757, "POM_5V_GPU": 0.12, "POM_5V_CPU": 0.844}),
        (
            "jetson-tx2-jetpack-3-power",
            {
                "VDD_SYS_GPU": 1.149,
                "VDD_SYS_SOC": 0.842,
                "VDD_4V0_WIFI": 0.019,
                "VDD_IN": 4.211,
                "VDD_SYS_CPU": 0.689,
                "VDD_SYS_DDR": 1.148,
            },
        ),
        (
            "jetson-agx-orin-jetpack-6-power",
            {
                "VDD_GPU_SOC": 19.0 * 0.172,
                "VDD_CPU_CV": 19.0 * 0.044,
                "VIN_SYS_5V0": 4.968 * 0.953,
                "VDDQ_VDD2_1V8AO": 4.976 * 0.184,
            },
        ),
        (
            "jetson-orin-nano-jetpack-6-power",
            {"VDD_IN": 5.064 * 0.92, "VDD_CPU_GPU_CV": 5.056 * 0.12, "VDD_SOC": 5.056 * 0.272},
        ),
    ],
)
def test_each_generation_of_the_ina3221_tells_the_rails_by_their_names(bundle: str, rails: dict[str, float]) -> None:
    captures = captured(bundle)
    assert power("ina3221", captures) == pytest.approx(rails)
    assert len(sensors("ina3221", captures)) == len(rails)
    assert left_out(READINGS["ina3221"], captures) == {}
    for sensor in sensors("ina3221", captures).values():
        assert [c.name for c in sensor.channels] == [f"{sensor.name}.{w}" for w in ("power", "current", "voltage")]
        assert (sensor.channels[0].boundary, sensor.channels[0].provenance) == ("rail", "measured")
        assert {c.label for c in sensor.channels} == {sensor.channels[0].label}


def test_power_of_the_hwmon_generation_is_of_two_files_read_at_the_same_moment() -> None:
    rail = sensors("ina3221", captured("jetson-orin-nano-jetpack-6-power"))["ina3221.vdd_in"]
    folder = f"{ORIN}/1-0040/hwmon/hwmon1"
    assert rail.paths == (f"{folder}/in1_input", f"{folder}/curr1_input")
    watts_, amperes_, volts = (channel.parse(b"5000\n-200") for channel in rail.channels)
    assert (watts_, amperes_, volts) == (-1.0, -0.2, 5.0)
    for text in (b"5000", b"\n200", b"5000\n", b"5000\nx", b"5000\n2147483647"):
        with pytest.raises(ParseError):
            rail.channels[0].parse(text)


def test_an_ina3221_that_is_told_how_it_averages_has_that_recorded() -> None:
    orin = channels("ina3221", captured("jetson-agx-orin-jetpack-6-power"))["ina3221.vin_sys_5v0.power"].response
    assert orin is not None
    assert (orin.refresh_s, orin.averages, orin.calibrated) == (0.028, True, False)
    # 80 µV over a shunt of 2 mΩ are 40 mA, at 4.968 V
    assert orin.offset_error == pytest.approx(0.04 * 4.968)
    nano = channels("ina3221", captured("jetson-orin-nano-jetpack-6-power"))["ina3221.vdd_in.power"].response
    assert nano is not None
    assert (nano.refresh_s, nano.averages) == (0.007, False)
    assert channels("ina3221", captured("jetson-nano-jetpack-4-power"))["ina3221.pom_5v_in.power"].response is None


def test_a_rail_keeps_its_sensor_when_one_of_its_files_is_missing_or_fails() -> None:
    captures = captured("jetson-nano-jetpack-4-power")
    path = f"{IIO}/in_power0_input"
    without = {**captures, path: Captured(path, error="io: EAGAIN")}
    assert power("ina3221", without)["POM_5V_IN"] == pytest.approx(5.032 * 0.548)
    assert left_out(READINGS["ina3221"], without) == {path: "io: EAGAIN"}
    path = f"{IIO}/in_voltage0_input"
    without = {source: c for source, c in captures.items() if source != path}
    assert power("ina3221", without)["POM_5V_IN"] == 2.757
    assert "ina3221.pom_5v_in.voltage" not in channels("ina3221", without)


def test_what_is_not_connected_and_what_is_no_rail_is_passed_over_in_silence() -> None:
    captures = captured("jetson-agx-orin-jetpack-6-power")
    path = f"{ORIN}/1-0041/hwmon/hwmon2/in1_input"
    for answer in (Captured(path, b"0\n"), Captured(path, error="io: ENODATA")):
        told = {**captures, path: answer}
        assert "NC" not in power("ina3221", told)
        assert left_out(READINGS["ina3221"], told) == {}
    assert not any("sum" in name or "in4" in name for name in values("ina3221", captures))


def test_a_channel_that_is_switched_off_is_passed_over_too() -> None:
    folder = f"{ORIN}/1-0040/hwmon/hwmon0"
    captures = of_files({f"{folder}/in1_enable": 0, f"{folder}/in2_enable": 1, f"{folder}/in2_input": 1000})
    for file in ("in1_input", "curr1_input"):
        captures[f"{folder}/{file}"] = Captured(f"{folder}/{file}", error="io: ENODATA")
    assert values("ina3221", captures) == {"ina3221.1-0040.in2.voltage": 1.0}
    assert left_out(READINGS["ina3221"], captures) == {}


def test_two_chips_with_a_rail_of_the_same_name_stay_apart_whatever_fails() -> None:
    files = {
        f"{ORIN}/{chip}/hwmon/hwmon{n}/{file}": text
        for n, chip in enumerate(("1-0040", "1-0041"))
        for file, text in (("in1_label", "VDD_X"), ("in1_input", 1000), ("curr1_input", 100 * (n + 1)))
    }
    captures = of_files(files)
    assert values("ina3221", captures)["ina3221.vdd_x.2.power"] == pytest.approx(0.2)
    first = f"{ORIN}/1-0040/hwmon/hwmon0/curr1_input"
    failed = {**captures, first: Captured(first, error="io: EIO"), first.replace("curr", "in"): Captured("x", b"?")}
    assert set(values("ina3221", failed)) == {f"ina3221.vdd_x.2.{word}" for word in ("power", "current", "voltage")}


def test_a_rail_with_an_endless_name_still_has_three_names_of_its_own() -> None:
    folder = f"{ORIN}/1-0040/hwmon/hwmon0"
    captures = of_files({f"{folder}/in1_label": "V" * 150, f"{folder}/in1_input": 1, f"{folder}/curr1_input": 1})
    assert len({name for name in values("ina3221", captures) if len(name) <= 64}) == 3


def test_other_chips_are_told_in_their_own_units_with_the_currents_direction() -> None:
    thor = captured("jetson-thor-jetpack-7-power")
    assert power("ina238", thor) == {"VIN": 31.66}
    assert values("ina238", thor)["ina238.vin.voltage"] == 19.962
    assert power("ina238", captured("ups-hat-ina219-power")) == {"10-0043": -0.176}
    synaptics = captured("synaptics-sl1640-power")
    assert power("ina238", synaptics)["0-0042"] == 0.22
    assert power("ina3221", synaptics)["0-0040.in1"] == pytest.approx(0.8 * 0.856)


def test_an_ina226_averages_when_its_interval_is_longer_than_its_conversions() -> None:
    folder = "/sys/bus/i2c/drivers/ina2xx/1-0045/hwmon/hwmon4"
    files: dict[str, object] = {f"{folder}/in1_input": 5000, f"{folder}/curr1_input": 100}
    for interval, averages in ((35, True), (2, False)):
        told = channels("ina238", of_files(files | {f"{folder}/update_interval": interval}))
        response = told["ina2xx.1-0045.power"].response
        assert response is not None
        assert (response.refresh_s, response.averages) == (interval / 1000, averages)


# --------------------------------------------------------------------------------------------------- Pixels


def test_the_rails_of_both_meters_are_told_in_joules_and_a_rail_at_nothing_is_a_value() -> None:
    told = values("odpm", captured("pixel-6-odpm-long-up-power"))
    assert told["odpm.s2m_vdd_cpucl2.energy"] == pytest.approx(124.265856)
    assert told["odpm.vsys_pwr_wlan_bt.energy"] == pytest.approx(192612.469095)
    assert told["odpm.vsys_pwr_rffe.energy"] == 0
    assert len(told) == 16


def test_rails_keep_their_names_when_the_meters_swap_their_numbers_at_a_boot() -> None:
    one, other = captured("pixel-6-odpm-power"), captured("pixel-6-odpm-long-up-power")
    shared = set(values("odpm", one)) & set(values("odpm", other))
    assert len(shared) == 14
    first, second = sensors("odpm", one), sensors("odpm", other)
    assert first.keys() == second.keys() == {"odpm.s2mpg10-odpm", "odpm.s2mpg11-odpm"}
    assert first["odpm.s2mpg10-odpm"].path != second["odpm.s2mpg10-odpm"].path


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"t=1\n",
        b"t=1\nCH1(T=1)[OTHER], 5\n",
        b"t=1\nCH1(T=1)[RAIL], 18446744073709551615\n",
        b"t=1\nCH1(T=1)[RAIL], -5\n",
        b"t=1\nCH1(T=1)[RAIL], 12",
        b"CH1(T=1)[RAIL]",
    ],
)
def test_a_table_without_the_rail_or_with_a_number_no_meter_reaches_is_refused(text: bytes) -> None:
    if text.endswith(b" 12"):
        assert joules(text, rail=b"RAIL") == 12e-6  # the last line may lack its end
        return
    with pytest.raises(ParseError):
        joules(text, rail=b"RAIL")


# ---------------------------------------------------------------------------------------------- Raspberry Pi


def test_a_pi_5_tells_its_rails_and_their_sum_which_is_the_chips_output() -> None:
    captures = captured("raspberry-pi-5-power")
    told = power("pmic", captures)
    assert told["VDD_CORE"] == pytest.approx(5.03652 * 0.8936988)
    assert told.pop("total") == pytest.approx(sum(told.values()))
    assert len(told) == 12
    assert values("pmic", captures)["pmic.ext5v.voltage"] == 4.9245
    total = channels("pmic", captures)["pmic.total.power"]
    assert (total.boundary, total.provenance) == ("module", "measured")
    assert sensors("pmic", captures)["pmic"].period_s >= 0.2


def test_the_plainer_shape_of_the_same_listing_is_read_too() -> None:
    told = values("pmic", captured("raspberry-pi-5-plain-power"))
    assert told["pmic.total.power"] == pytest.approx(1.08053 * 0.721782 + 0.1054 * 1.10341)
    assert set(told) == {"pmic.total.power", "pmic.vdd_core.power", "pmic.ddr_vdd2.power", "pmic.ext5v.voltage"}


def test_a_sum_from_which_a_rail_is_missing_is_no_sum() -> None:
    captures = captured("raspberry-pi-5-power")
    sensor = sensors("pmic", captures)["pmic"]
    text = text_of(captures, sensor)
    parse = {channel.name: channel.parse for channel in sensor.channels}
    for spoilt in (text.replace(b"HDMI_A current(22)", b"HDMI_A"), text.replace(b"0.00054945A", b"900.0A"), text[:500]):
        with pytest.raises(ParseError):
            parse["pmic.total.power"](spoilt)
    assert parse["pmic.vdd_core.power"](text.replace(b"HDMI_A current(22)", b"HDMI_A")) == pytest.approx(4.50113188)


def test_a_pi_4_has_no_rails_and_says_why() -> None:
    captures = captured("raspberry-pi-4-power")
    assert values("pmic", captures) == {}
    assert "only a Raspberry Pi 5's power chip measures its rails" in absent(READINGS["pmic"], captures)


def test_each_bit_of_the_firmware_is_a_channel_of_its_own() -> None:
    assert {name for name, number in BITS.items() if bit(b"throttled=0x50005\n", number=number)} == {
        "under_voltage",
        "throttled",
        "under_voltage_since_boot",
        "throttled_since_boot",
    }
    told = values("vcgencmd-throttled", captured("raspberry-pi-5-plain-power"))
    assert {name for name, value in told.items() if value} == {"throttle.soft_temperature_limit_since_boot"}
    assert len(told) == 8


@pytest.mark.parametrize(
    "text", [b"", b"throttled=", b"throttled=5", b"throttled=0xg", b"throttled=0x500050005", b"0x5"]
)
def test_what_names_no_bits_is_refused(text: bytes) -> None:
    with pytest.raises(ParseError):
        bit(text, number=0)


# --------------------------------------------------------------------------------------------------- batteries


def test_a_battery_that_gives_has_a_power_above_nothing_and_no_energy_before_it_is_calibrated() -> None:
    captures = captured("pixel-8-rooted-power")
    told = values("battery", captures)
    assert told["battery.power"] == pytest.approx(0.4125 * 4.02125)
    assert told["battery.current"] == -0.4125
    assert (told["battery.level"], told["battery.temperature"], told["battery.charger"]) == (0.71, 28.7, 0.0)
    of_power = channels("battery", captures)["battery.power"]
    assert (of_power.label, of_power.boundary, of_power.not_for_energy) == ("battery", "battery", NOT_CALIBRATED)
    assert "melt calibrate" in NOT_CALIBRATED
    # the gauge behind it is the same battery once more, under its own name
    assert channels("battery", captures)["battery.2.power"].label == "maxfg"


def test_a_calibrated_profile_can_say_which_unit_and_sign_a_maker_uses() -> None:
    text = b"-389\n4150000"
    assert amperes(text, unit="ma") == -0.389
    assert watts(text, unit="ma") == pytest.approx(0.389 * 4.15)
    assert watts(b"389\n4150000", unit="ma", discharging="positive") == pytest.approx(0.389 * 4.15)
    assert watts(b"0\n4150000") == 0
    for wrong in (b"-389", b"-389\n4150", b"-389\n0", b"2147483647\n4150000", b"\n4150000", b"-389\nx"):
        with pytest.raises(ParseError):
            watts(wrong)


def test_what_the_shell_may_not_read_takes_no_other_value_with_it() -> None:
    captures = captured("phone-closed-to-the-shell-power")
    assert set(values("battery", captures)) == {
        "battery.voltage",
        "battery.level",
        "battery.temperature",
        "battery.charger",
    }
    assert values("battery", captures)["battery.voltage"] == 4.203
    assert left_out(READINGS["battery"], captures) == {f"{SUPPLY}/battery/current_now": "denied (needs root)"}


def test_a_supply_is_known_by_its_type_and_not_by_its_name() -> None:
    files = {
        f"{SUPPLY}/max170xx_battery/{file}": text
        for file, text in (("type", "Battery"), ("current_now", -500000), ("voltage_now", 4000000), ("capacity", 50))
    } | {f"{SUPPLY}/battery/type": "USB", f"{SUPPLY}/battery/online": 1, f"{SUPPLY}/battery/capacity": 9}
    told = values("battery", of_files(files))
    assert told == {"battery.power": 2.0, "battery.current": -0.5, "battery.voltage": 4.0, "battery.level": 0.5} | {
        "battery.charger": 1.0
    }


def test_a_mouse_a_pen_and_a_battery_s_own_word_for_the_cable_are_not_the_devices() -> None:
    galaxy = values("battery", captured("galaxy-s23-sysfs-power"))
    assert galaxy["battery.charger"] == 0  # its battery/online is 1 and means: no cable
    assert not any(name.startswith("battery.2") for name in galaxy)
    laptop = values("battery", captured("laptop-two-batteries-power"))
    assert (laptop["battery.level"], laptop["battery.2.level"], laptop["battery.charger"]) == (1.0, 0.97, 1.0)
    assert "battery.3.level" not in laptop


@pytest.mark.parametrize(
    ("text", "plugged"),
    [
        (b"Discharging\n0", 0),
        (b"Discharging", 0),
        (b"Charging", 1),
        (b"Charging\n0", 1),
        (b"Discharging\n0\n1", 1),
        (b"Discharging\n2", 1),
        (b"Full\n1", 1),
        (b"Full\n0", 0),
        (b"Full", 1),
        (b"Not charging", 1),
        (b"Unknown\n0", 0),
        (b"Discharging\nFull", 1),
    ],
)
def test_a_charger_is_told_by_any_word_or_number_for_it(text: bytes, plugged: float) -> None:
    assert charger(text) == plugged


@pytest.mark.parametrize(
    "text", [b"", b"Unknown", b"Draining", b"Discharging\n", b"Discharging\n-1", b"Full\n3", b"\xff"]
)
def test_what_does_not_tell_of_a_charger_is_refused(text: bytes) -> None:
    with pytest.raises(ParseError):
        charger(text)


def test_boards_without_a_battery_have_no_charger_either() -> None:
    captures = of_files({f"{SUPPLY}/ucsi-source-psy-1-00081/{f}": t for f, t in (("type", "USB"), ("online", 1))})
    assert values("battery", captures) == {}
    assert absent(READINGS["battery"], captures).startswith("no file matches")


# ---------------------------------------------------------------------------------------------- dumpsys battery


@pytest.mark.parametrize(
    ("bundle", "told"),
    [
        ("oneplus-7-on-battery-dumpsys", (3.985, 0.77, 0.0, 2.849 * 3600, 29.4)),
        ("galaxy-full-on-usb-dumpsys", (4.312, 1.0, 1.0, 2.967 * 3600, 30.9)),
        ("galaxy-s24-dumpsys", (4.156, 0.75, 1.0, 2.99808 * 3600, 35.7)),
    ],
)
def test_a_phone_tells_its_battery_without_root(bundle: str, told: tuple[float, ...]) -> None:
    names = [f"battery.{word}" for word in ("voltage", "level", "charger", "charge", "temperature")]
    assert values("battery-dumpsys", captured(bundle)) == pytest.approx(dict(zip(names, told, strict=True)))


def test_values_that_somebody_set_by_hand_are_not_believed() -> None:
    captures = captured("phone-battery-set-by-hand-dumpsys")
    assert values("battery-dumpsys", captures) == {}
    assert "run 'dumpsys battery reset'" in absent(READINGS["battery-dumpsys"], captures)
    present = captured("oneplus-7-on-battery-dumpsys")["dumpsys battery"].data
    assert unusable(present) == ""
    assert unusable(present.replace(b"present: true", b"present: false")) == "the device says that it has no battery"


@pytest.mark.parametrize(
    ("old", "new", "parse", "value"),
    [
        (b"status: 3", b"status: 2", told_charger, 1.0),
        (b"status: 3", b"status: 5", told_charger, 0.0),
        (b"AC powered: false", b"AC powered: true", told_charger, 1.0),
        (b"status: 3", b"status: 9", told_charger, None),
        (b"scale: 100", b"scale: 1000", told_level, 0.077),
        (b"scale: 100", b"scale: 0", told_level, None),
        (b"level: 77", b"level: 101", told_level, None),
        (b"Charge counter: 2849000", b"Charge counter: 0", told_charge, None),
        (b"Charge counter: 2849000", b"Charge counter: 220", told_charge, None),
        (b"Current Battery Service state:", b"Can't find service: battery", told_level, None),
    ],
)
def test_oddities_of_phones_are_read_right_or_refused(old: bytes, new: bytes, parse: Any, value: float | None) -> None:
    text = captured("oneplus-7-on-battery-dumpsys")["dumpsys battery"].data
    assert old in text
    if value is None:
        with pytest.raises(ParseError):
            parse(text.replace(old, new))
    else:
        assert parse(text.replace(old, new)) == value


def test_where_both_ways_to_the_battery_are_open_each_value_is_told_once() -> None:
    both = captured("pixel-8-rooted-power") | captured("oneplus-7-on-battery-dumpsys")
    told = found([READINGS["battery"], READINGS["battery-dumpsys"]], both)
    names = [channel.name for of_one in told.values() for sensor in of_one for channel in sensor.channels]
    assert len(set(names)) == len(names)
    assert [c.name for sensor in told["battery-dumpsys"] for c in sensor.channels] == ["battery.charge"]


def test_a_sample_that_was_cut_anywhere_is_a_gap_or_a_value_and_never_another_error() -> None:
    for name in (
        "pixel-8-rooted-power",
        "raspberry-pi-5-power",
        "galaxy-s24-dumpsys",
        "jetson-agx-orin-jetpack-6-power",
    ):
        captures = captured(name)
        for reading in READINGS.values():
            for sensor in reading.sensors(captures) if reading.sensors else ():
                text = text_of(captures, sensor)
                for cut in range(0, len(text), 1 + len(text) // 60):
                    for channel in sensor.channels:
                        _tried(channel, text[:cut])


def _tried(channel: Channel, text: bytes) -> None:
    try:
        value = channel.parse(text)
    except ParseError:
        return
    assert isinstance(value, float)


def test_sensors_of_files_name_only_files_and_those_of_commands_only_words() -> None:
    for path in CAPTURED.glob("*-power.txt"):
        captures = read(path.read_bytes())
        for sensor in (s for of_one in found(READINGS.values(), captures).values() for s in of_one):
            assert bool(sensor.paths) != bool(sensor.argv)
            assert len(sensor.paths) <= 16
            spoilt = {source: replace(c, data=b"", error="io: EIO") for source, c in captures.items()}
            with pytest.raises(ParseError):
                text_of(spoilt, sensor)
