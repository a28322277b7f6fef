"""A run from top to bottom: `carry_out` begins it and `finish` ends it.

`finish` alone adopts a run that was begun by a melt that has died.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from melt import meters
from melt.errors import DeviceError, Interrupted, TransportError, TransportTimeout, Unsupported
from melt.job import JobPlan, collect, forget, start, stop, watch
from melt.native import OLDEST_GLIBC
from melt.records import Reason, ReasonCode
from melt.run import beside, record
from melt.run.patience import Patience
from melt.run.pins import as_root, find_pins, find_root, is_put_back
from melt.run.precheck import NotReady, ceilings, wait_until_ready
from melt.store import Pending, new_run_id, utc_stamp
from melt.transport import Deadline
from melt.transport.base import NOT_EXECUTABLE, NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from melt.device import Device, Moved
    from melt.device.root import Root
    from melt.engines import Command, Prepared
    from melt.records import RunRecord, Sensor
    from melt.run.context import Context
    from melt.store import Slot, StoredRun

_LONGEST = 300
"""Characters of a reason or of an engine's words in a sentence; the record has them whole."""
_AFTER_WALL_S = 120.0
"""How much longer than its limits a job may take: what is to be held and put back may hang, each for a while."""
_CANNOT_START = {1, 3, NOT_EXECUTABLE, NOT_FOUND}
"""What a trial ends with when the loader has said what is missing: its own 1, the runner's 3, no loader at all."""
_SKIPPED = {"locked": ReasonCode.LOCKED, "no_space": ReasonCode.NO_SPACE}
"""The reasons of a device's own that a run which never began carries; any other is a refusal."""
_BEING_WRITTEN, _BEING_WRITTEN_S = "Text file busy", 10.0
"""What a program is that another host delivers at this moment, and how long that may take."""
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass
class _Steps:
    """Wall time of each step on the host."""

    on_step: Callable[[str], None]
    took_s: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.on_step(name)
        began = time.monotonic()
        try:
            yield
        finally:
            self.took_s[f"{name}_s"] = round(self.took_s.get(f"{name}_s", 0.0) + time.monotonic() - began, 4)


def carry_out(context: Context, slot: Slot, idle_s: float) -> StoredRun:
    """One run: precheck, deliver, start, and then `finish`.

    Raises TransportError when the link is lost, and Interrupted; the slot is then still open. What the device or the
    engine refuses is a record with that reason.
    """
    steps = _Steps(context.on_step)
    device = context.device
    patience = Patience(device, context.say, context.cancelled)
    link_s = context.settings["limits.link_s"]
    pending = Pending(
        run_id=new_run_id(),
        slot=slot,
        started_utc=utc_stamp(),
        address=device.address,
        root=device.root,
        idle_s=idle_s,
        host={},
    )
    if isinstance(context.prepared, Unsupported):
        return _skip(context, pending, ReasonCode.REFUSED, str(context.prepared))
    with contextlib.ExitStack() as around:
        try:
            around.enter_context(beside.unplugged(context))
            with steps("precheck"):
                caveats = patience(
                    lambda: wait_until_ready(device, context.settings, context.say, context.cancelled), link_s
                )
            with steps("deliver"):
                prepared = context.prepared
                plan, root = patience(lambda: _plan(context, prepared, pending.run_id, idle_s), link_s)
            pending = pending.model_copy(update={"caveats": caveats, "host": steps.took_s})
            context.session.intend(pending)
            with steps("start"):
                recording = around.enter_context(beside.metered(context, pending.run_id))
                patience(lambda: _start_when_free(context, plan, root), link_s)
        except NotReady as not_ready:
            return _skip(context, pending, ReasonCode.PRECHECK, not_ready.why)
        except DeviceError as error:
            return _skip(context, pending, _SKIPPED.get(error.code, ReasonCode.REFUSED), str(error))
        pending = pending.model_copy(update={"host": {**steps.took_s, **patience.told()}})
        context.session.intend(pending)
        return finish(context, pending, recording)


