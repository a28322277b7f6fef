"""Random weights made directly in their quantised layouts, chunk by chunk.

All bits of a block are random but its scales, which give the weights a mean of 0 and the spread
that is asked for: then activations keep their size from layer to layer, and logits are finite. The bytes are the same
on every machine: Philox's raw stream and its key are the part of numpy that is promised never to change, and the way
from its bytes to a float16 is arithmetic in which IEEE 754 leaves no choice. Every tensor has a key of its own.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from melt.makers.gguf.tensors import TypeName

CHUNK_BYTES = 2**20
"""About how much is made at a time; another value gives other bytes."""

STEPS = 256
"""How many different scales the blocks of a tensor have."""

SIGN = 0x8000
"""The sign bit of a float16."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Layout:
    """A block: how many weights it holds, its fields, and the mean square of its weights when its scale is 1."""

    elements: int
    fields: np.dtype[Any]
    mean_square: float
    minimum: float = 0.0
    """The second scale, `m`, for a first one of 1: it centres integers that are not around 0."""
    signed: bool = False
    """Whether the quantiser writes scales of both signs: where the largest weight is given the lowest integer."""

    @property
    def bytes(self) -> int:
        """The size of a block."""
        return self.fields.itemsize


def _mean_square(values: Iterable[float]) -> float:
    squares = [value * value for value in values]
    return math.fsum(squares) / len(squares)


def _fields(*fields: tuple[str, int]) -> np.dtype[Any]:
    """A block without gaps; `d` and `m` are float16, the others bytes."""
    return np.dtype([(name, "<u2") if name in ("d", "m") else (name, "u1", (size,)) for name, size in fields])


_NIBBLES = _mean_square(q - 7.5 for q in range(16))
_FIVE_BITS = _mean_square(q - 15.5 for q in range(32))
_K_SCALES = _mean_square(range(64))

LAYOUTS: Mapping[TypeName, Layout] = {
    "F32": Layout(1, np.dtype("<f4"), 1.0),
    "F16": Layout(1, np.dtype("<u2"), 1.0),
    "Q8_0": Layout(32, _fields(("d", 2), ("q", 32)), _mean_square((*range(-127, 128), -127))),
    "Q4_0": Layout(32, _fields(("d", 2), ("q", 16)), _mean_square(range(-8, 8)), signed=True),
    "Q5_0": Layout(32, _fields(("d", 2), ("high", 4), ("q", 16)), _mean_square(range(-16, 16)), signed=True),
    "Q5_1": Layout(32, _fields(("d", 2), ("m", 2), ("high", 4), ("q", 16)), _FIVE_BITS, minimum=-15.5),
    "Q3_K": Layout(
        256,
        _fields(("high", 32), ("q", 64), ("scales", 12), ("d", 2)),
        _mean_square(range(-4, 4)) * _mean_square(range(-32, 32)),
    ),
    "Q4_K": Layout(
        256, _fields(("d", 2), ("m", 2), ("scales", 12), ("q", 128)), _NIBBLES * _K_SCALES, minimum=7.5
    ),
    "Q5_K": Layout(
        256,
        _fields(("d", 2), ("m", 2), ("scales", 12), ("high", 32), ("q", 128)),
        _FIVE_BITS * _K_SCALES,
        minimum=15.5,
    ),
    "Q6_K": Layout(
        256,
        _fields(("q", 128), ("high", 64), ("scales", 16), ("d", 2)),
        _mean_square(range(-32, 32)) * _mean_square(range(-128, 128)),
    ),
}  # fmt: skip


def key(*words: str | int) -> int:
    """A key of 128 bits for the random stream that these words name."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, words)).encode()).digest()[:16], "little")


def weights(type_name: TypeName, elements: int, spread: float, stream: int) -> Iterator[Array]:
    """`elements` weights of standard deviation `spread` in chunks of about a megabyte, as the file holds them."""
    layout = LAYOUTS[type_name]
    raw = _raw(layout, elements // layout.elements, stream)
    if type_name == "F16":
        numbers = _uniform(spread)
        yield from (numbers[chunk] for chunk in raw)
        return
    for chunk in raw:
        _scale(chunk, layout, spread)
        if type_name in ("Q4_K", "Q5_K"):
            _centre(chunk["scales"])
        elif type_name == "Q8_0":  # the quantiser never writes -128
            signed = chunk["q"].view("i1")
            np.maximum(signed, -127, out=signed)
        yield chunk


def around(centre: float, bound: float, elements: int, stream: int) -> Array:
    """Float32 numbers for norms and biases, uniform in [centre - bound, centre + bound)."""
    words = np.random.Philox(key=stream).random_raw((elements + 1) // 2).astype("<u8").view("<u4")[:elements]
    unit = (words >> 8).astype("<f4") * np.float32(2.0**-23) - np.float32(1)  # 24 bits: what a float32 holds exactly
    return (unit * np.float32(bound) + np.float32(centre)).astype("<f4")


def _raw(layout: Layout, blocks: int, stream: int) -> Iterator[Array]:
    """Blocks of random bytes; a chunk is whole 64-bit words of the stream, but for the last."""
    bits = np.random.Philox(key=stream)
    at_once = CHUNK_BYTES // layout.bytes // 8 * 8
    for done in range(0, blocks, at_once):
        size = min(at_once, blocks - done) * layout.bytes
        words = bits.random_raw(-(-size // 8)).astype("<u8", copy=False)
        yield words.view("u1")[:size].view(layout.fields)


def _scale(chunk: Array, layout: Layout, spread: float) -> None:
    """Replaces the random scales by sensible ones: from ¾ to 5/4 of what gives the spread."""
    shares = [0.75 + step / (2 * STEPS) for step in range(STEPS)]
    unit = spread / math.sqrt(layout.mean_square * _mean_square(shares))
    scales = np.array([share * unit for share in shares]).astype("<f2")
    chosen = chunk["d"] % STEPS
    sign = chunk["d"] & (SIGN if layout.signed else 0)
    chunk["d"] = scales.view("<u2")[chosen] | sign
    if layout.minimum:
        minima = (scales.astype("<f8") * layout.minimum).astype("<f2")
        chunk["m"] = minima.view("<u2")[chosen]


def _centre(scales: Array) -> None:
    """Makes the eight 6-bit minima of each block equal to its eight 6-bit scales, in ggml's packing of both."""
    scales[:, 4:8] = scales[:, 0:4]
    low = scales[:, 8:12] & 15
    scales[:, 8:12] = low | low << 4


def _uniform(spread: float) -> Array:
    """The float16 for each of 65536 random words: uniform, with the spread."""
    unit = (np.arange(65536, dtype="<f8") * 2 - 65535) / 65536
    return (unit * (spread * math.sqrt(3))).astype("<f2").view("<u2")
