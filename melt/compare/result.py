"""What a comparison found: plain data for the terminal, for files and for programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from melt.analysis.fingerprint import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from melt.analysis.contrast import Contrast, Word
    from melt.analysis.fingerprint import Difference


@dataclass(frozen=True)
class Verdict:
    """One metric of one cell on both sides. `a` and `b` are geometric means of the runs that were contrasted.

    Where something forbids the comparison, `refused` says what; there is no contrast and no word then.
    """

    a_side: str
    b_side: str
    device: str
    cell: str
    metric: str
    unit: str
    a: float | None
    b: float | None
    found: Contrast | None
    p_adjusted: float | None
    word: Word | None
    why: str
    delta: float
    delta_from: str
    total: str | None = None
    """What a figure of energy is of, on both sides."""
    refused: str | None = None
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matched:
    """A cell that both sides hold: in which keys of the axis they differ, and what a reader must know of it."""

    a_side: str
    b_side: str
    device: str
    cell: str
    runs_a: tuple[str, ...]
    runs_b: tuple[str, ...]
    differs: tuple[Difference, ...]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Unmatched:
    """A cell that one side alone holds."""

    side: str
    device: str
    cell: str
    runs: int
    why: str


@dataclass(frozen=True)
class Extreme:
    """The cell that gave the largest or the smallest ratio."""

    ratio: float
    device: str
    cell: str
    word: Word | None


@dataclass(frozen=True)
class Overall:
    """One metric over all cells of two sides: the geometric mean of the ratios b ÷ a, and both ends of them."""

    a_side: str
    b_side: str
    metric: str
    cells: int
    words: Mapping[str, int]
    """How many of these cells bear each verdict."""
    ratio: float
    highest: Extreme
    lowest: Extreme


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison says."""

    a: str
    """The folder of the one side, or of both."""
    b: str | None
    axis: str
    base: str | None
    """Of one folder: the value of the axis that the others are held against, and why it is that one."""
    base_why: str
    verdicts: tuple[Verdict, ...]
    matched: tuple[Matched, ...]
    unmatched: tuple[Unmatched, ...]
    overall: tuple[Overall, ...]
    allowed: Mapping[str, str]
    """Keys that were let differ by the person who asked, and their reasons."""
    stamps: tuple[str, ...]
    """One sentence for each of them, which stands in everything that is made from this."""
    caveats: tuple[str, ...]
    notes: tuple[str, ...]
    labels: tuple[str, ...] = field(default=())
    """`simulated`, `synthetic`, `imported from TOOL`: what is true of a side at least."""


def shown(value: Any, most: int = 60) -> str:
    """A value of a key for people."""
    text = "not known" if value is None else value if isinstance(value, str) else canonical(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
