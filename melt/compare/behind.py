"""What stands behind a cell's figures: which of its runs are partial, which do not count, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from melt.compare.match import Pair
    from melt.compare.runs import Config, Runs

_NAMED = 3
PARTIAL = "partial runs are in the figures"
LOST = "runs that do not count"
_AGAIN = "run again later"


def partial(runs: Runs, pair: Pair) -> tuple[str, ...]:
    """How many runs of each side are partial, with the reasons of their verdicts: they are in the figures."""
    told = []
    for name, side in (("a", pair.a), ("b", pair.b)):
        verdicts, reasons = runs.told(side, "verdict"), runs.told(side, "reasons")
        mine = [codes for verdict, codes in zip(verdicts, reasons, strict=True) if verdict == "partial"]
        if mine:
            told.append(f"{len(mine)} of {len(verdicts)} runs of {name} ({_codes(mine)})")
    return (f"{PARTIAL}: {', '.join(told)}",) if told else ()


def partial_of_all(runs: Runs) -> str:
    """The same over every run of a comparison."""
    table = runs.table
    mine = table[(table["verdict"] == "partial").to_numpy(dtype=bool)]
    return f"{PARTIAL}: {len(mine)} of {len(table)} runs ({_codes(mine['reasons'].tolist())})"


class Lost:
    """The runs that do not count, by the cell that they would be of."""

    def __init__(self, runs: Runs) -> None:
        slots = ["suite", "session", "device", "cell", "block"]
        there = set(runs.table[slots].itertuples(index=False, name=None)) if len(runs.others) else set()
        self._of_cell: dict[tuple[str, str, str], list[tuple[str, str]]] = defaultdict(list)
        self._all: list[tuple[str, str]] = []
        self._where: Counter[str] = Counter()
        row: Any
        for row in runs.others.itertuples(index=False):
            again = (row.suite, row.session, row.device, row.cell, row.block) in there
            one = (_AGAIN if again else _kind(row), "" if again else _text(row.reasons))
            self._all.append(one)
            self._where[f"{row.device} {row.cell}"] += 1
            if not again:
                self._of_cell[str(row.side), str(row.device), str(row.cell)].append(one)

    def of(self, pair: Pair) -> tuple[str, ...]:
        """How many runs of each side do not count although nothing was run in their stead."""
        told = []
        for name, side in (("a", pair.a), ("b", pair.b)):
            mine = [one for key in _cells(side) for one in self._of_cell.get(key, ())]
            if mine:
                told.append(f"of {name} {_kinds(mine)}")
        return (f"{LOST}: {', '.join(told)}",) if told else ()

    def note(self) -> tuple[str, ...]:
        """How many they are in all, of what kind, and of which cells."""
        if not self._all:
            return ()
        named = [f"{count} of {where}" for where, count in self._where.most_common(_NAMED)]
        more = f" and of {len(self._where) - _NAMED} other cells" if len(self._where) > _NAMED else ""
        return (f"{LOST}: {_kinds(self._all)}: {', '.join(named)}{more}",)


def _cells(side: Sequence[Config]) -> Iterable[tuple[str, str, str]]:
    return dict.fromkeys((config.side, config.device, config.cell) for config in side)


def _kind(row: Any) -> str:
    return str(row.status) if _text(row.status) not in ("", "ok") else "invalid"


def _kinds(lost: Sequence[tuple[str, str]]) -> str:
    """`2 invalid (throttled), 1 skipped (locked)`."""
    of_kind: dict[str, list[str]] = defaultdict(list)
    for kind, reasons in lost:
        of_kind[kind].append(reasons)
    told = []
    for kind, texts in of_kind.items():
        why = _codes(texts)
        told.append(f"{len(texts)} {kind}" + (f" ({why})" if why else ""))
    return ", ".join(told)


def _codes(reasons: Sequence[Any]) -> str:
    """Each code of the closed list with how many runs bear it, where that is not all of them."""
    counts = Counter(code for text in reasons for code in _text(text).split())
    return ", ".join(code if count == len(reasons) else f"{code} {count}" for code, count in counts.most_common())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
