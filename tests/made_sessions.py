"""Runs and sessions made from a seed, for tests that do not lie beside those of the report."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "report"))

from made_llm import model
from made_runs import Made, session_of, skipped, store

__all__ = ["Made", "model", "session_of", "skipped", "store"]
