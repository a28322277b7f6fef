"""llama-bench's files as runs: rates from their samples, and each figure that these contradict."""

from __future__ import annotations

import json
import math
import random
import statistics
from typing import TYPE_CHECKING, Any

import pytest
from samples import ENGINES, LLAMA_BENCH, OVERFLOW, changed

from melt.importers import plan
from melt.importers.llama_bench import LlamaBench

if TYPE_CHECKING:
    from pathlib import Path

    from melt.importers import ImportedRun

TWO = ENGINES / "llama-bench.json"


def only(path: Path) -> ImportedRun:
    (run,) = LlamaBench().read(path).runs
    return run


def first(tmp_path: Path, key: str, to: Any) -> tuple[list[ImportedRun], tuple[str, ...]]:
    """The runs and the problems of two tests, the first of which has another value at a key."""
    found = LlamaBench().read(changed(TWO, tmp_path / "changed.json", 0, key, to=to))
    return list(found.runs), found.problems


def test_rates_are_means_over_the_repetitions() -> None:
    prompt, generation = LlamaBench().read(TWO).runs
    seconds = [0.009811522, 0.001426319, 0.011650115]
    rate = prompt.metrics["pp_tok_per_s"]
    assert rate.value == pytest.approx(sum(32 / s for s in seconds) / 3)
    assert rate.n == 3
    assert prompt.metrics["tg_tok_per_s"].value is None
    assert generation.metrics["tg_tok_per_s"].value is not None
    assert [run.cell for run in (prompt, generation)] == ["llama-b-q4_0[pp32]", "llama-b-q4_0[tg16]"]
    assert prompt.started_utc == "2026-11-21T14:35:30Z"
    assert prompt.device == "AMD EPYC"
    hard = prompt.fingerprint.hard
    assert hard["threads"] == 1
    assert hard["prompt_tokens"] == 32
    assert hard["engine"] == "llama.cpp"
    assert str(hard["engine_version"]).startswith("0c1e5709")
    assert prompt.fingerprint.soft == {"model_file": "toy.gguf"}


def test_a_deviation_that_overflowed_is_put_right_with_both_numbers() -> None:
    (correction,) = only(OVERFLOW).note.corrections
    assert correction == "stddev_ns overflowed: 4.00559e+09 stated, 1.16597e+10 from samples_ns"


def test_the_overflow_that_other_people_have_published(tmp_path: Path) -> None:
    """At 4.6 s a repetition the squares no longer fit, and 64 bits of them are another number: 3.7e9 for 3.0e7."""
    samples = [4_600_000_000, 4_630_400_000, 4_660_800_000]
    whole = json.loads(OVERFLOW.read_text())
    rates = [12288 / (ns * 1e-9) for ns in samples]
    whole[0] |= {"samples_ns": samples, "samples_ts": rates, "avg_ns": 4_630_400_000, "avg_ts": sum(rates) / 3}
    whole[0] |= {"stddev_ns": 3_720_000_000, "stddev_ts": 17.4}
    path = tmp_path / "over.json"
    path.write_text(json.dumps(whole))
    (correction,) = only(path).note.corrections
    assert correction == "stddev_ns overflowed: 3.72e+09 stated, 3.04e+07 from samples_ns"


def test_what_whole_numbers_round_away_is_no_mistake(tmp_path: Path) -> None:
    """Its own arithmetic on times whose squares fit: the cut mean alone may move a deviation by thousands of ns."""
    draw = random.Random(7)
    moved = 0.0
    for _ in range(60):
        n, spread = draw.randint(2, 6), draw.choice((3, 500, 20_000, 5_000_000))
        samples = [10**8 + draw.randint(0, spread) for _ in range(n)]
        mean = sum(samples) // n
        square = sum(ns * ns for ns in samples) // (n - 1) - mean * mean * n // (n - 1)
        stated = int(math.sqrt(max(square, 0)))
        moved = max(moved, abs(stated - statistics.stdev(samples)))
        whole = json.loads(OVERFLOW.read_text())
        whole[0] = {k: v for k, v in whole[0].items() if k not in ("avg_ns", "avg_ts", "stddev_ts", "samples_ts")}
        whole[0] |= {"samples_ns": samples, "stddev_ns": stated}
        path = tmp_path / "rounded.json"
        path.write_text(json.dumps(whole))
        assert only(path).note.corrections == (), (samples, stated)
    assert moved > 1000


@pytest.mark.parametrize("path", [path for path in LLAMA_BENCH if path != OVERFLOW], ids=lambda path: path.name)
def test_what_is_right_is_not_corrected(path: Path) -> None:
    found = LlamaBench().read(path)
    assert not found.problems
    assert all(run.note.corrections == () for run in found.runs)


