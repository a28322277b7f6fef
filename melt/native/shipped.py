"""The programs that a wheel of melt carries, so that whoever installs it needs no compiler; and how they get there.

They are data, chosen by the device's processor. One is used only while the sources beside it are those it was made
from: whoever changes a source gets what they wrote, from a compiler.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.native.compilers import OLDEST_GLIBC
from melt.places import cache_folder, shipped, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FOLDER = "native"
_MANIFEST = "manifest.json"
_SYMBOL_VERSION = re.compile(rb"\0GLIBC_2\.([0-9]{1,3})")


@dataclass(frozen=True)
class Made:
    """A program as it was made: its name, the machine or level it is for, and the hash of what it was made from."""

    name: str
    target: str
    made_from: str
    path: Path


def digest(words: Iterable[str | bytes]) -> str:
    """One hash of many texts, in their order."""
    total = hashlib.sha256()
    for word in words:
        data = word.encode() if isinstance(word, str) else word
        total.update(b"%d\0" % len(data) + data)
    return total.hexdigest()


def shipped_program(name: str, target: str, made_from: str) -> Path | None:
    """The program of this name for a machine or level that came with melt, if it was made from these very sources."""
    folder = shipped(FOLDER)
    try:
        rows = json.loads((folder / _MANIFEST).read_bytes())["programs"]
        for row in rows:
            if (row["name"], row["target"], row["made_from"]) == (name, target, made_from):
                path = folder / target / name
                return path if path.stat().st_size == row["bytes"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a checkout has none
    return None


def pack(programs: Iterable[Made]) -> dict[Path, str]:
    """What goes into a wheel: each program with its path below the package's folder, and the manifest that tells of it.

    Raises UsageError for one that would not run on the oldest system that melt knows.
    """
    programs = tuple(programs)
    oldest = int(OLDEST_GLIBC.partition(".")[2])
    rows = []
    for made in programs:
        needs = newest_glibc(made.path)
        if needs is not None and needs > oldest:
            raise UsageError(
                f"{made.name} for {made.target} needs glibc 2.{needs}, and a wheel's must do with {OLDEST_GLIBC}: "
                "pip install 'melt[zig]'"
            )
        row = {key: value for key, value in asdict(made).items() if key != "path"}
        data = made.path.read_bytes()
        rows.append({**row, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    text = json.dumps({"schema": 1, "programs": rows}, indent=1).encode() + b"\n"
    folder = cache_folder("native") / digest([text])[:32]
    folder.mkdir(exist_ok=True)
    write_whole(folder / _MANIFEST, text)
    where = {made.path: f"shipped/{FOLDER}/{made.target}/{made.name}" for made in programs}
    return {**where, folder / _MANIFEST: f"shipped/{FOLDER}/{_MANIFEST}"}


def newest_glibc(program: Path) -> int | None:
    """The newest glibc 2.N that a dynamic program names; None for a static one, which names none."""
    found = [int(number) for number in _SYMBOL_VERSION.findall(program.read_bytes())]
    return max(found, default=None)
