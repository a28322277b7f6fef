"""The runs that count as arrays: which configuration each is of, and its figures, found without a loop over rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

About = Literal["run_id", "soft", "session", "verdict", "reasons"]
Codes = np.ndarray[tuple[int], np.dtype[np.int64]]
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]

_CONFIG = ("side", "suite", "device", "workload", "cell", "hard", "simulated", "synthetic_model", "imported")
_ABOUT: tuple[About, ...] = ("run_id", "soft", "session", "verdict", "reasons")
_RUN = (
    *(*_CONFIG, "suite_sha256", "session", "run_id", "block"),
    *("status", "verdict", "reasons", "soft", "caveats", "counts"),
)
_FIGURE = ("metric", "value", "error", "unit", "total", "reason", "metric_version")
_NUMBERS = ("value", "error", "block", "metric_version")
_TRUTHS = ("simulated", "synthetic_model", "counts")


@dataclass(frozen=True)
class Config:
    """Runs of one cell on one device that are alike in every hard key. `keys` holds what the record says as well."""

    number: int
    side: str
    suite: str
    device: str
    workload: str
    cell: str
    keys: Mapping[str, Any]
    imported: str | None


@dataclass(frozen=True)
class Values:
    """The values of one metric: one a run, with the slot (session and block) that the run stands in."""

    value: Floats
    slot: Codes
    totals: tuple[str, ...]
    versions: tuple[int, ...]
    off_by: float | None = None
    """By how much a run's figure may itself be off, as a share of it: the largest of them, where runs state one."""


class Runs:
    """The runs that count, sorted into configurations."""

    def __init__(self, frame: pd.DataFrame) -> None:
        code = _numbers(frame, ("side", "suite", "session", "run_id"))
        first = np.unique(code, return_index=True)[1]
        every = frame.iloc[first].reset_index(drop=True)
        counts = every["counts"].to_numpy(dtype=bool)
        self.others = every[~counts]
        """Runs that do not count: skipped, failed, invalid, or with a newer record of the same slot."""
        self.table = every[counts].reset_index(drop=True)
        of_config = _numbers(self.table, _CONFIG)
        self.table["config"] = of_config
        self.table["slot"] = _numbers(self.table, ("suite", "session", "block"))
        order = np.argsort(of_config, kind="stable")
        firsts = np.unique(of_config[order], return_index=True)[1]
        self._of_config = np.split(order, firsts[1:])
        self._columns = {name: np.asarray(self.table[name], dtype=object) for name in _ABOUT}
        heads = self.table.iloc[order[firsts]]
        self.configs = _configs(heads)
        self._figures = _sorted_figures(frame, code, counts, self.table)

    @property
    def metrics(self) -> list[str]:
        """Every metric that a run that counts has or lacks, in the order of the records."""
        return self._figures.names

    def unit(self, metric: str) -> str:
        return self._figures.units.get(metric, "1")

    def of(self, configs: Sequence[Config], metric: str) -> Values:
        """The values of a metric of some configurations; runs without one are not among them."""
        return self._figures.of([config.number for config in configs], metric)

    def reason(self, configs: Sequence[Config], metric: str) -> str:
        """Why none of them has a value."""
        figures = self._figures
        code = figures.codes.get(metric, -1)
        found = (figures.reasons.get((config.number, code)) for config in configs)
        return next((reason for reason in found if reason), "not_recorded: no run's record has such a metric")

    def count(self, configs: Sequence[Config]) -> int:
        """How many runs some configurations have, with a value or without."""
        return sum(len(self._of_config[config.number]) for config in configs)

    def told(self, configs: Sequence[Config], column: About) -> list[Any]:
        """What the runs of some configurations say, a value a run."""
        return [value for config in configs for value in self._columns[column][self._of_config[config.number]].tolist()]


@dataclass(frozen=True)
class _Figures:
    """Values by configuration and metric, as slices of sorted arrays."""

    names: list[str]
    codes: Mapping[str, int]
    units: Mapping[str, str]
    slices: Mapping[tuple[int, int], slice]
    value: Floats
    slot: Codes
    total: Codes
    totals: list[str]
    version: Codes
    off_by: Floats
    """NaN where a run states none."""
    stated: frozenset[int]
    """The metrics of which some run does."""
    reasons: Mapping[tuple[int, int], str]

    def of(self, configs: Sequence[int], metric: str) -> Values:
        code = self.codes.get(metric, -1)
        found = [self.slices[number, code] for number in configs if (number, code) in self.slices]
        if not found:
            return Values(np.empty(0), np.empty(0, dtype=np.int64), (), ())
        value = np.concatenate([self.value[one] for one in found])
        slot, total, version = (
            np.concatenate([column[one] for one in found]) for column in (self.slot, self.total, self.version)
        )
        # np.unique takes longer than the rest of a comparison where there are ten thousand of these
        totals = sorted({self.totals[code] for code in set(total.tolist()) if code >= 0})
        versions = sorted({number for number in set(version.tolist()) if number >= 0})
        off_by = np.concatenate([self.off_by[one] for one in found]) if code in self.stated else np.empty(0)
        largest = float(np.nanmax(off_by)) if np.isfinite(off_by).any() else None
        return Values(value, slot, tuple(totals), tuple(versions), largest)


