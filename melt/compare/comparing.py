"""From the runs of two sides to verdicts: matched, contrasted, and judged over all cells and metrics together."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from melt.analysis.contrast import adjusted, nameable, word
from melt.analysis.fingerprint import AXES, KEYS, axis_keys, canonical, differences
from melt.compare.about import axis_not_known, caveats_of, labels_of, soft_caveats, suites_differ
from melt.compare.behind import Lost, partial
from melt.compare.contrasts import Figures, figures
from melt.compare.delta import Deltas, deltas
from melt.compare.figures import ALL, chosen
from melt.compare.match import Along, Pair, match, nothing, unmatched
from melt.compare.result import Comparison, Extreme, Matched, Overall, Verdict, shown
from melt.compare.runs import Runs, stacked
from melt.compare.sides import SESSION, Sides, Versus, by_folders, by_value
from melt.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from melt.compare.result import Unmatched
    from melt.compare.runs import Config
    from melt.history.index import Index


_NAMED = 3


@dataclass(frozen=True)
class Asked:
    """What a person asked for. `delta` None is to be taken from the history; `allowed` are keys with reasons."""

    axis: str = SESSION
    base: str | None = None
    metrics: tuple[str, ...] = ()
    allowed: tuple[tuple[str, str], ...] = ()
    delta: float | None = None


@dataclass(frozen=True)
class _Cell:
    """A matched cell of two sides under the name that it is told by."""

    versus: Versus
    pair: Pair
    name: str


def compared(
    indexes: Mapping[str, Index], histories: Sequence[pd.DataFrame], asked: Asked, labels: Sequence[str] = ()
) -> Comparison:
    """Compare the runs of one folder, or of two, by name; `histories` are the whole indexes of their suites.

    `labels` stand beside every figure, with those that the runs themselves give.
    Raises NotComparable where they differ in what must be the same, and UsageError where there is nothing to compare.
    """
    runs = _runs(indexes, asked.axis)
    keys = _axis_keys(asked.axis, runs.configs)
    along = Along(asked.axis, keys, frozenset(key for key, _ in asked.allowed))
    _check_allowed(asked.allowed, runs.configs, along)
    names = tuple(indexes)
    if len(names) == 1:
        sides = by_value(runs.configs, along, asked.base, names[0])
    elif asked.base is not None:
        raise UsageError("--base: of two folders the first one is the base: leave --base out, or name one folder alone")
    else:
        sides = by_folders(runs.configs, (names[0], names[1]), along)
    cells, alone = _cells(sides, runs, along)
    wanted = chosen(runs.metrics, asked.metrics)
    limits = deltas(histories, wanted, asked.delta)
    verdicts = _verdicts(cells, runs, wanted, limits, along, named=bool(asked.metrics) and ALL not in asked.metrics)
    lost = Lost(runs)
    matched = [_matched(cell, runs, lost, asked.axis, one_folder=len(names) == 1) for cell in cells]
    return Comparison(
        a=names[0],
        b=names[1] if len(names) > 1 else None,
        axis=asked.axis,
        base=sides.base,
        base_why=sides.base_why,
        verdicts=verdicts,
        matched=tuple(matched),
        unmatched=tuple(alone),
        overall=_overall(verdicts),
        allowed=dict(asked.allowed),
        stamps=_stamps(asked.allowed, cells),
        caveats=caveats_of(runs, matched, indexes),
        notes=_notes(lost, indexes),
        labels=(*labels_of(runs), *labels),
    )


# ----------------------------------------------------------------------------------------------- what is compared


def _axis_keys(axis: str, configs: Sequence[Config]) -> frozenset[str]:
    """The keys of an axis; one that no registry knows, such as an importer's, is its own. Raises UsageError."""
    known = axis not in KEYS and any(axis in config.keys for config in configs)
    return frozenset({axis}) if known and axis not in AXES else axis_keys(axis)


