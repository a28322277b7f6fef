"""What a reader must know beside the verdicts: soft keys that differ, suites of one name, what the sides are of."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from melt.analysis.fingerprint import canonical
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


def caveats_of(runs: Runs, matched: Sequence[Matched], indexes: Mapping[str, Index]) -> tuple[str, ...]:
    """Of the whole comparison: each once, with the cells that it is about."""
    of_cells: dict[str, list[str]] = defaultdict(list)
    for one in matched:
        for caveat in one.caveats:
            of_cells[caveat].append(f"{one.device} {one.cell}")
    caveats = [_about(caveat, cells, len(matched)) for caveat, cells in of_cells.items()]
    caveats += _suites(runs) if len(indexes) > 1 else ()
    told: dict[str, int] = defaultdict(int)
    for text, count in runs.table["caveats"].value_counts().items():
        for caveat in filter(None, str(text).split("; ")):
            told[caveat] += int(count)
    caveats += [f"{caveat} (said of {count} of {len(runs.table)} runs)" for caveat, count in told.items() if count]
    return tuple(caveats)


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
