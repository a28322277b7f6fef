"""runs.csv: one line a run and metric, in SI, for a spreadsheet or a data frame."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from melt.analysis.units import unit_of
from melt.report.escape import csv_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from melt.records import Metric, RunRecord
    from melt.report.select import Selection

COLUMNS = (
    "run_id",
    "session",
    "suite",
    "device",
    "profile",
    "profile_verified",
    "workload",
    "cell",
    "block",
    "status",
    "verdict",
    "counts",
    "reasons",
    "caveats",
    "synthetic_model",
    "simulated",
    "metric",
    "value",
    "unit",
    "n",
    "error",
    "reason",
    "note",
)


def runs_csv(selection: Selection) -> str:
    """Every readable run, also those that do not count; one without any metric has one line with an empty metric."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    used = {id(run) for run in selection.used}
    everyone = [*selection.runs, *selection.retried, *selection.superseded]
    for run in sorted(everyone, key=lambda run: run.record.run_id):
        about = _about(run.record, counts=id(run) in used)
        writer.writerows([*about, *numbers] for numbers in _metrics(run.record))
    return out.getvalue()


def _about(record: RunRecord, *, counts: bool) -> list[str]:
    words = (
        record.run_id,
        record.session,
        record.suite.name,
        record.device,
        record.profile,
        _truth(record.profile_verified),
        record.workload,
        record.cell,
        record.block,
        record.status,
        record.verdict,
        _truth(counts),
        "; ".join(f"{reason.code}: {reason.detail}" for reason in record.reasons),
        "; ".join(record.caveats),
        _truth(record.synthetic_model),
        _truth(record.simulated),
    )
    return [csv_text(word) for word in words]


def _metrics(record: RunRecord) -> Iterator[list[str]]:
    if not record.metrics:
        yield ["", "", "", "", "", f"no_measurement: the run is {record.status} and has no metrics", ""]
    for name, metric in record.metrics.items():
        yield [csv_text(name), _value(metric), unit_of(name), *_rest(metric)]


def _value(metric: Metric) -> str:
    return "" if metric.value is None else repr(metric.value)


def _rest(metric: Metric) -> list[str]:
    numbers = ["" if metric.n is None else str(metric.n), "" if metric.error is None else repr(metric.error)]
    return [*numbers, csv_text(metric.reason or ""), csv_text(metric.note or "")]


def _truth(value: bool) -> str:
    return "true" if value else "false"
