"""`melt compare` as a person types it: on folders of results, and on a real sweep of this computer."""

from __future__ import annotations

import csv
import json
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from store_example import keep, run_record, session_record
from workspace import Said

from melt.cli import app as command_line
from melt.cli import compare, console
from melt.records import Fingerprint, Metric, SuiteRef
from melt.store import new_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from workspace import Workspace


@pytest.fixture
def melt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Calls melt in this process, in the test's folder, on a terminal wide enough for every column."""
    monkeypatch.chdir(tmp_path)
    for stream in (console.out, console.err):
        monkeypatch.setattr(stream, "_width", 160)

    def call(*argv: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["melt", *argv])
        capsys.readouterr()
        code = command_line.main()
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def stored(
    root: Path, suite: str, level: float = 0.5, n: int = 5, hard: Mapping[str, Any] | None = None, **more: Any
) -> Path:
    """A session of one cell on disk; each run is `level` with noise of its own."""
    name = f"202601{10 + len(suite):02d}T115900Z"
    session = new_session(root, session_record(name=name, suite=suite, n=n))
    random = np.random.default_rng([n, *suite.encode()])
    for block in range(n):
        value = level * math.exp(random.normal(0, 0.005))
        keys = {"workload": "small", "engine": "command", "threads": 1, "metric_version": 2, **(hard or {})}
        record = run_record(
            run_id=f"{name}-{block:08x}",
            block=block,
            session=name,
            suite=SuiteRef(name=suite, sha256="0" * 64),
            metrics={"latency_p50_s": Metric(value=value, n=100, version=2)},
            fingerprint=Fingerprint(hard=keys, soft={"kernel": suite}),
            **more,
        )
        keep(session, record)
    return session.path


def test_two_results_give_a_verdict_with_its_interval(melt: Callable[..., Said], tmp_path: Path) -> None:
    stored(tmp_path / "results", "old")
    stored(tmp_path / "results", "newer", level=0.55)
    said = melt("compare", "results/old", "results/newer", "--out", "out")
    assert said.code == 0, said
    assert "newer (b) against old (a)" in said.stdout
    row = next(line for line in said.stdout.splitlines() if "latency_p50_s" in line)
    assert "slower" in row
    assert "1.1" in row
    assert "5 + 5" in row
    assert "kernel differs: old and newer" in said.stdout
    assert "δ 3.0% for latency_p50_s: the default; no cell of local has 5 nights of it" in said.stdout
    (line,) = csv.DictReader((tmp_path / "out" / "compare.csv").read_text().splitlines())
    assert (line["verdict"], line["delta"]) == ("slower", "0.03")
    assert "kernel differs: old and newer" in line["caveats"]
    assert (tmp_path / "out" / "compare.png").is_file()


def test_unlike_results_are_refused_with_a_table_of_the_keys(melt: Callable[..., Said], tmp_path: Path) -> None:
    stored(tmp_path / "results", "old", hard={"power_mode": "MAXN"})
    stored(tmp_path / "results", "newer", hard={"power_mode": "15W"})
    said = melt("compare", "results/old", "results/newer")
    assert (said.code, said.stdout) == (3, "")
    for word in ("power_mode", "MAXN", "15W", "read back from what the run held it at"):
        assert word in said.stderr
    assert said.sentence.startswith("melt: old and newer differ in what must be the same, power_mode")
    told = melt("compare", "results/old", "results/newer", "--json")
    assert told.code == 3
    data = json.loads(told.stdout)
    assert data["comparable"] is False
    assert [one["key"] for one in data["differences"]] == ["power_mode"]


def test_a_profile_that_nobody_tried_on_the_hardware_is_told_in_everything(
    melt: Callable[..., Said], tmp_path: Path
) -> None:
    stored(tmp_path / "results", "old")
    stored(tmp_path / "results", "newer", profile_verified=False)
    # a folder may have been given another name since
    (tmp_path / "results" / "newer").rename(tmp_path / "results" / "renamed")
    said = melt("compare", "results/old", "results/renamed", "--out", "out")
    assert said.code == 0, said
    told = "is not verified on the hardware"
    for text in (said.stdout, *((tmp_path / "out" / f"compare.{kind}").read_text() for kind in ("csv", "md", "json"))):
        assert told in text
    stored(tmp_path / "results", "older")
    assert told not in melt("compare", "results/old", "results/older", "--json").stdout


