"""Which findings of a night are more than chance gives somewhere among so many series. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.gate import Finding

FALSE_SHARE = 0.05
"""Of the confirmed changes of one night, so many may be chance (the q of Benjamini and Hochberg)."""


def controlled(findings: Sequence[Finding]) -> list[Finding]:
    """The findings of all series of one night, with false alarms controlled over them all.

    A confirmed one that so many series would give by chance becomes a suspect, and its `rule` says so. By Benjamini
    and Hochberg (1995) over every finding that has a `p`.
    """
    number, worst = sum(one.p is not None for one in findings), least_likely(findings)
    return [_controlled(one, number, worst) for one in findings]


def least_likely(findings: Sequence[Finding]) -> float:
    """The largest p that is more than chance among so many findings; −1 where none is."""
    ranked = sorted(one.p for one in findings if one.p is not None)
    return max((p for rank, p in enumerate(ranked, 1) if p <= FALSE_SHARE * rank / len(ranked)), default=-1.0)


def _controlled(one: Finding, series: int, worst: float) -> Finding:
    if one.p is None or one.p <= worst or one.found not in ("confirmed", "provisional"):
        return one
    said = f"{one.rule}; by chance (p = {one.p:.1g}) so much is to be expected somewhere in {series:,} series"
    if one.found == "provisional":
        return replace(one, rule=said)
    return replace(one, found="suspect", weaker=False, rule=f"{said}, so it is not confirmed")
