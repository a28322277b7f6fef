"""The seam to other tools' results: what an importer recognises, and what it gives of them.

An importer is pure but for reading the files at a path. It never invents: what the source does not tell is null in the
fingerprint and a gap among the metrics, with a reason that begins `not_told: `. What a source states and melt could
not recompute goes to `note.refused`; what it states wrongly, and melt put right, to `note.corrections`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from melt.analysis.events import Asked
from melt.records import METRIC_VERSION, Fingerprint, ImportNote, Metric, gap

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd

    from melt.records import EnergyBasis, Reason, Resolved, SensorNote, Status

_HARD = (
    *("workload", "engine", "engine_version", "engine_compiler", "provider_nodes", "synthetic_model", "simulated"),
    *("profile", "machine", "governor", "device_governors", "power_mode", "jetson_clocks", "held", "energy_total"),
    *("cpus", "page_cache", "model_sha256", "threads"),
)
"""What every run is compared by: null in an imported one until its source tells."""


@dataclass(frozen=True)
class Series:
    """Raw data in melt's own form: its own analysis makes the metrics and the reasons of them."""

    events: bytes = b""
    """Lines as in events.jsonl: JSON with `t` (ns of one monotonic clock) and `ev`."""
    trace: pd.DataFrame | None = None
    """Columns as `melt.job.trace.COLUMNS`, one row a channel and sample, sorted by `t_ns`, of the same clock."""
    sensors: Mapping[str, SensorNote] = field(default_factory=dict)
    """What each channel of the trace is."""
    asked: Asked = field(default_factory=Asked)
    """What the analysis is to know, the rule of the energy's total among it."""


@dataclass(frozen=True)
class ImportedRun:
    """One process of the tool for one workload, as far as its files tell."""

    device: str | None
    """What the source calls the device, or says that it is; None where it says nothing."""
    workload: str
    note: ImportNote
    fingerprint: Fingerprint
    """Made by `fingerprint` of this module."""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Computed from the raw data of the source. They replace those of the same name from `series`."""
    series: Series | None = None
    cell: str | None = None
    """The workload where it is None. A parameter that differs within an import is added to it: `toy-q4[threads=2]`."""
    block: int | None = None
    """Which repetition the source says that this is; counted in the order of time where it is None."""
    started_utc: str | None = None
    """`20261121T031500Z` or ISO 8601 with an offset; None where it is not told."""
    profile: str | None = None
    resolved: Mapping[str, Resolved] = field(default_factory=dict)
    """The settings, `params.*`, each with the source that told it."""
    status: Status = "ok"
    reasons: tuple[Reason, ...] = ()
    caveats: tuple[str, ...] = ()
    engine: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the source says of the device."""
    energy: EnergyBasis | None = None
    """None: that of `series.asked`."""
    boot_id: str | None = None
    simulated: bool = False
    synthetic_model: bool = False
    raw: Mapping[str, Path] = field(default_factory=dict)
    """The original files of this run, by the names that they get in its folder. Never empty: their SHA-256 is what an
    import is known by."""


@dataclass(frozen=True)
class Imported:
    """What a path held: its runs, and one sentence (file, key, why) for each thing that could not be read."""

    tool: str
    runs: tuple[ImportedRun, ...]
    problems: tuple[str, ...] = ()


class Importer(Protocol):
    """The results of one tool. A path is a file, or a folder that is one set of results as a whole."""

    @property
    def tool(self) -> str:
        """Its name, such as `llama-bench`."""
        ...

    def recognises(self, path: Path) -> bool:
        """Whether this is the tool's, from a bounded look at the content. Never raises."""
        ...

    def read(self, path: Path) -> Imported:
        """Everything that can be read of what was recognised. Raises nothing: what cannot be read is a problem."""
        ...


def fingerprint(tool: str, told: Mapping[str, Any], soft: Mapping[str, Any] | None = None) -> Fingerprint:
    """The keys of an imported run: what its source told, null for what it did not, and `imported` for all of them.

    So imported runs are never compared with melt's own, nor with another tool's, but where a person asks for it.
    """
    hard = {**dict.fromkeys(_HARD), "metric_version": METRIC_VERSION, **told, "imported": tool}
    return Fingerprint(hard=hard, soft={**(soft or {})})


def not_told(why: str) -> Metric:
    """A metric that the source does not tell."""
    return gap(f"not_told: {why}")
