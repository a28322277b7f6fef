"""Folders of the 2024 study whose true rates and energies are known: melt's figures, and each correction listed."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_study import (
    PROMPTS,
    T0,
    Asked,
    Lived,
    S,
    jetson_log,
    live,
    mlc_stats,
    monsoon,
    steady,
    stepped,
    write_llama,
    write_llmfarm,
    write_mlc_phone,
    write_table,
)

from melt.analysis.metrics import metrics
from melt.importers.study import StudyImporter
from melt.importers.study_files import spans, stamps
from melt.importers.study_power import read_log, read_monsoon
from melt.importers.study_transcript import CUT_REPORT, NO_REPORT, by_prompt
from melt.importers.study_turns import offset
from melt.job import parse_events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from melt.importers.base import Imported, ImportedRun
    from melt.records import Metric

TRUE_DECODE = 600 / (200 / 10 + 200 / 8 + 200 / 5)
TRUE_PREFILL = 40.0


def place(root: Path, device: str = "orin_nano", app: str = "LlamaCpp") -> Path:
    folder = root / "experiment_outputs" / device / app / "TheBloke_TinyLlama-1.1B" / "tinyllama-1.1b-q4_0.gguf" / "15w"
    folder.mkdir(parents=True)
    return folder


def jetson(
    root: Path,
    rails: Mapping[str, Callable[[float], float]],
    lived: Lived | None = None,
    device: str = "orin_nano",
    **log: object,
) -> Path:
    folder, lived = place(root, device), lived or live(PROMPTS)
    write_llama(folder, lived)
    (folder / "energy_iter0.log").write_text("\n".join(jetson_log(T0 - 8, lived.end + 8, rails, **log)) + "\n")  # type: ignore[arg-type]
    return folder


def read(folder: Path) -> Imported:
    importer = StudyImporter()
    assert importer.recognises(folder)
    return importer.read(folder)


def only(found: Imported) -> ImportedRun:
    assert len(found.runs) == 1
    return found.runs[0]


def figures(run: ImportedRun) -> dict[str, Metric]:
    """What a person gets: the analysis's, with the importer's own in their place."""
    assert run.series is not None
    assert run.series.trace is not None
    told = parse_events(io.BytesIO(run.series.events))
    return {**metrics(told, run.series.trace, run.series.sensors, run.series.asked), **run.metrics}


def corrected(run: ImportedRun, code: str) -> str:
    found = [text for text in run.note.corrections if text.startswith(f"{code}: ")]
    assert len(found) == 1, run.note.corrections
    return found[0]


def value(found: Mapping[str, Metric], name: str) -> float:
    known = found[name].value
    assert known is not None, found[name].reason
    return known


# --------------------------------------------------------------------------------------------- a Jetson's energy


def test_a_constant_ten_watts_for_eight_seconds_are_22_22_mwh(tmp_path: Path) -> None:
    eight = Asked("Eight seconds, to the end of them", 40, 70, decode_rate=69 / 6.955)
    lived = live([eight])
    folder = jetson(tmp_path, {"VDD_IN": steady(10.0)}, lived)
    assert lived.rows[1][1] == pytest.approx(8.0)
    row = {"iteration": 0, "conversation": 0, "prompt": 0, "output_tokens": 69, "tps": 9.9}
    write_table(folder, [row | {"energy_pt VDD_IN (mWh)": 0.0}])
    run = only(read(folder))
    assert "0 mWh for VDD_IN" in corrected(run, "energy_zero")
    assert "22.22 mWh" in corrected(run, "energy_zero")
    reason = figures(run)["energy_j"].reason
    assert reason is not None
    assert reason.startswith("window_too_short")  # melt's own rule: 60 s; never 0


@pytest.mark.parametrize("kinds", [("voltage", "current", "power"), ("voltage", "current"), ("power",)])
def test_energy_of_a_long_conversation_is_power_times_time(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    run = only(read(jetson(tmp_path, {"VDD_IN": steady(10.0)}, kinds=kinds)))
    found = figures(run)
    assert value(found, "power_mean_w") == pytest.approx(10.0, rel=1e-3)
    length_s = sum(p.prefill_s + p.decode_s for p in PROMPTS)
    assert value(found, "energy_prefill_j") + value(found, "energy_decode_j") == pytest.approx(10 * length_s, rel=2e-3)
    assert value(found, "j_per_token") == pytest.approx(10 / TRUE_DECODE, rel=2e-3)
    assert "boundary module" in (found["energy_j"].note or "")
    assert found["energy_net_j"].reason is not None  # no idle window, so no net energy


def test_a_step_at_the_prefill_is_found_in_the_phase_it_belongs_to(tmp_path: Path) -> None:
    lived = live(PROMPTS)
    run = only(read(jetson(tmp_path, {"VDD_IN": stepped(lived, 12.0, 6.0, 2.0)}, lived)))
    found = figures(run)
    prefill_s, decode_s = sum(p.prefill_s for p in PROMPTS), sum(p.decode_s for p in PROMPTS)
    for name, truth in (("energy_prefill_j", 12 * prefill_s), ("energy_decode_j", 6 * decode_s)):
        assert value(found, name) == pytest.approx(truth, rel=0.03)
        assert abs(value(found, name) - truth) <= (found[name].error or 0)


def test_rates_are_those_of_the_stamps(tmp_path: Path) -> None:
    found = figures(only(read(jetson(tmp_path, {"VDD_IN": steady(10.0)}))))
    assert value(found, "decode_tok_per_s") == pytest.approx(TRUE_DECODE, rel=1e-6)
    assert value(found, "prefill_tok_per_s") == pytest.approx(TRUE_PREFILL, rel=1e-6)
    assert value(found, "generated_tokens") == 603
    assert value(found, "load_s") == pytest.approx(3.0, abs=1e-6)
    assert found["j_per_inference"].reason is not None
    assert found["j_per_inference"].reason.startswith("pauses: ")


def test_a_load_with_the_scripts_sleep_in_it_is_a_gap_where_the_engine_has_no_stamps(tmp_path: Path) -> None:
    folder = place(tmp_path)
    write_llama(folder, live(PROMPTS), events=False)
    run = only(read(folder))
    assert (run.metrics["load_s"].reason or "").startswith("fixed_sleep: ")
    assert "5.400 s of load" in corrected(run, "load_sleep")
    assert value(figures(run), "decode_tok_per_s") == pytest.approx(602 / 85, rel=1e-6)  # as the engine counts
    assert (run.metrics["ttft_s"].reason or "").startswith("not_told: ")
    with_stamps = jetson(tmp_path / "other", {"VDD_IN": steady(1.0)})
    assert "the engine's own stamps say 3.000 s" in corrected(only(read(with_stamps)), "load_sleep")


def test_the_total_of_an_agx_holds_its_memory_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    rails = {"VDD_GPU_SOC": steady(4.0), "VDD_CPU_CV": steady(2.0), "VIN_SYS_5V0": steady(3.0)}
    rails |= {"VDDQ_VDD2_1V8AO": steady(1.0), "NC": steady(9.0)}
    run = only(read(jetson(tmp_path / "whole", rails, device="orin_agx")))
    assert value(figures(run), "power_mean_w") == pytest.approx(9.0, rel=1e-3)
    length_h = sum(p.prefill_s + p.decode_s + 0.045 for p in PROMPTS) / 3600
    said = corrected(run, "total_rails")
    assert f"{6000 * length_h:.2f} mWh" in said
    assert f"{9000 * length_h:.2f} mWh" in said
    assert run.series is not None
    assert not any("nc" in name for name in run.series.sensors)  # connected to nothing
    del rails["VIN_SYS_5V0"]
    run = only(read(jetson(tmp_path / "less", rails, device="orin_agx")))
    found = figures(run)["energy_j"]
    assert "boundary rail" in (found.note or "")
    assert "without VIN_SYS_5V0, with the memory" in (found.note or "")
    assert run.fingerprint.hard["energy_total"] == "rail: ina3221.vdd_gpu_soc + ina3221.vdd_cpu_cv"


def test_energy_a_token_is_told_apart_from_the_studys(tmp_path: Path) -> None:
    folder = jetson(tmp_path, {"VDD_CPU_GPU_CV": steady(4.0), "VDD_SOC": steady(1.0), "VDD_IN": steady(8.0)})
    rows = [
        {"iteration": 0, "conversation": 0, "prompt": i, "output_tokens": 200, "tps": p.decode_rate}
        | {"energy_pt VDD_CPU_GPU_CV (mWh)": 0.2, "energy_pt VDD_SOC (mWh)": 0.05, "energy_pt VDD_IN (mWh)": 0.4}
        for i, p in enumerate(PROMPTS)
    ]
    write_table(folder, rows)
    said = corrected(only(read(folder)), "energy_per_token")
    assert "0.25 mWh in the study's table" in said
    assert f"{8 / TRUE_DECODE / 3.6:.4g} mWh a token" in said


# ------------------------------------------------------------------------------------------------- missing lines


@pytest.mark.parametrize("lost", ["a line", "a report"])
def test_a_missing_report_leaves_a_gap_and_moves_nothing(tmp_path: Path, lost: str) -> None:
    lived = live(PROMPTS)
    at = next(i for i, line in enumerate(lived.output) if "prompt eval" in line and "  80 tokens" in line)
    del lived.output[at if lost == "a line" else slice(at - 2, at + 3)]  # type: ignore[arg-type]
    folder = jetson(tmp_path, {"VDD_IN": steady(10.0)}, lived)
    # as the study counts: from the end, so that the first two prompts get the figures of the next
    table = [(0, 8.0), (1, 5.0), (2, 5.0)]
    row = {"iteration": 0, "conversation": 0, "output_tokens": 200, "energy_pt VDD_IN (mWh)": 0.1}
    write_table(folder, [row | {"prompt": prompt, "tps": tps} for prompt, tps in table])
    run = only(read(folder))
    found = figures(run)
    assert value(found, "decode_tok_per_s") == pytest.approx(400 / (200 / 8 + 200 / 5), rel=1e-6)
    assert value(found, "requests") == 2
    said = corrected(run, "timing_matched")
    assert "1 of 3 prompts" in said
    assert "0/0" in said
    assert "5 tok/s in the table, 8.04 by its own report" in said
    assert any(caveat.startswith("prompt 0/0: not_told: ") for caveat in run.caveats)


def test_a_report_that_covers_two_prompts_is_nobodys() -> None:
    told = by_prompt("> one\n> two\nllama_print_timings: prompt eval time = 1.0 ms / 9 tokens\n", ["one", "two"])
    assert told == [NO_REPORT, CUT_REPORT]
    lived = live(PROMPTS)
    at = next(i for i, line in enumerate(lived.output) if "eval time" in line and " 60 tokens" in line)
    lived.output[at + 1] = lived.output[at + 1].replace(" 201 runs", " 401 runs")
    assert "401 runs" in lived.output[at + 1]
    assert by_prompt("\n".join(lived.output), [p.text for p in PROMPTS])[1].decoded == 401  # type: ignore[union-attr]


def test_more_evaluations_than_the_events_hold_are_a_gap(tmp_path: Path) -> None:
    lived = live(PROMPTS)
    at = next(i for i, line in enumerate(lived.output) if "prompt eval" in line and "  60 tokens" in line)
    lived.output[at + 1] = lived.output[at + 1].replace(" 201 runs", " 401 runs")
    run = only(read(jetson(tmp_path, {"VDD_IN": steady(10.0)}, lived)))
    assert value(figures(run), "requests") == 2
    assert any("401 evaluations" in c and "covers more than this prompt" in c for c in run.caveats)


def test_jetson_with_mlc_has_the_engines_rates_and_no_stamps(tmp_path: Path) -> None:
    folder = place(tmp_path, app="MLCChat")
    lived = live(PROMPTS)
    lived.output = ["mlc_chat chat", "[INST]: /stats", "{ no json"]
    for one in PROMPTS:
        lived.output += [f"[INST]: {one.text}", "words", "[INST]: /stats", *mlc_stats(one).splitlines()]
    lived.events = {k: v for k, v in lived.events.items() if k.startswith("load_model")}
    write_llama(folder, lived)
    (folder / "energy_iter0.log").write_text("\n".join(jetson_log(T0 - 8, lived.end + 8, {"VDD_IN": steady(10.0)})))
    run = only(read(folder))
    found = figures(run)
    tokens = [p.answer for p in PROMPTS]
    truth = sum(tokens) / sum(n / p.decode_rate for n, p in zip(tokens, PROMPTS, strict=True))
    assert value(found, "decode_tok_per_s") == pytest.approx(truth, rel=1e-6)
    assert value(found, "power_mean_w") == pytest.approx(10.0, rel=1e-3)
    assert value(found, "load_s") == pytest.approx(3.0, abs=1e-6)
    assert (found["j_per_token"].reason or "").startswith("not_told: ")
    assert run.fingerprint.hard["engine"] == "mlc-llm"


# ---------------------------------------------------------------------------------------------------- a Monsoon's


def test_a_trace_that_was_shifted_late_is_put_back(tmp_path: Path) -> None:
    lived = live(PROMPTS, clock_ahead=37.5)
    folder = place(tmp_path, device="Galaxy_S23")
    write_llama(folder, lived)
    monsoon(folder, T0 - 8, lived.end + 8, stepped(lived, 9.0, 5.0, 1.0), calibration_s=2.5)
    run = only(read(folder))
    found = figures(run)
    prefill_s, decode_s = sum(p.prefill_s for p in PROMPTS), sum(p.decode_s for p in PROMPTS)
    for name, truth in (("energy_prefill_j", 9 * prefill_s), ("energy_decode_j", 5 * decode_s)):
        assert value(found, name) == pytest.approx(truth, rel=0.04)  # shifted by 2.5 s prefill is 35 % off
        assert abs(value(found, name) - truth) <= (found[name].error or 0)
    assert "2.500 s late" in corrected(run, "trace_shifted")
    assert "boundary battery" in (found["energy_j"].note or "")
    assert run.series is not None
    assert run.series.sensors["meter.monsoon"].clock_bound_s == pytest.approx(0.075, abs=0.002)


def test_clocks_that_are_not_known_to_each_other_leave_the_phases_without_energy(tmp_path: Path) -> None:
    folder = place(tmp_path, device="Pixel_6a", app="MLCChat++")
    first, last = write_mlc_phone(folder, PROMPTS, T0 + 1000)
    monsoon(folder, T0 - 30, T0 + 200, steady(4.0))
    run = only(read(folder))
    assert (run.metrics["energy_j"].reason or "").startswith("clock_bound: nothing in the folder ties")
    stages = f"stage,time_start,time_end,duration,rx,tx\nRun_0,{T0 - 10},{T0 - 10 + last - first + 40},0,0,0\n"
    (folder / "measurements_ts.csv").write_text(stages)
    found = figures(only(read(folder)))
    assert value(found, "power_mean_w") == pytest.approx(4.0, rel=1e-3)
    for name in ("energy_decode_j", "energy_prefill_j", "j_per_token"):
        assert "known on that of the run to 20.1 s" in (found[name].reason or "")
    assert value(found, "decode_tok_per_s") == pytest.approx(TRUE_DECODE, rel=1e-6)


def test_a_meter_whose_columns_are_in_other_units(tmp_path: Path) -> None:
    monsoon(tmp_path, T0, T0 + 3, steady(4.0))
    logged = read_monsoon(tmp_path / "measurements_monsoon.csv", tmp_path / ".t_monsoon")
    assert np.allclose(logged.rails["monsoon"].v, 4.0)
    file = tmp_path / "measurements_monsoon.csv"
    plain = file.read_text()
    file.write_text("Time(ms),Main(A),Main Voltage(mV),\n" + plain.replace(",1000.0,4.0,", ",1.0,4000.0,"))
    assert np.allclose(read_monsoon(file, tmp_path / ".t_monsoon").rails["monsoon"].v, 4.0)
    file.write_text(plain.replace(",4.0,", ",4000.0,"))
    with pytest.raises(ValueError, match="which no Monsoon gives"):
        read_monsoon(file, tmp_path / ".t_monsoon")


def test_llmfarm_has_its_tokens_from_samplings_and_its_sizes_from_the_timings(tmp_path: Path) -> None:
    folder = place(tmp_path, device="iPhone_14_Pro", app="LLMFarmEval")
    write_llmfarm(folder, PROMPTS, T0 + 50)
    run = only(read(folder))
    found = figures(run)
    assert value(found, "decode_tok_per_s") == pytest.approx(TRUE_DECODE, rel=1e-6)
    assert value(found, "prefill_tok_per_s") == pytest.approx(TRUE_PREFILL, rel=1e-6)
    assert value(found, "load_s") == pytest.approx(1.5, rel=1e-6)
    assert run.fingerprint.hard["max_length_means"] == "characters of an answer"
    file = folder / "melt_measurements" / "measurements_iter0_timing_conv0.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:3]))  # a row is lost: which one?
    run = only(read(folder))
    assert run.metrics["decode_tok_per_s"].value is None
    assert any("2 rows and the conversation 3 prompts" in caveat for caveat in run.caveats)


# ------------------------------------------------------------------------------------------------------ bad input


def test_what_is_told_of_the_run_and_what_is_not(tmp_path: Path) -> None:
    folder = jetson(tmp_path, {"VDD_IN": steady(10.0)})
    run = only(read(folder))
    hard = run.fingerprint.hard
    assert (run.device, run.workload, hard["engine"], hard["quant"]) == (
        *("orin_nano", "tinyllama-1.1b-q4_0", "llama.cpp", "q4_0"),
    )
    assert hard["power_mode"] == "15w"
    assert hard["max_length_means"] == "tokens of all turns of a conversation together"
    assert hard["max_length"] is None
    assert any(c.startswith("output_length: ") for c in run.caveats)
    assert corrected(run, "max_length")
    assert corrected(run, "values_kept").startswith("values_kept: all 3 prompts count")
    assert set(run.raw) >= {"energy_iter0.log", "measurements_iter0_conv0.csv", "measurements_iter0_conv0.tsv"}
    (folder / "configuration.json").write_text(json.dumps({"max_gen_len": 512, "device": "Orin", "n_threads": 4}))
    told = only(read(folder))
    assert (told.device, told.fingerprint.hard["max_length"], told.resolved["params.threads"].value) == ("orin", 512, 4)


def test_each_iteration_is_a_run(tmp_path: Path) -> None:
    folder = place(tmp_path)
    for iteration in range(3):
        write_llama(folder, live(PROMPTS, T0 + 1000 * iteration), iteration)
        write_llama(folder, live(PROMPTS[:2], T0 + 1000 * iteration + 300), iteration, 1)
    found = read(folder)
    assert [run.block for run in found.runs] == [0, 1, 2]
    assert len({run.started_utc for run in found.runs}) == 3
    assert all(value(figures(run), "requests") == 5 for run in found.runs)


def test_a_power_log_without_measurements_is_named(tmp_path: Path) -> None:
    folder = jetson(tmp_path, {"VDD_IN": steady(10.0)})
    (folder / "energy_iter1.log").write_text("1 a: 1 mC\n")
    found = read(folder)
    assert len(found.runs) == 1
    assert any("energy_iter1.log" in p and "no measurements of iteration 1" in p for p in found.problems)


def test_rows_that_are_no_duration_are_named() -> None:
    text = 'start_date,duration,state\n1710000000.0,-3.0,"a"\n1710000010.0,nan,"b"\n1710000020.0,2.0,"c, d"\n17100'
    rows, wrong = spans(text)
    assert [(row.state, row.seconds) for row in rows] == [("c, d", pytest.approx(2.0))]
    assert wrong == [
        "line 2 has the duration -3 s: left out",
        "line 3 holds no start and duration: left out",
        "line 5 holds no start and duration: left out",
    ]
    assert stamps("a.start 12\nb.end,34\nc.start 1.5\nd\n")[0] == {"a.start": 12, "b.end": 34}


def test_a_lost_row_does_not_give_a_prompt_the_stamps_of_another(tmp_path: Path) -> None:
    lived = live(PROMPTS)
    lived.rows[2] = (lived.rows[2][0], -1.0, lived.rows[2][2])
    of_prompts = [name for name in lived.events if name.startswith("prompt.") and name.endswith(".start")]
    del lived.events[of_prompts[-1]]  # as many are left as rows, and of others
    found = read(jetson(tmp_path, {"VDD_IN": steady(10.0)}, lived))
    run = only(found)
    assert any("has the duration -1 s" in p for p in found.problems)
    assert (run.metrics["ttft_s"].reason or "").startswith("not_told: ")


def test_a_log_with_everything_wrong_in_it(tmp_path: Path) -> None:
    file = tmp_path / "energy_iter0.log"
    lines = [
        f"{S + at * 10_000_000} power_VDD_IN: {2000.0 if at % 2 else 2.0} {'mW' if at % 2 else 'W'}"
        for at in range(200)
    ]
    lines.insert(50, f"{S + 1} power_VDD_IN: 99 W")  # the clock went back
    lines.insert(60, f"{S + 580_000_001} power_VDD_IN: nan W")
    lines.insert(70, f"{S + 670_000_001} power_VDD_IN: 7 parsecs")
    lines.insert(80, f"{S + 760_000_001} voltage_VDD_IN: 7 mA")
    lines += ["CPU Core #0: enabled", f"{S * 4} power_VDD_IN: 3"]
    file.write_text("\n".join(lines))
    logged = read_log(file)
    assert np.allclose(logged.rails["VDD_IN"].v, 2.0)
    assert len(logged.rails["VDD_IN"].t) == 200
    said = "\n".join(logged.problems)
    for part in (
        "1 lines have a stamp before",
        "1 lines hold no finite number",
        "2 lines are in a unit",
        "1 lines are cut",
    ):
        assert part in said, said


def test_a_rail_that_vanishes_is_a_gap_and_not_less_energy(tmp_path: Path) -> None:
    lived = live(PROMPTS)
    folder = jetson(
        tmp_path, {"VDD_GPU_SOC": steady(4.0), "VDD_CPU_CV": steady(2.0), "VIN_SYS_5V0": steady(3.0)}, lived
    )
    file = folder / "energy_iter0.log"
    until = (T0 + 40) * S
    kept = [line for line in file.read_text().splitlines() if "VIN_SYS_5V0" not in line or int(line.split()[0]) < until]
    file.write_text("\n".join(kept))
    reason = figures(only(read(folder)))["energy_j"].reason or ""
    assert reason.startswith("sensor_gap: ina3221.vin_sys_5v0")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("measurements_iter0.json", '[{"modelName": "gemma", "questionRecords": ['),
        ("measurements_iter0.json", "[1, 2]"),
        ("measurements_iter0.json", '[{"questionRecords": [{"time": {"start": 1, "duration": -4}}]}]'),
        ("measurements_iter0.json", "[" * 100_000),
        ("measurements_iter0_conv0.csv", ""),
        ("measurements_iter0_conv0.csv", "\x00\xff"),
    ],
)
def test_cut_and_odd_files_are_problems_and_never_errors(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    found = read(tmp_path)
    assert not found.runs
    assert any(name in problem for problem in found.problems)


def test_links_and_other_folders_are_not_the_studys(tmp_path: Path) -> None:
    importer = StudyImporter()
    assert not importer.recognises(tmp_path)
    assert not importer.recognises(tmp_path / "none")
    (tmp_path / "measurements_iter0.json").symlink_to("/etc/passwd")
    assert not importer.recognises(tmp_path)


def test_an_offset_is_what_fits_every_window() -> None:
    known = offset([(10 * S, 20 * S), (30 * S, 40 * S)], [(15 * S - 1000, 25 * S + 500), (35 * S - 300, 45 * S + 900)])
    assert known is not None
    assert known.s == pytest.approx(5.0, abs=1e-6)
    assert known.bound_s == pytest.approx(400e-9, abs=1e-12)
    assert offset([(0, 10)], [(0, 5)]) is None
    assert offset([], []) is None


def test_the_same_folder_gives_the_same_run(tmp_path: Path) -> None:
    folder = jetson(tmp_path, {"VDD_IN": steady(10.0)})
    one, two = only(read(folder)), only(read(folder))
    assert one.series is not None
    assert two.series is not None
    assert one.series.events == two.series.events
    assert dataclasses.replace(one, series=None) == dataclasses.replace(two, series=None)


def test_any_cut_or_broken_byte_raises_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    short = [dataclasses.replace(one, answer=5) for one in PROMPTS]
    lived = live(short)
    one = place(tmp_path / "one")
    write_llama(one, lived)
    (one / "energy_iter0.log").write_text("\n".join(jetson_log(T0, lived.end, {"VDD_IN": steady(5.0)}, hz=1)))
    two = place(tmp_path / "two", app="MLCChat")
    write_mlc_phone(two, short, T0 + 10)
    monsoon(two, T0, T0 + 40, steady(4.0), hz=20)
    (two / "measurements_ts.csv").write_text(f"stage,time_start,time_end\nRun_0,{T0},{T0 + 60}\n")
    for folder in (one, two):
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            whole = file.read_bytes()
            for _ in range(6):
                cut = bytearray(whole[: random.integers(0, len(whole) + 1)])
                for at in random.integers(0, max(len(cut), 1), 3 if cut else 0):
                    cut[at] = random.integers(0, 256)
                file.write_bytes(bytes(cut))
                for run in StudyImporter().read(folder).runs:
                    figures(run)
            file.write_bytes(whole)
        assert len(read(folder).runs) == 1


def test_an_infinity_is_no_number(tmp_path: Path) -> None:
    odd = ("1e999", "-1e999", "NaN", '"x"', "null", "[]", "{}", "true", "1e300", "-5", str(2**70))
    for word in odd:
        text = '[{"modelLoadTime": {"start": %s, "duration": %s}, "questionRecords": [{"time": {"start": 1710000000.5,'
        text += ' "duration": 2.5}, "input_tokens": %s, "output_tokens": %s, "runtimeStats": %s}]}]'
        (tmp_path / "measurements_iter0.json").write_text(text.replace("%s", word))
        run = only(read(tmp_path))
        assert value(figures(run), "latency_mean_s") == pytest.approx(2.5)
        assert run.metrics["decode_tok_per_s"].value is None


def test_a_conversation_on_another_clock_than_the_others_is_left_out(tmp_path: Path) -> None:
    folder = place(tmp_path, device="Galaxy_S23")
    write_llama(folder, live(PROMPTS, clock_ahead=37.5))
    write_llama(folder, live(PROMPTS[:1], T0 + 300), conversation=1, events=False)
    found = read(folder)
    assert value(figures(only(found)), "requests") == 3
    assert any("conversation 1 has no events of the engine" in problem for problem in found.problems)


def test_a_clock_that_was_set_back_between_two_conversations_loses_none(tmp_path: Path) -> None:
    folder = place(tmp_path)
    write_llama(folder, live(PROMPTS, T0 + 1000))
    write_llama(folder, live(PROMPTS, T0), conversation=1)
    assert value(figures(only(read(folder))), "requests") == 6
