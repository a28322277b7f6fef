"""What the readings make of captured text: each bundle in captured/ against the .json beside it, and this machine."""

from __future__ import annotations

import json
import platform
import re
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from readings_bundle import ANY_LINUX, CAPTURED, PROLOGUE, asked, read, script, told

from melt.readings import READINGS, absent, found, left_out
from melt.records import NAME, UNITS, Captured

if TYPE_CHECKING:
    from pathlib import Path

BUNDLES = sorted(CAPTURED.glob("*.txt"))
LAPTOP = read((CAPTURED / "laptop-rapl.txt").read_bytes())
RAPL = "/sys/class/powercap/intel-rapl:"


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.stem)
def test_a_captured_device_is_told_as_its_json_says(bundle: Path) -> None:
    assert told(read(bundle.read_bytes())) == json.loads(bundle.with_suffix(".json").read_text())


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.stem)
def test_names_are_legal_unique_and_name_a_source_that_was_asked_for(bundle: Path) -> None:
    captures = read(bundle.read_bytes())
    sensors = [sensor for of_one in found(READINGS.values(), captures).values() for sensor in of_one]
    names = [sensor.name for sensor in sensors]
    channels = [channel for sensor in sensors for channel in sensor.channels]
    assert len(set(names)) == len(names)
    assert len({channel.name for channel in channels}) == len(channels)
    assert all(re.fullmatch(NAME, name) for name in [*names, *(channel.name for channel in channels)])
    assert all(path in captures for s in sensors for path in s.paths or (" ".join(s.argv),))
    for channel in channels:
        told_of_energy = channel.quantity in ("power", "energy")
        assert (channel.boundary is not None) == (channel.provenance is not None) == told_of_energy
        assert channel.unit == UNITS[channel.quantity]


def test_every_bundle_says_whether_it_was_captured_or_composed() -> None:
    assert BUNDLES
    assert all(re.match(rb"Captured|Composed", bundle.read_bytes()) for bundle in BUNDLES)


def test_a_reading_asks_by_absolute_globs_or_by_one_command_and_says_what_for() -> None:
    for name, reading in READINGS.items():
        assert name == reading.name
        assert reading.about
        assert bool(reading.paths) != bool(reading.argv)
        assert all(re.fullmatch(r"(/[A-Za-z0-9_.:,*-]+)+", path) for path in reading.paths)
        assert set(reading.sampled) <= set(reading.paths)
        assert bool(reading.sampled or reading.argv) or reading.sensors is None
        assert not reading.sampled or reading.sensors is not None


def test_a_device_that_says_nothing_is_all_gaps_and_each_has_its_reason() -> None:
    said = told({})
    assert not said["facts"]
    assert not said["sensors"]
    assert all(said["unknown"].values())
    assert set(said["absent"]) == {reading.name for reading in asked({}) if reading.sensors} >= ANY_LINUX
    assert said["absent"]["thermal"] == "no file matches /sys/class/thermal/thermal_zone*/temp"
    assert set(said["unknown"]) == {"machine", *told(LAPTOP)["facts"], *told(LAPTOP)["unknown"]}


def test_no_fact_is_told_twice() -> None:
    names = [fact.name for reading in READINGS.values() if reading.facts for fact in reading.facts(LAPTOP)]
    assert len(set(names)) == len(names)


def test_this_machine_is_told_as_python_knows_it() -> None:
    done = subprocess.run(["sh"], input=script().encode(), capture_output=True, check=True, timeout=60)
    captures = read(done.stdout)
    said = told(captures)
    assert said["facts"]["machine"] == platform.machine()
    assert said["facts"]["kernel"] == platform.release()
    assert said["facts"]["memory_total_bytes"] == psutil.virtual_memory().total
    assert said["facts"]["cpus_online"] == psutil.cpu_count()
    busy = psutil.cpu_times()
    told_busy = said["sensors"]["cpu.time"]["channels"]["cpu.busy_s"]["value"]
    assert told_busy <= busy.user + busy.nice + busy.system + busy.irq + busy.softirq + 0.05
    assert told_busy > 0


