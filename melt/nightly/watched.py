"""Which metrics a night is judged by unless others are asked for, and which way of each is the worse one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from melt.analysis.contrast import sense
from melt.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Direction = Literal["worse", "better", "changed"]

WATCHED = frozenset(
    {
        *("latency_p50_s", "latency_p90_s", "latency_p99_s", "inferences_per_s", "load_s"),
        *("decode_tok_per_s", "prefill_tok_per_s", "ttft_s", "itl_p50_s", "itl_p95_s"),
        *("pp_tok_per_s", "tg_tok_per_s", "score_tok_per_s", "perplexity"),
        *("read_bytes_per_s", "fp32_madd_per_s", "int8_madd_per_s"),
        *("peak_memory_bytes", "sustained_ratio", "time_to_10pct_drop_s"),
        *("j_per_inference", "j_per_token", "j_per_prompt_token", "power_mean_w"),
    }
)
"""The main figures of every kind of cell; a cell has some of them."""
ALL = "all"

_LESS_IS_BETTER = ("_bytes", "_j", "_w", "_c")
_BY_NAME: dict[str, bool] = {
    "perplexity": False,
    "sustained_ratio": True,
    "greedy_share": True,
    "bandwidth_share": True,
    "time_to_10pct_drop_s": True,
    "prompts_per_battery": True,
    "edp_js": False,
    "swap_bytes": False,
    "major_faults": False,
}


def more_is_better(metric: str) -> bool | None:
    """Whether a metric is the better the higher it is; None where its name does not tell."""
    name = metric.partition(".")[0]
    if name in _BY_NAME:
        return _BY_NAME[name]
    found = sense(name)
    if found != "amount":
        return found == "rate"
    return False if name.startswith("j_per_") or name.endswith(_LESS_IS_BETTER) else None


def direction(metric: str, change: float | None) -> Direction:
    """What a change, as a share of the baseline, is."""
    better = more_is_better(metric)
    if better is None or not change:
        return "changed"
    return "better" if (change > 0) == better else "worse"


def chosen(asked: Sequence[str], known: Collection[str]) -> frozenset[str] | None:
    """The metrics to judge: the main ones, those asked for, or with `all` every one (None). Raises UsageError."""
    if ALL in asked:
        return None
    for metric in asked:
        if metric not in known:
            raise UsageError(f"--metric {metric}: no run of the suite has it: {nearest(metric, [*known, ALL])}")
    return frozenset(asked) if asked else WATCHED
