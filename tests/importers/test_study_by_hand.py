"""A whole session of the study by hand: from the raw files with numpy alone, against the run that is stored."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_study import PROMPTS, T0, jetson_log, live, monsoon, steady, write_llama

from melt.importers import IMPORTERS, gather, plan, publish

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from melt.records import RunRecord

    Floats = NDArray[np.float64]

EVENT = re.compile(r"(\S+) (\d+)")


def place(root: Path, device: str) -> Path:
    folder = root / "experiment_outputs" / device / "LlamaCpp" / "TheBloke" / "tinyllama-1.1b-q4_0.gguf" / "15w"
    folder.mkdir(parents=True)
    return folder


def stored(folder: Path, results: Path) -> RunRecord:
    found = gather(folder, IMPORTERS)
    (run,) = publish(plan(found.runs, results, "study"), results, found.problems)
    return run.record


def joules(t: Floats, w: Floats, begin: float, end: float) -> float:
    """Trapezoids between a window's edges, values at the edges on the straight line."""
    inside = (t > begin) & (t < end)
    at = np.concatenate(([begin], t[inside], [end]))
    watts = np.concatenate(([np.interp(begin, t, w)], w[inside], [np.interp(end, t, w)]))
    return float(np.sum((watts[1:] + watts[:-1]) / 2 * np.diff(at)))


