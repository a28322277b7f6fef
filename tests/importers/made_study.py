"""Result folders as the 2024 study's programs leave them, of made-up times and powers, so that the truth is known."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

S = 1_000_000_000
T0 = 1_710_000_000.0
"""When everything begins, seconds since 1970."""
ECHO_S = 0.03
"""How long after the answer's end the script sees the next prompt."""
READ_S = 0.01
"""How long after it is sent a prompt is read."""
PAUSE_S = 5.0


@dataclass(frozen=True)
class Asked:
    """A prompt: its text, its size, how many tokens it is answered with, and at which rates (tokens/s)."""

    text: str
    prompt_tokens: int
    answer: int
    prefill_rate: float = 40.0
    decode_rate: float = 10.0

    @property
    def prefill_s(self) -> float:
        return self.prompt_tokens / self.prefill_rate

    @property
    def decode_s(self) -> float:
        return (self.answer - 1) / self.decode_rate


PROMPTS = (
    Asked("What is a comma splice, and how do I mend one?", 80, 201),
    Asked("Write that again, as a poem of four lines please", 60, 201, decode_rate=8.0),
    Asked("Which of the two would a lawyer understand?", 40, 201, decode_rate=5.0),
)


@dataclass
class Lived:
    """What one conversation wrote, on the clock of who drove it; and its true windows (s) by kind."""

    rows: list[tuple[float, float, str]] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    prefills: list[tuple[float, float]] = field(default_factory=list)
    decodes: list[tuple[float, float]] = field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)
    end: float = 0.0


def live(asked: Sequence[Asked], begin: float = T0, clock_ahead: float = 0.0, load_s: float = 3.0) -> Lived:
    """A conversation with llama.cpp; its events are on a clock that is `clock_ahead` seconds ahead of the host's."""
    lived = Lived(load=(begin + 0.2, begin + 0.2 + load_s))

    def put(name: str, at: float) -> None:
        lived.events[name] = round((at + clock_ahead) * S)

    put("load_model.start", lived.load[0])
    put("load_model.end", lived.load[1])
    put("generate.start", lived.load[1] + 0.01)
    put("generate.2.decode.start", lived.load[1] + 0.02)
    put("generate.2.decode.end", lived.load[1] + 0.05)
    lived.rows.append((begin, 5.4, "load_model"))
    lived.output.append("main: build = 2000")
    t, counter, carried = begin + 5.4 + PAUSE_S, 2, 0
    for one in asked:
        put(f"prompt.{counter}.tokenize.start", t + READ_S)
        put(f"prompt.{counter}.tokenize.end", t + READ_S + 0.001)
        if carried:
            put(f"generate.{counter + 1}.decode.start", t + READ_S + 0.002)
        put(f"generate.{counter + 1}.decode.end", t + READ_S + 0.004)
        at = t + READ_S + 0.005
        lived.prefills.append((at, at + one.prefill_s))
        put(f"generate.{counter + 2}.decode.start", at)
        at += one.prefill_s
        put(f"generate.{counter + 2}.decode.end", at)
        first = at
        for number in range(one.answer - 1):
            put(f"generate.{counter + 3 + number}.decode.start", first + number / one.decode_rate + 1e-4)
            at = first + (number + 1) / one.decode_rate
            put(f"generate.{counter + 3 + number}.decode.end", at)
        lived.decodes.append((first, at))
        counter += 2 + one.answer - 1
        lived.rows.append((t, at + ECHO_S - t, one.text))
        lived.output += [f"> {one.text}", "Some answer, in words.", *timings(one, one.answer - 1 + carried)]
        carried = 1
        t = at + ECHO_S + PAUSE_S
    lived.output += [
        *timings(Asked("", 1, 1), 1, empty=True),
        "Writing energy events to file x",
        "Energy events written.",
    ]
    lived.end = t
    return lived


