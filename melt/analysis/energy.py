"""Energy of the measured window: one total at one boundary, gross and net of idle.

A counter is differenced (wraps lifted), a power channel integrated by trapezoids; both become a cumulative series
that is interpolated at the window's edges. Figures of different boundaries are never added. The total is the
outermost boundary that has a channel; only `soc` channels are summed, since packages lie side by side, while rails
may lie inside each other.

A figure is given where the window is at least 60 s and 20 periods long. The uncertainty in the note is that of the two
edges, half a period × the step in power each, added linearly; it knows neither the instrument's gain nor its lag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.trace import GAP_PERIODS, Series
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.analysis.events import Float64s, Int64s, Window
    from melt.analysis.trace import Trace
    from melt.records import Boundary, Provenance, Quantity

MIN_WINDOW_S = 60.0
MIN_PERIODS = 20
PEAK_OVER_S = 1.0
OUTERMOST: tuple[Boundary, ...] = ("wall", "board_input", "module", "battery", "soc")
NAMES = ("energy_j", "energy_net_j", "power_mean_w", "power_peak_w", "j_per_inference", "j_per_inference_net")


@dataclass(frozen=True)
class Total:
    """The channels whose sum is the total at `boundary`, as cumulative energy (J), by name."""

    boundary: Boundary
    provenance: Provenance
    quantity: Quantity
    period_s: float
    channels: Mapping[str, Series]

    @property
    def about(self) -> str:
        how = (
            "counter differenced" if self.quantity == "energy" else "polled power, refresh and averaging not calibrated"
        )
        return f"boundary {self.boundary}, provenance {self.provenance}, {how}: {' + '.join(self.channels)}"

    def along(self, times: Int64s) -> Float64s:
        """Cumulative energy (J) at each of `times` (ns)."""
        return np.asarray(
            np.sum([channel.along(times) for channel in self.channels.values()], axis=0), dtype=np.float64
        )

    def spent(self, window: Window) -> float | None:
        """Energy (J) over `window`; None where a channel does not cover it."""
        if not all(channel.covers(window) for channel in self.channels.values()):
            return None
        return float(np.diff(self.along(np.array(window)))[0])


def total(trace: Trace) -> Total | str:
    """The total of a trace, or the reason why there is none."""
    channels = {**trace.of("energy"), **trace.of("power")}
    for boundary in OUTERMOST:
        here = [name for name in channels if trace.notes[name].boundary == boundary]
        counters = [name for name in here if trace.notes[name].quantity == "energy"]
        used = counters or here
        if not used:
            continue
        if len(used) > 1 and boundary != "soc":
            return f"no_total: {', '.join(used)} each claim to be the {boundary}; name one of them in the profile"
        note = trace.notes[used[0]]
        return Total(
            boundary=boundary,
            # the weakest of the summands is what the sum is
            provenance=max((trace.notes[n].provenance or "estimated" for n in used), key=_WEAKEST.index),
            quantity=note.quantity,
            period_s=max(trace.notes[n].period_s for n in used),
            channels={n: _cumulative(channels[n], trace.notes[n].quantity, trace.notes[n].wraps_at) for n in used},
        )
    if channels:
        return f"no_total: {', '.join(channels)} are parts of the device, and a sum of parts is not its total"
    declared = sorted(name for name, note in trace.notes.items() if note.quantity in ("energy", "power"))
    if declared:
        return f"no_sensor: {', '.join(declared)} gave no value in this run"
    return "no_sensor: this device has no sensor of energy or power that melt can read; an external meter is the way"


def energy(trace: Trace, window: Window | None, idle: Window | None, n: int) -> dict[str, Metric]:
    """The metrics of `NAMES` over `window`, in which `n` inferences ended; each a value or a gap with its reason."""
    chosen = total(trace)
    if isinstance(chosen, str):
        return dict.fromkeys(NAMES, gap(chosen))
    if window is None:
        return dict.fromkeys(NAMES, gap("no_measurement: the run has no measured window"))
    length_s = (window[1] - window[0]) * 1e-9
    if short := _too_short("measured window", length_s, chosen.period_s):
        return dict.fromkeys(NAMES, gap(short))
    spent = chosen.spent(window)
    if spent is None:
        return dict.fromkeys(NAMES, gap("sensor_gap: the energy sensor does not cover the whole measured window"))
    idle_w = _idle_power(chosen, idle)
    power_w = spent / length_s
    step_w = power_w if isinstance(idle_w, str) else abs(power_w - idle_w)
    edges_j = 2 * (chosen.period_s / 2) * step_w
    pause_s = max(channel.longest_pause_s(window) for channel in chosen.channels.values())
    paused = f"; a pause of {pause_s:.3g} s between values" if pause_s > GAP_PERIODS * chosen.period_s else ""
    about = f"{chosen.about}; the edges leave ±{edges_j:.2g} J{paused}"
    peak_about = f"{chosen.about}; the highest mean over {PEAK_OVER_S:g} s"
    found = {
        "energy_j": Metric(value=spent, n=n, note=about),
        "power_mean_w": Metric(value=power_w, note=about),
        "power_peak_w": Metric(value=_peak(chosen, window), note=peak_about),
        "j_per_inference": Metric(value=spent / n, n=n, note=about) if n else gap("no_measurement: no inference ended"),
    }
    if isinstance(idle_w, str):
        return {**found, **dict.fromkeys(("energy_net_j", "j_per_inference_net"), gap(idle_w))}
    net = spent - idle_w * length_s
    net_about = f"{about}; idle power {idle_w:.4g} W taken off"
    return {
        **found,
        "energy_net_j": Metric(value=net, n=n, note=net_about),
        "j_per_inference_net": Metric(value=net / n, n=n, note=net_about) if n else found["j_per_inference"],
    }


_WEAKEST: tuple[Provenance, ...] = ("measured", "counter", "modelled", "estimated")


def _cumulative(series: Series, quantity: Quantity, wraps_at: float | None) -> Series:
    if quantity == "energy":
        return series.unwrapped(wraps_at)
    step_j = np.diff(series.t) * 1e-9 * (series.v[1:] + series.v[:-1]) / 2
    return Series(series.t, np.concatenate(([0.0], np.cumsum(step_j))))


def _too_short(what: str, length_s: float, period_s: float) -> str:
    if length_s < MIN_WINDOW_S:
        return f"window_too_short: the {what} is {length_s:.3g} s long, energy needs {MIN_WINDOW_S:g} s"
    if length_s < MIN_PERIODS * period_s:
        return (
            f"window_too_short: the {what} of {length_s:.3g} s spans {length_s / period_s:.3g} periods "
            f"of the sensor ({period_s:g} s), energy needs {MIN_PERIODS}"
        )
    return ""


def _idle_power(chosen: Total, idle: Window | None) -> float | str:
    """The mean power (W) of the idle window, or the reason why net energy is not known."""
    if idle is None:
        return "no_idle_window: idle power was not measured, so there is no net energy"
    length_s = (idle[1] - idle[0]) * 1e-9
    if short := _too_short("idle window", length_s, chosen.period_s):
        return short
    spent = chosen.spent(idle)
    return "sensor_gap: the energy sensor does not cover the whole idle window" if spent is None else spent / length_s


def _peak(chosen: Total, window: Window) -> float:
    """The highest mean power (W) over whole steps of a second (of a period, where that is longer)."""
    step_ns = int(max(PEAK_OVER_S, chosen.period_s) * 1e9)
    spent = np.diff(chosen.along(np.arange(window[0], window[1], step_ns)))
    return float(spent.max()) / (step_ns * 1e-9)
