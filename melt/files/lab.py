"""`kind: lab`: which devices are here. A person's own file, never in a repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from melt.errors import UsageError, nearest
from melt.files.reader import read_model
from melt.files.settings import Settings
from melt.records import NAME, Strict

if TYPE_CHECKING:
    from pathlib import Path

Name = Annotated[str, Field(pattern=NAME)]
THIS_COMPUTER = "local"


class LabDevice(Settings):
    """One unit: its kind, and how it is reached."""

    profile: str
    address: Annotated[str, Field(max_length=512)]
    workdir: Annotated[str, Field(pattern=r"^/", max_length=1024)] | None = None
    tags: tuple[Name, ...] = ()

    @field_validator("address")
    @classmethod
    def _scheme(cls, address: str) -> str:
        if not address.startswith("local:"):
            raise ValueError("this version of melt reaches 'local:' (this computer) only")
        return address


class Lab(Strict):
    """The devices by name; this computer is always among them."""

    devices: Mapping[Name, LabDevice] = Field(default_factory=dict)

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


def load_lab(path: Path | None) -> Lab:
    """The lab file with this computer added as `local`, unless it names one so itself. Raises UsageError."""
    lab = read_model(path, "lab", Lab) if path else Lab()
    here = {THIS_COMPUTER: LabDevice(profile="linux", address="local:")}
    return Lab(devices={**here, **lab.devices})
