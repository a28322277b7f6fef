"""The share of a device's memory bandwidth: which ceiling it is of, and what is said where there is none."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from made_llm import BYTES, WEIGHTS, bench, blocks, model, roofline, score
from made_runs import BOARD, Made, session_of, store
from typer.testing import CliRunner

from melt.analysis.ceiling import ceiling, share
from melt.cli.app import app
from melt.records import Metric, Reason, ReasonCode
from melt.report import write_report
from melt.report.kinds import kind_of
from melt.store import StoredRun, read_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.records import RunRecord
    from melt.report import Report, Table

THROTTLED = (Reason(code=ReasonCode.THROTTLED, detail="the limit cpu.policy0.cap moved from 2400 to 1500 MHz"),)
HOSTILE = "=cmd|' /C calc'!A1_<script>alert(1)</script>_[a](http://x.example)_`$x$`"
NO_CEILING = "no ceiling of this device is known: melt run workloads/roofline.yaml"


def stored(root: Path, slots: Sequence[Made], name: str = "20261121T030000Z", suite: str = "demo") -> list[StoredRun]:
    session = session_of(root, slots, name, suite)
    return [store(session, made, at) for at, made in enumerate(slots)]


def reported(root: Path, of: str = "demo", title: str = "demo") -> Report:
    runs, bad = read_runs(root / of)
    return write_report(runs, bad, root / "report", title, with_pictures=False)


def json_of(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report.folder / "report.json").read_text())
    return found


def share_of(report: Report, at: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json_of(report)["cells"][at]["metrics"]["bandwidth_share"]
    return found


def cell(table: Table, row: int, header: str) -> str:
    names = [column.header.partition(" [")[0] for column in table.columns]
    return table.rows[row].cells[names.index(header)]


def footnotes_of(table: Table, text: str) -> list[str]:
    marks = "⁰¹²³⁴⁵⁶⁷⁸⁹"
    found = re.findall(f"[{marks}]+", text)
    return [table.footnotes[int("".join(str(marks.index(m)) for m in mark)) - 1] for mark in found]


def test_the_share_is_of_the_roofline_run_among_the_runs_and_is_named_everywhere(tmp_path: Path) -> None:
    runs = stored(tmp_path, [*blocks(model, decode=25.0), roofline(best=20e9)])
    roof = runs[-1].record
    report = reported(tmp_path)
    best = roof.metrics["read_bytes_per_s"].value
    assert best is not None
    told = share_of(report)
    for run in runs[:3]:
        reads = run.record.metrics["decode_read_bytes_per_s"].value
        assert reads is not None
        assert told["runs"][run.record.run_id] == pytest.approx(reads / best)
    assert told["low"] < told["value"] < told["high"]
    assert told["value"] == pytest.approx(25 * WEIGHTS * BYTES["q4_0"] / 20e9, rel=0.02)
    shown = cell(report.tables[0], 0, "bandwidth share")
    assert re.match(r"7[0-9]\.\d+ \[7\d\.\d+–7\d\.\d+\]", shown)
    (note,) = footnotes_of(report.tables[0], shown)
    assert f"run {roof.run_id} of suite demo" in note
    assert "with 2 threads" in note
    whole = json_of(report)
    assert whole["cells"][0]["ceiling_runs"] == [roof.run_id]
    assert whole["ceilings"][0]["metrics"]["read_bytes_per_s"]["value"] == pytest.approx(best)
    assert whole["ceilings"][0]["threads"] == 2
    lines = list(csv.DictReader(io.StringIO((report.folder / "runs.csv").read_text())))
    shares = [line for line in lines if line["metric"] == "bandwidth_share"]
    assert [line["run_id"] for line in shares] == [run.record.run_id for run in runs[:3]]
    assert all(roof.run_id in line["note"] for line in shares)
    page = (report.folder / "report.md").read_text()
    assert f"Ceiling of local: reads {best / 1e9:.1f} GB/s with 2 threads and 13." in page


def test_what_is_stored_stays_as_it_is(tmp_path: Path) -> None:
    (run, _) = stored(tmp_path, [model(), roofline()])
    before = (run.path / "run.json").read_bytes()
    reported(tmp_path)
    assert (run.path / "run.json").read_bytes() == before
    assert b"bandwidth_share" not in before


def test_without_a_roofline_run_the_share_is_a_gap_that_says_what_to_run(tmp_path: Path) -> None:
    stored(tmp_path, blocks(model))
    report = reported(tmp_path)
    assert share_of(report)["value"] is None
    assert share_of(report)["reason"] == f"no_ceiling: {NO_CEILING}"
    assert json_of(report)["ceilings"] == []
    shown = cell(report.tables[0], 0, "bandwidth share")
    assert shown.startswith("–")
    assert NO_CEILING in footnotes_of(report.tables[0], shown)[0]
    runs, _ = read_runs(tmp_path / "demo")
    with_pictures = write_report(runs, [], tmp_path / "report", "demo")
    assert f"The roof picture lacks local: {NO_CEILING}." in with_pictures.notes
    assert not (tmp_path / "report" / "roofline.png").exists()


def test_the_newest_ceiling_elsewhere_in_the_results_is_taken(tmp_path: Path) -> None:
    stored(tmp_path, [roofline(best=30e9)], "20261101T000000Z", "roofline")
    (newest,) = stored(tmp_path, [roofline(best=20e9)], "20261201T000000Z", "roofline")
    stored(tmp_path, [roofline(best=40e9)], "20261110T000000Z", "another")
    stored(tmp_path, blocks(model))
    report = reported(tmp_path)
    assert json_of(report)["cells"][0]["ceiling_runs"] == [newest.record.run_id]
    (note,) = footnotes_of(report.tables[0], cell(report.tables[0], 0, "bandwidth share"))
    assert f"run {newest.record.run_id} of suite roofline, session 20261201T000000Z" in note


def test_a_ceiling_among_the_runs_is_taken_before_a_newer_one_elsewhere(tmp_path: Path) -> None:
    stored(tmp_path, [roofline(best=30e9)], "20261201T000000Z", "roofline")
    *_, mine = stored(tmp_path, [*blocks(model), roofline()])
    assert json_of(reported(tmp_path))["cells"][0]["ceiling_runs"] == [mine.record.run_id]


def test_of_several_ceilings_among_the_runs_the_newest_is_taken(tmp_path: Path) -> None:
    stored(tmp_path, [roofline(best=30e9)], "20261201T000000Z", "roofline")
    (newest,) = stored(tmp_path, [roofline(best=20e9)], "20261202T000000Z", "roofline")
    stored(tmp_path, [*blocks(model), roofline(best=25e9)])
    told = json_of(reported(tmp_path, of=""))
    assert {tuple(one["ceiling_runs"] or ()) for one in told["cells"]} == {(), (newest.record.run_id,)}


def test_a_report_of_rooflines_alone_has_a_table_and_nothing_to_excuse(tmp_path: Path) -> None:
    stored(tmp_path, blocks(roofline))
    runs, _ = read_runs(tmp_path)
    report = write_report(runs, [], tmp_path / "report", "demo")
    assert len(report.tables) == 1
    assert report.notes == ()
    assert json_of(report)["ceilings"] == []


def test_roofline_runs_of_one_session_count_together(tmp_path: Path) -> None:
    runs = stored(tmp_path, [*blocks(model), *blocks(roofline)])
    report = reported(tmp_path)
    assert sorted(json_of(report)["cells"][0]["ceiling_runs"]) == [run.record.run_id for run in runs[3:]]
    (note,) = footnotes_of(report.tables[0], cell(report.tables[0], 0, "bandwidth share"))
    assert f"3 runs, the last {runs[-1].record.run_id}" in note


def test_an_invalid_roofline_run_is_not_used(tmp_path: Path) -> None:
    (older,) = stored(tmp_path, [roofline(best=18e9)], "20261101T000000Z", "roofline")
    stored(tmp_path, [*blocks(model), roofline(best=9e9, reasons=THROTTLED)])
    report = reported(tmp_path)
    assert json_of(report)["cells"][0]["ceiling_runs"] == [older.record.run_id]
    assert share_of(report)["value"] == pytest.approx(25 * WEIGHTS * BYTES["q4_0"] / 18e9, rel=0.03)


def test_with_nothing_but_an_invalid_roofline_run_there_is_no_ceiling(tmp_path: Path) -> None:
    stored(tmp_path, [*blocks(model), roofline(reasons=THROTTLED)])
    assert share_of(reported(tmp_path))["reason"] == f"no_ceiling: {NO_CEILING}"


def test_two_devices_stand_each_under_its_own_ceiling(tmp_path: Path) -> None:
    slots = [Made(block=b, cell="mobilenetv3") for b in range(3)]
    for device, decode, best in (("board-1", 25.0, 20e9), ("board-2", 9.0, 10e9)):
        slots += [*blocks(model, device=device, decode=decode), roofline(device=device, best=best)]
    runs = stored(tmp_path, slots)
    report = reported(tmp_path)
    table = report.tables[1]
    notes = [footnotes_of(table, cell(table, row, "bandwidth share")) for row in (0, 1)]
    for (note,), device, run in zip(notes, ("board-1", "board-2"), (runs[6], runs[10]), strict=True):
        assert f"run {run.record.run_id} of" in note
        assert note.endswith(f"of the memory of {device}")
    shares = [
        one["metrics"]["bandwidth_share"]["value"] for one in json_of(report)["cells"] if one["kind"] == "generate"
    ]
    expected = [decode * WEIGHTS * BYTES["q4_0"] / best for decode, best in ((25, 20e9), (9, 10e9))]
    assert shares == pytest.approx(expected, rel=0.03)
    assert [found["device"] for found in json_of(report)["ceilings"]] == ["board-1", "board-2"]


def test_a_share_above_the_whole_is_shown_with_a_flag(tmp_path: Path) -> None:
    stored(tmp_path, [*blocks(model, decode=50.0), roofline(best=20e9)])
    report = reported(tmp_path)
    shown = cell(report.tables[0], 0, "bandwidth share")
    assert re.match(r"14\d\.\d", shown)
    flags = [note for note in footnotes_of(report.tables[0], shown) if "above what the memory gives" in note]
    assert len(flags) == 1
    assert "the weights fit into the processor's caches" in flags[0]
    warnings = (report.folder / "report.md").read_text().partition("## Warnings and caveats")[2]
    assert re.search(r"local, tinyllama-q4_0: a bandwidth share of 14\d % is above what the memory gives", warnings)


def test_a_share_below_the_whole_has_no_flag(tmp_path: Path) -> None:
    stored(tmp_path, [*blocks(model, decode=25.0), roofline(best=20e9)])
    assert "above what the memory gives" not in (reported(tmp_path).folder / "report.md").read_text()


@pytest.mark.parametrize(
    "other",
    [{"profile": "android"}, {"hard": {"machine": "aarch64"}}, {"simulated": True}, {"device": "b"}, {"facts": BOARD}],
)
def test_the_ceiling_of_another_device_is_none_of_this_one(tmp_path: Path, other: dict[str, Any]) -> None:
    stored(tmp_path, [*blocks(model), roofline(**other)])
    assert share_of(reported(tmp_path))["reason"] == f"no_ceiling: {NO_CEILING}"


def test_a_processor_that_is_not_known_is_no_other_one(tmp_path: Path) -> None:
    stored(tmp_path, [*blocks(model), roofline(facts={"soc": {"value": None, "reason": "denied"}})])
    assert share_of(reported(tmp_path))["value"] is not None


def test_layers_on_a_gpu_have_no_share_of_the_processors_memory(tmp_path: Path) -> None:
    stored(tmp_path, [*blocks(model, settings={"params.gpu_layers": 99}), roofline()])
    assert "on a GPU" in share_of(reported(tmp_path))["reason"]


def test_layers_that_the_engine_did_not_put_on_a_gpu_are_none_there(tmp_path: Path) -> None:
    stored(tmp_path, [*blocks(model, settings={"params.gpu_layers": 99}), roofline()])
    record = read_runs(tmp_path / "demo")[0][0].record
    known = ceiling(record, [run.record for run in read_runs(tmp_path / "demo")[0]])
    assert share(record, known).value is None
    for layers, has in ((0, True), (22, False)):
        told = record.model_copy(update={"engine": {**record.engine, "gpu_layers": layers}})
        assert (share(told, known).value is not None) == has


def test_of_a_sweep_the_fastest_is_the_ceiling_whichever_ran_last(tmp_path: Path) -> None:
    swept = [
        roofline(best=best, cell=f"ceiling[threads={threads}]", hard={"threads": threads})
        for threads, best in ((1, 9e9), (4, 20e9), (2, 15e9))
    ]
    stored(tmp_path, [*blocks(model), *swept])
    records = [run.record for run in read_runs(tmp_path / "demo")[0]]
    one = next(record for record in records if record.workload != "ceiling")
    known = ceiling(one, records)
    assert known is not None
    assert known.read_bytes_per_s == pytest.approx(20e9, rel=0.05)
    assert len(known.runs) == 1


def test_a_record_without_the_bytes_of_weights_says_so(tmp_path: Path) -> None:
    stored(tmp_path, [*blocks(model, figures={"decode_read_bytes_per_s": None}), roofline()])
    assert share_of(reported(tmp_path))["reason"] == "no_sample: made without it"
    assert share(_record(tmp_path, without="decode_read_bytes_per_s"), None).reason is not None


def _record(root: Path, without: str) -> RunRecord:
    record = read_runs(root / "demo")[0][0].record
    return record.model_copy(update={"metrics": {k: m for k, m in record.metrics.items() if k != without}})


def test_a_ceiling_of_nothing_is_none(tmp_path: Path) -> None:
    (run, roof) = stored(tmp_path, [model(), roofline()])
    nothing = {**roof.record.metrics, "read_bytes_per_s": Metric(value=0.0)}
    assert ceiling(run.record, [roof.record]) is not None
    assert ceiling(run.record, [roof.record.model_copy(update={"metrics": nothing})]) is None


def test_hostile_names_of_a_ceiling_stay_text(tmp_path: Path) -> None:
    stored(tmp_path, [*blocks(model, device=HOSTILE), roofline(device=HOSTILE)])
    report = reported(tmp_path, title="-1")
    assert share_of(report)["value"] is not None
    page = (report.folder / "report.md").read_text()
    assert not re.search(r"<(?!sup>|/sup>)", page)
    assert not re.search(r"(?<!\\)\]\(http", page)
    for line in csv.DictReader(io.StringIO((report.folder / "runs.csv").read_text())):
        assert not any(text.startswith(("=", "+", "-", "@")) for text in line.values())


def test_a_run_outside_of_a_results_folder_looks_nowhere_else(tmp_path: Path) -> None:
    stored(tmp_path, [roofline()], "20261101T000000Z", "roofline")
    (run,) = stored(tmp_path, [model()])
    moved = tmp_path / "roofline" / "20261101T000000Z" / "elsewhere" / run.record.run_id
    moved.parent.mkdir()
    run.path.rename(moved)
    runs, _ = read_runs(moved)
    report = write_report(runs, [], tmp_path / "report", "demo", with_pictures=False)
    assert share_of(report)["value"] is None


def test_unreadable_things_beside_do_not_stop_a_report(tmp_path: Path) -> None:
    (roof,) = stored(tmp_path, [roofline()], "20261101T000000Z", "roofline")
    (broken,) = stored(tmp_path, [roofline()], "20261102T000000Z", "roofline")
    (broken.path / "run.json").write_text("{")
    odd = tmp_path / "roofline" / "20261103T000000Z" / "session.json"
    odd.mkdir(parents=True)
    stored(tmp_path, [model()])
    assert json_of(reported(tmp_path))["cells"][0]["ceiling_runs"] == [roof.record.run_id]


def test_show_tells_the_share_of_one_run(tmp_path: Path) -> None:
    (_, roof) = stored(tmp_path, [model(), roofline()])
    (run, *_) = read_runs(tmp_path / "demo")[0]
    # a process of its own: the width of a terminal is asked once
    argv = [sys.executable, "-m", "melt", "show", str(run.path)]
    done = subprocess.run(argv, env={**os.environ, "COLUMNS": "300"}, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if "bandwidth_share" in line]
    assert roof.record.run_id in line
    stored_json = json.loads(CliRunner().invoke(app, ["show", str(run.path), "--json"]).output)
    assert "bandwidth_share" not in stored_json["metrics"]


# ---------------------------------------------------------------------------------------------- the kinds of runs


def test_each_kind_of_run_has_a_table_of_its_own(tmp_path: Path) -> None:
    slots = [*blocks(bench), *blocks(score), *blocks(roofline), Made(block=0), *blocks(model)]
    stored(tmp_path, slots)
    report = reported(tmp_path)
    heads = [[column.header.partition(" [")[0] for column in table.columns] for table in report.tables]
    assert [head[3] for head in heads] == ["p50", "decode", "tg", "perplexity", "read, best"]
    assert "pp" in heads[2]
    assert {"anonymous", "file-backed", "bandwidth share", "between tokens p95"} <= set(heads[1])
    assert cell(report.tables[2], 0, "pp").startswith("1")
    assert cell(report.tables[4], 0, "read, 1 thread").startswith(("12.", "13."))
    assert cell(report.tables[4], 0, "int8 multiply-adds").startswith(("26", "27"))
    kinds = [one["kind"] for one in json_of(report)["cells"]]
    assert kinds == ["bench", "score", "roofline", "infer", "generate"]
    assert "bandwidth_share" not in json_of(report)["cells"][0]["metrics"]


def test_a_planned_cell_without_a_run_stands_in_the_table_of_what_it_asks_for(tmp_path: Path) -> None:
    slots = [*blocks(model), *blocks(bench), *blocks(score)]
    session = session_of(tmp_path, slots)
    store(session, slots[0], 0)
    report = reported(tmp_path)
    assert len(report.tables) == 3
    assert [cell(table, 0, "runs") for table in report.tables] == ["1/3", "0/3", "0/3"]


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (Made(), "infer"),
        (Made(engine="llama.cpp"), "generate"),
        (Made(engine="llama.cpp", settings={"params.mode": "conversation"}), "generate"),
        (Made(engine="llama.cpp", settings={"params.mode": "bench", "params.generate_tokens": 3}), "bench"),
        (Made(engine="llama.cpp", settings={"params.mode": ["bench"]}), "generate"),
        (Made(engine="command"), "infer"),
        (Made(engine="command", figures={"pp_tok_per_s": 3.0, "tg_tok_per_s": None}), "bench"),
        (Made(engine="command", figures={"decode_tok_per_s": 3.0}), "generate"),
        (Made(engine="roofline", settings={"params.mode": "fixed"}), "roofline"),
    ],
)
def test_the_kind_of_a_run_is_told_by_its_settings_its_engine_or_its_figures(
    tmp_path: Path, made: Made, kind: str
) -> None:
    (run,) = stored(tmp_path, [made])
    assert kind_of(run.record) == kind


def test_a_cold_load_is_called_cold(tmp_path: Path) -> None:
    cold = blocks(model, figures={"load_cold_s": 0.4, "load_warm_s": None})
    stored(tmp_path, [*cold, *blocks(model, quant="q8_0")])
    table = reported(tmp_path).tables[0]
    assert footnotes_of(table, cell(table, 0, "load")) == ["load: cold, the model was not in the page cache"]
    assert not footnotes_of(table, cell(table, 1, "load"))
