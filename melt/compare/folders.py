"""The sides of a comparison as folders of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.compare.comparing import compared
from melt.errors import UsageError
from melt.history.index import read, suites
from melt.store import StoredRun, read_run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from melt.compare.comparing import Asked
    from melt.compare.result import Comparison
    from melt.history.index import Index


def compare_folders(a: Path, b: Path | None, asked: Asked) -> Comparison:
    """Compare two folders of results (a suite's, a session's, a run's, or all), or one along an axis inside it.

    Raises NotComparable, and UsageError for a folder without results and for one that is both sides.
    """
    if b is not None and a.resolve() == b.resolve():
        raise UsageError(f"{b} is both sides: name another folder, or leave it out and name what varies with --axis")
    folders = [a] if b is None else [a, b]
    indexes = {name: read(folder) for name, folder in zip(_names(folders), folders, strict=True)}
    histories = _histories(folders, indexes) if asked.delta is None else []
    labels = _unverified(zip(folders, indexes.values(), strict=True))
    return compared(indexes, [index.frame for index in histories], asked, labels)


def _unverified(indexes: Iterable[tuple[Path, Index]]) -> tuple[str, ...]:
    """The profiles that nobody has tried on the hardware, as the first and the last run of each device tell."""
    found = set()
    for folder, index in indexes:
        below = suites(folder)
        frame = index.frame[index.frame["counts"].to_numpy(dtype=bool)]
        ends = [frame.drop_duplicates(["suite", "device", "profile"], keep=keep) for keep in ("first", "last")]
        for at in dict.fromkeys(str(one) for end in ends for one in end["folder"]):
            # a suite's folder may have been given another name since
            for run in (read_run(suite / at) for suite in below if (suite / at).is_dir()):
                if isinstance(run, StoredRun) and not (run.record.profile_verified or run.record.imported):
                    found.add(run.record.profile)
    return tuple(f"profile {profile} is not verified on the hardware" for profile in sorted(found))


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the folders' paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _histories(folders: list[Path], indexes: dict[str, Index]) -> list[Index]:
    """The whole index of each suite that a folder is, holds, or lies in."""
    found: dict[Path, Index] = {}
    for folder, index in zip(folders, indexes.values(), strict=True):
        here, suite = folder.resolve(), suites(folder)[0].resolve()
        if suite not in here.parents:
            found[here] = index
        elif suite not in found:
            found[suite] = read(suite)
    return list(found.values())
