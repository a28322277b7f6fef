"""What a recording leaves: `meter.json`, and the samples in `meter.parquet`, written as they come.

While it goes on the samples are in a file that can be read however it ends, for a recording outlives whoever makes it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from melt.errors import ParseError, UsageError
from melt.meters.base import Block
from melt.meters.clock import RoundTrip
from melt.places import appearing, write_whole
from melt.records import SCHEMA, Boundary, Response, Strict
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from melt.analysis.events import Float64s, Int64s

JSON, PARQUET, STREAM = "meter.json", "meter.parquet", "meter.stream"
_COLUMNS = pa.schema(
    [
        ("index", pa.int64()),
        ("power_w", pa.float64()),
        ("current_a", pa.float64()),
        ("voltage_v", pa.float64()),
        ("own_s", pa.float64()),
        ("host_ns", pa.int64()),
    ]
)
_NEEDED = ("index", "power_w", "host_ns")
_OPTIONAL = ("current_a", "voltage_v", "own_s")
_ROWS = 1 << 16
_HELD_S, _HELD_ROWS = 0.5, 4096
"""How long, and how many at most, samples wait to be written together."""


class MeterFile(Strict):
    """`meter.json`: what was recorded by what, and all that maps it onto the device's clock."""

    schema_: int = Field(SCHEMA, alias="schema")
    name: str
    type: str
    serial: str | None
    boundary: Boundary
    about: Mapping[str, str]
    rate_hz: float = Field(gt=0, allow_inf_nan=False)
    """What the meter gave in a second."""
    kept_hz: float = Field(gt=0, allow_inf_nan=False)
    """How many means of that are in the file."""
    clock: str
    latency_s: float
    response: Response
    host_boot_id: str
    """Which start of this computer its moments belong to."""
    before: tuple[RoundTrip, ...]
    after: tuple[RoundTrip, ...] = ()
    pulses: tuple[tuple[int, int], ...] = ()
    lost: int | None = None
    """Samples that the meter took and that never arrived; null where nobody lived to count them."""
    ended: str | None = None
    """Why it ended before it was to; null when it did not."""


class Writer:
    """Appends blocks to a recording; all but the last half second is in the file, whatever becomes of this process."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / STREAM).open("wb", buffering=0)
        self._stream = pa.ipc.new_stream(self._file, _COLUMNS)
        self._waiting: list[Block] = []
        self._rows = 0
        self._due = Deadline.after(0)  # the first is written at once

    def write(self, block: Block) -> None:
        """Takes a block; many small ones are written as one."""
        self._waiting.append(block)
        self._rows += len(block)
        if self._rows >= _HELD_ROWS or not self._due.left_s:
            self.flush()

    def flush(self) -> None:
        """Writes what waits."""
        waiting, self._waiting, self._rows = self._waiting, [], 0
        self._due = Deadline.after(_HELD_S)
        if not waiting:
            return
        columns = {
            "index": [block.index for block in waiting],
            "power_w": [block.power_w for block in waiting],
            **{key: [_or_nothing(getattr(block, key), block) for block in waiting] for key in _OPTIONAL},
            "host_ns": [np.full(len(block), block.host_ns, dtype=np.int64) for block in waiting],
        }
        arrays = [pa.array(np.concatenate(columns[name]), from_pandas=True) for name in _COLUMNS.names]
        self._stream.write_batch(pa.record_batch(arrays, schema=_COLUMNS))

    def close(self) -> None:
        with contextlib.suppress(OSError, pa.ArrowException):
            self.flush()
            self._stream.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Around what writes a recording. Raises UsageError for what a person can mend, such as a full disk."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}: mend that and call again") from None


def settle(folder: Path) -> None:
    """Makes meter.parquet of what was written, however it ended; done once, or again. Raises UsageError."""
    source = folder / STREAM
    if not source.exists():
        return
    with (
        writing(folder),
        appearing(folder / PARQUET) as temporary,
        pq.ParquetWriter(temporary, _COLUMNS, compression="zstd") as out,
    ):
        for table in _gathered(_batches(source)):
            out.write_table(table)
    source.unlink()


def save(folder: Path, told: MeterFile) -> None:
    """Writes meter.json, whole or not at all. Raises UsageError."""
    with writing(folder):
        write_whole(folder / JSON, told.model_dump_json(indent=1, by_alias=True).encode() + b"\n")


def load(folder: Path) -> MeterFile | None:
    """What meter.json says; None where there is none. Raises ParseError for one that cannot be read."""
    path = folder / JSON
    if not path.exists():
        return None
    try:
        return MeterFile.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise ParseError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def keep(folder: Path, target: Path) -> None:
    """Copies what was recorded to a run's folder; nothing where there is no recording. Raises UsageError."""
    with writing(target):
        for name in (JSON, PARQUET):
            if (folder / name).exists():
                shutil.copyfile(folder / name, target / name)


def forget(folder: Path) -> None:
    """Removes a recording."""
    shutil.rmtree(folder, ignore_errors=True)


def rows_in(folder: Path) -> int:
    """How many samples meter.parquet holds; none where there is no such file."""
    path = folder / PARQUET
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def blocks_in(folder: Path, rate_hz: float) -> Iterator[tuple[Block, Int64s]]:
    """The samples of meter.parquet as unbroken stretches, with the moment at which each arrived; bounded memory.

    Raises ValueError for columns that no recording has.
    """
    path = folder / PARQUET
    if not path.exists():
        return
    with pq.ParquetFile(path) as file:
        if not file.schema_arrow.equals(_COLUMNS):
            raise ValueError("its columns are not those of a recording")
        for batch in file.iter_batches(_ROWS):
            columns: dict[str, Any] = {
                name: batch.column(name).to_numpy(zero_copy_only=False) for name in _COLUMNS.names
            }
            if any(batch.column(name).null_count for name in _NEEDED):
                raise ValueError(f"one of {', '.join(_NEEDED)} is missing in a row")
            index, host_ns = columns["index"], columns["host_ns"]
            edges = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), index.size]
            optional = {key: columns[key] for key in _OPTIONAL}
            known = {key: values if not np.isnan(values).all() else None for key, values in optional.items()}
            for a, b in pairwise(edges):
                if a < b:
                    block = Block(
                        first_index=int(index[a]),
                        rate_hz=rate_hz,
                        power_w=columns["power_w"][a:b],
                        host_ns=int(host_ns[b - 1]),
                        **{key: None if values is None else values[a:b] for key, values in known.items()},
                    )
                    yield block, host_ns[a:b]


def _or_nothing(values: Float64s | None, block: Block) -> Float64s:
    return np.full(len(block), np.nan) if values is None else values


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Every whole batch of a stream that may have been cut anywhere."""
    with path.open("rb") as file, contextlib.suppress(pa.ArrowException, EOFError, OSError):
        yield from pa.ipc.open_stream(file)


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Many small batches as few large ones."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS:
            yield pa.Table.from_batches(waiting).combine_chunks()
            waiting, rows = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting).combine_chunks()
