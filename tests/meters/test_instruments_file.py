"""Meters and switches in a lab file: what each type needs, and names that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from melt.errors import UsageError
from melt.files import load_lab

if TYPE_CHECKING:
    from pathlib import Path

PIXEL: dict[str, Any] = {"profile": "linux", "address": "adb+tcp://10.0.0.7:5555"}


def lab(folder: Path, **parts: Any) -> Path:
    path = folder / "lab.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "kind": "lab", **parts}), encoding="utf-8")
    return path


def refusal(folder: Path, **parts: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load_lab(lab(folder, **parts))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("meter", "words"),
    [
        ({"type": "joulscope", "boundary": "battery"}, "'meters.m.type' is 'joulscope', valid: 'monsoon'"),
        ({"type": "joulescope"}, "key 'meters.m.boundary' is missing"),
        ({"type": "joulescope", "boundary": "plug"}, "valid: 'rail'"),
        ({"type": "joulescope", "boundary": "wall", "port": "/dev/x"}, "'port' is no key of type 'joulescope'"),
        ({"type": "joulescope", "boundary": "wall", "supply_v": 4.0}, "'supply_v' is no key of type 'joulescope'"),
        ({"type": "ina2xx", "boundary": "wall", "chip": "ina219"}, "type 'ina2xx' needs 'max_current_a'"),
        ({"type": "csv", "boundary": "wall", "path": "x"}, "type 'csv' needs 'column'"),
        ({"type": "command", "boundary": "wall"}, "type 'command' needs 'argv'"),
        (
            {"type": "command", "boundary": "wall", "argv": ["x"]},
            "type 'command' needs 'gain_error': how far the instrument may be off, as a share of the value, e.g. 0.01",
        ),
        ({"type": "csv", "boundary": "wall", "path": "x", "column": "P"}, "type 'csv' needs 'gain_error': how far"),
        ({"type": "joulescope", "boundary": "wall", "latency_s": 1.0}, "'latency_s' is no key of type 'joulescope'"),
        ({"type": "command", "boundary": "wall", "argv": ["x"], "latency_s": 11}, "meters.m.latency_s"),
        ({"type": "command", "boundary": "wall", "argv": []}, "meters.m.argv"),
        ({"type": "command", "boundary": "wall", "argv": "wattmeter -v"}, "meters.m.argv"),
        ({"type": "ppk2", "boundary": "battery"}, "a ppk2 needs voltage_v"),
        ({"type": "ppk2", "boundary": "battery", "voltage_v": 4.0, "supply_v": 4.0}, "one of them"),
        ({"type": "monsoon", "boundary": "battery", "supply_v": 0}, "meters.m.supply_v"),
        ({"type": "csv", "boundary": "wall", "path": "x", "column": "P", "unit": "kw"}, "valid: 'w', 'mw'"),
    ],
)
def test_a_meter_that_cannot_be_is_told_with_what_it_needs(tmp_path: Path, meter: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, meters={"m": meter})


@pytest.mark.parametrize(
    ("switch", "words"),
    [
        ({"type": "uhubctl", "hub": "1-1"}, "type 'uhubctl' needs 'port'"),
        ({"type": "uhubctl", "hub": "1-1; reboot", "port": 1}, "usb_switches.s.hub"),
        ({"type": "ykush", "port": 0}, "usb_switches.s.port"),
        ({"type": "ykush", "port": 1, "hub": "1-1"}, "'hub' is no key of type 'ykush'"),
        ({"type": "command", "off": ["x"]}, "type 'command' needs 'on'"),
    ],
)
def test_a_switch_that_cannot_be_is_told_with_what_it_needs(tmp_path: Path, switch: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, usb_switches={"s": switch})


def test_a_name_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    meters = {"bench1": {"type": "joulescope", "boundary": "battery"}}
    switches = {"hub1": {"type": "uhubctl", "hub": "1-1", "port": 2}}
    said = refusal(tmp_path, devices={"pixel": {**PIXEL, "meter": "bench"}}, meters=meters)
    assert "device 'pixel' names the meter 'bench'" in said
    assert "did you mean 'bench1'?" in said
    said = refusal(tmp_path, devices={"pixel": {**PIXEL, "usb": "hub"}}, usb_switches=switches)
    assert "device 'pixel' names the switch 'hub'" in said
    assert "did you mean 'hub1'?" in said
    found = load_lab(
        lab(
            tmp_path,
            devices={"pixel": {**PIXEL, "meter": "bench1", "usb": "hub1"}},
            meters=meters,
            usb_switches=switches,
        )
    )
    assert found.meters["bench1"].boundary == "battery"
    assert found.usb_switches["hub1"].port == 2


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("adb://R58M123ABC", True),
        ("adb://", True),
        ("adb:R58M123ABC", True),
        ("adb://10.0.0.7:5555", False),
        ("adb://[fe80::1]:5555", False),
        ("adb://adb-R58M123ABC-x1y2z3._adb-tls-connect._tcp", False),
        ("adb+tcp://10.0.0.7", False),
        ("ssh://pi@pi5.lan", False),
        ("local:", False),
    ],
)
def test_a_device_that_would_be_cut_off_is_refused(tmp_path: Path, address: str, refused: bool) -> None:
    parts: dict[str, Any] = {
        "devices": {"pixel": {"profile": "linux", "address": address, "usb": "hub1"}},
        "usb_switches": {"hub1": {"type": "uhubctl", "hub": "1-1", "port": 2}},
    }
    if refused:
        said = refusal(tmp_path, **parts)
        assert "device 'pixel' is reached over the USB cable whose power 'hub1' switches" in said
        assert "adb+tcp://" in said
    else:
        assert load_lab(lab(tmp_path, **parts)).device("pixel").usb == "hub1"


def test_a_csv_files_path_is_beside_the_lab_file(tmp_path: Path) -> None:
    meters = {
        name: {"type": "csv", "boundary": "wall", "path": path, "column": "P", "gain_error": 0.01}
        for name, path in (("a", "log/m.csv"), ("b", "/var/log/m.csv"))
    }
    found = load_lab(lab(tmp_path, meters=meters)).meters
    assert (found["a"].path, found["b"].path) == (str(tmp_path / "log/m.csv"), "/var/log/m.csv")
