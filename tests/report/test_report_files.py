"""What report.md, runs.csv and report.json say of runs whose fate is known."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from made_runs import BOARD, Made, session_of, skipped, store

from melt.errors import UsageError
from melt.records import Reason, ReasonCode
from melt.report import summary_tables, write_report
from melt.store import Unreadable, read_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.report import Report, Table

THROTTLED = (Reason(code=ReasonCode.THROTTLED, detail="the limit cpu.policy0.cap moved from 2400 to 1500 MHz"),)
CHARGER = (Reason(code=ReasonCode.CHARGER, detail="it was charging"),)
HOSTILE = "=cmd|' /C calc'!A1_<script>alert(1)</script>_[a](http://x.example)_`$x$`"
PICTURES = re.compile(r"\.(png|pdf)$")


def three(**more: Any) -> list[Made]:
    return [Made(block=block, **more) for block in range(3)]


def stored(root: Path, slots: Sequence[Made], name: str = "20261121T030000Z") -> None:
    session = session_of(root, slots, name)
    for at, made in enumerate(slots):
        store(session, made, at)


def reported(
    root: Path, title: str = "demo", unreadable: Sequence[Unreadable] = (), *, with_pictures: bool = False
) -> Report:
    runs, bad = read_runs(root)
    return write_report(runs, [*bad, *unreadable], root / "report", title, with_pictures=with_pictures)


def lines_of(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((report.folder / "runs.csv").read_text())))


def page_of(report: Report) -> str:
    return (report.folder / "report.md").read_text()


def json_of(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((report.folder / "report.json").read_text())
    return found


def cell(table: Table, row: int, header: str) -> str:
    names = [column.header.partition(" [")[0] for column in table.columns]
    return table.rows[row].cells[names.index(header)]


def footnotes_of(table: Table, text: str) -> str:
    marks = {mark: number for number, mark in enumerate("¹²³⁴⁵⁶⁷⁸⁹")}
    return " ".join(table.footnotes[marks[mark]] for mark in text if mark in marks)


def test_a_figure_is_the_geometric_mean_of_the_runs_with_its_interval(tmp_path: Path) -> None:
    stored(tmp_path, three())
    report = reported(tmp_path)
    shown = re.fullmatch(r"(\d+\.\d+) \[(\d+\.\d+)–(\d+\.\d+)\]", cell(report.tables[0], 0, "p50"))
    assert shown is not None
    metric = json_of(report)["cells"][0]["metrics"]["latency_p50_s"]
    medians = list(metric["runs"].values())
    assert len(medians) == 3
    mean = (medians[0] * medians[1] * medians[2]) ** (1 / 3)
    assert metric["value"] == pytest.approx(mean)
    assert float(shown[1]) == pytest.approx(1e3 * mean, rel=1e-3)
    assert float(shown[2]) < 1e3 * mean < float(shown[3])
    assert metric["low"] < mean < metric["high"]
    assert "Student's t" in json_of(report)["intervals"]["method"]


def test_under_three_runs_there_is_no_interval_and_it_says_why(tmp_path: Path) -> None:
    stored(tmp_path, three()[:2])
    report = reported(tmp_path)
    shown = cell(report.tables[0], 0, "p50")
    assert "[" not in shown
    assert "no interval: 2 of 3 runs" in footnotes_of(report.tables[0], shown)
    metric = json_of(report)["cells"][0]["metrics"]["latency_p50_s"]
    assert metric["low"] is None
    assert "3 runs" in metric["why_no_interval"]


def test_what_is_not_known_is_a_gap_with_its_reason_and_never_zero(tmp_path: Path) -> None:
    stored(tmp_path, three())
    report = reported(tmp_path)
    for header, why in (("energy / inference", "no sensor of energy"), ("hottest", "no temperature")):
        shown = cell(report.tables[0], 0, header)
        assert shown.startswith("–")
        assert why in footnotes_of(report.tables[0], shown)
    gaps = [line for line in lines_of(report) if line["metric"] in ("energy_j", "temperature_max_c", "latency_p99_s")]
    assert len(gaps) == 9
    assert all(line["value"] == "" and line["reason"] for line in gaps)
    metric = json_of(report)["cells"][0]["metrics"]["energy_j"]
    assert metric["value"] is None
    assert metric["reason"].startswith("no_sensor")
    missing = page_of(report).partition("## What is missing and why")[2].partition("\n## ")[0]
    assert "thermal: no file matches /sys/class/thermal/thermal_zone\\*/temp" in missing
    assert "`energy_j`" in missing


def test_a_percentile_that_the_samples_do_not_carry_is_a_dash(tmp_path: Path) -> None:
    stored(tmp_path, three(p50_s=0.1))
    report = reported(tmp_path)
    shown = cell(report.tables[0], 0, "p90")
    assert shown.startswith("–")
    assert "p90 needs 64 independent samples" in footnotes_of(report.tables[0], shown)


def test_energy_is_never_shown_without_its_boundary(tmp_path: Path) -> None:
    stored(tmp_path, three(rich=True, measured_s=125.0, p50_s=0.2, facts=BOARD))
    report = reported(tmp_path)
    shown = cell(report.tables[0], 0, "energy / inference")
    mean_s = json_of(report)["cells"][0]["metrics"]["latency_mean_s"]["value"]
    assert float(shown.split(" ")[0].replace(",", "")) == pytest.approx(6.1 * 1e3 * mean_s, rel=0.01)
    assert "boundary board_input, provenance measured" in footnotes_of(report.tables[0], shown)
    (_, net) = (json_of(report)["cells"][0]["metrics"][name] for name in ("j_per_inference", "j_per_inference_net"))
    assert net["value"] is None
    assert "idle" in net["reason"]


def test_an_invalid_run_is_in_no_figure_and_is_listed_with_its_reasons(tmp_path: Path) -> None:
    stored(tmp_path, [*three(), Made(block=3, p50_s=9.0, reasons=THROTTLED, measured_s=120)])
    report = reported(tmp_path)
    assert cell(report.tables[0], 0, "runs") == "3/4"
    assert cell(report.tables[0], 0, "verdict") == "3 valid, 1 invalid"
    assert json_of(report)["cells"][0]["metrics"]["latency_p50_s"]["maximum"] < 0.02
    listed = page_of(report).partition("## Runs that do not count")[2].partition("\n## ")[0]
    assert "20261121T030003Z-00000003" in listed
    assert "throttled: the limit cpu.policy0.cap moved from 2400 to 1500 MHz" in listed
    counts = {line["run_id"]: line["counts"] for line in lines_of(report)}
    assert list(counts.values()) == ["true", "true", "true", "false"]


def test_a_partial_run_counts_and_is_marked(tmp_path: Path) -> None:
    stored(tmp_path, [*three()[:2], Made(block=2, reasons=CHARGER)])
    report = reported(tmp_path)
    assert cell(report.tables[0], 0, "runs") == "3/3"
    assert cell(report.tables[0], 0, "verdict") == "2 valid, 1 partial"
    assert any("1 partial run included (charger)" in note for note in report.tables[0].rows[0].notes)
    assert "charger: it was charging" in page_of(report)


def test_a_run_skipped_first_and_run_later_counts_once_and_both_are_told(tmp_path: Path) -> None:
    slots = three()
    session = session_of(tmp_path, slots)
    store(session, Made(block=0, status="skipped", reasons=skipped()), 0)
    for at, made in enumerate(slots, 1):
        store(session, made, at)
    report = reported(tmp_path)
    assert cell(report.tables[0], 0, "runs") == "3/3"
    assert cell(report.tables[0], 0, "verdict") == "3 valid"
    assert "not run at first, run later: precheck: zone.cpu-thermal stayed at 61 °C" in page_of(report)
    assert len(json_of(report)["cells"][0]["runs"]["used"]) == 3


def test_what_was_planned_and_has_no_record_is_told(tmp_path: Path) -> None:
    slots = [*three(), *three(cell="vit-tiny", p50_s=0.04)]
    session = session_of(tmp_path, slots)
    for at, made in enumerate(slots[:2]):
        store(session, made, at)
    store(session, Made(block=2, status="skipped", reasons=skipped()), 2)
    report = reported(tmp_path)
    assert [cell(report.tables[0], row, "runs") for row in (0, 1)] == ["2/3", "0/3"]
    assert [cell(report.tables[0], row, "verdict") for row in (0, 1)] == ["2 valid, 1 skipped", "3 never started"]
    assert cell(report.tables[0], 1, "p50").startswith("–")
    assert "local, vit-tiny: 3 planned runs never started" in page_of(report)


def test_runs_that_may_not_be_pooled_are_rows_of_their_own(tmp_path: Path) -> None:
    stored(tmp_path, three(hard={"engine_version": "1.30.0"}), "20261120T030000Z")
    stored(tmp_path, three(hard={"engine_version": "1.31.0"}, seed=2), "20261121T030000Z")
    report = reported(tmp_path)
    workloads = [cell(report.tables[0], row, "workload") for row in (0, 1)]
    assert workloads == [f"mobilenetv3 (engine 1.{minor}.0) (synthetic)" for minor in (30, 31)]
    assert [cell(report.tables[0], row, "runs") for row in (0, 1)] == ["3/3", "3/3"]


def test_sessions_that_may_be_pooled_are_one_row_that_says_so(tmp_path: Path) -> None:
    stored(tmp_path, three(), "20261120T030000Z")
    stored(tmp_path, three(seed=2), "20261121T030000Z")
    report = reported(tmp_path)
    assert len(report.tables[0].rows) == 1
    assert cell(report.tables[0], 0, "runs") == "6/6"
    assert any("2 sessions together" in note for note in report.tables[0].rows[0].notes)


def test_a_copied_run_counts_once(tmp_path: Path) -> None:
    stored(tmp_path, three())
    runs, _ = read_runs(tmp_path)
    shutil.copytree(runs[0].path, tmp_path / "backup" / runs[0].path.name)
    report = reported(tmp_path)
    assert cell(report.tables[0], 0, "runs") == "3/3"
    assert f"it is run {runs[0].path.name} again" in " ".join(page_of(report).replace("\\", "").split())


def test_a_report_of_some_runs_of_a_session_does_not_call_the_others_missing(tmp_path: Path) -> None:
    stored(tmp_path, three())
    runs, _ = read_runs(tmp_path)
    report = write_report(runs[:1], [], tmp_path / "report", "demo", with_pictures=False)
    assert cell(report.tables[0], 0, "runs") == "1/?"
    assert "2 more of its runs lie beside those that this report was given" in page_of(report)


def test_simulated_synthetic_and_unverified_are_said_everywhere(tmp_path: Path) -> None:
    stored(tmp_path, three(simulated=True, verified=False))
    report = reported(tmp_path)
    assert cell(report.tables[0], 0, "device") == "local (simulated)"
    assert cell(report.tables[0], 0, "workload") == "mobilenetv3 (synthetic)"
    page = page_of(report)
    assert "**Simulated: at least one device is not hardware.**" in page
    assert "linux (not verified on the hardware)" in page
    assert {(line["simulated"], line["synthetic_model"], line["profile_verified"]) for line in lines_of(report)} == {
        ("true", "true", "false")
    }


def test_a_run_that_never_started_has_a_line_in_the_csv(tmp_path: Path) -> None:
    session = session_of(tmp_path, [Made()])
    store(session, Made(status="skipped", reasons=skipped()), 0)
    report = reported(tmp_path, with_pictures=True)
    (line,) = lines_of(report)
    assert (line["status"], line["counts"], line["metric"], line["value"]) == ("skipped", "false", "", "")
    assert "precheck: zone.cpu-thermal stayed at 61 °C" in line["reasons"]
    assert not [file for file in report.files if PICTURES.search(file.name)]
    assert any("no run that counts" in note for note in report.notes)


def test_hostile_names_stay_text_in_csv_and_markdown(tmp_path: Path) -> None:
    evil = Reason(code=ReasonCode.CHARGER, detail="line one\n# heading | <img src=x onerror=alert(1)>")
    hostile = {
        "device": HOSTILE,
        "cell": "+" + HOSTILE,
        "facts": {**BOARD, "soc": HOSTILE + "\n\n# heading"},
        "absent": {HOSTILE: HOSTILE},
        "caveats": ("@SUM(1)\n- item",),
        "reasons": (evil,),
    }
    stored(tmp_path, three(**hostile))
    report = reported(tmp_path, "-1+1")
    for line in lines_of(report):
        assert not any(text.startswith(("=", "+", "-", "@")) for text in line.values())
        assert line["device"] == f"'{HOSTILE}"
    raw = (report.folder / "runs.csv").read_text()
    assert raw.count("\n") == len(lines_of(report)) + 1
    page = page_of(report)
    assert not re.search(r"<(?!sup>|/sup>)", page)
    assert not re.search(r"(?<!\\)\]\(http", page)
    assert "http://" not in page
    assert "# heading" not in re.findall(r"^.*# heading", page, re.MULTILINE)
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# -1+1",
        "## Result",
        "## What was measured where",
        "## What is missing and why",
        "## Runs that do not count",
        "## Warnings and caveats",
        "## How it was measured",
    ]
    widths = {
        len(re.findall(r"(?<!\\)\|", line))
        for line in page.splitlines()
        if line.startswith("| ") and "synthetic" in line
    }
    assert widths == {len(report.tables[0].columns) + 1}


def test_the_page_says_what_measuring_cost_and_how_it_was_done(tmp_path: Path) -> None:
    stored(tmp_path, three())
    how = page_of(reported(tmp_path)).partition("## How it was measured")[2]
    assert "the agent took at most 0.40 % of one core, missed 3 deadlines of 1236 samples" in how
    assert (
        "Protocol: preset quick, 3 runs a cell, each at least 3 s and 11 inferences, after a warm-up of at least "
        "0.5 s and 3 inferences, seed 7."
    ) in how
    assert "version 1.31.0" in how


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    stored(tmp_path, three(rich=True, facts=BOARD))
    runs, _ = read_runs(tmp_path)
    first, second = (write_report(runs, [], tmp_path / name, "demo") for name in ("one", "two"))
    assert [f.name for f in first.files] == [f.name for f in second.files]
    for a, b in zip(first.files, second.files, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name


def test_an_unreadable_run_is_named(tmp_path: Path) -> None:
    stored(tmp_path, three())
    report = reported(tmp_path, unreadable=[Unreadable(tmp_path / "20261121T030009Z-ffffffff", "key 'cell': missing")])
    assert "`20261121T030009Z-ffffffff` cannot be read: key 'cell': missing" in page_of(report)
    assert json_of(report)["unreadable"] == [{"folder": "20261121T030009Z-ffffffff", "why": "key 'cell': missing"}]


def test_a_run_whose_raw_data_is_gone_is_still_in_the_table(tmp_path: Path) -> None:
    stored(tmp_path, three())
    runs, _ = read_runs(tmp_path)
    for run in runs:
        (run.path / "events.jsonl").unlink()
        (run.path / "trace.parquet").write_bytes(b"not parquet")
    report = reported(tmp_path, with_pictures=True)
    assert cell(report.tables[0], 0, "runs") == "3/3"
    assert not [file for file in report.files if PICTURES.search(file.name)]
    assert any("local/mobilenetv3" in note for note in report.notes)


def test_without_a_run_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run to report on"):
        write_report([], [], tmp_path / "report", "demo")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("below", ["", "report"])
def test_a_report_never_goes_into_a_runs_own_folder(tmp_path: Path, below: str) -> None:
    stored(tmp_path, three())
    runs, _ = read_runs(tmp_path)
    before = sorted(runs[0].path.iterdir())
    with pytest.raises(UsageError, match=r"is a run's own folder, which nothing may change: .* --out"):
        write_report(runs[:1], [], runs[0].path / below, "demo", with_pictures=False)
    assert sorted(runs[0].path.iterdir()) == before


def test_a_link_to_a_runs_own_folder_is_that_folder(tmp_path: Path) -> None:
    stored(tmp_path, three())
    runs, _ = read_runs(tmp_path)
    (tmp_path / "elsewhere").symlink_to(runs[0].path)
    with pytest.raises(UsageError, match="--out"):
        write_report(runs[:1], [], tmp_path / "elsewhere" / "report", "demo", with_pictures=False)


def test_alike_reasons_of_a_cells_runs_are_one_sentence_with_their_range(tmp_path: Path) -> None:
    busy = [
        Reason(code=ReasonCode.FOREIGN_LOAD, detail=f"others took {share} of one core while measuring (limit 0.10)")
        for share in (0.31, 0.15, 0.22)
    ]
    stored(tmp_path, [Made(block=block, reasons=(reason,)) for block, reason in enumerate(busy)])
    page = page_of(reported(tmp_path)).partition("## Warnings and caveats")[2]
    assert page.count("others took") == 1
    assert (
        "- local, mobilenetv3, in 3 of 3 runs that count: foreign_load: others took 0.15–0.31 of one core while "
        "measuring (limit 0.10)"
    ) in page


def test_a_code_is_one_sentence_also_where_its_details_are_not_alike(tmp_path: Path) -> None:
    details = ("others took 0.31 of one core", "others took 0.15 of one core, 0.02 of it guests")
    told = [Reason(code=ReasonCode.FOREIGN_LOAD, detail=detail) for detail in details]
    stored(tmp_path, [Made(block=block, reasons=(reason,)) for block, reason in enumerate(told)])
    page = page_of(reported(tmp_path)).partition("## Warnings and caveats")[2]
    assert f"in 2 of 2 runs that count: foreign_load: {details[0]}; or {details[1]}" in page


def test_an_agent_that_was_killed_is_not_said_to_have_left_something_changed(tmp_path: Path) -> None:
    changed = ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor = performance",)
    undone = [{"complete": False}, {"complete": False, "changed": changed}]
    stored(tmp_path, [Made(block=block, undo=undo) for block, undo in enumerate(undone)])
    page = page_of(reported(tmp_path))
    assert "-00000000: the agent was killed before it could tell whether everything was put back" in page
    assert "-00000001: not everything that was changed was put back (/sys/devices" in page


def test_a_reason_that_many_columns_share_is_one_footnote(tmp_path: Path) -> None:
    stored(tmp_path, [Made(block=0, status="skipped", reasons=skipped())])
    assert reported(tmp_path).tables[0].footnotes == ("no_run: no run of this cell counts",)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    stored(tmp_path, three())
    (tmp_path / "file").write_text("")
    runs, _ = read_runs(tmp_path)
    with pytest.raises(UsageError, match=r"cannot be written to .*file"):
        write_report(runs, [], tmp_path / "file" / "report", "demo")


def test_the_table_alone_is_the_reports_table(tmp_path: Path) -> None:
    stored(tmp_path, three())
    runs, _ = read_runs(tmp_path)
    assert summary_tables(runs) == reported(tmp_path).tables


def test_runs_that_lie_in_two_groups_are_told_beside_their_interval(tmp_path: Path) -> None:
    slots = [Made(block=block, p50_s=0.010 if block % 2 else 0.015, measured_s=1.0) for block in range(12)]
    session = session_of(tmp_path, slots)
    runs = [store(session, made, at) for at, made in enumerate(slots)]
    told = re.compile(r"its runs lie in two groups, 5\d % apart: the interval does not hold what it promises")
    (row,) = summary_tables(runs)[0].rows
    assert any(map(told.fullmatch, row.notes))
    (alike,) = summary_tables(runs[::2])[0].rows
    assert not any(map(told.fullmatch, alike.notes))
