"""Heat, clocks and power modes in the words of phones' and boards' kernels, and what of them must be refused."""

from __future__ import annotations

import pytest
from readings_asked import bundle, channels, facts, files, sensors
from readings_bundle import told

from melt.errors import ParseError
from melt.readings import READINGS, left_out
from melt.readings.clocks import device_hertz
from melt.readings.gpu import any_hertz, percent, thousandths
from melt.readings.jetson import clocks_held, memory_cap_hz, power_mode, power_mode_id, release
from melt.records import Captured

# ------------------------------------------------------------------------------------------------------ Jetson


@pytest.mark.parametrize(
    ("text", "name", "number"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN", 0),
        (
            "NV Fan Mode:quiet\nNV Power Mode: MODE_15W_DESKTOP\n7\nNVPM ERROR: Error opening /x: 13\n",
            "MODE_15W_DESKTOP",
            7,
        ),
        ("NVPM WARN: fan mode is not set!\r\nNV Power Mode: 5W\r\n1\r\n", "5W", 1),
        ("NVPM VERB: Current mode: NV Power Mode: 25W\n1\nNVPM VERB: PARAM CPU_ONLINE: 1\n", "25W", 1),
        ("NV Power Mode: MAXN_SUPER\n2", "MAXN_SUPER", 2),
    ],
)
def test_the_power_mode_is_told_in_every_form(text: str, name: str, number: int) -> None:
    assert power_mode(text.encode()) == name
    assert power_mode_id(text.encode()) == number


def test_a_power_mode_without_a_number_has_a_name_only() -> None:
    assert power_mode(b"NV Power Mode: MAXN\nNVPM ERROR: 13\n") == "MAXN"
    with pytest.raises(ParseError, match="number"):
        power_mode_id(b"NV Power Mode: MAXN\nNVPM ERROR: 13\n")
    for text in (b"", b"NVPM ERROR: no such mode\n", b"NV Power Mode:\n0\n"):
        with pytest.raises(ParseError):
            power_mode(text)


def test_held_clocks_are_told_from_those_that_a_mode_merely_caps() -> None:
    assert facts("jetson-clocks", bundle("jetson-orin-nano-jetson-linux-36.4.3"))["jetson_clocks"] == "free"
    # in the Nano's mode of 5 W a processor's lowest clock is its highest, and the rest can move
    assert facts("jetson-clocks", bundle("jetson-nano-jetson-linux-32.6"))["jetson_clocks"] == "partly held"
    # an AGX Xavier with two processors off, whose limits do not count
    assert facts("jetson-clocks", bundle("jetson-agx-xavier-jetson-linux-32.7"))["jetson_clocks"] == "held"
    old = b"cpu0: Gonvernor=interactive MinFreq=1734000 MaxFreq=1734000 CurrentFreq=1734000\n"
    assert clocks_held(old) == "held"
    assert clocks_held(old + b"EMC MinFreq=1 MaxFreq=1600000000 CurrentFreq=1 FreqOverride=0\n") == "partly held"
    assert memory_cap_hz(old + b"EMC MinFreq=1 MaxFreq=1600000000 CurrentFreq=1 FreqOverride=0\n") == 1_600_000_000
    with pytest.raises(ParseError, match="needs root"):
        clocks_held(b"Error: Run this script(/usr/bin/jetson_clocks) as a root user\n")


def test_the_release_of_jetson_linux_is_told() -> None:
    assert (
        release(b"# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: x") == "36.4.3"
    )
    assert release(b"# R28 (release), REVISION: 2.0, GCID: 10567845") == "28.2.0"
    with pytest.raises(ParseError):
        release(b"# R36 (beta)")


def test_a_zone_that_hangs_or_fails_is_left_out_with_its_reason_and_the_others_stay() -> None:
    hanging = bundle("jetson-orin-nx-jetson-linux-36.3")
    assert "zone.tj-thermal" in channels("thermal", hanging)
    reasons = left_out(READINGS["thermal"], hanging)
    assert reasons["/sys/class/thermal/thermal_zone2/temp"] == "hangs (it did not answer in time)"
    assert len(reasons) == 3


