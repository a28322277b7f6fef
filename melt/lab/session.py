"""One carrying-out of a suite: opens the devices, gives each a worker, and can be resumed after anything."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import melt
from melt import meters
from melt.errors import DeviceError, Interrupted, TransportError, UsageError
from melt.lab.worker import Machines, Progress, Worker
from melt.records import SuiteRef
from melt.store import Session, SessionRecord, find_session, new_session, utc_stamp

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from melt.files import Lab
    from melt.lab.plan import Plan


@dataclass
class Outcome:
    """How a session ended: the devices that could not be reached, and those that refused, each with the sentence."""

    session: Session
    unreachable: dict[str, str] = field(default_factory=dict)
    refusing: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """130 interrupted, else 4 a device could not be reached, else 1 a planned run has no usable result, else 0."""
        if self.interrupted:
            return Interrupted.exit_code
        if self.unreachable:
            return TransportError.exit_code
        usable = {(r.record.device, r.record.block, r.record.cell) for r in self.session.runs() if r.record.usable}
        wanted = {(slot.device, slot.block, slot.cell) for slot in self.session.record.order}
        return 0 if wanted <= usable else 1


def begin_session(plan: Plan, results: Path) -> Session:
    """Makes the folder of a new session for a plan. Raises UsageError."""
    return new_session(
        results,
        SessionRecord(
            session=utc_stamp(),
            suite=SuiteRef(name=plan.suite.name, sha256=plan.sha256),
            melt=melt.__version__,
            cells=tuple(cell.record for cell in plan.cells),
            order=plan.order,
            sources=plan.sources,
            canary=plan.suite.canary,
        ),
    )


def resume_session(plan: Plan, results: Path, name: str | None) -> Session:
    """The session to go on with: the named one, or the last unfinished one.

    Raises UsageError when there is none, or when the plan is no longer the one it was begun with.
    """
    session = find_session(results / plan.suite.name, name)
    cells = tuple(cell.record for cell in plan.cells)
    if session.record.suite.sha256 != plan.sha256:
        raise UsageError(
            f"session {session.path} was begun with other files of suite '{plan.suite.name}': put them back as they "
            "were (session.json holds their text), or begin a new session without --resume",
        )
    if session.record.order != plan.order or session.record.cells != cells:
        raise UsageError(
            f"session {session.path} was begun for other devices or settings: name the same ones, or begin a new "
            "session without --resume",
        )
    return session


def carry_out_session(
    session: Session,
    plan: Plan,
    lab: Lab,
    *,
    say: Callable[[str], None],
    on_progress: Callable[[Progress], None],
    cancelled: threading.Event,
    verify: bool = False,
) -> Outcome:
    """Does what the session has still to do: all devices at the same time, one run at a time on each.

    A device that cannot be reached, or refuses, is told and left out; the others go on. With `verify`, what lies on a
    device already is read again before it is used. Raises UsageError, before the
    first run, for what a person can correct.
    """
    meters.put_back(say)
    with session.alone():
        outcome = Outcome(session)
        busy = {slot.device for slot in session.todo()} | {pending.slot.device for pending in session.pending()}
        machines = Machines()
        workers = [
            Worker(session, plan, lab, name, say, on_progress, cancelled, machines, verify=verify)
            for name in plan.devices
            if name in busy
        ]
        for broken in session.damaged():
            say(f"{broken.path} cannot be read and is left as it is: {broken.why}")
        with ThreadPoolExecutor(max_workers=max(1, len(workers)), thread_name_prefix="device") as pool:
            try:
                _at_once(pool, [(worker.name, worker.open) for worker in workers], outcome, say, cancelled)
                ready = [worker for worker in workers if worker.ready and not cancelled.is_set()]
                _at_once(pool, [(worker.name, worker.work) for worker in ready], outcome, say, cancelled)
            finally:
                for worker in workers:
                    worker.close()
        outcome.interrupted = cancelled.is_set()
        return outcome


def _at_once(
    pool: ThreadPoolExecutor,
    calls: list[tuple[str, Callable[[], None]]],
    outcome: Outcome,
    say: Callable[[str], None],
    cancelled: threading.Event,
) -> None:
    """Makes the calls at the same time, waits for all, notes a device's own trouble, raises the first other error."""
    futures = [(name, pool.submit(call)) for name, call in calls]
    first: BaseException | None = None
    for name, future in futures:
        error = _ended(future, cancelled)
        told = str(error) if str(error).startswith(f"{name}:") else f"{name}: {error}"
        if isinstance(error, TransportError):
            outcome.unreachable[name] = told
        elif isinstance(error, DeviceError):
            outcome.refusing[name] = told
        elif isinstance(error, Interrupted) or error is None:
            continue
        else:
            first = first or error
            cancelled.set()  # the other workers end at their next step
            continue
        say(told)
    if first is not None:
        raise first


def _ended(future: Future[None], cancelled: threading.Event) -> BaseException | None:
    """Waits for a call to end, however it does; Ctrl-C is passed on to the workers, which end in good order."""
    while True:
        try:
            return future.exception(timeout=0.5)
        except TimeoutError:
            continue
        except KeyboardInterrupt:
            cancelled.set()
