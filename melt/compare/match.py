"""Which cells of two sides belong together: those alike in every hard key but the axis's; or what sets them apart."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.analysis.fingerprint import KEYS, canonical, differences
from melt.compare.result import Unmatched, shown
from melt.errors import NotComparable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from melt.analysis.fingerprint import Difference
    from melt.compare.runs import Config

_CELL = re.compile(r"(?P<workload>[^\[]*)(?:\[(?P<points>.*)\])?")
_NAMED = 3
"""So many cells are named beside a key that differs in more of them."""
_MOST_ROWS = 40
_WRITTEN: dict[str, tuple[str, ...]] = {
    "model_sha256": ("model",),
    "inputs_sha256": ("inputs",),
    "texts_sha256": ("prompt",),
    "page_cache": ("load",),
}
"""What a sweep writes, where the key that follows from it has another name."""

Row = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Along:
    """How two sides may differ: along an axis with its keys, and in keys that a person has allowed."""

    axis: str
    keys: frozenset[str]
    allowed: frozenset[str] = frozenset()

    @property
    def varying(self) -> frozenset[str]:
        return self.keys | self.allowed


@dataclass(frozen=True)
class Pair:
    """A cell of both sides: the configurations of each, and the cell's name without what the axis says of it.

    Where the sides have other names for it, or are other devices, both are in the name: `a → b`.
    """

    a: tuple[Config, ...]
    b: tuple[Config, ...]
    device: str
    cell: str


def match(
    a: Sequence[Config], b: Sequence[Config], along: Along, sides: tuple[str, str]
) -> tuple[list[Pair], list[tuple[Config, str]]]:
    """The cells of both sides, and those of one alone with the reason.

    Raises NotComparable where a cell of one side is on the other too and differs in a key that must be the same;
    UsageError where one side holds a cell in several ways along the axis.
    """
    left = (list(a), list(b))
    pairs: list[Pair] = []
    hard = {config.number: _hard(config, along) for config in (*a, *b)}
    for key in (
        lambda c: (c.suite, c.workload, bare(c.cell, along), hard[c.number]),
        lambda c: (c.workload, bare(c.cell, along), hard[c.number]),
        lambda c: hard[c.number],
    ):
        found, left = _matched(left, key, along)
        pairs += found
    for pair in pairs:
        for side, configs in zip(sides, (pair.a, pair.b), strict=True):
            _refuse_several(side, configs, pair, along)
    _refuse_unlike(a, b, left, along, sides)
    order = {config.number: place for place, config in enumerate(a)}
    pairs.sort(key=lambda pair: order[pair.a[0].number])
    taken = {c.number: other[0] for p in pairs for mine, other in ((p.a, p.b), (p.b, p.a)) for c in mine}
    alone = [(c, _why_alone(c, sides[1], b, along, taken)) for c in left[0]]
    alone += [(c, _why_alone(c, sides[0], a, along, taken)) for c in left[1]]
    return pairs, alone


def nothing(a: Sequence[Config], b: Sequence[Config], along: Along, sides: tuple[str, str]) -> NotComparable:
    """The error where no cell of the one side belongs to one of the other."""
    return NotComparable(
        f"nothing of {sides[0]} can be compared with {sides[1]}: no cell is alike in every key but those of axis "
        f"'{along.axis}'; the table says where the nearest ones differ",
        _table(_nearest(a, b, along)),
    )


def unmatched(alone: Iterable[tuple[Config, str]], runs: Callable[[Config], int], side: str) -> list[Unmatched]:
    """Cells of one side, as they are told."""
    return [Unmatched(side, config.device, config.cell, runs(config), why) for config, why in alone]


def bare(cell: str, along: Along) -> str:
    """A cell's name without the points of a sweep along the axis: `toy[threads=2,spin=True]` is `toy[spin=True]`."""
    found = _CELL.fullmatch(cell)
    if found is None or not found["points"]:
        return cell
    kept = [point for point in found["points"].split(",") if not _is_along(point.partition("=")[0], along)]
    return f"{found['workload']}[{','.join(kept)}]" if kept else found["workload"]


def points(cell: str) -> list[str]:
    """The workload and what a sweep says of a cell, each by itself."""
    found = _CELL.fullmatch(cell)
    if found is None:
        return [cell]
    return [found["workload"], *(found["points"].split(",") if found["points"] else ())]


def _is_along(name: str, along: Along) -> bool:
    words = {along.axis, *along.varying, *(word for key in along.varying for word in _WRITTEN.get(key, ()))}
    return name in words or name.rpartition(".")[2] in words or name.partition(".")[0] in words


def _hard(config: Config, along: Along) -> str:
    """What must be the same: every hard key, known or not, but the axis's and those that only energy depends on."""
    return canonical(
        {
            name: value
            for name, value in config.keys.items()
            if value is not None and name not in along.varying and not _energy_alone(name)
        }
    )


def _energy_alone(name: str) -> bool:
    return name in KEYS and KEYS[name].scope == "energy"


def _matched(
    left: tuple[list[Config], list[Config]], key: Callable[[Config], object], along: Along
) -> tuple[list[Pair], tuple[list[Config], list[Config]]]:
    groups: dict[object, tuple[list[Config], list[Config]]] = defaultdict(lambda: ([], []))
    for number, configs in enumerate(left):
        for config in configs:
            groups[key(config)][number].append(config)
    pairs: list[Pair] = []
    rest: tuple[list[Config], list[Config]] = ([], [])
    for a, b in groups.values():
        if a and b and not _several_cells(a, along) and not _several_cells(b, along):
            pairs.append(Pair(tuple(a), tuple(b), _both(a[0].device, b[0].device), _name(a[0], b[0], along)))
        else:
            rest[0].extend(a)
            rest[1].extend(b)
    return pairs, rest


