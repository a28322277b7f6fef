"""From files to the store: nothing counts twice, sessions are sittings, and reports stand on what was imported."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import typer
from samples import ENGINES, GOOGLE_BENCHMARK, LLAMA_BENCH, OVERFLOW, PYTEST_BENCHMARK, STUDY, sample
from store_example import keep, run_record, session_record
from typer.testing import CliRunner

from melt import store
from melt.cli.importing import import_results
from melt.compare import Asked, compare_folders
from melt.errors import NotComparable, UsageError
from melt.importers import IMPORTERS, gather, plan, publish
from melt.importers.reading import slug
from melt.records import NAME
from melt.report import write_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.importers import Plan


def bring(path: Path, results: Path, name: str = "them", **options: Any) -> list[store.StoredRun]:
    found = gather(path, IMPORTERS)
    return publish(plan(found.runs, results, name, **options), results, found.problems)


def write_tests(folder: Path, *times: str | None) -> None:
    """A file of llama-bench for each time."""
    folder.mkdir(exist_ok=True)
    for number, time in enumerate(times):
        whole = json.loads(OVERFLOW.read_text())
        whole[0] |= {"test_time": time, "samples_ns": [10**9 + number, 10**9, 10**9 + 7]}
        (folder / f"{number:03d}.json").write_text(json.dumps(whole))


def command(*words: str | Path) -> tuple[str, BaseException | None]:
    app = typer.Typer()
    app.command()(import_results)
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.stdout, done.exception


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder with files of every tool, and some of nobody."""
    folder = tmp_path / "many files"
    (folder / "deeper").mkdir(parents=True)
    for file in (*LLAMA_BENCH, *GOOGLE_BENCHMARK):
        shutil.copy(file, folder)
    for file in (*PYTEST_BENCHMARK, ENGINES / "perf-test.csv", ENGINES / "perf-test.stdout"):
        shutil.copy(file, folder / "deeper")
    (folder / "notes.md").write_text("what we did\n")
    (folder / ".hidden.json").write_text("{}")
    return folder


# --------------------------------------------------------------------------------------------- what is at a path


def test_each_file_goes_to_its_importer_and_the_rest_is_told(many: Path) -> None:
    found = gather(many, IMPORTERS)
    assert {run.note.tool for run in found.runs} == {one.tool for one in IMPORTERS[:4]}
    assert [file.name for file in found.unknown] == ["notes.md"]
    assert not found.problems


def test_a_tool_that_is_named_is_asked_alone(many: Path) -> None:
    found = gather(many, IMPORTERS, "google-benchmark")
    assert {run.note.tool for run in found.runs} == {"google-benchmark"}
    with pytest.raises(UsageError, match=r"tool .llama-bnech. .*did you mean 'llama-bench'"):
        gather(many, IMPORTERS, "llama-bnech")
    assert gather(many / "notes.md", IMPORTERS, "llama-bench").problems


def test_links_out_of_the_folder_and_results_of_melt_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "out.json").symlink_to(OVERFLOW)
    (folder / "around").symlink_to(tmp_path, target_is_directory=True)
    (folder / "loop.json").symlink_to(folder / "loop.json")
    shutil.copy(OVERFLOW, tmp_path)
    (folder / "a set of the study").symlink_to(sample(STUDY, "m.gguf", tmp_path / "beside"), target_is_directory=True)
    os.mkfifo(folder / "pipe")
    session = store.new_session(folder / "results", session_record())
    keep(session, run_record())
    bring(OVERFLOW, folder / "results")
    found = gather(folder, IMPORTERS)
    assert not found.runs
    assert "out.json: it is a link out of the folder, and is not followed" in found.problems
    assert any("a result of melt itself" in problem for problem in found.problems)


# ------------------------------------------------------------------------------------------------ nothing twice


def test_one_name_for_several_devices_is_refused(many: Path, tmp_path: Path) -> None:
    found = gather(many, IMPORTERS)
    with pytest.raises(UsageError, match=r"--device bench: the files are of 2 devices \(amd-epyc, bench-host\)"):
        plan(found.runs, tmp_path / "results", "them", device="bench")
    found = gather(OVERFLOW, IMPORTERS)
    assert [one.device for one in plan(found.runs, tmp_path, "them", device="bench").runs] == ["bench"]


