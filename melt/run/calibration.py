"""Calibrating a device: its sensors of power under a load in pulses, and its battery's gauge."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from melt.analysis.calibration import (
    Agreement,
    Gauge,
    against_constant,
    agreement,
    as_power,
    gauge,
    plateaus,
)
from melt.analysis.trace import Series
from melt.errors import DeviceError, UsageError, nearest
from melt.meters import channels, recording
from melt.readings.text import integer
from melt.records import Channel, Response, Sensor
from melt.run.followed import Answer, Scale, answer_of, rounded
from melt.run.precheck import ceilings
from melt.run.survey import Pulses, Survey, cores_of, fast, survey
from melt.run.values import capture, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from melt.device import Device
    from melt.files.instruments import MeterSpec
    from melt.records import Boundary, Quantity

_FAST_ON_S, _FAST_OFF_S = 1.291, 1.180
"""In step with no refresh period that anybody would choose."""
_SLOW_PULSES, _SLOW_ON = 5, 0.513
_REST_S, _STEADY_S, _SETTLE_S = 5.0, 20.0, 3.0
_FILE_S, _GAUGE_S = 0.02, 0.1
_SETTLED = 0.2
"""The share of a slow pulse's period after which a gauge is taken to have followed."""
RAW = "battery.raw"
_HOTTEST_C = 95.0


@dataclass(frozen=True)
class Asked:
    """How long the fast pulses and the slow ones go on, and what the figures are held against."""

    fast_s: float = 90.0
    slow_s: float = 320.0
    against_w: float | None = None
    """The power (W) of the whole device with every core busy, as a trusted meter shows it."""
    against: str | None = None
    """A channel that is trusted."""
    meter: tuple[str, MeterSpec] | None = None
    """Or a meter at this computer that is, by its name in the lab file."""


@dataclass(frozen=True)
class _Trusted:
    """What the others are held against: power (W) on the device's clock, and where it ends."""

    series: Series
    boundary: Boundary | None
    late_s: float = 0.0


@dataclass(frozen=True)
class Calibrated:
    """What was found of a device."""

    answers: Mapping[str, Answer]
    gauge: Gauge | str | None
    """None where there is no gauge of a battery."""
    remarks: tuple[str, ...] = ()


def calibrate(device: Device, asked: Asked, say: Callable[[str], None]) -> Calibrated:
    """Loads the device in pulses and tells how its sensors of power follow, and what its battery's gauge means.

    Raises DeviceError when a charger is plugged in, the device is busy or becomes too hot; UsageError for a channel
    that it lacks; TransportError.
    """
    power = _of(device, "power", "energy")
    if asked.against is not None and asked.against not in power:
        raise UsageError(f"{device.name} has no channel of power '{asked.against}': {nearest(asked.against, power)}")
    raw = raw_current(device.sensors)
    if not power and raw is None:
        raise DeviceError(f"{device.name} has no sensor of power to calibrate: melt doctor says why")
    _no_charger(device, needed=raw is not None)
    fast_wave = Pulses(asked.fast_s, _FAST_ON_S, _FAST_OFF_S, _REST_S, cores_of(device))
    first, metered = _first(device, raw, fast_wave, asked, say)
    slow = _carry_out(device, raw, _slow_wave(asked, device), "and in slow ones", say) if raw is not None else None
    meaning = None
    if slow is not None:
        meaning = gauge(slow.trace[RAW], slow.load, _SETTLED * slow.load.period_s)
    scale = Scale(device, meaning)
    answers = {name: answer_of(channel, first, scale) for name, channel in power.items()}
    if slow is not None:
        answers = {name: _surer(answer, answer_of(answer.channel, slow, scale)) for name, answer in answers.items()}
    held, remarks = _held_against(device, asked, answers, _Known(first, scale, metered), say)
    return Calibrated(held, meaning, remarks)


