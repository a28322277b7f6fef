"""The ceiling of each run's device: among the runs of the report, or else the newest elsewhere in the results."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from melt.analysis.ceiling import ENGINE, SHARE, Ceiling, ceiling, share
from melt.report.kinds import kind_of
from melt.store import StoredRun, read_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from melt.records import RunRecord

Ceilings = dict[str, Ceiling]
"""By the id of the run that it is the ceiling of."""


def with_shares(runs: Sequence[StoredRun]) -> tuple[list[StoredRun], Ceilings]:
    """The runs, those of language models with the metric `bandwidth_share` beside what is stored, and the ceilings.

    What is stored is not changed. Reads the sessions beside those of the runs where their device has no ceiling here.
    """
    here = [run.record for run in runs if kind_of(run.record) == "roofline"]
    others = _Elsewhere(runs)
    out: list[StoredRun] = []
    ceilings: Ceilings = {}
    for run in runs:
        record = run.record
        if kind_of(record) not in ("generate", "bench") or not record.metrics:
            out.append(run)
            continue
        found = ceiling(record, here) or others.ceiling(run)
        if found is not None:
            ceilings[record.run_id] = found
        if kind_of(record) == "generate":
            metrics = {**record.metrics, SHARE: share(record, found)}
            run = replace(run, record=record.model_copy(update={"metrics": metrics}))  # noqa: PLW2901 - the same run
        out.append(run)
    return out, ceilings


class _Elsewhere:
    """The roofline runs of the results that the given runs lie in, read as far as they are asked for."""

    def __init__(self, runs: Sequence[StoredRun]) -> None:
        self._roots = {run.record.run_id: _root(run) for run in runs}
        self._sessions: dict[Path, list[RunRecord]] = {}
        self._listed: dict[Path, list[Path]] = {}

    def ceiling(self, run: StoredRun) -> Ceiling | None:
        root = self._roots.get(run.record.run_id)
        if root is None:
            return None
        of_sessions = (ceiling(run.record, self._runs(session)) for session in self._with_roofline(root))
        return next((found for found in of_sessions if found is not None), None)

    def _with_roofline(self, root: Path) -> list[Path]:
        """The sessions that hold the name of the engine in what they were asked to do, newest first."""
        if root not in self._listed:
            named = sorted(root.glob("*/*/session.json"), key=lambda file: file.parent.name, reverse=True)
            self._listed[root] = [file.parent for file in named if _mentions(file)]
        return self._listed[root]

    def _runs(self, session: Path) -> list[RunRecord]:
        if session not in self._sessions:
            self._sessions[session] = list(_records(session))
        return self._sessions[session]


def _records(session: Path) -> Iterator[RunRecord]:
    for file in sorted(session.glob("*/run.json")):
        if not file.parent.name.startswith(".") and isinstance(read := read_run(file.parent), StoredRun):
            yield read.record


def _root(run: StoredRun) -> Path | None:
    """The results folder, where the run lies in one as melt left it: <suite>/<session>/<run id>."""
    session = run.path.resolve().parent
    as_left = session.parent.name == run.record.suite.name and (session / "session.json").is_file()
    return session.parent.parent if as_left else None


def _mentions(file: Path) -> bool:
    try:
        return ENGINE.encode() in file.read_bytes()
    except OSError:
        return False
