"""A suite of a dozen runs, and short ways to change it and to ask its index."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pandas as pd
from made_results import GAPS, LEVELS, Results, plan_of, record_of

if TYPE_CHECKING:
    from pathlib import Path

    from melt.history import Index

SMALL = Results(sessions=2, blocks=3, cells=("small", "large"))
EACH = len(LEVELS) + len(GAPS)
AT = dt.datetime(2026, 1, 1, 4, tzinfo=dt.UTC)


def sessions(suite: Path) -> list[Path]:
    return sorted(plan.parent for plan in suite.glob("*/session.json"))


def run_folders(suite: Path) -> list[Path]:
    return sorted(file.parent for file in suite.glob("*/*/run.json"))


def put(session: Path, /, run_id: str = "20260101T040000Z-00000000", **changes: Any) -> Path:
    """One more run's folder in a session, its record with changes."""
    plan = plan_of(session.parent.name, session.name, SMALL)
    record = record_of(SMALL, plan, plan["order"][0], AT) | {"run_id": run_id} | changes
    (session / run_id).mkdir()
    (session / run_id / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return session / run_id


def change(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "run.json").read_text()) | changes
    (folder / "run.json").write_text(json.dumps(record))


def runs_of(found: Index) -> set[str]:
    return set(found.frame["run_id"])


def counted(found: Index) -> dict[str, bool]:
    each = found.frame.drop_duplicates("run_id")
    return dict(zip(each["run_id"], each["counts"].tolist(), strict=True))


def of(found: Index, folder: Path) -> pd.DataFrame:
    return found.frame[found.frame["run_id"] == folder.name]


def same(left: Index, right: Index) -> None:
    pd.testing.assert_frame_equal(left.frame, right.frame)
    assert left.unreadable == right.unreadable
