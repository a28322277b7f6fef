"""The roofline as an engine: what it takes, what it passes on, and a suite of it from the file to the record."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from melt.analysis.roofline import METRICS
from melt.cli.app import app
from melt.engines import Request, StopRules, engine_named
from melt.errors import Unsupported, UsageError
from melt.store import read_runs

if TYPE_CHECKING:
    from pathlib import Path

STOP = StopRules(warmup_s=0.5, warmup_n=3, min_s=3.0, min_n=5)


def request(params: dict[str, Any], **more: Any) -> Request:
    fields = {"library": "/opt/own", "machine": platform.machine(), **more}
    return Request(name="small", model=None, params=params, inputs={}, stop=STOP, **fields)


def argv(params: dict[str, Any]) -> tuple[str, ...]:
    engine = engine_named("roofline")
    return engine.command(engine.prepare(request(params)), lambda role: role, "/j").argv


def test_what_is_not_said_is_left_to_the_program_on_the_device() -> None:
    rest = ("--warmup-n", "3", "--warmup-s", "0.5", "--min-n", "11", "--min-s", "3.0")
    head = ("/opt/own", "--events", "/j/events.jsonl")
    assert argv({}) == (*head, *rest), "and a point is repeated as often as a median needs"
    said = ("--threads", "3", "--bytes", "1048576")
    assert argv({"threads": 3, "read_bytes": 1 << 20}) == (*head, *said, *rest)


@pytest.mark.parametrize(
    "params",
    [{"threads": 0}, {"threads": 1025}, {"threads": True}, {"threads": "2"}, {"read_bytes": 1}, {"read_bytes": 1.5e9}],
)
def test_a_parameter_of_no_sense_is_named(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=rf"workload 'small': params\.{next(iter(params))}: "):
        engine_named("roofline").prepare(request(params))


def test_more_threads_than_processors_are_told_and_stay_with_the_runs() -> None:
    said: list[str] = []
    engine = engine_named("roofline")
    prepared = engine.prepare(request({"threads": 8}, cpus=2, say=said.append))
    assert prepared.caveats == ("threads: 8 threads share 2 processors",)
    assert said == ["workload 'small': threads: 8 threads share 2 processors"]
    assert engine.prepare(request({"threads": 2}, cpus=2, say=said.append)).caveats == ()
    assert len(said) == 1


def test_a_machine_that_melt_has_no_program_for_is_a_gap() -> None:
    with pytest.raises(Unsupported, match="not for 'riscv64'"):
        engine_named("roofline").prepare(request({}, library=None, machine="riscv64"))


@pytest.mark.peer
def test_the_shipped_suite_measures_this_computer(tmp_path: Path) -> None:
    words = ["run", "workloads/roofline.yaml", "local", "--results", str(tmp_path), "--runs", "1", "--json"]
    words += ["--set", "protocol.min_s=0.2", "--set", "params.read_bytes=67108864"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (session,) = (file.parent for file in (tmp_path / "roofline").glob("*/session.json"))
    (run,) = read_runs(session)[0]
    record = run.record
    assert record.status == "ok", record.reasons
    cpus = len(os.sched_getaffinity(0))
    assert (record.engine["cpus"], record.engine["threads"]) == (cpus, cpus)
    assert record.engine["read_bytes"] <= 67108864
    assert record.synthetic_model is False
    for name in METRICS.values():
        assert (record.metrics[name].value or 0) > 0
        points = [m.value or 0 for key, m in record.metrics.items() if key.startswith(f"{name}.t")]
        assert record.metrics[name].value == max(points)
        assert f"{name}.t{cpus}" in record.metrics
    assert "latency_p50_s" not in record.metrics
    report = session / "report"
    shown = CliRunner().invoke(app, ["report", str(session)])
    assert shown.exit_code == 0, shown.output
    assert "ceiling" in (report / "report.md").read_text()
    assert json.loads((report / "report.json").read_text())
