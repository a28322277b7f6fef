"""How an analysis of a run differs from what was shown of it until now."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from melt.store import analysis_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.records import Metric, Verdict
    from melt.store import Analysis, StoredRun

_ALIKE = 1e-9
"""Two figures of one definition that differ by less are one: another build of a library adds in another order."""


@dataclass(frozen=True)
class Change:
    """One run: its figures as they were shown, and the analysis that says otherwise."""

    run: StoredRun
    analysis: Analysis
    metrics: Mapping[str, tuple[Metric | None, Metric | None]]
    """Old and new, where they differ; None where there was, or is, no such metric."""

    @property
    def verdict(self) -> tuple[Verdict, Verdict] | None:
        """Old and new, where they differ."""
        both = (self.run.record.verdict, self.analysis.verdict)
        return both if both[0] != both[1] else None

    @property
    def to_be_kept(self) -> bool:
        """Whether the analysis says anything that the run's folder does not say yet."""
        shown = self.run.record
        own = analysis_file(self.run.path, self.analysis.metric_version)
        damaged = own in (broken.path for broken in self.run.damaged)
        anew = self.metrics or self.verdict or shown.reasons != self.analysis.reasons or damaged
        return bool(anew) or shown.metric_version != self.analysis.metric_version


@dataclass(frozen=True)
class MetricChange:
    """One metric over all the runs where it differs."""

    metric: str
    runs: int
    old: float | None
    """The median of what was shown; None where it was a gap in all of them."""
    new: float | None
    largest: float | None
    """The largest change of one run, as a share of what was shown of it; None where no run has both."""
    found: int
    """Runs where it was a gap and is none any more."""
    lost: int
    """Runs where it has become a gap."""


def changed(run: StoredRun, analysis: Analysis) -> Change:
    """What of an analysis differs from what is shown of the run until now."""
    old, new = run.record.metrics, analysis.metrics
    pairs = {name: (old.get(name), new.get(name)) for name in {**old, **new}}
    return Change(run, analysis, {name: pair for name, pair in pairs.items() if not alike(*pair)})


def by_metric(changes: Sequence[Change]) -> list[MetricChange]:
    """The changes of many runs, the metrics in the order in which they come up."""
    gathered: dict[str, list[tuple[float | None, float | None]]] = {}
    for change in changes:
        for name, pair in change.metrics.items():
            old, new = (None if metric is None else metric.value for metric in pair)
            gathered.setdefault(name, []).append((old, new))
    return [_over_runs(name, pairs) for name, pairs in gathered.items()]


def alike(old: Metric | None, new: Metric | None) -> bool:
    """Whether two metrics say the same, whatever their version."""
    if old is None or new is None:
        return old is new
    said = [(metric.n, metric.reason, metric.note) for metric in (old, new)]
    return said[0] == said[1] and _close(old.value, new.value) and _close(old.error, new.error)


def _over_runs(name: str, pairs: Sequence[tuple[float | None, float | None]]) -> MetricChange:
    shares = [abs(new / old - 1) for old, new in pairs if old and new is not None]
    olds, news = [old for old, _ in pairs if old is not None], [new for _, new in pairs if new is not None]
    return MetricChange(
        metric=name,
        runs=len(pairs),
        old=median(olds) if olds else None,
        new=median(news) if news else None,
        largest=max(shares, default=None),
        found=sum(old is None and new is not None for old, new in pairs),
        lost=sum(old is not None and new is None for old, new in pairs),
    )


def _close(old: float | None, new: float | None) -> bool:
    if old is None or new is None:
        return old is new
    return math.isclose(old, new, rel_tol=_ALIKE)
