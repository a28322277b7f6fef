"""What lies at a path: each file and folder given to the importer that recognises it; what nobody does is told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from melt.importers.base import ImportedRun, Importer

MOST_FILES = 20_000
DEEPEST = 12
_OWN = ("run.json", "session.json")
"""A folder with one of these is a result of melt itself."""


@dataclass(frozen=True)
class Gathered:
    """Everything at a path: the runs, what of it could not be read, and the files that no importer recognised."""

    runs: tuple[ImportedRun, ...]
    problems: tuple[str, ...]
    unknown: tuple[Path, ...]


def gather(path: Path, importers: Sequence[Importer], tool: str | None = None) -> Gathered:
    """Reads what lies at or below a path, by the importer `tool`, or by whichever recognises it.

    Links are not followed out of it. Raises UsageError for a path that is not there, or a tool that nobody knows.
    """
    names = [importer.tool for importer in importers]
    if tool is not None and tool not in names:
        raise UsageError(f"tool '{tool}' is not one that melt imports: {nearest(tool, names)}")
    try:
        there = path.exists()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise UsageError(f"{path} does not exist: name a file or a folder of results")
    asked = [importer for importer in importers if tool in (None, importer.tool)]
    walk = _Walk(path)
    runs: list[ImportedRun] = []
    problems: list[str] = []
    unknown: list[Path] = []
    used: set[str] = set()
    for place in walk:
        if os.path.realpath(place) in used:
            continue  # it lies beside another that it belongs to, and was read with it
        importer = next((one for one in asked if one.recognises(place)), None)
        if importer is None and tool is not None and place == path and place.is_file():
            importer = asked[0]  # a person says whose it is: then its problems are told
        if importer is None:
            if not place.is_dir():
                unknown.append(place)
            continue
        if place.is_dir():
            walk.skip(place)
        found = importer.read(place)
        runs += found.runs
        nothing = (f"{place.name}: it holds no results of {importer.tool}",)
        told = found.problems or (() if found.runs else nothing)
        problems += [f"{_below(path, place)}{sentence}" for sentence in told]
        used |= {os.path.realpath(file) for run in found.runs for file in run.raw.values()}
    left = tuple(file for file in unknown if os.path.realpath(file) not in used)
    return Gathered(tuple(runs), (*problems, *walk.problems), left)


def _below(root: Path, place: Path) -> str:
    """The folder that a file lies in, or that a set of files is, below the path that was named."""
    folder = place if place.is_dir() else place.parent
    return f"{folder.relative_to(root).as_posix()}/" if root in folder.parents else ""


class _Walk:
    """A path, then what is below it, in order of names; a folder that is skipped is not entered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self._skipped: set[Path] = set()

    def skip(self, folder: Path) -> None:
        self._skipped.add(folder)

    def __iter__(self) -> Iterator[Path]:
        yield self.root
        if not self.root.is_dir() or self.root in self._skipped:
            return
        seen = 0
        for at, folders, files in os.walk(self.root, onerror=self._failed):
            here = Path(at)
            if any(name in files for name in _OWN):
                self.problems.append(f"{here.name}: it holds a result of melt itself: 'melt report' reads that")
                folders.clear()
                continue
            folders[:] = sorted(f for f in folders if not f.startswith(".") and not (here / f).is_symlink())
            if len(here.relative_to(self.root).parts) >= DEEPEST and folders:
                self.problems.append(f"{here.name}: folders more than {DEEPEST} deep are not looked into")
                folders.clear()
            for name in list(folders):
                yield here / name
                if here / name in self._skipped:
                    folders.remove(name)
            for name in sorted(name for name in files if not name.startswith(".")):
                if self._leads_out(here / name):
                    self.problems.append(f"{name}: it is a link out of the folder, and is not followed")
                    continue
                seen += 1
                if seen > MOST_FILES:
                    self.problems.append(f"only the first {MOST_FILES} files are looked at: name a smaller folder")
                    return
                yield here / name

    def _failed(self, error: OSError) -> None:
        self.problems.append(f"{os.path.basename(error.filename)}: it cannot be read: {error.strerror}")  # noqa: PTH119 - of a name that may be none

    def _leads_out(self, file: Path) -> bool:
        return file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(self.root))
