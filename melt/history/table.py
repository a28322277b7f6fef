"""The columns of index.parquet: one row for each run and metric; a run without any has one row without a metric."""

from __future__ import annotations

import pyarrow as pa

INDEX = "index.parquet"
INDEX_SCHEMA = 1
"""The shape of the table, in its metadata as `melt.schema`; one of another shape is made anew."""

_WORD = pa.dictionary(pa.int32(), pa.string())

OF_RUN = pa.schema(
    [
        ("suite", _WORD),
        ("suite_sha256", _WORD),
        ("session", _WORD),
        ("run_id", _WORD),
        ("started_utc", pa.timestamp("ms", tz="UTC")),  # null where the record's is no time
        ("device", _WORD),
        ("profile", _WORD),
        ("workload", _WORD),
        ("cell", _WORD),
        ("block", pa.int32()),
        ("status", _WORD),
        ("verdict", _WORD),
        ("usable", pa.bool_()),
        ("counts", pa.bool_()),  # usable, and the newest record of its planned run that was not skipped
        ("reasons", _WORD),  # codes, joined by a space
        ("caveats", _WORD),  # joined by "; "
        ("simulated", pa.bool_()),
        ("synthetic_model", pa.bool_()),
        ("imported", _WORD),  # the tool whose results they are; null for melt's own
        ("boot_id", _WORD),
        ("boottime_s", pa.float64()),  # the device's CLOCK_BOOTTIME at the begin
        ("melt", _WORD),
        ("hard", _WORD),  # the hard keys of the fingerprint, as JSON with sorted keys
        ("soft", _WORD),
        ("folder", _WORD),  # SESSION/RUN below the suite's folder: where the raw data lies
        ("stamp", _WORD),  # of the files that the row was read from; another one is read again
    ]
)
OF_METRIC = pa.schema(
    [
        ("metric", _WORD),
        ("value", pa.float64()),  # null, never NaN
        ("unit", _WORD),
        ("n", pa.int64()),
        ("error", pa.float64()),
        ("total", _WORD),  # what a figure of energy is of: "boundary: channel + channel"; null for any other
        ("reason", _WORD),
        ("note", _WORD),
        ("metric_version", pa.int32()),
    ]
)
COLUMNS = pa.schema([*OF_RUN, *OF_METRIC])
