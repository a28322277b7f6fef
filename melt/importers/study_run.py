"""One iteration of the 2024 study's conversations as a run: its turns, its power on the same clock, its gaps."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from melt.analysis.events import Asked
from melt.analysis.metrics import metrics
from melt.importers.base import Series, not_told
from melt.importers.study_files import (
    Counted,
    Span,
    number,
    table,
)
from melt.importers.study_power import Logged, read_log, read_monsoon
from melt.importers.study_talks import talks_of, text_of
from melt.importers.study_turns import NO_STAMPS, lines, offset
from melt.job import parse_events
from melt.job.trace import COLUMNS
from melt.records import EnergyBasis, Metric, Response, SensorNote, TotalRule, gap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from melt.importers.study_layout import Iteration
    from melt.importers.study_power import Track
    from melt.importers.study_turns import Talk

PHASE_BOUND_S = 0.5
"""Where the meter's clock is known no better than this, no phase has an energy."""
_BESIDE_NS = 10_000_000_000
_PHASES = ("energy_load", "energy_prefill", "energy_decode", "j_per_token", "j_per_prompt_token", "edp_js")
_ENERGY = ("energy_", "power_", "j_per_", "edp_", "charge_", "prompts_per_")
_PAUSED = ("inferences_per_s", "j_per_inference", "j_per_inference_net")
_OF_TOKENS = ("ttft_s", "ttft_text_s", "itl_p50_s", "itl_p90_s", "itl_p95_s", "itl_p99_s", "itl_p99_9_s")
_OUTER = "carrier board and what is plugged into it"
_MODULE_PARTS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
"""An AGX Orin's module is their sum; its memory's own rail lies inside of the last."""


@dataclass(frozen=True)
class Power:
    """The power of a run on the clock of its events, what its total is, and why phases have no energy of it."""

    logged: Logged
    rule: TotalRule | None
    no_total: str | None
    shift_ns: int = 0
    """What is taken off its stamps."""
    bound_s: float = 0.0
    why_no_phases: str = ""
    why_none: str = ""
    """Why it is not used at all."""


@dataclass(frozen=True)
class Read:
    """An iteration as read: conversations, power, the analysis's figures, and what of the files is none."""

    talks: tuple[Talk, ...]
    power: Power
    series: Series
    figures: Mapping[str, Metric]
    """Every metric of melt's own analysis of `series`, those of `replaced` in place of them."""
    replaced: Mapping[str, Metric]
    problems: tuple[str, ...]
    begin_ns: int
    model: str | None


def read_iteration(folder: Path, iteration: Iteration) -> Read | str:
    """Everything of an iteration, or the sentence why it is no run."""
    problems: list[str] = []
    talks, model = talks_of(iteration, problems)
    if not any(talk.turns for talk in talks):
        names = ", ".join(sorted(file.name for file in iteration.files)) or "nothing"
        return f"iteration {iteration.number}: no prompt of it can be read ({names}), so it is no run" + "".join(
            f"; {problem}" for problem in problems
        )
    power = _power(folder, iteration, talks, problems)
    stamped = [span for talk in talks for span in (*([talk.load] if talk.load else []), *(t.span for t in talk.turns))]
    begin = min(span.begin for span in stamped)
    base = begin - 2 * _BESIDE_NS
    trace, sensors = _trace(power, base, begin, max(span.end for span in stamped))
    asked = Asked(energy=EnergyBasis(total=power.rule, no_total=power.no_total))
    series = Series(lines(talks, base), trace, sensors, asked)
    found = metrics(parse_events(io.BytesIO(series.events)), trace, sensors, asked)
    replaced = _replaced(talks, power, found)
    return Read(tuple(talks), power, series, {**found, **replaced}, replaced, tuple(problems), begin, model)


# ------------------------------------------------------------------------------------------------------ power


