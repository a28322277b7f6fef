"""onnxruntime_perf_test's CSV, and what it printed where that lies beside: a file is a run.

What its lines hold: `melt/engines/adapters/perf_test.py`. A file beside it with the same name and another ending
(`.stdout`, `.out`, `.log`, `.txt`) is taken for what it printed, if it is that: the load time and the first inference
are only there. The tool tells neither its version, nor its settings, nor when it ran.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melt.engines.adapters.perf_test import parse
from melt.engines.adapters.told import Printed
from melt.errors import ParseError
from melt.importers.base import Imported, ImportedRun, fingerprint
from melt.importers.reading import glance, read_bounded, seconds, slug
from melt.records import ImportNote, Metric, Reason, ReasonCode, gap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BESIDE = (".stdout", ".out", ".log", ".txt")
_LINE = re.compile(r"^([^,]{0,200}),[0-9.eE+-]+(?:,[0-9.eE+-]+)?,[0-9]+,-?[0-9]+,([0-9]{1,9})\r?$", re.MULTILINE)
_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)"
_TIME = re.compile(
    rf"^[^\n]{{0,400}}?,{_NUMBER}(?:,{_NUMBER})?,[0-9]+,-?[0-9]+,[0-9]{{1,9}}\r?$"
    rf"|^iteration:[0-9]+,time_cost:{_NUMBER}\r?$",
    re.MULTILINE,
)
"""The time of an inference (s) as `parse` takes it: the later one where a line has two."""
_ITERATION = re.compile(r"^iteration:[0-9]+,time_cost:", re.MULTILINE)
_PRINTED = re.compile(r"^(?:Session creation|Total inference run) time", re.MULTILINE)
_ENOUGH = 3
_UNTOLD = "onnxruntime_perf_test tells neither its version nor its threads: files of one model count as repetitions"


class PerfTest:
    """Files of onnxruntime_perf_test."""

    tool = "onnxruntime-perf-test"

    def recognises(self, path: Path) -> bool:
        """A table whose last column counts up from 0, or the printed form of the same."""
        text = glance(path)
        numbers = [int(row[2]) for row in _LINE.finditer(text)][:_ENOUGH]
        return numbers == list(range(_ENOUGH)) or (bool(_ITERATION.search(text)) and bool(_PRINTED.search(text)))

    def read(self, path: Path) -> Imported:
        """The one run of the file; one that is cut or damaged is a failed run, with what is whole of it."""
        first = _LINE.search(glance(path))
        beside = _beside(path) if first else None
        try:
            printed = (
                Printed(result=read_bounded(path), stdout=read_bounded(beside) if beside else b"")
                if first
                else Printed(stdout=read_bounded(path))
            )
            found = parse(printed)
        except ParseError as error:
            sentence = str(error)
            return Imported(self.tool, (), (sentence if path.name in sentence else f"{path.name}: {sentence}",))
        no_time = _no_duration((printed.result or printed.stdout).decode(errors="replace"))
        if no_time is not None:
            return Imported(self.tool, (), (f"{path.name}: {no_time}",))
        model = first[1].strip() if first else ""
        workload = slug(model or path.stem)
        wrong = found.wrong
        run = ImportedRun(
            device=None,
            workload=workload,
            fingerprint=fingerprint(self.tool, {"workload": workload, "engine": "onnxruntime"}),
            metrics=_told(found.metrics),
            status="failed" if wrong else "ok",
            reasons=(Reason(code=ReasonCode.CRASHED, detail=f"{path.name}: {wrong}"),) if wrong else (),
            caveats=(_UNTOLD,),
            engine={"name": "onnxruntime"},
            raw={
                f"perf-test{'.csv' if first else '.stdout'}": path,
                **({"perf-test.stdout": beside} if beside else {}),
            },
            note=ImportNote(tool=self.tool, source=str(path)),
        )
        return Imported(self.tool, (run,), (f"{path.name}: {wrong}",) if wrong else ())


def _no_duration(text: str) -> str | None:
    """What is wrong with the first time of an inference that can be none."""
    times = [row[3] or row[2] or row[1] for row in _TIME.finditer(text)]
    return seconds([float(time) for time in times], 1.0, "inference")[1] if times else None


def _beside(path: Path) -> Path | None:
    """The file with what it printed; never one that leads out of the folder."""
    for ending in _BESIDE:
        file = path.with_suffix(ending)
        if file != path and not file.is_symlink() and _PRINTED.search(glance(file)):
            return file
    return None


def _told(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """What it did not tell is said in the words of every importer."""
    return {
        name: gap(f"not_told: {metric.reason.partition(': ')[2]}")
        if metric.reason and metric.reason.startswith("no_sample")
        else metric
        for name, metric in metrics.items()
    }
