"""What a test gets of its runs: the metrics by name, and the records."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from melt.errors import nearest
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.records import RunRecord
    from melt.store import StoredRun


class MissingMetric(LookupError):
    """A metric that the runs do not have; the text says why."""


@dataclass(frozen=True)
class Measured:
    """The usable runs of one cell on one device: `measured["latency_p50_s"].value`."""

    device: str
    cell: str
    runs: tuple[StoredRun, ...]
    """At least one, in the order in which they were carried out."""

    def __getitem__(self, name: str) -> Metric:
        """The metric of the run; of several runs, the median. Raises MissingMetric, with the reason of a gap."""
        __tracebackhide__ = True
        metrics = self.metrics
        if name not in metrics:
            raise MissingMetric(f"{self.cell} on {self.device} has no metric '{name}': {nearest(name, metrics)}")
        if metrics[name].value is None:
            raise MissingMetric(f"{self.cell} on {self.device}: {name} is not known: {metrics[name].reason}")
        return metrics[name]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Every metric by name, the gaps among them; of several runs, the median."""
        if len(self.runs) == 1:
            return self.runs[0].record.metrics
        names = dict.fromkeys(name for run in self.runs for name in run.record.metrics)
        return {name: self._over_runs(name) for name in names}

    @property
    def record(self) -> RunRecord:
        """The record of the last run."""
        return self.runs[-1].record

    @property
    def records(self) -> tuple[RunRecord, ...]:
        return tuple(run.record for run in self.runs)

    def values(self, name: str) -> list[float]:
        """One value a run, for a test's own statistics. Raises MissingMetric where a run has none."""
        __tracebackhide__ = True
        self[name]
        found = [run.record.metrics[name].value for run in self.runs]
        return [value for value in found if value is not None]

    def _over_runs(self, name: str) -> Metric:
        """The median of the runs; a gap where one of them has one."""
        of_runs = [run.record.metrics.get(name) for run in self.runs]
        values = []
        for metric, run in zip(of_runs, self.runs, strict=True):
            if metric is None or metric.value is None:
                why = metric.reason if metric else "it has no such metric"
                return gap(f"no_value: run {run.record.run_id} of {len(self.runs)} has none: {why}")
            values.append(metric.value)
        return Metric(value=median(values), n=len(values), note=f"the median of {len(values)} runs")
