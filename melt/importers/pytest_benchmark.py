"""pytest-benchmark's JSON: each benchmark of a file is a run, and its rounds are inside of it.

The fields are those that pytest-benchmark 3 to 5 write (`BenchmarkSession.save`, `Metadata.as_dict`). Raw data are in
`stats.data`, one time a round in the order of the rounds, each the mean of `stats.iterations` calls. `--benchmark-json`
writes them; `--benchmark-save` does with `--benchmark-save-data`. Statistics without them are no raw data: they are
refused by name, and never made into a figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from melt.engines.adapters.told import count
from melt.errors import ParseError
from melt.files.reader import shorten
from melt.importers.base import Imported, ImportedRun, fingerprint, not_told
from melt.importers.means import figures
from melt.importers.reading import glance, instant, json_of, number, seconds, section, slug, told, word
from melt.records import ImportNote, Resolved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from melt.analysis.events import Float64s
    from melt.records import Metric

_STATED: Mapping[str, Callable[[Float64s], float]] = {
    "min": lambda data: float(data.min()),
    "max": lambda data: float(data.max()),
    "mean": lambda data: float(data.mean()),
    "stddev": lambda data: float(data.std(ddof=1)) if data.size > 1 else 0.0,
    "median": lambda data: float(np.median(data)),
    "rounds": lambda data: float(data.size),
}
"""What it states of all rounds, and how that follows from them."""
_NO_DATA = "the file has no stats.data, the time of each round: save it with --benchmark-save-data"
_SAME = 1e-6
_OPTIONS: Mapping[str, str] = {"timer": "timer", "disable_gc": "disable_gc", "warmup": "warmup"}


class PytestBenchmark:
    """Files of pytest-benchmark."""

    tool = "pytest-benchmark"

    def recognises(self, path: Path) -> bool:
        """An object that begins with the machine's description."""
        text = glance(path)
        return text.lstrip().startswith("{") and all(key in text for key in ('"machine_info"', '"benchmarks"'))

    def read(self, path: Path) -> Imported:
        """A run for each benchmark."""
        problems: list[str] = []
        runs: list[ImportedRun] = []
        try:
            found = json_of(path, problems)
            entries = found.get("benchmarks")
            if not isinstance(entries, list) or not entries:
                raise ParseError(f"{path.name}: benchmarks holds none")
        except ParseError as error:
            return Imported(self.tool, (), (*problems, str(error)))
        for at, entry in enumerate(entries):
            try:
                runs.append(_run(path, found, entry))
            except ParseError as error:
                problems.append(f"{path.name}: benchmarks[{at}]: {error}")
        return Imported(self.tool, tuple(runs), tuple(problems))


def _run(path: Path, file: Mapping[str, Any], entry: Any) -> ImportedRun:
    """The run of one benchmark. Raises ParseError where it is none."""
    name = word(entry.get("fullname") or entry.get("name")) if isinstance(entry, dict) else None
    if not isinstance(name, str):
        raise ParseError("it has no name")
    try:
        metrics, corrections, refused, calls = _figures(section(entry, "stats"))
    except ParseError as error:
        raise ParseError(f"{shorten(name)}: {error}") from None
    machine, commit = section(file, "machine_info"), section(file, "commit_info")
    about = told(machine, {"machine": "machine", "system": "system"})
    python = [word(machine.get(f"python_{key}")) for key in ("implementation", "version")]
    options = told(section(entry, "options"), _OPTIONS)
    cpu = told(section(machine, "cpu"), {"brand_raw": "cpu", "count": "cpu_count"})
    return ImportedRun(
        device=_text(machine.get("node")),
        workload=slug(_short(name)),
        started_utc=instant(file.get("datetime")),
        resolved={
            f"params.{key}": Resolved(value=value, source=PytestBenchmark.tool)
            for key, value in options.items()
            if value is not None
        },
        fingerprint=fingerprint(
            PytestBenchmark.tool,
            {
                "workload": name,
                "engine": PytestBenchmark.tool,
                "engine_version": word(file.get("version")),
                "python": " ".join(str(part) for part in python if part) or None,
                **about,
                **options,
            },
            {
                **cpu,
                **told(machine, {"release": "kernel"}),
                **{f"commit_{key}": word(commit.get(key)) for key in ("id", "branch", "dirty", "project")},
            },
        ),
        metrics=metrics,
        caveats=("the tree that was measured had uncommitted changes",) if commit.get("dirty") is True else (),
        engine={"name": PytestBenchmark.tool, "version": word(file.get("version")), "calls_a_round": calls},
        facts={key: value for key, value in {**about, **cpu}.items() if value is not None},
        raw={"pytest-benchmark.json": path},
        note=ImportNote(tool=PytestBenchmark.tool, source=str(path), corrections=tuple(corrections), refused=refused),
    )


def _short(fullname: str) -> str:
    """`tests/test_speed.py::test_sum[1]` as `test_speed.test_sum[1]`: folders are how somebody has laid out tests."""
    file, _, test = fullname.rpartition("::")
    return f"{file.split('/')[-1].removesuffix('.py')}.{test}" if file else test


def _text(value: Any) -> str | None:
    known = word(value)
    return known if isinstance(known, str) else None


def _figures(stats: Mapping[str, Any]) -> tuple[dict[str, Metric], list[str], dict[str, str], int]:
    """Metrics, corrections, what is refused, and the calls of a round. Raises ParseError for data that are none."""
    if stats.get("data") is None:
        refused = {
            f"stats.{key}": f"{shorten(stats[key])} s is stated, and {_NO_DATA}" for key in _TIMES if key in stats
        }
        return {"latency_p50_s": not_told(_NO_DATA), "latency_mean_s": not_told(_NO_DATA)}, [], refused, 0
    listed, calls = stats["data"], count(stats.get("iterations"))
    if not isinstance(listed, list):
        raise ParseError(f"stats.data is {shorten(listed)}, and no list of times")
    if not calls:
        raise ParseError(f"stats.iterations is {shorten(stats.get('iterations'))}: how many calls a time is of")
    known, wrong = seconds(listed, 1.0, "stats.data")
    if wrong is not None:
        raise ParseError(wrong)
    data = np.array(known)
    metrics = figures(data, np.full(data.size, calls, dtype=np.int64))
    return metrics, list(_corrections(stats, data)), {}, calls


_TIMES = ("min", "max", "mean", "stddev", "median", "iqr", "q1", "q3")


def _corrections(stats: Mapping[str, Any], data: Float64s) -> Iterator[str]:
    """Each stated figure that the data contradict."""
    for key, compute in _STATED.items():
        stated, true = number(stats.get(key)), compute(data)
        if stated is not None and not abs(stated - true) <= _SAME * max(abs(true), float(data.mean())):
            yield f"stats.{key}: {stated:.6g} stated, {true:.6g} from stats.data"
