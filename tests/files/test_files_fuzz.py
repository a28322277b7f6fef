"""Whatever a file holds, it is read or it is a UsageError in one short sentence."""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from melt.errors import UsageError
from melt.files import Workload, load_lab, load_profile, load_suite, load_workload, parse_assignment
from melt.files.prompts import read_prompts
from melt.files.reader import check_model, parse_yaml
from melt.places import shipped

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS: dict[str, Callable[[Path], Any]] = {
    "suite": lambda path: load_suite(str(path)),
    "workload": lambda path: load_workload(str(path), path.parent),
    "lab": load_lab,
    "profile": lambda path: load_profile(path.stem, [path.parent]),
    "prompts": read_prompts,
}
# fmt: off
WORDS = st.sampled_from((
    "schema", "kind", "name", "extends", "workloads", "devices", "sweep", "params", "protocol", "preset", "runs",
    "seed", "order", "precheck", "zone_max_c", "limits", "wall_s", "energy", "idle", "cpus", "engine", "model",
    "make", "path", "inputs", "shape", "profile", "address", "workdir", "tags", "readings", "periods_s", "thermal",
    "check", "pin", "governor", "engines", "library", "suite", "workload", "lab", "quick", "local:", "onnxruntime",
    "0", "1", "-1", "1e3", ".nan", ".inf", "010", "on", "no", "true", "null", "~", "0-3", "params.threads",
))
# fmt: on
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), WORDS, st.text(max_size=20))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | SCALARS, inner, max_size=6),
    max_leaves=25,
)
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=20)
YAML_TEXT = st.lists(
    st.one_of(WORDS, st.sampled_from(list("[]{}:,-?!&*#|>'\"%@` \n\t")), st.text(max_size=8)), max_size=40
).map("".join)


def only_a_usage_error(read: Callable[[], Any]) -> None:
    sentence = ""
    try:
        read()
    except UsageError as error:
        sentence = str(error)
    assert len(sentence) < 2000
    assert "\n" not in sentence


@given(st.sampled_from(list(KINDS)), st.binary(max_size=200) | YAML_TEXT.map(lambda t: t.encode(errors="replace")))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_read_or_a_usage_error(kind: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.yaml"
        path.write_bytes(f"schema: 1\nkind: {kind}\n".encode() + data)
        only_a_usage_error(lambda: KINDS[kind](path))


@given(st.sampled_from(list(KINDS)), st.dictionaries(WORDS | SCALARS, TREES, max_size=6))
@example("suite", {"name": "a", "workloads": ["a"], "sweep": {"params.x": [float("nan")]}})
@settings(max_examples=200, deadline=None)
def test_random_trees_are_read_or_a_usage_error(kind: str, data: dict[Any, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.yaml"
        path.write_text(yaml.safe_dump({**data, "schema": 1, "kind": kind}, sort_keys=False), encoding="utf-8")
        only_a_usage_error(lambda: KINDS[kind](path))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_good_file_with_one_value_replaced_is_read_or_a_usage_error(data: st.DataObject) -> None:
    good = yaml.safe_load((shipped("workloads") / "vit-tiny.yaml").read_text(encoding="utf-8"))
    place = data.draw(st.sampled_from([(key,) for key in good] + [("model", "make"), ("model", "seed")]))
    holder = good
    for part in place[:-1]:
        holder = holder[part]
    holder[place[-1]] = data.draw(TREES)
    only_a_usage_error(lambda: check_model(good, Path("w.yaml"), "workload", Workload))


@given(st.text(max_size=60) | YAML_TEXT)
@settings(max_examples=500, deadline=None)
def test_random_settings_of_the_command_line_are_read_or_a_usage_error(text: str) -> None:
    only_a_usage_error(lambda: parse_assignment(text))
    only_a_usage_error(lambda: parse_assignment(f"params.x={text}"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PRINTABLE,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PRINTABLE, inner, max_size=4),
        max_leaves=15,
    )
)
@settings(max_examples=150, deadline=None)
def test_json_is_read_as_json(tree: Any) -> None:
    text = json.dumps({"tree": tree}, ensure_ascii=False)
    depth = max(itertools.accumulate((c in "[{") - (c in "]}") for c in re.sub(r'"(\\.|[^"])*"', "", text)))
    if depth < 16:
        assert repr(parse_yaml(text)) == repr({"tree": tree})


def test_a_text_that_takes_long_to_read_is_bounded_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("schema: 1\nkind: suite\nname: a\nworkloads: [" + "a, " * 30_000 + "a]\n", encoding="utf-8")
    assert len(load_suite(str(path))[0].workloads) == 30_001
    path.write_text("a: {" * 60_000, encoding="utf-8")
    with pytest.raises(UsageError, match="nested"):
        load_suite(str(path))