def _power(folder: Path, iteration: Iteration, talks: Sequence[Talk], problems: list[str]) -> Power:
    meter = folder / "measurements_monsoon.csv"
    source = iteration.log or (meter if meter.is_file() else None)
    if source is None:
        return Power(Logged(), None, None, why_none="not_told: the folder has no power trace of this iteration")
    try:
        logged = read_log(source) if iteration.log else read_monsoon(source, folder / ".t_monsoon")
    except (OSError, ValueError) as error:
        problems.append(f"{source.name}: {error}")
        return Power(Logged(), None, None, why_none=f"not_told: {source.name} cannot be read: {error}")
    problems += [f"{source.name}: {problem}" for problem in logged.problems]
    if iteration.log is None:
        return _metered(folder, iteration, talks, logged, problems)
    if not logged.rails:
        return Power(logged, None, None, why_none=f"not_told: {source.name} holds no rail with a power")
    rule = total_of(logged.rails)
    return Power(logged, rule, None if rule else "no_total: the log has no rail that is a part of the module's total")


def total_of(rails: Mapping[str, Track]) -> TotalRule | None:
    """Which rails are the module's total; what a log without one of them leaves out is said."""
    if "VDD_IN" in rails:
        return TotalRule(sum=(channel("VDD_IN"),), boundary="module", excludes=(_OUTER,))
    there = [name for name in _MODULE_PARTS if name in rails]
    if len(there) == len(_MODULE_PARTS):
        losses = "losses of the module's input regulators"
        return TotalRule(sum=tuple(map(channel, there)), boundary="module", excludes=(_OUTER, losses))
    if not there:
        return None
    missing = [name for name in _MODULE_PARTS if name not in rails]
    said = [f"{name}, with the memory" if name == "VIN_SYS_5V0" else name for name in missing]
    return TotalRule(sum=tuple(map(channel, there)), boundary="rail", excludes=tuple(said))


def channel(rail: str) -> str:
    """What a rail's channel is called."""
    return f"ina3221.{rail.lower()}"


def _metered(folder: Path, iteration: Iteration, talks: Sequence[Talk], logged: Logged, problems: list[str]) -> Power:
    """A meter at the host: on the clock of the run's events as far as windows of both clocks tell."""
    turns = [turn for talk in talks for turn in talk.turns]
    hosts = [span for talk in talks for span in talk.host]
    if hosts and [t.span for t in turns] == hosts:
        return Power(logged, None, None, 0, logged.bound_s, _bound(logged.bound_s))
    if hosts:
        known = offset([(t.span.begin, t.span.end) for t in turns], [(h.begin, h.end) for h in hosts])
    else:
        outer = _host_run(folder / "measurements_ts.csv", iteration.number, problems)
        first = min(span.begin for span in (*(t.load for t in talks if t.load), *(t.span for t in turns)))
        inner = (first, max(t.span.end for t in turns))
        known = offset([inner], [(outer.begin, outer.end)]) if outer else None
    if known is None:
        why = "clock_bound: nothing in the folder ties the meter's clock to that of the device"
        return Power(logged, None, None, why_none=why)
    bound_s = known.bound_s + logged.bound_s
    return Power(logged, None, None, round(known.s * 1e9), bound_s, _bound(bound_s))


def _bound(bound_s: float) -> str:
    if bound_s <= PHASE_BOUND_S:
        return ""
    needs = f"the energy of a phase needs {PHASE_BOUND_S:g} s"
    return f"clock_bound: the meter's clock is known on that of the run to {bound_s:.3g} s, {needs}"


def _host_run(file: Path, iteration: int, problems: list[str]) -> Span | None:
    """The window of an iteration on the host's clock, from the table of stages."""
    text = text_of(file, problems) if file.is_file() else None
    try:
        rows = table(text or "")
    except ValueError as error:
        problems.append(f"{file.name}: {error}")
        return None
    for row in rows:
        begin, end = number(row.get("time_start")), number(row.get("time_end"))
        if row.get("stage") == f"Run_{iteration}" and begin is not None and end is not None and 0 < begin < end < 4e9:  # noqa: PLR2004
            return Span(round(begin * 1e9), round(end * 1e9), "run")
    return None


