"""Files of other tools for the tests: captured ones, and ones that are changed at one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from made_study import PROMPTS, live, write_llama

HERE = Path(__file__).parent / "captured"
ENGINES = Path(__file__).parents[1] / "engines" / "captured"

OVERFLOW = ENGINES / "llama-bench-overflow.json"
LLAMA_BENCH = (
    OVERFLOW,
    *(ENGINES / f"llama-bench{ending}" for ending in (".json", ".jsonl", "-pg.json", "-sweep.jsonl")),
)
PYTEST_BENCHMARK = (HERE / "pytest-benchmark.json", HERE / "pytest-benchmark-no-data.json")
GOOGLE_BENCHMARK = tuple(HERE / f"google-benchmark{ending}.json" for ending in ("", "-single", "-aggregates"))
PERF_TEST = tuple(ENGINES / name for name in ("perf-test.csv", "perf-test-two-times.csv", "perf-test-verbose.stdout"))

OF_TOOL = {
    "llama-bench": LLAMA_BENCH,
    "pytest-benchmark": PYTEST_BENCHMARK,
    "google-benchmark": GOOGLE_BENCHMARK,
    "onnxruntime-perf-test": PERF_TEST,
}

STUDY = "melt-study-2024"


def sample(tool: str, name: str, folder: Path) -> Path:
    """The sample of that name; the study's is made, with the truth known, in `folder`."""
    if tool != STUDY:
        return next(path for path in OF_TOOL[tool] if path.name == name)
    at = folder / "experiment_outputs" / "orin_nano" / "LlamaCpp" / "TheBloke_TinyLlama-1.1B" / name / "15w"
    at.mkdir(parents=True)
    write_llama(at, live(PROMPTS))
    return at


def samples_of(tool: str) -> tuple[str, ...]:
    """The names of the samples of a tool."""
    return ("tinyllama-1.1b-q4_0.gguf",) if tool == STUDY else tuple(path.name for path in OF_TOOL[tool])


def changed(original: Path, target: Path, *keys: str | int, to: Any) -> Path:
    """A JSON file with another value at one place; the last key may be new."""
    whole = json.loads(original.read_text())
    inside = whole
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = to
    target.write_text(json.dumps(whole))
    return target
