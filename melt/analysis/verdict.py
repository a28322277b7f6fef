"""Raw data in, verdict out: every reason to trust a run less, and what the reasons make of it together."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from melt.analysis import events as ev
from melt.analysis.endings import endings
from melt.analysis.measured import measure
from melt.analysis.slowed import slowed
from melt.analysis.throttling import charger, throttled, under_voltage
from melt.analysis.trace import (
    BUSY_CPU,
    ENGINE_CPU,
    ENGINE_SWAP,
    GAP_PERIODS,
    PAGED_IN,
    STOLEN_CPU,
    Trace,
    by_channel,
)
from melt.records import Reason, ReasonCode, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import pandas as pd

    from melt.analysis.events import Asked, RunEvents, Window
    from melt.analysis.warmup import Warmup
    from melt.records import Event, SensorNote, Status

SUSPENDED_S = 0.05
"""The two clocks are not read in one instant: a process that waits for its turn in between sees them milliseconds
apart. To freeze a system and to wake it again takes longer than this."""
CLOCK_BOUND_S = 0.05
"""How far a meter's clock may be off; below it the energy's own uncertainty says what it costs."""
FOREIGN_LOAD = 0.10
"""Share of one core that others may take, a hypervisor's guests included. Above it they cost an engine on all cores
some per cent of its speed, the size of what melt wants to tell apart; below it lie the kernel's own threads,
interrupts on behalf of the engine, a quiet desktop, and the 10 ms ticks in which the kernel counts."""

_SHOWN_GONE = 3

MAKES: Mapping[ReasonCode, Literal["invalid", "partial"]] = MappingProxyType(
    {
        # not what was asked, or on a device in another state: the figures are not this cell's
        ReasonCode.THROTTLED: "invalid",
        ReasonCode.UNDER_VOLTAGE: "invalid",
        ReasonCode.AFFINITY: "invalid",
        ReasonCode.PIN: "invalid",
        ReasonCode.SUSPENDED: "invalid",
        ReasonCode.REBOOTED: "invalid",
        ReasonCode.OUTPUT_MISMATCH: "invalid",
        # ended before its time
        ReasonCode.CEILING: "invalid",
        ReasonCode.TIMED_OUT: "invalid",
        ReasonCode.AGENT_KILLED: "invalid",
        ReasonCode.OUT_OF_MEMORY: "invalid",
        ReasonCode.CRASHED: "invalid",
        ReasonCode.LINK_LOST: "invalid",
        ReasonCode.NO_SPACE: "invalid",
        # never began
        ReasonCode.PRECHECK: "invalid",
        ReasonCode.LOCKED: "invalid",
        ReasonCode.REFUSED: "invalid",
        # whole, and true of this device at that hour, but some figure is weaker than it looks
        ReasonCode.SLOWED: "partial",
        ReasonCode.NOT_STEADY: "partial",
        ReasonCode.FOREIGN_LOAD: "partial",
        ReasonCode.SWAP: "partial",
        ReasonCode.SENSOR_GAP: "partial",
        ReasonCode.CHARGER: "partial",
        ReasonCode.CLOCK_BOUND: "partial",
    }
)
"""What each reason makes of a run whose engine ended well."""


def verdict(status: Status, reasons: Collection[Reason], tokens: float = 0) -> Verdict:
    """The worst of what the reasons make of a run; a run that failed or was skipped is invalid whatever they say.

    But for one: a language model that ran out of memory after `tokens` of the measured phase. How far it came is what
    the run has found out, and those tokens are true of it.
    """
    made = {MAKES[reason.code] for reason in reasons}
    if tokens and {reason.code for reason in reasons if MAKES[reason.code] == "invalid"} == {ReasonCode.OUT_OF_MEMORY}:
        return "partial"
    if status != "ok" or "invalid" in made:
        return "invalid"
    return "partial" if made else "valid"


def judge(
    events: RunEvents,
    trace: pd.DataFrame,
    sensors: Mapping[str, SensorNote],
    asked: Asked,
    *,
    oom_evidence: str | None = None,
) -> tuple[Reason, ...]:
    """Every reason that the raw data gives, in the order of the closed list, one for each code.

    `oom_evidence` is a sentence (a kernel log line) that says the kernel killed the engine for memory; without any,
    and without the agent's count of such kills, a SIGKILL from elsewhere is a crash. In a sustained cell heat,
    slowing and unsteadiness are the result and no reason.
    """
    channels = by_channel(trace, sensors)
    measured = measure(events, asked)
    window, landmarks = measured.watched, measured.landmarks
    found = [
        *endings(landmarks, measured.completed, oom_evidence),
        *_suspended(landmarks),
        *_settings(landmarks, asked),
        *_swap(channels, measured.phases.measure),
        *_clock_bound(channels),
    ]
    if window is not None:
        found += [*_foreign_load(landmarks, channels, window), *_gaps(channels, window)]
        found += [*under_voltage(channels, window), *charger(channels, window, asked)]
    if window is not None and asked.mode == "burst":
        found += [*throttled(channels, window, asked), *_not_steady(measured.warmup)]
        found += slowed(measured.kept.seconds) if measured.alike else ()
    order = list(ReasonCode)
    first_of_code = {reason.code: reason for reason in reversed(found)}
    return tuple(sorted(first_of_code.values(), key=lambda reason: order.index(reason.code)))


def _not_steady(head: Warmup) -> Iterator[Reason]:
    if head.capped:
        detail = f"latency had not settled after {head.discarded} measured inferences, half of them all"
        yield Reason(code=ReasonCode.NOT_STEADY, detail=detail)


def _clock_bound(channels: Trace) -> Iterator[Reason]:
    bounds = {name: note.clock_bound_s for name, note in channels.notes.items() if note.clock_bound_s > CLOCK_BOUND_S}
    if bounds:
        worst = max(bounds, key=lambda name: bounds[name])
        detail = (
            f"the stamps of {worst} may be off the device's clock by {bounds[worst]:.3g} s (limit {CLOCK_BOUND_S} s)"
        )
        yield Reason(code=ReasonCode.CLOCK_BOUND, detail=detail)


def _suspended(events: Sequence[Event]) -> Iterator[Reason]:
    slept = ev.suspend_s(events)
    if slept is not None and slept > SUSPENDED_S:
        yield Reason(code=ReasonCode.SUSPENDED, detail=f"the device slept for {slept:.3g} s during the run")


def _settings(events: Sequence[Event], asked: Asked) -> Iterator[Reason]:
    """What the agent was to set (cores, files, states) and could not, and what did not hold to the engine's end.

    What could not be put back is no fault of this run: the record's `undo` has it. In a sustained cell heat may lower a
    held ceiling, for that is the result.
    """
    for event in events:
        if event.get("ok") is not False:
            continue
        if event.ev == "agent.affinity":
            detail = f"asked for the cores {event.get('asked')}, the engine ran on {event.get('got')}"
            yield Reason(code=ReasonCode.AFFINITY, detail=detail)
        elif event.ev in ("agent.set", "agent.held"):
            if event.ev == "agent.held" and asked.mode == "sustained" and _is_lowered(event):
                continue
            said = event.get("error") or f"it is '{event.get('got')}'"
            when = "" if event.ev == "agent.set" else " and was not at the end"
            detail = f"{event.get('path')} was to be held at '{event.get('asked')}'{when}: {said}"
            yield Reason(code=ReasonCode.PIN, detail=detail)


def _is_lowered(held: Event) -> bool:
    """Whether a ceiling of clocks is below what it was set to: the kernel shows heat's limit in the same file."""
    got, wanted = str(held.get("got")), str(held.get("asked"))
    both = got.isdecimal() and wanted.isdecimal() and str(held.get("path")).endswith("max_freq")
    return both and int(got) < int(wanted)


