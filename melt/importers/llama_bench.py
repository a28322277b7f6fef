"""llama-bench, `-o json` and `-o jsonl`: each test of a file is a run, and its repetitions are inside of it.

The fields are those of `tools/llama-bench/llama-bench.cpp` in llama.cpp (`test::get_fields`). Rates are recomputed
from `samples_ns`. What the file states of them is only compared: its `stddev_ns` is computed in 64-bit whole numbers
and overflows at some seconds, and rounds by as much as the square root of the mean.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.engines.adapters.llama_bench import Test, objects
from melt.engines.adapters.told import count
from melt.errors import ParseError
from melt.files.reader import shorten
from melt.importers.base import Imported, ImportedRun, fingerprint, not_told
from melt.importers.reading import Pairs, doubled, glance, instant, number, seconds, slug, text_of, told, word
from melt.records import ImportNote, Resolved, gap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from melt.analysis.events import Float64s
    from melt.records import Metric

_PARAMS: Mapping[str, str] = {
    "n_threads": "threads",
    "n_batch": "batch",
    "n_ubatch": "ubatch",
    "type_k": "kv_k",
    "type_v": "kv_v",
    "flash_attn": "flash_attn",
    "n_gpu_layers": "gpu_layers",
    "n_cpu_moe": "cpu_moe",
    "split_mode": "split_mode",
    "main_gpu": "main_gpu",
    "no_kv_offload": "no_kv_offload",
    "tensor_split": "tensor_split",
    "tensor_buft_overrides": "tensor_overrides",
    "devices": "devices",
    "cpu_mask": "cpu_mask",
    "cpu_strict": "cpu_strict",
    "poll": "poll",
    "use_mmap": "mmap",
    "load_mode": "load_mode",
    "embeddings": "embeddings",
    "no_op_offload": "no_op_offload",
    "no_host": "no_host",
    "repack": "repack",
}
"""Its settings by melt's names: each is compared, and is swept where the tests of an import differ in it."""
_NO_SETTINGS = frozenset(
    (
        *("build_commit", "build_number", "cpu_info", "gpu_info", "backends", "test_time"),
        *("model_filename", "model_type", "model_size", "model_n_params", "n_prompt", "n_gen", "n_depth"),
        *("avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts"),
    )
)
_SETTING = re.compile(
    r"(?!.*_(?:ns|us|ms|s|ts|mib|mb|bytes|time)$)(?!(?:avg|std|stddev|min|max|mean|peak)_)[a-z][a-z0-9_]{0,39}"
)
"""No name of something measured, which would make each repetition a cell of its own."""
_MOST_NEWER = 32
"""Of settings that melt has no name for, which newer versions have: `lazy_mode`, `fit_target`, …"""
_TELLING = ('"n_prompt"', '"n_gen"', '"avg_ns"', '"avg_ts"', '"samples_ns"')
_STATED = ("avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ts")
_ENOUGH = 3
_SAME = 0.001
"""It prints six digits."""
_SAME_DEVIATION = 0.02


class LlamaBench:
    """Files of llama-bench."""

    tool = "llama-bench"

    def recognises(self, path: Path) -> bool:
        """A text with a bracket or a brace in it, and the fields of a test."""
        text = glance(path)
        return bool(re.search(r"^\s*[\[{]", text, re.MULTILINE)) and sum(key in text for key in _TELLING) >= _ENOUGH

    def read(self, path: Path) -> Imported:
        """A run for each test that is whole."""
        problems: list[str] = []
        runs: list[ImportedRun] = []
        try:
            found, whole = _entries(path, problems)
        except ParseError as error:
            return Imported(self.tool, (), (str(error),))
        if not whole:
            problems.append(f"{path.name}: it is cut or damaged after {len(found)} whole tests")
        for at, fields in enumerate(found):
            try:
                runs.append(_run(path, fields))
            except ParseError as error:
                problems.append(f"{path.name}: test {at + 1}: {error}")
        if not runs and not problems:
            problems.append(f"{path.name}: it holds no test")
        return Imported(self.tool, tuple(runs), tuple(problems))


