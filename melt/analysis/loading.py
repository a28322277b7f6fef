"""Cold and warm loads: different figures, told apart by what of the file lay in memory before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.analysis.events import mark, whole
from melt.records import Metric, gap

if TYPE_CHECKING:
    from melt.analysis.measured import Measured

_COLD, _WARM = 0.05, 0.95
"""Up to which share of the file in memory a load is cold, and from which on it is warm."""


def loading(measured: Measured) -> dict[str, Metric]:
    """`load_cold_s` and `load_warm_s`, one of them a gap; none for an engine that does not tell of the page cache."""
    told = mark(measured.landmarks, "page_cache")
    if told is None:
        return {}
    size, resident = whole(told.get("bytes")), whole(told.get("resident_bytes"))
    if size is None or size <= 0 or resident is None:
        unknown = gap("no_sample: the system does not tell how much of the model's file lay in memory")
        return {"load_cold_s": unknown, "load_warm_s": unknown}
    share = resident / size
    load = measured.phases.load
    told_share = f"{share:.0%} of the model's file lay in memory before"
    if load is None:
        length = gap("no_measurement: the model load did not end")
    else:
        length = Metric(value=(load[1] - load[0]) * 1e-9, n=1, note=told_share)
    other = gap(f"other_load: {told_share}")
    return {"load_cold_s": length if share <= _COLD else other, "load_warm_s": length if share >= _WARM else other}
