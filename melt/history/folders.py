"""What lies in a results folder: its suites, and every run's folder with a stamp by which a change of it is seen."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from melt.records import METRIC_VERSION
from melt.store import HALF, Unreadable, half_a_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LARGEST_BYTES = 32 << 20
"""No record of a run is longer: a file that is one is not opened."""

Level = Literal["run", "session", "suite", "results"]
_RECORD = re.compile(r"run\.json|analysis-[1-9][0-9]{0,5}\.json")


@dataclass(frozen=True)
class RunFolder:
    """A folder with a run.json: `name` is SESSION/RUN, and `stamp` is another one when its records are."""

    name: str
    place: str
    stamp: str

    @property
    def path(self) -> Path:
        return Path(self.place)


@dataclass(frozen=True)
class Listing:
    """The run folders of a suite by name, and what looks like one and is none."""

    runs: Mapping[str, RunFolder]
    unreadable: tuple[Unreadable, ...]


def level_of(path: Path) -> Level | None:
    """What a folder is, by what lies how deep below it; None where there is neither a session nor a run."""
    levels: tuple[Level, ...] = ("run", "session", "suite", "results")
    # where a plan lies is asked first: a run that was put in a wrong place must not make another level of the folder
    for file, first in (("session.json", 1), ("run.json", 0)):
        for depth, level in enumerate(levels[first:]):
            found = (one.relative_to(path) for one in path.glob(f"{'*/' * depth}{file}"))
            if any(not one.parts[0].startswith(".") for one in found):
                return level
    return None


def listing(suite: Path, parts: Sequence[str] = ()) -> Listing:
    """Every run folder of the suite's sessions, or of one session or run (`parts` of its path). Raises OSError.

    What is being written and what is hidden is left out, and a link to what is listed anyway. No file is opened: a
    run's stamp is made of the sizes and times of its records.
    """
    runs: dict[str, RunFolder] = {}
    unreadable: list[Unreadable] = []
    for session in parts[:1] or _folders(suite):
        above = suite / session
        if (above / "run.json").exists():
            unreadable.append(Unreadable(above, "it is a run's folder where a session's belongs: move it into one"))
            continue
        try:
            folders = parts[1:] or _folders(above)
        except FileNotFoundError:
            continue  # it was there a moment ago: a session that nothing was begun in
        except OSError as error:
            unreadable.append(Unreadable(above, f"its runs cannot be listed: {error.strerror}"))
            continue
        for folder in folders:
            place = f"{above}/{folder}"
            try:
                stamp = _stamp(place, folder)
            except (OSError, ValueError) as error:
                unreadable.append(Unreadable(Path(place), _why(error)))
                continue
            if stamp is not None:
                name = f"{shown(session)}/{shown(folder)}"
                runs[name] = RunFolder(name, place, stamp)
    return Listing(runs, tuple(unreadable))


def shown(name: str) -> str:
    """The name of a file as text, with escapes for bytes that are no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _folders(above: Path) -> list[str]:
    with os.scandir(above) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
        inside = f"{os.path.realpath(above)}{os.sep}"
        return sorted(e.name for e in found if not (e.is_symlink() and os.path.realpath(e.path).startswith(inside)))


def _stamp(folder: str, name: str) -> str | None:
    """Of a run's folder; None where it is something else. Raises OSError, and ValueError for half a run."""
    found: dict[str, os.stat_result] = {}
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            files.append(entry.name)
            if entry.name.endswith(".json") and _RECORD.fullmatch(entry.name):
                found[entry.name] = entry.stat()
    if "run.json" not in found:
        if half_a_run(name, files):
            raise ValueError(HALF)
        return None
    for file, about in found.items():
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{file} is no file")
        if about.st_size > LARGEST_BYTES:
            raise ValueError(f"{file} is {about.st_size} bytes long, and no record of a run is over {LARGEST_BYTES}")
    texts = [f"{file} {found[file].st_size} {found[file].st_mtime_ns}" for file in sorted(found)]
    # which analysis is applied depends on what this melt can read
    return "; ".join(texts if len(found) == 1 else [f"metrics {METRIC_VERSION}", *texts])


def _why(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