def test_a_name_of_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"r\xff\n.json")
    path.write_bytes(OVERFLOW.read_bytes())
    (run,) = bring(path, tmp_path / "results")
    assert run.record.imported is not None
    assert run.record.imported.source.endswith("r?\n.json")
    assert (run.path / "llama-bench.json").is_file()


def test_words_that_a_name_cannot_hold_stay_apart() -> None:
    names = [slug(text) for text in ("BM_日本", "BM_東京", "x" * 100, "x" * 101, "é", "...", "a" * 64)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(NAME, name) for name in names)
    assert slug("BM_Sort/256") == "bm_sort-256"


def test_two_hundred_thousand_keys_of_which_all_stand_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    keys = ", ".join(f'"k{n % 100_000}": 1' for n in range(200_000))
    path.write_text(f'{{"machine_info": {{{keys}}}, "benchmarks": []}}')
    (sentence, *_, more, none) = gather(path, IMPORTERS, "pytest-benchmark").problems
    assert sentence == "twice.json: key 'k0' stands twice in one object: taken as not told"
    assert more == "twice.json: 99980 more keys stand twice"
    assert none == "twice.json: benchmarks holds none"


def test_what_was_imported_is_not_imported_again(many: Path, tmp_path: Path) -> None:
    first = bring(many, tmp_path / "results")
    found = gather(many, IMPORTERS)
    planned = plan(found.runs, tmp_path / "results", "them")
    assert not planned.runs
    assert all("already: --again imports it once more" in sentence for sentence in planned.left_out)
    assert len(plan(found.runs, tmp_path / "results", "them", again=True).runs) == len(first)
    assert len(plan(found.runs, tmp_path / "results", "others").runs) == len(first)


def test_a_folder_that_grew_gives_its_new_files(tmp_path: Path) -> None:
    write_tests(tmp_path / "nights", "2026-11-01T03:00:00Z")
    bring(tmp_path / "nights", tmp_path / "results")
    write_tests(tmp_path / "nights", "2026-11-01T03:00:00Z", "2026-11-02T03:00:00Z")
    (run,) = bring(tmp_path / "nights", tmp_path / "results")
    assert run.record.started_utc == "2026-11-02T03:00:00Z"
    assert run.record.session == "20261102T030000Z"


def test_two_copies_of_a_file_are_one_result(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        shutil.copy(OVERFLOW, tmp_path / name)
    found = gather(tmp_path, IMPORTERS)
    planned = plan(found.runs, tmp_path / "results", "them")
    assert len(planned.runs) == 1
    assert planned.left_out == (
        f"{tmp_path / 'b.json'} holds the same as {tmp_path / 'a.json'}: it is one result, and counts once",
    )


def test_an_import_that_was_broken_off_is_told(tmp_path: Path) -> None:
    write_tests(tmp_path / "in", "2026-11-01T03:00:00Z", "2026-11-01T03:01:00Z")
    runs = bring(tmp_path / "in", tmp_path / "results")
    shutil.rmtree(runs[1].path)
    with pytest.raises(UsageError, match="broken off: remove that folder, and import again"):
        bring(tmp_path / "in", tmp_path / "results")


def test_melts_own_suite_stays_its_own(tmp_path: Path) -> None:
    keep(store.new_session(tmp_path, session_record(suite="demo")), run_record())
    with pytest.raises(UsageError, match="holds runs of melt's own: give the imported ones another name with --name"):
        bring(OVERFLOW, tmp_path, "demo")


@pytest.mark.parametrize(("name", "device"), [("Bad Name", None), ("..", None), ("ok", "my device"), ("ok", "../x")])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str, device: str | None) -> None:
    with pytest.raises(UsageError, match="a name is made of"):
        bring(OVERFLOW, tmp_path / "results", name, device=device)
    assert not (tmp_path / "results").exists()


# ---------------------------------------------------------------------------------------------------- sessions


def planned(folder: Path, results: Path) -> Plan:
    return plan(gather(folder, IMPORTERS).runs, results, "them")


