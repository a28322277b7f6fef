"""`kind: profile`: what a kind of device is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from melt.errors import UsageError, nearest
from melt.files.reader import check_model, find, read_yaml
from melt.files.settings import Cpus, Name, Settings
from melt.places import shipped
from melt.records import BatteryNote, Boundary, Provenance, Quantity, Response, Strict, TotalRule

if TYPE_CHECKING:
    from pathlib import Path

_MAX_DEPTH = 5
_MOST_WORDS, _MOST_BYTES, _MOST_EXPECTED = 48, 8192, 256
"""What the agent takes of a command's words, and of the state that it is to bring."""
_OWN = frozenset({"name", "about", "verified"})
"""What a profile says of itself alone: that a Jetson was verified says nothing of the next one."""
_WHOLES = frozenset({"module", "board_input", "battery", "wall"})
"""The boundaries within which everything lies that a run needs: two channels there would count it twice."""


class Thermal(Strict):
    """Which temperature sensors are looked at before and during a run, by shell patterns; `ignore` wins.

    How cool they have to be is `precheck.zone_max_c`.
    """

    check: tuple[str, ...] = ("zone.*",)
    """Patterns for the names of sensors, such as `zone.cpu-thermal` or `thermal.skin`."""
    ignore: tuple[str, ...] = ()
    """Patterns for those that are left out of them: a sensor that stands still, or tells of something else."""


class Cluster(Strict):
    """Cores of one kind."""

    cpus: Cpus
    """Their numbers, such as `0-3` or `4,6`."""
    core: Annotated[str, Field(max_length=64)]
    """The core's name, such as Cortex-A76."""
    max_hz: Annotated[int, Field(strict=True, gt=0)] | None = None
    """The highest clock that the maker states."""


class SensorSpec(Strict):
    """A channel of a reading, found by the device's own name for it, and what it means on this kind of device."""

    read: str
    """The reading's name: one of the profile's `readings`."""
    label: str = "*"
    """The channel's label, or a shell pattern that fits one of them; small and capital letters are the same."""
    quantity: Quantity
    """What is taken of the reading's channels with that label."""
    boundary: Boundary | None = None
    """What lies behind the point where it is measured; without one, what the reading says."""
    provenance: Provenance | None = None
    """How the figure comes about; without one, what the reading says."""
    period_s: Annotated[float, Field(strict=True, ge=0.001, le=3600)] | None = None
    """How often it is read; without one, as often as the reading says."""
    response: Response | None = None
    """How it follows what it measures, and how far it may be off; without one, what the reading says."""


class BatterySpec(Strict):
    """The battery, and how its gauge is to be understood: makers differ in the current's unit and sign."""

    capacity_mah: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """The capacity that the maker states, in mAh."""
    voltage_v: Annotated[float, Field(gt=0, le=100)] | None = None
    """The nominal voltage that a charge is stated at."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The level under which no run starts."""
    current_unit: Literal["ua", "ma"] = "ua"
    """The unit of the gauge's current: µA as the kernel has it, or mA."""
    discharging: Literal["negative", "positive"] = "negative"
    """The sign of the gauge's current while the battery empties."""
    calibrated: bool = False
    """Whether unit and sign were measured on this model; without that no energy is published from the gauge."""

    @property
    def note(self) -> BatteryNote | None:
        """What converts energy to charge; None where capacity or voltage is not known."""
        if self.capacity_mah is None or self.voltage_v is None:
            return None
        return BatteryNote(capacity_mah=self.capacity_mah, voltage_v=self.voltage_v)


def _below(path: str) -> str:
    if ".." in path.split("/"):
        raise ValueError("a part of it is '..', which leads out of /sys and /proc: name the file itself")
    return path


class HeldCommand(Strict):
    """A state that is no file: how to ask for it, set it and put it back. Argument lists; no shell reads them."""

    read: Annotated[tuple[str, ...], Field(min_length=1)]
    """Prints the state; its last line is what is kept."""
    set: Annotated[tuple[str, ...], Field(min_length=1)]
    """Sets it."""
    restore: Annotated[tuple[str, ...], Field(min_length=1)]
    """Puts it back; a word `{old}` stands for what `read` had printed."""
    expect: Annotated[str, Field(max_length=256)]
    """What `read` prints as its last line while it is held."""
    root: bool = False
    """Whether it takes root."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """The agent's limits, of all three commands together."""
        words = (*self.read, *self.set, *self.restore)
        n_bytes = sum(len(word.encode(errors="surrogateescape")) + 1 for word in words)
        if len(words) > _MOST_WORDS or n_bytes > _MOST_BYTES:
            raise ValueError(
                f"its three commands are {len(words)} words and {n_bytes} bytes long together, {_MOST_WORDS} words and "
                f"{_MOST_BYTES} bytes being the most: put them into a script on the device"
            )
        if len(self.expect.encode(errors="surrogateescape")) > _MOST_EXPECTED:
            raise ValueError(f"its 'expect' is longer than {_MOST_EXPECTED} bytes")
        return self


class Pin(Strict):
    """What is held during a run and put back after it."""

    governor: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")] | None = None
    """The governor of every CPU policy; null holds none, where a profile below names one."""
    cpu_hz: Annotated[int, Field(strict=True, gt=0)] | Literal["max"] | None = None
    """The clock that every CPU policy is held at: the nearest one it has that is not above."""
    files: Mapping[
        Annotated[str, Field(pattern=r"^/(sys|proc)/[!-~]{1,500}$"), AfterValidator(_below)],
        Annotated[str, Field(max_length=256)],
    ] = Field(default_factory=dict)
    """Values by file, or by a shell pattern for files."""
    power_mode: str | None = None
    """One of the profile's `power_modes`."""
    commands: Mapping[Name, HeldCommand] = Field(default_factory=dict)
    """States that are no files, each held by commands, by a name for people."""
    awake: bool = False
    """Whether the device is kept from suspending."""


