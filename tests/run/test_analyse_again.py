"""Today's analysis on yesterday's raw data: the same numbers where nothing changed, the old ones kept where it did."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from made_sessions import Made, model, session_of, skipped, store

from melt.analysis.analysed import analysed
from melt.analysis.events import Asked
from melt.analysis.verdict import verdict
from melt.errors import DeviceError, UsageError
from melt.job import parse_events
from melt.records import (
    METRIC_VERSION,
    EnergyBasis,
    IdlePower,
    ImportNote,
    Metric,
    Reason,
    ReasonCode,
    Response,
    SensorNote,
    TotalRule,
    gap,
)
from melt.run.again import Idles, again, analyse_runs
from melt.run.changes import by_metric
from melt.store import Analysis, Session, StoredRun, keep_analysis, read_run, read_runs
from melt.virtual.lab import virtual_lab

if TYPE_CHECKING:
    from workspace import Workspace

WEIGHTS = {"weight_bytes_per_token", "weight_count_per_token"}
LLAMA_BENCH = "\n".join(
    json.dumps({"n_prompt": prompt, "n_gen": generated, "samples_ns": [200_000_000] * 3, "avg_ts": 99.0})
    for prompt, generated in ((20, 0), (0, 10))
)
S = 1_000_000_000
NEW = f"analysis-{METRIC_VERSION}.json"


def reread(run: StoredRun) -> StoredRun:
    found = read_run(run.path)
    assert isinstance(found, StoredRun)
    return found


def edited(run: StoredRun, **changes: Any) -> StoredRun:
    """The run with other words in its run.json."""
    file = run.path / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return reread(run)


def aged(run: StoredRun, **planted: float | None) -> StoredRun:
    """The run as a melt of metric version 1 would have left it, with figures of its own."""
    told = json.loads((run.path / "run.json").read_text())
    for metric in told["metrics"].values():
        metric.pop("version", None)
    figures = {n: {"value": None, "reason": "old: x"} if v is None else {"value": v} for n, v in planted.items()}
    hard = {**told["fingerprint"]["hard"], "metric_version": 1}
    return edited(
        run,
        metric_version=1,
        metrics={**told["metrics"], **figures},
        fingerprint={**told["fingerprint"], "hard": hard},
    )


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return session_of(tmp_path / "results", [Made(block=block) for block in range(3)])


def made(run: StoredRun) -> Analysis:
    found = again(run, Idles())
    assert found is not None
    return found


def values(metrics: Any) -> dict[str, Any]:
    return {name: (m.value, m.n, m.reason, m.note, m.error) for name, m in metrics.items()}


# ---------------------------------------------------------------------------------- what raw data gives, it gives again


def unchanged(run: StoredRun) -> None:
    """Everything that the record says of the run follows from the raw data beside it."""
    record = run.original
    analysis = made(run)
    assert dict(analysis.metrics) == dict(record.metrics)
    assert list(analysis.metrics) == list(record.metrics)
    assert (analysis.verdict, analysis.reasons, analysis.energy) == (record.verdict, record.reasons, record.energy)
    assert analysis.applied_to(record) == record


@pytest.mark.peer
def test_the_raw_data_of_runs_made_here_gives_the_numbers_of_their_records(workspace: Workspace) -> None:
    """A network and a model behind a meter, and a program whose words an adapter reads."""
    meter = "import time\nwhile True: print(time.monotonic_ns(), 2.5, flush=True); time.sleep(0.005)"
    device = {"profile": "bare", "address": "local:", "workdir": str(workspace.workdir), "meter": "bench"}
    command = {"type": "command", "boundary": "board_input", "gain_error": 0.01}
    meters = {"bench": {**command, "argv": [sys.executable, "-c", meter]}}
    workspace.write("lab.yaml", {"kind": "lab", "devices": {"here": device}, "meters": meters})
    request = {"mode": "fixed", "prompt_tokens": 16, "generate_tokens": 9}
    toy = {"kind": "workload", "engine": "llama.cpp", "model": {"make": "llm-toy", "quant": "q4_0"}, **request}
    workspace.write("llm.yaml", {**toy, "name": "llm"})
    (workspace.folder / "bench.sh").write_text(f"#!/bin/sh\nsleep 0.2\ncat <<'END'\n{LLAMA_BENCH}\nEND\n")
    params = {"program": "bench.sh", "output": "llama-bench"}
    workspace.write("told.yaml", {"kind": "workload", "name": "told", "engine": "command", "params": params})
    protocol = {"preset": "quick", "runs": 1, "min_s": 0.3, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
    workspace.suite(workloads=["toy", "llm", "told"], protocol=protocol)
    said = workspace.run()
    runs = {run.record.cell: run for run in workspace.runs()}
    assert set(runs) == {"toy", "llm", "told"}, said
    for run in runs.values():
        unchanged(run)
    assert runs["toy"].record.metrics["latency_p50_s"].value
    assert runs["llm"].record.metrics["decode_tok_per_s"].value
    assert set(made(runs["llm"]).carried) == WEIGHTS
    assert runs["told"].record.metrics["tg_tok_per_s"].value == pytest.approx(50.0)
    assert made(runs["told"]).carried == ()
    assert {run.record.energy.total.boundary for run in runs.values() if run.record.energy.total} == {"board_input"}
    outcome = analyse_runs(workspace.results)
    assert (outcome.analysed, outcome.kept, outcome.changes, outcome.failed) == (3, 0, [], [])
    assert not list(workspace.results.rglob("analysis-*"))


@pytest.mark.peer
@pytest.mark.xdist_group("virtual boards")
def test_the_raw_data_of_a_board_with_heat_clocks_and_rails_gives_the_numbers_of_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "virtual"))
    from boards_lab import Bench  # noqa: PLC0415 - it lies beside the tests of the boards

    bench = Bench(tmp_path)
    with contextlib.ExitStack() as stack:
        try:
            lab = stack.enter_context(virtual_lab(bench.boards, only=("jetson",), say=print))
        except DeviceError as error:
            pytest.skip(f"a virtual board is NOT tested: {error}")
        run = bench.carry_out(lab, "jetson")["jetson"]
    assert {note.quantity for note in run.record.sensors.values()} >= {"clock", "temperature", "power"}
    unchanged(run)


@pytest.mark.parametrize("what", [Made(), Made(rich=True, device="pi5")])
def test_a_run_that_was_analysed_as_now_stays_as_it_is(what: Made, tmp_path: Path) -> None:
    run = store(session_of(tmp_path, [what]), what)
    outcome = analyse_runs(tmp_path)
    assert (outcome.analysed, outcome.kept, outcome.changes) == (1, 0, [])
    assert reread(run) == run
    assert values(made(run).metrics) == values(run.record.metrics)


def test_a_models_figures_are_made_again_and_what_is_known_of_its_file_is_carried(tmp_path: Path) -> None:
    run = store(session_of(tmp_path, [model()]), model())
    planted = {"decode_read_bytes_per_s", "load_warm_s", "load_cold_s"}
    outcome = analyse_runs(tmp_path)
    assert set(outcome.changes[0].metrics) <= planted
    metrics, analysis = reread(run).record.metrics, outcome.changes[0].analysis
    assert {"decode_tok_per_s", "ttft_s", "prefill_tok_per_s", "itl_p50_s"} <= set(metrics)
    assert set(analysis.carried) - planted == WEIGHTS
    rate, weights = metrics["decode_tok_per_s"].value, metrics["weight_bytes_per_token"].value
    assert metrics["decode_read_bytes_per_s"].value == pytest.approx(rate * weights)


# --------------------------------------------------------------------------------------------------- what has changed


def test_old_numbers_become_todays_and_stay_beside_them(session: Session) -> None:
    fresh = [store(session, Made(block=block), block) for block in range(3)]
    old = [aged(run, latency_p50_s=7.5, inferences_per_s=None, of_long_ago=3.0) for run in fresh[:2]]
    outcome = analyse_runs(session.path)
    assert (outcome.analysed, outcome.kept, len(outcome.changes), outcome.failed) == (3, 2, 2, [])
    assert not (fresh[2].path / NEW).exists()
    for first, before in zip(fresh, old, strict=False):
        run = reread(before)
        assert run.original == before.record
        assert run.original.metrics["latency_p50_s"].value == 7.5
        assert run.record.metrics["latency_p50_s"] == first.record.metrics["latency_p50_s"].model_copy(
            update={"version": METRIC_VERSION}
        )
        assert values(run.record.metrics) == values(first.record.metrics) | {"of_long_ago": (3.0, *[None] * 4)}
        assert run.record.metrics["of_long_ago"].version == 1, "what cannot be made again keeps its version"
        assert run.record.metric_version == run.record.fingerprint.hard["metric_version"] == METRIC_VERSION
        assert (run.record.reasons, run.record.verdict) == (first.record.reasons, first.record.verdict)
    told = {change.metric: change for change in by_metric(outcome.changes)}
    assert set(told) == {"latency_p50_s", "inferences_per_s"}
    assert (told["latency_p50_s"].runs, told["latency_p50_s"].old) == (2, 7.5)
    assert told["latency_p50_s"].largest == pytest.approx(1 - 0.0123 / 7.5, abs=1e-3)
    assert (told["inferences_per_s"].found, told["inferences_per_s"].old) == (2, None)


def test_the_second_time_nothing_is_written(session: Session) -> None:
    run = aged(store(session, Made()), latency_p50_s=7.5)
    assert analyse_runs(session.path).kept == 1
    before = (run.path / NEW).stat()
    outcome = analyse_runs(session.path)
    assert (outcome.analysed, outcome.kept, outcome.changes) == (1, 0, [])
    assert (run.path / NEW).stat().st_mtime_ns == before.st_mtime_ns


def test_shown_only_nothing_is_written(session: Session) -> None:
    run = aged(store(session, Made()), latency_p50_s=7.5)
    names = sorted(file.name for file in run.path.iterdir())
    outcome = analyse_runs(session.path, keep=False)
    assert (outcome.kept, len(outcome.changes)) == (1, 1)
    assert sorted(file.name for file in run.path.iterdir()) == names
    assert reread(run) == run


def test_a_verdict_is_todays_and_what_only_the_host_saw_is_kept(session: Session) -> None:
    said = {
        ReasonCode.NO_SPACE: "the disk was full",
        ReasonCode.THROTTLED: "as the analysis of that time had it",
        ReasonCode.OUTPUT_MISMATCH: "largest difference 3: the outputs differ",
    }
    run = store(session, Made(reasons=tuple(Reason(code=code, detail=detail) for code, detail in said.items())))
    assert [reason.code for reason in made(run).reasons] == [ReasonCode.NO_SPACE, ReasonCode.OUTPUT_MISMATCH]
    assert made(run).verdict == "invalid"
    throttled = store(session, Made(block=1, reasons=(Reason(code=ReasonCode.THROTTLED, detail="x"),)), 1)
    assert throttled.record.verdict == "invalid"
    outcome = analyse_runs(throttled.path)
    assert [change.verdict for change in outcome.changes] == [("invalid", "valid")]
    assert reread(throttled).record.usable
    assert not reread(throttled).original.usable


def test_what_was_asked_of_the_run_is_read_from_its_record(session: Session) -> None:
    """In a sustained cell slowing is the result; what is none of the two modes is told."""
    run = store(session, Made())
    resolved = {"protocol.mode": {"value": "sustained", "from": "suite"}}
    assert "sustained_ratio" not in made(run).metrics or made(run).metrics["sustained_ratio"].value is None
    of_both = [values(made(edited(run, resolved=told)).metrics) for told in ({}, resolved)]
    assert of_both[0] != of_both[1]
    with pytest.raises(UsageError, match=r"protocol\.mode"):
        again(edited(run, resolved={"protocol.mode": {"value": "mad", "from": "suite"}}), Idles())


# ----------------------------------------------------------------------------------------------- the block's idle power


def powered(session: Session, block: int, *, idle: IdlePower | None) -> StoredRun:
    """A run of 60 s and more at 5 W; one without the idle power of another began with an idle window of 61 s at 2 W."""
    first = store(session, Made(block=block, measured_s=66.0, p50_s=0.1), block)
    lines = [json.loads(line) for line in (first.path / "events.jsonl").read_text().splitlines()]
    start, end = lines[0]["t"], lines[-1]["t"]
    begin = start - (62 if idle is None else 1) * S
    lines[0]["t"] = begin
    if idle is None:
        window = [{"t": begin + S // 10, "ev": "agent.idle.begin"}, {"t": start - S // 10, "ev": "agent.idle.end"}]
        lines[1:1] = window
    t = np.arange(begin, end, S // 10, dtype=np.int64)
    columns = {"t_ns": t, "due_ns": t, "read_ns": 0, "sensor": "board", "channel": "board.power", "error": None}
    trace = pd.DataFrame({**columns, "value": np.where(t < start, 2.0, 5.0)})
    response = Response(refresh_s=0.1, averages=True, lag_error_s=0.0)
    about = {"boundary": "board_input", "provenance": "measured", "response": response, "unit": "w"}
    note = SensorNote(sensor="board", quantity="power", source="made", period_s=0.1, **about)
    energy = EnergyBasis(total=TotalRule(sum=("board.power",), boundary="board_input"), idle=idle)
    told = parse_events(io.BytesIO("".join(json.dumps(line) + "\n" for line in lines).encode()))
    found = analysed(told, trace, {"board.power": note}, Asked(energy=energy), first.record.run_id)
    hard = {**first.record.fingerprint.hard, "metric_version": METRIC_VERSION}
    record = first.record.model_copy(
        update={
            "fingerprint": first.record.fingerprint.model_copy(update={"hard": hard}),
            "metrics": found.metrics,
            "energy": found.energy,
            "sensors": {"board.power": note},
            "reasons": found.reasons,
            "verdict": verdict("ok", found.reasons),
        }
    )
    shutil.rmtree(first.path)
    with session.writing(record.run_id) as folder:
        (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        trace.to_parquet(folder / "trace.parquet", index=False)
        return session.publish(folder, record)


def test_the_idle_power_of_a_block_is_that_of_todays_analysis_in_all_of_its_runs(session: Session) -> None:
    first = powered(session, 0, idle=None)
    idle = first.record.energy.idle
    assert idle is not None
    assert idle.power_w == pytest.approx(2.0, rel=0.01)
    second = powered(session, 1, idle=idle)
    for run in (first, second):
        unchanged(run)
        assert run.record.metrics["energy_net_j"].value is not None
    energy = second.record.energy.model_dump(mode="json")
    wrong = edited(second, energy={**energy, "idle": {**energy["idle"], "power_w": 3.0}})
    assert made(wrong).energy == second.record.energy
    assert made(wrong).metrics["energy_net_j"] == second.record.metrics["energy_net_j"]
    with (first.path / "trace.parquet").open("ab") as file:
        file.write(b"x")
    kept = made(wrong)
    assert kept.energy.idle is not None
    assert kept.energy.idle.power_w == 3.0, "the run that measured it is not what it was"
    net, gross = (kept.metrics[name].value or 0 for name in ("energy_net_j", "energy_j"))
    assert net / gross == pytest.approx((5 - 3) / 5, abs=0.01)


# ------------------------------------------------------------------------------------------------------------ bad input


def test_raw_data_that_is_not_what_it_was_is_named_and_the_rest_analysed(session: Session) -> None:
    runs = [aged(store(session, Made(block=block), block), latency_p50_s=7.5) for block in range(3)]
    with (runs[0].path / "events.jsonl").open("ab") as file:
        file.write(b"\n")
    (runs[1].path / "trace.parquet").unlink()
    outcome = analyse_runs(session.path)
    assert (outcome.analysed, outcome.kept) == (1, 1)
    assert [broken.path for broken in outcome.failed] == [runs[0].path, runs[1].path]
    assert "events.jsonl is not what it was" in outcome.failed[0].why
    assert "trace.parquet cannot be read" in outcome.failed[1].why
    assert not (runs[0].path / NEW).exists()
    assert reread(runs[0]).record.metrics["latency_p50_s"].value == 7.5


@pytest.mark.parametrize("files", [{"../session.json": "sha256:0"}, {"/etc/passwd": "sha256:0"}, {"..": "sha256:0"}])
def test_no_file_outside_of_the_run_is_looked_at(files: dict[str, str], session: Session) -> None:
    run = store(session, Made())
    with pytest.raises(UsageError, match="no file of the run's"):
        again(edited(run, files={**run.record.files, **files}), Idles())


def test_a_raw_file_that_the_record_does_not_know_is_refused(session: Session) -> None:
    run = store(session, Made())
    files = {name: digest for name, digest in run.record.files.items() if name != "trace.parquet"}
    with pytest.raises(UsageError, match="not among the files"):
        again(edited(run, files=files), Idles())


def test_a_run_folder_that_is_none_is_named(session: Session) -> None:
    run = store(session, Made())
    (run.path / "run.json").write_text("{")
    outcome = analyse_runs(session.path)
    assert [broken.path for broken in outcome.failed] == [run.path]


def test_a_run_that_never_began_has_nothing_to_analyse(session: Session) -> None:
    store(session, Made(status="skipped", reasons=skipped()))
    outcome = analyse_runs(session.path)
    assert (outcome.analysed, outcome.without_raw, outcome.failed) == (0, 1, [])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "run_id": "x"}', "\0" * 100])
def test_a_damaged_analysis_is_named_and_the_record_taken(text: str, session: Session) -> None:
    both = [aged(store(session, Made()), latency_p50_s=7.5), store(session, Made(block=1), 1)]
    for run in both:
        (run.path / NEW).write_text(text)
    runs, unreadable = read_runs(session.path)
    assert [one.record for one in runs] == [run.record for run in both]
    assert [one.path for one in unreadable] == [run.path / NEW for run in both]
    assert all(run.record.run_id in broken.why for run, broken in zip(both, unreadable, strict=True))
    assert session.damaged() == unreadable
    assert analyse_runs(session.path).kept == 2, "and is made anew, also where nothing else has changed"
    assert read_runs(session.path)[1] == []


def test_an_analysis_of_another_run_or_version_is_not_applied(session: Session) -> None:
    run, other = (aged(store(session, Made(block=block), block)) for block in range(2))
    analysis = made(other)
    (run.path / NEW).write_text(analysis.model_dump_json(by_alias=True))
    assert reread(run).record == run.record
    (other.path / "analysis-1.json").write_text(analysis.model_dump_json(by_alias=True))
    assert [broken.path.name for broken in reread(other).damaged] == ["analysis-1.json"]


def test_an_analysis_newer_than_this_melt_or_older_than_the_run_is_left_alone(session: Session) -> None:
    run = store(session, Made())
    for version in (METRIC_VERSION + 1, 1, METRIC_VERSION - 1):
        later = made(run).model_copy(update={"metric_version": version, "verdict": "invalid"})
        (run.path / f"analysis-{version}.json").write_text(later.model_dump_json(by_alias=True))
    assert (reread(run).record, reread(run).as_stored) == (run.record, None)
    (newer,) = reread(run).damaged
    assert newer.path == run.path / f"analysis-{METRIC_VERSION + 1}.json"
    assert f"metric version {METRIC_VERSION + 1} is newer than this melt's {METRIC_VERSION}" in newer.why
    assert analyse_runs(session.path).kept == 0, "a newer melt's analysis is no reason for one of this melt"


def test_a_record_newer_than_this_melt_is_named_and_nothing_is_put_beside_it(session: Session) -> None:
    """Nobody would be shown an analysis older than the record."""
    run, other = (store(session, Made(block=block), block) for block in range(2))
    newer = edited(run, metric_version=METRIC_VERSION + 1)
    outcome = analyse_runs(session.path)
    assert (outcome.analysed, outcome.kept) == (1, 0)
    assert f"newer than this melt's {METRIC_VERSION}: analyse it with the newer melt" in outcome.failed[0].why
    assert outcome.failed[0].path == newer.path
    assert not list(session.path.glob("*/analysis-*"))
    assert other.path.exists()


def test_half_a_character_in_a_record_is_kept_as_it_is(session: Session) -> None:
    run = store(session, Made())
    odd = {"value": 1.0, "note": "half \ud800"}
    told = json.loads((run.path / "run.json").read_text())
    edited(run, metric_version=1, metrics={**told["metrics"], "x\udfff": odd})
    assert analyse_runs(session.path).kept == 1
    found = reread(run)
    assert found.as_stored is not None
    assert found.record.metrics["x\udfff"].note == "half \ud800"
    assert analyse_runs(session.path).kept == 0


def test_half_a_run_folder_is_named_and_one_that_vanishes_is_not(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [store(session, Made(block=block), block) for block in range(3)]
    (runs[0].path / "run.json").unlink()
    inner = read_run

    def vanishing(path: Path) -> Any:
        shutil.rmtree(runs[1].path, ignore_errors=True)
        return inner(path)

    monkeypatch.setattr("melt.run.again.read_run", vanishing)
    outcome = analyse_runs(session.path)
    assert outcome.analysed == 1
    assert [(one.path, "half a run" in one.why) for one in outcome.failed] == [(runs[0].path, True)]


def test_of_two_analyses_the_newest_that_can_be_read_counts(session: Session) -> None:
    run = aged(store(session, Made()), latency_p50_s=7.5)
    first = made(run).model_copy(update={"metric_version": 1, "metrics": {"latency_p50_s": Metric(value=1.0)}})
    keep_analysis(run, first)
    assert reread(run).record.metrics["latency_p50_s"].value == 1.0
    keep_analysis(run, made(run))
    assert reread(run).record.metric_version == METRIC_VERSION
    (run.path / NEW).write_text("damaged")
    assert reread(run).record.metrics["latency_p50_s"].value == 1.0
    assert [broken.path.name for broken in reread(run).damaged] == [NEW]


def test_stopped_in_the_middle_what_is_there_is_whole_and_the_rest_follows(session: Session) -> None:
    runs = [aged(store(session, Made(block=block), block), latency_p50_s=7.5) for block in range(3)]

    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse_runs(session.path, on_run=stop)
    assert [(run.path / NEW).exists() for run in runs] == [True, True, False]
    assert analyse_runs(session.path).kept == 1
    assert all(reread(run).as_stored for run in runs)


# ---------------------------------------------------------------------------------------------------- results of others


def imported(run: StoredRun, **changes: Any) -> StoredRun:
    note = ImportNote(tool="llama-bench", source="a.json")
    return edited(run, imported=note.model_dump(mode="json"), **changes)


def test_of_an_imported_run_what_its_importer_says_stands(session: Session) -> None:
    run = store(session, Made())
    metrics = {name: metric.model_dump(mode="json") for name, metric in run.record.metrics.items()}
    metrics["latency_p50_s"] = {"value": 3.0}
    metrics["theirs"] = {"value": 4.0}
    del metrics["energy_j"]
    run = imported(run, metrics=metrics, reasons=[{"code": "charger", "detail": "as it was told"}], verdict="partial")
    analysis = made(run)
    assert analysis.metrics["latency_p50_s"].value == 3.0
    assert analysis.metrics["theirs"] == Metric(value=4.0, version=METRIC_VERSION)
    assert "energy_j" not in analysis.metrics, "a gap of the series is no news"
    assert analysis.carried == ("latency_p50_s", "theirs")
    assert [reason.code for reason in analysis.reasons] == [ReasonCode.CHARGER]
    assert analyse_runs(session.path).kept == 0


def test_of_an_older_import_the_values_are_made_anew_from_its_series_and_its_gaps_stay(session: Session) -> None:
    first = store(session, Made())
    run = imported(aged(first, latency_p50_s=7.5, load_s=None))
    analysis = made(run)
    assert analysis.metrics["latency_p50_s"].value == first.record.metrics["latency_p50_s"].value
    assert analysis.metrics["load_s"].reason == "old: x"
    assert analysis.carried == ("load_s",)


def test_an_import_without_raw_data_keeps_its_figures(session: Session) -> None:
    run = store(session, Made())
    for name in ("events.jsonl", "trace.parquet"):
        (run.path / name).unlink()
    run = imported(run, files={}, metrics={"tg_tok_per_s": {"value": 3.0}, "energy_j": gap("not_told: x").model_dump()})
    outcome = analyse_runs(session.path)
    assert (outcome.analysed, outcome.without_raw) == (0, 1)