def test_a_session_is_a_sitting_and_runs_stand_in_the_order_of_time(tmp_path: Path) -> None:
    times = ("2026-11-02T04:00:00Z", None, "2026-11-01T23:50:00+01:00", "2026-11-01T23:10:00Z", "no time")
    write_tests(tmp_path / "in", *times)
    runs = bring(tmp_path / "in", tmp_path / "results")
    assert [(run.record.started_utc, run.record.block) for run in runs] == [
        ("2026-11-01T22:50:00Z", 0),
        ("2026-11-01T23:10:00Z", 1),
        ("2026-11-02T04:00:00Z", 2),
        ("not told", 0),
        ("not told", 1),
    ]
    known, unknown = dict.fromkeys(run.record.session for run in runs)
    assert known == "20261101T225000Z"
    assert unknown > known
    assert sorted(run.record.run_id for run in runs) == [run.record.run_id for run in runs]
    write_tests(tmp_path / "nights", "2026-11-01T03:00:00Z", "2026-11-02T03:00:00Z")
    assert len(planned(tmp_path / "nights", tmp_path / "results").sittings) == 2


def test_runs_of_one_moment_stand_in_the_order_of_their_file(tmp_path: Path) -> None:
    (test,) = json.loads(OVERFLOW.read_text())
    lines = [json.dumps({**test, "n_prompt": n}) for n in range(1, 13)]
    (tmp_path / "sweep.jsonl").write_text("\n".join(lines) + "\n")
    bring(tmp_path / "sweep.jsonl", tmp_path / "results")
    runs, _ = store.read_runs(tmp_path / "results")
    assert [run.record.cell for run in runs] == [f"llama-b-q4_0[pp{n}]" for n in range(1, 13)]


def test_runs_of_one_file_share_its_bytes_and_say_them(tmp_path: Path) -> None:
    runs = bring(PYTEST_BENCHMARK[0], tmp_path)
    files = [run.path / "pytest-benchmark.json" for run in runs]
    assert len({file.stat().st_ino for file in files}) == 1
    assert files[0].read_bytes() == PYTEST_BENCHMARK[0].read_bytes()
    assert len({run.record.files["pytest-benchmark.json"] for run in runs}) == 1