def _trace(power: Power, base: int, begin: int, end: int) -> tuple[pd.DataFrame, dict[str, SensorNote]]:
    """The trace around the run in melt's own form, stamps (ns) from `base` on, and what its channels are."""
    notes: dict[str, SensorNote] = {}
    frames: list[pd.DataFrame] = []
    parts: list[tuple[str, Track, SensorNote]] = []
    if not power.why_none:
        for name, rail in power.logged.rails.items():
            note = _meter_note(power.bound_s) if name == "monsoon" else _rail_note(name, rail)
            parts.append(("meter.monsoon" if name == "monsoon" else channel(name), rail, note))
        for name, zone in power.logged.zones.items():
            step_s = _period_s(zone)
            note = SensorNote(sensor=f"zone.{name}", quantity="temperature", unit="c", source=name, period_s=step_s)
            parts.append((f"zone.{name}", zone, note))
    for name, track, note in parts:
        t = track.t - power.shift_ns
        near = (t >= begin - _BESIDE_NS) & (t <= end + _BESIDE_NS)
        at = t[near] - base
        notes[name] = note
        frames.append(
            pd.DataFrame(
                {"t_ns": at, "due_ns": at, "read_ns": 0, "sensor": note.sensor, "channel": name}
                | {"value": track.v[near], "error": None}
            )
        )
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame({name: [] for name in COLUMNS}), notes
    whole = pd.concat(filled, ignore_index=True).sort_values("t_ns", kind="stable", ignore_index=True)
    return whole, notes


def _rail_note(name: str, rail: Track) -> SensorNote:
    return SensorNote(
        sensor="ina3221",
        quantity="power",
        unit="w",
        source=f"energy_iter log: {name}",
        period_s=_period_s(rail),
        boundary="module" if name == "VDD_IN" else "rail",
        provenance="measured",
        label=name,
    )


def _meter_note(bound_s: float) -> SensorNote:
    return SensorNote(
        sensor="meter.monsoon",
        quantity="power",
        unit="w",
        source="measurements_monsoon.csv",
        period_s=0.01,
        boundary="battery",
        provenance="measured",
        response=Response(refresh_s=0.01, averages=True),
        clock_bound_s=bound_s,
    )


def _period_s(track: Track) -> float:
    """The usual time between two values (s)."""
    return float(np.median(np.diff(track.t))) * 1e-9 if len(track.t) > 1 else 1.0


# ------------------------------------------------------------------------------------------------------- gaps


def _replaced(talks: Sequence[Talk], power: Power, found: Mapping[str, Metric]) -> dict[str, Metric]:
    """What the analysis cannot know: rates that an engine told without stamps, and why a figure is a gap."""
    made: dict[str, Metric] = {}
    turns = [turn for talk in talks for turn in talk.turns]
    if not any(turn.stamped for turn in turns):
        whys = sorted({turn.why for turn in turns if turn.why})
        why = gap(whys[0] if whys else NO_STAMPS)
        made |= dict.fromkeys((*_OF_TOKENS, *_PHASES[3:5], f"{_PHASES[3]}_net", f"{_PHASES[4]}_net"), why)
        made |= _told_rates([turn.told for turn in turns if turn.told is not None])
        made["edp_js"] = gap("pauses: without stamps of tokens it would hold the time between prompts")
    between = "pauses: the time between two prompts lies in the measured window"
    made |= {name: gap(between) for name in _PAUSED if name in found}
    if not any(talk.load for talk in talks):
        made["load_s"] = gap(next((talk.load_why for talk in talks if talk.load_why), "not_told: no load is told"))
    if power.why_none:
        made |= {name: gap(power.why_none) for name in found if name.startswith(_ENERGY)}
    elif power.why_no_phases:
        phases = [name for name in found if name.startswith(_PHASES)]
        made |= {name: gap(power.why_no_phases) for name in phases}
    return made


def _told_rates(told: Sequence[Counted]) -> dict[str, Metric]:
    """Tokens ÷ seconds over all prompts, as the engine counted and timed them itself."""
    note = "by the engine's own counts and times: sampling is not in them"
    parts = {
        "prefill_tok_per_s": [(one.prompt_tokens, one.prefill_s) for one in told],
        "decode_tok_per_s": [(one.decoded, one.decode_s) for one in told],
    }
    found = {}
    for name, pairs in parts.items():
        known = [(n, s) for n, s in pairs if n and s]
        tokens, seconds = sum(n for n, _ in known), sum(s for _, s in known)
        told_why = not_told("the engine did not say how many tokens it made in what time")
        found[name] = Metric(value=tokens / seconds, n=tokens, note=note) if seconds > 0 else told_why
    return found
