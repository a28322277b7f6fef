"""A team's tests measure on devices: real pytests in which `melt_run` really runs a small network on this computer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from workspace import Said, Workspace, ended, running_job

from melt.report import write_report
from melt.store import open_session, read_runs, sessions

pytestmark = pytest.mark.peer

DOCS = Path(__file__).parents[2] / "docs"
HEAD = 'import pytest\nQUICK = {"preset": "quick", "min_s": 0.2, "warmup_s": 0.0, "warmup_n": 1}\n'


@pytest.fixture
def lab(workspace: Workspace) -> Workspace:
    """A lab of two devices, this computer each, and a third that is too hot."""
    zone = workspace.folder / "root" / "sys" / "class" / "thermal" / "thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("99000\n")
    workspace.profile(readings=["load", "memory", "thermal"])
    here, there, hot = ({"profile": "bare", "address": "local:", "workdir": f"{workspace.workdir}-{n}"} for n in "abc")
    # the two that are cool see no sensor: their /sys is an empty folder
    (workspace.folder / "empty").mkdir()
    devices = {"here": {**here, "tags": ["cool"]}, "there": {**there, "tags": ["cool"]}, "hot": hot}
    for name, device in devices.items():
        device["sysroot"] = str(workspace.folder / ("root" if name == "hot" else "empty"))
    workspace.write("lab.yaml", {"kind": "lab", "devices": devices})
    return workspace


def begin(workspace: Workspace, test: str, *more: str, lab: str = "lab.yaml") -> subprocess.Popen[str]:
    """A pytest of one file, with the plugin as the entry point would load it, and no settings of ours."""
    (workspace.folder / "test_speed.py").write_text(HEAD + test)
    (workspace.folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    plugin = ["-p", "melt.pytest_plugin", "-p", "no:melt", "-p", "no:cacheprovider"]
    return workspace._started(
        [sys.executable, "-m", "pytest", *plugin, str(workspace.folder / "test_speed.py"), "--melt-lab", lab, *more]
    )


def pytest_of(workspace: Workspace, test: str, *more: str) -> Said:
    return ended(begin(workspace, test, *more))


def outcomes(workspace: Workspace) -> dict[str, str]:
    """How each test ended, and its sentence, of junit.xml."""
    import xml.etree.ElementTree as ET  # noqa: PLC0415 - a file that pytest has just written

    root = ET.parse(workspace.folder / "junit.xml").getroot()  # noqa: S314
    found = {}
    for case in root.iter("testcase"):
        state = next((child for child in case if child.tag in ("failure", "skipped", "error")), None)
        told = "passed" if state is None else f"{state.tag}: {state.get('message')}"
        found[str(case.get("name"))] = told
    return found


MEASURED = """
SEEN = []
@pytest.mark.melt_device("here")
def test_two(melt_run, melt_device):
    assert (melt_device.name, melt_device.profile, melt_device.tags) == ("here", "bare", ("cool",))
    run = melt_run("toy.yaml", runs=2, params={"threads": 1}, protocol=QUICK)
    assert 0 < run["latency_p50_s"].value < 1
    assert run["latency_p50_s"].n == 2 and len(run.values("latency_p50_s")) == 2
    assert min(run.values("latency_p50_s")) <= run["latency_p50_s"].value <= max(run.values("latency_p50_s"))
    assert run.record.usable and len(run.records) == 2
    once = melt_run("toy", params={"threads": 1}, protocol=QUICK)
    assert once.record.block == 2 and once.metrics == once.record.metrics
    with pytest.raises(LookupError, match="temperature_max_c is not known: no_sensor"):
        once["temperature_max_c"]
    with pytest.raises(LookupError, match="did you mean 'latency_p50_s'"):
        once["latency_p50"]

@pytest.mark.melt_device("here")
def test_other_settings_are_no_cell_of_the_same_name(melt_run):
    melt_run("toy.yaml", params={"threads": 1}, protocol={**QUICK, "min_s": 0.3})

@pytest.mark.melt_device("here")
@pytest.mark.parametrize("word", ["engine", "file", "key"])
def test_wrong(melt_run, word):
    if word == "engine":
        melt_run("toy.yaml", params={"thread": 1}, protocol=QUICK)
    if word == "file":
        melt_run("toi.yaml", protocol=QUICK)
    melt_run("toy.yaml", protocol={"presett": "quick"})

