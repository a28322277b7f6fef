"""What a profile says of the sensors that were found: which rail is what, which are the total, and what is missing.

Pure: found sensors and a profile in, the device's sensors and sentences out. A channel is found by the device's own
name for it (its label), never by a number that the kernel gives out anew at each boot.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from melt.errors import UsageError, nearest
from melt.readings import READINGS, Captures, Reading, absent, found, left_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from melt.files import Profile
    from melt.files.profile import BatterySpec, SensorSpec
    from melt.records import Channel, Sensor, TotalRule

BATTERY = "battery"
"""The reading of the battery's gauge, whose current is to be understood as the profile says."""
POWER = "power"
"""The name under which `absent` says why a device has no sensor of power at all."""
_GAUGE = ("battery.current", "battery.power")
_ENERGY = ("power", "energy")
_MILLI = 1000.0
_SHOWN = 12


@dataclass(frozen=True)
class Declared:
    """The sensors of a device with the names and meanings of its profile, and why some are not there."""

    sensors: tuple[Sensor, ...]
    absent: Mapping[str, str]
    """By the profile's name for it, why a channel that it names is not among `sensors`; by several, where it is one
    reading that found nothing of the kind."""
    total: TotalRule | None = None
    no_total: str | None = None
    """Why the profile's rule for the total cannot be used here, or why there cannot be one."""


def wanted(profile: Profile) -> list[Reading]:
    """Every reading of facts that are asked of any device, and those that the profile asks for.

    Raises UsageError when it names one that does not exist, or takes a channel of one that it does not read.
    """
    for name in profile.readings:
        if name not in READINGS:
            raise UsageError(f"profile '{profile.name}': reading '{name}' is not known: {nearest(name, READINGS)}")
    for name, spec in profile.sensors.items():
        if spec.read in profile.readings:
            continue
        key = f"profile '{profile.name}': key 'sensors.{name}.read' is '{spec.read}'"
        if spec.read not in READINGS:
            raise UsageError(f"{key}, which is no reading: {nearest(spec.read, READINGS)}")
        raise UsageError(f"{key}, which is not among its 'readings': add it there")
    facts = [reading for reading in READINGS.values() if reading.facts is not None and reading.asked_always]
    return list({r.name: r for r in (*facts, *(READINGS[name] for name in profile.readings))}.values())


def understood(profile: Profile, captures: Captures) -> Declared:
    """What `profile` makes of a device that answered so; `absent` tells of its readings, too, that found nothing.

    Raises UsageError, as `declared` does.
    """
    readings = [READINGS[name] for name in profile.readings if READINGS[name].sensors is not None]
    missing: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for reading in readings:
        # a reading that found nothing is told as a whole, one that found some by the files it could not use
        why, unused = absent(reading, captures), left_out(reading, captures)
        missing |= {reading.name: why} if why else unused
        if why or unused:
            reasons[reading.name] = why or ": ".join(next(iter(unused.items())))
    told = declared(profile, found(readings, captures), reasons)
    return dataclasses.replace(told, absent={**missing, **told.absent})


def declared(
    profile: Profile, sensors: Mapping[str, Sequence[Sensor]], reasons: Mapping[str, str] | None = None
) -> Declared:
    """What `profile` makes of the sensors that its readings found, by the reading's name.

    `reasons` say, by the same name, why a reading did not find all that it looked for. Raises UsageError when the
    profile calls a channel by the name of another one.
    """
    corrected = {name: _in_true_units(profile, name, several) for name, several in sensors.items()}
    chosen, lacking = _chosen(profile, corrected, reasons or {})
    named = tuple(_named(profile, name, sensor, chosen) for name, several in corrected.items() for sensor in several)
    _no_name_twice(profile, named)
    total, no_total = _total(profile, lacking, {channel.name for sensor in named for channel in sensor.channels})
    if profile.no_power and profile.total is None and not _has_power(named):
        lacking, no_total = {**lacking, POWER: profile.no_power}, f"no_sensor: {profile.no_power}"
    return Declared(named, _together(lacking), total, no_total)


# ------------------------------------------------------------------------------------------- which channel is which


