"""`melt gate` as CI calls it: exit codes, what it prints, and the files that it leaves."""

from __future__ import annotations

import datetime as dt
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import typer
from nightly.made_nights import Nights, skipped
from typer.testing import CliRunner

from melt.cli.gate import EXAMPLE, gate
from melt.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def made(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "results" / "nightly", devices=("pi5", "orin"))


@pytest.fixture(autouse=True)
def in_the_morning(made: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate is called five hours after the last night has begun."""

    def now_s() -> float:
        return (made.begin - dt.timedelta(hours=19)).timestamp()

    monkeypatch.setattr("melt.cli.gate.time", SimpleNamespace(time=now_s))


def slow(device: str, _cell: str, metric: str) -> float:
    return 1.15 if (device, metric) == ("pi5", "latency_p50_s") else 1.0


def melt(*words: Any) -> Any:
    app = typer.Typer()
    app.command("gate", epilog=EXAMPLE)(gate)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["gate", *map(str, words)])


def in_xml(file: Path, tag: str) -> list[ET.Element]:
    return list(ET.fromstring(file.read_bytes()).iter(tag))  # noqa: S314 - our own file


def test_a_night_that_passes(made: Nights) -> None:
    made.nights(15)
    said = melt(made.suite)
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[0] == "pass: 6 series judged"


def test_a_planted_slow_down_first_suspect_then_confirmed_in_every_file(made: Nights, tmp_path: Path) -> None:
    made.nights(14)
    first = made.night(factor=slow)
    said = melt(made.suite)
    assert said.exit_code == 0
    assert said.stdout.startswith("suspect: 1 of 6 series outside")
    assert f"began in night {first}" in said.stdout
    assert "melt run nightly.yaml pi5 --lab lab.yaml --set protocol.runs=5" in said.stdout
    second = made.night(factor=slow)
    out = tmp_path / "out"
    said = melt(made.suite, "--junit", tmp_path / "gate.xml", "--md", tmp_path / "s" / "summary.md", "--out", out)
    assert said.exit_code == 1
    assert said.stdout.startswith("fail: 1 confirmed change (1 worse)")
    assert f"began in night {first}; confirmed by session {second}" in said.stdout
    (failure,) = in_xml(tmp_path / "gate.xml", "failure")
    assert f"began in night {first}" in failure.attrib["message"]
    summary = (tmp_path / "s" / "summary.md").read_text()
    assert f"`{first}`" in summary
    assert f"confirmed by `{second}`" in summary
    assert (out / "gate.md").read_text() == summary
    assert (out / "gate.xml").read_bytes() == (tmp_path / "gate.xml").read_bytes()
    kept = json.loads((out / "gate.json").read_text())
    (found,) = [one for one in kept["series"] if one["state"] != "ok"]
    assert (found["state"], found["since"], found["confirmed_by"]) == ("confirmed", first, second)
    assert (kept["overall"], kept["exit_code"]) == ("fail", 1)
    assert {path.name for path in out.iterdir()} == {"gate.json", "gate.md", "gate.xml"}


def test_as_json_nothing_else_is_on_stdout(made: Nights) -> None:
    made.nights(14)
    made.nights(2, factor=slow)
    said = melt(made.suite, "--json")
    assert said.exit_code == 1
    told = json.loads(said.stdout)
    assert told["counts"]["confirmed"] == 1
    assert len(told["series"]) == 6


def test_a_missing_device_is_never_a_pass_and_strict_makes_it_fail(made: Nights, tmp_path: Path) -> None:
    made.nights(14)
    made.night(devices=["orin"], planned=["pi5", "orin"])
    said = melt(made.suite, "--junit", tmp_path / "gate.xml")
    assert said.exit_code == 0
    assert said.stdout.startswith("incomplete: 1 missing")
    assert "pi5: no run was begun" in said.stdout
    assert melt(made.suite, "--strict", "--junit", tmp_path / "strict.xml").exit_code == 1
    assert len(in_xml(tmp_path / "gate.xml", "skipped")) == 1
    assert len(in_xml(tmp_path / "strict.xml", "error")) == 1


def test_a_night_of_which_nothing_can_be_judged_is_one_sentence_and_exit_1(made: Nights) -> None:
    made.nights(14)
    made.night(change=skipped)
    said = melt(made.suite)
    assert said.exit_code == 1
    assert said.stderr.count("\n") == 1
    assert "nothing could be judged" in said.stderr
    assert "precheck" in said.stderr


def test_the_first_nights_have_no_verdict(made: Nights) -> None:
    made.nights(4)
    said = melt(made.suite)
    assert said.exit_code == 0
    assert said.stdout.startswith("no verdict yet: night 4 of the suite")


def test_what_is_wrong_with_the_call_is_a_usage_error(made: Nights, tmp_path: Path) -> None:
    made.nights(2)
    for words in ((tmp_path / "nowhere",), (made.suite, "--axis", "moon"), (made.suite, "--metric", "latncy_p50_s")):
        assert isinstance(melt(*words).exception, UsageError), words
    assert melt(made.suite, "--history", 4).exit_code == 2
    run = next(made.suite.glob("*/*/run.json")).parent
    assert isinstance(melt(made.suite, "--out", run).exception, UsageError)
    assert isinstance(melt(made.suite, "--junit", run / "gate.xml").exception, UsageError)
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert isinstance(melt(made.suite, "--junit", blocked / "gate.xml").exception, UsageError)


def test_names_of_others_are_no_markup_on_the_terminal(made: Nights) -> None:
    made.devices = ("[bold]x[/nothing]\x1b[31m",)
    made.nights(14)
    made.nights(2, factor=lambda *_: 1.2)
    said = melt(made.suite)
    assert said.exit_code == 1, said.exception
    assert "[bold]x[/nothing]\ufffd[31m net latency_p50_s" in said.stdout