# ---------------------------------------------------------------------------------------- what is no throttling


def test_only_what_slows_a_program_is_of_the_quantity_that_tells_throttling() -> None:
    cooling = channels("cooling", bundle("jetson-orin-nano-jetson-linux-36.4.3"))
    # it is on from 70 °C, 29 °C below where clocks fall, and does nothing but say so
    assert cooling["cooling.hot-surface-alert"].quantity == "count"
    assert cooling["fan.pwm-fan"].quantity == "count"
    for name in ("cpufreq-cpu0", "devfreq-17000000.gpu", "cpu-throttle-alert", "soc2-throttle-alert"):
        assert cooling[f"cooling.{name}"].quantity == "cooling"
    phone = channels("cooling", bundle("galaxy-s23-android-14"))
    for name in ("battery", "wlan", "modem_lte_dsc", "panel0-backlight"):
        assert phone[f"cooling.{name}"].quantity == "count"
    for name in ("thermal-cpufreq-7", "cpu-isolate0", "thermal-devfreq-0", "cdsp_sw"):
        assert phone[f"cooling.{name}"].quantity == "cooling"


@pytest.mark.parametrize(
    ("kind", "quantity"),
    [
        ("Processor", "cooling"),
        ("intel_powerclamp", "cooling"),
        ("cpu-throttled", "cooling"),
        ("gpu-throttle-alert", "cooling"),
        ("core_dvfs_cap", "cooling"),
        ("core_dvfs_floor", "count"),
        ("gpu-rail-scaling", "count"),
        ("LCD", "count"),
        ("led0", "count"),
        ("usbc-port", "count"),
        ("gpio-fan", "count"),
        ("mtk-cl-camera00", "count"),
    ],
)
def test_a_cooling_device_is_judged_by_its_type(kind: str, quantity: str) -> None:
    device = files(class__thermal__cooling_device0__cur_state=1, class__thermal__cooling_device0__type=kind)
    (channel,) = channels("cooling", device).values()
    assert channel.quantity == quantity
    assert channel.label == kind


@pytest.mark.parametrize(
    "kind", ["pm8550-ibat-lvl0", "vbat", "soc", "socd", "ocp_cpu2", "vdroop1", "batoilo", "smpl_gm"]
)
def test_a_zone_of_volts_amperes_or_percent_is_no_temperature(kind: str) -> None:
    zone = files(class__thermal__thermal_zone0__temp=11900, class__thermal__thermal_zone0__type=kind)
    assert not sensors("thermal", zone)
    assert left_out(READINGS["thermal"], zone)


@pytest.mark.parametrize("kind", ["soc-thermal", "soc_therm", "battery", "PMIC-Die", "soc0-thermal", "cpu-0-0", "BIG"])
def test_a_zone_that_only_sounds_like_one_is_a_temperature(kind: str) -> None:
    assert sensors(
        "thermal", files(class__thermal__thermal_zone0__temp=31000, class__thermal__thermal_zone0__type=kind)
    )


def test_an_input_with_nothing_on_it_and_a_shunts_voltage_are_no_rails() -> None:
    hwmon = "class__hwmon__hwmon3__"
    board = files(
        **{
            f"{hwmon}name": "ina3221",
            f"{hwmon}in1_label": "VDD_IN",
            f"{hwmon}in1_input": 5008,
            f"{hwmon}in2_label": "NC",
        },
        **{f"{hwmon}in2_input": 5000, f"{hwmon}in4_input": 2, f"{hwmon}in7_label": "sum of shunt voltages"},
        **{f"{hwmon}in7_input": 9, f"{hwmon}curr1_input": 1032, f"{hwmon}curr1_label": "VDD_IN"},
    )
    assert set(channels("hwmon-power", board)) == {
        "hwmon.ina3221.vdd_in.voltage",
        "hwmon.ina3221.vdd_in.current",
    }


# ------------------------------------------------------------------------------------- clocks of other devices


