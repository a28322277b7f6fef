"""The data classes that everything agrees on: what a sensor is, what a run left behind, what a number means.

Nothing here touches a file, a device or a clock. Records are immutable; a missing value is a value with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

SCHEMA = 1
"""The shape of run.json and session.json; a reader upgrades older ones and refuses newer ones."""

METRIC_VERSION = 2
"""Raised whenever the same raw data would give another number; CHANGELOG says why."""

NAME = r"^[a-z0-9_-][a-z0-9._-]{0,63}$"
"""What a workload, suite, device, profile or sensor may be called: never a hidden file, nor the folder above."""


class Strict(BaseModel):
    """The base of everything that is read from or written to a file: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")


# --------------------------------------------------------------------------------------------- what is sampled

Quantity = Literal[
    "clock",
    "temperature",
    "cooling",
    "memory",
    "load",
    "power",
    "energy",
    "current",
    "voltage",
    "charge",
    "level",
    "charger",
    "throttle",
    "count",
]
Boundary = Literal["rail", "soc", "module", "board_input", "battery", "wall"]
Provenance = Literal["measured", "counter", "modelled", "estimated"]

UNITS: Mapping[Quantity, str] = {
    "clock": "hz",
    "temperature": "c",
    "cooling": "step",
    "memory": "bytes",
    "load": "1",
    "power": "w",
    "energy": "j",
    "current": "a",
    "voltage": "v",
    "charge": "coulomb",
    "level": "1",
    "charger": "1",
    "throttle": "1",
    "count": "1",
}
"""The one unit of each quantity: a parser converts to it, nobody after it converts again.

A `level` is a battery's, from 0 to 1; a `charger` is 0 where none is plugged in; a `throttle` is 0 where the device
says that nothing slows it, and more otherwise.
"""


class Response(Strict):
    """How a sensor of power follows what it measures, and how far it may be off. None is not known."""

    refresh_s: float | None = Field(None, gt=0, le=3600)
    """How often its value is made anew; reading more often gives the same one again."""
    averages: bool | None = None
    """Whether a value is the mean since the one before it, and no momentary one."""
    lag_s: float = Field(0.0, ge=0, le=60)
    """How much later than it was so a value appears, beyond the half period of one that averages."""
    lag_error_s: float | None = Field(None, ge=0, le=60)
    """To how much the lag is known."""
    gain_error: float = Field(0.0, ge=0, le=1)
    """The instrument's own: a share of the value."""
    offset_error: float = Field(0.0, ge=0)
    """The instrument's own, in the unit of the channel."""
    calibrated: bool = False
    """Whether somebody has measured this, and did not copy it from a data sheet."""


class TotalRule(Strict):
    """Which channels are a device's total: one that is it, or several whose sum it is."""

    sum: tuple[str, ...] = Field(min_length=1)
    boundary: Boundary
    excludes: tuple[str, ...] = ()
    """What the sum leaves out, in words for people."""


class BatteryNote(Strict):
    """What the conversions of energy to charge and to prompts a battery need."""

    capacity_mah: float = Field(gt=0, le=1e6)
    voltage_v: float = Field(gt=0, le=1000)
    """The nominal one, at which a charge is stated."""


class IdlePower(Strict):
    """The power of the device in the same state without the engine, measured by the run `run_id`."""

    power_w: float = Field(allow_inf_nan=False)
    error_w: float = Field(ge=0, allow_inf_nan=False)
    length_s: float
    run_id: str
    channels: tuple[str, ...]
    """What it was measured by: another total has another idle power."""


class EnergyBasis(Strict):
    """What a run's energy stands on beside its trace, so that it can be computed again."""

    total: TotalRule | None = None
    no_total: str | None = None
    """Why the profile's rule cannot be used on this unit, such as a rail that it lacks."""
    idle: IdlePower | None = None
    battery: BatteryNote | None = None


@dataclass(frozen=True)
class Channel:
    """One number that a sensor's text holds, in the unit of its quantity (`UNITS`).

    `parse` is pure: the bytes that were read to a float; it raises ParseError and nothing else.
    `boundary` and `provenance` are set for power and energy. A counter that wraps does so at `wraps_at`.
    """

    name: str
    quantity: Quantity
    parse: Callable[[bytes], float]
    boundary: Boundary | None = None
    provenance: Provenance | None = None
    wraps_at: float | None = None
    raw_per_unit: float | None = None
    """How many of the raw number make one unit, where the text is one number: what a limit on the device is set in."""
    label: str = ""
    """What the device itself calls it, such as a rail's name; a profile finds it by that."""
    response: Response | None = None
    not_for_energy: str | None = None
    """Why no energy may be published from it, such as a current whose sign and unit nobody has calibrated."""

    @property
    def unit(self) -> str:
        return UNITS[self.quantity]


