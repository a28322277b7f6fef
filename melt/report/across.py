"""A metric across the runs of a cell, with the reason of every run that lacks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.analysis.summary import Summary, summarise
from melt.analysis.total import told_total

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.records import Metric
    from melt.report.select import Cell

NO_RUN = "no_run: no run of this cell counts"
NOT_RECORDED = "not_recorded: the run's record has no such metric"


@dataclass(frozen=True)
class Across:
    """`values` and `gaps` are by run id and hold each used run once; `notes` are what the metrics say beside."""

    metric: str
    summary: Summary
    values: Mapping[str, float]
    gaps: Mapping[str, str]
    notes: tuple[str, ...]
    error_share: float | None = None
    """The largest of the runs' own uncertainties, as a share of their values; None where no run states one."""

    @property
    def why_missing(self) -> str | None:
        """Why no run has a value, with one run's figures; None when some run has one."""
        return None if self.values else self.why_some_miss or NO_RUN

    @property
    def why_some_miss(self) -> str | None:
        distinct = list(dict.fromkeys(self.gaps.values()))
        if not distinct:
            return None
        return distinct[0] + (" (alike in the other runs)" if len(distinct) > 1 else "")


def across(cell: Cell, metric: str) -> Across:
    """One metric of the runs that count; energy only where all of it was measured at the same total."""
    values: dict[str, float] = {}
    gaps: dict[str, str] = {}
    notes: list[str] = []
    shares: list[float] = []
    totals: dict[tuple[str, frozenset[str]], str] = {}
    for run in cell.used:
        found = run.record.metrics.get(metric)
        if found is not None and found.value is not None:
            values[run.record.run_id] = found.value
            notes += [found.note] if found.note else []
            totals.setdefault(_total(found), run.record.run_id)
            shares += [found.error / abs(found.value)] if found.error is not None and found.value else []
        else:
            gaps[run.record.run_id] = (found.reason if found else None) or NOT_RECORDED
    if len(totals) > 1:
        of = ", ".join(f"run {run_id} tells of {_named(*total)}" for total, run_id in totals.items())
        other = f"other_total: {of}; figures of different totals have no mean"
        values, gaps, shares = {}, {**dict.fromkeys(values, other), **gaps}, []
    in_order = [values.get(run.record.run_id) for run in cell.used]
    return Across(metric, summarise(in_order), values, gaps, tuple(dict.fromkeys(notes)), max(shares, default=None))


def _total(metric: Metric) -> tuple[str, frozenset[str]]:
    """The boundary and the channels that a figure of energy is of; nothing of any other figure."""
    return told_total(metric.note) or ("", frozenset())


def _named(boundary: str, channels: frozenset[str]) -> str:
    return f"the {boundary} by {' + '.join(sorted(channels))}" if boundary else "a total that its note does not name"


def metric_names(cell: Cell) -> list[str]:
    """Every metric that a run of the cell that counts has or lacks, in the order of the records."""
    return list(dict.fromkeys(name for run in cell.used for name in run.record.metrics))