@pytest.mark.melt_device("here")
def test_over_its_memory(melt_run):
    melt_run("toy.yaml", protocol=QUICK, limits={"memory_bytes": 1 << 20})

@pytest.mark.melt_device("hot")
def test_hot(melt_run):
    melt_run("toy.yaml", protocol=QUICK, precheck={"max_wait_s": 0.0})

def test_plain(benchmark):
    assert benchmark(sum, range(10)) == 45
"""


def test_a_teams_tests_run_and_their_runs_lie_in_the_store(lab: Workspace) -> None:
    said = pytest_of(lab, MEASURED, "--junit-xml=junit.xml", "--benchmark-json=bench.json")
    assert said.code == 1, said
    told = outcomes(lab)
    assert told["test_two[here]"] == "passed", said.stdout
    assert told["test_plain"] == "passed"
    assert (
        "was measured on here in this session with other settings"
        in told["test_other_settings_are_no_cell_of_the_same_name[here]"]
    )
    for words in ("did you mean 'threads'?", "toi.yaml does not exist", "'protocol.presett' is not known"):
        assert any(words in sentence for sentence in told.values()), told
    assert "out_of_memory" in told["test_over_its_memory[here]"]
    assert "failure" in told["test_over_its_memory[here]"]
    assert told["test_hot[hot]"].startswith("skipped: melt: toy on hot")
    assert "thermal" in told["test_hot[hot]"]
    assert "Traceback" not in said.stdout
    check_store(lab)
    check_benchmarks(lab.folder / "bench.json")
    assert lab.jobs() == []


def check_store(lab: Workspace) -> None:
    """One session, whose plan is what the tests asked for, and every command reads it."""
    suite = lab.results / "pytest"
    (folder,) = sessions(suite)
    session = open_session(folder)
    assert session.record.suite.name == "pytest"
    assert {(cell.device, cell.id) for cell in session.record.cells} == {
        ("here", "toy[threads=1]"),
        ("here", "toy"),
        ("hot", "toy"),
    }
    order = [(slot.device, slot.cell, slot.block) for slot in session.record.order]
    assert order == [("here", "toy[threads=1]", block) for block in range(3)] + [("here", "toy", 0), ("hot", "toy", 0)]
    assert {"test_speed.py", "toy.yaml", "profile bare"} <= set(session.record.sources)
    runs, unreadable = read_runs(suite)
    assert not unreadable
    assert [run.record.verdict for run in runs].count("invalid") == 2
    assert session.pending() == []
    assert session.todo() == [session.record.order[-1]], "what was skipped is still open"
    report = write_report(runs, unreadable, lab.folder / "report", "pytest")
    assert report.tables


def check_benchmarks(file: Path) -> None:
    told: dict[str, Any] = json.loads(file.read_text())
    by_name = {bench["name"]: bench for bench in told["benchmarks"]}
    assert set(by_name) == {
        "test_plain",
        "test_two[here]:here/toy[threads=1]",
        "test_two[here]:here/toy[threads=1]#2",
    }
    two = by_name["test_two[here]:here/toy[threads=1]"]
    assert len(two["stats"]["data"]) == two["stats"]["rounds"] == 2
    assert two["extra_info"]["melt_metric"] == "latency_p50_s"
    assert two["stats"]["median"] == pytest.approx(two["extra_info"]["melt_metrics"]["latency_p50_s"])
    assert len(two["extra_info"]["melt_runs"]) == 2
    assert two["fullname"].startswith("test_speed.py::test_two")


ALONE = """
@pytest.mark.melt_device("here")
def test_one(melt_run):
    run = melt_run("toy.yaml", runs=2, params={"threads": 1}, protocol=QUICK)
    assert run["latency_p50_s"].value > 0

@pytest.mark.melt_device("here")
def test_unknown(melt_run):
    melt_run("workloads/mobilenetv2.yaml", protocol=QUICK)

@pytest.mark.melt_device("here")
def test_never(melt_run):
    melt_run("toy.yaml", params={"threads": 2}, protocol=QUICK)

def test_of_nobody():
    pass
