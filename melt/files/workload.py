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
Tokens = Annotated[Whole, Field(ge=0, le=1 << 20)]
_REQUEST = ("mode", "prompt_tokens", "generate_tokens", "prompt")
Mode = Literal["fixed", "prompt", "conversation", "bench", "score"]


class ModelSource(Strict):
    """Where the model comes from: made here, a file, or a hub."""

    make: str | None = None
    quant: str | None = None
    """Of a language model that melt makes: f16, q8_0, q4_0 …"""
    seed: Seed = 1
    path: str | None = None
    hub: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+/[^\s@]+(@[^\s@]+)?$", max_length=512)] | None = None
    """ORG/REPO/FILE@REVISION: as `melt model get` takes it, without the `hf:`."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(source is not None for source in (self.make, self.path, self.hub)) != 1:
            raise ValueError("say one of 'make' (a model that melt builds), 'path' (a file) or 'hub' (fetched once)")
        if self.make is None and self.quant is not None:
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
    model: ModelSource | None = None
    """Not every engine runs a model: a roofline is the device's own."""
    inputs: Mapping[str, InputSpec] = Field(default_factory=dict)
    mode: Mode | None = None
    """Of a language model: what a request is. The four keys become parameters, so a suite may sweep them."""
    prompt_tokens: Tokens | None = None
    generate_tokens: Tokens | None = None
    prompt: Annotated[str, Field(max_length=256)] | None = None
    """SET/NAME of a prompt, or SET for all of a set."""
    about: str = ""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        for key in _REQUEST:
            if getattr(self, key) is not None and key in self.params:
                raise ValueError(f"'{key}' stands here and in 'params': say it once")
        return self

    def asked(self) -> dict[str, Any]:
        """What a request is, by dotted key: `params.mode`, `params.prompt_tokens` and so on."""
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
    """The model's own file, a relative path being beside the workload's file; None where no path is said.

    It may be missing. Raises UsageError for a path that cannot be one.
    """
    source = workload.model.path if workload.model else None
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
