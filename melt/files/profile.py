"""`kind: profile`: what a kind of device is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from melt.errors import UsageError
from melt.files.reader import check_model, find, read_yaml
from melt.files.settings import Settings
from melt.places import shipped
from melt.records import NAME, Strict

_MAX_DEPTH = 5


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

    name: Annotated[str, Field(pattern=NAME)]
    platform: Literal["linux"] = "linux"
    verified: bool = False
    about: str = ""
    readings: tuple[str, ...] = ()
    periods_s: Mapping[str, Annotated[float, Field(ge=0.001, le=3600)]] = Field(default_factory=dict)
    thermal: Thermal = Thermal()
    pin: Pin = Pin()
    engines: Mapping[str, EngineOnDevice] = Field(default_factory=dict)


def load_profile(name: str) -> Profile:
    """The shipped profile of that name, with what it `extends` below it. Raises UsageError."""
    data, path = _load(name, 0)
    return check_model(data, path, "profile", Profile)


def profile_names() -> list[str]:
    return sorted(path.stem for path in shipped("device_profiles").glob("*.yaml"))


def _load(name: str, depth: int) -> tuple[dict[str, Any], Any]:
    path = find(name, "profile", [shipped("device_profiles")])
    data = read_yaml(path)
    parent = data.pop("extends", None)
    if parent is None:
        return data, path
    if depth == _MAX_DEPTH or not isinstance(parent, str):
        raise UsageError(f"{path}: key 'extends' must name another profile, at most {_MAX_DEPTH} deep")
    below, _ = _load(parent, depth + 1)
    return _over(below, data), path


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` wins; mappings are joined key by key, everything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out