def _swap(channels: Trace, window: Window | None) -> Iterator[Reason]:
    engine = channels[ENGINE_SWAP]
    if len(engine) and (grown := float(engine.v.max() - engine.v[0])) > 0:
        yield Reason(code=ReasonCode.SWAP, detail=f"{grown / 2**20:.1f} MiB of the engine went to swap")
    pages = channels[PAGED_IN].within(window) if window else None
    if pages is not None and len(pages) and (read := float(pages.v[-1] - pages.v[0])) > 0:
        yield Reason(code=ReasonCode.SWAP, detail=f"{read:.0f} pages were read back from swap while measuring")


def _foreign_load(events: Sequence[Event], channels: Trace, window: Window) -> Iterator[Reason]:
    part = channels[ENGINE_CPU].shared(window)
    part = channels[BUSY_CPU].shared(part) if part else None
    if part is None:
        return
    length_s = (part[1] - part[0]) * 1e-9
    busy, engine = channels[BUSY_CPU].grown(part) or 0.0, channels[ENGINE_CPU].grown(part) or 0.0
    stolen = channels[STOLEN_CPU].grown(part) or 0.0
    share = (busy - engine + stolen) / length_s - (ev.agent_cpu_share(events) or 0.0)
    if share > FOREIGN_LOAD:
        guests = f"{stolen / length_s:.2f}"
        of_it = "" if guests == "0.00" else f", {guests} of it other guests of the hypervisor"
        detail = f"others took {share:.2f} of one core while measuring (limit {FOREIGN_LOAD:.2f}){of_it}"
        yield Reason(code=ReasonCode.FOREIGN_LOAD, detail=detail)


def _gaps(channels: Trace, window: Window) -> Iterator[Reason]:
    pauses = {
        name: pause
        for name, note in sorted(channels.notes.items())
        if (pause := channels[name].longest_pause_s(window)) > GAP_PERIODS * note.period_s
    }
    if not pauses:
        return
    gone = [name for name in pauses if _vanished(channels, name, window)]
    if gone:
        last_s = max((int(channels[name].t[-1]) - window[0]) * 1e-9 for name in gone)
        shown = ", ".join(gone[:_SHOWN_GONE]) + (f" and {len(gone) - _SHOWN_GONE} more" if gone[_SHOWN_GONE:] else "")
        detail = f"{shown} vanished {last_s:.3g} s into the measurement, and gave no value after that"
    else:
        worst = max(pauses, key=lambda name: pauses[name])
        more = f", and {len(pauses) - 1} more channels paused" if len(pauses) > 1 else ""
        detail = (
            f"{worst} gave no value for {pauses[worst]:.3g} s of the measurement "
            f"(its period is {channels.notes[worst].period_s:g} s){more}"
        )
    yield Reason(code=ReasonCode.SENSOR_GAP, detail=detail)


def _vanished(channels: Trace, name: str, window: Window) -> bool:
    """Whether a channel gave values while measuring, and none from some moment on."""
    series, silent_ns = channels[name], GAP_PERIODS * channels.notes[name].period_s * 1e9
    return len(series) > 0 and window[0] < int(series.t[-1]) < window[1] - silent_ns