def test_the_capturing_script_leaves_serial_numbers_out_and_says_what_it_could_not_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Model\t: Board\nSerial\t\t: 10000000abcdef\n")
    (tmp_path / "empty").write_text("")
    asked = f"{PROLOGUE}\nfile {tmp_path}/*\nfile {tmp_path}/none*\n"
    done = subprocess.run(["sh"], input=asked.encode(), capture_output=True, check=True, timeout=60)
    assert {source: c.data.strip() for source, c in read(done.stdout).items()} == {
        f"{tmp_path}/cpuinfo": b"Model\t: Board",
        f"{tmp_path}/empty": b"",
    }
    assert "hostname" not in script()
    assert not re.search(r"uname .*[an]", script())


def test_a_bundle_carries_errors_in_its_headers() -> None:
    assert read(b"words\n=== /a !! denied\n=== $ uname -m\nx86_64\n") == {
        "/a": Captured("/a", b"", "denied"),
        "uname -m": Captured("uname -m", b"x86_64\n", None),
    }


# ------------------------------------------------------------------------------------- faults of single files


def test_a_counter_for_root_only_is_said_to_need_root() -> None:
    denied = {
        path: replace(captured, data=b"", error="denied") if path.endswith("energy_uj") else captured
        for path, captured in LAPTOP.items()
    }
    assert absent(READINGS["rapl"], denied) == f"{RAPL}0/energy_uj: denied (needs root), and 3 more like it"
    assert left_out(READINGS["rapl"], denied)[f"{RAPL}0:1/energy_uj"] == "denied (needs root)"


def test_nothing_is_absent_where_something_was_found() -> None:
    assert absent(READINGS["rapl"], LAPTOP) == ""
    assert absent(READINGS["machine"], LAPTOP) == "machine tells facts only"


def test_a_file_that_fails_does_not_rename_the_others() -> None:
    path = "/sys/class/thermal/thermal_zone1/temp"  # the first of two zones of the type acpitz
    broken = {**LAPTOP, path: Captured(path, error="io: EAGAIN")}
    zones = READINGS["thermal"].sensors
    assert zones is not None
    assert "zone.acpitz.2" in {sensor.name for sensor in zones(broken)}
    assert "zone.acpitz" not in {sensor.name for sensor in zones(broken)}


@pytest.mark.parametrize("path", [path for path in LAPTOP if path.startswith("/sys/")])
def test_one_garbage_file_leaves_the_values_of_the_other_files_alone(path: str) -> None:
    said = told(LAPTOP)["sensors"]
    spoilt = told({**LAPTOP, path: Captured(path, b"\xff\x00garbage\n" * 9)})["sensors"]
    assert _values(spoilt) == {source: values for source, values in _values(said).items() if source != path}
    if not path.endswith(("/type", "/name", "_label")):  # those spoil a name, which frees it for the next of its kind
        assert set(spoilt) == {name for name, sensor in said.items() if sensor["source"] != path}


def _values(sensors: dict[str, Any]) -> dict[str, list[float]]:
    return {s["source"]: [channel["value"] for channel in s["channels"].values()] for s in sensors.values()}


def test_a_counter_without_its_range_has_no_wrap_and_is_still_read() -> None:
    captures = {path: captured for path, captured in LAPTOP.items() if "range" not in path}
    rapl = READINGS["rapl"].sensors
    assert rapl is not None
    assert [sensor.channels[0].wraps_at for sensor in rapl(captures)] == [None] * 4


def test_the_second_hwmon_chip_of_a_name_keeps_its_number_on_every_sensor() -> None:
    found = told(LAPTOP)["sensors"]
    assert found["hwmon.nvme.composite.temperature"]["source"].startswith("/sys/class/hwmon/hwmon3/")
    assert found["hwmon.nvme.2.composite.temperature"]["source"].startswith("/sys/class/hwmon/hwmon10/")