class EngineOnDevice(Strict):
    """An engine's library that is already on the device, in place of the one melt delivers."""

    library: Annotated[str, Field(pattern=r"^/")]
    """Its path on the device."""


class Profile(Settings):
    """What a kind of device is: what can be read there, what is hot, what is held."""

    name: Name
    """The profile's name, as the file's."""
    platform: Literal["linux", "android"] = "linux"
    """Which system: it decides what may be asked of the device."""
    verified: bool = False
    """Whether somebody has run it on the hardware; every report says so where nobody has. Never inherited."""
    about: str = ""
    """One line for people. Never inherited."""
    readings: tuple[str, ...] = ()
    """What is read there again and again; what the device lacks of it is a gap with a reason."""
    periods_s: Mapping[str, Annotated[float, Field(strict=True, ge=0.001, le=3600)]] = Field(default_factory=dict)
    """How often, by reading, where that differs from the reading's own period."""
    cpu: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9.+_-]{0,63}$")] = None
    """The level of its processor, where llama.cpp is compiled for it ahead; a run asks the device itself."""
    clusters: tuple[Cluster, ...] = ()
    """The kinds of core that the maker states; a run asks the device itself."""
    sensors: Mapping[Name, SensorSpec] = Field(default_factory=dict)
    """Channels that this kind of device gives a meaning to; each is called by its name here."""
    total: TotalRule | None = None
    """Which of `sensors` are the device's total."""
    as_root: bool = False
    """Whether what only root may read is read as root, where the device has a way to it; it is asked once."""
    no_power: str | None = None
    """Why this kind of device has no sensor of power, where that is known."""
    battery: BatterySpec | None = None
    """The battery, where it has one."""
    thermal: Thermal = Thermal()
    """Which temperatures a run waits for and is ended by; how cool they have to be is `precheck.zone_max_c`."""
    pin: Pin = Pin()
    """What is held during a run and put back after it, whatever happens."""
    power_modes: Mapping[str, Annotated[int, Field(strict=True, ge=0, le=999)]] = Field(default_factory=dict)
    """A Jetson's power modes by name, the number being what nvpmodel takes."""
    engines: Mapping[str, EngineOnDevice] = Field(default_factory=dict)
    """Libraries and programs that are on the device already, by engine."""


def load_profile(name: str, folders: Sequence[Path] = ()) -> Profile:
    """The profile of that name in the first of the folders that has it, with what it `extends` below it.

    Without folders, the shipped ones. Raises UsageError.
    """
    data, path = _load(name, list(folders) or [shipped("device_profiles")], ())
    return _checked(data, path)


def _checked(data: dict[str, Any], path: Path) -> Profile:
    profile = check_model(data, path, "profile", Profile)
    for problem in (
        _cluster_problem(profile),
        _total_problem(profile),
        _mode_problem(profile),
        _awake_problem(profile),
    ):
        if problem:
            raise UsageError(f"{path}: {problem}")
    return profile


def _cluster_problem(profile: Profile) -> str | None:
    taken: dict[int, int] = {}
    for number, cluster in enumerate(profile.clusters):
        for part in cluster.cpus.split(","):
            first, _, last = part.partition("-")
            for cpu in range(int(first), int(last or first) + 1):
                if cpu in taken:
                    return f"key 'clusters.{number}.cpus': CPU {cpu} is in clusters.{taken[cpu]} already"
                taken[cpu] = number
    return None


def _total_problem(profile: Profile) -> str | None:
    powers = {name: spec for name, spec in profile.sensors.items() if spec.quantity in ("power", "energy")}
    if profile.total is None:
        wholes = [name for name, spec in powers.items() if spec.boundary in _WHOLES]
        if len(wholes) < 2:  # noqa: PLR2004 - the second one is what makes it ambiguous
            return None
        return (
            f"key 'sensors': {' and '.join(wholes)} each claim to hold the whole device: say with 'total' which of "
            "them is its total"
        )
    for name in profile.total.sum:
        if name not in profile.sensors:
            return f"key 'total.sum' names '{name}', which is not in 'sensors': {nearest(name, profile.sensors)}"
        if name not in powers:
            return f"key 'total.sum' names '{name}', which is of {profile.sensors[name].quantity}, not power or energy"
        if profile.total.sum.count(name) > 1:
            return f"key 'total.sum' names '{name}' twice"
    return None


def _mode_problem(profile: Profile) -> str | None:
    mode = profile.pin.power_mode
    if mode is None or mode in profile.power_modes:
        return None
    if not profile.power_modes:
        return f"key 'pin.power_mode' is '{mode}', and the profile has no 'power_modes': add them"
    return f"key 'pin.power_mode' is '{mode}', which is not in 'power_modes': {nearest(mode, profile.power_modes)}"


def _awake_problem(profile: Profile) -> str | None:
    if not profile.pin.awake or profile.platform == "android":
        return None
    return (
        f"key 'pin.awake' is true, and melt knows no way to keep a device of platform '{profile.platform}' from "
        "suspending: set it to false, and turn suspending off there"
    )


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
    _checked(below, below_path)  # so that a mistake is told of the file that has it
    return _over({key: value for key, value in below.items() if key not in _OWN}, data), path


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` wins; mappings are joined key by key, everything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out
