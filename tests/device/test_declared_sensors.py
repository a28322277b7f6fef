"""What a profile makes of found sensors: each shipped profile against captured output, and each way to be wrong.

`expected_profiles/NAME.yaml` says what the shipped profile NAME makes of bundles of `tests/readings/captured`.
"""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from readings.readings_bundle import CAPTURED, read

from melt.device import open_device
from melt.device.sensors import Declared, declared, understood, wanted
from melt.errors import ParseError, UsageError
from melt.files import LabDevice, Profile, load_profile
from melt.places import shipped
from melt.readings import READINGS, found, text_of
from melt.records import Captured, Channel, Quantity, Response, Sensor

EXPECTED = Path(__file__).parent / "expected_profiles"
SHIPPED = sorted(path.stem for path in shipped("device_profiles").glob("*.yaml"))


def applied(profile: Profile, bundles: list[str]) -> tuple[Declared, dict[str, Captured]]:
    """What the profile makes of a device that answers as the bundles say, the later ones adding to the earlier."""
    captures = {source: c for name in bundles for source, c in read((CAPTURED / f"{name}.txt").read_bytes()).items()}
    return understood(profile, captures), captures


def channels(sensors: tuple[Sensor, ...]) -> dict[str, Channel]:
    return {channel.name: channel for sensor in sensors for channel in sensor.channels}


def zones(profile: Profile, sensors: tuple[Sensor, ...]) -> list[str]:
    """The temperatures that a run waits for."""
    names = [name for name, channel in channels(sensors).items() if channel.quantity == "temperature"]
    checked = [name for name in names if any(fnmatchcase(name, pattern) for pattern in profile.thermal.check)]
    return sorted(name for name in checked if not any(fnmatchcase(name, p) for p in profile.thermal.ignore))


# -------------------------------------------------------------------------------------------- every shipped profile


def test_every_shipped_profile_has_a_fixture_and_every_fixture_a_profile() -> None:
    assert sorted(path.stem for path in EXPECTED.glob("*.yaml")) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_profile_makes_of_captured_output_what_is_written_beside_it(name: str) -> None:
    profile = load_profile(name)
    for case in yaml.safe_load((EXPECTED / f"{name}.yaml").read_text(encoding="utf-8")):
        told, captures = applied(profile, case["captured"])
        values = {c.name: c.parse(text_of(captures, s)) for s in told.sensors for c in s.channels}
        there = channels(told.sensors)
        assert {name: values.get(name) for name in case.get("channels", {})} == pytest.approx(case.get("channels", {}))
        assert (told.total.sum if told.total else ()) == tuple(case.get("total", ()))
        if told.total:
            watts = [values[name] for name in told.total.sum if there[name].quantity == "power"]
            assert "total_w" not in case or sum(watts) == pytest.approx(case["total_w"])
            assert told.total.boundary == case["boundary"]
            assert told.no_total is None
        assert case.get("no_total", "") in (told.no_total or "")
        assert bool(told.no_total) == ("no_total" in case)
        assert zones(profile, told.sensors) == sorted(case.get("zones", []))
        own = {what: why for what, why in told.absent.items() if what not in profile.readings and "/" not in what}
        assert set(own) == set(case.get("absent", {}))
        for what, why in case.get("absent", {}).items():
            assert why in told.absent[what]
        unfit = sorted(name for name, channel in there.items() if channel.not_for_energy)
        assert unfit == sorted(case.get("not_for_energy", []))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_shipped_profile_declares_has_a_boundary_and_asks_for_readings_that_exist(name: str) -> None:
    profile = load_profile(name)
    assert {reading.name for reading in wanted(profile)} >= set(profile.readings)
    for spec in profile.sensors.values():
        assert spec.quantity not in ("power", "energy") or (spec.boundary and spec.provenance)
    # what is not measured on hardware may not be called so
    assert not any(spec.response and spec.response.calibrated for spec in profile.sensors.values())
    assert not (profile.battery and profile.battery.calibrated)


