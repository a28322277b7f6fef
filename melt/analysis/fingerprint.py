"""What must be the same before two runs are compared: each key, whether it is hard, and where its value comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Key:
    """A key of the fingerprint. A hard one must match; a soft one travels as a caveat."""

    name: str
    hard: bool
    source: str
    """How its value is obtained, in words for people."""


@dataclass(frozen=True)
class Difference:
    """A key in which two fingerprints differ."""

    key: str
    a: Any
    b: Any
    hard: bool


KEYS: Mapping[str, Key]
AXES: Mapping[str, frozenset[str]]
"""Each axis that a comparison may vary, and every key that varies with it."""


def axis_keys(axis: str) -> frozenset[str]:
    """The keys that may differ along an axis; any key of the registry is an axis of its own. Raises UsageError."""
    raise NotImplementedError


def differences(a: Mapping[str, Any], b: Mapping[str, Any], varying: frozenset[str] = frozenset()) -> list[Difference]:
    """Every key in which two sets of keys differ, without those that may; one that only one side has differs."""
    raise NotImplementedError
