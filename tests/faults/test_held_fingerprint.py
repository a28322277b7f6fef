"""What a run was held at is in its fingerprint: runs held at something else are never pooled with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pinned_board import GOVERNOR, GPU, make_board, one_run

if TYPE_CHECKING:
    from workspace import Workspace

pytestmark = pytest.mark.peer


def test_every_value_that_was_to_be_held_is_in_the_fingerprint(workspace: Workspace) -> None:
    make_board(workspace)
    record = one_run(workspace, ["-c", "true"]).record
    held = record.fingerprint.hard["held"]
    assert {f"{GOVERNOR}=performance", f"{GPU}=800000000", "mode=MAXN"} <= set(held)
    assert held == sorted(held)
    assert record.fingerprint.hard["governor"] == "performance"
    assert record.undo.complete
    assert {f"{GPU} = 800000000", "mode = MAXN"} <= set(record.undo.changed)
