"""The agent, compiled once and started for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agent_jobs import Bench

from melt import native
from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def agent() -> Path:
    """The agent as it is delivered to this computer."""
    try:
        return native.build("agent", native.host_machine(), here=True)
    except UsageError as error:
        pytest.skip(f"the agent is NOT tested: {error}")


@pytest.fixture
def bench(agent: Path, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(agent, tmp_path / "device")
    yield made
    made.close()
