"""The commands as a person types them, on a real session of this computer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from workspace import Said, Workspace

from melt.cli.app import with_optional_session

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.peer


@pytest.fixture
def melt(tmp_path: Path) -> Callable[..., Said]:
    """Runs `melt` with these words in the workspace's folder."""

    def call(*argv: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "melt", *argv],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    return call


def data(said: Said) -> Any:
    assert said.code == 0, said
    return json.loads(said.stdout)


def test_run_ends_with_a_table_the_report_and_the_raw_data(workspace: Workspace) -> None:
    said = workspace.run()
    assert said.code == 0, said
    assert "toy" in said.stdout
    lines = dict(
        line.split(": ", 1) for line in said.stdout.splitlines() if line.startswith(("report: ", "raw data: "))
    )
    assert (workspace.folder / lines["report"]).is_file()
    assert (workspace.folder / lines["raw data"] / "session.json").is_file()


def test_run_as_json_holds_every_record(workspace: Workspace) -> None:
    told = data(workspace.run("--json"))
    assert [run["cell"] for run in told["runs"]] == ["toy", "toy"]
    assert told["exit_code"] == 0
    assert told["runs"][0] == json.loads(workspace.runs()[0].path.joinpath("run.json").read_text())


def test_a_dry_run_does_nothing(workspace: Workspace) -> None:
    plan = data(workspace.run("--dry-run", "--json", "--set", "params.threads=2", "--runs", "4"))
    assert len(plan["order"]) == 4
    assert plan["cells"][0]["resolved"]["params.threads"] == {"value": 2, "from": "command line"}
    assert workspace.runs() == []


def test_every_parameter_is_recorded_with_where_it_came_from(workspace: Workspace) -> None:
    workspace.workload(params={"spin": False})
    assert workspace.run("--set", "params.threads=1").code == 0
    resolved = workspace.runs()[0].record.resolved
    assert (resolved["params.spin"].value, resolved["params.spin"].source) == (False, "workload toy")
    assert (resolved["params.threads"].value, resolved["params.threads"].source) == (1, "command line")
    assert (resolved["params.graph_level"].value, resolved["params.graph_level"].source) == ("all", "engine's default")


def test_the_output_agrees_with_this_computers_own(workspace: Workspace) -> None:
    assert workspace.run("--runs", "1").code == 0
    engine = workspace.runs()[0].record.engine
    assert engine["output"]["agrees"] is True
    assert engine["output"]["max_abs_diff"] < 1e-3
    assert len(engine["output"]["sha256"]) == 64
    assert sum(engine["provider_nodes"]["CPUExecutionProvider"].values()) > 0


def test_affinity_is_asked_for_and_verified(workspace: Workspace) -> None:
    workspace.suite(cpus="0")
    assert workspace.run("--runs", "1").code == 0
    (stored,) = workspace.runs()
    told = [event for event in stored.events().landmarks if event.ev == "agent.affinity"]
    assert told
    assert all(event.get("ok") and event.get("asked") == "0" for event in told)


def test_a_sweep_gives_a_cell_for_each_point(workspace: Workspace) -> None:
    workspace.suite(sweep={"params.threads": [1, 2]})
    assert workspace.run("--runs", "1").code == 0
    assert {run.record.cell for run in workspace.runs()} == {"toy[threads=1]", "toy[threads=2]"}


def test_show_finds_a_run_by_its_id_and_tells_of_it(workspace: Workspace, melt: Callable[..., Said]) -> None:
    assert workspace.run("--runs", "1").code == 0
    run_id = workspace.runs()[0].record.run_id
    said = melt("show", run_id)
    assert said.code == 0
    assert "latency_p50_s" in said.stdout
    assert data(melt("show", run_id, "--json"))["run_id"] == run_id
    wrong = melt("show", run_id[:-1] + "g")
    assert wrong.code == 2
    assert "did you mean" in wrong.sentence


