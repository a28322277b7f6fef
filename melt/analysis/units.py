"""The SI unit that stands in a metric's name."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        "_tok_per_s": "tok/s",
        "_bytes_per_s": "bytes/s",
        "_madd_per_s": "madd/s",
        "_bytes_per_token": "bytes/tok",
        "_per_s": "1/s",
        "_bytes": "bytes",
        "_hz": "hz",
        "_s": "s",
        "_j": "j",
        "_w": "w",
        "_c": "c",
    }
)


def unit_of(metric: str) -> str:
    """The SI unit that stands in a metric's name: `clock_hz.cpu0` is in `hz`; `1` for counts and shares."""
    base = metric.partition(".")[0]
    if base.startswith("j_per_"):
        return "j"
    return next((unit for suffix, unit in _SUFFIXES.items() if base.endswith(suffix)), "1")