def _several_cells(configs: Sequence[Config], along: Along) -> bool:
    """Whether they are of cells that nothing but their names sets apart: which one is meant nobody can tell."""
    return len({(config.workload, bare(config.cell, along)) for config in configs}) > 1


def _name(a: Config, b: Config, along: Along) -> str:
    return _both(bare(a.cell, along), bare(b.cell, along))


def _both(a: str, b: str) -> str:
    return a if a == b else f"{a} → {b}"


def _refuse_several(side: str, configs: Sequence[Config], pair: Pair, along: Along) -> None:
    first = configs[0]
    for other in configs[1:]:
        unlike = [d for d in differences(first.keys, other.keys, along.allowed) if not _energy_alone(d.key)]
        if unlike:
            one = unlike[0]
            raise UsageError(
                f"{side} holds {pair.cell} on {pair.device} in several ways: {one.key} is {shown(one.a)} and "
                f"{shown(one.b)}: name a folder that holds it in one way, or one folder alone and --axis {one.key}"
            )


def _refuse_unlike(
    a: Sequence[Config],
    b: Sequence[Config],
    left: tuple[list[Config], list[Config]],
    along: Along,
    sides: tuple[str, str],
) -> None:
    """Raises NotComparable where a cell that is left over is on the other side too, and unlike."""
    rows: list[tuple[str, Difference]] = []
    of_b, of_a = _by_place(b, along), _by_place(a, along)
    seen = set()
    for config in left[0]:
        others = of_b.get(_place(config, along), ())
        if others:
            other = min(others, key=lambda other: len(_unlike(config, other, along)))
            rows += _rows(config, other, along)
            seen.add(other.number)
    for config in left[1]:
        others = of_a.get(_place(config, along), ())
        if others and config.number not in seen:
            other = min(others, key=lambda other: len(_unlike(other, config, along)))
            rows += _rows(other, config, along)
    if not rows:
        return
    keys = list(dict.fromkeys(difference.key for _, difference in rows))
    hint = (
        ": 'melt analyse FOLDER' computes the figures of both by one metric version"
        if "metric_version" in keys
        else ": compare what is alike, name the key with --axis, or say --allow-unlike KEY=reason"
    )
    raise NotComparable(
        f"{sides[0]} and {sides[1]} differ in what must be the same, {', '.join(keys)}{hint}", _table(rows)
    )


def _by_place(configs: Sequence[Config], along: Along) -> dict[object, list[Config]]:
    found: dict[object, list[Config]] = defaultdict(list)
    for config in configs:
        found[_place(config, along)].append(config)
    return found


def _place(config: Config, along: Along) -> object:
    """Device and cell by their names, as far as the axis leaves them."""
    device = "" if "device" in along.varying else config.device
    # where another workload is the point, only one of the same name is meant to be the same
    return device, config.workload, bare(config.cell, along)


def _unlike(a: Config, b: Config, along: Along) -> list[Difference]:
    return [one for one in differences(a.keys, b.keys, along.varying) if not _energy_alone(one.key)]


def _rows(a: Config, b: Config, along: Along) -> list[tuple[str, Difference]]:
    return [(f"{a.device} {bare(a.cell, along)}", one) for one in _unlike(a, b, along)]


def _nearest(a: Sequence[Config], b: Sequence[Config], along: Along) -> list[tuple[str, Difference]]:
    """For the first cells of the one side where the nearest of the other differ."""
    rows = []
    for config in a[:_NAMED]:
        other = min(b[:500], key=lambda other: len(_unlike(config, other, along)))
        rows += _rows(config, other, along)
    return rows


def _table(rows: Sequence[tuple[str, Difference]]) -> list[Row]:
    """One row for each key and pair of values, with the cells that it stands in."""
    alike: dict[tuple[str, str, str], tuple[Difference, list[str]]] = {}
    for cell, one in rows:
        cells = alike.setdefault((one.key, canonical(one.a), canonical(one.b)), (one, []))[1]
        cells += [cell] if cell not in cells else []
    table = []
    for one, cells in alike.values():
        more = f" and {len(cells) - _NAMED} more" if len(cells) > _NAMED else ""
        table.append((", ".join(cells[:_NAMED]) + more, one.key, shown(one.a), shown(one.b), one.source))
    return table[:_MOST_ROWS]


def _why_alone(
    config: Config, other_side: str, others: Collection[Config], along: Along, taken: Mapping[int, Config]
) -> str:
    there = [other for other in others if other.device == config.device or "device" in along.varying]
    if not there:
        return f"{other_side} has no run of device {config.device} that counts"
    alike = [other for other in there if not _unlike(config, other, along)]
    if alike:
        names = ", ".join(sorted({other.cell for other in alike})[:_NAMED])
        if all(other.number in taken for other in alike):
            by = taken[alike[0].number]
            return f"what is like it in {other_side}, {names}, is compared with {by.cell} of suite {by.suite}"
        return f"several cells are alike in every key, and which belong together cannot be told: {names}"
    nearest = min(there, key=lambda other: len(_unlike(config, other, along)))
    keys = ", ".join(one.key for one in _unlike(config, nearest, along))
    return f"{other_side} has nothing like it; its nearest there, {nearest.cell}, differs in {keys}"
