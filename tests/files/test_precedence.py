"""Command line > suite > lab > workload > profile > default, and the record says which it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from melt.errors import UsageError
from melt.files import PRESETS, Settings, check_assignments, flatten, resolve
from melt.files.settings import DEFAULTS, Protocol

ORDER = ["profile p", "workload w", "lab device d", "suite s", "command line"]
"""Weakest first."""
GROUPS = ("protocol", "precheck", "limits", "energy")


def test_the_strongest_file_that_says_something_wins_and_is_named() -> None:
    for said in range(1, 1 << len(ORDER)):
        layers = [(name, {"protocol.runs": 10 + n} if said >> n & 1 else {}) for n, name in enumerate(ORDER)]
        strongest = said.bit_length() - 1
        resolved = resolve(layers)["protocol.runs"]
        assert (resolved.value, resolved.source) == (10 + strongest, ORDER[strongest])


@given(st.lists(st.dictionaries(st.sampled_from([*DEFAULTS, "params.a", "params.b"]), st.integers()), max_size=5))
def test_every_key_comes_from_its_last_layer(layers: list[dict[str, Any]]) -> None:
    resolved = resolve((f"file {n}", values) for n, values in enumerate(layers))
    for key, found in resolved.items():
        last = max((n for n, values in enumerate(layers) if key in values), default=None)
        if last is None:
            assert found.source in ("default", "preset default")
        else:
            assert (found.value, found.source) == (layers[last][key], f"file {last}")


def test_without_a_word_every_setting_is_known_and_says_default() -> None:
    resolved = resolve([])
    assert {resolved[key].source for key in DEFAULTS} == {"default"}
    assert (resolved["protocol.preset"].value, resolved["protocol.runs"].source) == ("default", "preset default")
    every = {f"{group}.{key}" for group in GROUPS for key in type(getattr(Settings(), group)).model_fields}
    assert set(resolved) == every | {"cpus"}
    assert list(resolved) == sorted(resolved)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_in_what_no_file_says(preset: str) -> None:
    resolved = resolve([("workload w", {"protocol.min_n": 99}), ("suite s", {"protocol.preset": preset})])
    assert (resolved["protocol.min_n"].value, resolved["protocol.min_n"].source) == (99, "workload w")
    for key in PRESETS[preset].keys() - {"protocol.min_n"}:
        assert (resolved[key].value, resolved[key].source) == (PRESETS[preset][key], f"preset {preset}")


def test_the_presets_are_those_of_the_files_and_hold_the_same_keys() -> None:
    assert list(PRESETS) == ["quick", "default", "paper"]
    assert len({frozenset(values) for values in PRESETS.values()}) == 1
    assert [values["protocol.runs"] for values in PRESETS.values()] == [3, 5, 10]
    for name in PRESETS:
        assert Protocol.model_validate({"preset": name}).preset == name


def test_every_presets_value_is_one_that_a_file_may_say() -> None:
    for values in (*PRESETS.values(), DEFAULTS):
        assert check_assignments(values) == values


def test_a_preset_of_a_stronger_file_wins() -> None:
    resolved = resolve([("suite s", {"protocol.preset": "paper"}), ("command line", {"protocol.preset": "quick"})])
    assert (resolved["protocol.preset"].value, resolved["protocol.preset"].source) == ("quick", "command line")
    assert resolved["protocol.runs"].value == PRESETS["quick"]["protocol.runs"]


def test_an_unknown_preset_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="quick, default, paper"):
        resolve([("suite s", {"protocol.preset": "fast"})])


def test_only_what_a_file_says_is_flattened() -> None:
    assert flatten(Settings()) == {}
    said = Settings.model_validate({"params": {"a": 1}, "protocol": {"runs": 3}, "limits": {"wall_s": 5}, "cpus": "0"})
    assert flatten(said) == {"params.a": 1, "protocol.runs": 3, "limits.wall_s": 5.0, "cpus": "0"}


def test_a_null_that_is_written_down_switches_a_limit_off() -> None:
    said = {
        "precheck": {"zone_max_c": None, "slope_max_c_per_min": None},
        "limits": {"zone_max_c": None, "memory_bytes": None},
        "cpus": None,
    }
    above = flatten(Settings.model_validate(said))
    below = dict.fromkeys(above, 60.0)
    resolved = resolve([("lab device d", below), ("suite s", above)])
    assert {(resolved[key].value, resolved[key].source) for key in above} == {(None, "suite s")}
    assert len(above) == 5


def test_the_command_lines_settings_are_checked_as_a_files_are() -> None:
    assert check_assignments({"protocol.runs": 5, "params.a.b": "x", "cpus": 0}) == {
        "protocol.runs": 5,
        "params.a.b": "x",
        "cpus": "0",
    }
    for wrong in (
        {"protocol.rnus": 5},
        {"protocol.runs": "5"},
        {"protocol.runs.x": 5},
        {"speed": 1},
        {"params": 3},
        {"cpus": "a"},
        {"cpus": "0", "cpus.x": 1},
        {"cpus.x": 1, "cpus": [1]},
        {"": 1},
        {".": 1},
        {"protocol.": 1},
    ):
        with pytest.raises(ValidationError):
            check_assignments(wrong)
