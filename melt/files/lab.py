"""`kind: lab`: which devices are here. A person's own file, never in a repository."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, field_validator, model_validator

from melt.errors import UsageError, nearest
from melt.files.instruments import MeterSpec, UsbSwitch
from melt.files.profile import Profile, load_profile
from melt.files.reader import read_model
from melt.files.settings import Name, Settings
from melt.places import shipped
from melt.records import Strict

if TYPE_CHECKING:
    from pathlib import Path

THIS_COMPUTER = "local"
SCHEMES = ("local", "ssh", "adb", "adb+tcp")
"""How an address may begin."""


class LabDevice(Settings):
    """One unit: its kind, and how it is reached."""

    profile: str
    address: Annotated[str, Field(max_length=512)]
    workdir: Annotated[str, Field(pattern=r"^/", max_length=1024)] | None = None
    tags: tuple[Name, ...] = ()
    sysroot: Annotated[str, Field(pattern=r"^/[ -~]*[!-.0-~]$", max_length=1024)] | None = None
    """The folder below which /sys and /proc/device-tree of the device lie: a container sees its host's elsewhere."""
    simulated: bool = False
    """Whether its sensors are a program's: everything that comes of it is labelled so, and never compared with real."""

    meter: Name | None = None
    """The power meter that it is behind, one of `meters`."""
    usb: Name | None = None
    """The switch of the USB power that charges it, one of `usb_switches`: off while it is measured."""

    @field_validator("address")
    @classmethod
    def _scheme(cls, address: str) -> str:
        scheme, colon, _ = address.partition(":")
        if not colon or scheme not in SCHEMES:
            known = ", ".join(f"{scheme}:" for scheme in SCHEMES)
            raise ValueError(f"an address begins with one of {known}")
        return address


class LabFile(Strict):
    """What a lab file holds."""

    devices: Mapping[Name, LabDevice] = Field(default_factory=dict)
    meters: Mapping[Name, MeterSpec] = Field(default_factory=dict)
    usb_switches: Mapping[Name, UsbSwitch] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_that_are_there(self) -> Self:
        for name, device in self.devices.items():
            if device.meter is not None and device.meter not in self.meters:
                raise ValueError(
                    f"device '{name}' names the meter '{device.meter}', which is not among 'meters': "
                    f"{nearest(device.meter, self.meters)}"
                )
            if device.usb is not None and device.usb not in self.usb_switches:
                raise ValueError(
                    f"device '{name}' names the switch '{device.usb}', which is not among 'usb_switches': "
                    f"{nearest(device.usb, self.usb_switches)}"
                )
            if device.usb is not None and _over_usb(device.address):
                raise ValueError(
                    f"device '{name}' is reached over the USB cable whose power '{device.usb}' switches, so melt would "
                    "cut itself off: reach it over Wi-Fi ('adb tcpip 5555', then address: adb+tcp://HOST:5555)"
                )
        return self


def _over_usb(address: str) -> bool:
    """Whether an address needs a USB cable: an adb serial that is no network address."""
    scheme, _, rest = address.partition(":")
    network = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:]+):\d{1,5}|adb-.+\._tcp\.?", rest.removeprefix("//"))
    return scheme == "adb" and network is None


@dataclass(frozen=True)
class Lab:
    """The devices by name, this computer always among them, and the folders where profiles are looked for."""

    devices: Mapping[str, LabDevice]
    profiles: tuple[Path, ...]
    meters: Mapping[str, MeterSpec] = field(default_factory=dict)
    usb_switches: Mapping[str, UsbSwitch] = field(default_factory=dict)
    usual: tuple[str, ...] = (THIS_COMPUTER,)
    """Those that a suite is carried out on when neither it nor a person names any."""

    def device(self, name: str) -> LabDevice:
        """The device of that name. Raises UsageError with the nearest one."""
        found = self.devices.get(name)
        if found is None:
            raise UsageError(f"device '{name}' is not in the lab: {nearest(name, self.devices)}")
        return found

    def choose(self, names: tuple[str, ...], tags: tuple[str, ...]) -> list[str]:
        """The names of the devices named or tagged, in the lab's order. Raises UsageError when a tag has none."""
        for name in names:
            self.device(name)
        for tag in tags:
            if not any(tag in device.tags for device in self.devices.values()):
                known = {t for device in self.devices.values() for t in device.tags}
                raise UsageError(f"no device of the lab has the tag '{tag}': {nearest(tag, known)}")
        return [n for n, d in self.devices.items() if n in names or set(tags) & set(d.tags)]

    def profile(self, device: LabDevice) -> Profile:
        """The profile of a device. Raises UsageError."""
        return load_profile(device.profile, self.profiles)


def load_lab(path: Path | None) -> Lab:
    """The lab file with this computer added as `local`, unless it names one so itself.

    Profiles of your own stand in `device_profiles/` beside the lab file and win over the shipped ones.
    Raises UsageError.
    """
    found = read_model(path, "lab", LabFile) if path else LabFile()
    here = {THIS_COMPUTER: LabDevice(profile="linux", address="local:")}
    own = (path.parent / "device_profiles",) if path else ()
    meters = {name: _beside(path, meter) for name, meter in found.meters.items()} if path else {}
    return Lab({**here, **found.devices}, (*own, shipped("device_profiles")), meters, found.usb_switches)


def _beside(lab: Path, meter: MeterSpec) -> MeterSpec:
    """The meter with its file's path as it is from here."""
    return meter.model_copy(update={"path": str(lab.parent / meter.path)}) if meter.path is not None else meter
