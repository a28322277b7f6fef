"""What a reader must know beside the verdicts: soft keys that differ, suites of one name, what the sides are of."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from melt.analysis.fingerprint import NAMED_BY, canonical
from melt.compare.behind import LOST, PARTIAL, partial_of_all
from melt.compare.result import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from melt.compare.match import Pair
    from melt.compare.result import Matched
    from melt.compare.runs import Runs
    from melt.history.index import Index

_NAMED = 3


def soft_caveats(runs: Runs, pair: Pair) -> tuple[str, ...]:
    """The soft keys in which the runs of two sides differ, and that one side has synthetic weights."""
    texts = [tuple(dict.fromkeys(runs.told(side, "soft"))) for side in (pair.a, pair.b)]
    of_a, of_b = map(_soft, texts if texts[0] != texts[1] else ((), ()))
    caveats = []
    for key in dict.fromkeys((*of_a, *of_b)):
        values = of_a.get(key, {}), of_b.get(key, {})
        if set(values[0]) != set(values[1]):
            told = " and ".join(" or ".join(side.values()) or "not known" for side in values)
            caveats.append(f"{key} differs: {told}")
    synthetic = {bool(config.keys.get("synthetic_model")) for config in (*pair.a, *pair.b)}
    if len(synthetic) > 1:
        caveats.append("synthetic and real weights: their times may be compared, their energy may not")
    return tuple(caveats)


def axis_not_known(pair: Pair, axis: str) -> tuple[str, ...]:
    """That one side does not know the key that the axis goes by, so that it may be the other's as well."""
    a, b = pair.a[0].keys, pair.b[0].keys
    key = next((key for key in NAMED_BY.get(axis, (axis,)) if canonical(a.get(key)) != canonical(b.get(key))), None)
    unknown = [name for name, keys in (("a", a), ("b", b)) if key is not None and keys.get(key) is None]
    return tuple(f"{key} is not known of {name}: that the sides differ in it is not shown" for name in unknown)


def suites_differ(pair: Pair) -> tuple[str, ...]:
    """That runs of one folder are of several suites, whose protocols no key of a fingerprint holds whole."""
    of_a, of_b = (sorted({config.suite for config in side}) for side in (pair.a, pair.b))
    if of_a == of_b:
        return ()
    told = f"{', '.join(of_a)} and {', '.join(of_b)}"
    return (f"of other suites, {told}: how long and how often they measure may differ",)


def caveats_of(runs: Runs, matched: Sequence[Matched], indexes: Mapping[str, Index]) -> tuple[str, ...]:
    """Of the whole comparison: each once, with the cells that it is about.

    What the runs of many cells are like is told once over all of them; each cell has its own besides.
    """
    of_cells: dict[str, list[str]] = defaultdict(list)
    several = len({(one.a_side, one.b_side) for one in matched}) > 1
    for one in matched:
        for caveat in one.caveats:
            of_cells[caveat].append(f"{one.b_side}: {one.device} {one.cell}" if several else f"{one.device} {one.cell}")
    in_sum = [partial_of_all(runs)] if _drop_many(of_cells, PARTIAL) else []
    # their sum is a note
    _drop_many(of_cells, LOST)
    caveats = [*in_sum, *(_about(caveat, cells, len(matched)) for caveat, cells in of_cells.items())]
    caveats += _suites(runs) if len(indexes) > 1 else ()
    told: dict[str, int] = defaultdict(int)
    for text, count in runs.table["caveats"].value_counts().items():
        for caveat in filter(None, str(text).split("; ")):
            told[caveat] += int(count)
    caveats += [f"{caveat} (said of {count} of {len(runs.table)} runs)" for caveat, count in told.items() if count]
    return tuple(caveats)


def _drop_many(of_cells: dict[str, list[str]], kind: str) -> bool:
    """Whether so many cells have caveats of a kind that none would be read; they are taken out then."""
    mine = [caveat for caveat in of_cells if caveat.startswith(kind)]
    if len(mine) <= _NAMED and len({cell for caveat in mine for cell in of_cells[caveat]}) <= _NAMED:
        return False
    for caveat in mine:
        del of_cells[caveat]
    return True


def labels_of(runs: Runs) -> tuple[str, ...]:
    """What is true of some runs, and must stand beside every figure of them."""
    table = runs.table
    labels = ["SIMULATED: a device is software"] if table["simulated"].any() else []
    labels += ["synthetic weights"] if table["synthetic_model"].any() else []
    tools = sorted({str(tool) for tool in table["imported"].dropna().unique()})
    return (*labels, *(f"imported from {tool}" for tool in tools))


def _about(caveat: str, cells: Sequence[str], all_cells: int) -> str:
    distinct = list(dict.fromkeys(cells))
    if len(cells) == all_cells:
        return caveat
    more = f" and {len(distinct) - _NAMED} more" if len(distinct) > _NAMED else ""
    return f"{', '.join(distinct[:_NAMED])}{more}: {caveat}"


def _suites(runs: Runs) -> Iterable[str]:
    """Suites of one name whose files differ between the sides; the fingerprints decide what is comparable."""
    contents = runs.table[["suite", "side", "suite_sha256"]].drop_duplicates().astype(str)
    for suite, mine in contents.groupby("suite", sort=False):
        of_side = [set(rows["suite_sha256"]) for _, rows in mine.groupby("side", sort=False)]
        if len(of_side) > 1 and any(side != of_side[0] for side in of_side):
            yield f"suite {suite}: both sides have one of that name, and their files differ; the fingerprints decide"


def _soft(texts: Iterable[Any]) -> dict[str, dict[str, str]]:
    """Every value of every soft key of some runs: as text to compare, and as people read it."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for text in texts:
        try:
            keys = json.loads(text) if isinstance(text, str) else {}
        except (ValueError, RecursionError):
            keys = {"soft keys": text}
        for key, value in keys.items() if isinstance(keys, dict) else ():
            if value is not None:
                found[str(key)][canonical(value)] = shown(value)
    return found