def _runs(indexes: Mapping[str, Index], axis: str) -> Runs:
    """Every run of every side. Raises UsageError for a side without any, and for runs that are on both."""
    if len(indexes) == 1 and axis == SESSION:
        (frame,) = (index.frame for index in indexes.values())
        names = [str(name) for name in frame["session"].unique()]
        rows = {name: frame[(frame["session"] == name).to_numpy(dtype=bool)] for name in sorted(names)}
        frames = rows or {next(iter(indexes)): frame}
    else:
        frames = {name: index.frame for name, index in indexes.items()}
    runs = Runs(stacked(frames))
    for name in indexes if len(indexes) > 1 else ():
        if not any(config.side == name for config in runs.configs):
            others = int((runs.others["side"] == name).sum())
            more = f": {others} were skipped, failed or are invalid" if others else ""
            raise UsageError(f"{name} holds no run that counts{more}: name a folder with valid or partial runs")
    if not runs.configs:
        others = len(runs.others)
        more = f": {others} were skipped, failed or are invalid" if others else ""
        raise UsageError(f"{next(iter(indexes))} holds no run that counts{more}: name a folder with valid runs")
    ids = ["suite", "session", "run_id"]
    twice = runs.table[runs.table.duplicated(ids)]
    if len(twice):
        raise UsageError(
            f"{len(twice)} runs are on both sides, such as {twice['run_id'].iloc[0]}: name folders that hold different "
            "runs, or one folder alone and --axis"
        )
    return runs


def _check_allowed(allowed: Iterable[tuple[str, str]], configs: Sequence[Config], along: Along) -> None:
    known = {key for config in configs for key in config.keys} | {key.name for key in KEYS.values() if key.hard}
    for key, _ in allowed:
        if key in KEYS and not KEYS[key].hard:
            raise UsageError(f"--allow-unlike {key}: that key is soft and may differ anyway: leave it out")
        if key not in known:
            raise UsageError(f"--allow-unlike {key}: there is no such key: {nearest(key, known)}")
        if key in along.keys:
            raise UsageError(f"--allow-unlike {key}: axis '{along.axis}' varies it already: leave it out")


def _cells(sides: Sides, runs: Runs, along: Along) -> tuple[list[_Cell], list[Unmatched]]:
    """The matched cells of every two sides, and the cells of one alone. Raises NotComparable where none match."""
    found: list[_Cell] = []
    alone: list[Unmatched] = []
    count = Counter(runs.table["config"].tolist())
    errors = []
    for versus in sides.versus:
        pairs, left = match(versus.a, versus.b, along, versus.names)
        if not pairs:
            errors.append(nothing(versus.a, versus.b, along, versus.names))
        found += [_Cell(versus, pair, name) for pair, name in zip(pairs, _distinct(pairs, along), strict=True)]
        of_a = {config.number for config in versus.a}
        for name, mine in zip(versus.names, (True, False), strict=True):
            side = [one for one in left if (one[0].number in of_a) is mine]
            alone += unmatched(side, lambda config: count[config.number], name)
    if not found:
        raise errors[0]
    return found, list(dict.fromkeys(alone))


def _distinct(pairs: Sequence[Pair], along: Along) -> list[str]:
    """The cells' names; those of one name on one device with what else sets them apart."""
    same: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        same[pair.device, pair.cell].append(number)
    names = [pair.cell for pair in pairs]
    for numbers in same.values():
        first = pairs[numbers[0]].a[0].keys
        unlike = {one.key for n in numbers[1:] for one in differences(first, pairs[n].a[0].keys, along.varying)}
        keys = [key for key in (*KEYS, *sorted(unlike - KEYS.keys())) if key in unlike][:2]
        for n in numbers if len(numbers) > 1 else ():
            told = ", ".join(f"{key} {shown(pairs[n].a[0].keys.get(key), 16)}" for key in keys)
            names[n] = f"{names[n]} ({told or f'suite {pairs[n].a[0].suite}'})"
    return names


# ---------------------------------------------------------------------------------------------------- the verdicts


def _verdicts(
    cells: Sequence[_Cell], runs: Runs, wanted: Sequence[str], limits: Deltas, along: Along, *, named: bool
) -> tuple[Verdict, ...]:
    """Every metric of every cell; p is adjusted over all of them."""
    found: list[tuple[_Cell, Figures]] = []
    for cell in cells:
        for metric in wanted:
            one = figures(runs, cell.pair, metric, along, asked=named)
            if one is not None:
                found.append((cell, one))
    ps = adjusted([one.found.p if one.found else None for _, one in found])
    return tuple(
        _verdict(cell, one, p, runs.unit(one.metric), limits) for (cell, one), p in zip(found, ps, strict=True)
    )