def test_a_virtual_machine_is_told_by_its_flag_and_named_by_its_firmware() -> None:
    def facts(flags: str, **files: str) -> dict[str, object]:
        captures = {"/proc/cpuinfo": Captured("/proc/cpuinfo", f"flags\t: {flags}\n".encode())}
        for name, text in files.items():
            path = f"/sys/class/dmi/id/{name}"
            captures[path] = Captured(path, text.encode())
        system = READINGS["system"].facts
        assert system is not None
        return {fact.name: fact.value for fact in system(captures)}

    rented = facts("sse hypervisor", sys_vendor="Amazon EC2\n", product_name="c7i.large\n")
    assert (rented["virtual_machine"], rented["hypervisor"]) == ("yes", "Amazon EC2")
    metal = facts("sse", sys_vendor="Amazon EC2\n", product_name="c7i.metal-24xl\n")
    assert (metal["virtual_machine"], metal["hypervisor"]) == ("no", "none")
    arm = facts("", sys_vendor="QEMU\n", product_name="KVM Virtual Machine\n")
    assert (arm["virtual_machine"], arm["hypervisor"]) == ("yes", "QEMU")
    board = facts("", sys_vendor="Xenon Boards\n")
    assert (board["virtual_machine"], board["hypervisor"]) == (None, None)


@pytest.mark.parametrize(
    ("files", "value"),
    [
        ({"cpu.max": "max 100000\n"}, "none"),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max\n"}, "none"),
        ({"cpu.max": "0 100000\n"}, None),
        ({"cpu.max": "150000 0\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "none"),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "50000\n"}, None),
    ],
)
def test_the_limit_of_a_container_is_told_in_cpus(files: dict[str, str], value: object) -> None:
    captures = {
        f"/sys/fs/cgroup/{name}": Captured(f"/sys/fs/cgroup/{name}", text.encode()) for name, text in files.items()
    }
    system = READINGS["system"].facts
    assert system is not None
    (quota,) = (fact for fact in system(captures) if fact.name == "cpu_quota")
    assert quota.value == value


@pytest.mark.parametrize(
    ("files", "clusters"),
    [
        ({"cpu0/cpu_capacity": "400", "cpu1/cpu_capacity": "1024"}, "0 1"),
        ({"cpu0/cpu_capacity": "1024", "cpu1/cpu_capacity": "1024", "cpu2/cpu_capacity": "?"}, "0-1"),
        (
            {
                "cpufreq/policy0/related_cpus": "0 2",
                "cpufreq/policy0/cpuinfo_max_freq": "1000",
                "cpufreq/policy1/related_cpus": "1 3",
                "cpufreq/policy1/cpuinfo_max_freq": "2000",
            },
            "0,2:1000000 1,3:2000000",
        ),
        ({"cpufreq/policy0/cpuinfo_max_freq": "1000"}, None),
    ],
)
def test_cpus_are_grouped_by_what_is_known_of_them(files: dict[str, str], clusters: str | None) -> None:
    root = "/sys/devices/system/cpu"
    captures = {f"{root}/{name}": Captured(f"{root}/{name}", text.encode()) for name, text in files.items()}
    assert told(captures)["facts"].get("core_clusters") == clusters


def test_arm_cores_alone_tell_two_clusters() -> None:
    text = "\n\n".join(
        f"processor\t: {n}\nCPU implementer\t: 0x41\nCPU part\t: {part}"
        for n, part in enumerate(["0xd03", "0xd03", "0xd08", "0xfff"])
    )
    said = told({"/proc/cpuinfo": Captured("/proc/cpuinfo", text.encode())})
    assert said["facts"]["core_clusters"] == "0-1 2 3"
    assert said["facts"]["soc"] == "2x Cortex-A53 + 1x Cortex-A72 + 1x 0x41/0xfff"
