"""Where things are on this computer: the cache, and the files that melt ships."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent


def cache_dir() -> Path:
    """melt's folder for what can be made again: native programs, made models, this computer's own work folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "melt"


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
