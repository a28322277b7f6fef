"""`kind: lab`: which devices are here. A person's own file, never in a repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from melt.errors import UsageError, nearest
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


@dataclass(frozen=True)
class Lab:
    """The devices by name, this computer always among them, and the folders where profiles are looked for."""

    devices: Mapping[str, LabDevice]
    profiles: tuple[Path, ...]

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
    found = read_model(path, "lab", LabFile).devices if path else {}
    here = {THIS_COMPUTER: LabDevice(profile="linux", address="local:")}
    own = (path.parent / "device_profiles",) if path else ()
    return Lab({**here, **found}, (*own, shipped("device_profiles")))
