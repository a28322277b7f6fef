"""Times of which each is a mean of several calls: what they carry, and what they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.warmup import warmup
from melt.engines.adapters.perf_test import latencies
from melt.records import Metric, gap

if TYPE_CHECKING:
    from melt.analysis.events import Float64s, Int64s

_OF_SINGLE_CALLS = ("latency_p90_s", "latency_p95_s", "latency_p99_s", "latency_p99_9_s", "latency_outliers")


def figures(seconds: Float64s, calls: Int64s) -> dict[str, Metric]:
    """The figures of times in s in the order they were taken, each the mean of so many `calls`; both of shape (n,).

    Where each is one call, they are those of latencies. Else the tail of single calls is not in them: percentiles
    above the median are gaps, and the mean is weighted by the calls.
    """
    found = latencies(seconds)
    if int(calls.max()) == 1:
        return found
    low, high = int(calls.min()), int(calls.max())
    note = f"each of the {seconds.size} times is a mean of {low if low == high else f'{low} to {high}'} calls"
    kept = slice(warmup(seconds).discarded, None)
    mean = float(np.average(seconds[kept], weights=calls[kept]))
    middle = found["latency_p50_s"]
    return {
        **found,
        **dict.fromkeys(_OF_SINGLE_CALLS, gap(f"means_only: {note}, and no single one is known")),
        "latency_p50_s": middle if middle.value is None else middle.model_copy(update={"note": f"median: {note}"}),
        "latency_mean_s": Metric(value=mean, n=found["latency_mean_s"].n, note=note),
    }