def _entries(path: Path, problems: list[str]) -> tuple[list[object], bool]:
    """What stands for a test in any of its forms, also where a program has written the array in one line."""
    text, pairs = text_of(path), Pairs()
    try:
        found = json.loads(text, object_pairs_hook=pairs)
        tests, whole = (found if isinstance(found, list) else [found]), True
    except (ValueError, RecursionError):
        pairs = Pairs()
        tests, whole = objects(text, pairs)
    problems += doubled(path, pairs)
    return tests, whole


def _run(path: Path, fields: object) -> ImportedRun:
    """The run of one test. Raises ParseError where it is none."""
    if not isinstance(fields, dict):
        raise ParseError(f"it is {shorten(fields)}, and no object")
    prompt, generated = count(fields.get("n_prompt")), count(fields.get("n_gen"))
    if prompt is None or generated is None or not prompt + generated:
        raise ParseError("n_prompt and n_gen are to be counts of tokens, and one of them above 0")
    metrics, corrections, refused = _figures(fields, prompt, generated)
    depth = count(fields.get("n_depth")) or 0
    tokens = {"prompt_tokens": prompt, "generate_tokens": generated, "depth": depth}
    model_file = _basename(fields.get("model_filename"))
    params = {**told(fields, _PARAMS), **_newer(fields)}
    about = told(fields, {"model_size": "model_size_bytes", "model_n_params": "model_n_params", "model_type": "model"})
    machine = told(fields, {"cpu_info": "cpu_info", "gpu_info": "gpu_info", "backends": "backends"})
    names = [machine[key] for key in ("cpu_info", "gpu_info") if machine[key]]
    workload = slug(str(about["model"] or "model"))
    return ImportedRun(
        device=" ".join(map(str, names)) or None,
        workload=workload,
        cell=f"{workload}[{_test(prompt, generated, depth)}]",
        started_utc=instant(fields.get("test_time")),
        resolved={
            f"params.{key}": Resolved(value=value, source=LlamaBench.tool)
            for key, value in {"mode": "bench", **tokens, **params, "model_file": model_file}.items()
            if value is not None
        },
        fingerprint=fingerprint(
            LlamaBench.tool,
            {
                "workload": workload,
                "engine": "llama.cpp",
                "engine_version": told(fields, {"build_commit": "version"})["version"],
                "mode": "bench",
                **tokens,
                **params,
                **about,
                **machine,
            },
            {"model_file": model_file},
        ),
        metrics=metrics,
        engine={"name": "llama.cpp", **told(fields, {"build_commit": "version", "build_number": "build_number"})},
        facts={key: value for key, value in machine.items() if value is not None},
        raw={f"llama-bench{'.jsonl' if path.suffix == '.jsonl' else '.json'}": path},
        note=ImportNote(tool=LlamaBench.tool, source=str(path), corrections=tuple(corrections), refused=refused),
    )


