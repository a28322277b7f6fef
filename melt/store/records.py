"""What the files of a results folder hold beside run.json: a session's plan, a job under way, a later analysis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from melt.records import SCHEMA, EnergyBasis, Metric, Reason, Resolved, RunRecord, Strict, SuiteRef, Verdict


class CellRecord(Strict):
    """A cell of the session: a workload with its parameters on one device, as resolved when the session began."""

    id: str
    workload: str
    device: str
    resolved: Mapping[str, Resolved]


class Slot(Strict):
    """One planned run: a cell in a block of its device's order."""

    device: str
    block: int
    cell: str


class SessionRecord(Strict):
    """`session.json`: what was to be done, with the text of every file it came from."""

    schema_: int = Field(SCHEMA, alias="schema")
    session: str
    suite: SuiteRef
    melt: str
    cells: tuple[CellRecord, ...]
    order: tuple[Slot, ...]
    sources: Mapping[str, str]
    """The suite's and the workloads' files as they were, by name."""
    canary: tuple[str, ...] = ()
    """The workloads that the suite names as frozen."""


class Pending(Strict):
    """A job that was given to a device: what is needed to adopt it after this computer died."""

    run_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    slot: Slot
    started_utc: str
    address: str
    root: str
    """The device as it was reached, and melt's folder on it: the job is there and nowhere else."""
    idle_s: float
    host: Mapping[str, float]
    """Wall seconds of the steps before the start."""
    caveats: tuple[str, ...] = ()


class Analysis(Strict):
    """`analysis-<metric version>.json`: a later analysis of a run's raw data, beside run.json, which stays as it is."""

    schema_: int = Field(SCHEMA, alias="schema")
    metric_version: int = Field(ge=1)
    melt: str
    """The version of melt that made it."""
    run_id: str
    verdict: Verdict
    reasons: tuple[Reason, ...]
    metrics: Mapping[str, Metric]
    carried: tuple[str, ...] = ()
    """Metrics that raw data cannot give again: they are the record's, and keep the version that they had."""
    energy: EnergyBasis = EnergyBasis()
    """What the energy stands on, its idle power being of this analysis too."""

    def applied_to(self, record: RunRecord) -> RunRecord:
        """The record with what this analysis says in place of what it said."""
        fingerprint = record.fingerprint.model_copy(
            update={"hard": {**record.fingerprint.hard, "metric_version": self.metric_version}}
        )
        changes = {name: getattr(self, name) for name in ("metric_version", "verdict", "reasons", "metrics", "energy")}
        return record.model_copy(update={**changes, "fingerprint": fingerprint})
