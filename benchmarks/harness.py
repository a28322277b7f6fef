"""What a figure is, the rounds of several figures in turn, and the line that tells the result."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Bounds = tuple[float | None, float | None]
"""The lowest and the highest value that is good enough; None where there is no such bound."""


@dataclass(frozen=True)
class Round:
    """One round of one figure. `folder` is the figure's own: it stays from round to round and is gone afterwards."""

    number: int
    folder: Path


@dataclass(frozen=True)
class Figure:
    """A number that melt is held to. `measure` gives one value a round, in `unit`, or raises."""

    name: str
    unit: str
    target: Bounds
    rounds: int
    measure: Callable[[Round], float]


@dataclass(frozen=True)
class Result:
    """What the rounds of a figure gave; `failure` is why there are no more of them."""

    figure: Figure
    values: tuple[float, ...]
    failure: str | None = None

    @property
    def value(self) -> float | None:
        """The median of the rounds; None when the figure failed: half of its rounds would be another figure."""
        return statistics.median(self.values) if self.failure is None else None

    @property
    def ok(self) -> bool:
        """Whether the value is inside the target, its ends included."""
        low, high = self.figure.target
        value = self.value
        return value is not None and (low is None or value >= low) and (high is None or value <= high)

    def line(self) -> str:
        """One JSON object without a line end; a figure that failed has the value null and a `reason`."""
        out = {
            "name": self.figure.name,
            "value": None if self.value is None else float(f"{self.value:.4g}"),
            "unit": self.figure.unit,
            "target": self.figure.target,
            "ok": self.ok,
            "n": len(self.values),
        }
        return json.dumps(out if self.failure is None else {**out, "reason": self.failure})


def choose(figures: Mapping[str, Figure], names: Iterable[str]) -> list[Figure]:
    """The figures of those names, in the registry's order; all of them for no name. Raises UsageError."""
    wanted = set(names)
    for name in sorted(wanted):
        if name not in figures:
            raise UsageError(f"there is no figure '{name}': {nearest(name, figures)}")
    return [figure for name, figure in figures.items() if not wanted or name in wanted]


def carry_out(figures: Sequence[Figure], tell: Callable[[str], None] = lambda _: None) -> list[Result]:
    """Round 1 of every figure, then round 2 of every figure, and so on; a figure that fails is left out from there on.

    `tell` is given one sentence a round. The results are in the order of `figures`.
    """
    values: dict[str, list[float]] = {figure.name: [] for figure in figures}
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="melt-bench-") as root:
        for number in range(max((figure.rounds for figure in figures), default=0)):
            for figure in figures:
                if number >= figure.rounds or figure.name in failures:
                    continue
                folder = Path(root) / figure.name
                folder.mkdir(exist_ok=True)
                try:
                    values[figure.name].append(_finite(figure.measure(Round(number, folder))))
                    said = f"{values[figure.name][-1]:.4g}" + (f" {figure.unit}" if figure.unit != "1" else "")
                except Exception as error:  # noqa: BLE001 - whatever one figure raises, the others are still measured
                    failures[figure.name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                    said = failures[figure.name]
                tell(f"round {number + 1} of {figure.rounds}, {figure.name}: {said}")
    return [Result(figure, tuple(values[figure.name]), failures.get(figure.name)) for figure in figures]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the round gave {value}, which is no number")
    return value
