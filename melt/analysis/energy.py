"""Energy of a run: one total at one boundary, over the measured window and over its phases, gross and net of idle.

A figure is given where the measured window is at least 60 s long (120 s of a battery's own gauge) and the phase spans
20 refresh periods of the sensor, its repeats in the run taken together. Each names its boundary, its provenance and
the sensor's refresh, and carries its uncertainty. What is not known is a gap with its reason, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.analysis.energy_phases import Phase, Spent, idle_of, own_idle, phases_of, spent, steps_j
from melt.analysis.measured import measure
from melt.analysis.power_series import curve
from melt.analysis.total import Total, total
from melt.analysis.trace import by_channel
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from melt.analysis.events import Asked, RunEvents, Window
    from melt.analysis.measured import Measured
    from melt.analysis.trace import Trace
    from melt.records import BatteryNote, IdlePower, SensorNote

WHOLE = ("energy_j", "power_mean_w", "power_peak_w", "energy_mwh", "j_per_inference", "edp_js")
WHOLE_NET = ("energy_net_j", "j_per_inference_net")
OF_BATTERY = ("charge_mah", "prompts_per_battery")
PER_UNIT = {"prefill": "j_per_prompt_token", "decode": "j_per_token"}
_J_PER_MWH = 3.6
_COULOMB_PER_MAH = 3.6


def energy(trace: Trace, measured: Measured, asked: Asked) -> dict[str, Metric]:
    """Every metric of energy and power of a run by name; each a value or a gap with its reason."""
    phases = phases_of(measured)
    chosen = total(trace, asked.energy)
    if isinstance(chosen, str):
        return {**dict.fromkeys(_names(phases, asked.energy.battery), gap(chosen)), **_rails(trace, measured, ())}
    idle = idle_of(chosen, trace, measured.phases.idle, asked.energy)
    run = _Run(chosen, trace, measured, idle, phases["whole"].length_s)
    found = run.whole(phases["whole"], asked.energy.battery)
    for name, phase in phases.items():
        if name != "whole":
            found |= run.phase(name, phase)
    found["edp_js"] = _delay_product(found, phases, len(measured.kept))
    return {**found, **_rails(trace, measured, chosen.channels)}


def idle_power(
    events: RunEvents, trace: pd.DataFrame, sensors: Mapping[str, SensorNote], asked: Asked, run_id: str
) -> IdlePower | str:
    """The idle power of a run that had an idle window, for the others of its block; or why it is not known."""
    channels = by_channel(trace, sensors)
    chosen = total(channels, asked.energy)
    if isinstance(chosen, str):
        return chosen
    return own_idle(chosen, channels, measure(events, asked).phases.idle, run_id)


def _names(phases: Mapping[str, Phase], battery: BatteryNote | None) -> list[str]:
    names = [*WHOLE, *WHOLE_NET, *(OF_BATTERY if battery else ())]
    for phase in phases:
        if phase != "whole":
            names += [f"energy_{phase}_j", f"energy_{phase}_net_j"]
        if phase in PER_UNIT:
            names += [PER_UNIT[phase], f"{PER_UNIT[phase]}_net"]
    return names


@dataclass(frozen=True)
class _Run:
    """A run with a total: what its metrics stand on."""

    chosen: Total
    trace: Trace
    measured: Measured
    idle: IdlePower | str
    measured_s: float

    def whole(self, phase: Phase, battery: BatteryNote | None) -> dict[str, Metric]:
        used = spent(self.chosen, phase, self.trace, measured_s=self.measured_s)
        if isinstance(used, str):
            return dict.fromkeys(_names({}, battery), gap(used))
        n, about = len(self.measured.kept), self._about(used)
        joules = Metric(value=used.energy_j, n=n, note=about, error=used.error_j)
        each = _shared(joules, n)
        found = {
            "energy_j": joules,
            "power_mean_w": _times(joules, 1 / used.length_s, about),
            "power_peak_w": self._peak(phase.windows[0]),
            "energy_mwh": _times(joules, 1 / _J_PER_MWH, f"energy_j in other units: {about}"),
            "j_per_inference": each,
        }
        if battery is not None:
            found |= _of_battery(joules, each, battery, about)
        net = self._net(used, n)
        return {**found, "energy_net_j": net, "j_per_inference_net": _shared(net, n)}

    def phase(self, name: str, phase: Phase) -> dict[str, Metric]:
        gross_name, net_name = f"energy_{name}_j", f"energy_{name}_net_j"
        used = spent(self.chosen, phase, self.trace, measured_s=self.measured_s)
        n = len(phase.windows)
        if isinstance(used, str):
            gross = net = gap(used)
        else:
            gross = Metric(value=used.energy_j, n=n, note=self._about(used), error=used.error_j)
            net = self._net(used, n)
        found = {gross_name: gross, net_name: net}
        if name in PER_UNIT:
            unit = PER_UNIT[name]
            found |= {unit: _shared(gross, phase.units), f"{unit}_net": _shared(net, phase.units)}
        return found

    def _about(self, used: Spent) -> str:
        return "; ".join([self.chosen.about, *used.notes])

    def _net(self, used: Spent, n: int) -> Metric:
        """Less the idle power × the time; what idle power may be off by is added linearly."""
        if isinstance(self.idle, str):
            return gap(self.idle)
        net_j = used.energy_j - self.idle.power_w * used.length_s
        error_j = used.error_j + self.idle.error_w * used.length_s
        taken = f"idle power {self.idle.power_w:.4g} W taken off"
        return Metric(value=net_j, n=n, note=f"{self._about(used)}; {taken}", error=error_j)

    def _peak(self, window: Window) -> Metric:
        """The highest mean power (W) over whole steps of a second (of an update, where that is longer)."""
        step_s, used_j = steps_j(self.chosen, window)
        peak_w = float(used_j.max()) / step_s
        return Metric(value=peak_w, note=f"{self.chosen.about}; the highest mean over {step_s:.3g} s")


def _times(metric: Metric, factor: float, note: str | None) -> Metric:
    if metric.value is None or metric.error is None:
        return metric
    return Metric(value=metric.value * factor, n=metric.n, note=note, error=metric.error * abs(factor))


def _shared(metric: Metric, by: int) -> Metric:
    """The metric by the number of what it was spent on."""
    if metric.value is None:
        return metric
    if by <= 0:
        return gap("no_measurement: no inference ended")
    return _times(metric, 1 / by, metric.note).model_copy(update={"n": by})


def _of_battery(joules: Metric, each: Metric, battery: BatteryNote, about: str) -> dict[str, Metric]:
    """Conversions: the charge at the battery's nominal voltage, and how often its whole charge would do."""
    charge = _times(joules, 1 / (battery.voltage_v * _COULOMB_PER_MAH), f"energy_j at {battery.voltage_v:g} V: {about}")
    if each.value is None or each.error is None:
        return {"charge_mah": charge, "prompts_per_battery": each}
    if each.value <= 0:
        return {"charge_mah": charge, "prompts_per_battery": gap("no_measurement: no energy was spent")}
    full_j = battery.capacity_mah * _COULOMB_PER_MAH * battery.voltage_v
    full = f"{battery.capacity_mah:g} mAh at {battery.voltage_v:g} V, nominal, from full to empty ÷ j_per_inference"
    note = f"{full}: {about}"
    times = Metric(value=full_j / each.value, n=each.n, note=note, error=full_j * each.error / each.value**2)
    return {"charge_mah": charge, "prompts_per_battery": times}


