"""Where a language model stands under the roof of its device: the points of roofline.png, as numbers.

x is how many multiply-adds a byte of weights read serves: a token of decoding multiplies each weight once, so it is the
weights ÷ their bytes; a batch of a prompt serves all of its tokens with one reading. y is multiply-adds a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from melt.report.across import across

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.analysis.summary import Summary
    from melt.records import Resolved
    from melt.report.kinds import Kind
    from melt.report.select import Cell

Phase = Literal["decode", "prefill"]
_RATES: Mapping[Kind, Mapping[Phase, str]] = MappingProxyType(
    {
        "generate": {"decode": "decode_tok_per_s", "prefill": "prefill_tok_per_s"},
        "bench": {"decode": "tg_tok_per_s", "prefill": "pp_tok_per_s"},
    }
)
_UBATCH = 512
"""llama.cpp's own `ubatch`, for a record that does not have it."""


@dataclass(frozen=True)
class Point:
    """`tok_per_s` over the runs, and the same as multiply-adds: one token is `madd_per_token` of them."""

    cell: Cell
    phase: Phase
    intensity: float
    madd_per_token: float
    tok_per_s: Summary

    @property
    def madd_per_s(self) -> float:
        return (self.tok_per_s.centre or 0.0) * self.madd_per_token

    @property
    def interval(self) -> tuple[float, float] | None:
        low, high = self.tok_per_s.low, self.tok_per_s.high
        return None if low is None or high is None else (low * self.madd_per_token, high * self.madd_per_token)

    @property
    def name(self) -> str:
        """As the kind of run calls it."""
        bench = {"decode": "tg", "prefill": "pp"}
        return bench[self.phase] if self.cell.kind == "bench" else self.phase


def points(cell: Cell) -> list[Point]:
    """The decode and the prefill of a cell; none where its runs do not tell how many weights a token takes."""
    count, read = (across(cell, f"weight_{name}_per_token").summary.centre for name in ("count", "bytes"))
    rates = _RATES.get(cell.kind)
    if not count or not read or count < 0 or read < 0 or rates is None:
        return []
    found = []
    for phase, metric in rates.items():
        summary = across(cell, metric).summary
        batch = 1.0 if phase == "decode" else _batch(cell)
        if summary.centre is not None and summary.centre > 0 and batch is not None:
            found.append(Point(cell, phase, batch * count / read, count, summary))
    return found


def _batch(cell: Cell) -> float | None:
    """How many tokens of a prompt one reading of the weights serves: the mean over the runs that count."""
    found = []
    for run in cell.used:
        resolved, metrics = run.record.resolved, run.record.metrics
        prompt, largest = (_count(resolved, f"params.{key}") for key in ("prompt_tokens", "ubatch"))
        evaluated, made = metrics.get("prefill_tok_per_s"), metrics.get("requests")
        if evaluated is not None and evaluated.n and made is not None and made.value:
            prompt = evaluated.n / made.value  # as it was, where the settings name a text
        if prompt:
            found.append(prompt / math.ceil(prompt / (largest or _UBATCH)))
    return sum(found) / len(found) if found else None


def _count(resolved: Mapping[str, Resolved], key: str) -> float | None:
    asked = resolved[key].value if key in resolved else None
    return float(asked) if isinstance(asked, int) and asked > 0 else None