def finish(context: Context, pending: Pending, recording: meters.Recording | None = None) -> StoredRun:
    """Watches a job that was started, collects it, stores the run, and only then lets the device forget it.

    Raises TransportError when the link stays lost: the job goes on and can be finished later. On Interrupted the job is
    ended, the device's state put back, and nothing of it kept.
    """
    device, steps = context.device, _Steps(context.on_step)
    patience = Patience(device, context.say, context.cancelled)
    link_s = context.settings["limits.link_s"]
    limit_s = pending.idle_s + context.settings["limits.wall_s"] + _AFTER_WALL_S
    try:
        with steps("watch"):
            # the job needs no link: one that is back before its end has cost nothing
            last = patience(
                lambda: watch(device, pending.run_id, limit_s, cancelled=context.cancelled), limit_s + link_s
            )
    except Interrupted:
        give_up(context, pending)
        raise
    except DeviceError as error:
        if error.code == "missing":
            context.session.settle(pending.run_id)
        raise
    beside.finish(context, pending.run_id, recording)
    undone = last.undone or (last.state == "dead" and patience(lambda: _put_back(context, pending.run_id), link_s))
    boot_id = patience(lambda: _boot_id(context), link_s) if last.state == "dead" else None
    with context.session.writing(pending.run_id) as folder:
        with steps("collect"):
            free_bytes = patience(lambda: collect(device, pending.run_id, folder, context.cancelled), link_s)
        meters.keep(beside.recorded(context, pending.run_id), folder)
        context.on_step("analyse")
        told = pending.model_copy(update={"host": {**pending.host, **steps.took_s, **patience.told(pending.host)}})
        ended = record.Ended(dead_since_boot=boot_id, undone=undone, free_bytes=free_bytes)
        made = record.from_folder(context, told, folder, ended)
        context.on_step("store")
        stored = context.session.publish(folder, made)
    context.on_step("forget")
    patience(lambda: forget(device, pending.run_id), link_s)
    context.session.settle(pending.run_id)
    meters.forget(beside.recorded(context, pending.run_id))
    _complain(context, stored)
    return stored


def give_up(context: Context, pending: Pending) -> None:
    """Ends a job, waits until the device's state is put back, and removes it there; nothing of it is kept."""
    device, run_id = context.device, pending.run_id
    try:
        stop(device, run_id, find_root=lambda: as_root(device))
        if not is_put_back(device, run_id):
            context.say(_not_put_back(device, run_id, f"{device.job_dir(run_id)}/events.jsonl there"))
        forget(device, run_id)
        context.session.settle(run_id)
    except (DeviceError, TransportError) as error:
        context.say(f"{error}; run {run_id} may go on there until its limit, and puts back by itself what it holds")


def _plan(context: Context, prepared: Prepared, run_id: str, idle_s: float) -> tuple[JobPlan, Root | None]:
    """Delivers what the device lacks, and says what it is to do, and by whom where that takes root."""
    device, settings = context.device, context.settings

    def on_moved(moved: Moved) -> None:
        if context.cancelled():
            raise Interrupted(f"{device.name}: interrupted while files were delivered to it")
        context.on_moved(moved)

    places = device.blobs.deliver(prepared.files, say=context.say, on_moved=on_moved, verify=context.verify)
    _try(context, context.engine.trial(prepared, places.__getitem__))
    command = context.engine.command(prepared, places.__getitem__, device.job_dir(run_id))
    pins = find_pins(device, lambda: find_root(device))
    plan = JobPlan(
        run_id=run_id,
        lock=device.lock,
        wall_s=settings["limits.wall_s"],
        idle_s=idle_s,
        engine=command.argv,
        env=command.env,
        sensors=[_placed(device, sensor) for sensor in device.sensors],
        cpus=settings["cpus"],
        ceilings=ceilings(device, settings["limits.zone_max_c"]),
        settings=[(device.there(path), value, path) for path, value in pins.files],
        holds=pins.holds,
        refused=pins.refused,
        whole=device.whole,
        user=pins.user,
        memory_max_bytes=settings["limits.memory_bytes"],
    )
    return plan, pins.root