def windows(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Each phase's windows by the engine's events (s from T0).

    The prefill is the second pass after the one that read its prompt, and every later one is a token.
    """
    file = next(folder.rglob("*.tsv"))
    at = {m[1]: (int(m[2]) / 1e9) - T0 for line in file.read_text().splitlines() if (m := EVENT.fullmatch(line))}
    asked = sorted(int(name.split(".")[1]) for name in at if name.endswith("tokenize.start"))
    passes = sorted(int(name.split(".")[1]) for name in at if name.endswith("decode.end") and f"{name[:-3]}start" in at)
    found: dict[str, list[tuple[float, float]]] = {"prefill": [], "decode": [], "load": []}
    found["load"].append((at["load_model.start"], at["load_model.end"]))
    for read, following in zip(asked, [*asked[1:], 10**9], strict=True):
        own = [n for n in passes if read + 2 <= n <= following]
        first, last = own[0], own[-1]
        found["prefill"].append((at[f"generate.{first}.decode.start"], at[f"generate.{first}.decode.end"]))
        found["decode"].append((at[f"generate.{first}.decode.end"], at[f"generate.{last}.decode.end"]))
    found["all"] = [(at[f"prompt.{asked[0]}.tokenize.start"], found["decode"][-1][1])]
    return found


def check(record: RunRecord, name: str, truth: float, rel: float) -> None:
    metric = record.metrics[name]
    assert metric.value == pytest.approx(truth, rel=rel), name
    assert metric.error is not None
    assert metric.error > 0


def compare(record: RunRecord, spans: dict[str, list[tuple[float, float]]], t: Floats, w: Floats, rel: float) -> None:
    of = {phase: sum(joules(t, w, *span) for span in mine) for phase, mine in spans.items()}
    tokens = sum(prompt.answer - 1 for prompt in PROMPTS)
    check(record, "energy_load_j", of["load"], rel)
    check(record, "energy_prefill_j", of["prefill"], rel)
    check(record, "energy_decode_j", of["decode"], rel)
    check(record, "energy_j", of["all"], rel)
    check(record, "power_mean_w", of["all"] / (spans["all"][0][1] - spans["all"][0][0]), rel)
    check(record, "j_per_token", of["decode"] / tokens, rel)
    check(record, "j_per_prompt_token", of["prefill"] / sum(prompt.prompt_tokens for prompt in PROMPTS), rel)
    assert record.metrics["energy_mwh"].value == pytest.approx(of["all"] / 3.6, rel=rel)
    decode_s = sum(end - begin for begin, end in spans["decode"])
    assert record.metrics["decode_tok_per_s"].value == pytest.approx(tokens / decode_s, rel=1e-6)


def test_a_jetsons_log_by_hand(tmp_path: Path) -> None:
    lived, folder = live(PROMPTS), place(tmp_path, "orin_nano")
    write_llama(folder, lived)
    rails = {
        "VDD_IN": lambda t: 6 + 2 * math.sin((t - T0) / 3.7) + 3 * any(a <= t < b for a, b in lived.prefills),
        "VDD_SOC": steady(1.0),
    }
    log = folder / "energy_iter0.log"
    log.write_text("\n".join(jetson_log(T0 - 8, lived.end + 8, rails)) + "\n")
    rows = [line.split() for line in log.read_text().splitlines() if " power_VDD_IN: " in line]
    assert {row[3] for row in rows} == {"mW"}
    t, w = np.array([int(row[0]) / 1e9 - T0 for row in rows]), np.array([float(row[2]) * 1e-3 for row in rows])
    record = stored(folder, tmp_path / "results")
    compare(record, windows(folder), t, w, rel=5e-3)
    assert record.energy.total is not None
    assert record.energy.total.boundary == "module"


def test_a_monsoons_csv_by_hand(tmp_path: Path) -> None:
    ahead = 37.5
    lived, folder = live(PROMPTS, clock_ahead=ahead), place(tmp_path, "Galaxy_S23")
    write_llama(folder, lived)
    monsoon(folder, T0 - 8, lived.end + 8, lambda t: 4 + 1.5 * math.sin((t - T0) / 2.3), calibration_s=2.5, hz=500)
    told = np.array(
        [
            [float(word) for word in line.split(",")[:3]]
            for line in (folder / "measurements_monsoon.csv").read_text().splitlines()
        ]
    )
    began = float((folder / ".t_monsoon").read_text()) - T0
    t = told[:, 0] - told[0, 0] + began + ahead  # on the phone's clock; the calibration is in the first stamp alone
    w = told[:, 1] * 1e-3 * told[:, 2]
    record = stored(folder, tmp_path / "results")
    compare(record, windows(folder), t, w, rel=5e-3)
    assert record.sensors["meter.monsoon"].boundary == "battery"
    (shifted,) = (text for text in record.imported.corrections if text.startswith("trace_shifted"))  # type: ignore[union-attr]
    late = sum(joules(t + 2.5, w, *span) for span in windows(folder)["prefill"])
    assert late != pytest.approx(record.metrics["energy_prefill_j"].value, rel=0.02), "as the study had it"
    assert "2.500 s late" in shifted


def test_a_prompt_far_beyond_the_others_counts(tmp_path: Path) -> None:
    """The study left values beyond 5 % and 95 % out of its plots: of five prompts the slowest and the fastest."""
    asked = [
        dataclasses.replace(PROMPTS[0], text=f"Prompt {n}, of its own words", decode_rate=rate)
        for n, rate in enumerate((10.0, 10.1, 9.9, 0.5, 60.0))
    ]
    folder = place(tmp_path, "orin_nano")
    write_llama(folder, live(asked))
    record = stored(folder, tmp_path / "results")
    truth = sum(one.answer - 1 for one in asked) / sum(one.decode_s for one in asked)
    assert record.metrics["decode_tok_per_s"].value == pytest.approx(truth, rel=1e-6)
    assert record.metrics["requests"].value == 5
    trimmed = sum(one.answer - 1 for one in asked[:3]) / sum(one.decode_s for one in asked[:3])
    assert abs(truth / trimmed - 1) > 0.5
    assert record.imported is not None
    assert any(text.startswith("values_kept: all 5 prompts count") for text in record.imported.corrections)


@pytest.mark.parametrize(
    ("text", "threads", "temperature"),
    [
        ('{"n_threads": 1e999, "temperature": NaN}', None, None),
        ('{"n_threads": true, "temperature": -Infinity}', None, None),
        (f'{{"n_threads": {"9" * 400}, "temperature": 0.5}}', None, 0.5),
        ('{"n_threads": 4, "temperature": false}', 4, None),
        ('{"n_threads": [4], "temperature": {"is": 1}}', None, None),
    ],
)
def test_a_setting_that_is_none_is_not_told(
    tmp_path: Path, text: str, threads: int | None, temperature: float | None
) -> None:
    folder = place(tmp_path, "orin_nano")
    write_llama(folder, live(PROMPTS[:1]))
    (folder / "configuration.json").write_text(text)
    record = stored(folder, tmp_path / "results")
    hard = record.fingerprint.hard
    assert (hard["threads"], hard["temperature"]) == (threads, temperature)
    assert ("params.threads" in record.resolved) == (threads is not None)
    said = next(caveat for caveat in record.caveats if caveat.startswith("output_length"))
    assert f"at temperature {temperature or 0.9} without" in said


def test_words_of_a_configuration_are_printable_and_bounded(tmp_path: Path) -> None:
    folder = place(tmp_path, "orin_nano")
    write_llama(folder, live(PROMPTS[:1]))
    evil = "\x1b[31m" + "y" * 20_000
    (folder / "configuration.json").write_text(
        json.dumps(dict.fromkeys(("app", "model", "device", "max_gen_len", "max_context_size"), evil))
    )
    record = stored(folder, tmp_path / "results")
    told = record.model_dump_json()
    assert "\x1b" not in told
    assert "\\u001b" not in told
    assert len(told) < 30_000
