"""Results for other tools: long and wide CSV, Parquet, and pytest-benchmark's JSON.

The same runs give the same bytes, whenever and wherever they are exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from melt.report.export_benchmark import benchmark_json
from melt.report.export_rows import exported
from melt.report.export_tables import long_csv, parquet, wide_csv

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

Format = Literal["csv-long", "csv-wide", "parquet", "pytest-benchmark"]
FORMATS: tuple[Format, ...] = get_args(Format)
BINARY: frozenset[Format] = frozenset({"parquet"})
"""What is no text, and no terminal is to be given."""


def export(frame: pd.DataFrame, form: Format, metrics: Sequence[str] = ()) -> bytes:
    """The rows of an index (`melt.history.read`) in a format, of some metrics or of all.

    Raises UsageError where there are no runs, for a metric that none of them has, or that the format cannot hold.
    """
    rows = exported(frame, metrics)
    if form == "parquet":
        return parquet(rows)
    made = {"csv-long": long_csv, "csv-wide": wide_csv}.get(form)
    return (made(rows) if made is not None else benchmark_json(rows, metrics)).encode("utf-8", "replace")
