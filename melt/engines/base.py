"""The engine seam: five verbs. An engine never sees a device; it gets and gives plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from melt.files import Conversation
    from melt.records import Metric


@dataclass(frozen=True)
class StopRules:
    """Warm up until both of the first two hold, then measure until both of the last two hold."""

    warmup_s: float
    warmup_n: int
    min_s: float
    min_n: int


@dataclass(frozen=True)
class InputShape:
    """What a person says of one input: its shape where the model leaves it open, and the seed of its values."""

    shape: tuple[int, ...] | None = None
    seed: int = 1


@dataclass(frozen=True)
class Request:
    """What is to be run. `library` is a path on the device in place of the library, or program, melt brings."""

    name: str
    """The workload's name, for messages."""
    model: Path | None
    machine: str
    params: Mapping[str, Any]
    inputs: Mapping[str, InputShape]
    stop: StopRules
    library: str | None = None
    here: bool = False
    """Whether this computer is the device."""
    cpus: int | None = None
    """How many processors the run may use, where that is known."""
    conversations: tuple[Conversation, ...] = ()
    """What a language model is asked, of the workload's `prompt`."""
    cpu_features: frozenset[str] = frozenset()
    """What the device's processor can do, in the kernel's words."""
    say: Callable[[str], None] = lambda _: None
    """Told what a person should know while they wait."""

    @property
    def model_file(self) -> Path:
        """The model. Raises UsageError where the workload names none."""
        if self.model is None:
            raise UsageError(f"workload '{self.name}': its engine runs a model: say which with 'model'")
        return self.model


@dataclass(frozen=True)
class Prepared:
    """What goes to the device, and what is known of it here.

    `files` maps a role to a file of this computer; `program` is the one that runs it. `params` are all the
    parameters as they will be used; `identity` is what two comparable runs share.
    """

    request: Request
    files: Mapping[str, Path]
    params: Mapping[str, Any]
    synthetic: bool
    identity: Mapping[str, Any]
    known: Mapping[str, Metric] = field(default_factory=dict)
    """Figures that are the model's own, whatever a run of it does."""
    caveats: tuple[str, ...] = ()
    """What a reader must know of runs that are valid all the same."""
    detail: Any = None
    """The engine's own; nobody else reads it."""


@dataclass(frozen=True)
class Command:
    """The engine's command line on the device."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class OutputCheck:
    """The outputs of one run beside those of the same model and input on this computer."""

    sha256: str | None
    max_abs_diff: float | None
    agrees: bool | None
    detail: str
    """What was compared and how closely, or why it was not."""


def decimal(value: float) -> str:
    """A number as the runners read it: never with an exponent."""
    return str(np.format_float_positional(value, trim="0"))


class Engine(Protocol):
    """An inference runtime."""

    name: str

    def prepare(self, request: Request) -> Prepared:
        """Checks model, inputs and parameters, and gathers the files.

        Raises UsageError for what the person can correct, Unsupported for what this machine or engine cannot do.
        """

    def command(self, prepared: Prepared, place: Callable[[str], str], job_dir: str) -> Command:
        """The command line; `place` tells where the file of a role is on the device."""

    def trial(self, prepared: Prepared, place: Callable[[str], str]) -> Command:
        """A command that ends at once, well only where the device has what program and libraries need of it."""

    def adopt(self, prepared: Prepared, folder: Path) -> Mapping[str, Metric]:
        """Takes in what the program told in words of its own, once the job's files lie in `folder` on this computer.

        It may add event lines to `events.jsonl` there, in order of time; what it returns stands in place of what is
        computed from events. Raises nothing, whatever the files hold.
        """

    def check(self, prepared: Prepared, output: Path) -> OutputCheck:
        """Compares what a run wrote with this computer's own result on the same input."""