def test_report_writes_its_files_and_names_them(workspace: Workspace, melt: Callable[..., Said]) -> None:
    assert workspace.run("--runs", "1").code == 0
    told = data(melt("report", "results/faults", "--json"))
    names = {Path(file).name for file in told["files"]}
    assert names >= {"report.md", "runs.csv", "report.json", "latency.png", "latency.pdf", "trace.png", "trace.pdf"}
    assert all((workspace.folder / file).stat().st_size > 0 for file in told["files"])


def test_report_without_runs_says_what_to_do(workspace: Workspace, melt: Callable[..., Said]) -> None:
    workspace.results.mkdir()
    said = melt("report", "results")
    assert said.code == 2
    assert "melt run" in said.sentence


def test_devices_tells_what_is_ready_and_why_another_is_not(workspace: Workspace, melt: Callable[..., Said]) -> None:
    odd = {"profile": "bare", "address": "local:", "workdir": "/proc/nowhere"}
    fine = {"profile": "bare", "address": "local:", "workdir": str(workspace.workdir)}
    workspace.write("lab.yaml", {"kind": "lab", "devices": {"odd": odd, "fine": fine}})
    rows = {row["device"]: row for row in data(melt("devices", "--lab", "lab.yaml", "--json"))}
    assert rows["fine"]["ready"]
    assert not rows["odd"]["ready"]
    assert "workdir" in rows["odd"]["problem"]
    assert "not ready" in melt("devices", "--lab", "lab.yaml").stdout


def test_doctor_tells_facts_sensors_and_what_is_missing(workspace: Workspace, melt: Callable[..., Said]) -> None:
    told = data(melt("doctor", "local", "--json"))
    assert told["facts"]["machine"]["value"]
    assert {row["channel"] for row in told["sensors"]} >= {"memory.available", "cpu.busy_s"}
    for fact in told["facts"].values():
        assert (fact["value"] is None) == bool(fact["reason"])
    said = melt("doctor", "local:")
    assert said.code == 0
    assert "What can be measured" in said.stdout


def test_a_model_is_made_and_looked_into(workspace: Workspace, melt: Callable[..., Said]) -> None:
    made = data(melt("model", "make", "mlp", "--out", "made.onnx", "--json"))
    assert made["synthetic"] is True
    assert data(melt("model", "info", "made.onnx", "--json"))["sha256"] == made["sha256"]
    for argv, name in ((("mlp",), "mlp.onnx"), (("llm-toy", "--quant", "q8_0"), "llm-toy-q8_0.gguf")):
        assert data(melt("model", "make", *argv, "--json"))["path"] == name
        before = (workspace.folder / name).stat().st_mtime_ns
        again = melt("model", "make", *argv)
        assert again.code == 2
        assert f"{name} exists already" in again.sentence
        assert (workspace.folder / name).stat().st_mtime_ns == before
    wrong = melt("model", "info", "suite.yaml")
    assert wrong.code == 2
    assert "suite.yaml" in wrong.sentence


def test_build_tells_where_the_programs_are(workspace: Workspace, melt: Callable[..., Said]) -> None:
    rows = data(melt("build", "--for", "local", "--json"))
    assert {row["program"] for row in rows} == {"agent", "ort_runner", "roofline"}
    assert all(Path(row["path"]).stat().st_size == row["bytes"] for row in rows)
    assert melt("build").code == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["run", "s.yaml", "--resume"], ["run", "s.yaml", "--resume", "last"]),
        (["run", "s.yaml", "--resume", "pixel"], ["run", "s.yaml", "--resume", "last", "pixel"]),
        (["run", "--resume", "20261121T083230Z", "s.yaml"], ["run", "--resume", "20261121T083230Z", "s.yaml"]),
        (["run", "--resume", "20261121T083230Z-2"], ["run", "--resume", "20261121T083230Z-2"]),
        (["run", "--resume", "last"], ["run", "--resume", "last"]),
        (["run", "--resume", "--json"], ["run", "--resume", "last", "--json"]),
    ],
)
def test_resume_alone_means_the_last_unfinished_session(typed: list[str], meant: list[str]) -> None:
    assert with_optional_session(typed) == meant
