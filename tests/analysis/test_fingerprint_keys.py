"""The registry of keys is what runs really write: held against the real engines' identities and the real record."""

from __future__ import annotations

import dataclasses
import platform
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from melt import makers
from melt.analysis.fingerprint import AXES, KEYS, NAMED_BY, axis_keys, canonical, differences
from melt.engines import ENGINES, Prepared, Request, StopRules, engine_named
from melt.errors import UsageError
from melt.importers.base import fingerprint as importer_fingerprint
from melt.makers import gguf
from melt.records import Resolved
from melt.run import record

if TYPE_CHECKING:
    from collections.abc import Mapping

STOP = StopRules(warmup_s=0.0, warmup_n=1, min_s=0.1, min_n=11)
OF_IMPORTERS = {"imported"}
RESOLVED = {
    "cpus": Resolved(value=None, source="default"),
    "protocol.mode": Resolved(value="burst", source="preset quick"),
}
OF_THE_RECORD = {"device"}
"""Stands in the record itself, and in the index as a column."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    """Each engine's own `prepare`; only the compiler is left out, whose program is in no identity."""
    folder = tmp_path_factory.mktemp("models")
    makers.make("mlp", folder / "model.onnx")
    gguf.make("llm-toy", folder / "model.gguf")
    (folder / "program").write_text("#!/bin/sh\n")
    machine = platform.machine()
    requests = {
        "onnxruntime": Request("small", folder / "model.onnx", machine, {}, {}, STOP, library="/there/lib.so"),
        "llama.cpp": Request("small", folder / "model.gguf", machine, {}, {}, STOP, library="/there/runner"),
        "command": Request("small", None, machine, {"program": str(folder / "program")}, {}, STOP),
        "roofline": Request("small", None, machine, {}, {}, STOP, library="/there/roofline"),
    }
    assert set(requests) == set(ENGINES), "a new engine writes keys that this test does not see"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("melt.engines.onnxruntime.build", lambda *_, **__: folder / "program")
        return {name: engine_named(name).prepare(request) for name, request in requests.items()}


def fingerprint(name: str, prepared: Prepared) -> Any:
    """What a run of this engine writes, composed by the record's own function."""
    device = SimpleNamespace(
        total=None,
        simulated=False,
        machine="x86_64",
        profile=SimpleNamespace(name="linux"),
        fact=lambda _: None,
    )
    cell = SimpleNamespace(workload="small", resolved=RESOLVED)
    context = SimpleNamespace(device=device, cell=cell, engine=engine_named(name))
    return record._fingerprint(context, prepared, {}, {})  # type: ignore[arg-type]


def written(prepared: Mapping[str, Prepared], part: str) -> set[str]:
    """What a run of each engine writes; the registry also has the one key that all importers add to theirs."""
    found = (getattr(fingerprint(name, one), part) for name, one in prepared.items())
    return {key for keys in found for key in keys}


@pytest.mark.parametrize("part", ["hard", "soft"])
def test_every_key_that_a_run_writes_is_in_the_registry_and_none_else(prepared: dict[str, Prepared], part: str) -> None:
    listed = {key.name for key in KEYS.values() if key.hard is (part == "hard")}
    assert written(prepared, part) == listed - OF_THE_RECORD - OF_IMPORTERS


def test_what_the_registry_has_of_importers_they_write() -> None:
    assert importer_fingerprint("llama-bench", {}).hard.keys() >= OF_IMPORTERS


def test_a_key_that_no_registry_knows_would_be_seen(prepared: dict[str, Prepared]) -> None:
    """The test above, held against an engine that writes one more."""
    one = prepared["roofline"]
    more = dataclasses.replace(one, identity={**one.identity, "new_parameter": 1})
    assert "new_parameter" in written({"roofline": more}, "hard") - set(KEYS)


def test_every_key_says_how_its_value_is_obtained() -> None:
    assert all(len(key.source) > 8 for key in KEYS.values())
    assert {name for name, key in KEYS.items() if key.scope == "energy"} == {"energy_total", "synthetic_model"}


def test_what_a_sweep_of_parameters_changes_is_within_its_axis() -> None:
    """A parameter that others are derived from takes them along."""
    assert axis_keys("threads") >= {"threads", "threads_batch", "workload"}
    assert axis_keys("prompt_tokens") >= {"prompt_tokens", "context"}
    assert axis_keys("session") == frozenset()
    assert "device" in axis_keys("device")
    assert "workload" not in axis_keys("device") | axis_keys("power_mode") | axis_keys("engine_version")
    assert axis_keys("mlock") == {"mlock", "workload"}


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_is_made_of_hard_keys_that_exist(axis: str) -> None:
    assert axis_keys(axis) <= {key.name for key in KEYS.values() if key.hard}
    assert set(NAMED_BY.get(axis, ())) <= axis_keys(axis)


def test_a_derived_key_of_the_real_engine_stays_within_the_axis(prepared: dict[str, Prepared]) -> None:
    """`threads` of llama.cpp carries `threads_batch`; a longer prompt carries `context`."""
    request = prepared["llama.cpp"].request
    for axis, params in (("threads", {"threads": 3}), ("prompt_tokens", {"prompt_tokens": 700})):
        other = engine_named("llama.cpp").prepare(dataclasses.replace(request, params=params))
        a, b = prepared["llama.cpp"].identity, other.identity
        assert len(differences(a, b)) == 2, "the axis is not a single key"
        assert differences(a, b, axis_keys(axis)) == []


def test_an_axis_that_is_none_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'threads'"):
        axis_keys("thread")
    with pytest.raises(UsageError, match="soft"):
        axis_keys("kernel")


def test_differences_are_of_values_and_not_of_how_they_were_written() -> None:
    assert differences({"temperature": 0.0, "args": ("a",)}, {"temperature": 0, "args": ["a"]}) == []
    assert canonical(True) != canonical(1)
    assert canonical({"b": 1, "a": 2.0}) == canonical({"a": 2, "b": 1})


def test_what_is_not_known_on_both_sides_is_alike_and_on_one_side_is_not() -> None:
    assert differences({"governor": None}, {}) == []
    (one,) = differences({"governor": None}, {"governor": "performance"})
    assert (one.key, one.a, one.b, one.hard) == ("governor", None, "performance", True)


def test_an_unknown_key_is_hard_and_soft_ones_are_not() -> None:
    found = differences({"zeta": 1, "kernel": "6.1", "threads": 1}, {"zeta": 2, "kernel": "6.6", "threads": 2})
    assert [(one.key, one.hard) for one in found] == [("threads", True), ("kernel", False), ("zeta", True)]
    assert "does not know" in found[-1].source
    assert differences({"threads": 1}, {"threads": 2}, frozenset({"threads"})) == []


def test_the_page_on_comparing_names_every_key() -> None:
    page = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    said = {word for line in page.splitlines() for word in re.findall(r"`([a-z0-9_]+)`", line)}
    assert set(KEYS) - said == set()
