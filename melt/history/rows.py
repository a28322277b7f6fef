"""Records of runs as rows of the index, and the table's own upkeep. Pure."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from melt.analysis.total import told_total
from melt.analysis.units import unit_of
from melt.history.table import COLUMNS, OF_METRIC, OF_RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from melt.records import Metric, RunRecord

_INT32, _INT64 = 1 << 31, 1 << 63


class Rows:
    """Rows of runs that were read, gathered column by column."""

    def __init__(self) -> None:
        self._runs: list[tuple[Any, ...]] = []
        self._sizes: list[int] = []
        self._metrics: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, folder: str, stamp: str, record: RunRecord) -> None:
        """Adds a run; its whole numbers fit the columns (`beyond`)."""
        metrics = [_of_metric(name, metric, record) for name, metric in record.metrics.items()]
        self._runs.append(_of_run(folder, stamp, record))
        self._metrics += metrics or [_NO_METRIC]
        self._sizes.append(max(len(metrics), 1))

    def table(self) -> pa.Table:
        """The rows so far, with the columns of `COLUMNS`."""
        each = np.repeat(np.arange(len(self._runs)), self._sizes)
        of_run = [_column(values, field) for values, field in _columns(self._runs, OF_RUN)]
        of_metric = {field.name: _column(values, field) for values, field in _columns(self._metrics, _TOLD)}
        of_metric["unit"] = _derived(of_metric["metric"], unit_of)
        of_metric["total"] = _derived(of_metric["note"], _total)
        in_order = [of_metric[name] for name in OF_METRIC.names]
        return pa.table([*(column.take(pa.array(each)) for column in of_run), *in_order], schema=COLUMNS)


def beyond(record: RunRecord) -> str | None:
    """What of a record no column can hold; None for one that an index can take."""
    numbers = {"block": (record.block, _INT32), "metric_version": (record.metric_version, _INT32)}
    for name, metric in record.metrics.items():
        if metric.n is not None and not -_INT64 <= metric.n < _INT64:
            numbers[f"metrics.{name}.n"] = (metric.n, _INT64)
        if metric.version is not None and metric.version >= _INT32:
            numbers[f"metrics.{name}.version"] = (metric.version, _INT32)
    wrong = [(key, number) for key, (number, limit) in numbers.items() if not -limit <= number < limit]
    return f"key '{wrong[0][0]}': {str(wrong[0][1])[:24]} is beyond any such number" if wrong else None


def _columns(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> Iterable[tuple[Sequence[Any], pa.Field]]:
    return zip(zip(*rows, strict=True) if rows else [()] * len(schema), schema, strict=True)


def _column(values: Sequence[Any], field: pa.Field) -> pa.Array:
    if pa.types.is_dictionary(field.type):
        try:
            return pa.array(values, pa.string()).dictionary_encode()
        except UnicodeEncodeError:  # half a character, as JSON may hold it
            whole = [word and word.encode("utf-8", "backslashreplace").decode() for word in values]
            return pa.array(whole, pa.string()).dictionary_encode()
    return pa.array(values, field.type)


def _derived(words: pa.DictionaryArray, of: Callable[[str], str | None]) -> pa.DictionaryArray:
    """What follows from the words of a column, found once for each."""
    found = pa.array([of(word) for word in words.dictionary.to_pylist()], pa.string())
    return found.dictionary_encode().take(words.indices)


def _of_run(folder: str, stamp: str, record: RunRecord) -> tuple[Any, ...]:
    """In the order of `OF_RUN`. `counts` is not yet known."""
    return (
        record.suite.name,
        record.suite.sha256,
        record.session,
        record.run_id,
        _moment(record.started_utc),
        record.device,
        record.profile,
        record.workload,
        record.cell,
        record.block,
        record.status,
        record.verdict,
        record.usable,
        False,
        " ".join(dict.fromkeys(reason.code.value for reason in record.reasons)),
        "; ".join(record.caveats),
        record.simulated,
        record.synthetic_model,
        record.imported.tool if record.imported else None,
        record.boot_id,
        _finite(record.clock.boottime_s),
        record.melt,
        _json(record.fingerprint.hard),
        _json(record.fingerprint.soft),
        folder,
        stamp,
    )


def _of_metric(name: str, metric: Metric, record: RunRecord) -> tuple[Any, ...]:
    """In the order of `_TOLD`."""
    version = record.metric_version if metric.version is None else metric.version
    return (
        name,
        metric.value,
        metric.n,
        metric.error,
        metric.reason,
        metric.note,
        version,
    )


_TOLD = pa.schema([field for field in OF_METRIC if field.name not in ("unit", "total")])
"""The columns that are a metric's own; the others follow from these."""
_NO_METRIC = (None,) * len(_TOLD)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