@dataclass(frozen=True)
class Sensor:
    """A reading taken repeatedly: a file (`path`) or a bounded command (`argv`), every `period_s`.

    Files `also` are read at the same moment; their texts follow the first one's, a line end between each and the next.
    """

    name: str
    channels: tuple[Channel, ...]
    period_s: float
    path: str | None = None
    argv: tuple[str, ...] = ()
    timeout_s: float = 1.0
    reopen: bool = False
    """A file that has to be opened anew for a fresh value, instead of being read again from its start."""
    also: tuple[str, ...] = ()
    as_root: bool = False
    """Whether its files are opened as root: the account that melt logs in with may not."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file of it, in the order of their texts."""
        return (self.path, *self.also) if self.path is not None else ()

    @property
    def source(self) -> str:
        return " ".join(self.paths or self.argv)


@dataclass(frozen=True)
class Fact:
    """One thing known about a device, or the reason why it is not known."""

    name: str
    value: str | int | float | None
    reason: str | None = None
    source: str = ""
    """The file or command that told it."""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError(f"fact {self.name}: a value or a reason, and one of them")


@dataclass(frozen=True)
class Captured:
    """What a device answered to one path or command: bytes, or the error that stood in their place."""

    source: str
    data: bytes = b""
    error: str | None = None
    """`missing`, `denied`, `hangs`, `io` … None when `data` is the answer."""


# ------------------------------------------------------------------------------------------ what a run leaves


class ReasonCode(StrEnum):
    """The closed list of what can be wrong with a run."""

    THROTTLED = "throttled"
    SLOWED = "slowed"
    CHARGER = "charger"
    CLOCK_BOUND = "clock_bound"
    SENSOR_GAP = "sensor_gap"
    FOREIGN_LOAD = "foreign_load"
    SWAP = "swap"
    UNDER_VOLTAGE = "under_voltage"
    AFFINITY = "affinity"
    NOT_STEADY = "not_steady"
    SUSPENDED = "suspended"
    LINK_LOST = "link_lost"
    REBOOTED = "rebooted"
    AGENT_KILLED = "agent_killed"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    OUTPUT_MISMATCH = "output_mismatch"
    CEILING = "ceiling"
    # melt's additions to the list in the guide: states in which no run took place, and a caveat
    PRECHECK = "precheck"
    LOCKED = "locked"
    REFUSED = "refused"
    """The device or the engine said no before the first inference (no space, noexec, a model it cannot load)."""
    NO_SPACE = "no_space"
    """The device's work folder was full when the run had ended: what it wrote may be cut."""
    PIN = "pin"
    """A value that was to be held did not hold, or could not be put back."""


class Reason(Strict):
    """Why a run is less than valid: a code from the closed list and a sentence with the figures."""

    code: ReasonCode
    detail: str


class Metric(Strict):
    """A number recomputed from raw data, or null with the reason. `n` is how many samples carry it."""

    value: float | None = Field(allow_inf_nan=False)
    n: int | None = None
    reason: str | None = None
    note: str | None = None
    """What a reader must know beside the number, such as an energy's boundary."""
    error: float | None = Field(None, ge=0, allow_inf_nan=False)
    """Half the width of what is stated: terms of the edges added linearly, random ones in quadrature, and the
    instrument's own gain and offset. It is no interval of repeated runs."""
    version: int | None = Field(None, ge=1)
    """The metric version that it was computed by; None is that of the record it stands in."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a metric has a value or a reason, and one of them")
        return self

    @model_serializer
    def _without_what_is_not(self) -> dict[str, Any]:
        names = ("n", "reason", "error", "note", "version")
        rest = {name: getattr(self, name) for name in names}
        return {"value": self.value, **{key: value for key, value in rest.items() if value is not None}}


def gap(reason: str) -> Metric:
    """A metric that is not known, and why."""
    return Metric(value=None, reason=reason)


class Resolved(Strict):
    """A parameter as used, and which file or flag it came from."""

    value: Any
    source: str = Field(alias="from")


class SensorNote(Strict):
    """What a channel of the trace is, so that a run folder explains itself."""

    sensor: str
    quantity: Quantity
    unit: str
    source: str
    period_s: float
    boundary: Boundary | None = None
    provenance: Provenance | None = None
    wraps_at: float | None = None
    label: str = ""
    response: Response | None = None
    not_for_energy: str | None = None
    clock_bound_s: float = 0.0
    """How far its stamps may be off the device's clock: more than nothing where another clock gave them."""


