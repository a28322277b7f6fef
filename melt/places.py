"""Where things are on this computer, and how a file comes to be there: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(__file__).parent


def cache_dir() -> Path:
    """melt's folder for what can be made again: native programs, made models, this computer's own work folder.

    A relative XDG_CACHE_HOME is ignored, as its specification says. Raises UsageError when there is no home either.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path.home() / ".cache") / "melt"
    except RuntimeError:
        raise UsageError("this user has no home folder: set XDG_CACHE_HOME to a folder that may be written") from None


def cache_folder(name: str) -> Path:
    """A folder of the cache, made if need be. Raises UsageError when it cannot be."""
    folder = cache_dir() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cache folder {folder} cannot be made: {error.strerror}: set XDG_CACHE_HOME to one that may be written"
        ) from None
    return folder


def shipped(folder: str) -> Path:
    """The shipped `workloads` or `device_profiles`: in the installed wheel, or beside the package in a checkout."""
    installed = _PACKAGE / "shipped" / folder
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def package_dir() -> Path:
    """The folder of the package itself."""
    return _PACKAGE


def ondevice_sources() -> Path:
    """The folder with the sources of what runs on a device."""
    return _PACKAGE / "ondevice"


@contextlib.contextmanager
def appearing(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """A temporary name beside `path` to fill: synced and renamed to `path` at the end, removed after an error.

    Whoever reads `path` meanwhile, or after a crash, sees the old file or the new one; where it is not `synced`, that
    holds as long as this computer goes on. Raises OSError.
    """
    temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        if synced:
            descriptor = os.open(temporary, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Makes `data` the content of the file at `path`, as `appearing` does. Raises OSError."""
    with appearing(path) as temporary:
        temporary.write_bytes(data)
