"""`kind: workload`: a model, an engine, inputs and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from melt.errors import UsageError
from melt.files.reader import find, read_model
from melt.files.settings import Name, Seed, Settings, Whole
from melt.places import shipped
from melt.records import Strict

Dim = Annotated[Whole, Field(ge=1, le=2**31)]
Tokens = Annotated[Whole, Field(ge=1, le=1 << 20)]
_REQUEST = ("mode", "prompt_tokens", "generate_tokens")


class ModelSource(Strict):
    """Where the model comes from: made here, or a file."""

    make: str | None = None
    quant: str | None = None
    """Of a language model that melt makes: f16, q8_0, q4_0 …"""
    seed: Seed = 1
    path: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.make is None) == (self.path is None):
            raise ValueError("say either 'make' (a model that melt builds) or 'path' (a file)")
        if self.path is not None and self.quant is not None:
            raise ValueError("a file has the quantisation it has: leave 'quant' out")
        return self


class InputSpec(Strict):
    """An input's shape where the model leaves it open, and the seed of its values."""

    shape: Annotated[tuple[Dim, ...], Field(max_length=16)] | None = None
    seed: Seed = 1


class Workload(Settings):
    """What is run: `params` are the engine's own."""

    name: Name
    engine: str
    model: ModelSource
    inputs: Mapping[str, InputSpec] = Field(default_factory=dict)
    mode: Literal["fixed"] | None = None
    """Of a language model: what a request is. The three keys become parameters, so a suite may sweep them."""
    prompt_tokens: Tokens | None = None
    generate_tokens: Tokens | None = None
    about: str = ""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        for key in _REQUEST:
            if getattr(self, key) is not None and key in self.params:
                raise ValueError(f"'{key}' stands here and in 'params': say it once")
        return self

    def asked(self) -> dict[str, Any]:
        """What a request is, by dotted key: `params.mode`, `params.prompt_tokens`, `params.generate_tokens`."""
        return {f"params.{key}": value for key in _REQUEST if (value := getattr(self, key)) is not None}


def load_workload(name_or_path: str, beside: Path) -> tuple[Workload, Path]:
    """The workload of a name, looked for in `beside` and then among the shipped ones, or of a path; and its file."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = find(name_or_path, "workload", list(dict.fromkeys([beside, shipped("workloads")])))
    elif not path.is_absolute():
        path = beside / path
    return read_model(path, "workload", Workload), path


def model_path(workload: Workload, file: Path) -> Path | None:
    """The model's own file, a relative path being beside the workload's file; None for a model that is made.

    It may be missing. Raises UsageError for a path that cannot be one.
    """
    source = workload.model.path
    if source is None:
        return None
    try:
        path = file.parent / Path(source).expanduser()
        path.stat()
    except FileNotFoundError:
        pass  # the caller knows better what to do about it
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no such person's home
        raise UsageError(f"{file}: key 'model.path' cannot be used: {error}") from None
    return path
