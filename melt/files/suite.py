"""`kind: suite`: workloads × devices × sweeps, with a protocol."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from melt.files.reader import read_model
from melt.files.settings import Name, Settings
from melt.places import shipped
from melt.records import Strict

_LONGEST = 64


class DeviceChoice(Strict):
    """Which of the lab's devices: by name, by tag, or both."""

    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class Suite(Settings):
    """What is carried out: every workload, with every combination of the sweep, on every chosen device."""

    name: Name
    workloads: Annotated[tuple[str, ...], Field(min_length=1)]
    devices: DeviceChoice = DeviceChoice()
    sweep: Mapping[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    canary: tuple[Name, ...] = ()
    """Workloads, by name, that nobody changes: where one changes from night to night, its device did."""
    about: str = ""

    @field_validator("sweep")
    @classmethod
    def _sweepable(cls, sweep: Mapping[str, tuple[Any, ...]]) -> Mapping[str, tuple[Any, ...]]:
        for key, values in sweep.items():
            if key != "cpus" and not re.fullmatch(r"params\.[A-Za-z0-9_.-]{1,64}", key):
                raise ValueError(f"a sweep varies params.NAME or cpus, not {key[:60]!r}")
            for value in values:
                # it becomes part of the cell's name
                if (
                    not isinstance(value, str | int | float)
                    or not str(value).isprintable()
                    or len(str(value)) > _LONGEST
                ):
                    raise ValueError(f"'{key}' varies words and numbers of up to {_LONGEST} characters")
        return sweep


def load_suite(name_or_path: str) -> tuple[Suite, Path]:
    """The suite at a path, or the shipped one of that path or name; and its file. Raises UsageError."""
    path = Path(name_or_path)
    if not os.path.lexists(path) and not path.is_absolute():
        # so that `melt run workloads/demo.yaml` works from an installed wheel in an empty folder
        file = path if path.suffix else path.with_suffix(".yaml")
        if file.parent in (Path(), Path("workloads")):
            path = next((known for known in shipped("workloads").glob("*.yaml") if known.name == file.name), path)
    return read_model(path, "suite", Suite), path
