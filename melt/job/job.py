"""A job's life seen from the host: start, watch, collect, forget. The device needs the host for none of it."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from melt.device.blobs import hash_files, list_folder
from melt.device.sending import transfer_limit_s
from melt.errors import DeviceError, Interrupted, ParseError, TransportError, TransportTimeout
from melt.records import Strict
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from melt.device import Device
    from melt.job.plan import JobPlan

    AsRoot = Callable[[Sequence[str]], Sequence[str]]
    """Makes of a command's words those that carry it out as root."""

_FULL = "No space left"
"""What a device says of a folder that is full, in the C locale."""
_LOCKED = 75
_LINE_BYTES = 1 << 20
_DENIED = 77
"""What the agent ends with when its job is another user's, such as root's."""
_NO_JOB = 2
_KILLED = 128
_MAX_FILE_BYTES = 2 << 30
_POLL_S = 0.5
_START_S = 120.0
"""Before it answers, the agent puts back what a crashed job has left, and each command of that may hang for 10 s."""
_TRIES = 3
"""How often a file that did not arrive as it is on the device is fetched."""
_SILENT_S = 15.0
"""The watcher on the device says something every 2 s: this long without a word is a lost link."""
_LEFT_ON_DEVICE = frozenset({"alive", "status.new", "undo.new"})


class JobStatus(Strict):
    """The one line that a job keeps of itself. `dead`: its agent is gone without having finished."""

    state: str
    phase: str = ""
    run_id: str = ""
    t: int = 0
    boot_id: str = ""
    agent_pid: int = 0
    engine_pid: int = 0
    exit: int | None = None
    signal: int | None = None
    why: str = ""
    undone: bool = False

    @property
    def ended(self) -> bool:
        return self.state in ("done", "dead")


def start(device: Device, plan: JobPlan, as_root: AsRoot | None = None) -> None:
    """Brings the plan and starts the job detached, by root where `as_root` is given; doing so twice starts it once.

    Raises DeviceError, with the code `locked` when another job holds the device.
    """
    folder = device.job_dir(plan.run_id)
    made = device.run(["mkdir", "-p", folder])
    if not made.ok:
        code = "no_space" if _FULL in made.complaint else "read_only"
        raise DeviceError(f"{device.name}: {folder} cannot be made: {made.complaint}", code=code)
    with tempfile.TemporaryDirectory(prefix="melt-") as temporary:
        path = Path(temporary) / "plan"
        path.write_text(plan.text(), encoding="ascii")
        device.transport.push(path, f"{folder}/plan", deadline=Deadline.after(30))
    argv = (device.agent, "start", folder)
    done = device.run(as_root(argv) if as_root else argv, _START_S)
    if done.code == _LOCKED:
        owner = done.complaint.removeprefix("locked by").strip() or "another job"
        raise DeviceError(
            f"{device.name} is busy, locked by {owner}: wait for that run, or resume the session that it belongs to",
            code="locked",
        )
    if done.code > _KILLED:
        raise TransportError(f"{device.name}: the start was broken off there ({done.complaint}): try again")
    if not done.ok:
        code = "no_space" if _FULL in done.complaint else "device"
        raise DeviceError(f"{device.name}: the job did not start: {done.complaint}", code=code)


def status(device: Device, run_id: str) -> JobStatus | None:
    """What a job says of itself now; None when the device does not know it.

    Raises DeviceError when the device cannot tell, ParseError when what it says is no status: the job is there.
    """
    path = f"{device.job_dir(run_id)}/status"
    captured = device.probe([path]).get(path)
    if captured is None or captured.error == "missing":
        return None
    if captured.error is not None:
        raise DeviceError(f"{device.name}: {path} cannot be read ({captured.error}): look at the device, then --resume")
    return _parse_status(captured.data)


