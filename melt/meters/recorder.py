"""A meter beside a run: started before the job, stopped after it, mapped onto the device's clock by what stands around.

It may die, and so may this computer: the run goes on, and what came until then is kept.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from melt.errors import DeviceError, MeltError, TransportError
from melt.meters import folder as kept
from melt.meters.clock import round_trips
from melt.meters.pulses import LENGTH_MS, OFF_MS, ON_MS, pulses_in
from melt.meters.reducing import Reducer
from melt.transport import Deadline

if TYPE_CHECKING:
    from types import TracebackType

    from melt.device import Device
    from melt.files.instruments import MeterSpec
    from melt.meters.base import Meter
    from melt.meters.clock import RoundTrip
    from melt.records import Response

_READ_S = 0.25
_FIRST_S = 10.0
"""How long a meter may take from its start to its first value."""
_QUIET_S = 10.0
"""A meter that has said nothing for so long is gone."""
_LEAVE_S = 5.0
_JOIN_S = 20.0
_BURN_S = 30.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Recording:
    """What a meter measures from `with` to `stop`, into a folder of its own."""

    def __init__(self, name: str, spec: MeterSpec, meter: Meter, device: Device, folder: Path) -> None:
        self._name, self._spec, self._meter, self._device, self._folder = name, spec, meter, device, folder
        self._enough = threading.Event()
        self._first = threading.Event()
        self._thread: threading.Thread | None = None
        self._died: str | None = None
        self._lost = 0
        self._told: kept.MeterFile | None = None

    def __enter__(self) -> Self:
        """Opens the meter and waits for its first value.

        Raises UsageError for a missing library, DeviceError when it gives nothing, TransportError.
        """
        with kept.writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        try:
            before = _asked(self._device)
            said = self._meter.open()
            reducer = Reducer(said.rate_hz)
            self._told = kept.MeterFile(
                name=self._name,
                type=said.type,
                serial=said.serial,
                boundary=self._spec.boundary,
                about=said.about,
                rate_hz=said.rate_hz,
                kept_hz=said.rate_hz / reducer.factor,
                clock=said.clock,
                latency_s=said.latency_s,
                response=_response(said.response, self._spec, said.rate_hz, reducer.factor),
                host_boot_id=_boot_id(),
                before=before,
            )
            kept.save(self._folder, self._told)
            self._meter.start()
            self._thread = threading.Thread(target=self._record, args=(reducer,), name="meter", daemon=True)
            self._thread.start()
            if not self._first.wait(_FIRST_S) or self._died:
                why = self._died or f"it gave nothing within {_FIRST_S:.0f} s of its start: look at its cable"
                raise DeviceError(f"meter '{self._name}': {why}", "meter")
            if self._spec.pulses:
                self._save(pulses=_draw_pulses(self._device))
        except BaseException as error:
            self._end()
            kept.forget(self._folder)
            if isinstance(error, DeviceError) and not str(error).startswith("meter "):
                raise DeviceError(f"meter '{self._name}': {error}", error.code) from error
            if isinstance(error, OSError):
                words = error.strerror or str(error) or type(error).__name__
                raise DeviceError(f"meter '{self._name}' cannot be used: {words}", "meter") from error
            raise
        return self

    def stop(self) -> None:
        """Ends the recording and asks for the device's clock again; once. A lost link costs only precision."""
        if self._told is None or self._thread is None:
            return
        self._end()
        after: tuple[RoundTrip, ...] = ()
        with contextlib.suppress(TransportError, DeviceError):
            after = _asked(self._device)
        self._save(after=after, lost=self._lost, ended=self._died)
        kept.settle(self._folder)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _save(self, **changes: object) -> None:
        if self._told is not None:
            self._told = self._told.model_copy(update=changes)
            kept.save(self._folder, self._told)

    def _end(self) -> None:
        """Stops the thread and lets go of the meter."""
        self._enough.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            self._thread = None
        with contextlib.suppress(MeltError):
            self._meter.close()

    def _record(self, reducer: Reducer) -> None:
        """The thread: reads until it is told that it is enough, or the meter gives no more."""
        try:
            with kept.Writer(self._folder) as out:
                quiet = Deadline.after(_FIRST_S + _QUIET_S)
                while not self._enough.is_set():
                    if self._take(out, reducer):
                        quiet = Deadline.after(_QUIET_S)
                    elif not quiet.left_s:
                        raise DeviceError(f"it has given nothing for {_QUIET_S:.0f} s")
                self._meter.stop()
                left = Deadline.after(_LEAVE_S)
                while left.left_s and self._take(out, reducer):
                    pass
        except (MeltError, OSError) as error:
            self._died = str(error)
        except Exception as error:  # noqa: BLE001 - a library's own error must not end the run
            self._died = f"{type(error).__name__}: {error}"
        finally:
            self._lost = reducer.lost
            self._first.set()

    def _take(self, out: kept.Writer, reducer: Reducer) -> bool:
        got = self._meter.read(Deadline.after(_READ_S))
        for block in got:
            for mean in reducer.take(block):
                out.write(mean)
                self._first.set()
        return any(len(block) for block in got)


def recover(folder: Path, device: Device) -> None:
    """Completes what a melt that died had recorded: the device's clock is asked for again, the samples put in order."""
    told = kept.load(folder)
    if told is None or told.lost is not None:
        return
    after: tuple[RoundTrip, ...] = ()
    if told.host_boot_id == _boot_id():
        with contextlib.suppress(TransportError, DeviceError):
            after = _asked(device)
    why = told.ended or "the melt that recorded it was ended during the run"
    kept.save(folder, told.model_copy(update={"after": after, "ended": why}))
    kept.settle(folder)


def _response(said: Response, spec: MeterSpec, rate_hz: float, factor: int) -> Response:
    """The instrument's own with what the lab file says, and the refresh of what is kept."""
    own = {"gain_error": spec.gain_error, "offset_error": spec.offset_error_w}
    known: dict[str, float | bool] = {key: value for key, value in own.items() if value is not None}
    if factor > 1:
        known |= {"refresh_s": factor / rate_hz, "averages": True}
    return said.model_copy(update=known)


def _asked(device: Device) -> tuple[RoundTrip, ...]:
    return round_trips(device.transport, device.agent, device.name)


def _draw_pulses(device: Device) -> tuple[tuple[int, int], ...]:
    """Has the device draw its pattern; when it was busy, on its clock. Nothing where it does not."""
    path = f"{device.root}/pulses-{time.monotonic_ns()}"
    argv = ["env", f"MELT_EVENTS={path}", device.agent, "burn", str(LENGTH_MS), str(ON_MS), str(OFF_MS)]
    with contextlib.suppress(TransportError, DeviceError):
        device.run(argv, _BURN_S)
        told = device.run(["cat", path])
        device.run(["rm", "-f", path])
        return pulses_in(told.stdout)
    return ()


def _boot_id() -> str:
    """Which start of this computer this is."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return ""
