"""The four kinds of file: a typo at any depth names the nearest key, and nothing is taken for something else."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from melt.errors import UsageError
from melt.files import (
    Lab,
    Profile,
    Suite,
    Workload,
    load_lab,
    load_profile,
    load_suite,
    load_workload,
)
from melt.files.workload import model_path
from melt.places import shipped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS: dict[str, Any] = {
    "params": {"threads": 2},
    "protocol": {
        "preset": "quick",
        "runs": 4,
        "min_s": 1.5,
        "min_n": 20,
        "warmup_s": 0.5,
        "warmup_n": 2,
        "idle_s": 0,
        "order": "blocks",
        "mode": "sustained",
        "seed": 7,
    },
    "precheck": {
        "zone_max_c": 40,
        "slope_max_c_per_min": 0.5,
        "max_wait_s": 60,
        "battery_min": 0.3,
        "foreign_load_max": 0.5,
    },
    "limits": {"wall_s": 900, "zone_max_c": 85, "memory_bytes": 1 << 30, "link_s": 5},
    "energy": {"idle": "never"},
    "cpus": "0,2-3",
}
WHOLE: dict[str, dict[str, Any]] = {
    "suite": {
        "name": "nightly",
        "about": "what for",
        "workloads": ["small"],
        "devices": {"names": ["local"], "tags": ["nightly"]},
        "sweep": {"params.threads": [1, 2], "cpus": ["0", "0-1"]},
        "canary": ["small"],
        **SETTINGS,
    },
    "workload": {
        "name": "small",
        "about": "what for",
        "engine": "onnxruntime",
        "model": {"make": "mlp", "seed": 3},
        "inputs": {"x": {"shape": [1, 8], "seed": 2}},
        "mode": "fixed",
        "prompt_tokens": 16,
        "prompt": "everyday/short-question",
        "generate_tokens": 8,
        **SETTINGS,
    },
    "lab": {
        "devices": {
            "pi5": {
                "profile": "linux",
                "address": "local:",
                "workdir": "/tmp/w",
                "tags": ["a"],
                "sysroot": "/host",
                "simulated": True,
                "meter": "bench",
                "usb": "hub1",
                **SETTINGS,
            }
        },
        "meters": {
            "bench": {
                "type": "joulescope",
                "boundary": "battery",
                "serial": "004000",
                "rate_hz": 100.0,
                "gain_error": 0.001,
                "offset_error_w": 0.002,
                "pulses": True,
            },
            "main": {"type": "monsoon", "boundary": "battery", "serial": "26589", "supply_v": 4.0},
            "kit": {"type": "ppk2", "boundary": "battery", "port": "/dev/ttyACM0", "voltage_v": 3.8},
            "pole": {
                "type": "ina2xx",
                "boundary": "board_input",
                "chip": "ina228",
                "bus": 1,
                "address": "0x45",
                "shunt_ohm": 0.015,
                "max_current_a": 10.0,
            },
            "file": {
                "type": "csv",
                "boundary": "wall",
                "path": "m.csv",
                "column": "P",
                "time_column": "t",
                "unit": "mw",
                "gain_error": 0.02,
            },
            "print": {"type": "command", "boundary": "wall", "argv": ["wattmeter"], "gain_error": 0.01},
        },
        "usb_switches": {
            "hub1": {"type": "uhubctl", "hub": "1-1.4", "port": 2, "settle_s": 1.0},
            "yk": {"type": "ykush", "port": 1, "serial": "YK1"},
            "own": {"type": "command", "off": ["relay", "0"], "on": ["relay", "1"]},
        },
    },
    "profile": {
        "name": "board",
        "about": "what for",
        "platform": "android",
        "verified": True,
        "readings": ["thermal"],
        "periods_s": {"thermal": 0.5},
        "clusters": [{"cpus": "0-3", "core": "Cortex-A76", "max_hz": 2400000000}],
        "sensors": {
            "whole": {
                "read": "thermal",
                "label": "VDD_IN",
                "quantity": "power",
                "boundary": "module",
                "provenance": "measured",
                "period_s": 0.05,
                "response": {
                    "refresh_s": 0.1,
                    "averages": True,
                    "lag_s": 0.02,
                    "lag_error_s": 0.01,
                    "gain_error": 0.01,
                    "offset_error": 0.02,
                    "calibrated": True,
                },
            }
        },
        "total": {"sum": ["whole"], "boundary": "module", "excludes": ["the carrier board"]},
        "as_root": True,
        "no_power": "it has none",
        "battery": {
            "capacity_mah": 4000,
            "voltage_v": 3.85,
            "floor": 0.4,
            "current_unit": "ma",
            "discharging": "positive",
            "calibrated": True,
        },
        "thermal": {"check": ["zone.*"], "ignore": ["cv*"]},
        "pin": {
            "governor": "performance",
            "cpu_hz": 1500000000,
            "files": {"/sys/class/devfreq/*gpu/governor": "performance"},
            "power_mode": "MAXN",
            "commands": {
                "stay-on": {
                    "read": ["settings", "get", "global", "stay_on"],
                    "set": ["svc", "power", "stayon", "true"],
                    "restore": ["settings", "put", "global", "stay_on", "{old}"],
                    "expect": "7",
                    "root": True,
                }
            },
            "awake": True,
        },
        "power_modes": {"MAXN": 0},
        "cpu": "armv8-a",
        "engines": {"onnxruntime": {"library": "/usr/lib/libonnxruntime.so"}},
        **SETTINGS,
    },
}
FREE = {
    *("params", "inputs", "sweep", "devices.pi5", "periods_s", "engines", "devices.pi5.params"),
    *("meters", "usb_switches", "sensors", "pin.files", "pin.commands", "power_modes"),
}
"""Mappings whose keys a person chooses, apart from those of the lab's devices."""


