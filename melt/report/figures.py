"""Which figures the table of each kind of run shows, in units for people."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from melt.analysis.ceiling import FP32, INT8, ONE_THREAD, READ, SHARE
from melt.report.across import across
from melt.report.numbers import significant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from melt.report.across import Across
    from melt.report.kinds import Kind
    from melt.report.select import Cell


@dataclass(frozen=True)
class Figure:
    """A column that shows a metric: `per_unit` SI units make one of what is shown.

    `about` is what a reader must know of it, in a footnote. The `main` figure's interval is shown, or why there is
    none; of some others it is shown where there is `also` one.
    """

    metric: str
    header: str
    unit: str
    per_unit: float
    about: Callable[[Cell, Across], tuple[str, ...]] = lambda _cell, _found: ()
    interval: Literal["main", "also", "none"] = "none"
    highest: bool = False


BEFORE = 3
"""So many figures stand before the verdict: a narrow terminal shows the first columns only."""


def above_ceiling(found: Across) -> str | None:
    """The flag of a share that no memory can give."""
    if found.summary.centre is None or found.summary.centre <= 1:
        return None
    shown = significant(100 * found.summary.centre)
    return (
        f"{shown} % is above what the memory gives: the weights fit into the processor's caches, at least in part, or "
        "something slowed the ceiling's own run"
    )


def _boundary(_: Cell, found: Across) -> tuple[str, ...]:
    """Energy is never shown without where it was measured and how."""
    told = list(dict.fromkeys(note.partition(";")[0] for note in found.notes))
    return (f"energy: {' / '.join(told)}{_off_by(found)}",) if told and found.values else ()


def _off_by(found: Across) -> str:
    """By how much each run's figure may be off, beside what the runs differ by."""
    return f"; each run's figure within ±{significant(100 * found.error_share, 2)} %" if found.error_share else ""


def _of_ceiling(_: Cell, found: Across) -> tuple[str, ...]:
    """A share is never shown without what it is of."""
    if not found.values:
        return ()
    flag = above_ceiling(found)
    return (*(f"bandwidth share: {note}" for note in found.notes), *([f"bandwidth share: {flag}"] if flag else []))


def _cold(cell: Cell, found: Across) -> tuple[str, ...]:
    cold = bool(found.values) and bool(across(cell, "load_cold_s").values)
    return ("load: cold, the model was not in the page cache",) if cold else ()


_LOAD = Figure("load_s", "load", "s", 1)
_MEMORY = Figure("peak_memory_bytes", "peak memory", "MB", 1e6)
_HOTTEST = Figure("temperature_max_c", "hottest", "°C", 1, highest=True)
_INFER = (
    Figure("latency_p50_s", "p50 [95 % interval]", "ms", 1e-3, interval="main"),
    Figure("latency_p90_s", "p90", "ms", 1e-3),
    Figure("inferences_per_s", "rate", "1/s", 1),
    _LOAD,
    Figure("first_inference_s", "first inference", "ms", 1e-3),
    _MEMORY,
    Figure("j_per_inference", "energy / inference", "mJ", 1e-3, about=_boundary),
    Figure("power_mean_w", "power", "W", 1, about=_boundary),
    _HOTTEST,
)
_OF_A_MODEL = (
    Figure("load_s", "load", "s", 1, about=_cold),
    Figure("peak_memory_bytes", "peak memory", "MB", 1e6, interval="also"),
    Figure("peak_anon_bytes", "anonymous", "MB", 1e6),
    Figure("peak_file_bytes", "file-backed", "MB", 1e6),
)
_GENERATE = (
    Figure("decode_tok_per_s", "decode [95 % interval]", "tok/s", 1, interval="main"),
    Figure("prefill_tok_per_s", "prefill", "tok/s", 1, interval="also"),
    Figure("ttft_s", "first token", "ms", 1e-3, interval="also"),
    Figure("itl_p50_s", "between tokens p50", "ms", 1e-3, interval="also"),
    Figure("itl_p95_s", "between tokens p95", "ms", 1e-3, interval="also"),
    Figure(SHARE, "bandwidth share", "%", 1e-2, about=_of_ceiling, interval="also"),
    *_OF_A_MODEL,
    Figure("j_per_token", "energy / token", "mJ", 1e-3, about=_boundary),
    Figure("j_per_prompt_token", "energy / prompt token", "mJ", 1e-3, about=_boundary),
    Figure("power_mean_w", "power", "W", 1, about=_boundary),
    _HOTTEST,
)
_BENCH = (
    Figure("tg_tok_per_s", "tg [95 % interval]", "tok/s", 1, interval="main"),
    Figure("pp_tok_per_s", "pp", "tok/s", 1, interval="also"),
    *_OF_A_MODEL,
    Figure("j_per_inference", "energy / repetition", "J", 1, about=_boundary),
    _HOTTEST,
)
_SCORE = (
    Figure("perplexity", "perplexity [95 % interval]", "", 1, interval="main"),
    Figure("greedy_share", "likeliest", "%", 1e-2, interval="also"),
    Figure("score_tok_per_s", "scored", "tok/s", 1, interval="also"),
    *_OF_A_MODEL,
    _HOTTEST,
)
_ROOFLINE = (
    Figure(READ, "read, best [95 % interval]", "GB/s", 1e9, interval="main"),
    Figure(ONE_THREAD, "read, 1 thread", "GB/s", 1e9, interval="also"),
    Figure(FP32, "fp32 multiply-adds", "G/s", 1e9, interval="also"),
    Figure(INT8, "int8 multiply-adds", "G/s", 1e9, interval="also"),
    _HOTTEST,
)
FIGURES: Mapping[Kind, tuple[Figure, ...]] = MappingProxyType(
    {"infer": _INFER, "generate": _GENERATE, "bench": _BENCH, "score": _SCORE, "roofline": _ROOFLINE}
)
"""By kind, in the order of the tables; the first figure of each is its main one."""
