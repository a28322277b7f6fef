"""`kind: workload`: a model, an engine, inputs and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from melt.files.reader import find, read_model
from melt.files.settings import Settings
from melt.places import shipped
from melt.records import NAME, Strict

Dim = Annotated[int, Field(ge=1, le=2**31)]


class ModelSource(Strict):
    """Where the model comes from: made here, or a file."""

    make: str | None = None
    seed: Annotated[int, Field(ge=0, le=2**63)] = 1
    path: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.make is None) == (self.path is None):
            raise ValueError("say either 'make' (a model that melt builds) or 'path' (a file)")
        return self


class InputSpec(Strict):
    """An input's shape where the model leaves it open, and the seed of its values."""

    shape: tuple[Dim, ...] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63)] = 1


class Workload(Settings):
    """What is run: `params` are the engine's own."""

    name: Annotated[str, Field(pattern=NAME)]
    engine: str
    model: ModelSource
    inputs: Mapping[str, InputSpec] = Field(default_factory=dict)
    about: str = ""


def load_workload(name_or_path: str, beside: Path) -> tuple[Workload, Path]:
    """The workload of a name, looked for in `beside` and then among the shipped ones, or of a path; and its file."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = find(name_or_path, "workload", list(dict.fromkeys([beside, shipped("workloads")])))
    elif not path.is_absolute():
        path = beside / path
    return read_model(path, "workload", Workload), path


def model_path(workload: Workload, file: Path) -> Path | None:
    """The model's own file, a relative path being beside the workload's file; None for a model that is made."""
    source = workload.model.path
    if source is None:
        return None
    path = Path(source).expanduser()
    return path if path.is_absolute() else file.parent / path
