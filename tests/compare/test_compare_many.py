"""Many cells: each gets its own verdict, and what is read of a fingerprint is read once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from big_index import METRICS, big

from melt.compare import Asked, compared, runs
from melt.history.index import Index

if TYPE_CHECKING:
    import pytest


def test_ten_thousand_figures_give_as_many_verdicts_and_each_fingerprint_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    class Counting:
        """json, as far as runs use it."""

        @staticmethod
        def loads(text: str) -> Any:
            read.append(text)
            return json.loads(text)

    monkeypatch.setattr(runs, "json", Counting)
    frame = big(cells=100, blocks=4)
    found = compared({"big": Index(frame)}, [frame], Asked())
    assert len(found.verdicts) == 100 * len(METRICS)
    assert len(read) == len(set(read)) == 100
    assert {one.found.ratio > 1 for one in found.verdicts if one.found is not None and one.found.ratio} == {True}
    assert {one.word for one in found.verdicts} <= {"faster", "slower", "more", "equivalent", "inconclusive"}
