"""Which runs are the two sides: of two folders each is one, of one folder each value of the axis against the base."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melt.analysis.fingerprint import AXES, NAMED_BY, canonical
from melt.compare.match import points
from melt.compare.result import shown
from melt.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.compare.match import Along
    from melt.compare.runs import Config

SESSION = "session"
_DIGEST, _OF_DIGEST = "_sha256", 12
_NAMED = 3
"""Of the axes along which a folder may be compared, so many are named."""


@dataclass(frozen=True)
class Versus:
    """Two sides: what they are called, and their configurations."""

    names: tuple[str, str]
    a: tuple[Config, ...]
    b: tuple[Config, ...]


@dataclass(frozen=True)
class Sides:
    """Every two sides of one comparison. Of one folder `base` is the value that the others are held against."""

    versus: tuple[Versus, ...]
    base: str | None = None
    base_why: str = ""


def by_folders(configs: Sequence[Config], names: tuple[str, str], along: Along) -> Sides:
    """Two folders against each other. Raises UsageError where the axis does not differ between them."""
    a, b = ([one for one in configs if one.side == name] for name in names)
    if along.axis != SESSION and not any(_values(a, key) ^ _values(b, key) for key in _naming(along)):
        raise UsageError(
            f"--axis {along.axis}: it does not differ between {names[0]} and {names[1]}"
            f"{_only_value(configs, along)}: leave --axis out to compare like with like"
        )
    return Sides((Versus(names, tuple(a), tuple(b)),))


def by_value(configs: Sequence[Config], along: Along, base: str | None, folder: str) -> Sides:
    """Inside one folder: each value of the axis against the base. Raises UsageError where there is but one value."""
    of_value = _by_session(configs) if along.axis == SESSION else _by_key(configs, along)
    names = list(of_value)
    if len(names) < 2:  # noqa: PLR2004 - two sides
        said = f", {names[0]}" if names else _only_value(configs, along)
        hint = "name a folder in which it varies, or a second one"
        if along.axis == SESSION:
            inside = " or ".join(f"--axis {name}" for name in _varying(configs)[:_NAMED])
            hint = "name a second folder" + (f", or compare inside it: {inside}" if inside else "")
        raise UsageError(f"--axis {along.axis}: {folder} holds one value of it alone{said}: {hint}")
    if base is not None and base not in of_value:
        raise UsageError(f"--base {base}: {folder} has no such {along.axis}: {nearest(base, names)}")
    first = names[0] if base is None else base
    why = "--base" if base is not None else "the earliest" if along.axis == SESSION else "the first in order"
    versus = [
        Versus((_called(along, first), _called(along, name)), tuple(of_value[first]), tuple(of_value[name]))
        for name in names
        if name != first
    ]
    return Sides(tuple(versus), first, why)


def _called(along: Along, value: str) -> str:
    return value if along.axis in (SESSION, "device") else f"{along.axis} {value}"


def _naming(along: Along) -> tuple[str, ...]:
    """Keys whose values are the sides; every key of an axis that has none of its own name."""
    named = NAMED_BY.get(along.axis, (along.axis,))
    return (*named, *sorted(along.keys - set(named) - {"workload", "device"}))


def _values(configs: Sequence[Config], key: str) -> set[str]:
    return {canonical(config.keys.get(key)) for config in configs}


def _varying(configs: Sequence[Config]) -> list[str]:
    """The axes whose own key has several values here."""
    return [axis for axis in AXES if axis != SESSION and len(_values(configs, axis)) > 1]


def _only_value(configs: Sequence[Config], along: Along) -> str:
    key = _naming(along)[0]
    values = {shown(config.keys.get(key)) for config in configs}
    return f" ({key}: {next(iter(values))})" if len(values) == 1 else ""


def _by_session(configs: Sequence[Config]) -> Mapping[str, list[Config]]:
    found: dict[str, list[Config]] = defaultdict(list)
    for config in sorted(configs, key=lambda config: config.side):
        found[config.side].append(config)
    return found


def _by_key(configs: Sequence[Config], along: Along) -> Mapping[str, list[Config]]:
    key = next((key for key in _naming(along) if len(_values(configs, key)) > 1), None)
    if key is None:
        return {}
    groups: dict[str, list[Config]] = defaultdict(list)
    for config in configs:
        groups[canonical(config.keys.get(key))].append(config)
    of_value = sorted(groups.values(), key=lambda group: _order(group[0].keys.get(key)))
    if not key.endswith(_DIGEST):
        return {shown(group[0].keys.get(key)): group for group in of_value}
    told = _told(of_value, key)
    return dict(sorted(((name, group) for name, group in zip(told, of_value, strict=True)), key=lambda one: one[0]))


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers first, by size; words by their letters; what is not known last."""
    if value is None:
        return 2, 0.0, ""
    return (0, float(value), "") if isinstance(value, bool | int | float) else (1, 0.0, canonical(value))


def _told(groups: Sequence[Sequence[Config]], key: str) -> list[str]:
    """A digest says nothing to people: what only the cells of it are called, or its first digits."""
    words = [set.intersection(*(set(points(config.cell)) for config in group)) for group in groups]
    names = []
    for number, group in enumerate(groups):
        elsewhere = set.union(set(), *(set(points(c.cell)) for other in groups if other is not group for c in other))
        own = [word for word in points(group[0].cell) if word in words[number] - elsewhere]
        names.append(", ".join(own) or shown(group[0].keys.get(key))[:_OF_DIGEST])
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]