def _delay_product(found: Mapping[str, Metric], phases: Mapping[str, Phase], n: int) -> Metric:
    """Energy × delay (J·s) of one token where tokens are decoded, else of one inference."""
    name, phase, by = (
        ("j_per_token", phases["decode"], phases["decode"].units)
        if "decode" in phases
        else ("j_per_inference", phases["whole"], n)
    )
    each = found[name]
    if each.value is None or by <= 0:
        return each
    delay_s = phase.length_s / by
    return _times(each, delay_s, f"{name} × the {delay_s:.4g} s that each takes: {each.note}")


def _rails(trace: Trace, measured: Measured, used: tuple[str, ...]) -> dict[str, Metric]:
    """The mean power over the measured window of each channel that is not of the total."""
    if measured.window is None:
        return {}
    whole = Phase("measured window", (measured.window,), whole=True)
    found = {}
    for name, note in sorted(trace.notes.items()):
        if name in used or note.quantity not in ("energy", "power"):
            continue
        one = curve(trace, name)
        key = f"power_mean_w.{name}"
        if note.not_for_energy:
            found[key] = gap(f"not_for_energy: {note.not_for_energy}")
        elif one is None:
            said = "one value alone" if len(trace[name]) else "no value in this run"
            found[key] = gap(f"sensor_gap: {name} gave {said}")
        else:
            alone = Total(note.boundary or "rail", (one,))
            mean = spent(alone, whole, trace, measured_s=whole.length_s, rests=True)
            found[key] = (
                gap(mean)
                if isinstance(mean, str)
                else Metric(
                    value=mean.energy_j / mean.length_s,
                    note="; ".join([alone.about, *mean.notes]),
                    error=mean.error_j / mean.length_s,
                )
            )
    return found
