"""The header of anyone's GGUF file, read with limits: the file is not trusted, and no count in it is believed.

Written here, not taken from the package gguf: its reader maps the file and builds an object for each element of each
array, so that a hostile header takes all memory.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"GGUF"
VERSIONS = (2, 3)
KEYS_MAX = 100_000
TENSORS_MAX = 100_000
NAME_MAX_BYTES = 65_535
LISTED_STRINGS_MAX = 4_000_000
"""More than ten times the merges of the largest vocabularies."""
KEPT_TEXT_BYTES = 65_536
KEPT_NUMBERS = 4096
DIMENSIONS_MAX = 4
ELEMENTS_MAX = 2**62
ALIGNMENT_MAX = 2**20

_NUMBERS: Mapping[int, str] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
"""How `struct` reads each number type of the format."""
_STRING, _ARRAY = 8, 9


class Damaged(Exception):
    """The file is not what it says; the text says where, in half a sentence."""


@dataclass(frozen=True)
class Listing:
    """An array of the header: its numbers when it is short, else only how many elements it has."""

    count: int
    numbers: tuple[float, ...] = ()


Value = str | float | bool | Listing


@dataclass(frozen=True)
class Entry:
    """One tensor as the header lists it; `shape` has the length of a row first, as ggml has it."""

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int

    @property
    def elements(self) -> int:
        """How many numbers the tensor holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What stands before the weights."""

    version: int
    values: Mapping[str, Value]
    entries: tuple[Entry, ...]
    data_start: int
    size_bytes: int


def read_header(file: BinaryIO, size_bytes: int) -> Header:
    """The header of an open GGUF file of `size_bytes`; raises Damaged for anything that does not add up."""
    source = _Source(file, size_bytes)
    if source.take(4, "the magic") != MAGIC:
        raise Damaged("it does not begin with 'GGUF'")
    version = source.number("<I")
    if version not in VERSIONS:
        swapped = int.from_bytes(int(version).to_bytes(4, "little"), "big")
        what = "is big-endian" if swapped in VERSIONS else f"has version {version}, and only 2 and 3 are known"
        raise Damaged(f"it {what}")
    tensor_count = source.count("tensors", TENSORS_MAX, each_bytes=24)
    key_count = source.count("keys", KEYS_MAX, each_bytes=13)
    values: dict[str, Value] = {}
    for _ in range(key_count):
        name = source.name("a key")
        if name in values:
            raise Damaged(f"the key '{name}' is there twice")
        values[name] = _value(source, name)
    entries = tuple(_entry(source) for _ in range(tensor_count))
    if len({entry.name for entry in entries}) != len(entries):
        raise Damaged("two tensors have the same name")
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= ALIGNMENT_MAX or alignment % 8:
        raise Damaged("general.alignment is not a multiple of 8 bytes")
    start = -(-source.position // alignment) * alignment
    if any(entry.offset % alignment for entry in entries):
        raise Damaged(f"a tensor does not begin at a multiple of {alignment} bytes")
    return Header(version, values, entries, start, size_bytes)


class _Source:
    """The file, which is never asked for more bytes than it has left."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self._file = file
        self._size = size_bytes
        self.position = 0

    def take(self, size: int, what: str) -> bytes:
        self._must_have(size, what)
        data = self._file.read(size)
        if len(data) != size:
            raise Damaged(f"it is cut short in {what}")
        self.position += size
        return data

    def skip(self, size: int, what: str) -> None:
        self._must_have(size, what)
        self._file.seek(size, 1)
        self.position += size

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form), "its header"))
        return int(value)

    def count(self, what: str, most: int, *, each_bytes: int) -> int:
        count = self.number("<Q")
        if count > most or count * each_bytes > self._size - self.position:
            raise Damaged(f"it claims {count} {what}, more than it can hold")
        return count

    def name(self, what: str) -> str:
        size = self.number("<Q")
        if not 0 < size <= NAME_MAX_BYTES:
            raise Damaged(f"{what} has a name of {size} bytes")
        return _text(self.take(size, what))

    def _must_have(self, size: int, what: str) -> None:
        if size > self._size - self.position:
            raise Damaged(f"it is cut short in {what}")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Damaged("a text in its header is not UTF-8") from error


def _value(source: _Source, name: str) -> Value:
    kind = source.number("<I")
    if kind == _STRING:
        size = source.number("<Q")
        kept = min(size, KEPT_TEXT_BYTES)
        data = source.take(kept, name)
        source.skip(size - kept, name)
        return _text(data) if kept == size else data.decode(errors="replace")
    if kind == _ARRAY:
        return _listing(source, name)
    return _scalar(source, kind, name)


def _scalar(source: _Source, kind: int, name: str) -> float | bool:
    if kind not in _NUMBERS:
        raise Damaged(f"the key '{name}' has a value of the unknown type {kind}")
    data = source.take(struct.calcsize(_NUMBERS[kind]), name)
    value: float | bool = struct.unpack(_NUMBERS[kind], data)[0]
    return value


def _listing(source: _Source, name: str) -> Listing:
    kind = source.number("<I")
    if kind == _STRING:
        count = source.count(f"texts in {name}", LISTED_STRINGS_MAX, each_bytes=8)
        for _ in range(count):
            source.skip(source.number("<Q"), name)
        return Listing(count)
    if kind not in _NUMBERS:
        raise Damaged(f"the key '{name}' lists values of the unknown type {kind}")
    width = struct.calcsize(_NUMBERS[kind])
    count = source.count(f"numbers in {name}", ELEMENTS_MAX, each_bytes=width)
    if count <= KEPT_NUMBERS:
        return Listing(count, tuple(_scalar(source, kind, name) for _ in range(count)))
    source.skip(count * width, name)
    return Listing(count)


def _entry(source: _Source) -> Entry:
    name = source.name("a tensor")
    dimensions = source.number("<I")
    if not 0 < dimensions <= DIMENSIONS_MAX:
        raise Damaged(f"the tensor '{name}' has {dimensions} dimensions")
    shape = tuple(source.number("<Q") for _ in range(dimensions))
    if not 0 < math.prod(shape) <= ELEMENTS_MAX:
        raise Damaged(f"the tensor '{name}' has the impossible shape {' x '.join(map(str, shape))}")
    return Entry(name, shape, source.number("<I"), source.number("<Q"))
