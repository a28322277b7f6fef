"""onnxruntime_perf_test: the CSV file that it is given, or with `-v` its stdout, one line for each inference.

Latencies are cut and counted by melt's own rules: its warm-up test, its percentiles and their minimum samples. The
tool's one inference before them is not among them. Versions since the end of 2025 write two times a line, submitted
and whole: the whole one is taken.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.percentiles import outliers, percentiles
from melt.analysis.warmup import warmup
from melt.engines.adapters.told import Told
from melt.errors import ParseError
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from melt.analysis.events import Float64s
    from melt.engines.adapters.told import Printed

_NAMES: Mapping[float, str] = {
    50: "latency_p50_s",
    90: "latency_p90_s",
    95: "latency_p95_s",
    99: "latency_p99_s",
    99.9: "latency_p99_9_s",
}
NAMES = (
    *_NAMES.values(),
    *("latency_mean_s", "latency_outliers", "warmup_discarded", "inferences_per_s", "load_s", "first_inference_s"),
)
_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)"
_ROW = re.compile(rf"^.*?,{_NUMBER}(?:,{_NUMBER})?,[0-9]+,-?[0-9]+,([0-9]{{1,9}})$")
"""The model's name, the time or the two times, peak memory, CPU use, and the number of the inference."""
_ITERATION = re.compile(rf"^iteration:([0-9]{{1,9}}),time_cost:{_NUMBER}$")
_SUMMARY = re.compile(rf"^(Session creation|First inference|Total inference run) time(?: cost)?: ?{_NUMBER} (s|ms)$")
_REQUESTS = re.compile(r"^Total inference requests: ?([0-9]{1,9})$")
_IN_PARALLEL = 1.05
"""The times of requests that follow each other sum up to no more than the time they ran."""


def parse(printed: Printed) -> Told:
    """The latencies of an output; of one that is cut, those of its whole lines. Raises ParseError without any."""
    summary = printed.stdout.decode(errors="replace")
    table = printed.result.decode(errors="replace")
    rows, broken = _rows(table) if printed.result else _iterations(summary)
    if not rows:
        raise ParseError(
            "it holds no inference of onnxruntime_perf_test: give it {result} as its result file, or -v",
            printed.told,
        )
    wrong = f"{broken} of its lines are cut or damaged: {len(rows)} inferences are whole" if broken else None
    numbers = [number for number, _ in rows]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        wrong = "the numbers of its inferences do not follow each other: it holds more than one run, or lines are lost"
    asked = _found(_REQUESTS, summary)
    if asked and int(asked[1]) != len(rows) and wrong is None:
        wrong = f"it tells of {asked[1]} inferences and has the times of {len(rows)}"
    seconds = np.array([second for _, second in rows])
    return Told({**latencies(seconds), **_sums(summary, seconds)}, wrong=wrong)


def _rows(table: str) -> tuple[list[tuple[int, float]], int]:
    """Number and seconds of each inference of the CSV, and how many lines are broken.

    What follows a blank line is the statistics of `-s`.
    """
    head = table.partition("\n")[0]
    if not re.search("[0-9]", head):
        table = table[len(head) + 1 :]  # names of columns, should a version write them
    lines, blank, _ = table.partition("\n\n")
    return _matched(lines, _ROW, at_number=3, at_seconds=(2, 1), whole=bool(blank) or lines.endswith("\n"))


def _iterations(stdout: str) -> tuple[list[tuple[int, float]], int]:
    told = "\n".join(line for line in stdout.split("\n") if line.startswith("iteration:"))
    ended = stdout.endswith("\n") or not stdout.rpartition("\n")[2].startswith("iteration:")
    return _matched(told, _ITERATION, at_number=1, at_seconds=(2,), whole=ended)


def _matched(
    text: str, pattern: re.Pattern[str], at_number: int, at_seconds: Iterable[int], *, whole: bool
) -> tuple[list[tuple[int, float]], int]:
    lines = text.splitlines()
    found = [row for line in (lines if whole else lines[:-1]) if (row := pattern.match(line))]
    rows = [(int(row[at_number]), float(next(row[at] for at in at_seconds if row[at]))) for row in found]
    rows = [(number, second) for number, second in rows if math.isfinite(second)]
    return rows, len(lines) - len(rows)


def latencies(seconds: Float64s) -> dict[str, Metric]:
    """The figures of single inferences, each its wall time in s, in the order they ran; shape (n,), n > 0."""
    head = warmup(seconds)
    kept = seconds[head.discarded :]
    n, far = kept.size, outliers(kept)
    too_few = None if head.tested else "too few samples to tell warm-up from noise"
    return {
        **{_NAMES[p]: metric for p, metric in percentiles(kept).items()},
        "latency_mean_s": Metric(value=float(kept.mean()), n=n),
        "latency_outliers": Metric(
            value=float(len(far.mad)), n=n, note=f"MAD z above 14.8, kept; {len(far.tukey)} outside Tukey's fences"
        ),
        "warmup_discarded": Metric(value=float(head.discarded), n=n + head.discarded, note=too_few),
    }


def _sums(summary: str, seconds: Float64s) -> dict[str, Metric]:
    """What stdout tells once a run: the rate stands on its own wall time, warm-up included."""
    told = {row[1]: float(row[2]) * (1e-3 if row[3] == "ms" else 1) for row in _all(_SUMMARY, summary)}
    load, first, ran = (told.get(key) for key in ("Session creation", "First inference", "Total inference run"))
    not_told = gap("no_sample: onnxruntime_perf_test did not tell")
    rate = not_told
    if ran and math.isfinite(ran):
        beside = seconds.sum() > _IN_PARALLEL * ran
        note = "requests ran beside each other: a latency is that of one among several" if beside else None
        rate = Metric(value=seconds.size / ran, n=seconds.size, note=note)
    return {
        "inferences_per_s": rate,
        "load_s": not_told if load is None else Metric(value=load, n=1),
        "first_inference_s": not_told if first is None else Metric(value=first, n=1, note="told in whole milliseconds"),
    }


def _all(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    return [row for line in text.splitlines() if (row := pattern.match(line.rstrip()))]


def _found(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    rows = _all(pattern, text)
    return rows[-1] if rows else None
