"""What every importer keeps to, whoever's results it reads: its own files alone, and never a traceback."""

from __future__ import annotations

import json
import math
import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from samples import STUDY, sample, samples_of

from melt.importers import IMPORTERS, Importer, gather, plan, publish
from melt.records import METRIC_VERSION
from melt.store import open_session, read_runs

if TYPE_CHECKING:
    from pathlib import Path

EVERY = pytest.mark.parametrize("importer", IMPORTERS, ids=lambda importer: importer.tool)
SAMPLES = [(importer, name) for importer in IMPORTERS for name in samples_of(importer.tool)]
FILES = [(importer, name) for importer, name in SAMPLES if importer.tool != STUDY]
"""The study's is a folder, whose importer bounds its files itself and has tests of its own for what is cut."""
JSONS = [(importer, name) for importer, name in FILES if name.endswith((".json", ".jsonl"))]


def _over(samples: list[tuple[Importer, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("importer", "name"), samples, ids=lambda what: getattr(what, "tool", what))


EACH, EACH_FILE, EACH_JSON = _over(SAMPLES), _over(FILES), _over(JSONS)
ODD: tuple[Any, ...] = (
    None,
    -1,
    0,
    1e300,
    -(1 << 70),
    10**400,
    -(10**400),
    -1e308,
    "1e5",
    "٣",
    math.nan,
    math.inf,
    True,
    "",
    "x" * 5000,
    [],
    {},
    [[]],
    "\0é\u202e",
)


@pytest.fixture
def path(importer: Importer, name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample(importer.tool, name, tmp_path_factory.mktemp("sample"))


def test_every_tool_that_is_promised_is_there() -> None:
    tools = ["llama-bench", "pytest-benchmark", "google-benchmark", "onnxruntime-perf-test", "melt-study-2024"]
    assert [importer.tool for importer in IMPORTERS] == tools


@EACH
def test_only_its_own_importer_recognises_a_sample(importer: Importer, name: str, path: Path) -> None:
    assert [one.tool for one in IMPORTERS if one.recognises(path)] == [importer.tool]


@EACH
def test_a_run_says_whose_it_is_and_keeps_its_file(importer: Importer, name: str, path: Path) -> None:
    found = importer.read(path)
    assert found.tool == importer.tool
    assert found.runs
    for run in found.runs:
        assert run.note.tool == importer.tool
        assert run.note.source == str(path)
        assert run.fingerprint.hard["imported"] == importer.tool
        assert run.fingerprint.hard["metric_version"] == METRIC_VERSION
        assert run.raw
        assert all(file.is_file() for file in run.raw.values())
        assert (run.cell or run.workload).startswith(run.workload)
        assert run.metrics or run.series
        for metric in run.metrics.values():
            assert metric.value is not None or ": " in str(metric.reason)


@EACH
def test_what_is_not_told_is_null(importer: Importer, name: str, path: Path) -> None:
    for run in importer.read(path).runs:
        hard = run.fingerprint.hard
        assert {"governor", "power_mode", "page_cache", "model_sha256", "synthetic_model"} <= hard.keys()
        assert hard["governor"] is hard["page_cache"] is None


@EACH
def test_it_goes_through_the_store_and_comes_back(importer: Importer, name: str, path: Path, tmp_path: Path) -> None:
    found = gather(path, IMPORTERS)
    stored = publish(plan(found.runs, tmp_path, "them"), tmp_path)
    back, unreadable = read_runs(tmp_path)
    assert not unreadable
    assert sorted(run.record.run_id for run in back) == sorted(run.record.run_id for run in stored)
    for run in back:
        assert run.record.imported is not None
        assert run.record.imported.tool == importer.tool
        assert any("imported" in caveat for caveat in run.record.caveats)
        assert {file for file in run.record.files if (run.path / file).is_file()} == set(run.record.files) != set()
        assert all(metric.version == METRIC_VERSION for metric in run.record.metrics.values())
        assert not open_session(run.path.parent).todo()


@EVERY
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"[" * 200_000,
        b'{"machine_info":' * 100_000,
        b"\xff\xfe" + "no table, no number".encode("utf-16-le"),
        b'{"context": {"num_cpus": 1}, "benchmarks": [}',
        b"a,b,c\n1,2,3\n",
        b"{}",
        b"null",
        random.Random(1).randbytes(100_000),
    ],
    ids=["empty", "zeroes", "deep", "deep objects", "utf-16", "broken", "a table", "object", "null", "noise"],
)
def test_what_is_nobodys_raises_nothing(importer: Importer, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    assert importer.recognises(path) in (True, False)
    found = importer.read(path)
    assert not found.runs
    assert all(path.name in problem for problem in found.problems)
    asked = gather(path, IMPORTERS, importer.tool)
    assert asked.problems
    assert path.name in asked.problems[0]


@EVERY
def test_a_path_that_is_no_file_raises_nothing(importer: Importer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name in ("pipe", "folder.json", "nowhere", "not there"):
        assert not importer.recognises(tmp_path / name)
        assert not importer.read(tmp_path / name).runs


@EACH_FILE
def test_a_file_of_a_gigabyte_is_told_and_not_read(importer: Importer, name: str, path: Path, tmp_path: Path) -> None:
    large = tmp_path / path.name
    large.write_bytes(path.read_bytes())
    os.truncate(large, 1 << 30)
    found = importer.read(large)
    assert not found.runs
    assert any(large.name in problem and "bytes" in problem for problem in found.problems)


@EACH_FILE
def test_a_file_that_is_cut_anywhere_raises_nothing(importer: Importer, name: str, path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    whole = len(importer.read(path).runs)
    for at in random.Random(2).sample(range(len(data)), 25):
        cut = tmp_path / path.name
        cut.write_bytes(data[:at])
        found = importer.read(cut)
        assert len(found.runs) <= whole
        assert found.problems or len(found.runs) == whole


@EACH_JSON
def test_one_odd_value_anywhere_raises_nothing(importer: Importer, name: str, path: Path, tmp_path: Path) -> None:
    """Every place of the JSON in turn gets a value that it should not have, and what comes of it can be stored."""
    first = json.loads(path.read_text() if path.suffix == ".json" else path.read_text().splitlines()[0])
    places = list(_places(first))
    chosen = random.Random(3)
    for place in places if len(places) < 150 else chosen.sample(places, 150):
        odd = chosen.choice(ODD)
        file = tmp_path / path.name
        file.write_text(json.dumps(_put(first, place, odd)))
        found = importer.read(file)
        planned = plan(found.runs, tmp_path / "results", "odd")
        for one in planned.runs:
            for metric_name, metric in one.run.metrics.items():
                value = metric.value
                assert value is None or (math.isfinite(value) and value >= 0), f"{metric_name} of {place} = {odd!r}"
            assert len(one.run.workload) <= 64
            assert len(one.device) <= 64
        if planned.runs and chosen.random() < 0.05:
            publish(planned, tmp_path / f"results{len(list(tmp_path.iterdir()))}")


HOSTILE: tuple[Any, ...] = (10**400, -(10**400), 1e308, -1e308, math.nan, math.inf, "1e5", True, 5e-324)
NUMBERS = {
    "llama-bench": ("samples_ns", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ts", "n_prompt", "n_depth"),
    "pytest-benchmark": ("data", "mean", "stddev", "median", "min", "max", "rounds", "iterations"),
    "google-benchmark": ("real_time", "cpu_time", "iterations", "items_per_second", "threads"),
}


@pytest.mark.parametrize(("tool", "key"), [(tool, key) for tool, keys in NUMBERS.items() for key in keys])
def test_a_number_that_is_none_is_told_or_put_right_and_never_a_figure(tool: str, key: str, tmp_path: Path) -> None:
    """Each number of a file in turn gets each of the values that break arithmetic."""
    importer = next(one for one in IMPORTERS if one.tool == tool)
    name = next(name for name in samples_of(tool) if name.endswith(".json"))
    whole = json.loads(sample(tool, name, tmp_path).read_text())
    places = [place for place in _places(whole) if place[-1] == key or (len(place) > 1 and place[-2:] == (key, 0))]
    assert places
    for place in places[:4]:
        for odd in HOSTILE:
            file = tmp_path / name
            file.write_text(json.dumps(_put(whole, place, odd)))
            for run in importer.read(file).runs:
                for metric_name, metric in run.metrics.items():
                    value = metric.value
                    assert value is None or 0 <= value < 1e18, f"{metric_name} of {place} = {odd!r}: {value}"
                assert "nan stated" not in "".join(run.note.corrections) or math.isnan(float(odd))


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(min(len(value), 3)):
            yield (key,)
            yield from ((key, *more) for more in _places(value[key]))


def _put(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = _put(value[place[0]], place[1:], odd)
    return copy
