"""`kind: suite`: workloads × devices × sweeps, with a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from melt.errors import UsageError
from melt.files.reader import read_model
from melt.files.settings import Settings
from melt.places import shipped
from melt.records import NAME, Strict


class DeviceChoice(Strict):
    """Which of the lab's devices: by name, by tag, or both."""

    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class Suite(Settings):
    """What is carried out: every workload, with every combination of the sweep, on every chosen device."""

    name: Annotated[str, Field(pattern=NAME)]
    workloads: Annotated[tuple[str, ...], Field(min_length=1)]
    devices: DeviceChoice = DeviceChoice()
    sweep: Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    about: str = ""

    @field_validator("sweep")
    @classmethod
    def _sweep_keys(cls, sweep: Mapping[str, tuple[Any, ...]]) -> Mapping[str, tuple[Any, ...]]:
        for key in sweep:
            if key != "cpus" and not key.startswith("params."):
                raise ValueError(f"a sweep varies params.NAME or cpus, not '{key}'")
        return sweep


def load_suite(name_or_path: str) -> tuple[Suite, Path]:
    """The suite at a path, or the shipped one of that path or name; and its file. Raises UsageError."""
    path = Path(name_or_path)
    if not path.exists() and not path.is_absolute():
        # so that `melt run workloads/demo.yaml` works from an installed wheel in an empty folder
        file = path if path.suffix else path.with_suffix(".yaml")
        candidate = shipped("workloads") / file.name
        if candidate.is_file() and file.parent in (Path(), Path("workloads")):
            path = candidate
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a suite's file in it")
    return read_model(path, "suite", Suite), path
