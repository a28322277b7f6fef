"""The report's folder: each file replaced whole, and pictures of an earlier report that this one lacks removed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.places import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PICTURE = re.compile(r"(latency|roofline|trace)(-[0-9]+)?\.(png|pdf)")


def refuse_a_runs_own(folder: Path) -> None:
    """Raises UsageError where the folder is a run's, or lies in one: what a run left is never changed."""
    whole = folder.resolve()
    for path in (whole, whole.parent):
        if (path / "run.json").exists():
            raise UsageError(f"{path} is a run's own folder, which nothing may change: name another one with --out")


def fill(folder: Path, files: Mapping[str, bytes]) -> tuple[Path, ...]:
    """Writes the files in order; a reader sees each old or new, never half. Raises UsageError when it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_whole(folder / name, data)
        for path in folder.iterdir():
            if _PICTURE.fullmatch(path.name) and path.name not in files:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"the report cannot be written to {folder}: {error.strerror}; name another folder") from None
    return tuple(folder / name for name in files)
