"""What can be set in more than one file, and which file wins.

Command line > suite > lab > workload > profile > default. The resolved value keeps the name of where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from melt.errors import UsageError
from melt.records import Resolved, Strict

Preset = Literal["quick", "default", "paper"]
Positive = Annotated[float, Field(gt=0, le=7 * 86400)]
Share = Annotated[float, Field(ge=0, le=86400)]


class Protocol(Strict):
    """How often and how long: a preset, and what is to differ from it."""

    preset: Preset | None = None
    runs: Annotated[int, Field(ge=1, le=1000)] | None = None
    min_s: Share | None = None
    min_n: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    warmup_s: Share | None = None
    warmup_n: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    idle_s: Share | None = None
    order: Literal["blocks"] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63)] | None = None


class Precheck(Strict):
    """What must be so before a run starts, and how long to wait for it."""

    zone_max_c: float | None = None
    slope_max_c_per_min: Positive | None = None
    max_wait_s: Share | None = None


class Limits(Strict):
    """What ends a run from inside the device."""

    wall_s: Positive | None = None
    zone_max_c: float | None = None
    memory_bytes: Annotated[int, Field(gt=0)] | None = None


class Energy(Strict):
    idle: Literal["per_block", "never"] | None = None


class Settings(Strict):
    """The part that suites, workloads, lab devices and profiles share."""

    params: Mapping[str, Any] = Field(default_factory=dict)
    protocol: Protocol = Protocol()
    precheck: Precheck = Precheck()
    limits: Limits = Limits()
    energy: Energy = Energy()
    cpus: Annotated[str, Field(pattern=r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$")] | None = None


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # A first look: a warm desk computer may take part, so little is asked of the temperature.
    "quick": {
        "protocol.runs": 3,
        "protocol.min_s": 3.0,
        "protocol.min_n": 11,
        "protocol.warmup_s": 0.5,
        "protocol.warmup_n": 3,
        "protocol.idle_s": 0.0,
        "precheck.zone_max_c": 85.0,
        "precheck.slope_max_c_per_min": None,
        "precheck.max_wait_s": 30.0,
    },
    "default": {
        "protocol.runs": 5,
        "protocol.min_s": 30.0,
        "protocol.min_n": 64,
        "protocol.warmup_s": 2.0,
        "protocol.warmup_n": 10,
        "protocol.idle_s": 60.0,
        "precheck.zone_max_c": 45.0,
        "precheck.slope_max_c_per_min": 0.5,
        "precheck.max_wait_s": 600.0,
    },
    "paper": {
        "protocol.runs": 10,
        "protocol.min_s": 60.0,
        "protocol.min_n": 130,
        "protocol.warmup_s": 5.0,
        "protocol.warmup_n": 10,
        "protocol.idle_s": 60.0,
        "precheck.zone_max_c": 40.0,
        "precheck.slope_max_c_per_min": 0.5,
        "precheck.max_wait_s": 1200.0,
    },
}

DEFAULTS: Mapping[str, Any] = {
    "protocol.order": "blocks",
    "protocol.seed": 1,
    "limits.wall_s": 900.0,
    "limits.zone_max_c": None,
    "limits.memory_bytes": None,
    "energy.idle": "per_block",
    "cpus": None,
}


def flatten(settings: Settings) -> dict[str, Any]:
    """What a file sets, by dotted key: `params.threads`, `protocol.runs`, `cpus`."""
    out: dict[str, Any] = {f"params.{key}": value for key, value in settings.params.items()}
    for group in ("protocol", "precheck", "limits", "energy"):
        for key, value in getattr(settings, group).model_dump(exclude_none=True).items():
            out[f"{group}.{key}"] = value
    if settings.cpus is not None:
        out["cpus"] = settings.cpus
    return out


def resolve(layers: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Resolved]:
    """One value for each key, from `layers` given weakest first as (where it comes from, dotted keys and values)."""
    stack = list(layers)
    preset, preset_from = "default", "default"
    for source, values in stack:
        if "protocol.preset" in values:
            preset, preset_from = values["protocol.preset"], source
    if preset not in PRESETS:
        raise UsageError(f"preset '{preset}' is not known: valid are {', '.join(PRESETS)}")
    out = {key: Resolved(value=value, source="default") for key, value in DEFAULTS.items()}
    out["protocol.preset"] = Resolved(value=preset, source=preset_from)
    for key, value in PRESETS[preset].items():
        out[key] = Resolved(value=value, source=f"preset {preset}")
    for source, values in stack:
        for key, value in values.items():
            out[key] = Resolved(value=value, source=source)
    return dict(sorted(out.items()))


def parse_assignment(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` of the command line, the value read as YAML would. Raises UsageError."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"--set {text}: write KEY=VALUE, such as params.threads=2")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--set {text}: the value cannot be read") from None


def check_assignments(assignments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The command line's settings, checked as a file's would be. Raises pydantic's ValidationError."""
    nested: dict[str, Any] = {}
    for key, value in assignments.items():
        group, dot, rest = key.partition(".")
        if dot:
            nested.setdefault(group, {})[rest] = value
        else:
            nested[key] = value
    return flatten(Settings.model_validate(nested))