def stacked(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of several sides as one table with the column `side`; words stay categories, so nothing grows."""
    side = pd.CategoricalDtype(list(frames))
    sides = pd.Categorical.from_codes(
        np.repeat(np.arange(len(frames)), [len(frame) for frame in frames.values()]), dtype=side
    )
    columns: dict[str, Any] = {"side": sides}
    for name in (*_RUN, *_FIGURE):
        if name == "side":
            continue
        parts = [frame[name] for frame in frames.values()]
        columns[name] = (
            pd.api.types.union_categoricals([_words(part) for part in parts])
            if _is_word(parts[0])
            else np.concatenate([_plain(part) for part in parts])
        )
    return pd.DataFrame(columns)


def _words(part: pd.Series) -> Any:
    """A column of words; one that holds none at all has another type than its like of the other side."""
    words = pd.Categorical(part)
    return pd.Categorical.from_codes(words.codes, dtype=pd.CategoricalDtype(words.categories.astype(object)))


def _plain(part: pd.Series) -> np.ndarray[tuple[int], np.dtype[Any]]:
    if part.name in _NUMBERS:
        return part.to_numpy(dtype=np.float64, na_value=np.nan)
    return part.fillna(False).to_numpy(dtype=bool)


def _is_word(part: pd.Series) -> bool:
    return part.name not in (*_NUMBERS, *_TRUTHS)


def _numbers(table: pd.DataFrame, columns: Sequence[str]) -> Codes:
    """A number for each distinct row of some columns, by order of appearance."""
    whole = np.zeros(len(table), dtype=np.int64)
    for name in columns:
        column = table[name]
        codes = (
            column.cat.codes.to_numpy(dtype=np.int64) + 1
            if isinstance(column.dtype, pd.CategoricalDtype)
            else pd.factorize(column, use_na_sentinel=False)[0]
        )
        whole = pd.factorize(whole * (int(codes.max(initial=0)) + 1) + codes)[0].astype(np.int64)
    return whole


def _configs(heads: pd.DataFrame) -> tuple[Config, ...]:
    read: dict[str, dict[str, Any]] = {}
    found = []
    row: Any
    for row in heads.itertuples(index=False):
        text = row.hard if isinstance(row.hard, str) else "{}"
        if text not in read:
            read[text] = _hard(text)
        about = {"device": str(row.device), "workload": str(row.workload)}
        told = {"simulated": bool(row.simulated), "synthetic_model": bool(row.synthetic_model)}
        keys = {**told, **{k: v for k, v in read[text].items() if v is not None}, **about}
        tool = row.imported if isinstance(row.imported, str) else None
        found.append(
            Config(
                int(row.config),
                str(row.side),
                str(row.suite),
                str(row.device),
                str(row.workload),
                str(row.cell),
                keys,
                tool,
            )
        )
    return tuple(found)


def _hard(text: str) -> dict[str, Any]:
    """The keys of a fingerprint; of one that is no JSON its text is one key, so that it is like itself alone."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"fingerprint": text}


def _sorted_figures(frame: pd.DataFrame, run: Codes, counts: Any, table: pd.DataFrame) -> _Figures:
    """`run` numbers the run of each row of the frame, in the order of `counts`; `table` holds those that count."""
    place = np.full(len(counts), -1, dtype=np.int64)
    place[counts] = np.arange(int(counts.sum()))
    at = place[run]
    metric = frame["metric"].cat
    names = [str(name) for name in metric.categories]
    code = metric.codes.to_numpy(dtype=np.int64)
    kept = np.flatnonzero((at >= 0) & (code >= 0))
    config = table["config"].to_numpy(dtype=np.int64)[at[kept]]
    slot = table["slot"].to_numpy(dtype=np.int64)[at[kept]]
    code, value = code[kept], frame["value"].to_numpy(dtype=np.float64)[kept]
    there = np.isfinite(value)
    lacking, reason = kept[~there], frame["reason"]
    _, heads = np.unique(config[~there] * len(names) + code[~there], return_index=True)
    told = reason.iloc[lacking[heads]].tolist()
    reasons = {
        (int(c), int(m)): str(text) if isinstance(text, str) else ""
        for c, m, text in zip(config[~there][heads], code[~there][heads], told, strict=True)
    }
    group = config[there] * len(names) + code[there]
    order = np.argsort(group, kind="stable")
    firsts = np.flatnonzero(np.diff(group[order], prepend=-1))
    ends = [*firsts.tolist(), len(order)][1:]
    slices = {
        (number // len(names), number % len(names)): slice(begin, end)
        for number, begin, end in zip(group[order][firsts].tolist(), firsts.tolist(), ends, strict=True)
    }
    rows = kept[there][order]
    version = np.nan_to_num(frame["metric_version"].to_numpy(dtype=np.float64)[rows], nan=-1).astype(np.int64)
    error = frame["error"].to_numpy(dtype=np.float64)[rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        off_by = np.abs(error / value[there][order])
    off_by[~np.isfinite(off_by)] = np.nan
    stated = frozenset(np.unique(code[there][order][~np.isnan(off_by)]).tolist())
    _, unit_rows = np.unique(code, return_index=True)
    units = {names[code[row]]: str(frame["unit"].iloc[kept[row]]) for row in unit_rows}
    appeared = [names[c] for c in pd.unique(code)]
    return _Figures(
        names=appeared,
        codes={name: number for number, name in enumerate(names) if name in units},
        units=units,
        slices=slices,
        value=value[there][order],
        slot=slot[there][order],
        total=frame["total"].cat.codes.to_numpy(dtype=np.int64)[rows],
        totals=[str(name) for name in frame["total"].cat.categories],
        version=version,
        off_by=off_by,
        stated=stated,
        reasons=reasons,
    )
