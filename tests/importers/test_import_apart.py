"""What is not alike is never counted as repetitions of one thing, and what may be of one process says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from samples import OVERFLOW

from melt.importers import IMPORTERS, gather, plan, publish
from melt.importers.perf_test import PerfTest
from melt.store import read_runs

if TYPE_CHECKING:
    from pathlib import Path

    from melt.importers import Placed


def placed(folder: Path, results: Path) -> tuple[Placed, ...]:
    found = gather(folder, IMPORTERS)
    assert not found.problems
    return plan(found.runs, results, "them").runs


def llama(path: Path, *changes: dict[str, Any]) -> Path:
    (test,) = json.loads(OVERFLOW.read_text())
    path.write_text(json.dumps([{**test, **change} for change in changes]))
    return path


def test_two_models_of_one_type_in_one_file_are_two_cells(tmp_path: Path) -> None:
    tests = [
        {"model_filename": f"/models/{name}.gguf", "samples_ns": [ns]} for name, ns in (("a", 10**9), ("b", 10**8))
    ]
    found = placed(llama(tmp_path / "two.json", *tests), tmp_path / "results")
    assert [(one.cell, one.block) for one in found] == [
        ("llama-b-q4_0[pp12288,model_file=a.gguf]", 0),
        ("llama-b-q4_0[pp12288,model_file=b.gguf]", 0),
    ]
    values = [one.run.metrics["pp_tok_per_s"].value for one in found]
    assert values == [pytest.approx(12288), pytest.approx(122880)]


@pytest.mark.parametrize("key", ["lazy_mode", "fit_target", "something_new"])
def test_tests_that_differ_in_a_setting_that_melt_has_no_name_for_are_two_cells(tmp_path: Path, key: str) -> None:
    found = placed(llama(tmp_path / "two.json", {key: 1}, {key: 2}), tmp_path / "results")
    assert [one.cell for one in found] == [f"llama-b-q4_0[pp12288,{key}={n}]" for n in (1, 2)]
    assert [one.run.fingerprint.hard[key] for one in found] == [1, 2]


def test_what_each_test_measured_is_no_setting(tmp_path: Path) -> None:
    tests = [
        {"avg_ns": n, "test_time": f"2026-11-21T03:00:0{n}Z", "build_number": n, "load_time": n, "peak_mem": n}
        for n in (1, 2)
    ]
    found = placed(llama(tmp_path / "two.json", *tests), tmp_path / "results")
    assert [(one.cell, one.block) for one in found] == [("llama-b-q4_0[pp12288]", block) for block in (0, 1)]


def google(folder: Path, *names: str) -> Path:
    told = {"run_type": "iteration", "iterations": 10, "cpu_time": 1.0, "time_unit": "ms"}
    entries = [{"name": n, "run_name": n, "real_time": at + 1.0, **told} for at, n in enumerate(names)]
    context = {"date": "2026-11-21T10:00:00+00:00", "host_name": "h", "num_cpus": 2}
    (folder / "g.json").write_text(json.dumps({"context": context, "benchmarks": entries}))
    return folder / "g.json"


def test_benchmarks_whose_names_lose_the_same_letters_stay_apart(tmp_path: Path) -> None:
    names = ("BM_F<int>/8", "BM_F<int*>/8", "bm_f<int>/8", "BM_G/8")
    found = placed(google(tmp_path, *names), tmp_path / "results")
    assert [one.run.metrics["latency_mean_s"].value for one in found] == [
        pytest.approx((n + 1) * 1e-3) for n in range(4)
    ]
    assert len({one.cell for one in found}) == 4
    assert all(one.block == 0 for one in found)
    assert found[3].cell == "bm_g-8", "a name that is nobody else's stays as it is"
    again = placed(google(tmp_path, *reversed(names)), tmp_path / "results")
    assert {one.cell for one in again} == {one.cell for one in found}, "whatever their order"
    long = placed(google(tmp_path, "BM_" + "x" * 60 + "/1", "BM_" + "x" * 60 + ":1"), tmp_path / "results")
    assert len({one.cell for one in long}) == 2
    assert all(len(one.run.workload) <= 64 and one.cell.startswith(one.run.workload) for one in long)


def test_tests_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    stats = [{"iterations": 1, "data": [second] * 3} for second in (1.0, 5.0)]
    entries = [
        {"fullname": f"{folder}/test_x.py::test_s", "stats": one} for folder, one in zip("ab", stats, strict=True)
    ]
    told = {"machine_info": {"node": "h"}, "datetime": "2026-11-21T10:00:00+00:00", "benchmarks": entries}
    (tmp_path / "p.json").write_text(json.dumps(told))
    one, two = placed(tmp_path / "p.json", tmp_path / "results")
    assert one.cell != two.cell
    assert (one.block, two.block) == (0, 0)


def test_several_runs_of_a_cell_in_one_file_say_so(tmp_path: Path) -> None:
    llama(tmp_path / "one.json", {}, {}, {"n_prompt": 7})
    found = gather(tmp_path / "one.json", IMPORTERS)
    publish(plan(found.runs, tmp_path / "results", "them"), tmp_path / "results")
    caveat = "one_file: 2 runs of this cell are in one file: whether each was a process of its own is not told"
    said = {run.record.cell: caveat in run.record.caveats for run in read_runs(tmp_path / "results")[0]}
    assert said == {"llama-b-q4_0[pp12288]": True, "llama-b-q4_0[pp7]": False}


@pytest.mark.parametrize("time", ["1e300", "1e9", "0", "0.0", "1e-30"])
@pytest.mark.parametrize("columns", [1, 2])
def test_a_time_of_perf_test_that_is_no_duration_is_told(tmp_path: Path, time: str, columns: int) -> None:
    times = ["0.25", "0.5", time, "0.125"]
    second = [f"0.1,{one}" if columns == 2 else one for one in times]
    path = tmp_path / "times.csv"
    path.write_text("".join(f"model,{one},4096,50,{at}\n" for at, one in enumerate(second)))
    found = PerfTest().read(path)
    assert not found.runs
    assert found.problems == (f"times.csv: inference[2] is {float(time)}, which is no duration",)
    path.write_text(path.read_text().replace(time + ",4096", "0.3,4096"))
    (run,) = PerfTest().read(path).runs
    assert run.metrics["latency_mean_s"].value == pytest.approx((0.25 + 0.5 + 0.3 + 0.125) / 4)


def test_a_time_that_perf_test_printed_and_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "told.stdout"
    lines = [f"iteration:{at},time_cost:{time}" for at, time in enumerate(("0.25", "1e300", "0.5"))]
    path.write_text("\n".join([*lines, "Session creation time cost: 0.05 s", ""]))
    assert PerfTest().recognises(path)
    assert PerfTest().read(path).problems == ("told.stdout: inference[1] is 1e+300, which is no duration",)
