"""What an Android phone says of its heat and of itself, and what of it must be refused."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from readings_asked import DUMP, bundle, channels, dumped, facts, sensors
from readings_bundle import CAPTURED, PROLOGUE, read

from melt.errors import ParseError
from melt.readings import READINGS, absent, left_out
from melt.readings.android import properties
from melt.records import Captured

if TYPE_CHECKING:
    from pathlib import Path

# -------------------------------------------------------------------------------------------- thermal service


def test_a_phones_heat_is_read_from_the_hal_and_never_from_the_cache() -> None:
    dump = bundle("pixel-sdm670-android-12")
    found = channels("thermalservice", dump)
    assert found["thermal.cpu1-gold-usr"].parse(dump[DUMP].data) == 33.5
    assert b"mValue=48.300003, mType=0, mName=cpu1-gold-usr" in dump[DUMP].data
    assert found["thermal.cpu1-gold-usr"].label == "cpu1-gold-usr"


def test_limits_of_the_battery_and_differences_are_no_temperatures() -> None:
    found = channels("thermalservice", bundle("pixel-tensor-android-12"))
    assert {"thermal.virtual-skin", "thermal.quiet_therm", "thermal.battery"} <= set(found)
    for word in ("ocp", "vdroop", "smpl", "batoilo", "soc", "minus", "flash", "cycle", "usb-throttling"):
        assert not [name for name in found if word in name]


def test_what_the_name_says_wins_over_a_type_that_is_counted_from_one() -> None:
    found = channels("thermalservice", bundle("galaxy-named-types-android-10"))
    assert found["thermal.cooling.type_cpu"].quantity == "cooling"
    assert found["thermal.cooling.type_modem"].quantity == "count"  # though 4 is not a modem by any other count
    assert "thermal.type_power_amplifier" not in found  # it says -99.9: there is none
    limits = dumped(
        "Current temperatures from HAL:\n"
        "\tTemperature{mValue=4100.0, mType=7, mName=TYPE_BCL_VOLTAGE, mStatus=0}\n"
        "\tTemperature{mValue=30.5, mType=7, mName=TYPE_BCL_PERCENTAGE, mStatus=0}\n"
    )
    assert channels("thermalservice", limits) == {}


@pytest.mark.parametrize(
    ("kind", "name", "is_one"),
    [
        (0, "vdroop", True),
        (6, "therm", False),
        (7, "skin-therm", False),
        (8, "virtual-therm", False),
        (13, "SOC", True),
        (19, "POGO", True),
        (-1, "quiet_therm", True),
        (-1, "SKIN-MINUS-BATTERY", False),
        (-1, "FLASH_LED_REDUCE", False),
        (99, "what", False),
    ],
)
def test_a_type_says_whether_an_entry_is_a_temperature_and_of_an_unknown_one_the_name(
    kind: int, name: str, is_one: bool
) -> None:
    text = f"Current temperatures from HAL:\n\tTemperature{{mValue=41.5, mType={kind}, mName={name}, mStatus=0}}\n"
    assert bool(channels("thermalservice", dumped(text))) == is_one


def test_what_says_zero_or_nothing_is_left_out_until_it_speaks() -> None:
    found = channels("thermalservice", bundle("galaxy-a52-android-12"))
    assert not {"thermal.subbat", "thermal.subbatraw", "thermal.usb"} & set(found)
    for value in ("NaN", "0.0", "-99.9", "999.0", "1e99", "", "12 34"):
        text = f"Current temperatures from HAL:\n\tTemperature{{mValue={value}, mType=0, mName=AP, mStatus=0}}\n"
        with pytest.raises(ParseError):
            found["thermal.ap"].parse(text.encode())


def test_an_entry_is_found_again_wherever_it_stands_and_its_loss_is_a_gap() -> None:
    dump = bundle("pixel-8-android-14")
    lines = dump[DUMP].data.splitlines()
    start = lines.index(b"Current temperatures from HAL:") + 1
    end = lines.index(b"Current cooling devices from HAL:")
    turned = b"\n".join([*lines[:start], *reversed(lines[start:end]), *lines[end:]])
    without = b"\n".join(line for line in lines if b"mName=VIRTUAL-SKIN, mStatus" not in line)
    for name, channel in channels("thermalservice", dump).items():
        assert channel.parse(turned) == channel.parse(dump[DUMP].data), name
    with pytest.raises(ParseError, match="VIRTUAL-SKIN"):
        channels("thermalservice", dump)["thermal.virtual-skin"].parse(without)


@pytest.mark.parametrize("status", range(7))
def test_the_status_is_told_from_0_to_6(status: int) -> None:
    data = dumped(f"IsStatusOverride: false\nThermal Status: {status}\nHAL Ready: true\n")
    assert channels("thermalservice", data)["thermal.status"].parse(data[DUMP].data) == status


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Thermal Status: 0\nHAL Ready: false\n", "not ready"),
        ("IsStatusOverride: true\nThermal Status: 0\nHAL Ready: true\n", "overridden"),
        ("Thermal Status: 7\nHAL Ready: true\n", "from 0 to 6"),
        ("Thermal Status: none\n", "from 0 to 6"),
        ("Can't find service: thermalservice\n", "from 0 to 6"),
    ],
)
def test_a_status_that_says_nothing_is_never_0(text: str, reason: str) -> None:
    assert "thermal.status" not in channels("thermalservice", dumped(text))
    status = channels("thermalservice", bundle("galaxy-s24-android-14"))["thermal.status"]
    with pytest.raises(ParseError, match=reason):
        status.parse(text.encode())


def test_a_hal_that_is_not_ready_is_said_to_be_and_its_own_zones_are_read() -> None:
    silent = dumped("IsStatusOverride: false\nThermal Status: 0\nHAL Ready: false\n")
    assert "thermal HAL is not ready" in absent(READINGS["thermalservice"], silent)
    assert "thermal HAL is not ready" in left_out(READINGS["thermalservice"], silent)[DUMP]
    raw = bundle("phone-hal-not-ready-android-16")
    found = channels("thermalservice", raw)
    values = {name: channel.parse(raw[DUMP].data) for name, channel in found.items()}
    assert values == {"thermal.cpu-1-0-usr": 48.2, "thermal.gpu-usr": 41.0, "thermal.skin-msm-therm": 36.5}


def test_one_command_gives_all_and_not_too_often() -> None:
    (sensor,) = sensors("thermalservice", bundle("pixel-7-android-14"))
    assert sensor.argv == ("dumpsys", "thermalservice")
    assert 1 <= sensor.period_s <= 2
    assert sensor.timeout_s < sensor.period_s


def test_every_command_reading_leaves_a_device_time_to_breathe() -> None:
    for path in CAPTURED.glob("*.txt"):
        captures = read(path.read_bytes())
        for reading in READINGS.values():
            for sensor in reading.sensors(captures) if reading.sensors else ():
                assert sensor.path is not None or sensor.period_s >= 0.2, sensor.name


# ------------------------------------------------------------------------------------------------- properties


def test_a_property_may_hold_brackets_and_several_lines() -> None:
    text = b"[a.b]: [one]\r\n[c]: [two\nlines [x]: [y]\n]\n[empty]: []\n[d]: [a]]\n[last]: [z]"
    assert properties(text) == {"a.b": "one", "c": "two\nlines [x]: [y]\n", "empty": "", "d": "a]", "last": "z"}


def test_the_processor_is_named_by_the_best_property_there_is() -> None:
    def soc(text: str) -> object:
        return facts("getprop", {"getprop": Captured("getprop", text.encode())})["soc_model"]

    assert soc("[ro.soc.manufacturer]: [Google]\n[ro.soc.model]: [Tensor G3]\n[ro.board.platform]: [zuma]\n") == (
        "Google Tensor G3"
    )
    assert soc("[ro.soc.model]: []\n[ro.hardware.chipname]: [SM8450]\n[ro.board.platform]: [taro]\n") == "SM8450"
    assert soc("[ro.soc.manufacturer]: []\n[ro.board.platform]: [kona]\n") == "kona"
    assert soc("[ro.product.model]: [IN2023]\n") is None


def test_a_maker_is_said_once() -> None:
    def model(maker: str, name: str) -> object:
        text = f"[ro.product.manufacturer]: [{maker}]\n[ro.product.model]: [{name}]\n"
        return facts("getprop", {"getprop": Captured("getprop", text.encode())})["device_model"]

    assert model("Google", "Pixel 8") == "Google Pixel 8"
    assert model("samsung", "SM-S911B") == "samsung SM-S911B"
    assert model("OnePlus", "ONEPLUS A6013") == "ONEPLUS A6013"


def test_the_capturing_script_takes_no_serial_number_from_a_phone(tmp_path: Path) -> None:
    shim = tmp_path / "getprop"
    shim.write_text(
        "#!/bin/sh\ncat <<'END'\n[gsm.sim.state]: [READY]\n[ro.serialno]: [R5XSECRET]\n"
        "[ro.boot.serialno]: [R5XSECRET]\n"
        "[persist.radio.imei]: [R5XSECRET]\n[ro.product.model]: [Pixel 8]\n[ro.soc.model]: [Tensor G3]\nEND\n"
    )
    shim.chmod(0o755)
    (tmp_path / "failing").write_text("#!/bin/sh\necho words\nexit 3\n")
    (tmp_path / "failing").chmod(0o755)
    asked = f"PATH={tmp_path}:$PATH\n{PROLOGUE}\ncall getprop\ncall failing -q\ncall no-such-program\n"
    done = subprocess.run(["sh"], input=asked.encode(), capture_output=True, check=True, timeout=60)
    said = {source: (captured.data.splitlines(), captured.error) for source, captured in read(done.stdout).items()}
    assert said == {
        "getprop": ([b"[ro.product.model]: [Pixel 8]", b"[ro.soc.model]: [Tensor G3]"], None),
        "failing -q": ([], "failed"),
    }
    assert b"R5XSECRET" not in done.stdout
