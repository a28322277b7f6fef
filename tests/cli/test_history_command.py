"""`melt history`: the series of nights as a person, a program and a picture get it."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import typer
from nightly.made_nights import HARD, Nights, spoilt
from typer.testing import CliRunner

from melt.analysis.gate import Night, SessionValues
from melt.cli import history as command
from melt.cli.console import out
from melt.errors import UsageError
from melt.history.nights import Series
from melt.report.history_chart import HEIGHT, MEDIAN, NO_VALUE, STEP, chart, night_lines
from melt.report.history_files import history_csv, history_data, write_history
from melt.report.history_table import History, history_of, metric_named

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer()
app.command()(command.history)
METRIC = "latency_p50_s"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of one width wherever the tests run."""
    monkeypatch.setattr(type(out), "width", 100)


def called(*argv: str) -> str:
    """What the command prints; its UsageError is raised."""
    done = CliRunner().invoke(app, [*argv], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return str(done.output)


@pytest.fixture
def made(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "nightly", blocks=3)


def series(values: list[list[float]], **about: Any) -> Series:
    """A series made by hand: a night for each list, named by date."""
    nights = tuple(
        Night((SessionValues(f"202601{i + 1:02}T030000Z" if i < 31 else f"night-{i}", tuple(of)),))
        for i, of in enumerate(values)
    )
    told = {"device": "pi5", "cell": "net", "metric": METRIC, "unit": "s", "total": None, "notes": (), **about}
    return Series(nights=nights, **told)


def noisy(number: int, step: int | None = None) -> History:
    rng = np.random.default_rng(number)
    levels = [0.01 * (1.15 if step is not None and i >= step else 1.0) for i in range(number)]
    return history_of(series([(level * np.exp(rng.normal(0, 0.01, 5))).tolist() for level in levels]))


def test_a_step_is_named_in_words_in_the_chart_and_in_the_table(made: Nights) -> None:
    made.nights(12)
    slow = made.nights(8, factor=1.15)
    said = called(str(made.suite), "--metric", METRIC)
    assert re.search(rf"a new level since night {slow[0]}: \+1[45]\.\d%", said)
    assert "pi5  net  latency_p50_s (s)" in said
    (row,) = [line for line in said.splitlines() if line.startswith(slow[0])]
    assert "3 runs" in row
    assert re.search(r"new level, \+1[45]\.\d%", row)
    marks = [line for line in said.splitlines() if line.strip() == STEP]
    assert len(marks) == 1


def test_the_suite_is_named_where_there_are_several(made: Nights) -> None:
    made.nights(2)
    Nights(made.suite.parent / "weekly", blocks=2).nights(2)
    said = called(str(made.suite.parent), "--metric", METRIC)
    assert "nightly: pi5  net  latency" in said
    assert "weekly: pi5  net  latency" in said
    assert "nightly: " not in called(str(made.suite), "--metric", METRIC)


def test_one_night_alone_is_shown(made: Nights) -> None:
    name = made.night()
    said = called(str(made.suite), "--metric", METRIC, "--out", str(made.suite.parent / "shown"))
    assert said.count(name) == 2  # below the chart, and its line
    assert "3 runs" in said
    assert "new level" not in said


def test_a_night_without_a_value_is_a_gap_with_a_note(made: Nights) -> None:
    made.nights(3)
    gap = made.night(change=spoilt)
    made.nights(3)
    said = called(str(made.suite), "--metric", METRIC)
    assert f"no usable value in night {gap}" in said
    assert [line for line in said.splitlines() if line.startswith(gap) and "no value" in line]
    assert [line for line in said.splitlines() if line.strip() == NO_VALUE]
    told = json.loads(called(str(made.suite), "--metric", METRIC, "--json"))["series"][0]["nights"]
    assert told[3] == {"night": gap, "median": None, "reason": "no usable value in this night", "sessions": []}
    assert len(told) == 7


def test_a_series_that_was_cut_says_why(made: Nights) -> None:
    made.nights(3)
    first = made.night(hard={**HARD, "engine_version": "1.32.0"})
    said = called(str(made.suite), "--metric", METRIC)
    assert f"begins in night {first}" in said
    assert "engine_version changed" in said


def test_a_key_that_may_change_ends_no_series(made: Nights) -> None:
    made.nights(3)
    made.night(hard={**HARD, "engine_version": "1.32.0"})
    data = json.loads(called(str(made.suite), "--metric", METRIC, "--axis", "engine_version", "--json"))
    assert [len(one["nights"]) for one in data["series"]] == [4]


def test_devices_and_cells_are_chosen_by_name(tmp_path: Path) -> None:
    made = Nights(
        tmp_path / "nightly", devices=("pi5", "orin"), cells=("net", "net[threads=4]", "vit[threads=1]"), blocks=2
    )
    made.nights(2)
    suite = str(made.suite)

    def chosen(*argv: str) -> list[tuple[str, str]]:
        told = json.loads(called(suite, "--metric", METRIC, "--json", *argv))["series"]
        return [(one["device"], one["cell"]) for one in told]

    assert len(chosen()) == 6
    assert chosen("--device", "orin", "--cell", "net") == [("orin", "net")]
    assert chosen("--cell", "vit") == [("orin", "vit[threads=1]"), ("pi5", "vit[threads=1]")]
    said = called(suite, "--metric", METRIC)
    assert "the nights of 6 series are not listed" in said
    assert "95 % interval" not in said
    with pytest.raises(UsageError, match=r"device 'pi6': did you mean 'pi5'\?"):
        called(suite, "--metric", METRIC, "--device", "pi6")
    with pytest.raises(UsageError, match="cell 'resnet'"):
        called(suite, "--metric", METRIC, "--cell", "resnet")


def test_a_metrics_name_is_taken_kindly() -> None:
    known = {"decode_tok_per_s", "prefill_tok_per_s", "inferences_per_s"}
    assert metric_named("decode_tok_per_s", known) == "decode_tok_per_s"
    assert metric_named("decode_tok_s", known) == "decode_tok_per_s"
    with pytest.raises(UsageError, match=r"did you mean 'decode_tok_per_s'\?"):
        metric_named("decode_token_per_s", known)
    with pytest.raises(UsageError, match=r"may be a_b_per or a_per_b"):
        metric_named("a_b", {"a_per_b", "a_b_per"})
    with pytest.raises(UsageError, match="none is known"):
        metric_named("latency_s", set())


def test_what_there_is_not_is_told_with_what_there_is(made: Nights) -> None:
    made.night(change=spoilt)
    with pytest.raises(UsageError, match="none is known"):
        called(str(made.suite), "--metric", METRIC)
    made.night()
    with pytest.raises(UsageError, match=r"'wall_w': valid: latency_p50_s, load_s, peak_memory_bytes"):
        called(str(made.suite), "--metric", "wall_w")
    with pytest.raises(UsageError, match=r"with --metric; .* has: latency_p50_s, load_s, peak_memory_bytes"):
        called(str(made.suite))
    with pytest.raises(UsageError):
        called(str(made.suite.parent / "nowhere"), "--metric", METRIC)


def test_simulated_and_imported_results_are_marked_everywhere(made: Nights) -> None:
    def virtual(record: dict[str, Any]) -> None:
        record["simulated"] = True
        record["fingerprint"]["hard"]["simulated"] = True

    made.nights(2, change=virtual)
    assert "SIMULATED" in called(str(made.suite), "--metric", METRIC)
    assert json.loads(called(str(made.suite), "--metric", METRIC, "--json"))["series"][0]["simulated"] is True
    assert history_of(series([[1.0]]), imported=("llama-bench",)).tags == ("imported from llama-bench",)


def test_the_files_hold_the_same_as_the_terminal(made: Nights, tmp_path: Path) -> None:
    made.nights(9)
    made.rerun()
    made.nights(9, factor=0.8)
    folder = tmp_path / "shown"
    folder.mkdir()
    (folder / "history-2.png").write_bytes(b"of an earlier, longer one")
    (folder / "latency.png").write_bytes(b"of a report")
    said = called(str(made.suite), "--metric", METRIC, "--out", str(folder))
    assert {path.name for path in folder.iterdir()} == {
        "history.png",
        "history.pdf",
        "history.csv",
        "history.json",
        "latency.png",
    }
    assert "history.png" in said
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO((folder / "history.csv").read_text())))
    told = json.loads((folder / "history.json").read_text())
    assert [row["night"] for row in rows] == [night["night"] for night in told["series"][0]["nights"]]
    assert [float(row["median"]) for row in rows] == [night["median"] for night in told["series"][0]["nights"]]
    assert [row["reruns"] for row in rows] == ["0"] * 8 + ["1"] + ["0"] * 9
    ((step, night),) = [(row["step"], row["night"]) for row in rows if row["step"]]
    assert float(step) == pytest.approx(-0.2, abs=0.02)
    assert told["series"][0]["steps"] == [{"night": night, "change": float(step)}]
    sessions = told["series"][0]["nights"][8]["sessions"]
    assert [(len(one["values"]), one["independent"]) for one in sessions] == [(3, True), (3, False)]