"""


def test_alone_it_stops_where_it_is_told_and_every_command_reads_what_it_stored(lab: Workspace) -> None:
    """Without pytest-benchmark, with -x and -k; then what a team does with the results."""
    said = pytest_of(lab, ALONE, "-p", "no:benchmark", "-x", "-k", "not nobody", "--junit-xml=junit.xml")
    assert said.code == 1, said
    told = outcomes(lab)
    assert set(told) == {"test_one[here]", "test_unknown[here]"}
    assert told["test_one[here]"] == "passed", said.stdout
    assert (
        "workloads/mobilenetv2.yaml does not exist; of the shipped workloads: did you mean 'mobilenetv3.yaml'?"
        in (told["test_unknown[here]"])
    )
    suite = lab.results / "pytest"
    runs, unreadable = read_runs(suite)
    assert (len(runs), unreadable) == (2, [])
    assert open_session(runs[0].path.parent).todo() == []
    for words in (["gate"], ["history", "--metric", "latency_p50_s"], ["export", "--metric", "latency_p50_s"]):
        command, *more = words
        done = ended(lab._started([sys.executable, "-m", "melt", command, str(suite), *more]))
        assert done.code == 0, done
        assert "toy[threads=1]" in done.stdout or command == "gate", done
        for run in runs if command == "export" else ():
            assert f"{run.record.run_id}," in done.stdout
            assert f",{run.record.metrics['latency_p50_s'].value!r}," in done.stdout


def test_the_first_test_of_the_docs_passes_as_it_stands_there(tmp_path: Path) -> None:
    text = (DOCS / "pytest.md").read_text()
    (tmp_path / "test_first.py").write_text(text.split("```python\n")[1].split("```")[0])
    words = [sys.executable, "-m", "pytest", "-p", "melt.pytest_plugin", "-p", "no:melt", "-p", "no:cacheprovider"]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}, "HOME": str(tmp_path / "home")},
    )
    assert done.returncode == 0, done
    assert "1 passed" in done.stdout
    (run,) = read_runs(tmp_path / "results" / "pytest")[0]
    assert (run.record.device, run.record.cell) == ("local", "mobilenetv3")
    assert f"melt: the runs lie in {run.path.parent}" in done.stdout


def test_with_several_workers_each_has_a_session_of_its_own_and_a_device_does_one_run_at_a_time(lab: Workspace) -> None:
    test = """
@pytest.mark.melt_device("here")
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_speed(melt_run, threads):
    melt_run("toy.yaml", params={"threads": threads}, protocol=QUICK, precheck={"max_wait_s": 90.0})
"""
    said = pytest_of(lab, test, "-n", "2")
    assert said.code == 0, said
    found = sessions(lab.results / "pytest")
    assert len(found) == 2
    runs = [run for folder in found for run in read_runs(folder)[0]]
    assert sorted(run.record.cell for run in runs) == [f"toy[threads={n}]" for n in (1, 2, 3, 4)]
    lives = sorted((run.events().landmarks[0].t, run.events().landmarks[-1].t) for run in runs)
    assert all(end < begin for (_, end), (begin, _) in pairwise(lives)), "two jobs at the same time"


def test_ctrl_c_ends_the_job_puts_back_and_keeps_what_was_measured(lab: Workspace) -> None:
    test = """
@pytest.mark.melt_device("here")
def test_short(melt_run):
    melt_run("toy.yaml", params={"threads": 1}, protocol=QUICK)

@pytest.mark.melt_device("here")
def test_long(melt_run):
    melt_run("toy.yaml", params={"threads": 2}, protocol={**QUICK, "min_s": 60.0, "min_n": 10_000_000})
"""
    child = begin(lab, test, "--melt-results", "kept/nightly")
    here = Workspace(lab.folder)
    (lab.folder / "device").symlink_to(lab.folder / "device-a")
    suite = lab.folder / "kept" / "nightly"
    while child.poll() is None and not list(suite.glob("*/*/run.json")):
        running_or_ended(child)
    running_job(here)
    child.send_signal(signal.SIGINT)
    said = ended(child)
    assert said.code == 2, said
    assert "KeyboardInterrupt" in said.stdout
    assert here.jobs() == []
    (session,) = sessions(suite)
    (run,) = read_runs(session)[0]
    assert (run.record.suite.name, run.record.cell, run.record.usable) == ("nightly", "toy[threads=1]", True)
    assert open_session(session).pending() == []


def running_or_ended(child: subprocess.Popen[str]) -> None:
    try:
        child.wait(0.05)
    except subprocess.TimeoutExpired:
        return