def _newer(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that melt has no name for, by their own: tests that differ in one are not alike."""
    names = [
        key for key in fields if key not in _PARAMS and key not in _NO_SETTINGS and _SETTING.fullmatch(key) is not None
    ]
    taken = {*_PARAMS.values(), "mode", "prompt_tokens", "generate_tokens", "depth", "model_file"}
    found = {key: word(fields[key]) for key in names if key not in taken}
    return dict([(key, value) for key, value in found.items() if value is not None][:_MOST_NEWER])


def _test(prompt: int, generated: int, depth: int) -> str:
    kind = f"pg{prompt}+{generated}" if prompt and generated else f"pp{prompt}" if prompt else f"tg{generated}"
    return f"{kind},d{depth}" if depth else kind


def _basename(file: Any) -> str | None:
    """Never the whole, which is a path of one device."""
    return shorten(re.split(r"[/\\]", file)[-1]) or None if isinstance(file, str) else None


def _figures(
    fields: Mapping[str, Any], prompt: int, generated: int
) -> tuple[dict[str, Metric], list[str], dict[str, str]]:
    """The rate, what had to be put right beside it, and what is stated without the times that it stands on."""
    kind = "pg" if prompt and generated else "pp" if prompt else "tg"
    name = f"{kind}_tok_per_s"
    others = {
        f"{other}_tok_per_s": gap(f"no_measurement: the test times no {of} by itself")
        for other, of in (("pp", "prompt"), ("tg", "generation"))
        if other != kind
    }
    if fields.get("samples_ns") is None:
        why = "the file has no samples_ns, the time of each repetition"
        refused = {key: f"{shorten(fields[key])} is stated, and {why}" for key in _STATED if key in fields}
        return {name: not_told(why), **others}, [], refused
    samples = fields["samples_ns"]
    if not isinstance(samples, list):
        raise ParseError(f"samples_ns is {shorten(samples)}, and no list of times")
    known, wrong = seconds(samples, 1e-9, "samples_ns")
    test = Test.of(dict(fields))
    if wrong is not None or test is None:
        raise ParseError(wrong or "samples_ns has a time that is no whole number of ns")
    return {name: test.rate(), **others}, list(_corrections(fields, np.array(known), prompt + generated)), {}


def _corrections(fields: Mapping[str, Any], seconds_: Float64s, tokens: int) -> Iterator[str]:
    """Each stated figure that its samples contradict, with both numbers."""
    ns, rates, n = seconds_ * 1e9, tokens / seconds_, seconds_.size
    truth = {"avg_ns": float(ns.mean()), "avg_ts": float(rates.mean())}
    for key, true in truth.items():
        stated = _number(fields.get(key))
        if stated is not None and abs(stated - true) > _SAME * true + 1:
            yield f"{key}: {stated:.6g} stated, {true:.6g} from samples_ns"
    yield from _deviations(fields, ns, rates)
    listed = fields.get("samples_ts")
    if isinstance(listed, list):
        if len(listed) != n:
            yield f"samples_ts: {len(listed)} rates stated, and samples_ns has {n} times"
            return
        for at, (stated, true) in enumerate(zip(map(_number, listed), rates, strict=True)):
            if stated is None or abs(stated - true) > _SAME * true:
                yield f"samples_ts[{at}]: {_shown(stated)} stated, {true:.6g} from samples_ns"
                return  # one example is enough to tell


def _deviations(fields: Mapping[str, Any], ns: Float64s, rates: Float64s) -> Iterator[str]:
    n = ns.size
    if n < 2:  # noqa: PLR2004 - one has none, and llama-bench states 0
        return
    # in whole numbers the mean is cut to a nanosecond, and n/(n-1) of twice the mean is lost from the square
    rounding = {"stddev_ns": 4 * n / (n - 1) * float(ns.mean()), "stddev_ts": 1e-5 * float(rates.mean()) ** 2}
    for key, values in (("stddev_ns", ns), ("stddev_ts", rates)):
        if key not in fields:
            continue
        stated, true = _number(fields[key]), float(values.std(ddof=1))
        if stated is None and true**2 <= rounding[key]:
            continue  # it took the root of a difference that rounding had made less than nothing
        if stated is None or abs(stated * stated - true**2) > _SAME_DEVIATION * true**2 + rounding[key]:
            overflowed = " overflowed" if key == "stddev_ns" and _overflows(ns) else ""
            yield f"{key}{overflowed}: {_shown(stated)} stated, {true:.6g} from samples_ns"


def _overflows(ns: Float64s) -> bool:
    """Whether the sum of squares that it takes does not fit in its 64 bits."""
    return float((ns**2).sum()) >= 2.0**64


def _number(value: Any) -> float | None:
    """None also for NaN and infinity, for which it has no word of its own."""
    known = number(value)
    return known if known is not None and math.isfinite(known) else None


def _shown(value: float | None) -> str:
    return "no number" if value is None else f"{value:.6g}"