def _surer(one: Answer, other: Answer) -> Answer:
    """The answer whose lag is known better; fast pulses tell it of a fast sensor, slow ones of a slow one."""
    if one.response is None or other.response is None:
        return one if other.response is None else other
    errors_s = [answer.response.lag_error_s or 0.0 for answer in (one, other) if answer.response]
    return one if errors_s[0] <= errors_s[1] else other


def _first(
    device: Device, raw: Sensor | None, pulses: Pulses, asked: Asked, say: Callable[[str], None]
) -> tuple[Survey, _Trusted | None]:
    """The fast pulses, and what the meter measured meanwhile, where there is one. Raises DeviceError of it too."""
    what = "loading it in fast pulses"
    if asked.meter is None:
        return _carry_out(device, raw, pulses, what, say), None
    name, spec = asked.meter
    with tempfile.TemporaryDirectory(prefix="melt-") as temporary:
        folder = Path(temporary) / "meter"
        with recording(name, spec, device, folder):
            found = _carry_out(device, raw, pulses, what, say)
        metered = channels(folder)
    rows = metered.rows[metered.rows["error"].isna()]
    if rows.empty:
        why = "; ".join(reason.detail for reason in metered.reasons) or "it gave no value"
        raise DeviceError(f"{device.name}: nothing can be held against meter '{name}': {why}")
    return found, _Trusted(Series(rows["t_ns"].to_numpy(), rows["value"].to_numpy()), spec.boundary)


def raw_current(sensors: Iterable[Sensor]) -> Sensor | None:
    """The battery's `current_now` as the bare number that it is; None where the device has no such file."""
    paths = [path for sensor in sensors for path in sensor.paths if path.endswith("/current_now")]
    if not paths:
        return None
    return Sensor(RAW, (Channel(RAW, "count", lambda data: float(integer(data))),), _GAUGE_S, paths[0])


def _slow_wave(asked: Asked, device: Device) -> Pulses:
    period_s = asked.slow_s / _SLOW_PULSES
    on_s = round(_SLOW_ON * period_s, 3)
    return Pulses(asked.slow_s, on_s, period_s - on_s, _REST_S, cores_of(device))


def _of(device: Device, *quantities: Quantity) -> dict[str, Channel]:
    return {c.name: c for sensor in device.sensors for c in sensor.channels if c.quantity in quantities}


def _no_charger(device: Device, *, needed: bool) -> None:
    """Raises DeviceError when a charger is on, and where that is not known though it is needed."""
    sensors = [sensor for sensor in device.sensors if _tells_charger(sensor)]
    said = values(sensors, capture(device, sensors))
    chargers = [c.name for sensor in sensors for c in sensor.channels if c.quantity == "charger"]
    told = {name: value for name in chargers if isinstance(value := said[name], float)}
    on = [name for name, value in told.items() if value > 0]
    if on:
        raise DeviceError(
            f"{device.name}: {on[0]} says that a charger is plugged in: unplug it, and reach the device over the "
            "network meanwhile"
        )
    if needed and not told:
        raise DeviceError(
            f"{device.name}: nothing tells whether a charger is plugged in, so what its battery gives cannot be known: "
            "add a reading that does to the profile, such as battery-dumpsys"
        )


def _carry_out(device: Device, raw: Sensor | None, pulses: Pulses, what: str, say: Callable[[str], None]) -> Survey:
    """One survey, told before. Raises DeviceError, also where a charger was plugged in meanwhile."""
    say(f"{device.name}: {what}, {pulses.total_s:.0f} s")
    wanted = [s for s in device.sensors if any(c.quantity in ("power", "energy") for c in s.channels)]
    limits = ceilings(device, device.profile.limits.zone_max_c or _HOTTEST_C)
    others = [s for s in device.sensors if s not in wanted and (s.name in limits or _tells_charger(s))]
    quick = [s for sensor in wanted for s in fast([sensor], _GAUGE_S if _is_gauge(sensor) else _FILE_S)]
    found = survey(device, [*quick, *others, *([raw] if raw else [])], pulses, limits)
    for name, series in found.trace.of("charger").items():
        if len(series) and series.v.max() > 0:
            raise DeviceError(
                f"{device.name}: {name} says that a charger was plugged in meanwhile: unplug it, try again"
            )
    return found


