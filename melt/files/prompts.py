"""`kind: prompts`: a set of conversations by name, in the words that a person says; the answers are the model's."""

from __future__ import annotations

import hashlib
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import yaml
from pydantic import Field, model_validator

from melt.errors import UsageError, nearest
from melt.files.reader import check_model, find, mapping_in, read_text, shorten
from melt.files.settings import Name
from melt.places import shipped, write_whole
from melt.records import SCHEMA, Strict

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_BYTES = 1 << 20
MOST_PROMPTS, MOST_TURNS = 10_000, 1_000
Words = Annotated[str, Field(min_length=1, max_length=1 << 20)]
"""Any text that YAML can hold, control characters too: it goes to the model unchanged. A file is at most 1 MiB."""


class Conversation(Strict):
    """What a person says, turn by turn; a single question is a conversation of one turn."""

    name: Name
    system: Words | None = None
    """What the model is told before the first turn, where its chat template has a place for it."""
    turns: Annotated[tuple[Words, ...], Field(min_length=1, max_length=MOST_TURNS)]


class PromptSet(Strict):
    """Conversations by name, in the order of the file."""

    name: Name
    about: str = ""
    source: str = ""
    """Where the words are from."""
    prompts: Annotated[tuple[Conversation, ...], Field(min_length=1, max_length=MOST_PROMPTS)]

    @model_validator(mode="after")
    def _names_are_names(self) -> Self:
        seen: set[str] = set()
        for prompt in self.prompts:
            if prompt.name in seen:
                raise ValueError(f"prompt '{prompt.name}' stands twice: give one of them another name")
            seen.add(prompt.name)
        return self


def load_prompts(reference: str, beside: Path) -> tuple[tuple[Conversation, ...], str]:
    """The conversations that a reference means, and the SHA-256 of the file that they stand in.

    `SET` and `SET/NAME` are looked for in `prompts/` of the folder `beside`, then among the shipped ones; `FILE.yaml`
    and `FILE.yaml#NAME` are a file, a relative one being below `beside`. Raises UsageError with the nearest name.
    """
    path, name = _place(reference, beside)
    found, digest = read_prompts(path)
    if name is None:
        return found.prompts, digest
    chosen = tuple(prompt for prompt in found.prompts if prompt.name == name)
    if not chosen:
        near = nearest(shorten(name), (prompt.name for prompt in found.prompts))
        raise UsageError(f"{path} has no prompt '{shorten(name)}': {near}")
    return chosen, digest


def read_prompts(path: Path) -> tuple[PromptSet, str]:
    """The set in a file, and the SHA-256 of what was read. Raises UsageError."""
    text = read_text(path)
    return check_model(mapping_in(text, path, "prompts"), path, "prompts", PromptSet), hashlib.sha256(
        text.encode()
    ).hexdigest()


def write_prompts(found: PromptSet, path: Path) -> str:
    """Writes a set so that reading it gives the same one; the file's SHA-256. Raises UsageError."""
    data = {"schema": SCHEMA, "kind": "prompts", **found.model_dump(mode="json", exclude_none=True)}
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110).encode()
    if len(text) > _MOST_BYTES:
        raise UsageError(f"{path} would be larger than 1 MiB, which no set of prompts is: choose fewer conversations")
    try:
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}: name another file") from None
    return hashlib.sha256(text).hexdigest()


class _Dumper(yaml.SafeDumper):
    """YAML that this project's own reader takes for the same words."""


_IN_QUOTES = re.compile(r"\A[-+.0-9]|[\x00-\x09\x0b-\x1f\x7f-\xa0\u2028\u2029\ufeff]")
"""What PyYAML alone would write so that it is read as something else: numbers of YAML 1.2, rare ends of lines."""


def _scalar(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if _IN_QUOTES.search(text) else None)


_Dumper.add_representer(str, _scalar)


@dataclass(frozen=True)
class Lengths:
    """How long prompts are, in whatever they were counted."""

    mean: float
    median: float
    max: int


def lengths(counts: Sequence[int]) -> Lengths:
    """Of at least one prompt."""
    return Lengths(statistics.fmean(counts), statistics.median(counts), max(counts))


def words(text: str) -> int:
    """What stands between white space, as the study counts."""
    return len(text.split())


def prompt_folders(beside: Path) -> list[Path]:
    """Where sets are looked for by name, the first one first."""
    return list(dict.fromkeys([beside / "prompts", shipped("workloads") / "prompts"]))


def _place(reference: str, beside: Path) -> tuple[Path, str | None]:
    """The file that a reference means, and the name of the one prompt in it, if it says one."""
    as_file = re.fullmatch(r"(.+\.ya?ml)(?:#([^#]*))?", reference, re.DOTALL)
    if as_file is None:
        name, slash, one = reference.partition("/")
        return find(name, "prompt set", prompt_folders(beside)), one if slash else None
    try:
        return beside / Path(as_file[1]).expanduser(), as_file[2]
    except RuntimeError as error:  # there is no such person's home
        raise UsageError(f"prompts '{shorten(reference)}': {error}") from None
