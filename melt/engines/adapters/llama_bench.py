"""llama-bench, `-o json` and `-o jsonl`: rates by its own definitions, under names of their own.

A test is a prompt (pp), a generation (tg), or both after each other (pg), repeated. Its rate is the mean over the
repetitions of tokens ÷ wall time, computed here from `samples_ns`: `stddev_ns` overflows 64 bits at some seconds, and
`samples_ts` has six digits.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.engines.adapters.told import Told, count
from melt.errors import ParseError
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from melt.engines.adapters.told import Printed

NAMES = ("pp_tok_per_s", "tg_tok_per_s")
_KEPT = (
    *("build_commit", "build_number", "model_type", "model_size", "model_n_params", "backends", "cpu_info", "gpu_info"),
    *("n_threads", "n_batch", "n_ubatch", "n_gpu_layers", "type_k", "type_v", "flash_attn", "repack"),
)
"""Never `model_filename`, which is a path of one device."""
_ARRAY = re.compile(r"^\[[ \t]*\r?$", re.MULTILINE)
_NO_NUMBER = re.compile(r'("[a-z_]+": )-?(?:nan|inf)\b')
"""How C++ prints the deviation of repetitions that rounding makes less than nothing: JSON has no word for it."""
_BETWEEN = " \t\r\n,"


def parse(printed: Printed) -> Told:
    """The rates of an output; of one that is cut, those of its whole tests. Raises ParseError when it has none."""
    text = printed.told
    found, whole = objects(text)
    tests = [test for one in found if (test := Test.of(one)) is not None]
    if not tests:
        raise ParseError("it holds no test of llama-bench: let it print with -o json or -o jsonl", text)
    wrong = None if whole and len(tests) == len(found) else f"it is cut or damaged after {len(tests)} whole tests"
    kinds: dict[str, list[Test]] = defaultdict(list)
    for test in tests:
        kinds[test.kind].append(test)
    metrics = {name: gap(f"no_measurement: llama-bench told of no {name[:2]} test") for name in NAMES}
    for kind, several in kinds.items():
        metrics[f"{kind}_tok_per_s"] = several[0].rate()
        if len(several) > 1:
            names = ", ".join(sorted({test.name for test in several}))
            wrong = f"it holds {len(several)} {kind} tests ({names}): ask for one a run, and let a suite sweep"
            metrics[f"{kind}_tok_per_s"] = gap(f"several_tests: {wrong}")
    return Told(metrics, _engine([test.fields for test in tests]), wrong)


def objects(text: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> tuple[list[object], bool]:
    """What the JSON of an output holds, in order, and whether it is whole; `pairs` makes an object of its fields."""
    text = _NO_NUMBER.sub(r"\1null", text)
    decoder = json.JSONDecoder(object_pairs_hook=pairs)
    array = _ARRAY.search(text)
    return _array(text, array.end(), decoder) if array else _lines(text, decoder)


class Test:
    """One test with its repetitions."""

    def __init__(self, fields: dict[str, Any], prompt: int, generated: int, samples_ns: list[int]) -> None:
        self.fields = fields
        self.kind = "pg" if prompt and generated else "pp" if prompt else "tg"
        depth = count(fields.get("n_depth")) or 0
        tokens = f"{self.kind}{prompt}+{generated}" if self.kind == "pg" else f"{self.kind}{prompt + generated}"
        self.name = f"{tokens} @ d{depth}" if depth else tokens
        self._rates = (prompt + generated) / (np.array(samples_ns, dtype=np.float64) * 1e-9)

    @staticmethod
    def of(fields: object) -> Test | None:
        """A test of what its JSON holds; None where something is missing that its rate stands on."""
        if not isinstance(fields, dict):
            return None
        prompt, generated = count(fields.get("n_prompt")), count(fields.get("n_gen"))
        samples = fields.get("samples_ns")
        if prompt is None or generated is None or not prompt + generated or not isinstance(samples, list):
            return None
        known = [ns for ns in map(count, samples) if ns]
        return Test(fields, prompt, generated, known) if known and len(known) == len(samples) else None

    def rate(self) -> Metric:
        """Tokens a second over its repetitions."""
        n = self._rates.size
        deviation = f"deviation {self._rates.std(ddof=1):.3g}" if n > 1 else "one repetition"
        note = f"llama-bench's definition, {self.name}; {deviation}"
        return Metric(value=float(self._rates.mean()), n=n, note=note)


def _array(text: str, at: int, decoder: json.JSONDecoder) -> tuple[list[object], bool]:
    """The tests of `-o json` from its bracket on, and whether it is closed."""
    found: list[object] = []
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        if text[at : at + 1] == "]":
            return found, True
        try:
            one, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return found, False
        found.append(one)


def _lines(text: str, decoder: json.JSONDecoder) -> tuple[list[object], bool]:
    """The tests of `-o jsonl`, and whether every line that begins as one is whole."""
    found: list[object] = []
    whole = True
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        try:
            found.append(decoder.decode(line))
        except (ValueError, RecursionError):
            whole = False
    return found, whole


def _engine(fields: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the tests say of the program and its settings; a list where they differ."""
    out: dict[str, Any] = {}
    for key in _KEPT:
        values = [one[key] for one in fields if isinstance(one.get(key), (str, int, bool))]
        different = [value for at, value in enumerate(values) if value not in values[:at]]
        if different:
            out[key] = different[0] if len(different) == 1 else different
    if isinstance(out.get("build_commit"), str):
        out["version"] = out["build_commit"]
    return out