class MeterNote(Strict):
    """The power meter on the host that measured a run: which, and how well its clock is known."""

    name: str
    type: str
    serial: str | None
    boundary: Boundary
    rate_hz: float
    """What it gave in a second."""
    kept_hz: float
    """How many means of that are in the trace."""
    clock_bound_s: float | None
    """How far its stamps may be off the device's clock; null where they could not be mapped."""
    lost: int | None = None
    """Samples that it took and that never arrived; null where nobody lived to count them."""
    pulse_lag_s: float | None = None
    """By how much its power lay behind pulses that the device drew before the run, where that was asked for."""
    about: Mapping[str, str] = Field(default_factory=dict)
    """What else it said of itself: its model, its firmware, how it is set."""


class ImportNote(Strict):
    """Where a run comes from that melt did not carry out itself."""

    tool: str
    """Whose results they are: `llama-bench`, `pytest-benchmark`, …"""
    source: str
    """The file or folder as it was named."""
    corrections: tuple[str, ...] = ()
    """Each known mistake of the tool that was put right here, with both numbers where it gave one."""
    refused: Mapping[str, str] = Field(default_factory=dict)
    """What the source states and melt does not take over, by name, and why."""


class SuiteRef(Strict):
    name: str
    sha256: str


class Fingerprint(Strict):
    """What must match before two runs are compared (hard), and what travels as a caveat (soft)."""

    hard: Mapping[str, Any]
    soft: Mapping[str, Any]


class Clock(Strict):
    """The device's clocks over the run. Durations are CLOCK_MONOTONIC; the others are only compared with it."""

    suspend_s: float | None = None
    """How far CLOCK_BOOTTIME grew beyond it: the device slept. null when the agent did not live to say."""
    realtime_step_s: float | None = None
    """How far the wall clock was set during the run; no figure depends on it."""
    boottime_s: float | None = None
    """CLOCK_BOOTTIME at the begin: runs of one boot_id stand in this order, whatever the host's clock said."""


class Harness(Strict):
    """What measuring cost on the device."""

    agent_cpu_share: float | None = None
    """CPU time of the agent, as a share of one core over the run."""
    missed_deadlines: int | None = None
    samples: int | None = None
    late_p99_s: float | None = None


class Undo(Strict):
    """Whether everything that was changed on the device was put back."""

    complete: bool
    changed: tuple[str, ...] = ()


Status = Literal["ok", "failed", "skipped"]
Verdict = Literal["valid", "partial", "invalid"]


class RunRecord(Strict):
    """`run.json`: one fresh engine process for one cell on one device. Immutable."""

    schema_: int = Field(SCHEMA, alias="schema")
    metric_version: int = METRIC_VERSION
    melt: str
    """The version of melt that wrote it."""
    run_id: str
    session: str
    suite: SuiteRef
    workload: str
    cell: str
    block: int
    device: str
    profile: str
    profile_verified: bool
    simulated: bool
    synthetic_model: bool
    started_utc: str
    resolved: Mapping[str, Resolved]
    model: Mapping[str, Any] = Field(default_factory=dict)
    """Where the model's file is from, where that is a hub: source, commit, sha256, size_bytes."""
    fingerprint: Fingerprint
    facts: Mapping[str, Any]
    """What the device said of itself; a gap is `{"value": null, "reason": …}`."""
    boot_id: str | None
    clock: Clock
    status: Status
    verdict: Verdict
    reasons: tuple[Reason, ...]
    caveats: tuple[str, ...] = ()
    metrics: Mapping[str, Metric]
    engine: Mapping[str, Any]
    """What the engine reported of itself: version, provider coverage, output hash, largest difference."""
    sensors: Mapping[str, SensorNote]
    absent_sensors: Mapping[str, str] = Field(default_factory=dict)
    """Kinds of sensor that this device lacks, and why."""
    energy: EnergyBasis = EnergyBasis()
    meter: MeterNote | None = None
    imported: ImportNote | None = None
    harness: Harness
    host: Mapping[str, Any] = Field(default_factory=dict)
    """Wall time of each step on the host: precheck, deliver, start, watch, collect."""
    undo: Undo
    files: Mapping[str, str]
    """Name to `sha256:…` of every other file of the folder."""

    @property
    def usable(self) -> bool:
        return self.status == "ok" and self.verdict != "invalid"


class Event(Strict):
    """One line of events.jsonl: the device's CLOCK_MONOTONIC in ns, a name, and what belongs to it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    t: int
    ev: str

    def get(self, key: str, default: Any = None) -> Any:
        return (self.model_extra or {}).get(key, default)
