"""Sensors that fail cost their own figures and nothing else."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from workspace import Workspace, until

from melt.device import open_device
from melt.engines import InputShape, Request, StopRules, engine_named
from melt.errors import ParseError
from melt.files import load_lab, load_suite
from melt.job import read_events
from melt.lab import begin_session, make_plan
from melt.readings.thermal import celsius
from melt.records import Channel, Sensor
from melt.run import Context, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from melt.store import StoredRun

pytestmark = pytest.mark.peer


def number(raw: bytes) -> float:
    try:
        return float(raw)
    except ValueError:
        raise ParseError("not a number", raw) from None


def sensor(name: str, path: Path, period_s: float = 0.05) -> Sensor:
    return Sensor(name, (Channel(f"{name}.c", "temperature", number),), period_s, str(path), timeout_s=0.2)


@pytest.fixture
def run_with(workspace: Workspace) -> Callable[..., StoredRun]:
    """Carries out one run on this computer with these sensors beside its own."""

    def run(*sensors: Sensor, min_s: float = 1.0, **limits: float) -> StoredRun:
        folder = workspace.folder
        workspace.suite(protocol={"preset": "quick", "runs": 1}, limits=limits)
        lab = load_lab(folder / "lab.yaml")
        plan = make_plan(*load_suite(str(folder / "suite.yaml")), lab, ("here",), {})
        session = begin_session(plan, workspace.results)
        spec = lab.device("here")
        with open_device("here", spec, lab.profile(spec)) as device:
            engine = engine_named("onnxruntime")
            model = folder / "toy.onnx"
            prepared = engine.prepare(
                Request("toy", model, device.machine, {}, {"input": InputShape()}, StopRules(0.0, 1, min_s, 11))
            )
            odd = dataclasses.replace(device, sensors=(*device.sensors, *sensors))
            context = Context(session, odd, engine, prepared, plan.cells[0].record)
            return carry_out(context, plan.order[0], 0.0)

    return run


def test_a_sensor_file_that_is_missing_is_a_gap_with_its_reason(
    run_with: Callable[..., StoredRun], tmp_path: Path
) -> None:
    stored = run_with(sensor("gone", tmp_path / "gone"))
    assert stored.record.usable
    rows = stored.trace().query("sensor == 'gone'")
    assert set(rows["error"]) == {"missing"}
    assert rows["value"].isna().all()
    assert stored.record.metrics["temperature_max_c"].value is None
    assert stored.record.metrics["latency_p50_s"].value is not None


def test_a_sensor_that_prints_garbage_is_a_gap_and_its_text_is_kept(
    run_with: Callable[..., StoredRun], tmp_path: Path
) -> None:
    (tmp_path / "odd").write_bytes(b'\x00\xff,"nan\n12 C')
    stored = run_with(sensor("odd", tmp_path / "odd"))
    rows = stored.trace().query("sensor == 'odd'")
    assert set(rows["error"]) == {"garbage"}
    assert r"\x00\xff," in (stored.path / "trace.csv").read_text("latin-1")
    assert stored.record.metrics["temperature_max_c"].value is None


def test_a_sensor_that_hangs_stops_no_other(run_with: Callable[..., StoredRun], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")
    (tmp_path / "fine").write_text("41.5\n")
    stored = run_with(sensor("hangs", tmp_path / "hangs"), sensor("fine", tmp_path / "fine"))
    trace = stored.trace()
    assert set(trace.query("sensor == 'hangs'")["error"]) == {"hangs"}
    fine = trace.query("sensor == 'fine'")
    assert fine["error"].isna().all()
    assert len(fine) > 10
    assert stored.record.metrics["temperature_max_c"].value == 41.5


def test_a_sensor_that_vanishes_makes_the_run_partial(run_with: Callable[..., StoredRun], tmp_path: Path) -> None:
    (tmp_path / "leaves").write_text("40\n")

    def vanish() -> None:
        time.sleep(1.0)
        (tmp_path / "leaves").unlink()

    thread = threading.Thread(target=vanish)
    thread.start()
    reopened = dataclasses.replace(sensor("leaves", tmp_path / "leaves"), reopen=True)
    stored = run_with(reopened, min_s=2.5)
    thread.join()
    assert "sensor_gap" in [reason.code for reason in stored.record.reasons]
    assert stored.record.verdict == "partial"


def test_a_wall_clock_that_is_set_during_a_run_changes_no_figure(
    run_with: Callable[..., StoredRun], workspace: Workspace
) -> None:
    if os.environ.get("MELT_TEST_MAY_STEP_CLOCK") != "1":
        pytest.skip("sets this machine's clock for two seconds: only where MELT_TEST_MAY_STEP_CLOCK=1, as in CI")
    step_s = 3600.0
    stepped = threading.Event()

    def step() -> None:
        events = until(lambda: list((workspace.workdir / "melt" / "jobs").glob("*/events.jsonl")), "a job")[0]
        until(lambda: len(read_events(events).inferences) > 50, "fifty inferences")
        try:
            time.clock_settime(time.CLOCK_REALTIME, time.time() + step_s)
        except PermissionError:
            return
        stepped.set()

    thread = threading.Thread(target=step)
    thread.start()
    try:
        stored = run_with(min_s=2.0)
    finally:
        thread.join()
        if stepped.is_set():
            time.clock_settime(time.CLOCK_REALTIME, time.time() - step_s)
    if not stepped.is_set():
        pytest.skip("this machine lets nobody set its clock")
    record = stored.record
    assert record.clock.realtime_step_s == pytest.approx(step_s, abs=1.0)
    assert record.usable, record.reasons
    assert "suspended" not in [reason.code for reason in record.reasons]
    latency = record.metrics["latency_p50_s"].value
    assert latency is not None
    assert 0 < latency < 1


def test_an_engine_on_a_device_over_its_ceiling_is_ended_and_its_data_kept(
    run_with: Callable[..., StoredRun], workspace: Workspace, tmp_path: Path
) -> None:
    temperature = tmp_path / "temp"
    temperature.write_text("30000\n")

    def heat_up() -> None:
        events = until(lambda: list((workspace.workdir / "melt" / "jobs").glob("*/events.jsonl")), "a job")[0]
        until(lambda: len(read_events(events).inferences) > 50, "fifty inferences")
        temperature.write_text("91000\n")

    heat = threading.Thread(target=heat_up)
    heat.start()
    channel = Channel("zone.cpu", "temperature", celsius, raw_per_unit=1000)
    stored = run_with(Sensor("zone.cpu", (channel,), 0.05, str(temperature)), min_s=20.0, zone_max_c=90.0)
    heat.join()
    assert (stored.record.status, stored.record.verdict) == ("failed", "invalid")
    assert "ceiling" in [reason.code for reason in stored.record.reasons]
    assert len(stored.events().inferences) > 10