def timings(one: Asked, runs: int, *, empty: bool = False) -> list[str]:
    """llama.cpp's report of a prompt, in five lines."""
    prefill_ms, decode_ms = (0.0, 0.0) if empty else (one.prefill_s * 1e3, one.decode_s * 1e3)
    name, runs_said = "llama_print_timings:", f"{runs:4d} runs"
    by_token, by_prompt = "   49.05 ms per token,    20.39 tokens per second", "   52.07 ms per token,    19.20"
    return [
        f"{name}        load time =    3000.00 ms",
        f"{name}      sample time =       4.28 ms /  {runs_said}   (    0.20 ms per token,  4909.98 tokens per second)",
        f"{name} prompt eval time = {prefill_ms:10.2f} ms /  {one.prompt_tokens:4d} tokens ({by_token})",
        f"{name}        eval time = {decode_ms:10.2f} ms /  {runs_said}   ({by_prompt} tokens per second)",
        f"{name}       total time =   11653.83 ms",
    ]


def write_llama(folder: Path, lived: Lived, iteration: int = 0, conversation: int = 0, *, events: bool = True) -> None:
    """The files of a conversation that the script of llama.cpp leaves."""
    inside = folder / "melt_measurements"
    inside.mkdir(parents=True, exist_ok=True)
    name = f"iter{iteration}_conv{conversation}"
    rows = "".join(f'{begin:.3f},{length:.3f},"{state}"\r\n' for begin, length, state in lived.rows)
    (inside / f"measurements_{name}.csv").write_bytes(f"start_date,duration,state\r\n{rows}".encode())
    (inside / f"llm_output_{name}.txt").write_text("\r\n".join(lived.output) + "\r\n")
    if events:
        shuffled = sorted(lived.events.items(), key=lambda pair: hash_of(pair[0]))
        (inside / f"measurements_{name}.tsv").write_text("".join(f"{key} {at}\n" for key, at in shuffled))


def hash_of(name: str) -> int:
    """An order without meaning, and always the same: the study's files hold a hash map's."""
    return sum(ord(c) * 31**i for i, c in enumerate(name)) % 9973


def jetson_log(
    begin: float,
    end: float,
    rails: Mapping[str, Callable[[float], float]],
    hz: float = 20.0,
    kinds: Sequence[str] = ("voltage", "current", "power"),
) -> list[str]:
    """A monitor's log: numbers of its schedule, then by tick the zones and each rail's three readings."""
    lines = [str(number) for number in range(1, 50)]
    later = iter(range(10**9))  # each line has a stamp of its own, some microseconds after the one above
    for tick in range(int((end - begin) * hz) + 1):
        ns = round((begin + tick / hz) * S)
        lines.append(f"{ns + next(later)} CPU-therm: {45000 + tick % 7} mC")
        for name, power in rails.items():
            watts, volts = power(begin + tick / hz), 5000.0
            values = {
                "voltage": f"{volts:.0f} mV",
                "current": f"{watts * 1e6 / volts:.6f} mA",
                "power": f"{watts * 1e3:.6f} mW",
            }
            lines += [f"{ns + next(later)} {kind}_{name}: {values[kind]}" for kind in kinds]
    return lines


def steady(watts: float) -> Callable[[float], float]:
    return lambda _: watts


def stepped(lived: Lived, prefill_w: float, decode_w: float, else_w: float) -> Callable[[float], float]:
    """The power of a conversation: another one in each of its phases."""
    noise = np.random.default_rng(7).normal(0, 0.01, 4096)  # a register's last digits never stand still

    def power(t: float) -> float:
        level = else_w
        if any(begin <= t < end for begin, end in lived.prefills):
            level = prefill_w
        elif any(begin <= t < end for begin, end in lived.decodes):
            level = decode_w
        return level + float(noise[int(t * 100) % noise.size])

    return power


def monsoon(
    folder: Path,
    begin: float,
    end: float,
    power: Callable[[float], float],
    calibration_s: float = 2.5,
    hz: float = 200.0,
) -> None:
    """A Monsoon's CSV, its seconds counting from before the calibration, and the stamp taken after it."""
    rows = []
    for tick in range(int((end - begin) * hz) + 1):
        since = tick / hz
        rows.append(f"{since + calibration_s!r},{power(begin + since) / 4.0 * 1e3!r},4.0,\n")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "measurements_monsoon.csv").write_text("".join(rows))
    (folder / ".t_monsoon").write_text(repr(begin))


