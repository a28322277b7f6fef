"""What can be set in more than one file, and which file wins.

Command line > suite > lab > workload > profile > default. The resolved value keeps the name of where it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from melt.errors import UsageError
from melt.files.reader import parse_yaml, shorten
from melt.records import NAME, Resolved, Strict

if TYPE_CHECKING:
    from pydantic import ValidationInfo

_MOST_CPUS = 1024


def _not_a_folder(name: str) -> str:
    if name.startswith("."):
        raise ValueError("a name does not begin with a dot")
    return name


def _cpus(text: str) -> str:
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not int(first) <= int(last or first) < _MOST_CPUS:
            raise ValueError(f"CPUs are numbered 0 to {_MOST_CPUS - 1}, the lower one first, as in 0,2-3")
    return text


# strict: `runs: true` is not 1, and `runs: "3"` is not 3
Whole = Annotated[int, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=86400)]
Positive = Annotated[float, Field(strict=True, gt=0, le=7 * 86400)]
Celsius = Annotated[float, Field(strict=True, ge=-100, le=250)]
Seed = Annotated[Whole, Field(ge=0, le=2**63)]
Name = Annotated[str, Field(pattern=NAME), AfterValidator(_not_a_folder)]
"""It becomes a file's or folder's name, so it is not `..` either."""
Cpus = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    Field(pattern=r"^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$", max_length=1024),
    AfterValidator(_cpus),
]


class Group(Strict):
    """A group of settings. A null that is written down wins over a lower file; it is refused where it says nothing."""

    may_be_null: ClassVar[frozenset[str]] = frozenset()

    @field_validator("*", mode="before")
    @classmethod
    def _says_something(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.field_name not in cls.may_be_null:
            raise ValueError("write a value, or leave the key out")
        return value


class Protocol(Group):
    """How often and how long: a preset, and what is to differ from it."""

    preset: Literal["quick", "default", "paper"] | None = None
    runs: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    min_s: Seconds | None = None
    min_n: Annotated[Whole, Field(ge=1, le=10_000_000)] | None = None
    warmup_s: Seconds | None = None
    warmup_n: Annotated[Whole, Field(ge=0, le=1_000_000)] | None = None
    idle_s: Seconds | None = None
    order: Literal["blocks"] | None = None
    mode: Literal["burst", "sustained"] | None = None
    """In a burst heat and slowing are faults of the run; in a sustained run they are its result."""
    seed: Seed | None = None


class Precheck(Group):
    """What must be so before a run starts, and how long to wait for it."""

    may_be_null = frozenset({"zone_max_c", "slope_max_c_per_min", "battery_min", "foreign_load_max"})

    zone_max_c: Celsius | None = None
    slope_max_c_per_min: Positive | None = None
    max_wait_s: Seconds | None = None
    battery_min: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    """The battery's level under which no run starts; without one, the profile's `battery.floor`."""
    foreign_load_max: Annotated[float, Field(strict=True, gt=0, le=1024)] | None = None
    """How many cores others may keep busy."""


class Limits(Group):
    """What ends a run from inside the device."""

    may_be_null = frozenset({"zone_max_c", "memory_bytes"})

    wall_s: Positive | None = None
    zone_max_c: Celsius | None = None
    memory_bytes: Annotated[Whole, Field(gt=0, lt=2**63)] | None = None
    link_s: Seconds | None = None
    """How long a lost link may take to come back."""


class Energy(Group):
    """What the energy's figures need beside the run."""

    idle: Literal["per_block", "never"] | None = None


class Settings(Strict):
    """The part that suites, workloads, lab devices and profiles share."""

    params: Mapping[str, Any] = Field(default_factory=dict)
    protocol: Protocol = Protocol()
    precheck: Precheck = Precheck()
    limits: Limits = Limits()
    energy: Energy = Energy()
    cpus: Cpus | None = None


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
        "precheck.foreign_load_max": None,
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
        "precheck.foreign_load_max": 0.5,
    },
    "paper": {
        "protocol.runs": 10,
        "protocol.min_s": 75.0,  # 60 s are left for energy once the warm-up is taken off
        "protocol.min_n": 130,
        "protocol.warmup_s": 5.0,
        "protocol.warmup_n": 10,
        "protocol.idle_s": 60.0,
        "precheck.zone_max_c": 40.0,
        "precheck.slope_max_c_per_min": 0.5,
        "precheck.max_wait_s": 1200.0,
        "precheck.foreign_load_max": 0.5,
    },
}

DEFAULTS: Mapping[str, Any] = {
    "protocol.mode": "burst",
    "protocol.order": "blocks",
    "protocol.seed": 1,
    "precheck.battery_min": None,
    "limits.wall_s": 900.0,
    "limits.link_s": 180.0,
    "limits.zone_max_c": None,
    "limits.memory_bytes": None,
    "energy.idle": "per_block",
    "cpus": None,
}


def flatten(settings: Settings) -> dict[str, Any]:
    """What a file sets, by dotted key: `params.threads`, `protocol.runs`, `cpus`."""
    out: dict[str, Any] = {f"params.{key}": value for key, value in settings.params.items()}
    for group in ("protocol", "precheck", "limits", "energy"):
        for key, value in getattr(settings, group).model_dump(exclude_unset=True).items():
            out[f"{group}.{key}"] = value
    if "cpus" in settings.model_fields_set:
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
        raise UsageError(f"--set {shorten(text)}: write KEY=VALUE, such as params.threads=2")
    try:
        return key, parse_yaml(value)
    except ValueError as error:
        raise UsageError(f"--set {shorten(key)}: the value cannot be read: {error}") from None


def check_assignments(assignments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The command line's settings, checked as a file's would be. Raises pydantic's ValidationError."""
    nested: dict[str, Any] = {}
    for key, value in assignments.items():
        group, dot, rest = key.partition(".")
        if dot and isinstance(nested.setdefault(group, {}), dict):
            nested[group][rest] = value
        else:
            nested[key] = value
    return flatten(Settings.model_validate(nested))