def _try(context: Context, trial: Command) -> None:
    """Refuses, before the start, a device that lacks what the engine needs of it. Raises DeviceError."""
    if trial.argv in context.tried:
        return
    settled = Deadline.after(_BEING_WRITTEN_S)
    try:
        done = context.device.run(trial.argv)
        while done.code in _CANNOT_START and _BEING_WRITTEN in done.complaint and settled.left_s:
            time.sleep(0.2)
            done = context.device.run(trial.argv)
    except TransportTimeout:
        return  # one that hangs is the run's to tell, with its time limit and its raw data
    if done.code in _CANNOT_START:
        raise DeviceError(
            f"{context.device.name}: {context.engine.name} cannot start there: {done.complaint}: the device needs "
            f"glibc {OLDEST_GLIBC} or later and libstdc++6, or a library of its own in the profile, "
            f"engines.{context.engine.name}.library"
        )
    context.tried.add(trial.argv)


def _placed(device: Device, sensor: Sensor) -> Sensor:
    """The sensor with its files where they are found on the device."""
    if sensor.path is None:
        return sensor
    return dataclasses.replace(sensor, path=device.there(sensor.path), also=tuple(map(device.there, sensor.also)))


def _start_when_free(context: Context, plan: JobPlan, root: Root | None) -> None:
    """Starts the job; a device that another job holds is waited for, as long as the precheck may take."""
    end = Deadline.after(context.settings["precheck.max_wait_s"])
    told = False
    while True:
        try:
            return start(context.device, plan, root.argv if root else None)
        except DeviceError as error:
            if error.code != "locked" or not end.left_s:
                forget(context.device, plan.run_id)
                raise
            if not told:
                context.say(f"{error}; waiting up to {end.left_s:.0f} s")
                told = True
        if context.cancelled():
            forget(context.device, plan.run_id)
            context.session.settle(plan.run_id)
            raise Interrupted(f"{context.device.name}: interrupted while it was busy with another job")
        time.sleep(min(0.5, max(end.left_s, 0.01)))


def _put_back(context: Context, run_id: str) -> bool:
    """The agent died without finishing: puts the device's state back in its place; whether all of it could be."""
    context.device.put_back()
    return is_put_back(context.device, run_id)


def _boot_id(context: Context) -> str | None:
    """Tells one start of the device from the next."""
    now = context.device.probe([_BOOT_ID]).get(_BOOT_ID)
    return now.data.decode(errors="replace").strip() if now and now.error is None else None


def _skip(context: Context, pending: Pending, code: ReasonCode, why: str) -> StoredRun:
    context.say(f"{context.device.name}: {context.cell.id} was skipped: {why}")
    with context.session.writing(pending.run_id) as folder:
        reason = Reason(code=code, detail=why)
        stored = context.session.publish(folder, record.skipped(context, pending, reason))
    context.session.settle(pending.run_id)
    return stored


def _complain(context: Context, stored: StoredRun) -> None:
    """Tells a person, in one sentence, what became of a run that is not valid."""
    run: RunRecord = stored.record
    if not run.undo.complete:
        context.say(_not_put_back(context.device, run.run_id, str(stored.path / "events.jsonl")))
    if run.verdict == "valid":
        return
    words = "; ".join(f"{reason.code}: {reason.detail[:_LONGEST]}" for reason in run.reasons) or "no reason is known"
    tail = _last_words(stored.path / "stderr.log") if run.status == "failed" else ""
    told = f" (the engine's last words: {tail})" if tail and tail[:40] not in words else ""
    context.say(f"{run.device}: {run.cell}, run {run.run_id} is {run.verdict}: {words}{told}")


def _not_put_back(device: Device, run_id: str, events: str) -> str:
    return (
        f"{device.name}: not all that run {run_id} had changed on the device could be put back: the next run there "
        f"tries again; its events 'agent.restore' say what ({events})"
    )


def _last_words(path: Path) -> str:
    """The last line that the engine said, for the sentence."""
    with contextlib.suppress(OSError):
        lines = path.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()
        return "".join(c for c in lines[-1] if c.isprintable())[:_LONGEST] if lines else ""
    return ""
