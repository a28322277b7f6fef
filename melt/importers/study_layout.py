"""How a result folder of the 2024 study is laid out: which files belong to an iteration, and what the path tells."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melt.importers.reading import shorten_to
from melt.importers.study_files import read_small

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INSIDE = "melt_measurements"
_FILE = re.compile(
    r"(?P<kind>measurements|llm_output|energy)_iter(?P<iter>\d{1,6})"
    r"(?P<timing>_timing)?(?:_conv(?P<conv>\d{1,6}))?\.(?P<ext>json|csv|tsv|txt|log)"
)
APPS: Mapping[str, str] = {
    "LlamaCpp": "llama.cpp",
    "LLMFarmEval": "llama.cpp",
    "MLCChat": "mlc-llm",
    "MLCChat++": "mlc-llm",
}
"""The study's apps, and the engine in each."""
_QUANT = re.compile(r"(?:^|[-._])((?:i?q\d[a-z0-9]*(?:_[a-z0-9]+)*)|f16|f32|fp16)(?=$|[-.])", re.IGNORECASE)
_RUN_FOLDER = re.compile(r"(?:run\w*|\d{8}_\d{6}|\d+w)", re.IGNORECASE)
_WATTS = re.compile(r"\d+w", re.IGNORECASE)
LENGTH_MEANS: Mapping[str, str] = {
    "LLMFarmEval": "characters of an answer",
    "LlamaCpp": "tokens of all turns of a conversation together",
    "MLCChat": "tokens of a turn",
    "MLCChat++": "tokens of a turn",
}
"""What the largest length of an answer means in each app: three different things under one name."""


@dataclass(frozen=True)
class Iteration:
    """The files of one iteration: its JSON, its power log, and by conversation and ending the others."""

    number: int
    summary: Path | None
    log: Path | None
    conversations: Mapping[int, Mapping[str, Path]]
    """`csv`, `tsv`, `txt` and `timing`, by the conversation's number."""

    @property
    def files(self) -> list[Path]:
        alone = [one for one in (self.summary, self.log) if one is not None]
        return alone + [file for files in self.conversations.values() for file in files.values()]


@dataclass(frozen=True)
class About:
    """What the folder tells of its runs; None for what it does not."""

    device: str | None
    app: str | None
    model: str | None
    quant: str | None
    power_mode: str | None
    settings: Mapping[str, Any]

    @property
    def engine(self) -> str | None:
        return APPS.get(self.app or "")


def is_set(folder: Path) -> bool:
    """Whether a folder is one set of the study's results; never raises."""
    try:
        if not folder.is_dir():
            return False
        return any(_FILE.fullmatch(file.name) and not file.name.endswith(".txt") for file in _files(folder))
    except OSError:
        return False


def iterations(folder: Path) -> list[Iteration]:
    """The iterations of a set in their order."""
    found: dict[int, dict[str, Any]] = {}
    for file in sorted(_files(folder)):
        match = _FILE.fullmatch(file.name)
        if match is None:
            continue
        here = found.setdefault(int(match["iter"]), {"conversations": {}})
        if match["conv"] is not None:
            kind = "timing" if match["timing"] else match["ext"]
            here["conversations"].setdefault(int(match["conv"]), {})[kind] = file
        elif match["kind"] == "energy":
            here["log"] = file
        elif match["ext"] == "json":
            here["summary"] = file
    return [
        Iteration(n, here.get("summary"), here.get("log"), dict(sorted(here["conversations"].items())))
        for n, here in sorted(found.items())
    ]


def about(folder: Path) -> About:
    """What `configuration.json` and the path tell: `…/<device>/<app>/<model>/<run>`."""
    settings = _settings(folder / "configuration.json")
    parts = folder.resolve().parts
    at = next((i for i in reversed(range(len(parts))) if parts[i] in APPS), None)
    below = [part for part in parts[at + 1 :] if part not in APPS] if at is not None else []
    watts = next((part.lower() for part in below if _WATTS.fullmatch(part)), None)
    named = [part for part in below if not _RUN_FOLDER.fullmatch(part)]
    app = _word(settings.get("app")) or (parts[at] if at is not None else None)
    device = _word(settings.get("device")) or (parts[at - 1] if at else None)
    model = _word(settings.get("model")) or ("/".join(named) or None)
    short = None if model is None else model.rstrip("/").rpartition("/")[2].removesuffix(".gguf")
    quant = _QUANT.search(short) if short else None
    return About(device, app, short, quant[1].lower() if quant else None, watts, settings)


def _files(folder: Path) -> Iterator[Path]:
    """The regular files of a set; links are not followed."""
    for place in (folder, folder / INSIDE):
        if place.is_dir() and not place.is_symlink():
            yield from (file for file in place.iterdir() if file.is_file() and not file.is_symlink())


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_small(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _word(value: object) -> str | None:
    return shorten_to(value.strip(), 200) or None if isinstance(value, str) else None
