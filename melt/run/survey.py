"""A short job that only looks: every sensor is read fast while the device does nothing and then works in pulses.

It holds the device's lock as any job does, and nothing of it stays on the device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from melt.analysis.refresh import Load
from melt.analysis.trace import by_channel
from melt.errors import DeviceError, Interrupted, MeltError
from melt.job import JobPlan, collect, forget, notes, read_events, read_trace, start, stop, watch
from melt.run.pins import as_root, reader
from melt.store import new_run_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from melt.analysis.events import Window
    from melt.analysis.trace import Trace
    from melt.device import Device
    from melt.records import Sensor

FILE_S = 0.05
"""How often a file is read at least."""
NAME = "survey-"
"""How the job of a survey begins on the device."""
_AFTER_S = 30.0
_ON_EVERY_CORE = 'n=$1; shift; while [ "$n" -gt 1 ]; do n=$((n-1)); (unset MELT_EVENTS; exec "$@") & done; "$@"; wait'
"""The same program so many times at once; only one of them tells its pulses."""
_WHY = {
    "ceiling": "it became too hot",
    "wall": "it took longer than it may",
    "stop": "somebody stopped it",
    "memory": "its memory ran out",
}


@dataclass(frozen=True)
class Pulses:
    """What the device does meanwhile: nothing for `idle_s`, then `cores` of it busy for `on_s` in every period."""

    length_s: float
    on_s: float
    off_s: float
    idle_s: float = 0.0
    cores: int = 1

    @property
    def total_s(self) -> float:
        return self.idle_s + self.length_s


@dataclass(frozen=True)
class Survey:
    """What the device's sensors said, and the pulses as the device stamped them."""

    trace: Trace
    load: Load
    idle: Window | None


def fast(sensors: Iterable[Sensor], file_s: float = FILE_S) -> list[Sensor]:
    """The sensors, each file read every `file_s` at least; a command costs too much to be asked more often."""
    return [
        dataclasses.replace(sensor, period_s=min(sensor.period_s, file_s)) if sensor.path is not None else sensor
        for sensor in sensors
    ]


def cores_of(device: Device) -> int:
    """How many cores the device has online, 1 where it does not say."""
    known = device.fact("cpus_online")
    return known if isinstance(known, int) and known > 0 else 1


def survey(
    device: Device, sensors: Sequence[Sensor], pulses: Pulses, ceilings: Mapping[str, float] | None = None
) -> Survey:
    """Carries it out and brings what was read; a survey that is broken off is ended on the device.

    Raises DeviceError, with the code `locked` when the device is busy, and when the load ended before its time;
    TransportError when the link is lost; Interrupted, in place of KeyboardInterrupt.
    """
    run_id = f"{NAME}{new_run_id()}"
    root, user = reader(device)
    plan = JobPlan(
        run_id=run_id,
        lock=device.lock,
        wall_s=pulses.length_s + 10,
        idle_s=pulses.idle_s,
        engine=_engine(device, pulses),
        env={"MELT_EVENTS": f"{device.job_dir(run_id)}/events.jsonl"},
        sensors=[_placed(device, sensor) for sensor in sensors],
        ceilings=ceilings or {},
        user=user,
        whole=device.whole,
    )
    try:
        start(device, plan, root.argv if root else None)
        last = watch(device, run_id, pulses.total_s + _AFTER_S)
        with tempfile.TemporaryDirectory(prefix="melt-") as temporary:
            folder = Path(temporary)
            collect(device, run_id, folder)
            found = _understood(folder, sensors)
    except BaseException as error:
        with contextlib.suppress(MeltError):  # what is told is what went wrong first
            stop(device, run_id, find_root=lambda: as_root(device))
        with contextlib.suppress(MeltError):
            forget(device, run_id)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"{device.name}: interrupted; its load was ended there, and nothing is kept") from None
        raise
    forget(device, run_id)
    if last.state == "dead":
        raise DeviceError(
            f"{device.name}: the survey's agent is gone, killed or with the device's last boot: try again"
        )
    if last.why or last.exit:
        why = _WHY.get(last.why, f"it ended with {last.exit}" if last.exit else last.why)
        raise DeviceError(
            f"{device.name}: the survey's load ended before its time: {why}; try again once it has rested"
        )
    return found


def _engine(device: Device, pulses: Pulses) -> tuple[str, ...]:
    burn = (device.agent, "burn", *(str(round(s * 1000)) for s in (pulses.length_s, pulses.on_s, pulses.off_s)))
    if pulses.cores == 1:
        return burn
    # the agent starts a program by its whole path, and a phone's shell is elsewhere
    shell = device.run(["sh", "-c", "command -v sh"]).stdout.decode(errors="replace").strip()
    return (shell, "-c", _ON_EVERY_CORE, "sh", str(pulses.cores), *burn) if shell.startswith("/") else burn


def _understood(folder: Path, sensors: Sequence[Sensor]) -> Survey:
    events = read_events(folder / "events.jsonl")
    trace = by_channel(read_trace(folder / "trace.csv", sensors), notes(sensors))
    told = {event.ev: event.t for event in events.landmarks}
    begin, end = told.get("agent.idle.begin"), told.get("agent.idle.end")
    return Survey(
        trace=trace,
        load=Load(events.inferences.begin, events.inferences.end),
        idle=(begin, end) if begin is not None and end is not None and begin < end else None,
    )


def _placed(device: Device, sensor: Sensor) -> Sensor:
    """The sensor with its files where they are found on the device."""
    if sensor.path is None:
        return sensor
    return dataclasses.replace(sensor, path=device.there(sensor.path), also=tuple(map(device.there, sensor.also)))
