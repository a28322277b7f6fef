"""A folder of tables and pictures: each file replaced whole, and pages of an earlier time removed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.places import write_whole

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_PAGE = re.compile(r"([a-z]+)(-[0-9]+)?\.(png|pdf)")


def refuse_a_runs_own(folder: Path) -> None:
    """Raises UsageError where the folder is a run's, or lies in one: what a run left is never changed."""
    whole = folder.resolve()
    for path in (whole, whole.parent):
        if (path / "run.json").exists():
            raise UsageError(f"{path} is a run's own folder, which nothing may change: name another one with --out")


def fill(
    folder: Path,
    files: Mapping[str, bytes],
    what: str = "report",
    pictures: Collection[str] = ("latency", "roofline", "trace"),
) -> tuple[Path, ...]:
    """Writes the files in order; a reader sees each old or new, never half. Raises UsageError when it cannot.

    Of each of the `pictures` the pages that an earlier `what` had, and this one lacks, are removed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(folder / name, data)
        for path in folder.iterdir():
            page = _PAGE.fullmatch(path.name)
            if page and page[1] in pictures and path.name not in files:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"the {what} cannot be written to {folder}: {error.strerror}; name another folder with --out"
        ) from None
    return tuple(folder / name for name in files)
