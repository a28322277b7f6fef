"""What a run is: it decides which table its cell stands in, and what the pictures of it are of."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from melt.analysis.ceiling import ENGINE as ROOFLINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.records import Metric, Resolved, RunRecord

Kind = Literal["infer", "generate", "bench", "score", "roofline"]
"""An inference · tokens one by one · llama-bench's own definitions · the likelihood of a text · the device itself."""
KINDS: tuple[Kind, ...] = ("infer", "generate", "bench", "score", "roofline")

_OF_MODE: Mapping[Any, Kind] = MappingProxyType(
    {"fixed": "generate", "prompt": "generate", "conversation": "generate", "bench": "bench", "score": "score"}
)
_OF_ENGINE: Mapping[Any, Kind] = MappingProxyType(
    {"llama.cpp": "generate", "onnxruntime": "infer", ROOFLINE: "roofline"}
)
_BY_FIGURE: tuple[tuple[str, Kind], ...] = (
    ("decode_tok_per_s", "generate"),
    ("tg_tok_per_s", "bench"),
    ("pp_tok_per_s", "bench"),
    ("perplexity", "score"),
)
"""A program of the person's own says by its figures what it did."""


def kind_of(record: RunRecord) -> Kind:
    """The kind of a run, from its settings, its engine, and at last its figures."""
    engine = record.fingerprint.hard.get("engine")
    if engine == ROOFLINE:
        return "roofline"
    return asked_kind(record.resolved) or _OF_ENGINE.get(_word(engine)) or _by_figures(record.metrics) or "infer"


def asked_kind(resolved: Mapping[str, Resolved]) -> Kind | None:
    """The kind that the settings of a cell ask for; None where they do not tell."""
    mode = resolved.get("params.mode")
    found = _OF_MODE.get(_word(mode.value)) if mode is not None else None
    return found or ("generate" if "params.generate_tokens" in resolved else None)


def _by_figures(metrics: Mapping[str, Metric]) -> Kind | None:
    return next((kind for name, kind in _BY_FIGURE if name in metrics and metrics[name].value is not None), None)


def _word(value: Any) -> str:
    """A setting may be anything; only a word can name a mode."""
    return value if isinstance(value, str) else ""