def test_a_name_that_melt_writes_itself_is_not_taken(tmp_path: Path) -> None:
    (run,) = gather(OVERFLOW, IMPORTERS).runs
    odd = replace(run, raw={"run.json": OVERFLOW, "../out": OVERFLOW, "analysis-9.json": OVERFLOW})
    (stored,) = publish(plan([odd], tmp_path, "them"), tmp_path)
    assert set(stored.record.files) == {"original-run.json", "original-.._out", "original-analysis-9.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["them"]


# --------------------------------------------------------------------------------------------- what is made of it


def test_a_report_stands_on_imported_runs(many: Path, tmp_path: Path) -> None:
    bring(many, tmp_path / "results")
    runs, unreadable = store.read_runs(tmp_path / "results")
    written = write_report(runs, unreadable, tmp_path / "report", "them")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "bm\\_sort-256" in text or "bm_sort-256" in text
    assert {"runs.csv", "report.md"} <= {file.name for file in written.files}
    assert (
        "imported from llama-bench: melt did not see the device while it ran"
        in (tmp_path / "report" / "runs.csv").read_text()
    )


def test_imported_runs_never_pool_with_melts_own(tmp_path: Path) -> None:
    """Everything else alike, the hard key is there that melt's own runs do not have."""
    for run in bring(OVERFLOW, tmp_path):
        assert run.record.fingerprint.hard["imported"] == "llama-bench"
    assert "imported" not in run_record().fingerprint.hard


def set_of(folder: Path, rate: float, draw: random.Random, threads: int = 4, runs: int = 6) -> None:
    """So many files of llama-bench about a rate."""
    folder.mkdir()
    for number in range(runs):
        whole = json.loads(OVERFLOW.read_text())
        base = {key: value for key, value in whole[0].items() if not key.startswith(("avg", "stddev", "samples"))}
        samples = [int(12288e9 / (rate * draw.gauss(1, 0.005))) for _ in range(3)]
        told = {"samples_ns": samples, "n_threads": threads, "test_time": f"2026-11-21T03:0{number}:00Z"}
        (folder / f"{number}.json").write_text(json.dumps([{**base, **told}]))


def test_two_imported_sets_are_compared(tmp_path: Path) -> None:
    draw = random.Random(11)
    for name, rate in (("before", 400.0), ("after", 340.0)):
        set_of(tmp_path / name, rate, draw)
        bring(tmp_path / name, tmp_path / "results", name)
    found = compare_folders(tmp_path / "results" / "before", tmp_path / "results" / "after", Asked())
    (verdict,) = found.verdicts
    assert verdict.metric == "pp_tok_per_s"
    assert verdict.word == "slower"
    assert not any("verified" in label for label in found.labels), "no profile of melt's has measured them"
    assert "imported from llama-bench" in found.labels


def test_imported_sets_that_are_unlike_are_refused(tmp_path: Path) -> None:
    draw = random.Random(12)
    for name, threads in (("two", 2), ("four", 4)):
        set_of(tmp_path / name, 400.0, draw, threads)
        bring(tmp_path / name, tmp_path / "results", name)
    with pytest.raises(NotComparable) as refused:
        compare_folders(tmp_path / "results" / "two", tmp_path / "results" / "four", Asked())
    assert "threads" in {row[1] for row in refused.value.rows}


# ------------------------------------------------------------------------------------------------- the command


def test_the_command_imports_and_tells(many: Path, tmp_path: Path) -> None:
    (many / "deeper" / "cut.json").write_text((many / "llama-bench.json").read_text()[:-400])
    text, error = command(many, "--name", "them", "--results", tmp_path / "results")
    assert error is None
    assert "llama-bench-overflow.json, llama-b-q4_0[pp12288]: stddev_ns overflowed: 4.00559e+09 stated, " in text
    assert "deeper/cut.json: it is cut or damaged after 1 whole tests" in text
    assert "save it with --benchmark-save-data" in text
    assert "notes.md" in text
    runs, _ = store.read_runs(tmp_path / "results" / "them")
    assert f"{len(runs)} runs are in" in text
    again, error = command(many, "--name", "them", "--results", tmp_path / "results")
    assert isinstance(error, UsageError)
    assert "already: --again imports it once more" in str(error)
    assert not again


def test_a_dry_run_writes_nothing_and_json_tells_all(many: Path, tmp_path: Path) -> None:
    text, error = command(many, "--dry-run", "--json", "--results", tmp_path / "results")
    assert error is None
    said = json.loads(text)
    assert not (tmp_path / "results").exists()
    assert said["suite"] == "many-files"
    assert {run["device"] for run in said["runs"]} == {"amd-epyc", "bench-host", "not-told"}
    assert {run["tool"] for run in said["runs"]} == {one.tool for one in IMPORTERS[:4]}
    assert said["folders"] == []
    assert [name.rpartition("/")[2] for name in said["not_recognised"]] == ["notes.md"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["x" * 5000], "does not exist: name a file or a folder"),
        (["nowhere"], "does not exist: name a file or a folder"),
        (["notes.md"], "none of its 1 files is of a tool that melt knows (llama-bench, "),
        (["notes.md", "--tool", "google-benchmark"], "notes.md: it is no whole JSON"),
    ],
)
def test_nothing_to_import_is_one_sentence(many: Path, tmp_path: Path, words: Sequence[str], told: str) -> None:
    _, error = command(many / words[0], *words[1:], "--results", tmp_path / "results")
    assert isinstance(error, UsageError)
    assert told in str(error)
    assert not (tmp_path / "results").exists()


def test_hostile_words_of_a_file_are_shown_and_nothing_else(tmp_path: Path) -> None:
    whole = json.loads(OVERFLOW.read_text())
    whole[0] |= {"model_type": "[red]x[/] \x1b[31m../../../etc/passwd\n", "cpu_info": "=cmd()|'\u202e" * 40}
    (tmp_path / "evil.json").write_text(json.dumps(whole))
    text, error = command(tmp_path / "evil.json", "--results", tmp_path / "results")
    assert error is None
    assert "\x1b[31m" not in text
    (run,) = store.read_runs(tmp_path / "results")[0]
    assert run.path.parents[2] == tmp_path / "results"
    assert "/" not in run.record.workload
    assert "\x1b" not in (run.path / "run.json").read_text()
