"""Raw data in, metrics out: every number of a run, or the reason why it is not known.

A change of any definition raises `records.METRIC_VERSION`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.analysis.bench import bench
from melt.analysis.energy import energy
from melt.analysis.events import mark
from melt.analysis.generation import generation
from melt.analysis.loading import loading
from melt.analysis.measured import Measured, measure
from melt.analysis.memory import memory
from melt.analysis.percentiles import outliers, percentiles
from melt.analysis.roofline import roofline
from melt.analysis.score import score
from melt.analysis.sustained import sustained
from melt.analysis.trace import ENGINE_CPU, Trace, by_channel, is_cap
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from melt.analysis.events import Asked, RunEvents, Window
    from melt.records import SensorNote

NOTHING_MEASURED = "no_measurement: no inference ended in the measured phase"


def metrics(
    events: RunEvents, trace: pd.DataFrame, sensors: Mapping[str, SensorNote], asked: Asked
) -> dict[str, Metric]:
    """Every metric of one run, by name with its unit; time linear in the samples. Never raises on truncated events."""
    measured = measure(events, asked)
    channels = by_channel(trace, sensors)
    return {
        **(roofline(measured.landmarks) or _times(measured)),
        **loading(measured),
        **generation(measured),
        **bench(measured),
        **score(measured),
        **memory(measured.landmarks, channels, measured.phases),
        "engine_cpu_share": _cpu_share(channels, measured.watched),
        **_clocks(channels, measured.watched),
        "temperature_max_c": _hottest(channels, measured.watched),
        **energy(channels, measured, asked),
        **sustained(events, measured, asked),
    }


def _times(measured: Measured) -> dict[str, Metric]:
    names = {
        50: "latency_p50_s",
        90: "latency_p90_s",
        95: "latency_p95_s",
        99: "latency_p99_s",
        99.9: "latency_p99_9_s",
    }
    of_phases = {
        "load_s": _length(measured.phases.load, "the model load did not end"),
        "first_inference_s": _length(measured.phases.first, "the first inference did not end"),
    }
    if measured.window is None:
        missing = (*names.values(), "latency_mean_s", "latency_outliers", "inferences_per_s", "warmup_discarded")
        return {**of_phases, **dict.fromkeys(missing, gap(NOTHING_MEASURED))}
    seconds = measured.kept.seconds
    n, wall_s = seconds.size, (measured.window[1] - measured.window[0]) * 1e-9
    far = outliers(seconds)
    by_percentile = percentiles(seconds)
    too_few = None if measured.warmup.tested else "too few samples to tell warm-up from noise"
    capped = mark(measured.landmarks, "measure.capped") is not None
    stopped = "the engine stopped at its largest number of inferences, before the time asked for" if capped else None
    return {
        **of_phases,
        **{names[p]: metric for p, metric in by_percentile.items()},
        "latency_mean_s": Metric(value=float(seconds.mean()), n=n),
        "latency_outliers": Metric(
            value=float(len(far.mad)), n=n, note=f"MAD z above 14.8, kept; {len(far.tukey)} outside Tukey's fences"
        ),
        "inferences_per_s": Metric(value=n / wall_s, n=n, note=stopped),
        "warmup_discarded": Metric(
            value=float(measured.warmup.discarded), n=n + measured.warmup.discarded, note=too_few
        ),
    }


def _length(window: Window | None, why_not: str) -> Metric:
    return Metric(value=(window[1] - window[0]) * 1e-9, n=1) if window else gap(f"no_measurement: {why_not}")


def _cpu_share(channels: Trace, window: Window | None) -> Metric:
    """CPU seconds of the engine ÷ wall over the measured window: 2.0 is two cores busy throughout."""
    if window is None:
        return gap(NOTHING_MEASURED)
    part = channels[ENGINE_CPU].shared(window)
    used = channels[ENGINE_CPU].grown(part) if part else None
    if part is None or used is None:
        return gap("no_sample: the engine's CPU time was sampled over less than half of the measured window")
    return Metric(value=used / ((part[1] - part[0]) * 1e-9), note="of one core: 2.0 is two cores busy throughout")


def _clocks(channels: Trace, window: Window | None) -> dict[str, Metric]:
    """The time-weighted mean of each clock over the measured window, as `clock_hz.<channel>`."""
    if window is None:
        return {}
    found = {}
    for name, series in channels.of("clock").items():
        if is_cap(name):
            continue
        mean = series.mean(window)
        samples = len(series.within(window))
        why_not = "no_sample: the clock was not read in the measured window"
        found[f"clock_hz.{name}"] = gap(why_not) if mean is None else Metric(value=mean, n=samples)
    return found


def _hottest(channels: Trace, window: Window | None) -> Metric:
    if not any(note.quantity == "temperature" for note in channels.notes.values()):
        return gap("no_sensor: this device has no temperature that melt can read")
    if window is None:
        return gap(NOTHING_MEASURED)
    peaks = {
        name: float(inside.v.max())
        for name, series in channels.of("temperature").items()
        if len(inside := series.within(window))
    }
    if not peaks:
        return gap("no_sample: no temperature was read in the measured window")
    hottest = max(peaks, key=lambda name: peaks[name])
    return Metric(value=peaks[hottest], n=len(peaks), note=f"at {hottest}; n is the number of sensors")
