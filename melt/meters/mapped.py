"""A recording as channels of the run's trace: its samples on the device's clock, with how far the stamps may be off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from melt.errors import DeviceError, ParseError
from melt.meters import arrival, clock, pulses
from melt.meters import folder as kept
from melt.meters.base import HOST_CLOCK
from melt.meters.reducing import Reducer
from melt.records import UNITS, MeterNote, Reason, ReasonCode, SensorNote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from melt.analysis.events import Float64s, Int64s
    from melt.meters.base import Block

COLUMNS = ("t_ns", "due_ns", "read_ns", "sensor", "channel", "value", "error")
"""Those of a trace."""
MOST_ROWS = 1_000_000
"""A longer recording comes into the trace as longer means; meter.parquet has it as it was kept."""
_ALIKE, _ALIKE_S = 0.1, 0.5
"""By what share, and how much besides, a recording's length by its stamps may differ from that by their arrivals."""
_LOST = "lost"
"""The error of the row that stands where samples are missing."""


@dataclass(frozen=True)
class Mapped:
    """What a recording adds to a run: rows like the trace's, what their channels are, and what was wrong."""

    rows: pd.DataFrame = field(default_factory=lambda: _frame([], "", ""))
    notes: Mapping[str, SensorNote] = field(default_factory=dict)
    note: MeterNote | None = None
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True)
class _Samples:
    """A whole recording on its own clock, ends of the means; and the last sample of each arrival."""

    end_s: Float64s
    power_w: Float64s
    gaps_s: Float64s
    """The end of the last sample before each gap."""
    own_s: Float64s
    host_ns: Int64s
    kept_hz: float
    factor: int
    """How many of the recording's means make one."""


def channels(folder: Path) -> Mapped:
    """What a run's folder holds of a recording; nothing where the run had no meter.

    Files that are damaged cost the meter's channel, and a reason says so: the run has more than that.
    """
    try:
        told = kept.load(folder)
        return Mapped() if told is None else _mapped_channels(folder, told)
    except ParseError as error:
        return Mapped(reasons=(_reason(ReasonCode.SENSOR_GAP, str(error)),))
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, pa.ArrowException) as error:
        words = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        why = f"{folder / kept.PARQUET} cannot be read: {words}"
        return Mapped(reasons=(_reason(ReasonCode.SENSOR_GAP, why),))


def _mapped_channels(folder: Path, told: kept.MeterFile) -> Mapped:
    """Raises what reading a damaged file raises."""
    name = f"meter.{told.name}"
    note = MeterNote(
        name=told.name,
        type=told.type,
        serial=told.serial,
        boundary=told.boundary,
        rate_hz=told.rate_hz,
        kept_hz=told.kept_hz,
        clock_bound_s=None,
        lost=told.lost,
        about=told.about,
    )
    ended = () if told.ended is None else (_reason(ReasonCode.SENSOR_GAP, f"meter '{told.name}': {told.ended}"),)
    samples = _samples(folder, told.kept_hz)
    if samples is None:
        nothing = _reason(ReasonCode.SENSOR_GAP, f"meter '{told.name}' gave no value")
        return Mapped(note=note, reasons=ended or (nothing,))
    try:
        _check_alike(samples, told)
        host_ns, late_s = _mapped(samples.end_s, samples, told)
        onto = clock.fit(told.before, told.after, int(host_ns[-1]))
    except DeviceError as error:
        why = _reason(ReasonCode.CLOCK_BOUND, f"meter '{told.name}': {error}")
        return Mapped(note=note, reasons=(*ended, why))
    t_ns = onto.device_ns(host_ns)
    bound_s = onto.bound_s + late_s
    lag = pulses.check(t_ns, samples.power_w, told.pulses, 1 / samples.kept_hz) if told.pulses else None
    response = told.response.model_copy(
        update={
            "refresh_s": 1 / samples.kept_hz,
            "averages": True if samples.factor > 1 else told.response.averages,
        }
    )
    sensor = SensorNote(
        sensor=name,
        quantity="power",
        unit=UNITS["power"],
        source=" ".join(filter(None, (told.type, told.serial))),
        period_s=1 / samples.kept_hz,
        boundary=told.boundary,
        provenance="measured",
        label=told.name,
        response=response,
        clock_bound_s=bound_s,
    )
    gaps_ns = onto.device_ns(_mapped(samples.gaps_s, samples, told)[0]) if samples.gaps_s.size else np.array([], int)
    rows = [(t_ns, samples.power_w, None), (gaps_ns, np.full(gaps_ns.size, np.nan), _LOST)]
    update = {
        "clock_bound_s": bound_s,
        "kept_hz": samples.kept_hz,
        "pulse_lag_s": lag.lag_s if lag is not None else None,
        "about": {**told.about, **({"pulses": lag.why} if lag is not None and lag.why else {})},
    }
    return Mapped(_frame(rows, name, name), {name: sensor}, note.model_copy(update=update), ended)


