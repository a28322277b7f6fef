"""What stands beside a device while it is measured: its USB power switched off, its power meter recording."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from melt import meters
from melt.files.instruments import MeterSpec, UsbSwitch
from melt.records import Strict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from melt.run.context import Context


class Beside(Strict):
    """The instruments that a lab file names for a device, by their names there."""

    meter_name: str = ""
    meter: MeterSpec | None = None
    switch_name: str = ""
    switch: UsbSwitch | None = None


@contextlib.contextmanager
def unplugged(context: Context) -> Iterator[None]:
    """Around a run, its precheck included: the device's USB power is off, if it has a switch. Raises DeviceError."""
    beside = context.beside
    if beside.switch is None:
        yield
        return
    context.on_step("unplug")
    with meters.unplugged(beside.switch_name, beside.switch):
        yield


@contextlib.contextmanager
def metered(context: Context, run_id: str) -> Iterator[meters.Recording | None]:
    """Around a job, from before its start: the device's meter records, if it has one.

    What was recorded goes with the note of the run: as long as the run can be adopted, so can this.
    Raises UsageError for a missing library, DeviceError when the meter is not there.
    """
    beside = context.beside
    if beside.meter is None:
        yield None
        return
    folder = recorded(context, run_id)
    try:
        with meters.recording(beside.meter_name, beside.meter, context.device, folder) as recording:
            yield recording
    finally:
        if all(pending.run_id != run_id for pending in context.session.pending()):
            meters.forget(folder)


def recorded(context: Context, run_id: str) -> Path:
    """Where a run's recording lies until the run is stored."""
    return context.session.path / "pending" / f"{run_id}.meter"


def finish(context: Context, run_id: str, recording: meters.Recording | None) -> None:
    """Ends the recording of a run whose job has ended, or completes what a melt that died had recorded of it."""
    if recording is not None:
        recording.stop()
    else:
        meters.recover(recorded(context, run_id), context.device)