def test_a_devices_clock_cap_and_governor_are_told_by_its_own_name() -> None:
    found = channels("devfreq", bundle("jetson-agx-orin-jetson-linux-35.2"))
    assert found["devfreq.17000000.ga10b.clock"].label == "17000000.ga10b"
    assert {"devfreq.17000000.ga10b.cap", "devfreq.bwmgr.cap"} <= set(found)
    told_of = facts("devfreq", bundle("jetson-agx-orin-jetson-linux-35.2"))
    assert told_of["device_governors"] == "15340000.vic=tegra_wmark 17000000.ga10b=nvhost_podgov bwmgr=performance"
    assert facts("devfreq", bundle("jetson-nano-jetson-linux-32.6"))["device_governors"] == "nvhost_podgov"


def test_kilohertz_in_the_place_of_hertz_are_seen_and_megabytes_refused() -> None:
    assert device_hertz(b"918000000\n") == 918e6
    assert device_hertz(b"3172000\n") == 3172e6
    assert device_hertz(b"421000\n") == 421e6
    for text in (b"12787", b"762", b"0", b"-1", b"<unknown>", b"9" * 15):
        with pytest.raises(ParseError):
            device_hertz(text)


def test_a_gpus_clock_is_told_whatever_the_driver_counts_in() -> None:
    assert [any_hertz(text) for text in (b"572", b"303000\n", b"848000", b"1114800000")] == [
        572e6,
        303e6,
        848e6,
        1114.8e6,
    ]
    for text in (b"0", b"5", b"-303000", b"", b"99999999999999"):
        with pytest.raises(ParseError):
            any_hertz(text)


def test_a_load_is_a_share() -> None:
    assert [percent(text) for text in (b"35 %\n", b"100%", b"0")] == [0.35, 1.0, 0.0]
    assert thousandths(b"996\n") == 0.996
    for parse, text in ((percent, b"101 %"), (percent, b"%"), (thousandths, b"1001"), (percent, b"-1")):
        with pytest.raises(ParseError):
            parse(text)


def test_an_adreno_is_read_from_the_first_file_that_answers() -> None:
    kgsl = "class__kgsl__kgsl-3d0__"
    adreno = files(
        **{f"{kgsl}gpuclk": 401800000, f"{kgsl}devfreq__cur_freq": 401000000, f"{kgsl}max_gpuclk": 680000000},
        **{f"{kgsl}thermal_pwrlevel": 2, f"{kgsl}gpu_busy_percentage": "47 %", f"{kgsl}temp": 51300},
    )
    values = {
        name: c.parse(adreno[s.path or ""].data)
        for s in sensors("kgsl", adreno)
        for name, c in [(s.name, s.channels[0])]
    }
    assert values == {
        "kgsl.clock": 401800000.0,
        "kgsl.cap": 680000000.0,
        "kgsl.thermal_level": 2.0,
        "kgsl.busy": 0.47,
        "kgsl.temperature": 51.3,
    }
    gpuclk = "/sys/class/kgsl/kgsl-3d0/gpuclk"
    without = {**adreno, gpuclk: Captured(gpuclk, error="denied")}
    assert channels("kgsl", without)["kgsl.clock"].parse(b"401000000") == 401e6
    assert channels("kgsl", adreno)["kgsl.thermal_level"].quantity == "cooling"


def test_a_jetsons_load_is_found_through_its_link_or_its_address() -> None:
    for name in (
        "jetson-nano-jetson-linux-32.6",
        "jetson-orin-nano-jetson-linux-36.4.3",
        "jetson-agx-orin-jetson-linux-35.2",
    ):
        assert len(sensors("tegra-gpu", bundle(name))) == 1


def test_facts_of_some_devices_are_not_asked_of_all() -> None:
    of_some = {name for name, reading in READINGS.items() if reading.facts and not reading.asked_always}
    assert {"getprop", "nvpmodel", "jetson-clocks", "jetson-linux", "gpu", "devfreq"} <= of_some
    assert {"machine", "cpu", "system", "cpu-clock", "memory"}.isdisjoint(of_some)
    assert not {"power_mode", "device_model"} & set(told(bundle("laptop-rapl"))["unknown"])
