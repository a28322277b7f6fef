"""Profiles: what the shipped ones say, the mistakes that are told, the page on them, and a board that needs no code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from readings.readings_bundle import CAPTURED, read

from melt.device.sensors import understood
from melt.errors import UsageError
from melt.files import Profile, load_lab, load_profile
from melt.files.profile import BatterySpec
from melt.native.levels import LEVELS, choose_level
from melt.places import shipped
from melt.readings import READINGS
from melt.records import BatteryNote

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "profiles.md"
SHIPPED = sorted(path.stem for path in shipped("device_profiles").glob("*.yaml"))
GENERIC = {"android", "linux", "jetson", "raspberry-pi"}
NAMED = [name for name in SHIPPED if name not in GENERIC]
every_profile = pytest.mark.parametrize("name", SHIPPED)
every_named = pytest.mark.parametrize("name", NAMED)


def board(folder: Path, /, **keys: Any) -> Path:
    data = {"schema": 1, "kind": "profile", "name": "board", "readings": ["ina3221"], **keys}
    path = folder / f"{data['name']}.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def rail(boundary: str = "rail", quantity: str = "power") -> dict[str, str]:
    return {"read": "ina3221", "label": "VDD", "quantity": quantity, "boundary": boundary}


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_profile(path.stem, [path.parent])
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: key '")
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


# ---------------------------------------------------------------------------------------------------- what is shipped


def test_the_boards_that_were_promised_are_shipped() -> None:
    phones = {"pixel-6a", "pixel-7", "pixel-8", "galaxy-s23", "galaxy-s24"}
    jetsons = {"jetson-nano", "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-agx-xavier"}
    assert set(SHIPPED) == {*GENERIC, *phones, *jetsons, "raspberry-pi-4", "raspberry-pi-5", "orange-pi-5"}


@every_profile
def test_only_what_somebody_has_run_says_that_it_was_verified(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.about
    assert profile.verified is (name == "linux")


@every_named
def test_a_named_profile_tells_its_cores_its_cooling_target_and_where_its_energy_comes_from(name: str) -> None:
    profile = load_profile(name)
    assert sum(len(list(_cpus(cluster.cpus))) for cluster in profile.clusters) >= 4
    assert all(cluster.max_hz and 1e9 < cluster.max_hz < 4e9 for cluster in profile.clusters)
    assert profile.precheck.zone_max_c is not None
    assert profile.thermal != Profile.model_fields["thermal"].default
    assert (profile.total is None) != (profile.no_power is None)
    assert profile.total is None or profile.total.excludes
    assert profile.pin.governor or profile.pin.awake


def _cpus(text: str) -> set[int]:
    spans = [part.partition("-") for part in text.split(",")]
    return {cpu for first, _, last in spans for cpu in range(int(first), int(last or first) + 1)}


@every_named
def test_the_level_of_a_named_profile_is_one_that_llama_cpp_is_compiled_for(name: str) -> None:
    level = {level.name: level for level in LEVELS}[load_profile(name).cpu or ""]
    assert level.machine == "aarch64"
    assert choose_level("aarch64", level.needs) == level


@every_profile
def test_a_phone_is_an_android_and_has_a_battery_whose_gauge_nobody_has_calibrated(name: str) -> None:
    profile = load_profile(name)
    phone = name == "android" or name.startswith(("pixel", "galaxy"))
    assert profile.platform == ("android" if phone else "linux")
    assert (profile.battery is not None) is phone
    if profile.battery:
        assert not profile.battery.calibrated
        assert name == "android" or profile.battery.capacity_mah


@every_named
def test_what_a_profile_says_beyond_its_parents_names_a_source(name: str) -> None:
    text = (shipped("device_profiles") / f"{name}.yaml").read_text(encoding="utf-8")
    assert re.search(r"^ *# source: \S", text, re.MULTILINE)


def test_the_memory_of_an_agx_orin_is_not_counted_twice() -> None:
    """NVIDIA's guide: the memory's rail is a part of VIN_SYS_5V0, and the module has no rail for its total."""
    profile = load_profile("jetson-agx-orin")
    assert profile.total is not None
    labels = {profile.sensors[name].label for name in profile.total.sum}
    assert labels == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}
    assert "VDDQ_VDD2_1V8AO" in {spec.label for spec in profile.sensors.values()}


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-orin-nano", "jetson-orin-nx"])
def test_a_jetson_with_a_rail_for_its_total_adds_nothing_to_it(name: str) -> None:
    profile = load_profile(name)
    assert profile.total is not None
    (whole,) = profile.total.sum
    assert profile.sensors[whole].label in ("POM_5V_IN", "VDD_IN")


# ----------------------------------------------------------------------------------------------------- what is refused


def command(**words: Any) -> dict[str, Any]:
    """A profile's keys that hold a state by these commands."""
    return {
        "pin": {"commands": {"mode": {"read": ["cat"], "set": ["true"], "restore": ["true"], "expect": "on"} | words}}
    }


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (
            {"sensors": {"gpu": rail()}, "total": {"sum": ["gpo"], "boundary": "module"}},
            "key 'total.sum' names 'gpo', which is not in 'sensors': did you mean 'gpu'?",
        ),
        (
            {"total": {"sum": ["gpu"], "boundary": "module"}},
            "key 'total.sum' names 'gpu', which is not in 'sensors': none is known",
        ),
        (
            {"sensors": {"volts": rail(quantity="voltage")}, "total": {"sum": ["volts"], "boundary": "module"}},
            "key 'total.sum' names 'volts', which is of voltage, not power or energy",
        ),
        (
            {"sensors": {"gpu": rail()}, "total": {"sum": ["gpu", "gpu"], "boundary": "module"}},
            "key 'total.sum' names 'gpu' twice",
        ),
        (
            {"sensors": {"a": rail("module"), "b": rail("board_input", "energy"), "c": rail()}},
            "key 'sensors': a and b each claim to hold the whole device: say with 'total' which of them is its total",
        ),
        (
            {"pin": {"power_mode": "MAXM"}, "power_modes": {"MAXN": 0}},
            "key 'pin.power_mode' is 'MAXM', which is not in 'power_modes': did you mean 'MAXN'?",
        ),
        ({"pin": {"power_mode": "MAXN"}}, "key 'pin.power_mode' is 'MAXN', and the profile has no 'power_modes'"),
        (
            {"clusters": [{"cpus": "0-3", "core": "A55"}, {"cpus": "3", "core": "A76"}]},
            "key 'clusters.1.cpus': CPU 3 is in clusters.0 already",
        ),
        (
            {"pin": {"awake": True}},
            "key 'pin.awake' is true, and melt knows no way to keep a device of platform 'linux'",
        ),
        ({"pin": {"files": {"/sys/../tmp/x": "1"}}}, "key 'pin.files./sys/../tmp/x.[key]': a part of it is '..'"),
        ({"pin": {"files": {"/sys/class/..": "1"}}}, "key 'pin.files./sys/class/...[key]': a part of it is '..'"),
        (command(read=["cat"] * 30, set=["true"] * 18), "key 'pin.commands.mode': its three commands are 49 words"),
        (command(set=["x" * 9000]), "key 'pin.commands.mode': its three commands are 3 words and 9010 bytes long"),
        (command(expect="ü" * 129), "key 'pin.commands.mode': its 'expect' is longer than 256 bytes"),
    ],
)
def test_what_contradicts_itself_is_told_with_file_and_key(
    tmp_path: Path, keys: Mapping[str, Any], sentence: str
) -> None:
    assert refusal(board(tmp_path, **keys)).startswith(sentence)


