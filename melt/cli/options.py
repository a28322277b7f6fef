"""Options and arguments that several commands share, and which device a word on the command line means."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from melt.cli.console import say
from melt.errors import UsageError, nearest
from melt.files import SCHEMES, Lab, LabDevice, load_lab
from melt.files.reader import first_problem

if TYPE_CHECKING:
    from collections.abc import Sequence

LabFile = Annotated[
    Path | None,
    typer.Option("--lab", help="Your lab file: the devices that are here; or 'virtual', for boards that are software."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of a table.")]

_VIRTUAL = Path("virtual")
_OVER_ADB = ("adb", "adb+tcp")
_BEGINS = "an address begins with ssh://, adb://, adb+tcp:// or local:"


def lab_of(
    lab_file: Path | None, context: typer.Context | None = None, devices: Sequence[str] = (), *, start: bool = True
) -> Lab:
    """The lab of a file. For the word `virtual` it is the virtual boards, which run until the command has ended.

    Of those only `devices` are started; without any, all; none where `start` is not set. Raises UsageError, also where
    a command that gives no `context` has nothing to do with such boards, and DeviceError where none can be had.
    """
    if lab_file != _VIRTUAL:
        return load_lab(lab_file)
    if context is None:
        raise UsageError("--lab virtual: this command is not for virtual boards; a lab file goes here")
    from melt.virtual.lab import listed, virtual_lab  # noqa: PLC0415 - what only few commands need

    if not start:
        return listed(devices)
    boards = virtual_lab(only=devices, say=say)
    lab: Lab = context.with_resource(boards)
    return lab


def named(device: str, lab_file: Path | None, context: typer.Context | None = None) -> tuple[Lab, str, LabDevice]:
    """The lab, and its device of this name; or an address taken as one, with the profile that goes with its scheme.

    Raises UsageError, with the nearest name and how an address begins.
    """
    lab = lab_of(lab_file, context, (device,))
    if device in lab.devices:
        return lab, device, lab.devices[device]
    scheme, colon, rest = device.partition(":")
    if colon and scheme in SCHEMES:
        if scheme == "ssh" and not rest.startswith("//"):
            raise UsageError(f"address '{device}': write ssh://user@host:port")
        try:
            return lab, device.rstrip(":"), LabDevice(profile=profile_for(device, lab), address=device)
        except ValidationError as error:
            raise UsageError(f"address '{device}': {first_problem(error, LabDevice)}") from None
    if "://" in device:
        raise UsageError(f"address '{device}': {nearest(scheme, SCHEMES)} ({_BEGINS})")
    no_file = "" if lab_file else ", and --lab names no file"
    raise UsageError(
        f"device '{device}' is not in the lab{no_file}: {nearest(device, lab.devices)} "
        f"({_BEGINS}, such as ssh://{device})"
    )


def profile_for(address: str, lab: Lab) -> str:
    """The profile of a device that no lab file describes: `android` behind adb where there is one, else `linux`."""
    over_adb = address.partition(":")[0] in _OVER_ADB
    has_android = any((folder / "android.yaml").is_file() for folder in lab.profiles)
    return "android" if over_adb and has_android else "linux"