def test_a_rail_that_the_profile_says_nothing_of_stays_among_the_sensors() -> None:
    told, _ = applied(load_profile("jetson"), ["jetson-agx-orin-jetpack-6-power"])
    assert channels(told.sensors)["ina3221.vdd_gpu_soc.power"].boundary == "rail"
    assert (told.total, told.no_total) == (None, None)
    assert told.absent["thermal"] == "no file matches /sys/class/thermal/thermal_zone*/temp"


@pytest.mark.parametrize(
    ("name", "bundle"),
    [("jetson-orin-nano", "jetson-orin-nano-jetpack-6-power"), ("jetson-agx-orin", "jetson-orin-nano-jetpack-6-power")],
)
def test_a_device_that_is_opened_knows_its_total_or_why_it_has_none(tmp_path: Path, name: str, bundle: str) -> None:
    """The board's files lie below a folder, read by the real agent; the second profile is the wrong one for it."""
    for source, captured in read((CAPTURED / f"{bundle}.txt").read_bytes()).items():
        if source.startswith("/") and captured.error is None:
            file = tmp_path / "board" / source.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(captured.data)
    (tmp_path / "work").mkdir()
    places = {"workdir": str(tmp_path / "work"), "sysroot": str(tmp_path / "board")}
    spec = LabDevice.model_validate({"profile": name, "address": "local:", **places})
    with open_device("board", spec, load_profile(name)) as device:
        if name == "jetson-orin-nano":
            assert device.total is not None
            assert device.total.sum == ("input",)
            assert {"input", "soc"} <= set(channels(device.sensors))
            assert device.no_total is None
        else:
            assert device.total is None
            assert "takes its total from gpu_soc + cpu_cv + sys5v, and this device lacks" in (device.no_total or "")
            assert "has VDD_IN, VDD_CPU_GPU_CV, VDD_SOC" in device.absent["gpu_soc"]


# --------------------------------------------------------------------------------------------------- made-up devices


def number(data: bytes) -> float:
    try:
        return float(data)
    except ValueError:
        raise ParseError("no number", data) from None


def rail(label: str, quantity: Quantity = "power", name: str = "", **more: Any) -> Channel:
    name = name or f"board.{label.lower()}.{quantity}"
    boundary: Any = "rail" if quantity in ("power", "energy") else None
    return Channel(name, quantity, number, boundary, "measured" if boundary else None, label=label, **more)


def sensor(*of: Channel, name: str = "", period_s: float = 0.1) -> Sensor:
    return Sensor(name or of[0].name.rpartition(".")[0], of, period_s, "/sys/x")


def made(**keys: Any) -> Profile:
    return Profile.model_validate({"name": "board", "readings": ["hwmon-power", "battery"], **keys})


def spec(label: str, **keys: Any) -> dict[str, Any]:
    return {"read": "hwmon-power", "label": label, "quantity": "power", "boundary": "module", **keys}


def test_a_named_channel_gets_the_profiles_name_and_meaning_and_its_sensor_keeps_the_others() -> None:
    response = {"refresh_s": 0.5, "averages": True}
    entry = spec("vdd_in", provenance="estimated", period_s=0.02, response=response)
    one = sensor(rail("VDD_IN"), rail("VDD_IN", "voltage"))
    told = declared(made(sensors={"input": entry}), {"hwmon-power": [one]})
    (there,) = told.sensors
    assert [channel.name for channel in there.channels] == ["input", "board.vdd_in.voltage"]
    named = there.channels[0]
    assert (named.boundary, named.provenance, named.label) == ("module", "estimated", "VDD_IN")
    assert named.response == Response.model_validate(response)
    assert named.parse(b"3.5") == 3.5
    assert (there.period_s, there.path, there.name) == (0.02, one.path, one.name)


def test_without_a_word_of_the_profile_the_readings_own_meaning_stays() -> None:
    entry = {"read": "hwmon-power", "label": "VDD_IN", "quantity": "power"}
    own = Response(refresh_s=0.1, gain_error=0.01)
    told = declared(made(sensors={"input": entry}), {"hwmon-power": [sensor(rail("VDD_IN", response=own))]})
    named = channels(told.sensors)["input"]
    assert (named.boundary, named.provenance, named.response) == ("rail", "measured", own)
    assert told.sensors[0].period_s == 0.1


