"""The file index.parquet: read without a lock, written by one at a time, and never half there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from melt.history.table import COLUMNS, INDEX, INDEX_SCHEMA
from melt.places import appearing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LOCK = ".index.lock"
WAIT_S = 60.0
"""How long a writer waits for another."""
_LARGEST_ROWS = 100_000_000
_POLL_S = 0.02
_DICTIONARY_BYTES = 256 << 20
"""A column of words keeps its dictionary up to here: without one, each row would hold its fingerprint in full."""

Damage = tuple[str, str]
"""The name of a file in a run's folder that is not applied, and why."""


@dataclass(frozen=True)
class Kept:
    """What an index holds: `damaged` by the folder of the run, whose rows are there all the same."""

    table: pa.Table
    damaged: Mapping[str, tuple[Damage, ...]] = field(default_factory=dict)


def load(suite: Path) -> Kept | str | None:
    """The index of a suite's folder; why it cannot be used; None where there is none."""
    path = suite / INDEX
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return f"{path} is no file"
        with path.open("rb") as opened, pq.ParquetFile(opened) as file:
            metadata = file.schema_arrow.metadata or {}
            schema = metadata.get(b"melt.schema", b"").decode("ascii", "replace")
            if schema != str(INDEX_SCHEMA) or not file.schema_arrow.equals(COLUMNS):
                return f"{path} is of another shape (schema '{schema[:12]}', here {INDEX_SCHEMA})"
            if file.metadata.num_rows > _LARGEST_ROWS:
                return f"{path} claims {file.metadata.num_rows} rows"
            table = file.read()
            table.validate(full=True)
            return Kept(table.replace_schema_metadata(None), _damaged(metadata))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError, pa.ArrowException) as error:
        return f"{path} cannot be read ({(str(error).splitlines() or [type(error).__name__])[0][:200]})"


def _damaged(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[Damage, ...]]:
    told = json.loads(metadata.get(b"melt.damaged", b"{}"))
    return {str(folder): tuple((str(name), str(why)) for name, why in found) for folder, found in told.items()}


def save(suite: Path, kept: Kept) -> None:
    """Puts the index into the suite's folder, whole or not at all. Raises OSError."""
    metadata = {"melt.schema": str(INDEX_SCHEMA), "melt.damaged": json.dumps(kept.damaged)}
    with appearing(suite / INDEX) as temporary:
        pq.write_table(
            kept.table.replace_schema_metadata(metadata),
            temporary,
            compression="zstd",
            dictionary_pagesize_limit=_DICTIONARY_BYTES,
        )


@contextlib.contextmanager
def alone(suite: Path) -> Iterator[str | None]:
    """Holds the suite's index for a writer; why that cannot be, where it cannot. Readers need not hold it.

    The lock ends with whoever holds it, and what a writer that was killed left half written is removed.
    """
    with contextlib.ExitStack() as held:
        try:
            descriptor = _opened(suite / LOCK)
            held.callback(os.close, descriptor)
            late = not _locked(descriptor)
        except OSError as error:
            yield f"{suite} cannot be written ({error.strerror})"
            return
        if late:
            yield f"another melt has been writing it for {WAIT_S:g} s"
            return
        for left in suite.glob(f".{INDEX}.*.part"):
            left.unlink(missing_ok=True)
        yield None


def _opened(lock: Path) -> int:
    """The lock's file, made if need be; of another user's, which may not be written, its reading end locks as well."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(lock, flags | os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError as denied:
        try:
            return os.open(lock, flags | os.O_RDONLY)
        except OSError:
            raise denied from None


def _locked(descriptor: int) -> bool:
    """Whether the lock was to be had in time."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_S)
        else:
            return True
