"""The rows that are exported: a row a run and metric, the keys of the fingerprint as columns of their own.

Sorted by what the runs say of themselves, so that the same runs give the same rows wherever their folder lies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from melt.errors import UsageError, nearest
from melt.history.table import OF_METRIC, OF_RUN

if TYPE_CHECKING:
    from collections.abc import Sequence

HARD, SOFT = "key.", "soft."
_NOT_OF_A_RUN = ("hard", "soft", "folder", "stamp")
"""Columns of the index that are taken apart here, or that say where on this computer a run lies."""
RUN_COLUMNS = tuple(name for name in OF_RUN.names if name not in _NOT_OF_A_RUN)
METRIC_COLUMNS = tuple(OF_METRIC.names)
_ORDER = ["suite", "session", "run_id"]
_WHOLE = ("n", "metric_version")
NO_METRIC = "no_measurement: the run has no metrics"
OTHER_KIND = "not_computed: runs of this kind have no such metric"


@dataclass(frozen=True)
class Exported:
    """What is exported.

    `runs`: a row a run, with `RUN_COLUMNS`, then `key.*`, then `soft.*`. `figures`: a row a run and metric, in order,
    with the run's place in `runs` as `run`, and `METRIC_COLUMNS`.
    """

    runs: pd.DataFrame
    figures: pd.DataFrame
    hard: tuple[str, ...]
    """The hard keys of each run as JSON, in the order of `runs`."""

    @property
    def keys(self) -> list[str]:
        return [name for name in self.runs.columns if name not in RUN_COLUMNS]

    @property
    def metrics(self) -> list[str]:
        return sorted(self.figures["metric"].dropna().unique())


def exported(frame: pd.DataFrame, metrics: Sequence[str] = ()) -> Exported:
    """The rows of an index, of some metrics or of all. Raises UsageError for a metric that no run has, or no runs.

    Of a metric that is asked for, each run has a row: a run of another kind has a gap with that reason.
    """
    if not len(frame):
        raise UsageError("there are no runs to export: carry out a suite first, as in 'melt run workloads/demo.yaml'")
    known = sorted(str(name) for name in frame["metric"].dropna().unique())
    for name in metrics:
        if name not in known:
            raise UsageError(f"metric '{name}' is in none of these runs: {nearest(name, known)}")
    plain = frame.assign(**{name: frame[name].astype(object) for name in _words(frame)})
    ordered = plain.sort_values([*_ORDER, "folder", "metric"], kind="stable", na_position="last", ignore_index=True)
    first = (ordered[["suite", "folder"]] != ordered[["suite", "folder"]].shift()).any(axis=1)
    ordered["run"] = np.cumsum(first) - 1
    each = ordered[first].reset_index(drop=True)
    runs = each[list(RUN_COLUMNS)]
    columns = {**_keys(each["hard"], HARD), **_keys(each["soft"], SOFT)}
    keyed = pd.concat([runs, pd.DataFrame(columns, index=runs.index, dtype=object)], axis=1)
    figures = ordered[["run", *METRIC_COLUMNS]].astype(dict.fromkeys(_WHOLE, "Int64"))
    if metrics:
        figures = _asked(figures, list(dict.fromkeys(metrics)), len(runs))
    empty = figures["metric"].isna()
    figures.loc[empty & figures["reason"].isna(), "reason"] = NO_METRIC
    return Exported(keyed, figures.reset_index(drop=True), tuple(each["hard"]))


def word_of(value: Any) -> str:
    """A key's value as text: words as they are, everything else as JSON; nothing for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _words(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype)]


def _asked(figures: pd.DataFrame, metrics: Sequence[str], runs: int) -> pd.DataFrame:
    wanted = pd.MultiIndex.from_product([range(runs), sorted(metrics)], names=["run", "metric"])
    found = figures[figures["metric"].isin(metrics)].set_index(["run", "metric"]).reindex(wanted).reset_index()
    units = figures.dropna(subset=["metric"]).drop_duplicates("metric").set_index("metric")["unit"]
    found["unit"] = found["metric"].map(units)
    bare = set(figures.loc[figures["metric"].isna(), "run"])
    missing = found["value"].isna() & found["reason"].isna()
    why = [NO_METRIC if run in bare else OTHER_KIND for run in found.loc[missing, "run"]]
    found["reason"] = found["reason"].astype(object)
    found.loc[missing, "reason"] = why
    return found[["run", *METRIC_COLUMNS]]


def _keys(texts: pd.Series[Any], prefix: str) -> dict[str, list[Any]]:
    """Keys of JSON objects as columns, one a key that any of them has."""
    known: dict[str, dict[str, Any]] = {}
    for text in texts:
        if text not in known:
            known[text] = json.loads(text)
    names = sorted({name for keys in known.values() for name in keys})
    return {f"{prefix}{name}": [known[text].get(name) for text in texts] for name in names}