def write(folder: Path, kind: str, data: dict[str, Any], /, name: str | None = None, **head: Any) -> Path:
    path = folder / f"{name or data.get('name', kind)}.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "kind": kind, **head, **data}, sort_keys=False), encoding="utf-8")
    return path


def load(kind: str, path: Path) -> Suite | Workload | Lab | Profile:
    if kind == "suite":
        return load_suite(str(path))[0]
    if kind == "workload":
        return load_workload(str(path), path.parent)[0]
    if kind == "lab":
        return load_lab(path)
    return load_profile(path.stem, [path.parent])


def refusal(kind: str, path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load(kind, path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def places(data: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every key and every element."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*where, key)
        yield from places(value, (*where, key))


def at(data: Any, where: tuple[Any, ...]) -> Any:
    for part in where:
        data = data[part]
    return data


def dotted(where: tuple[Any, ...]) -> str:
    return ".".join(map(str, where))


EVERY_KEY = [(kind, where) for kind, data in WHOLE.items() for where in places(data) if isinstance(where[-1], str)]
FIXED_KEYS = [
    (kind, where)
    for kind, where in EVERY_KEY
    if dotted(where[:-1]) not in FREE - {"devices.pi5"} and not (kind == "lab" and where == ("devices", "pi5"))
]


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_with_every_key_is_read(tmp_path: Path, kind: str) -> None:
    assert load(kind, write(tmp_path, kind, WHOLE[kind])) is not None


def test_the_files_above_hold_every_key_there_is() -> None:
    for kind, model in (("suite", Suite), ("workload", Workload), ("profile", Profile)):
        assert set(WHOLE[kind]) == set(model.model_fields), kind
    for group in ("protocol", "precheck", "limits", "energy"):
        assert set(SETTINGS[group]) == set(type(getattr(Workload.model_construct(), group)).model_fields)


@pytest.mark.parametrize(("kind", "where"), FIXED_KEYS, ids=[f"{k}:{dotted(w)}" for k, w in FIXED_KEYS])
def test_a_typo_at_any_depth_names_the_file_the_place_and_the_nearest_key(
    tmp_path: Path, kind: str, where: tuple[str, ...]
) -> None:
    data = copy.deepcopy(WHOLE[kind])
    typo = f"{where[-1]}q"
    at(data, where[:-1])[typo] = copy.deepcopy(at(data, where))
    path = write(tmp_path, kind, data)
    sentence = refusal(kind, path)
    assert str(path) in sentence
    assert f"key '{dotted((*where[:-1], typo))}' is not known: did you mean '{where[-1]}'?" in sentence


@pytest.mark.parametrize(("kind", "where"), EVERY_KEY, ids=[f"{k}:{dotted(w)}" for k, w in EVERY_KEY])
def test_a_value_of_another_type_is_told_with_its_place(tmp_path: Path, kind: str, where: tuple[str, ...]) -> None:
    free = where[-2:-1] == ("params",) or where[0] == "sweep"
    wrong: dict[str, list[str]] = {"no": ["such", "thing"]}
    data = copy.deepcopy(WHOLE[kind])
    at(data, where[:-1])[where[-1]] = wrong
    path = write(tmp_path, kind, data, name=WHOLE[kind].get("name"))
    if (free and where[0] != "sweep") or where[-1] == "params":
        assert load(kind, path)  # the engine's own to check, or a mapping as it should be
        return
    assert f"key '{where[0]}" in refusal(kind, path).removeprefix(str(path))


@pytest.mark.parametrize(
    ("key", "values"),
    {
        "protocol.runs": [True, "3", 3.0, 0, -1, 1001, 10**400, None, [3], float("nan"), "yes"],
        "protocol.seed": [-1, 2**64, "1e3", True, 1.5],
        "protocol.min_s": [True, "1.5", -1, float("nan"), float("inf"), 1e300, 10**400, None],
        "protocol.preset": ["Quick", 3, True, None, ["quick"]],
        "protocol.order": ["random", None],
        "precheck.zone_max_c": [True, "40", float("nan"), float("inf"), float("-inf"), 1e9],
        "precheck.battery_min": [True, -0.1, 1.1, 30, "0.3"],
        "precheck.foreign_load_max": [0, -1, "half", float("inf")],
        "limits.wall_s": [0, -5, None, float("inf")],
        "limits.memory_bytes": [0, 0.5, 2**63, "1 GiB"],
        "energy.idle": ["always", False, None],
        "cpus": ["", "a", "3-1", "0-", "-1", "0,,1", "99999", "0;1", "0-2048", "0\n", -1, 1.5, True, [0], "1" * 5000],
    }.items(),
)
@pytest.mark.parametrize("kind", WHOLE)
def test_a_setting_out_of_its_range_is_refused_in_every_kind(
    tmp_path: Path, kind: str, key: str, values: list[Any]
) -> None:
    for number, value in enumerate(values):
        data = copy.deepcopy(WHOLE[kind])
        holder = data["devices"]["pi5"] if kind == "lab" else data
        *group, last = key.split(".")
        at(holder, tuple(group))[last] = value
        path = write(tmp_path, kind, data, name=f"case{number}")
        sentence = refusal(kind, path)
        assert key in sentence, (value, sentence)
        assert len(sentence) < len(str(path)) + 250


def test_a_cpu_alone_may_be_a_number(tmp_path: Path) -> None:
    workload, _ = load_workload(str(write(tmp_path, "workload", {**WHOLE["workload"], "cpus": 3})), tmp_path)
    assert workload.cpus == "3"


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("schema", [True, False, "1", 1.0, 0, -1, None, [1], {"a": 1}, float("nan")])
def test_a_schema_that_is_no_whole_number_is_refused(tmp_path: Path, kind: str, schema: Any) -> None:
    assert "'schema' must be a whole number" in refusal(kind, write(tmp_path, kind, WHOLE[kind], schema=schema))


@pytest.mark.parametrize("kind", WHOLE)
def test_a_newer_schema_is_refused_with_advice(tmp_path: Path, kind: str) -> None:
    for schema in (2, 10**4000):
        sentence = refusal(kind, write(tmp_path, kind, WHOLE[kind], schema=schema))
        assert "install a newer melt" in sentence
        assert len(sentence) < len(str(tmp_path)) + 200


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("other", [*WHOLE, "suit", None, True, ["suite"], {}, "x" * 100_000])
def test_another_kind_of_file_is_told_apart(tmp_path: Path, kind: str, other: Any) -> None:
    if other == kind:
        return
    sentence = refusal(kind, write(tmp_path, kind, WHOLE[kind], kind=other))
    assert f"write 'kind: {kind}'" in sentence
    assert len(sentence) < len(str(tmp_path)) + 250


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("suite", "name"),
        ("suite", "workloads"),
        ("workload", "name"),
        ("workload", "engine"),
        ("profile", "name"),
        ("lab", "devices.pi5.profile"),
        ("lab", "devices.pi5.address"),
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, kind: str, key: str) -> None:
    data = copy.deepcopy(WHOLE[kind])
    *group, last = key.split(".")
    del at(data, tuple(group))[last]
    assert f"key '{key}' is missing" in refusal(kind, write(tmp_path, kind, data, name="case"))


BAD_NAMES = ["", "A", "a b", "a/b", "../x", "..", ".", ".hidden", "a" * 65, "ü", "a\n", "a*", 7, None, True, ["a"]]


@pytest.mark.parametrize("kind", ["suite", "workload", "profile"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_cannot_be_a_folders_is_refused(tmp_path: Path, kind: str, name: Any) -> None:
    assert "'name'" in refusal(kind, write(tmp_path, kind, {**WHOLE[kind], "name": name}, name="case"))


@pytest.mark.parametrize("name", ["a", "0", "a" * 64, "yolo-v8.n_x", "-", "no"])
def test_a_name_of_the_allowed_letters_is_taken(tmp_path: Path, name: str) -> None:
    path = tmp_path / "case.yaml"
    path.write_text(f"schema: 1\nkind: suite\nname: {name!r}\nworkloads: [small]\n", encoding="utf-8")
    assert load_suite(str(path))[0].name == name


@pytest.mark.parametrize("name", [n for n in BAD_NAMES if isinstance(n, str)])
def test_a_device_or_tag_of_a_bad_name_is_refused(tmp_path: Path, name: str) -> None:
    device = {"profile": "linux", "address": "local:"}
    assert "devices" in refusal("lab", write(tmp_path, "lab", {"devices": {name: device}}))
    assert "devices" in refusal("lab", write(tmp_path, "lab", {"devices": {"a": {**device, "tags": [name]}}}))


def test_keys_that_are_no_words_are_refused(tmp_path: Path) -> None:
    for line in (
        "1: x",
        "true: x",
        "null: x",
        "1.5: x",
        '"a\\nb": x',
        '"": x',
        f"{'k' * 100_000}: x",
        "params: {1: 2}",
    ):
        path = tmp_path / "case.yaml"
        path.write_text(f"schema: 1\nkind: suite\nname: a\nworkloads: [a]\n{line}\n", encoding="utf-8")
        sentence = refusal("suite", path)
        assert sentence.isprintable()
        assert len(sentence) < len(str(path)) + 400


def test_a_null_group_is_told(tmp_path: Path) -> None:
    for group in ("params", "protocol", "precheck", "limits", "energy"):
        assert group in refusal("workload", write(tmp_path, "workload", {**WHOLE["workload"], group: None}))


def test_a_model_is_made_or_a_path_and_not_both(tmp_path: Path) -> None:
    for model in ({}, {"make": "mlp", "path": "m.onnx"}, {"seed": 1}, "m.onnx", {"hub": "a/b"}):
        assert "model" in refusal("workload", write(tmp_path, "workload", {**WHOLE["workload"], "model": model}))


@pytest.mark.parametrize("shape", [[0], [-1], [2**31 + 1], [1.0], ["1"], [True], [1] * 17, 3, "1x2"])
def test_an_input_shape_that_none_has_is_refused(tmp_path: Path, shape: Any) -> None:
    data = {**WHOLE["workload"], "inputs": {"x": {"shape": shape}}}
    assert "inputs.x.shape" in refusal("workload", write(tmp_path, "workload", data))


@pytest.mark.parametrize(
    "sweep",
    [
        {"threads": [1]},
        {"params.": [1]},
        {"params": [1]},
        {"protocol.runs": [1, 2]},
        {"params.a\nb": [1]},
        {"params.threads": []},
        {"params.threads": 1},
        {"params.threads": "12"},
        {"params.threads": [[1]]},
        {"params.threads": [None]},
        {"params.threads": [{"a": 1}]},
        {"params.name": ["x" * 65]},
        {"params.name": ["a\nb"]},
    ],
)
def test_a_sweep_varies_parameters_or_cpus_over_words_and_numbers(tmp_path: Path, sweep: Any) -> None:
    assert "sweep" in refusal("suite", write(tmp_path, "suite", {**WHOLE["suite"], "sweep": sweep}))


@pytest.mark.parametrize(
    "address", ["", "local", "ssh", "telnet://pi@pi5", "LOCAL:", "adb", 7, None, "local:" + "x" * 600]
)
def test_an_address_that_this_version_cannot_reach_is_refused(tmp_path: Path, address: Any) -> None:
    data = {"devices": {"pi5": {"profile": "linux", "address": address}}}
    assert "devices.pi5.address" in refusal("lab", write(tmp_path, "lab", data))


@pytest.mark.parametrize("workdir", ["relative", "~/x", "", "/" + "x" * 2000])
def test_a_work_folder_that_is_not_absolute_is_refused(tmp_path: Path, workdir: str) -> None:
    data = {"devices": {"pi5": {"profile": "linux", "address": "local:", "workdir": workdir}}}
    assert "devices.pi5.workdir" in refusal("lab", write(tmp_path, "lab", data))


def test_this_computer_is_in_every_lab_unless_it_names_one_so_itself(tmp_path: Path) -> None:
    assert load_lab(None).device("local").address == "local:"
    device = {"profile": "linux", "address": "local:", "cpus": "0"}
    assert list(load_lab(write(tmp_path, "lab", {"devices": {"pi5": device}})).devices) == ["local", "pi5"]
    own = load_lab(write(tmp_path, "lab", {"devices": {"local": device}}))
    assert own.device("local").cpus == "0"


def test_devices_are_chosen_by_name_and_tag_in_the_labs_order(tmp_path: Path) -> None:
    def device(*tags: str) -> dict[str, Any]:
        return {"profile": "linux", "address": "local:", "tags": list(tags)}

    lab = load_lab(write(tmp_path, "lab", {"devices": {"c": device("x"), "a": device(), "b": device("x", "y")}}))
    assert lab.choose(("b", "c", "b"), ()) == ["c", "b"]
    assert lab.choose((), ("x",)) == ["c", "b"]
    assert lab.choose(("a",), ("y",)) == ["a", "b"]
    assert lab.choose((), ()) == []


def test_an_unknown_device_tag_workload_or_profile_is_told_with_the_nearest(tmp_path: Path) -> None:
    device = {"profile": "linux", "address": "local:", "tags": ["nightly"]}
    lab = load_lab(write(tmp_path, "lab", {"devices": {"pixel": device}}))
    with pytest.raises(UsageError, match="'pixl' is not in the lab: did you mean 'pixel'"):
        lab.choose(("pixl",), ())
    with pytest.raises(UsageError, match="tag 'nightl': did you mean 'nightly'"):
        lab.choose((), ("nightl",))
    with pytest.raises(UsageError, match=r"no profile 'linx'.*did you mean 'linux'"):
        load_profile("linx")
    with pytest.raises(UsageError, match=r"no workload 'vit-tny'.*did you mean 'vit-tiny'"):
        load_workload("vit-tny", tmp_path)


@pytest.mark.parametrize("name", ["../linux", "/etc/passwd", "", "..", "x\0y", "x" * 5000, "a/b", "Linux", "*"])
def test_a_name_is_never_a_way_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "inner").mkdir()
    write(tmp_path, "profile", WHOLE["profile"], name="linux")
    with pytest.raises(UsageError, match="no profile"):
        load_profile(name, [tmp_path / "inner"])
    with pytest.raises(UsageError, match="no workload"):
        load_workload(name, tmp_path / "inner")


def test_a_profile_beside_the_lab_wins_over_a_shipped_one(tmp_path: Path) -> None:
    folder = tmp_path / "device_profiles"
    folder.mkdir()
    write(folder, "profile", {"name": "mine", "extends": "linux", "cpus": "1"})
    lab = load_lab(write(tmp_path, "lab", {"devices": {"pi5": {"profile": "mine", "address": "local:"}}}))
    profile = lab.profile(lab.device("pi5"))
    assert (profile.name, profile.cpus) == ("mine", "1")
    assert profile.readings == load_profile("linux").readings


def test_extends_joins_mappings_and_replaces_the_rest(tmp_path: Path) -> None:
    write(tmp_path, "profile", {**WHOLE["profile"], "name": "base"})
    above = {
        "name": "above",
        "extends": "base",
        "limits": {"wall_s": 5},
        "readings": ["load"],
        "params": {"spin": "no"},
    }
    write(tmp_path, "profile", above)
    profile = load_profile("above", [tmp_path])
    assert profile.limits.wall_s == 5
    assert profile.limits.zone_max_c == 85
    assert profile.readings == ("load",)
    assert profile.params == {"threads": 2, "spin": "no"}


def test_a_profile_inherits_neither_name_nor_that_it_was_verified(tmp_path: Path) -> None:
    write(tmp_path, "profile", {**WHOLE["profile"], "name": "base"})
    write(tmp_path, "profile", {"name": "above", "extends": "base"})
    assert load_profile("base", [tmp_path]).verified
    above = load_profile("above", [tmp_path])
    assert (above.verified, above.about) == (False, "")
    write(tmp_path, "profile", {"extends": "base"}, name="nameless")
    assert "key 'name' is missing" in refusal("profile", tmp_path / "nameless.yaml")


def test_a_mistake_below_is_told_of_the_file_that_has_it(tmp_path: Path) -> None:
    below = write(tmp_path, "profile", {**WHOLE["profile"], "name": "base", "reading": []})
    path = write(tmp_path, "profile", {"name": "above", "extends": "base"})
    assert refusal("profile", path).startswith(f"{below}: key 'reading' is not known: did you mean 'readings'")
    write(tmp_path, "profile", {**WHOLE["profile"], "name": "base"}, schema=2)
    assert str(below) in refusal("profile", path)


def test_a_chain_of_extends_ends(tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path, "profile", {"name": f"p{number}", "extends": f"p{number + 1}"})
    write(tmp_path, "profile", {"name": "p8"})
    assert load_profile("p4", [tmp_path]).name == "p4"
    assert "more than 5 deep: p2 → p3" in refusal("profile", tmp_path / "p2.yaml")
    write(tmp_path, "profile", {"name": "p8", "extends": "p7"})
    assert "in a circle or more than 5 deep: p7 → p8 → p7" in refusal("profile", tmp_path / "p7.yaml")
    write(tmp_path, "profile", {"name": "p8", "extends": "p8"})
    assert "circle" in refusal("profile", tmp_path / "p8.yaml")
    write(tmp_path, "profile", {"name": "p8", "extends": "p9x"})
    assert "no profile 'p9x'" in refusal("profile", tmp_path / "p8.yaml")
    for odd in (7, True, ["p1"], {"a": "b"}):
        write(tmp_path, "profile", {"name": "p8", "extends": odd})
        assert "'extends' must be the name" in refusal("profile", tmp_path / "p8.yaml")


def test_a_workload_beside_the_suite_wins_over_a_shipped_one(tmp_path: Path) -> None:
    path = write(tmp_path, "workload", {**WHOLE["workload"], "name": "vit-tiny"})
    assert load_workload("vit-tiny", tmp_path)[1] == path
    assert load_workload("mobilenetv3", tmp_path)[1].parent == shipped("workloads")
    (tmp_path / "sub").mkdir()
    other = write(tmp_path / "sub", "workload", WHOLE["workload"])
    assert load_workload("sub/small.yaml", tmp_path)[1] == other
    assert load_workload(str(other), tmp_path / "sub")[1] == other


def test_the_models_path_is_beside_the_workload_and_what_cannot_be_one_is_told(tmp_path: Path) -> None:
    def path_of(text: str) -> Path | None:
        file = write(tmp_path, "workload", {**WHOLE["workload"], "model": {"path": text}})
        return model_path(load_workload(str(file), tmp_path)[0], file)

    assert path_of("models/m.onnx") == tmp_path / "models" / "m.onnx"
    assert path_of("/abs/m.onnx") == type(tmp_path)("/abs/m.onnx")
    for odd in ("~no-such-person-here/m.onnx", "x" * 300):
        with pytest.raises(UsageError, match=r"model\.path"):
            path_of(odd)


@pytest.mark.parametrize("path", sorted(shipped("workloads").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_workload_and_suite_loads_under_its_own_name(path: Path, tmp_path: Path) -> None:
    kind = re.search(r"^kind: (\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert kind is not None
    loaded = load(kind[1], path)
    assert isinstance(loaded, Suite | Workload)
    assert loaded.name == path.stem
    for reference in loaded.workloads if isinstance(loaded, Suite) else ():
        assert load_workload(reference, path.parent)[0].name == reference


def test_every_shipped_profile_loads_under_its_own_name() -> None:
    names = [path.stem for path in shipped("device_profiles").glob("*.yaml")]
    assert "linux" in names
    for name in names:
        assert load_profile(name).name == name


@pytest.mark.parametrize("name", ["demo", "demo.yaml", "workloads/demo.yaml", "workloads/demo"])
def test_a_shipped_suite_is_found_by_name_from_any_folder(name: str) -> None:
    # the tests run in the checkout, where workloads/demo.yaml exists; the other forms do not
    assert load_suite(name)[0].name == "demo"


@pytest.mark.parametrize("name", ["", ".", "/", "no/such", "other/demo.yaml", "x" * 5000, "a\0b", "demo/", "~"])
def test_a_suite_that_is_not_there_is_a_usage_error(name: str) -> None:
    if name == "demo/":
        assert load_suite(name)[0].name == "demo"
        return
    with pytest.raises(UsageError):
        load_suite(name)
