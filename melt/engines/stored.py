"""What an engine makes for a device, kept in the cache by content."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.places import cache_dir, write_whole

if TYPE_CHECKING:
    from pathlib import Path


def stored(data: bytes) -> Path:
    """A file that holds `data`. Raises UsageError when the cache cannot be written."""
    path = cache_dir() / "inputs" / hashlib.sha256(data).hexdigest()
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            raise UsageError(
                f"cache folder {path.parent} cannot be written: {error.strerror}: mend that, or name another with "
                "XDG_CACHE_HOME"
            ) from None
    return path