def test_what_could_have_been_detected_is_on_a_narrow_terminal_too(
    melt: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in (console.out, console.err):
        monkeypatch.setattr(stream, "_width", 80)
    stored(tmp_path / "results", "old", n=3)
    stored(tmp_path / "results", "newer", n=3, level=0.52)
    said = melt("compare", "results/old", "results/newer").stdout
    assert "local small latency_p50_s: detectable is " in said


def test_an_override_stamps_the_terminal_and_the_data(melt: Callable[..., Said], tmp_path: Path) -> None:
    stored(tmp_path / "results", "old", hard={"power_mode": "MAXN"})
    stored(tmp_path / "results", "newer", hard={"power_mode": "15W"})
    words = ("compare", "results/old", "results/newer", "--allow-unlike")
    said = melt(*words, "power_mode=both are at full speed here")
    assert said.code == 0, said
    assert "UNLIKE, allowed by hand: power_mode (MAXN against 15W): both are at full speed here" in said.stdout
    data = json.loads(melt(*words, "power_mode=x", "--json").stdout)
    assert data["allowed_unlike"] == {"power_mode": "x"}
    assert melt(*words, "power_mode").sentence.endswith("say why as well: --allow-unlike KEY=reason")
    assert melt(*words, "power_mode= ").code == 2
    assert melt(*words, f"power_mode={'x' * 300}").code == 2
    assert melt(*words, "power_mode=x", "--allow-unlike", "power_mode=y").code == 2


def test_a_comparison_along_an_axis_inside_one_folder_is_json_for_programs(
    melt: Callable[..., Said], tmp_path: Path
) -> None:
    stored(tmp_path / "results", "one", hard={"threads": 1})
    stored(tmp_path / "results", "four", level=0.25, hard={"threads": 2})
    said = melt("compare", "results", "--axis", "threads", "--json", "--delta", "0.02")
    data = json.loads(said.stdout)
    assert (data["axis"], data["base"]) == ("threads", "1")
    (one,) = data["contrasts"]
    assert (one["verdict"], one["b_side"], one["delta"], one["delta_from"]) == ("faster", "threads 2", 0.02, "--delta")
    assert data["over_all_cells"][0]["ratio"] == one["ratio"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("results/old", "results/old"), "is both sides"),
        (("results/old", "results/../results/old/."), "is both sides"),
        (("results/old", "nowhere"), "holds no results"),
        (("empty",), "holds no results"),
        (("results/old",), "--axis session: old holds one value of it alone"),
        (("results/old", "--axis", "thread"), "did you mean 'threads'"),
        (("results/old", "--axis", "threads", "--delta", "2"), "--delta 2: a share between 0 and 1"),
        (("results/old", "results/newer", "--metric", "latency_p5_s"), "did you mean 'latency_p50_s'"),
        (("results/old", "results/newer", "--axis", "engine"), "(engine: command)"),
    ],
)
def test_what_a_person_can_correct_is_one_sentence(
    melt: Callable[..., Said], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    stored(tmp_path / "results", "old")
    stored(tmp_path / "results", "newer")
    told = melt("compare", *words)
    assert told.code == 2, told
    assert said in told.sentence
    assert told.stdout == ""


def test_a_broken_run_is_named_and_the_rest_is_compared(melt: Callable[..., Said], tmp_path: Path) -> None:
    first = stored(tmp_path / "results", "old", n=6)
    stored(tmp_path / "results", "newer", n=6)
    runs = sorted(first.glob("*-0000000*"))
    (runs[0] / "run.json").write_text('{"schema": 1, "run')
    newer = json.loads((runs[1] / "run.json").read_text())
    (runs[1] / "run.json").write_text(json.dumps({**newer, "schema": 99}))
    runs[2].rename(first / f".part-{runs[2].name}")
    said = melt("compare", "results/old", "results/newer", "--json")
    assert said.code == 0, said
    data = json.loads(said.stdout)
    assert [one["n_a"] for one in data["contrasts"]] == [3]
    notes = "\n".join(data["notes"])
    assert runs[0].name in notes
    assert "schema 99 is newer than this melt" in notes
    assert runs[2].name not in notes, "what was never whole is no run"


def test_a_long_table_shows_differences_first_and_says_how_much_more_there_is() -> None:
    from melt.report.table import Row, Table  # noqa: PLC0415

    words = ["equivalent"] * 70 + ["slower"] * 2
    table = Table((), tuple(Row((str(at), "metric", word)) for at, word in enumerate(words)))
    kept = compare._most_telling(table)
    assert len(kept.rows) == compare._MOST_ROWS
    assert [row.cells[2] for row in kept.rows[-2:]] == ["slower", "slower"]


@pytest.mark.peer
def test_a_real_sweep_of_threads_is_compared_from_the_runs_of_this_computer(
    melt: Callable[..., Said], workspace: Workspace
) -> None:
    """Which is faster depends on what else runs here; that the figures are those of the records does not."""
    protocol = {"preset": "quick", "runs": 4, "min_s": 0.2, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
    workspace.suite(protocol=protocol, sweep={"params.threads": [1, 2]})
    ran = workspace.run()
    assert ran.code == 0, ran
    said = melt("compare", "results/faults", "--axis", "threads", "--metric", "latency_p50_s", "--json")
    assert said.code == 0, said
    data = json.loads(said.stdout)
    (one,) = data["contrasts"]
    assert (one["a_side"], one["b_side"], one["cell"]) == ("threads 1", "threads 2", "toy")
    assert one["verdict"] in ("faster", "slower", "equivalent", "inconclusive")
    assert one["low"] < one["ratio"] < one["high"]
    values: dict[tuple[int, int], float] = {}
    for run in workspace.runs():
        if run.record.usable and run.record.metrics["latency_p50_s"].value is not None:
            threads = run.record.fingerprint.hard["threads"]
            values[threads, run.record.block] = run.record.metrics["latency_p50_s"].value
    blocks = [block for block in range(4) if {(1, block), (2, block)} <= values.keys()]
    assert one["paired"] is True
    assert one["n_a"] == one["n_b"] == len(blocks) == 4
    logs = [math.log(values[2, block] / values[1, block]) for block in blocks]
    assert one["ratio"] == pytest.approx(math.exp(sum(logs) / len(logs)))
    (differs,) = [cell["differs"] for cell in data["cells"]]
    assert {d["key"] for d in differs} == {"threads"}
    refused = melt("compare", "results/faults", "--axis", "spin")
    assert refused.code == 2
    assert "(spin: true)" in refused.sentence
