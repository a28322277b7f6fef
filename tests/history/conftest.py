"""The small suite, and what is read of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from made_results import make
from small_suite import SMALL

from melt.history import index

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return make(tmp_path / "results" / "demo", SMALL)


@pytest.fixture
def was_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run folders that are read from here on."""
    seen: list[str] = []
    inner = index.read_run

    def noting(path: Path) -> Any:
        seen.append(path.name)
        return inner(path)

    monkeypatch.setattr(index, "read_run", noting)
    return seen
