"""What happens to a virtual board: where it stands, what is plugged in, and which of its files fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from melt.records import Strict
from melt.virtual.sensors import Trouble

Moment = Annotated[float, Field(ge=0)]


class Span(Strict):
    """From `begin_s` until `end_s`, since the board started, or since the first engine on it did."""

    since: Literal["start", "engine"] = "start"
    begin_s: Moment = 0.0
    end_s: Moment = float("inf")

    def holds(self, now_s: float, engine_s: float | None) -> bool:
        """Whether it is now; `engine_s` is when the first engine began to work, None before that."""
        if self.since == "engine":
            return engine_s is not None and self.begin_s <= now_s - engine_s < self.end_s
        return self.begin_s <= now_s < self.end_s


class FileFault(Span):
    """A file (or several, by a shell pattern) of the board that fails for a while."""

    path: str
    trouble: Trouble


class Scenario(Strict):
    """One board's circumstances; the same seed gives the same noise."""

    seed: int = 1
    ambient_c: float = 24.0
    level: Annotated[float, Field(ge=0, le=1)] = 0.8
    """The battery's, at the start."""
    charger: tuple[Span, ...] = ()
    throttled: tuple[Span, ...] = ()
    """When it is slowed whatever its temperature is, as by a limit of its power."""
    under_voltage: tuple[Span, ...] = ()
    """When a Pi's supply is too weak; its firmware then slows it too."""
    faults: tuple[FileFault, ...] = ()
    hwmon: Annotated[int, Field(ge=0, le=99)] = 3
    """The number that the kernel gives the power monitor this time."""
    background_cores: Annotated[float, Field(ge=0, le=64)] = 0.0
    """Cores that something else on the board keeps busy."""
    current_unit: Literal["ua", "ma"] = "ua"
    discharging: Literal["negative", "positive"] = "negative"
    """How the battery's gauge tells a current."""
    sensors: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Changes to the sensors of power by name: the fields of `SensorModel`."""
