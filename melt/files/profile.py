"""`kind: profile`: what a kind of device is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from melt.errors import UsageError
from melt.files.reader import check_model, find, read_yaml
from melt.files.settings import Name, Settings
from melt.places import shipped
from melt.records import Strict

if TYPE_CHECKING:
    from pathlib import Path

_MAX_DEPTH = 5
_OWN = frozenset({"name", "about", "verified"})
"""What a profile says of itself alone: that a Jetson was verified says nothing of the next one."""


class Thermal(Strict):
    """Which temperature sensors are looked at before and during a run, by shell patterns; `ignore` wins."""

    check: tuple[str, ...] = ("zone.*",)
    ignore: tuple[str, ...] = ()


class Pin(Strict):
    """What is held during a run and put back after it."""

    governor: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")] | None = None


class EngineOnDevice(Strict):
    """An engine's library that is already on the device, in place of the one melt delivers."""

    library: Annotated[str, Field(pattern=r"^/")]


class Profile(Settings):
    """What a kind of device is: what can be read there, what is hot, what is held."""

    name: Name
    platform: Literal["linux"] = "linux"
    verified: bool = False
    about: str = ""
    readings: tuple[str, ...] = ()
    periods_s: Mapping[str, Annotated[float, Field(strict=True, ge=0.001, le=3600)]] = Field(default_factory=dict)
    cpu: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9.+_-]{0,63}$")] = None
    """The level of its processor, where llama.cpp is compiled for it ahead; a run asks the device itself."""
    thermal: Thermal = Thermal()
    pin: Pin = Pin()
    engines: Mapping[str, EngineOnDevice] = Field(default_factory=dict)


def load_profile(name: str, folders: Sequence[Path] = ()) -> Profile:
    """The profile of that name in the first of the folders that has it, with what it `extends` below it.

    Without folders, the shipped ones. Raises UsageError.
    """
    data, path = _load(name, list(folders) or [shipped("device_profiles")], ())
    return check_model(data, path, "profile", Profile)


def _load(name: str, folders: list[Path], above: tuple[str, ...]) -> tuple[dict[str, Any], Path]:
    path = find(name, "profile", folders)
    data = read_yaml(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data, path
    if not isinstance(parent, str):
        raise UsageError(f"{path}: key 'extends' must be the name of another profile")
    if parent in (*above, name) or len(above) == _MAX_DEPTH:
        chain = " → ".join((*above, name, parent))
        raise UsageError(f"{path}: key 'extends' goes in a circle or more than {_MAX_DEPTH} deep: {chain}")
    below, below_path = _load(parent, folders, (*above, name))
    check_model(below, below_path, "profile", Profile)  # so that a mistake is told of the file that has it
    return _over({key: value for key, value in below.items() if key not in _OWN}, data), path


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` wins; mappings are joined key by key, everything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out
