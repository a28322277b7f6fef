"""Exports as tables: long and wide CSV, and Parquet. A gap is an empty field with its reason, and never 0."""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from melt.history.table import OF_METRIC, OF_RUN
from melt.report.escape import csv_text
from melt.report.export_rows import METRIC_COLUMNS, NO_METRIC, OTHER_KIND, RUN_COLUMNS, word_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from melt.report.export_rows import Exported

SCHEMA = 1
"""The shape of the tables, in the Parquet file's metadata as `melt.export`."""
_INT64 = 1 << 63
_OF_WIDE = ("error", "total", "reason")
"""What stands beside a metric's value in the wide table, where any run has it."""


def long_csv(rows: Exported) -> str:
    """A line a run and metric, the keys of the fingerprint in columns `key.*` (hard) and `soft.*`."""
    about = _about(rows)
    figures = rows.figures.itertuples(index=False)
    lines = ([*about[figure[0]], *(_field(value) for value in figure[1:])] for figure in figures)
    return _csv([*rows.runs.columns, *METRIC_COLUMNS], lines)


def wide_csv(rows: Exported) -> str:
    """A line a run and a column a metric, whose name holds its unit; beside it `.error`, `.total` and `.reason`."""
    figures = rows.figures.dropna(subset=["metric"])
    cells: dict[tuple[str, str], dict[int, Any]] = {}
    for run, name, *told in figures[["run", "metric", "value", *_OF_WIDE]].itertuples(index=False):
        for kind, value in zip(("", *_OF_WIDE), told, strict=True):
            if not kind or not _null(value):
                cells.setdefault((name, kind), {})[run] = value
    columns = [
        (name, kind)
        for name in rows.metrics
        for kind in ("", *_OF_WIDE)
        if (name, kind) in cells or (kind == "reason" and len(cells[name, ""]) < len(rows.runs))
    ]
    bare = set(rows.figures.loc[rows.figures["metric"].isna(), "run"])

    def fields(run: int) -> Iterable[str]:
        for name, kind in columns:
            absent = kind == "reason" and run not in cells[name, ""]
            why = NO_METRIC if run in bare else OTHER_KIND
            yield _field(why if absent else cells.get((name, kind), {}).get(run))

    header = [*rows.runs.columns, *(f"{name}.{kind}" if kind else name for name, kind in columns)]
    return _csv(header, ([*about, *fields(run)] for run, about in enumerate(_about(rows))))


def parquet(rows: Exported) -> bytes:
    """The long table, typed; a key's column has the type that all of its values have, else their text."""
    at = rows.figures["run"].to_numpy()
    typed = {field.name: field.type for field in (*OF_RUN, *OF_METRIC)}
    arrays, names = [], []
    for name in rows.runs.columns:
        values = [_none(value) for value in rows.runs[name]]
        column = pa.array(_moments(values), _plain(typed[name])) if name in RUN_COLUMNS else _of_key(values)
        arrays.append(_packed(column.take(pa.array(at))))
        names.append(name)
    for name in METRIC_COLUMNS:
        kind = _plain(typed[name])
        arrays.append(_packed(pa.array([_as(value, kind) for value in rows.figures[name]], kind)))
        names.append(name)
    table = pa.table(arrays, names=names).replace_schema_metadata({"melt.export": str(SCHEMA)})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _about(rows: Exported) -> list[list[str]]:
    return [[_field(value) for value in run] for run in rows.runs.itertuples(index=False, name=None)]


def _csv(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([csv_text(name) for name in header])
    writer.writerows(lines)
    return out.getvalue()


def _field(value: Any) -> str:
    """A number as it is read back; a word that no spreadsheet takes for a formula."""
    if _null(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, str):
        return csv_text(value)
    if isinstance(value, list | dict):
        return csv_text(word_of(value))
    return str(int(value)) if isinstance(value, int | np.integer) else repr(float(value))


def _null(value: Any) -> bool:
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float) and math.isnan(value)


def _none(value: Any) -> Any:
    return None if _null(value) else value


def _as(value: Any, kind: pa.DataType) -> Any:
    if _null(value):
        return None
    return int(value) if pa.types.is_integer(kind) else value


def _moments(values: list[Any]) -> list[Any]:
    return [value.to_pydatetime() if hasattr(value, "to_pydatetime") else value for value in values]


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _packed(column: pa.Array) -> pa.Array:
    """Words as a dictionary: the same ones stand in every row of a run."""
    return column.dictionary_encode() if pa.types.is_string(column.type) else column


def _of_key(values: list[Any]) -> pa.Array:
    known = [value for value in values if value is not None]
    kinds: dict[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    alike = {type(value) for value in known}
    if len(alike) == 1 and (kind := kinds.get(alike.pop())) is not None:
        fits = kind != pa.int64() or all(-_INT64 <= value < _INT64 for value in known)
        if fits:
            return pa.array(values, kind)
    return pa.array([None if value is None else word_of(value) for value in values], pa.string())
