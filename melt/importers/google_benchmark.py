"""Google Benchmark's JSON: each benchmark of a file is a run, and its repetitions are inside of it.

The fields are those of `src/json_reporter.cc` of google/benchmark: `context`, and in `benchmarks` an object for each
repetition (`run_type` iteration) and each statistic (aggregate). Repetitions share a process, so they are no
replicates: a file is one run of each benchmark. Statistics are recomputed from the repetitions and only compared.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from melt.engines.adapters.told import count
from melt.errors import ParseError
from melt.files.reader import shorten
from melt.importers.base import Imported, ImportedRun, fingerprint, not_told
from melt.importers.means import figures
from melt.importers.reading import glance, instant, json_of, number, seconds, section, slug, told, word
from melt.records import ImportNote, Metric, Reason, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from melt.analysis.events import Float64s

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_AGGREGATES: Mapping[str, Callable[[Float64s], float]] = {
    "mean": lambda times: float(times.mean()),
    "median": lambda times: float(np.median(times)),
    "stddev": lambda times: float(times.std(ddof=1)) if times.size > 1 else 0.0,
    "cv": lambda times: float(times.std(ddof=1) / times.mean()) if times.size > 1 else 0.0,
}
_OLDER = re.compile(r"_(mean|median|stddev|cv|BigO|RMS)$")
"""How the names of statistics end in files before 2018, which have no run_type."""
_OWN = frozenset(
    (
        *(
            "name",
            "run_name",
            "run_type",
            "repetitions",
            "repetition_index",
            "threads",
            "iterations",
            "real_time",
            "cpu_time",
            "time_unit",
            "label",
        ),
        *(
            "family_index",
            "per_family_instance_index",
            "aggregate_name",
            "aggregate_unit",
            "error_occurred",
            "error_message",
            "skipped",
        ),
        *(
            "skip_message",
            "cpu_coefficient",
            "real_coefficient",
            "big_o",
            "rms",
            "items_per_second",
            "bytes_per_second",
        ),
    )
)
_RATES: Mapping[str, str] = {"items_per_second": "items_per_s", "bytes_per_second": "processed_bytes_per_s"}
_SAME = 1e-5
_MOST_COUNTERS = 32
_FASTEST = 1e18
"""No rate of anything: finite, and no jest."""


class GoogleBenchmark:
    """Files of Google Benchmark."""

    tool = "google-benchmark"

    def recognises(self, path: Path) -> bool:
        """An object that begins with the context of a run."""
        text = glance(path)
        keys = ('"context"', '"num_cpus"', '"benchmarks"')
        return text.lstrip().startswith("{") and all(key in text for key in keys)

    def read(self, path: Path) -> Imported:
        """A run for each benchmark, by its name."""
        problems: list[str] = []
        runs: list[ImportedRun] = []
        try:
            file = json_of(path, problems)
            entries = file.get("benchmarks")
            if not isinstance(entries, list) or not entries:
                raise ParseError(f"{path.name}: benchmarks holds none")
        except ParseError as error:
            return Imported(self.tool, (), (*problems, str(error)))
        for name, mine in _by_name(path, entries, problems).items():
            try:
                runs.append(_run(path, section(file, "context"), name, mine))
            except ParseError as error:
                problems.append(f"{path.name}: {shorten(name)}: {error}")
        return Imported(self.tool, tuple(runs), tuple(problems))


def _by_name(path: Path, entries: Sequence[Any], problems: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The objects of each benchmark, repetitions and statistics, in their order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for at, entry in enumerate(entries):
        name = word(entry.get("run_name") or entry.get("name")) if isinstance(entry, dict) else None
        if not isinstance(name, str):
            problems.append(f"{path.name}: benchmarks[{at}]: it has no name")
            continue
        found[name if "run_type" in entry else _OLDER.sub("", name)].append(entry)
    return dict(found)


def _is_repetition(entry: Mapping[str, Any]) -> bool:
    if "run_type" in entry:
        return bool(entry["run_type"] == "iteration")
    return not _OLDER.search(str(entry.get("name")))


def _run(path: Path, context: Mapping[str, Any], name: str, entries: Sequence[Mapping[str, Any]]) -> ImportedRun:
    """The run of one benchmark. Raises ParseError for times that are none."""
    repetitions = [entry for entry in entries if _is_repetition(entry)]
    statistics = [entry for entry in entries if not _is_repetition(entry) and "real_time" in entry]
    errors = [entry for entry in entries if entry.get("error_occurred") is True or entry.get("skipped") is True]
    metrics: dict[str, Metric] = {}
    corrections: list[str] = []
    refused: dict[str, str] = {}
    if errors:
        metrics = {"latency_mean_s": not_told("the benchmark ended with an error")}
    elif not repetitions:
        why = "the file has no repetitions: leave out --benchmark_report_aggregates_only"
        metrics = {"latency_p50_s": not_told(why), "latency_mean_s": not_told(why)}
        refused = {_statistic(one): f"{shorten(one['real_time'])} is stated, and {why}" for one in statistics}
    else:
        times, calls = _times(repetitions, "real_time"), _calls(repetitions)
        metrics = {**figures(times, calls), **_beside(repetitions, calls)}
        corrections = [
            *_corrections(statistics, "real_time", times),
            *_corrections(statistics, "cpu_time", _or_none(repetitions, "cpu_time")),
        ]
    host = told(context, {"num_cpus": "num_cpus", "host_name": "host_name"})
    build = told(context, {"library_build_type": "library_build_type", "library_version": "version"})
    one = (repetitions or list(entries))[0]
    threads = count(one.get("threads"))
    return ImportedRun(
        device=str(host["host_name"]) if host["host_name"] else None,
        workload=slug(name),
        started_utc=instant(context.get("date")),
        fingerprint=fingerprint(
            GoogleBenchmark.tool,
            {
                "workload": name,
                "engine": GoogleBenchmark.tool,
                "engine_version": build["version"],
                "threads": threads,
                "num_cpus": host["num_cpus"],
                "library_build_type": build["library_build_type"],
            },
            {"label": word(one.get("label")), **told(context, {"cpu_scaling_enabled": "cpu_scaling"})},
        ),
        metrics=metrics,
        status="failed" if errors else "ok",
        reasons=tuple(_reason(error) for error in errors[:1]),
        caveats=tuple(_caveats(context)),
        engine={"name": GoogleBenchmark.tool, "version": build["version"], "counters": _counters(repetitions)},
        facts={key: value for key, value in host.items() if value is not None},
        raw={"google-benchmark.json": path},
        note=ImportNote(tool=GoogleBenchmark.tool, source=str(path), corrections=tuple(corrections), refused=refused),
    )


def _reason(error: Mapping[str, Any]) -> Reason:
    said = shorten(error.get("error_message") or error.get("skip_message") or "without a message")
    word_ = "was skipped" if error.get("skipped") is True and not error.get("error_occurred") else "ended with an error"
    return Reason(code=ReasonCode.CRASHED, detail=f"the benchmark {word_}: {said}")


def _caveats(context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("cpu_scaling_enabled") is True:
        yield "CPU frequency scaling was on: Google Benchmark says that its times may be noisy"
    if context.get("library_build_type") == "debug":
        yield "Google Benchmark itself was built as debug, and adds its own time to short benchmarks"


def _times(repetitions: Sequence[Mapping[str, Any]], key: str) -> Float64s:
    """The time of each repetition in s. Raises ParseError for one that is none."""
    scales = {_UNITS.get(str(entry.get("time_unit", "ns"))) for entry in repetitions}
    (scale,) = scales if len(scales) == 1 else (None,)
    if scale is None:
        raise ParseError(f"time_unit is to be one of {', '.join(_UNITS)}, and the same for all repetitions")
    known, wrong = seconds([entry.get(key) for entry in repetitions], scale, key)
    if wrong is not None:
        raise ParseError(wrong)
    return np.array(known)


def _or_none(repetitions: Sequence[Mapping[str, Any]], key: str) -> Float64s | None:
    try:
        return _times(repetitions, key)
    except ParseError:
        return None


def _calls(repetitions: Sequence[Mapping[str, Any]]) -> Any:
    """How many calls each repetition is the mean of. Raises ParseError."""
    counts = [count(entry.get("iterations")) for entry in repetitions]
    if not all(counts):
        raise ParseError("iterations is to be a count above 0: how many calls a time is of")
    return np.array(counts, dtype=np.int64)


def _beside(repetitions: Sequence[Mapping[str, Any]], calls: Any) -> dict[str, Metric]:
    """CPU time a call, and the rates that the benchmark itself counts."""
    found: dict[str, Metric] = {}
    cpu = _or_none(repetitions, "cpu_time")
    if cpu is not None:
        mean = float(np.average(cpu, weights=calls))
        found["cpu_per_call_s"] = Metric(value=mean, n=cpu.size, note="CPU time of the process")
    for theirs, ours in _RATES.items():
        known = [rate for entry in repetitions if (rate := number(entry.get(theirs))) is not None]
        if len(known) == len(repetitions) and all(0 < rate < _FASTEST for rate in known):
            note = "mean of the repetitions, each as the benchmark counts it"
            found[ours] = Metric(value=float(np.mean(known)), n=len(known), note=note)
    return found


def _counters(repetitions: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """The benchmark's own counters, one value a repetition; what is no finite number is null."""
    names = [key for entry in repetitions for key, value in entry.items() if key not in _OWN and _finite(value)]
    return {
        shorten(name): [_finite(entry.get(name)) for entry in repetitions]
        for name in list(dict.fromkeys(names))[:_MOST_COUNTERS]
    }


def _finite(value: Any) -> float | None:
    known = number(value)
    return known if known is not None and math.isfinite(known) else None


def _statistic(entry: Mapping[str, Any]) -> str:
    older = _OLDER.search(str(entry.get("name")))
    return str(word(entry.get("aggregate_name")) or (older[1] if older else "aggregate"))


def _corrections(statistics: Sequence[Mapping[str, Any]], key: str, times: Float64s | None) -> Iterator[str]:
    """Each statistic that its repetitions contradict, in the unit that it is stated in."""
    for entry in statistics if times is not None else ():
        compute, stated = _AGGREGATES.get(_statistic(entry)), _finite(entry.get(key))
        if compute is None or stated is None or times is None:
            continue
        is_share = _statistic(entry) == "cv"
        scale = 1.0 if is_share else _UNITS.get(str(entry.get("time_unit", "ns")), 1.0)
        true = compute(times) / scale
        if abs(stated - true) > _SAME * max(true, 0.0 if is_share else float(times.mean()) / scale):
            yield f"{_statistic(entry)} of {key}: {stated:.6g} stated, {true:.6g} from the repetitions"
