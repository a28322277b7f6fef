"""Which channels are a device's total: a meter's, the profile's rule, or the outermost boundary that has one.

Figures of different boundaries are never added. Without a rule only `soc` channels are summed, since packages lie side
by side, while rails may lie inside each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.analysis.power_series import Curve, curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.trace import Trace
    from melt.records import Boundary, EnergyBasis, Provenance, SensorNote

OUTERMOST: tuple[Boundary, ...] = ("wall", "board_input", "module", "battery", "soc")
METER = "meter."
"""How the sensors of an external meter are called."""
_WEAKEST: tuple[Provenance, ...] = ("measured", "counter", "modelled", "estimated")
_TOLD = re.compile(r"boundary (?P<boundary>\w+), provenance \w+, [^:;]+: (?P<channels>[^;]+)")


@dataclass(frozen=True)
class Total:
    """The channels whose sum is the total at `boundary`."""

    boundary: Boundary
    curves: tuple[Curve, ...]
    excludes: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.curves)

    @property
    def provenance(self) -> Provenance:
        """The weakest of the summands is what the sum is."""
        return max((one.note.provenance or "estimated" for one in self.curves), key=_WEAKEST.index)

    @property
    def refresh_s(self) -> float:
        """Of the slowest summand."""
        return max(one.spacing_s for one in self.curves)

    @property
    def averages(self) -> bool:
        return all(one.averages for one in self.curves)

    @property
    def gauge(self) -> bool:
        """Whether it is a battery's own gauge: slow, and of no meaning while charging."""
        return self.boundary == "battery" and not any(is_meter(one.note) for one in self.curves)

    @property
    def about(self) -> str:
        counted = all(one.note.quantity == "energy" for one in self.curves)
        how = "counter differenced" if counted else "updates of power integrated"
        worst = max(self.curves, key=lambda one: one.spacing_s)
        refresh = f"refresh {self.refresh_s:.3g} s"
        if worst.guessed:
            refresh = f"refresh not calibrated, taken for {self.refresh_s:.3g} s"
        elif not worst.response.calibrated and not is_meter(worst.note):  # a meter's is what melt itself counted
            refresh += " by its data sheet"
        lags = [one.response.lag_error_s for one in self.curves]
        known = [lag for lag in lags if lag is not None]
        lag = f"lag known to {max(known):.3g} s" if len(known) == len(lags) else "lag not calibrated"
        told = f"boundary {self.boundary}, provenance {self.provenance}, {how}: {' + '.join(self.channels)}"
        without = f"; without {', '.join(self.excludes)}" if self.excludes else ""
        return f"{told}{without}; {refresh}, {lag}"


def told_total(note: str | None) -> tuple[str, frozenset[str]] | None:
    """The boundary and the channels that a figure of energy is of, as its note has them (`Total.about`)."""
    told = _TOLD.search(note) if note else None
    return (told["boundary"], frozenset(told["channels"].split(" + "))) if told else None


def is_meter(note: SensorNote) -> bool:
    return note.sensor.startswith(METER)


def total(trace: Trace, basis: EnergyBasis) -> Total | str:
    """The total of a trace, or the reason why there is none."""
    told = {name: note for name, note in sorted(trace.notes.items()) if note.quantity in ("energy", "power")}
    metered = {name: note for name, note in told.items() if is_meter(note)}
    if metered:
        return _by_boundary(trace, metered)
    if basis.total is not None:
        return _of_rule(trace, basis)
    if basis.no_total is not None:
        return basis.no_total if re.match(r"[a-z_]+: ", basis.no_total) else f"no_total: {basis.no_total}"
    fit = {name: note for name, note in told.items() if note.not_for_energy is None}
    found = _by_boundary(trace, fit)
    unfit = next((note.not_for_energy for note in told.values() if note.not_for_energy), None)
    return f"not_for_energy: {unfit}" if isinstance(found, str) and unfit and not fit else found


def _of_rule(trace: Trace, basis: EnergyBasis) -> Total | str:
    rule = basis.total
    assert rule is not None  # noqa: S101  # what the one caller has just seen
    unknown = [name for name in rule.sum if name not in trace.notes]
    if unknown:
        return f"no_total: the total is {' + '.join(rule.sum)}, and this device has no {', '.join(unknown)}"
    for name in rule.sum:
        note = trace.notes[name]
        if note.not_for_energy:
            return f"not_for_energy: {note.not_for_energy}"
        if note.quantity not in ("energy", "power"):
            return f"no_total: the total is {' + '.join(rule.sum)}, and {name} is a {note.quantity}, no power"
    return _sum(trace, rule.sum, rule.boundary, rule.excludes)


def _by_boundary(trace: Trace, told: dict[str, SensorNote]) -> Total | str:
    """By what the device has and not by what gave a value: a silent sensor must not make another total of a run."""
    given = [name for name in told if len(trace[name])]
    if told and not given:
        return f"no_sensor: {', '.join(told)} gave no value in this run"
    for boundary in OUTERMOST:
        here = [name for name in told if told[name].boundary == boundary]
        used = [name for name in here if told[name].quantity == "energy"] or here
        if not used:
            continue
        if len(used) > 1 and boundary != "soc":
            return f"no_total: {', '.join(used)} each claim to be the {boundary}; name one of them in the profile"
        return _sum(trace, used, boundary)
    if given:
        return f"no_total: {', '.join(given)} are parts of the device, and a sum of parts is not its total"
    return "no_sensor: this device has no sensor of energy or power that melt can read; an external meter is the way"


def _sum(trace: Trace, names: Sequence[str], boundary: Boundary, excludes: tuple[str, ...] = ()) -> Total | str:
    curves = {name: curve(trace, name) for name in names}
    silent = [name for name, one in curves.items() if one is None]
    if silent:
        return (
            f"sensor_gap: {', '.join(silent)} gave no value in this run, or one alone, and the total of the {boundary} "
            "needs it"
        )
    return Total(boundary, tuple(one for one in curves.values() if one is not None), excludes)