def _chosen(
    profile: Profile, sensors: Mapping[str, Sequence[Sensor]], reasons: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The profile's name for each channel that it names, by the channel's; and why the others are not there."""
    chosen: dict[str, str] = {}
    lacking: dict[str, str] = {}
    for name, spec in profile.sensors.items():
        channels = [c for s in sensors.get(spec.read, ()) for c in s.channels if c.quantity == spec.quantity]
        fitting = [channel for channel in channels if fnmatchcase(_label(channel).lower(), spec.label.lower())]
        named = f"profile {profile.name} names the {_what(spec)}"
        if not channels:
            lacking[name] = _nothing(profile, spec, reasons.get(spec.read))
        elif not fitting:
            lacking[name] = f"{named}, and this device's {spec.read} has {_listed(map(_label, channels))}"
        elif len(fitting) > 1:
            lacking[name] = (
                f"{named}, and of this device's {spec.read} {len(fitting)} fit: {_listed(c.name for c in fitting)}; "
                "write a label that only one of them has"
            )
        elif fitting[0].name in chosen:
            lacking[name] = f"{named}, which is its '{chosen[fitting[0].name]}' already"
        else:
            chosen[fitting[0].name] = name
    return chosen, lacking


def _label(channel: Channel) -> str:
    return channel.label or channel.name


def _what(spec: SensorSpec) -> str:
    return f"{spec.quantity} of {spec.label}" if spec.label != "*" else f"{spec.quantity} of {spec.read}"


def _nothing(profile: Profile, spec: SensorSpec, reason: str | None) -> str:
    why = f" ({reason})" if reason else ""
    return f"profile {profile.name} names {spec.quantity} of {spec.read}, which found none on this device{why}"


def _together(lacking: Mapping[str, str]) -> dict[str, str]:
    """`lacking` with one entry for the channels of one reading that lack for the same reason."""
    names: dict[str, list[str]] = {}
    for name, why in lacking.items():
        names.setdefault(why, []).append(name)
    return {", ".join(several): why for why, several in names.items()}


def _listed(words: Iterable[str]) -> str:
    known = list(dict.fromkeys(words))
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"{', '.join(known[:_SHOWN])}{more}"


def _named(profile: Profile, reading: str, sensor: Sensor, chosen: Mapping[str, str]) -> Sensor:
    """The sensor with the profile's names and meanings, read as often as the most hurried of its channels asks.

    Where none asks, as often as the profile reads that reading, and else as often as the reading says.
    """
    specs = [profile.sensors[chosen[c.name]] for c in sensor.channels if c.name in chosen]
    periods = [spec.period_s for spec in specs if spec.period_s is not None]
    usual_s = profile.periods_s.get(reading, sensor.period_s)
    channels = tuple(
        _meant(channel, chosen[channel.name], profile.sensors[chosen[channel.name]])
        if channel.name in chosen
        else channel
        for channel in sensor.channels
    )
    return dataclasses.replace(sensor, channels=channels, period_s=min(periods, default=usual_s))


def _meant(channel: Channel, name: str, spec: SensorSpec) -> Channel:
    return dataclasses.replace(
        channel,
        name=name,
        boundary=spec.boundary or channel.boundary,
        provenance=spec.provenance or channel.provenance,
        response=spec.response or channel.response,
    )


def _no_name_twice(profile: Profile, sensors: Sequence[Sensor]) -> None:
    """Raises UsageError when the profile calls a channel as another one is called that it says nothing of."""
    seen: set[str] = set()
    for channel in (channel for sensor in sensors for channel in sensor.channels):
        if channel.name in seen:
            raise UsageError(
                f"profile '{profile.name}': key 'sensors.{channel.name}' is what another channel of this device is "
                "called: choose another name"
            )
        seen.add(channel.name)


# ------------------------------------------------------------------------------------------------------- the total


def _total(profile: Profile, lacking: Mapping[str, str], there: set[str]) -> tuple[TotalRule | None, str | None]:
    rule = profile.total
    if rule is None:
        return None, None
    missing = [name for name in rule.sum if name not in there]
    if not missing:
        return rule, None
    why = lacking.get(missing[0], f"{missing[0]} was not found")
    which = f"{_listed(missing)}: {why}" if len(missing) == 1 else f"{_listed(missing)}; of the first: {why}"
    return None, f"profile {profile.name} takes its total from {' + '.join(rule.sum)}, and this device lacks {which}"


def _has_power(sensors: Iterable[Sensor]) -> bool:
    return any(channel.quantity in _ENERGY for sensor in sensors for channel in sensor.channels)


# ----------------------------------------------------------------------------------------------- the battery's gauge


def _in_true_units(profile: Profile, reading: str, sensors: Sequence[Sensor]) -> tuple[Sensor, ...]:
    """The sensors, the battery's current and power in true unit and sign where somebody has measured which they are."""
    battery = profile.battery
    if reading != BATTERY or battery is None or not battery.calibrated:
        return tuple(sensors)
    return tuple(
        dataclasses.replace(sensor, channels=tuple(_corrected(channel, battery) for channel in sensor.channels))
        for sensor in sensors
    )


def _corrected(channel: Channel, battery: BatterySpec) -> Channel:
    if channel.name not in _GAUGE:
        return channel  # a second gauge behind the first may have a unit and a sign of its own
    factor = (_MILLI if battery.current_unit == "ma" else 1.0) * (-1.0 if battery.discharging == "positive" else 1.0)
    parse = channel.parse if factor == 1.0 else partial(_times, channel.parse, factor)
    return dataclasses.replace(channel, parse=parse, raw_per_unit=None, not_for_energy=None)


def _times(parse: Callable[[bytes], float], factor: float, data: bytes) -> float:
    """What `parse` makes of a text, times `factor`. Raises ParseError where it does."""
    return factor * parse(data) or 0.0  # and not -0.0