def _total(note: str) -> str | None:
    told = told_total(note)
    return f"{told[0]}: {' + '.join(sorted(told[1]))}" if told else None


def _moment(text: str) -> dt.datetime | None:
    """A time as records state it; UTC where it names no zone. None for what is no time."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def _json(keys: Mapping[str, Any]) -> str:
    """The same text for the same keys and values; a number that JSON has not is the text of it."""
    try:
        return json.dumps(keys, sort_keys=True, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(keys), sort_keys=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------------- whole tables


class _Words:
    """A column of words: `codes` are places in its dictionary, -1 for none."""

    def __init__(self, table: pa.Table, name: str) -> None:
        column = table.column(name).combine_chunks()
        self.dictionary = column.dictionary
        self.codes: NDArray[np.int64] = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)

    def words(self) -> list[str]:
        return list(self.dictionary.to_pylist())


def stamps(table: pa.Table) -> dict[str, str]:
    """The stamp of each run folder of a table."""
    folder, stamp = (_Words(table, name) for name in ("folder", "stamp"))
    _, first = np.unique(folder.codes, return_index=True)
    names, texts = folder.words(), stamp.words()
    return {names[folder.codes[at]]: texts[stamp.codes[at]] for at in first}


def identities(table: pa.Table) -> dict[str, tuple[str, str, str]]:
    """Of each run folder of a table: the suite, the session and the run id that its record bears."""
    folder, *told = (_Words(table, name) for name in ("folder", "suite", "session", "run_id"))
    _, first = np.unique(folder.codes, return_index=True)
    names, words = folder.words(), [one.words() for one in told]
    at = [folder.codes[first].tolist(), *(one.codes[first].tolist() for one in told)]
    return {
        names[where]: (words[0][suite], words[1][session], words[2][run])
        for where, suite, session, run in zip(*at, strict=True)
    }


def only(table: pa.Table, wanted: Callable[[str], bool]) -> pa.Table:
    """The rows of the run folders that are wanted."""
    folder = _Words(table, "folder")
    keeps = np.array([wanted(word) for word in folder.words()], dtype=bool)
    return table if keeps.all() else table.filter(pa.array(keeps[folder.codes]))


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables as one, in order of the run folders, with `counts` found over all of it and no word that no row has."""
    table = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    if not table.num_rows:
        return COLUMNS.empty_table()
    folder = _Words(table, "folder")
    rank = np.argsort(np.argsort(np.array(folder.words(), dtype=object)))
    table = table.take(pa.array(np.argsort(rank[folder.codes], kind="stable")))
    at = table.schema.get_field_index("counts")
    table = table.set_column(at, COLUMNS.field("counts"), pa.array(_counts(table)))
    return compact(table)


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables of several suites, one after the other."""
    return compact(pa.concat_tables(tables).unify_dictionaries()) if tables else COLUMNS.empty_table()


def compact(table: pa.Table) -> pa.Table:
    """The table without words that no row has, each column's in the order in which rows first have them."""
    return pa.table([_compact(table, field) for field in COLUMNS], schema=COLUMNS)


def _counts(table: pa.Table) -> NDArray[np.bool_]:
    """Whether each row's run makes figures: usable, and the newest record of its slot that was not skipped.

    Of copies of a run's folder one does: that of its own name, in its own session's, or else the first.
    """
    names = ["suite", "session", "device", "cell", "block", "status", "run_id", "usable", "folder"]
    _, first, runs = np.unique(_Words(table, "folder").codes, return_index=True, return_inverse=True)
    frame = table.select(names).take(pa.array(first)).to_pandas()
    frame["run_id"] = frame["run_id"].astype(str)
    frame["folder"] = frame["folder"].astype(str)
    place = frame["folder"].str.partition("/")
    frame["named"], frame["at_home"] = place[2] == frame["run_id"], place[0] == frame["session"].astype(str)
    ran = frame[frame["status"] != "skipped"]
    ran = ran.sort_values(["run_id", "named", "at_home", "folder"], ascending=[True, True, True, False], kind="stable")
    newest = ran.drop_duplicates(["suite", "session", "device", "cell", "block"], keep="last")
    counts = np.zeros(len(frame), dtype=bool)
    counts[newest.index[newest["usable"]]] = True
    return counts[runs]


def _compact(table: pa.Table, field: pa.Field) -> pa.Array:
    if not pa.types.is_dictionary(field.type):
        return table.column(field.name).combine_chunks()
    words = _Words(table, field.name)
    used, first = np.unique(words.codes, return_index=True)
    used = used[np.argsort(first)]
    used = used[used >= 0]
    new = np.full(len(words.dictionary) + 1, -1, dtype=np.int32)
    new[used] = np.arange(len(used), dtype=np.int32)
    codes = new[words.codes]  # the last one is that of no word, -1
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), words.dictionary.take(pa.array(used)))