def test_what_is_near_to_those_mistakes_is_none(tmp_path: Path) -> None:
    board(
        tmp_path,
        sensors={"a": rail("module"), "b": rail("rail"), "c": rail("soc"), "v": rail("module", "voltage")},
        clusters=[{"cpus": "0,2", "core": "A55"}, {"cpus": "1,3", "core": "A76"}],
        pin={"power_mode": "MAXN"},
        power_modes={"MAXN": 0},
    )
    assert load_profile("board", [tmp_path]).total is None
    files = {"/sys/class/*..*/..x": "1"}
    board(tmp_path, name="three", pin=command(set=["true"] * 46, expect="ü" * 128)["pin"] | {"files": files})
    assert load_profile("three", [tmp_path]).pin.files == files
    board(
        tmp_path,
        name="two",
        sensors={"a": rail("module"), "b": rail("board_input")},
        total={"sum": ["b"], "boundary": "board_input"},
    )
    assert load_profile("two", [tmp_path]).total is not None


def test_a_contradiction_below_is_told_of_the_file_that_has_it(tmp_path: Path) -> None:
    below = board(tmp_path, pin={"power_mode": "MAXN"})
    (tmp_path / "above.yaml").write_text("schema: 1\nkind: profile\nname: above\nextends: board\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_profile("above", [tmp_path])
    assert str(caught.value).startswith(f"{below}: key 'pin.power_mode'")


def test_null_lets_go_of_what_a_profile_below_holds(tmp_path: Path) -> None:
    board(tmp_path, extends="jetson", pin={"governor": None})
    assert load_profile("board", [tmp_path, shipped("device_profiles")]).pin.governor is None


def test_energy_is_converted_to_charge_only_where_capacity_and_voltage_are_known() -> None:
    assert BatterySpec(capacity_mah=4000, voltage_v=3.88).note == BatteryNote(capacity_mah=4000, voltage_v=3.88)
    assert BatterySpec(capacity_mah=4000).note is None
    assert BatterySpec(voltage_v=3.88).note is None


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_pages_reference_is_what_the_schema_says(tmp_path: Path) -> None:
    checked = [sys.executable, str(ROOT / "scripts" / "profile_reference.py"), "--check"]
    assert subprocess.run(checked, timeout=120, check=False).returncode == 0, "run scripts/profile_reference.py"
    # and a page that is not would be seen
    (tmp_path / "scripts").mkdir()
    (tmp_path / "docs").mkdir()
    script = Path(shutil.copy(ROOT / "scripts" / "profile_reference.py", tmp_path / "scripts"))
    page = tmp_path / "docs" / "profiles.md"
    page.write_text(PAGE.read_text(encoding="utf-8").replace("`clusters[].core`", "`clusters[].cor`"), encoding="utf-8")
    command = [sys.executable, str(script)]
    environment = {"PYTHONPATH": str(ROOT)}
    assert subprocess.run([*command, "--check"], env=environment, timeout=120, check=False).returncode == 1
    assert subprocess.run(command, env=environment, timeout=120, check=False).returncode == 0
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_the_page_names_every_shipped_profile_and_every_boundary() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page.partition("| for | profiles |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z0-9-]+)`", table)) == set(SHIPPED)
    for boundary in ("rail", "soc", "module", "board_input", "battery", "wall"):
        assert re.search(rf"^\| `{boundary}` \| \S", page, re.MULTILINE)