def test_the_period_is_the_entrys_then_the_profiles_then_the_readings() -> None:
    found_here = {"hwmon-power": [sensor(rail("A"), rail("B")), sensor(rail("C"))]}
    two = {"a": spec("A", boundary="rail", period_s=0.5), "b": spec("B", boundary="rail", period_s=0.2)}
    periods = [s.period_s for s in declared(made(sensors=two), found_here).sensors]
    assert periods == [0.2, 0.1]
    periods = [s.period_s for s in declared(made(sensors=two, periods_s={"hwmon-power": 0.7}), found_here).sensors]
    assert periods == [0.2, 0.7]


def test_a_pattern_fits_whatever_the_case_and_only_that_quantity() -> None:
    here = {"hwmon-power": [sensor(rail("S2M_VDD_BIG"), rail("S2M_VDD_BIG", "current")), sensor(rail("S3M_VDD_MID"))]}
    told = declared(made(sensors={"big": spec("s*m_vdd_big")}), here)
    assert set(channels(told.sensors)) == {"big", "board.s2m_vdd_big.current", "board.s3m_vdd_mid.power"}


def test_a_channel_without_a_label_is_found_by_its_name() -> None:
    unlabelled = dataclasses.replace(rail("x", name="board.odd.power"), label="")
    told = declared(made(sensors={"odd": spec("board.odd.power")}), {"hwmon-power": [sensor(unlabelled)]})
    assert set(channels(told.sensors)) == {"odd"}


def test_a_rail_that_the_board_lacks_is_absent_with_those_that_it_has() -> None:
    profile = made(sensors={"ddr": spec("VDDQ")}, total={"sum": ["ddr"], "boundary": "module"})
    told = declared(profile, {"hwmon-power": [sensor(rail("VDD_GPU")), sensor(rail("VDD_CPU"))]})
    why = "profile board names the power of VDDQ, and this device's hwmon-power has VDD_GPU, VDD_CPU"
    assert told.absent == {"ddr": why}
    assert told.total is None
    assert told.no_total == f"profile board takes its total from ddr, and this device lacks ddr: {why}"
    nothing = declared(profile, {}, {"hwmon-power": "in1_input: denied"}).absent["ddr"]
    assert nothing == "profile board names power of hwmon-power, which found none on this device (in1_input: denied)"


def test_a_label_that_fits_several_is_absent_and_names_them() -> None:
    told = declared(
        made(sensors={"in": spec("VDD_*")}), {"hwmon-power": [sensor(rail("VDD_A")), sensor(rail("VDD_B"))]}
    )
    assert "2 fit: board.vdd_a.power, board.vdd_b.power" in told.absent["in"]
    assert set(channels(told.sensors)) == {"board.vdd_a.power", "board.vdd_b.power"}


def test_a_channel_is_named_once() -> None:
    two = {"a": spec("VDD", boundary="rail"), "b": spec("vdd", boundary="rail")}
    told = declared(made(sensors=two), {"hwmon-power": [sensor(rail("VDD"))]})
    assert set(channels(told.sensors)) == {"a"}
    assert told.absent["b"] == "profile board names the power of vdd, which is its 'a' already"


def test_the_name_of_another_channel_is_refused() -> None:
    profile = made(sensors={"board.b.power": spec("A")})
    with pytest.raises(UsageError, match=r"key 'sensors\.board\.b\.power' is what another channel"):
        declared(profile, {"hwmon-power": [sensor(rail("A")), sensor(rail("B"))]})


def test_a_sum_of_which_one_is_missing_is_no_total() -> None:
    two = {"a": spec("A", boundary="rail"), "b": spec("B", boundary="rail")}
    profile = made(sensors=two, total={"sum": ["a", "b"], "boundary": "module", "excludes": ["the rest"]})
    whole = declared(profile, {"hwmon-power": [sensor(rail("A")), sensor(rail("B"))]})
    assert whole.total == profile.total
    assert whole.no_total is None
    part = declared(profile, {"hwmon-power": [sensor(rail("A"))]})
    assert part.total is None
    assert (part.no_total or "").startswith("profile board takes its total from a + b, and this device lacks b: ")
    none = declared(profile, {}).no_total or ""
    assert "lacks a, b; of the first: profile board names power of hwmon-power, which found none" in none
    assert set(declared(profile, {}).absent) == {"a, b"}


