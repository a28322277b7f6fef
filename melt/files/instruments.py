"""What stands beside a device on the bench, as a lab file names it: a power meter, a switch for its USB power."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from melt.errors import nearest
from melt.files.settings import Seconds, Whole
from melt.records import Boundary, Strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

Words = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...], Field(min_length=1)]
"""A command as a list of words; no shell reads it."""
Text = Annotated[str, Field(min_length=1, max_length=256)]
Volts = Annotated[float, Field(strict=True, gt=0, le=60)]
Port = Annotated[Whole, Field(ge=1, le=64)]

_METER_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = MappingProxyType(
    {  # type: the keys that it needs, and those that it may have besides what every meter has
        "monsoon": (frozenset(), frozenset({"serial", "supply_v"})),
        "joulescope": (frozenset(), frozenset({"serial", "rate_hz"})),
        "ppk2": (frozenset(), frozenset({"serial", "port", "voltage_v", "supply_v"})),
        "ina2xx": (frozenset({"chip", "shunt_ohm", "max_current_a"}), frozenset({"bus", "address", "rate_hz"})),
        "csv": (frozenset({"path", "column", "gain_error"}), frozenset({"unit", "time_column", "latency_s"})),
        "command": (frozenset({"argv", "gain_error"}), frozenset({"unit", "latency_s"})),
    }
)
_WHY: Mapping[str, str] = MappingProxyType(
    {"gain_error": "how far the instrument may be off, as a share of the value, e.g. 0.01"}
)
"""What a key says that no name tells."""
_SWITCH_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = MappingProxyType(
    {
        "uhubctl": (frozenset({"hub", "port"}), frozenset()),
        "ykush": (frozenset({"port"}), frozenset({"serial"})),
        "command": (frozenset({"off", "on"}), frozenset()),
    }
)


class MeterSpec(Strict):
    """A power meter at this computer: which, and between what and what it measures."""

    type: Literal["monsoon", "joulescope", "ppk2", "ina2xx", "csv", "command"]
    boundary: Boundary
    """Where it sits: `battery` in the battery's place, `board_input` at the board's plug, `wall` at the mains."""
    gain_error: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    """How far it may be off, as a share of the value; without one, what its maker says. What melt does not know the
    maker of (csv, command) must have it; that of an INA is of chip and shunt together."""
    offset_error_w: Annotated[float, Field(strict=True, ge=0, le=1000)] | None = None
    """How far it may be off whatever the value; without one, what its maker says."""
    pulses: Annotated[bool, Field(strict=True)] = False
    """Whether the device draws a pattern of power before each run, by which the mapping of the clocks is checked."""
    serial: Text | None = None
    """Which one, where several are plugged in."""
    port: Annotated[str, Field(pattern=r"^/dev/", max_length=256)] | None = None
    """The serial port of a PPK2; without one, the one that is plugged in."""
    voltage_v: Volts | None = None
    """The voltage of the supply that a PPK2 measures the current of."""
    supply_v: Volts | None = None
    """What a Monsoon or a PPK2 is to supply; without it its output is left as it is."""
    rate_hz: Annotated[float, Field(strict=True, ge=1, le=1000)] | None = None
    """How often it is read."""
    chip: Literal["ina219", "ina226", "ina228"] | None = None
    bus: Annotated[Whole, Field(ge=0, le=255)] = 1
    """The number of the I²C bus, as in /dev/i2c-1."""
    address: Annotated[str, Field(pattern=r"^0x[0-7][0-9a-fA-F]$")] = "0x40"
    """The chip's address on the bus."""
    shunt_ohm: Annotated[float, Field(strict=True, gt=0, le=100)] | None = None
    max_current_a: Annotated[float, Field(strict=True, gt=0, le=1000)] | None = None
    """The largest current that is expected: the chip's steps are chosen by it."""
    path: Text | None = None
    """A text file that grows by a line for each value, beside the lab file unless it is absolute."""
    column: Text | None = None
    """The column of the power: its name in the first line, or its number from 1."""
    time_column: Text | None = None
    """The column with the seconds of the meter's own clock; without one, a line counts from when it is seen."""
    argv: Words | None = None
    """A command that prints a line for each value: seconds (or ns, a whole number) of its clock, and the power."""
    unit: Literal["w", "mw", "uw"] = "w"
    latency_s: Annotated[float, Field(strict=True, ge=0, le=10)] | None = None
    """How long a line is on its way at most when it is the least late; without one 20 ms."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        _check_keys(self, _METER_KEYS, frozenset({"type", "boundary", "gain_error", "offset_error_w", "pulses"}))
        if self.type == "ppk2" and (self.voltage_v is None) == (self.supply_v is None):
            raise ValueError(
                "a ppk2 needs voltage_v (the voltage of the supply whose current it measures) or supply_v (what it is "
                "to supply itself), and one of them"
            )
        return self


class UsbSwitch(Strict):
    """A port whose power this computer can switch, with a device at it."""

    type: Literal["uhubctl", "ykush", "command"]
    hub: Annotated[str, Field(pattern=r"^[0-9]+(-[0-9]+(\.[0-9]+)*)?$", max_length=64)] | None = None
    """The hub as uhubctl names it, such as 1-1.4."""
    port: Port | None = None
    serial: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$", max_length=64)] | None = None
    """Which YKUSH, where several are plugged in."""
    off: Words | None = None
    on: Words | None = None
    settle_s: Seconds = 2.0
    """How long after switching the device is left alone."""

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        _check_keys(self, _SWITCH_KEYS, frozenset({"type", "settle_s"}))
        return self


def _check_keys(
    spec: BaseModel, table: Mapping[str, tuple[frozenset[str], frozenset[str]]], all_have: frozenset[str]
) -> None:
    """Raises ValueError for a key that belongs to another type, or one that is missing."""
    kind: str = getattr(spec, "type")  # noqa: B009 - every spec has one
    needed, other = table[kind]
    for key in sorted(spec.model_fields_set - needed - other - all_have):
        raise ValueError(f"'{key}' is no key of type '{kind}': {nearest(key, needed | other | all_have)}")
    for key in sorted(needed):
        if getattr(spec, key) is None:
            raise ValueError(f"type '{kind}' needs '{key}'" + (f": {_WHY[key]}" if key in _WHY else ""))
