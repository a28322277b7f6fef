"""Files of the study with one thing in them that is none: it is told, the rest is read, and nothing is raised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_study import PROMPTS, T0, S, jetson_log, live, monsoon, steady, write_llama, write_mlc_phone

from melt.importers import IMPORTERS, gather, plan, publish
from melt.importers.study_files import conversations
from melt.importers.study_power import read_log, read_monsoon

if TYPE_CHECKING:
    from pathlib import Path

    from melt.records import RunRecord


def place(root: Path, device: str = "orin_nano", app: str = "LlamaCpp") -> Path:
    folder = root / "experiment_outputs" / device / app / "TheBloke" / "tinyllama-1.1b-q4_0.gguf" / "15w"
    folder.mkdir(parents=True)
    return folder


def brought(folder: Path, results: Path) -> tuple[list[RunRecord], str]:
    """What is stored, and the problems in one text."""
    found = gather(folder, IMPORTERS)
    stored = publish(plan(found.runs, results, "study"), results, found.problems) if found.runs else []
    return [run.record for run in stored], "\n".join(found.problems)


@pytest.mark.parametrize("stamp", ["²", "٣", "9" * 5000, "-1", "1e9", "9" * 19])
def test_a_stamp_of_an_event_that_is_none_is_told(tmp_path: Path, stamp: str) -> None:
    folder = place(tmp_path)
    write_llama(folder, live(PROMPTS))
    file = next(folder.rglob("*.tsv"))
    lines = len(file.read_text().splitlines())
    file.write_text(file.read_text() + f"x.start {stamp}\n")
    (record,), problems = brought(folder, tmp_path / "results")
    assert f"line {lines + 1} is no event and stamp: left out" in problems
    assert record.metrics["decode_tok_per_s"].value == pytest.approx(600 / 85, rel=1e-6)


@pytest.mark.parametrize("name", ["rows", "table", "stages"])
def test_a_field_of_a_table_that_is_too_long_is_told(tmp_path: Path, name: str) -> None:
    folder, long = place(tmp_path), '"' + "x" * 200_000 + '"'
    write_llama(folder, live(PROMPTS))
    monsoon(folder, T0, T0 + 2, steady(4.0), hz=20)
    if name == "rows":
        file = next(folder.rglob("measurements_iter0_conv0.csv"))
        file.write_text(file.read_text() + f"{T0 + 900},3.0,{long}\r\n")
    elif name == "table":
        (folder / "results_model_inference_measurements.csv").write_text(f"iteration,b\n{long},1\n")
    else:
        (folder / "measurements_ts.csv").write_text(f"stage,time_start,time_end\n{long},1,2\n")
    records, problems = brought(folder, tmp_path / "results")
    assert len(records) == 1
    assert ("it is no table: field larger than field limit" in problems) == (name == "rows")


@pytest.mark.parametrize("value", [10**400, True, "7", 1e308, float("nan"), -5, "x" * 100_000, [], {}])
@pytest.mark.parametrize("key", ["input_tokens", "output_tokens", "runtimeStats", "duration", "start", "load"])
def test_an_odd_value_of_an_apps_json_raises_nothing(tmp_path: Path, key: str, value: Any) -> None:
    folder = place(tmp_path, "S23", "MLCChat++")
    short = PROMPTS[:1]
    write_mlc_phone(folder, short, T0)
    file = next(folder.rglob("measurements_iter0.json"))
    whole = json.loads(file.read_text())
    record = whole[0]["questionRecords"][0]
    where = {"duration": record["time"], "start": record["time"], "load": whole[0]["modelLoadTime"]}.get(key, record)
    where["duration" if key == "load" else key] = value
    file.write_text(json.dumps(whole))
    found, _ = brought(folder, tmp_path / "results")
    for one in found:
        assert all(metric.value is None or np.isfinite(metric.value) for metric in one.metrics.values())


def test_a_moment_without_a_zone_is_none() -> None:
    def start(text: str) -> int:
        whole = [{"questionRecords": [{"time": {"start": text, "duration": 2.0}}]}]
        return len(conversations(json.dumps(whole))[0].questions)

    assert start("2024-03-09T16:00:00Z") == start("2024-03-09T16:00:00+02:00") == 1
    assert start("2024-03-09T16:00:00") == 0


@pytest.mark.parametrize("bad", ["9999999999999999999 power_VDD_IN: 5 W", "5000000000000000000 power_VDD_IN: 5 W"])
def test_one_stamp_that_is_none_takes_no_other_line_with_it(tmp_path: Path, bad: str) -> None:
    file = tmp_path / "energy_iter0.log"
    lines = jetson_log(T0, T0 + 10, {"VDD_IN": steady(10.0)})
    whole = len(read_log(written(file, lines)).rails["VDD_IN"].t)
    lines.insert(len(lines) // 2, bad)
    logged = read_log(written(file, lines))
    assert len(logged.rails["VDD_IN"].t) == whole
    assert logged.problems == ("1 lines are cut or no reading: left out",)


def written(file: Path, lines: list[str]) -> Path:
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_power_that_no_rail_has_is_told(tmp_path: Path) -> None:
    lines = jetson_log(T0, T0 + 10, {"VDD_IN": steady(10.0)})
    lines.append(f"{round((T0 + 11) * S)} power_VDD_IN: 1e308 W")
    logged = read_log(written(tmp_path / "one.log", lines))
    assert float(logged.rails["VDD_IN"].v.max()) == pytest.approx(10.0)
    assert logged.problems == ("1 lines hold more than any rail has: left out",)
    logged = read_log(written(tmp_path / "two.log", jetson_log(T0, T0 + 9, {"A": steady(-7.0), "B": steady(1.0)})))
    assert set(logged.rails) == {"B"}
    assert logged.problems == ("A draws -7 W, which no load does: left out",)


@pytest.mark.parametrize("row", ["1e300,100,4.0,", "3.0,1e300,4.0,", "-1e9,1,4.0,"])
def test_one_row_of_a_meter_that_is_none_takes_no_other_with_it(tmp_path: Path, row: str) -> None:
    monsoon(tmp_path, T0, T0 + 4, steady(4.0))
    file, epoch = tmp_path / "measurements_monsoon.csv", tmp_path / ".t_monsoon"
    whole = read_monsoon(file, epoch)
    lines = file.read_text().splitlines()
    written(file, [*lines[:100], row, *lines[100:]])
    odd = read_monsoon(file, epoch)
    assert np.array_equal(odd.rails["monsoon"].t, whole.rails["monsoon"].t)
    assert np.allclose(odd.rails["monsoon"].v, 4.0)
    assert odd.problems == ("1 lines hold a time or a value that is no meter's: left out",)


def test_a_meter_that_says_less_than_nothing_is_refused(tmp_path: Path) -> None:
    monsoon(tmp_path, T0, T0 + 4, steady(-4.0))
    with pytest.raises(ValueError, match=r"it says -4 W, and no device draws less than nothing"):
        read_monsoon(tmp_path / "measurements_monsoon.csv", tmp_path / ".t_monsoon")
