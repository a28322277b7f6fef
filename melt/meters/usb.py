"""USB power of a device, off while it is measured and on again whatever happens.

A note on this computer says what is off before it is, and its writer holds a lock. A note whose lock nobody holds any
more was left by a melt that died: the next one puts the power back. Programs are started as lists of words.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import time
from typing import TYPE_CHECKING

from melt.errors import DeviceError, Interrupted, MeltError, TransportTimeout
from melt.files.instruments import UsbSwitch
from melt.places import cache_folder, write_whole
from melt.transport import Deadline, LocalTransport
from melt.transport.base import NOT_EXECUTABLE, NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_LIMIT_S = 20.0
_FOLDER = "unplugged"
_NOTE = ".json"


@contextlib.contextmanager
def unplugged(name: str, switch: UsbSwitch, folder: Path | None = None) -> Iterator[None]:
    """Around what is measured: the switch `name` is off inside, and on again afterwards.

    Raises DeviceError when it cannot be switched off, or cannot be put back; then the note stays, and the next session
    tries again. What ended the inside is raised whatever becomes of the switch.
    """
    with _noted(name, switch, folder or _home()) as note:
        try:
            _switch(name, switch, "off")
            time.sleep(switch.settle_s)
            yield
        except _NotStartedError:  # what was never switched off needs no note
            with contextlib.suppress(DeviceError):
                _switch(name, switch, "on")
            note.unlink(missing_ok=True)
            raise
        except BaseException as first:
            _end(name, switch, note, first)
            raise
        _end(name, switch, note, None)


def _end(name: str, switch: UsbSwitch, note: Path, first: BaseException | None) -> None:
    """Puts the power on and takes the note away. Raises DeviceError, which tells the first error as well."""
    try:
        _switch(name, switch, "on")
    except DeviceError as error:
        words = f"{error}; {_kept(note)}"
        if first is None:
            raise DeviceError(words, error.code) from None
        if not isinstance(first, MeltError) or isinstance(first, Interrupted):
            first.add_note(words)  # a Ctrl-C stays one; the next session tells what is left
            return
        raise DeviceError(f"{first}; and {words}", error.code) from first
    note.unlink(missing_ok=True)
    time.sleep(switch.settle_s)


class _NotStartedError(DeviceError):
    """The switch's program is missing, or may not be executed."""


def _kept(note: Path) -> str:
    return f"the next session tries again, as {note} says: remove that file once the power is on"


def put_back(say: Callable[[str], None], folder: Path | None = None) -> None:
    """Puts on what a melt that died left off; one that fails is told and kept for the next time."""
    for note in sorted((folder or _home()).glob(f"*{_NOTE}")):
        name = note.name.removesuffix(_NOTE)
        with _lock(note) as mine:
            if not mine or not note.exists():
                continue  # another melt measures at this moment, or has just ended
            try:
                switch = UsbSwitch.model_validate_json(note.read_bytes())
            except (OSError, ValueError):
                say(f"{note} cannot be read: switch the USB power of '{name}' on yourself, and remove the file")
                continue
            try:
                _switch(name, switch, "on")
            except DeviceError as error:
                say(f"a melt that ended left '{name}' off: {error}; {_kept(note)}")
                continue
            note.unlink()
            say(f"a melt that ended had left the USB power of '{name}' off: it is on again")


@contextlib.contextmanager
def _noted(name: str, switch: UsbSwitch, folder: Path) -> Iterator[Path]:
    """Writes and holds the note of a switch. Raises DeviceError when another melt holds it."""
    note = folder / f"{name}{_NOTE}"
    with _lock(note) as mine:
        if not mine:
            raise DeviceError(f"switch '{name}' is used by another melt: wait for it to end", "usb")
        write_whole(note, switch.model_dump_json(exclude_unset=True).encode())
        yield note


@contextlib.contextmanager
def _lock(note: Path) -> Iterator[bool]:
    """Whether this melt is the one that may use the switch of a note; it dies with its holder."""
    with note.with_suffix(".lock").open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _switch(name: str, switch: UsbSwitch, to: str) -> None:
    """Switches, and looks whether it did where the program tells. Raises DeviceError."""
    argv = _argv(switch, to)
    try:
        done = LocalTransport().run(argv, deadline=Deadline.after(_LIMIT_S))
    except TransportTimeout as error:
        raise DeviceError(f"switch '{name}' could not be put {to}: {error}: look at its cable", "usb") from error
    if not done.ok:
        kind = _NotStartedError if done.code in (NOT_FOUND, NOT_EXECUTABLE) else DeviceError
        raise kind(
            f"switch '{name}' could not be put {to}: {argv[0]}: {done.complaint}: is it installed, and may this user "
            "use it?",
            "usb",
        )
    if switch.type == "uhubctl" and (now := _state(done.stdout, switch.port or 0)) not in (None, to):
        raise DeviceError(
            f"switch '{name}' did not go {to}: port {switch.port} of hub {switch.hub} is still {now}: this hub cannot "
            "switch its ports",
            "usb",
        )


def _argv(switch: UsbSwitch, to: str) -> Sequence[str]:
    port = str(switch.port)
    if switch.type == "uhubctl":
        return ("uhubctl", "-l", str(switch.hub), "-p", port, "-a", to)
    if switch.type == "ykush":
        which = ("-s", switch.serial) if switch.serial else ()
        return ("ykushcmd", *which, "-d" if to == "off" else "-u", port)
    return (switch.off if to == "off" else switch.on) or ()


def _state(said: bytes, port: int) -> str | None:
    """What uhubctl says of a port after its request: `  Port 2: 0000 off`, or `  Port 2: 0103 power enable connect`.

    A USB 3 hub is two companions at the same sockets: the power is on as long as one of them has it on.
    """
    parts = re.split(r"^(Current|New) status", said.decode(errors="replace"), flags=re.MULTILINE)
    new = [text for kind, text in zip(parts[1::2], parts[2::2], strict=True) if kind == "New"]
    states = re.findall(rf"^\s*Port {port}: [0-9a-f]+ (.*)$", "\n".join(new), re.MULTILINE)
    return None if not states else "on" if any("power" in state.split() for state in states) else "off"


def _home() -> Path:
    return cache_folder(_FOLDER)