def test_without_a_rule_nothing_is_called_the_total() -> None:
    told = declared(made(sensors={"a": spec("A")}), {"hwmon-power": [sensor(rail("A")), sensor(rail("B"))]})
    assert (told.total, told.no_total) == (None, None)


def test_why_there_is_no_power_is_told_unless_there_is_some() -> None:
    profile = made(no_power="it has no sensor; use a meter")
    told = declared(profile, {"hwmon-power": [sensor(rail("A", "voltage"))]})
    assert told.absent == {"power": "it has no sensor; use a meter"}
    assert told.no_total == "no_sensor: it has no sensor; use a meter"
    fitted = declared(profile, {"hwmon-power": [sensor(rail("HAT"))]})
    assert (fitted.absent, fitted.no_total) == ({}, None)


# ------------------------------------------------------------------------------------------------ a battery's gauge


@pytest.mark.parametrize(
    ("unit", "sign", "current_a", "power_w"),
    [
        ("ua", "negative", -0.4, 1.6),
        ("ua", "positive", 0.4, -1.6),
        ("ma", "negative", -400.0, 1600.0),
        ("ma", "positive", 400.0, -1600.0),
    ],
)
def test_a_calibrated_gauge_is_understood_in_its_own_unit_and_sign(
    unit: str, sign: str, current_a: float, power_w: float
) -> None:
    """The file holds -400000: in each unit and sign it is another current."""
    data = {"type": b"Battery", "status": b"Discharging", "current_now": b"-400000", "voltage_now": b"4000000"}
    captures = {
        f"/sys/class/power_supply/battery/{file}": Captured(f"/sys/class/power_supply/battery/{file}", text)
        for file, text in data.items()
    }
    raw = found([READINGS["battery"]], captures)
    battery = {"current_unit": unit, "discharging": sign, "calibrated": True}
    entry = {"read": "battery", "label": "battery", "quantity": "power", "boundary": "battery"}
    told = declared(made(battery=battery, sensors={"battery.power": entry}), raw)
    there = channels(told.sensors)
    (whole,) = [s for s in told.sensors if "battery.power" in {c.name for c in s.channels}]
    text = text_of(captures, whole)
    assert there["battery.current"].parse(text) == pytest.approx(current_a)
    assert there["battery.power"].parse(text) == pytest.approx(power_w)
    assert there["battery.power"].not_for_energy is None
    with pytest.raises(ParseError):
        there["battery.power"].parse(b"garbage")
    # what is not calibrated is not corrected, and no energy comes of it
    plain = channels(declared(made(battery={**battery, "calibrated": False}), raw).sensors)
    assert plain["battery.power"].parse(text) == pytest.approx(1.6)
    assert "calibrate" in (plain["battery.power"].not_for_energy or "")
    # and of the voltage nothing was in doubt
    assert there["battery.voltage"].parse is plain["battery.voltage"].parse


# ------------------------------------------------------------------------------------------------ what is asked for


def test_readings_are_those_of_the_profile_and_the_facts_of_any_device() -> None:
    names = {reading.name for reading in wanted(made(readings=["load"]))}
    assert {"load", "machine", "system"} <= names
    assert "thermal" not in names


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"readings": ["termal"]}, "reading 'termal' is not known: did you mean 'thermal'?"),
        ({"sensors": {"a": spec("A", read="ina3212")}}, "key 'sensors.a.read' is 'ina3212', which is no reading: did"),
        ({"sensors": {"a": spec("A", read="rapl")}}, "is 'rapl', which is not among its 'readings': add it there"),
    ],
)
def test_a_reading_that_is_not_known_or_not_asked_for_is_a_usage_error(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        wanted(made(**keys))
    assert str(caught.value).startswith("profile 'board': ")
    assert sentence in str(caught.value)