@pytest.mark.parametrize(
    ("key", "to", "told"),
    [
        ("avg_ts", 12000.0, "avg_ts: 12000 stated, 9481.2 from samples_ns"),
        ("avg_ns", 1, "avg_ns: 1 stated, 7.62932e+06 from samples_ns"),
        ("stddev_ts", None, "stddev_ts: no number stated, 11221.6 from samples_ns"),
        ("samples_ts", [3261.47, 22435.4, 1.0], "samples_ts[2]: 1 stated, 2746.75 from samples_ns"),
        ("samples_ts", [1.0], "samples_ts: 1 rates stated, and samples_ns has 3 times"),
    ],
)
def test_a_stated_figure_that_the_samples_contradict_is_listed(tmp_path: Path, key: str, to: Any, told: str) -> None:
    runs, problems = first(tmp_path, key, to)
    assert not problems
    assert runs[0].note.corrections == (told,)
    assert runs[0].metrics == LlamaBench().read(TWO).runs[0].metrics


def test_without_samples_nothing_stated_becomes_a_figure(tmp_path: Path) -> None:
    runs, problems = first(tmp_path, "samples_ns", None)
    assert not problems
    metric = runs[0].metrics["pp_tok_per_s"]
    assert metric.value is None
    assert metric.reason == "not_told: the file has no samples_ns, the time of each repetition"
    assert set(runs[0].note.refused) == {"avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ts"}
    assert "9481.199807" in runs[0].note.refused["avg_ts"]


@pytest.mark.parametrize(
    ("key", "to", "told"),
    [
        ("samples_ns", [9811522, -5, 11650115], "samples_ns[1] is -5"),
        ("samples_ns", [9811522, float("nan")], "samples_ns[1] is nan"),
        ("samples_ns", [1e40], "samples_ns[0] is 1e+40"),
        ("samples_ns", [9811522, 0], "samples_ns[1] is 0"),
        ("samples_ns", [], "samples_ns is empty"),
        ("samples_ns", "many", "samples_ns is many"),
        ("n_prompt", -3, "n_prompt and n_gen"),
        ("n_prompt", "32", "n_prompt and n_gen"),
    ],
)
def test_a_test_with_a_time_that_is_none_is_told_and_the_others_are_read(
    tmp_path: Path, key: str, to: Any, told: str
) -> None:
    runs, problems = first(tmp_path, key, to)
    assert [run.cell for run in runs] == ["llama-b-q4_0[tg16]"]
    assert len(problems) == 1
    assert problems[0].startswith("changed.json: test 1: ")
    assert told in problems[0]


def test_a_key_that_stands_twice_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    path.write_text(TWO.read_text().replace('"n_threads": 1,', '"n_threads": 1, "n_threads": 2,', 1))
    found = LlamaBench().read(path)
    assert found.problems == ("twice.json: key 'n_threads' stands twice in one object: taken as not told",)
    assert [run.fingerprint.hard["threads"] for run in found.runs] == [None, 1]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_file_that_a_shell_has_written_anew(tmp_path: Path, encoding: str) -> None:
    """PowerShell's `>` writes UTF-16."""
    path = tmp_path / "windows.json"
    path.write_text(TWO.read_text(), encoding=encoding)
    assert LlamaBench().recognises(path)
    assert len(LlamaBench().read(path).runs) == 2


def test_what_c_prints_for_no_number_and_an_array_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nan.json"
    path.write_text(TWO.read_text().replace('"stddev_ts": 11221.595362', '"stddev_ts": -nan'))
    nan = LlamaBench().read(path)
    assert nan.runs[0].note.corrections == ("stddev_ts: no number stated, 11221.6 from samples_ns",)
    path.write_text(json.dumps(json.loads(TWO.read_text())))
    assert len(LlamaBench().read(path).runs) == 2


def test_a_cut_file_gives_its_whole_tests(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text(TWO.read_text()[:-400])
    found = LlamaBench().read(path)
    assert len(found.runs) == 1
    assert found.problems == ("cut.json: it is cut or damaged after 1 whole tests",)


def test_several_files_of_a_test_are_several_runs_and_a_sweep_is_in_the_name(tmp_path: Path) -> None:
    runs = []
    for number, threads in enumerate((1, 1, 4, 4)):
        path = tmp_path / f"{number}.json"
        whole = json.loads(OVERFLOW.read_text())
        whole[0] |= {"n_threads": threads, "test_time": f"2026-11-21T14:4{number}:00Z"}
        path.write_text(json.dumps(whole))
        runs += LlamaBench().read(path).runs
    placed = plan(runs, tmp_path / "results", "them").runs
    assert [(one.cell, one.block) for one in placed] == [
        ("llama-b-q4_0[pp12288,threads=1]", 0),
        ("llama-b-q4_0[pp12288,threads=1]", 1),
        ("llama-b-q4_0[pp12288,threads=4]", 0),
        ("llama-b-q4_0[pp12288,threads=4]", 1),
    ]
