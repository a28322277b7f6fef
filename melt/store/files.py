"""Files of a results folder: written whole or not at all, and read with a reason where they cannot be."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from melt.errors import UsageError
from melt.places import write_whole
from melt.records import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TEMPORARY = ".part-"
"""How the name of a run's folder begins while it is being filled."""


def write_text(path: Path, text: str) -> None:
    """Writes a small file, whole or not at all, and makes sure of its name as well."""
    write_whole(path, text.encode())
    sync(path.parent)


def digest_of(texts: Mapping[str, str]) -> str:
    """The SHA-256 of some named texts, the same whatever their order."""
    return hashlib.sha256(json.dumps(dict(sorted(texts.items()))).encode()).hexdigest()


@contextlib.contextmanager
def kept_in(folder: Path) -> Iterator[None]:
    """Around what writes results: an error of this computer's file system is one that a person can mend."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"results folder {folder} cannot be written: {error.strerror}: mend that and call again"
        ) from None


def is_partial(folder: Path) -> bool:
    return folder.name.startswith(TEMPORARY)


def json_of(path: Path) -> Any:
    data = json.loads(path.read_bytes())
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is not int or schema < 1:
        raise ValueError(f"it has no 'schema', a whole number, now {SCHEMA}")
    if schema > SCHEMA:
        raise ValueError(f"schema {schema} is newer than this melt, which reads up to {SCHEMA}")
    return data


def first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        return f"key '{'.'.join(map(str, problem['loc']))}': {problem['msg']}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def digest(path: Path) -> str:
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