def write_table(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """What the study's program computed of a set."""
    made = list(rows)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(made[0]))
    writer.writeheader()
    writer.writerows(made)
    (folder / "results_model_inference_measurements.csv").write_text(out.getvalue())


def mlc_stats(one: Asked) -> str:
    """MLC's statistics of a prompt."""
    return json.dumps(
        {
            "prefill": {
                "throughput": f"{one.prefill_rate:.1f} tok/s",
                "total tokens": f"{one.prompt_tokens} tok",
                "total time": "0.2 s",
            },
            "decode": {
                "throughput": f"{one.decode_rate:.1f} tok/s",
                "total tokens": f"{one.answer} tok",
                "total time": "11.3 s",
            },
        },
        indent=1,
    )


def write_llmfarm(folder: Path, asked: Sequence[Asked], begin: float) -> None:
    """The JSON, the events and the timings of LLMFarm's app, on the phone's clock."""
    inside = folder / "melt_measurements"
    inside.mkdir(parents=True, exist_ok=True)
    events = {"load_model.start": round(begin * S), "load_model.end": round((begin + 1.5) * S)}
    rows, records, t = ["t_load_ms,t_p_eval_ms,n_p_eval,t_eval_ms,n_eval"], [], begin + 6.5
    for at, one in enumerate(asked):
        start = t
        events[f"generate.{at}.start"] = round(t * S)
        t += one.prefill_s
        for number in range(one.answer):
            t += 1 / one.decode_rate if number else 0
            events[f"generate.{at}.llm_sample.{number}.start"] = round(t * S)
            events[f"generate.{at}.llm_sample.{number}.end"] = round((t + 1e-3) * S)
        events[f"generate.{at}.end"] = round((t + 2e-3) * S)
        rows.append(f"1,{one.prefill_s * 1e3},{one.prompt_tokens},{one.decode_s * 1e3},{one.answer - 1}")
        records.append(
            {"time": {"start": start, "duration": t - start + 0.005}, "input": one.text, "output": "…"}
            | {"original_session_tokens": 0, "input_tokens": 7, "output_tokens": 7, "runtimeStats": ""}
        )
        t += PAUSE_S
    summary = [{"modelName": "x", "modelLoadTime": {"start": begin, "duration": 1.6}, "questionRecords": records}]
    (inside / "measurements_iter0.json").write_text(json.dumps(summary))
    (inside / "measurements_iter0_conv0.csv").write_text("".join(f"{key},{at}\n" for key, at in events.items()))
    (inside / "measurements_iter0_timing_conv0.csv").write_text("\n".join(rows) + "\n")


def write_mlc_phone(folder: Path, asked: Sequence[Asked], begin: float, iteration: int = 0) -> tuple[float, float]:
    """The JSON and the events of MLC's app, on the phone's clock; gives the first and last stamp (s)."""
    inside = folder / "melt_measurements"
    inside.mkdir(parents=True, exist_ok=True)
    events = {"reload.0.start": round(begin * S), "reload.0.end": round((begin + 2) * S)}
    records, t, decoded = [], begin + 10.0, 0
    for at, one in enumerate(asked):
        start = t
        events[f"prefill.{at}.start"] = round(t * S)
        t += one.prefill_s
        events[f"prefill.{at}.end"] = round(t * S)
        for _ in range(one.answer - 1):
            events[f"generate.decode.{decoded}.start"] = round(t * S)
            t += 1 / one.decode_rate
            events[f"generate.decode.{decoded}.end"] = round(t * S)
            decoded += 1
        time = {"start": start, "duration": t - start + 0.002}
        records.append(
            {"time": time, "input": one.text, "output": "…", "original_session_tokens": -1}
            | {"input_tokens": one.prompt_tokens, "output_tokens": one.answer, "runtimeStats": mlc_stats(one)}
        )
        t += PAUSE_S
    summary = [{"modelName": "gemma", "modelLoadTime": {"start": begin, "duration": 2.1}, "questionRecords": records}]
    (inside / f"measurements_iter{iteration}.json").write_text(json.dumps(summary))
    (inside / f"measurements_iter{iteration}_conv0.csv").write_text("".join(f"{k},{v}\n" for k, v in events.items()))
    return begin, t - PAUSE_S