def _verdict(cell: _Cell, one: Figures, p: float | None, unit: str, limits: Deltas) -> Verdict:
    delta = _of_devices(cell.pair, one.metric, limits)
    said, why = (None, one.refused or "") if one.found is None else word(one.found, p, one.metric, delta[0])
    found = one.found and replace(one.found, detectable=nameable(one.found, delta[0]))
    return Verdict(
        *cell.versus.names,
        device=cell.pair.device,
        cell=cell.name,
        metric=one.metric,
        unit=unit,
        a=one.a,
        b=one.b,
        found=found,
        p_adjusted=p,
        word=said,
        why=why,
        delta=delta[0],
        delta_from=delta[1],
        total=one.total,
        refused=one.refused,
        caveats=one.caveats,
    )


def _of_devices(pair: Pair, metric: str, limits: Deltas) -> tuple[float, str]:
    """The larger δ of both devices, where these are two."""
    devices = dict.fromkeys((pair.a[0].device, pair.b[0].device))
    widest = max((limits.of(device, metric) for device in devices), key=lambda delta: delta.share)
    return widest.share, widest.source


def _overall(verdicts: Sequence[Verdict]) -> tuple[Overall, ...]:
    """The geometric mean of the ratios over the cells, and the cells at both ends."""
    groups: dict[tuple[str, str, str], list[tuple[float, Verdict]]] = defaultdict(list)
    for one in verdicts:
        if one.found is not None and one.found.ratio is not None:
            groups[one.a_side, one.b_side, one.metric].append((one.found.ratio, one))
    return tuple(
        Overall(
            *key,
            cells=len(group),
            words=dict(Counter(one.word for _, one in group if one.word is not None)),
            ratio=math.exp(math.fsum(math.log(ratio) for ratio, _ in group) / len(group)),
            highest=_extreme(*max(group, key=lambda one: one[0])),
            lowest=_extreme(*min(group, key=lambda one: one[0])),
        )
        for key, group in groups.items()
    )


def _extreme(ratio: float, one: Verdict) -> Extreme:
    return Extreme(ratio, one.device, one.cell, one.word)


# ------------------------------------------------------------------------------------------- what stands beside them


def _matched(cell: _Cell, runs: Runs, lost: Lost, axis: str, *, one_folder: bool) -> Matched:
    pair = cell.pair
    about = (*axis_not_known(pair, axis), *(suites_differ(pair) if one_folder else ()))
    return Matched(
        *cell.versus.names,
        device=pair.device,
        cell=cell.name,
        runs_a=tuple(map(str, runs.told(pair.a, "run_id"))),
        runs_b=tuple(map(str, runs.told(pair.b, "run_id"))),
        differs=tuple(differences(pair.a[0].keys, pair.b[0].keys)),
        caveats=(*about, *soft_caveats(runs, pair), *partial(runs, pair), *lost.of(pair)),
    )


def _stamps(allowed: Iterable[tuple[str, str]], cells: Sequence[_Cell]) -> tuple[str, ...]:
    """A sentence for each key that was allowed to differ, with the values where it does."""
    stamps = []
    for key, reason in allowed:
        values = dict.fromkeys(
            (shown(a.keys.get(key)), shown(b.keys.get(key)))
            for cell in cells
            for a in cell.pair.a
            for b in cell.pair.b
            if canonical(a.keys.get(key)) != canonical(b.keys.get(key))
        )
        told = "; ".join(f"{a} against {b}" for a, b in list(values)[:_NAMED])
        told += f" and {len(values) - _NAMED} more" if len(values) > _NAMED else ""
        told = told or "it does not differ in any cell compared"
        stamps.append(f"UNLIKE, allowed by hand: {key} ({told}): {reason}")
    return tuple(stamps)


def _notes(lost: Lost, indexes: Mapping[str, Index]) -> tuple[str, ...]:
    notes = [*lost.note()]
    for index in indexes.values():
        notes += [f"not read: {one.path}: {one.why}" for one in index.unreadable]
        notes += index.notes
    return tuple(dict.fromkeys(notes))
