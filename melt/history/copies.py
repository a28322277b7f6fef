"""Runs that lie in several folders, as copies of a run's, a session's or a suite's folder leave them. Pure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Identity = tuple[str, str, str]
"""A run's suite, session and run id, as its record has them."""
Place = tuple["Path", str]
"""A suite's folder, and SESSION/RUN below it."""


def copies(suites: Sequence[tuple[Path, Mapping[str, Identity]]]) -> tuple[dict[Path, set[str]], list[str]]:
    """Which run folders of each suite's folder are left out so that each run is there once, and notes that say so."""
    places: dict[Identity, list[Place]] = {}
    for suite, runs in suites:
        for folder, identity in runs.items():
            places.setdefault(identity, []).append((suite, folder))
    left_out: dict[Path, set[str]] = {}
    pairs: dict[tuple[Path, Path], list[tuple[Path, Path]]] = {}
    for identity, found in places.items():
        if len(found) == 1:
            continue
        taken, *others = sorted(found, key=partial(_away, identity))
        kept = taken[0] / taken[1]
        for suite, folder in others:
            left_out.setdefault(suite, set()).add(folder)
            copy = suite / folder
            pairs.setdefault((copy.parent, kept.parent), []).append((copy, kept))
    return left_out, [_told(*folders, found) for folders, found in pairs.items()]


def _away(identity: Identity, found: Place) -> tuple[bool, bool, bool, str, str]:
    """Of copies, the least of this is the one that is taken, as `counts` has it too."""
    (suite, session, run_id), (above, folder) = identity, found
    of_session, _, of_run = folder.partition("/")
    return of_run != run_id, of_session != session, above.resolve().name != suite, str(above), folder


def _told(where: Path, there: Path, pairs: Sequence[tuple[Path, Path]]) -> str:
    if len(pairs) == 1:
        return f"{pairs[0][0]} is a copy of {pairs[0][1]}: it is left out"
    return f"{len(pairs)} runs in {where} are copies of those in {there}: they are left out"
