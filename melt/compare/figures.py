"""Which metrics a comparison is of unless others are named, and which of them are energy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melt.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = "all"
MAIN = (
    *("latency_p50_s", "latency_p99_s", "inferences_per_s", "first_inference_s"),
    *("decode_tok_per_s", "prefill_tok_per_s", "ttft_s", "ttft_text_s", "itl_p50_s", "itl_p99_s"),
    *("tg_tok_per_s", "pp_tok_per_s", "score_tok_per_s", "perplexity", "sustained_ratio"),
    *("read_bytes_per_s", "fp32_madd_per_s", "int8_madd_per_s"),
    *("load_s", "load_cold_s", "load_warm_s", "peak_memory_bytes"),
    *("j_per_inference", "j_per_token", "j_per_prompt_token", "power_mean_w"),
)
"""In the order in which they are shown."""
_ENERGY = re.compile(r"(?:energy|power|j_per|edp|charge)_.*|prompts_per_battery")


def is_energy(metric: str) -> bool:
    """Whether a metric is of energy or power, and so stands on a boundary."""
    return _ENERGY.fullmatch(metric.partition(".")[0]) is not None


def chosen(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The metrics to compare, of those that a run has or lacks: the main ones where none is named.

    Where the results have no main one, such as those of another tool, all. Raises UsageError for one that no run has.
    """
    for name in wanted:
        if name not in (*there, ALL):
            raise UsageError(f"--metric {name}: no run here has such a metric: {nearest(name, (*there, ALL))}")
    if ALL in wanted:
        return list(there)
    if wanted:
        return list(dict.fromkeys(wanted))
    return [name for name in MAIN if name in there] or list(there)