# --------------------------------------------------------------------------------------------------- a board of yours


def test_a_new_board_is_one_file_and_one_capture_and_no_code(tmp_path: Path) -> None:
    """The page's own example, beside a lab file, against the answers of a board that nobody has told melt of."""
    (example,) = [
        text
        for text in re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        if "name: my-board" in text
    ]
    (tmp_path / "device_profiles").mkdir()
    (tmp_path / "device_profiles" / "my-board.yaml").write_text(example, encoding="utf-8")
    lab = tmp_path / "lab.yaml"
    lab.write_text(
        'schema: 1\nkind: lab\ndevices:\n  desk: {profile: my-board, address: "ssh://me@desk"}\n', encoding="utf-8"
    )
    capture = (
        "Composed for this test: a board that measures its input and one rail.\n"
        "=== /sys/class/hwmon/hwmon7/name\nboardmon\n"
        "=== /sys/class/hwmon/hwmon7/power1_input\n3250000\n=== /sys/class/hwmon/hwmon7/power1_label\nVIN\n"
        "=== /sys/class/hwmon/hwmon7/power2_input\n1125000\n=== /sys/class/hwmon/hwmon7/power2_label\nVDD_CPU_0\n"
        "=== /sys/class/thermal/thermal_zone4/type\nsoc-thermal\n=== /sys/class/thermal/thermal_zone4/temp\n41000\n"
    )
    mine = load_lab(lab)
    profile = mine.profile(mine.device("desk"))
    captures = read(capture.encode())
    told = understood(profile, captures)
    values = {c.name: c.parse(captures[s.path or ""].data) for s in told.sensors for c in s.channels}
    assert (values["input"], values["cores"], values["zone.soc-thermal"]) == (3.25, 1.125, 41.0)
    assert told.total is not None
    assert (told.total.sum, told.total.boundary) == (("input",), "board_input")


def test_what_is_captured_of_a_shipped_board_is_there() -> None:
    cases = [
        case
        for path in (ROOT / "tests" / "device" / "expected_profiles").glob("*.yaml")
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]
    assert all((CAPTURED / f"{bundle}.txt").is_file() for case in cases for bundle in case["captured"])
    assert all(name in READINGS for name in load_profile("linux").readings)