def watch(
    device: Device,
    run_id: str,
    limit_s: float,
    cancelled: Callable[[], bool] = lambda: False,
) -> JobStatus:
    """Waits until the job has ended, and tells its last status.

    The agent ends the job by itself at its wall limit; `limit_s` is how long this waits before it gives up on hearing
    of that. Raises DeviceError then, and when the device no longer knows the job (code `missing`); TransportError when
    the link is lost meanwhile, Interrupted once `cancelled` says so: then the job goes on.
    """
    end = Deadline.after(limit_s)
    process = device.transport.start([device.agent, "watch", device.job_dir(run_id)])
    try:
        heard, rest = time.monotonic(), b""
        while True:
            if cancelled():
                raise Interrupted(f"{device.name}: interrupted while run {run_id} was under way")
            if not end.left_s:
                raise DeviceError(
                    f"{device.name}: run {run_id} has not ended within {limit_s:.0f} s, its limit being less: look at "
                    "the device, then --resume"
                )
            try:
                chunk = process.read(Deadline.after(_POLL_S))
            except TransportTimeout:
                if time.monotonic() - heard > _SILENT_S:
                    raise TransportError(f"{device.name}: the link is silent for {_SILENT_S:.0f} s: check it") from None
                continue
            if not chunk:
                done = process.wait(Deadline.after(_SILENT_S))
                if done.code != _NO_JOB:
                    kind = TransportError if done.code > _KILLED else DeviceError
                    raise kind(
                        f"{device.name}: the watcher of run {run_id} ended ({done.complaint}): the job goes on; look "
                        "at the device, then --resume"
                    )
                raise DeviceError(
                    f"{device.name}: the device no longer knows run {run_id} ({done.complaint}): go on with --resume, "
                    "which repeats it",
                    code="missing",
                )
            heard = time.monotonic()
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[:_LINE_BYTES]
            for line in filter(bytes.strip, lines):
                with contextlib.suppress(ParseError):  # a damaged status: the agent's end is told apart from it
                    now = _parse_status(line)
                    if now.ended:
                        return now
    finally:
        process.close()


def collect(device: Device, run_id: str, folder: Path, cancelled: Callable[[], bool] = lambda: False) -> int:
    """Brings every file of an ended job into `folder`, each found to be what the device has; the bytes free there.

    Raises TransportError, DeviceError; what is in the folder by then is brought again by the next try.
    """
    source = device.job_dir(run_id)
    listing = list_folder(device.transport, device.agent, source)
    # what begins with a dot is a part of a push that was cut: nothing of the job's own does
    names = sorted(n for n in listing.files if n not in _LEFT_ON_DEVICE and not n.startswith("."))
    for name in names:
        if "/" in name or not name.isprintable():
            raise DeviceError(f"{device.name}: job {run_id} holds a file with an odd name, {name!r}: look at {source}")

    def look() -> None:
        if cancelled():
            raise Interrupted(f"{device.name}: interrupted while run {run_id} was collected")

    wrong = names
    for _ in range(_TRIES):
        for name in wrong:
            look()
            deadline = Deadline.after(transfer_limit_s(listing.files[name].size_bytes))
            device.transport.pull(f"{source}/{name}", folder / name, deadline=deadline, limit_bytes=_MAX_FILE_BYTES)
        there = hash_files(device.transport, device.agent, source, wrong, look)
        wrong = [name for name in wrong if there.get(name) != _sha256(folder / name)]
        if not wrong:
            return listing.free_bytes
    raise DeviceError(
        f"{device.name}: {wrong[0]} of run {run_id} does not arrive as it is on the device: nothing was removed there; "
        "look at the link, then go on with --resume"
    )


def stop(
    device: Device, run_id: str, limit_s: float = 10.0, find_root: Callable[[], AsRoot | None] = lambda: None
) -> None:
    """Asks a job to end and waits until it has put the device's state back. Raises DeviceError when it does not.

    `find_root` is asked when the job is root's.
    """
    argv = (device.agent, "stop", device.job_dir(run_id), str(round(limit_s * 1000)))
    done = device.run(argv, limit_s + 5)
    if done.code == _DENIED and (as_root := find_root()):
        done = device.run(as_root(argv), limit_s + 5)
    if not done.ok:
        raise DeviceError(f"{device.name}: {done.complaint}")


def forget(device: Device, run_id: str) -> None:
    """Removes an ended job from the device; its undo journal, if something could not be put back, stays there.

    Raises TransportError: then it is there still, or not, and this may be called again.
    """
    folder = device.job_dir(run_id)
    undo = f"{folder}/undo"
    if device.probe([undo]):
        return
    device.run(["rm", "-rf", folder])


def _sha256(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _parse_status(line: bytes) -> JobStatus:
    try:
        return JobStatus.model_validate_json(line)
    except ValueError as error:
        raise ParseError(f"a job's status cannot be read: {error}", line) from None