def _samples(folder: Path, kept_hz: float) -> _Samples | None:
    """Reads a recording; None where it is empty. A long one becomes longer means."""
    total = kept.rows_in(folder)
    reducer = Reducer(kept_hz, kept_hz / max(1.0, total / MOST_ROWS))
    hz = kept_hz / reducer.factor
    ends: list[Float64s] = []
    powers: list[Float64s] = []
    gaps: list[float] = []
    arrived: list[tuple[Float64s, Int64s]] = []
    last: tuple[int, float] | None = None
    stamped = False
    for block, host_ns in kept.blocks_in(folder, kept_hz):
        latest = np.flatnonzero(np.diff(host_ns, append=-1))
        arrived.append((end_s(block)[latest], host_ns[latest]))
        stamped = block.own_s is not None
        for mean in reducer.take(block):
            end = end_s(mean)
            if last is not None and mean.first_index > last[0] + 1:
                gaps.append(last[1])
            last = int(mean.index[-1]), float(end[-1])
            ends.append(end)
            powers.append(mean.power_w)
    if not ends:
        return None
    own_s, arrived_ns = (np.concatenate(column) for column in zip(*arrived, strict=True))
    end = np.concatenate(ends)
    if not (np.isfinite(end).all() and np.isfinite(own_s).all() and (np.diff(end) >= 0).all()):
        raise ValueError("its moments are not in order")
    if stamped and end.size > 1:
        hz = 1 / max(1e-6, float(np.median(np.diff(end))))
    return _Samples(
        end, np.concatenate(powers), np.array(gaps), own_s, arrived_ns, hz, 1 if stamped else reducer.factor
    )


def _check_alike(samples: _Samples, told: kept.MeterFile) -> None:
    """Raises DeviceError for stamps of another unit than seconds, by which no moment can be told."""
    own_s = float(samples.own_s[-1]) - float(samples.own_s[0])
    here_s = (int(samples.host_ns[-1]) - int(samples.host_ns[0])) * 1e-9
    if told.clock != HOST_CLOCK and abs(own_s - here_s) > _ALIKE * here_s + _ALIKE_S:
        share = f"{own_s / here_s:.3g}" if here_s else "no rate"
        raise DeviceError(f"its stamps run at {share} of this computer's clock: are they seconds, or ns?", "clock")


def end_s(block: Block) -> Float64s:
    """When each sample of a block ended, on the meter's own clock."""
    if block.own_s is not None:
        return block.own_s
    return np.asarray((block.index + 1) / block.rate_hz, dtype=np.float64)


def _mapped(moments_s: Float64s, samples: _Samples, told: kept.MeterFile) -> tuple[Int64s, float]:
    """Moments of the meter's clock on this computer's, and how far that may be off (s)."""
    half_way_s = told.latency_s / 2
    if told.clock == HOST_CLOCK:
        return np.rint((moments_s - half_way_s) * 1e9).astype(np.int64), half_way_s
    line = arrival.fit(samples.own_s, samples.host_ns)
    return line.host_ns(moments_s) - round(half_way_s * 1e9), line.bound_s + half_way_s


def _reason(code: ReasonCode, detail: str) -> Reason:
    return Reason(code=code, detail=detail)


def _frame(parts: list[tuple[Int64s, Float64s, str | None]], sensor: str, channel: str) -> pd.DataFrame:
    """Rows like the trace's, in order of time."""
    t_ns = np.concatenate([part[0] for part in parts]) if parts else np.array([], dtype=np.int64)
    frame = pd.DataFrame(
        {
            "t_ns": t_ns.astype(np.int64),
            "due_ns": t_ns.astype(np.int64),
            "read_ns": np.zeros(t_ns.size, dtype=np.int64),
            "sensor": np.full(t_ns.size, sensor, dtype=object),
            "channel": np.full(t_ns.size, channel, dtype=object),
            "value": np.concatenate([part[1] for part in parts]) if parts else np.array([], dtype=np.float64),
            "error": [part[2] for part in parts for _ in range(part[0].size)],
        },
        columns=list(COLUMNS),
    )
    frame["error"] = frame["error"].astype(object)
    return frame.sort_values("t_ns", kind="stable", ignore_index=True)