def _tells_charger(sensor: Sensor) -> bool:
    return any(channel.quantity == "charger" for channel in sensor.channels)


def _is_gauge(sensor: Sensor) -> bool:
    return any(channel.boundary == "battery" for channel in sensor.channels)


# ------------------------------------------------------------------------------------------- held against what is known


@dataclass(frozen=True)
class _Known:
    """What the fast pulses gave."""

    first: Survey
    scale: Scale
    metered: _Trusted | None

    def watts(self, channel: Channel, found: Survey) -> Series:
        series = self.scale(channel, found.trace[channel.name])
        return as_power(series.unwrapped(channel.wraps_at)) if channel.quantity == "energy" else series

    def against(self, channel: Channel, trusted: _Trusted, late_s: float) -> Agreement | str:
        """The plateaus of both in the fast pulses, once both have followed."""
        measured, _ = plateaus(self.watts(channel, self.first), self.first.load, late_s)
        known, _ = plateaus(trusted.series, self.first.load, late_s)
        return agreement(measured, known)


def _held_against(
    device: Device, asked: Asked, answers: Mapping[str, Answer], known: _Known, say: Callable[[str], None]
) -> tuple[dict[str, Answer], tuple[str, ...]]:
    """The answers with how far each channel is off what is known, where that was asked for; and remarks."""
    trusted, steady = known.metered, None
    if asked.against is not None:
        channel = answers[asked.against].channel
        trusted = _Trusted(known.watts(channel, known.first), channel.boundary, _late_s(answers[asked.against]))
    if asked.against_w is not None:
        wave = Pulses(_STEADY_S, _STEADY_S, 0.0, _REST_S, cores_of(device))
        steady = _carry_out(device, None, wave, "every core busy: what your meter shows now is --against-w", say)
    if trusted is None and steady is None:
        return dict(answers), ()
    targets = _targets(device, asked, answers, trusted)
    out, remarks = dict(answers), [] if targets else ["no channel ends where what is known does: no gain was told"]
    for name in targets:
        answer = answers[name]
        agrees: Agreement | str = "nothing is known of it"
        if steady is not None and asked.against_w is not None:
            begin, end = int(steady.load.begin[0]) + int(_SETTLE_S * 1e9), int(steady.load.end[-1])
            agrees = against_constant(known.watts(answer.channel, steady), begin, end, asked.against_w)
        elif trusted is not None:
            agrees = known.against(answer.channel, trusted, max(_late_s(answer), trusted.late_s))
        if isinstance(agrees, str):
            remarks.append(f"{name}: {agrees}")
            continue
        out[name] = replace(answer, response=_with_errors(answer.response, agrees), agrees=agrees)
    return out, tuple(remarks)


def _late_s(answer: Answer) -> float:
    """After how long a plateau is seen as one."""
    found = answer.response
    return found.lag_s + (found.refresh_s or 0.0) if found is not None else 0.0


def _with_errors(response: Response | None, agrees: Agreement) -> Response | None:
    """The response with the instrument's errors as they were found."""
    if response is None:
        return None
    gain = min(1.0, abs(agrees.gain - 1) + 2 * agrees.gain_error)
    offset = abs(agrees.offset) + 2 * agrees.offset_error
    return response.model_copy(update={"gain_error": rounded(gain), "offset_error": rounded(offset)})


def _targets(device: Device, asked: Asked, answers: Mapping[str, Answer], trusted: _Trusted | None) -> list[str]:
    """The channels that what is known may be held against: the total, where one channel is it, or the same boundary."""
    if device.total is not None and len(device.total.sum) == 1 and device.total.sum[0] != asked.against:
        return [name for name in device.total.sum if name in answers]
    if trusted is None:
        return []
    return [n for n, a in answers.items() if n != asked.against and a.channel.boundary == trusted.boundary]