def test_nothing_is_written_into_a_runs_folder(made: Nights) -> None:
    made.night()
    run = next(made.suite.glob("*/*/run.json")).parent
    with pytest.raises(UsageError, match="a run's own folder"):
        called(str(made.suite), "--metric", METRIC, "--out", str(run))


@pytest.mark.parametrize("width", [20, 40, 79, 200])
@pytest.mark.parametrize("number", [1, 2, 13, 31, 400])
def test_a_chart_fits_any_width_and_shows_every_night(number: int, width: int) -> None:
    lines = chart(noisy(number, number // 2 if number > 12 else None), width)
    drawn = lines[:HEIGHT]
    assert all(len(line) <= width for line in drawn)
    columns = sum(line.count(MEDIAN) for line in drawn)
    assert columns == number if number < width - 12 else 4 <= columns <= width
    assert all(c.isascii() for line in lines for c in line)
    if number > 12:
        assert STEP in lines[HEIGHT]


def test_equal_values_are_drawn_in_the_middle() -> None:
    lines = chart(history_of(series([[5.0, 5.0]] * 3)), 60)[:HEIGHT]
    assert sum(MEDIAN in line for line in lines) == 1
    assert MEDIAN in lines[HEIGHT // 2 - 1] + lines[HEIGHT // 2]
    assert chart(history_of(series([[0.0]] * 3)), 60)


def test_a_narrow_terminal_has_a_line_a_night_with_the_same_figures() -> None:
    shown = noisy(5)
    for wide, narrow in zip(night_lines(shown, 100, 30)[1:], night_lines(shown, 30, 30), strict=True):
        assert wide.replace(" ", "") == narrow.replace(" ", "").replace(":", "", 1)
    few = night_lines(shown, 100, 2)
    assert "3 earlier nights" in few[0]
    assert len(few) == 4


def test_under_three_runs_there_is_no_interval() -> None:
    (_, line) = night_lines(history_of(series([[1.0, 2.0]])), 100, 30)
    assert "2 runs, no interval" in line
    assert "[" not in line


def test_names_from_elsewhere_are_harmless(tmp_path: Path) -> None:
    evil = history_of(series([[1.0, 2.0, 3.0]] * 2, device="=cmd()", cell="[red]$x$\x1b[2J", total="@a"))
    assert "'=cmd()" in history_csv([evil])
    assert json.loads(json.dumps(history_data([evil], "t", []), allow_nan=False))["series"][0]["device"] == "=cmd()"
    assert write_history([evil], tmp_path, "$\\frac$", ["note"]).files


def test_a_step_from_a_level_of_zero_has_no_share(tmp_path: Path) -> None:
    shown = history_of(series([[0.0]] * 12 + [[4.0 + i % 2] for i in range(12)]))
    assert [one.step.change for one in shown.steps if one.step] == [math.inf]
    (told,) = history_data([shown], "t", [])["series"]
    assert told["steps"] == [{"night": "20260113T030000Z", "change": None}]
    assert write_history([shown], tmp_path, "t", []).files


def test_many_series_are_pages_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    written = write_history([noisy(3)] * 12, tmp_path, "t", [])
    assert [file.name for file in written.files if file.suffix == ".png"] == [
        "history.png",
        "history-2.png",
        "history-3.png",
    ]
