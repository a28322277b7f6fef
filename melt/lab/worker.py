"""One device's part of a session, one run at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.device import open_device
from melt.engines import InputShape, Request, StopRules, engine_named
from melt.errors import Interrupted, ParseError, Unsupported, UsageError
from melt.files import load_prompts
from melt.job import forget, status
from melt.lab.idle import IdleOfBlocks
from melt.readings.text import cpu_list
from melt.records import TotalRule
from melt.run import Context, carry_out, finish, model_file
from melt.run.beside import Beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from melt.device import Device, Moved
    from melt.engines import Engine, Prepared
    from melt.files import Conversation, Lab
    from melt.lab.plan import Cell, Plan
    from melt.store import Pending, Session, Slot, StoredRun

_OVERHEAD_S = 1.5
"""What a run is expected to take beside its own windows, until there is one to go by."""


@dataclass(frozen=True)
class Progress:
    """What is going on on one device, for a person; `left_s` is how long it is expected to go on there."""

    device: str
    cell: str
    step: str
    done: int
    total: int
    left_s: float
    moved: Moved | None = None
    """How far a delivery has come, while there is one."""


class Machines:
    """Lets one run at a time on each machine, however many names a lab has for it."""

    def __init__(self) -> None:
        self._mine = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    @contextlib.contextmanager
    def alone(self, boot_id: str) -> Iterator[None]:
        """Waits until no other worker has a run on the machine."""
        with self._mine:
            lock = self._locks.setdefault(boot_id, threading.Lock())
        with lock:
            yield


class Worker:
    """Carries out what a session has to do on one device."""

    def __init__(
        self,
        session: Session,
        plan: Plan,
        lab: Lab,
        name: str,
        say: Callable[[str], None],
        on_progress: Callable[[Progress], None],
        cancelled: threading.Event,
        machines: Machines,
        *,
        verify: bool = False,
    ) -> None:
        self.name = name
        self._session = session
        self._cells = {cell.id: cell for cell in plan.cells if cell.device == name}
        self._spec = lab.device(name)
        self._profile = lab.profile(self._spec)
        self._beside = Beside(
            meter_name=self._spec.meter or "",
            meter=lab.meters[self._spec.meter] if self._spec.meter else None,
            switch_name=self._spec.usb or "",
            switch=lab.usb_switches[self._spec.usb] if self._spec.usb else None,
        )
        self._say = say
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._machines = machines
        self._planned = [slot for slot in session.record.order if slot.device == name]
        self._extra_s: list[float] = []
        self._device: Device | None = None
        self._engines: dict[str, Engine] = {}
        self._prepared: dict[str, Prepared | Unsupported] = {}
        self._tried: set[tuple[str, ...]] = set()
        self._to_verify = set(self._cells) if verify else set()
        self._failed: set[str] = set()
        self._idle = IdleOfBlocks(name)

    @property
    def ready(self) -> bool:
        """Whether the device was reached and every cell prepared."""
        return self._device is not None

    def open(self) -> None:
        """Reaches the device and prepares every cell, so that what is wrong is told before the first run."""
        device = open_device(self.name, self._spec, self._profile, self._say)
        try:
            for cell in self._cells.values():
                if self._cancelled.is_set():
                    raise Interrupted(f"{self.name}: interrupted while it was made ready")
                engine = self._engines.setdefault(cell.workload.engine, engine_named(cell.workload.engine))
                self._prepared[cell.id] = self._prepare(engine, device, cell)
            self._check_same_models()
        except BaseException:
            device.close()
            raise
        self._device = self._with_its_meter(device)

    def _with_its_meter(self, device: Device) -> Device:
        """The device with its meter as its total, where the lab file names one: a rail is less than what flows in."""
        meter = self._beside.meter
        if meter is None:
            return device
        total = TotalRule(sum=(f"meter.{self._beside.meter_name}",), boundary=meter.boundary)
        return dataclasses.replace(device, total=total, no_total=None)

    def close(self) -> None:
        """Lets go of the device."""
        if self._device is not None:
            self._device.close()

    def work(self) -> None:
        """First what a melt that died left on the device, then what is still to do, in order."""
        for run in self._session.runs():
            self._idle.note(run.record)
        for pending in self._session.pending():
            if pending.slot.device == self.name:
                with self._machines.alone(self._boot_id):
                    self._adopt(pending)
        todo = [slot for slot in self._session.todo() if slot.device == self.name]
        for position, slot in enumerate(todo):
            if self._cancelled.is_set():
                raise Interrupted(f"{self.name}: interrupted")
            rest = todo[position:]
            with self._machines.alone(self._boot_id):
                began = time.monotonic()
                idle_s = self._idle_wanted_s(slot) if self._idle.is_open(slot.block) else 0.0
                stored = carry_out(self._context(slot, rest), slot, idle_s)
            self._idle.note(stored.record)
            self._look_again_after(stored)
            self._extra_s.append(max(0.0, time.monotonic() - began - self._expected_s(slot)))
            self._tell(slot, "done", rest[1:])

    def _look_again_after(self, stored: StoredRun) -> None:
        """After a first failure of a cell, what lies on the device is read again before its next run."""
        cell, failed = stored.record.cell, stored.record.status == "failed"
        if stored.record.status != "skipped":
            self._to_verify.discard(cell)
        if failed and cell not in self._failed:
            self._failed.add(cell)
            self._to_verify.add(cell)

    def _adopt(self, pending: Pending) -> None:
        """Finishes a run whose job was given to the device before this melt was started."""
        context = self._context(pending.slot, [])
        device = context.device
        if (pending.address, pending.root) != (device.address, device.root):
            raise UsageError(
                f"run {pending.run_id} was given to {pending.address} in {pending.root}, and {self.name} is now "
                f"{device.address} in {device.root}: put 'address' and 'workdir' back in the lab file, then resume"
            )
        stored = any(run.record.run_id == pending.run_id for run in self._session.runs())
        if stored or not self._is_known(device, pending):
            # stored already, or never begun: then its slot is still open
            forget(device, pending.run_id)
            self._session.settle(pending.run_id)
            return
        self._say(f"{self.name}: adopting run {pending.run_id} of {pending.slot.cell}")
        self._idle.note(finish(context, pending).record)

    @staticmethod
    def _is_known(device: Device, pending: Pending) -> bool:
        """Whether the device has the job; one whose status is damaged is there all the same."""
        try:
            return status(device, pending.run_id) is not None
        except ParseError:
            return True

    @property
    def _boot_id(self) -> str:
        """Which machine it is: a lab may know one machine by two names."""
        known = self._device.fact("boot_id") if self._device else None
        return str(known) if known else self.name

    def _check_same_models(self) -> None:
        """Refuses to go on with another model or other inputs than the session's runs had. Raises UsageError."""
        for run in self._session.runs():
            prepared = self._prepared.get(run.record.cell) if run.record.device == self.name else None
            if prepared is None or isinstance(prepared, Unsupported):
                continue
            before = {key: run.record.fingerprint.hard.get(key) for key in prepared.identity}
            if run.record.status != "skipped" and before != prepared.identity:
                other = next(key for key, value in prepared.identity.items() if before[key] != value)
                raise UsageError(
                    f"{run.record.cell}: {other} is no longer that of the session's run {run.record.run_id}: put the "
                    "model back as it was, or begin a new session without --resume"
                )

    def _context(self, slot: Slot, rest: list[Slot]) -> Context:
        if self._device is None:
            raise Interrupted(f"{self.name}: the device is not open")
        cell = self._cells[slot.cell]
        return Context(
            session=self._session,
            device=self._device,
            engine=self._engines[cell.workload.engine],
            prepared=self._prepared[slot.cell],
            cell=cell.record,
            say=self._say,
            on_step=lambda step: self._tell(slot, step, rest),
            on_moved=lambda moved: self._tell(slot, "deliver", rest, moved),
            cancelled=self._cancelled.is_set,
            idle=self._idle.of(slot.block),
            beside=self._beside,
            verify=slot.cell in self._to_verify,
            tried=self._tried,
        )

    def _prepare(self, engine: Engine, device: Device, cell: Cell) -> Prepared | Unsupported:
        override = device.profile.engines.get(cell.workload.engine)
        try:
            return engine.prepare(
                Request(
                    name=cell.workload.name,
                    model=model_file(cell.workload, cell.file, self._say, self._cancelled.is_set),
                    machine=device.machine,
                    params={
                        key.removeprefix("params."): value.value
                        for key, value in cell.resolved.items()
                        if key.startswith("params.")
                    },
                    inputs={n: InputShape(spec.shape, spec.seed) for n, spec in cell.workload.inputs.items()},
                    stop=StopRules(
                        warmup_s=cell.setting("protocol.warmup_s"),
                        warmup_n=cell.setting("protocol.warmup_n"),
                        min_s=cell.setting("protocol.min_s"),
                        min_n=cell.setting("protocol.min_n"),
                    ),
                    library=override.library if override else None,
                    here=device.here,
                    cpus=self._cpus(device, cell),
                    conversations=_conversations(cell),
                    cpu_features=frozenset(str(device.fact("cpu_features") or "").split()),
                    say=self._say,
                )
            )
        except Unsupported as error:
            return error

    @staticmethod
    def _cpus(device: Device, cell: Cell) -> int | None:
        """How many processors a run may use: those that it is held to, else all that are online."""
        held, online = cell.setting("cpus"), device.fact("cpus_online")
        return len(cpu_list(held.encode())) if held else online if isinstance(online, int) else None

    def _idle_wanted_s(self, slot: Slot) -> float:
        """The idle window of a block's first run that takes place, on a device whose power can be read."""
        cell, device = self._cells[slot.cell], self._device
        quantities = {c.quantity for s in (device.sensors if device else ()) for c in s.channels}
        powered = self._beside.meter is not None or bool(quantities & {"energy", "power"})
        wanted = cell.setting("energy.idle") == "per_block" and powered
        return float(cell.setting("protocol.idle_s")) if wanted else 0.0

    def _expected_s(self, slot: Slot) -> float:
        cell = self._cells[slot.cell]
        first = next(s for s in self._planned if s.block == slot.block)
        idle_s = self._idle_wanted_s(slot) if slot == first else 0.0
        return float(cell.setting("protocol.warmup_s") + cell.setting("protocol.min_s")) + idle_s

    def _tell(self, slot: Slot, step: str, rest: list[Slot], moved: Moved | None = None) -> None:
        extra_s = sum(self._extra_s) / len(self._extra_s) if self._extra_s else _OVERHEAD_S
        left_s = sum(self._expected_s(s) + extra_s for s in rest)
        total = len(self._planned)
        self._on_progress(Progress(self.name, slot.cell, step, total - len(rest), total, left_s, moved))


def _conversations(cell: Cell) -> tuple[Conversation, ...]:
    """What the cell's `prompt` means. Raises UsageError."""
    asked = cell.resolved.get("params.prompt")
    if asked is None or not isinstance(asked.value, str):
        return ()
    return load_prompts(asked.value, cell.file.parent)[0]
