"""How one channel of power followed the pulses of a survey, as the response that a profile keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from melt.analysis.calibration import Agreement, Gauge, follow
from melt.analysis.refresh import refresh
from melt.analysis.trace import Series
from melt.records import Channel, Response

if TYPE_CHECKING:
    from melt.device import Device
    from melt.run.survey import Survey

_MILLI = 1000.0


@dataclass(frozen=True)
class Answer:
    """What was found of one channel: a response, or the sentence why not; and how it agrees with what is known."""

    channel: Channel
    response: Response | None
    why: str = ""
    step: float | None = None
    """By how much the load raised it (W)."""
    agrees: Agreement | None = None


class Scale:
    """What a value of the present profile is times, so that it is what the gauge has been found to mean."""

    def __init__(self, device: Device, meaning: Gauge | str | None) -> None:
        before = device.profile.battery
        self.factor = _factor(meaning.unit, meaning.discharging) if isinstance(meaning, Gauge) else 1.0
        if before is not None and before.calibrated and isinstance(meaning, Gauge):
            self.factor /= _factor(before.current_unit, before.discharging)

    def __call__(self, channel: Channel, series: Series) -> Series:
        return Series(series.t, series.v * self.factor) if channel.boundary == "battery" else series


def _factor(unit: Literal["ua", "ma"], discharging: Literal["negative", "positive"]) -> float:
    return (_MILLI if unit == "ma" else 1.0) * (-1.0 if discharging == "positive" else 1.0)


def answer_of(channel: Channel, found: Survey, scale: Scale) -> Answer:
    """How one channel followed the load."""
    counts = channel.quantity == "energy"
    series = scale(channel, found.trace[channel.name])
    series = series.unwrapped(channel.wraps_at) if counts else series
    new = refresh(series, found.load)
    before = channel.response
    assumed = before.averages if before else None
    followed = follow(series, found.load, new, counts=counts, assumed=assumed)
    if isinstance(followed, str):
        return Answer(channel, None, followed)
    response = Response(
        refresh_s=rounded(new.refresh_s),
        averages=assumed if followed.averages is None else followed.averages,
        lag_s=round(followed.lag_s, 3),
        lag_error_s=rounded(followed.lag_error_s),
        gain_error=before.gain_error if before else 0.0,
        offset_error=before.offset_error if before else 0.0,
        calibrated=True,
    )
    return Answer(channel, response, step=followed.step)


def rounded(value: float | None) -> float | None:
    """Three digits: more are not known."""
    return None if value is None else float(f"{value:.3g}")
