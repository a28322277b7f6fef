"""events.jsonl, read tolerantly and in bulk: lines of inferences become arrays, all others events.

A process that died leaves a truncated last line; that and every other line that is none is left out.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from melt.analysis.events import RunEvents, whole
from melt.analysis.pairing import Pairing
from melt.records import Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from melt.analysis.events import Int64s

MAX_LINE_BYTES = 1 << 20
"""A longer line is left out: no engine or agent of ours writes one, and a file is untrusted."""
_BLOCK_BYTES = 4 << 20
_STAMP_END = 10**18
_COUNT = rb"(?:0|[1-9][0-9]{0,17})"
_PAIR = rb'\{"t": ?-?%b, ?"ev": ?"infer\.(?:begin|end)", ?"i": ?%b\}\n' % (_COUNT, _COUNT)
_BATCH = rb'\{"t": ?(?P<t>-?%b), ?"ev": ?"infer\.batch", ?"i": ?(?P<i>%b), ?"ns": ?\[(?P<ns>%b(?:,%b)*+)\]\}\n' % (
    (_COUNT,) * 4
)
_PIECE = re.compile(rb"(?P<pairs>(?:%b)++)|%b|[^\n]*\n" % (_PAIR, _BATCH))
"""As many lines of inferences as follow each other, or one line of anything."""
_INFERENCE = frozenset({"infer.begin", "infer.end", "infer.batch", "step.begin", "step.end"})
"""A step is the inference of a language model, one request: what else its lines say is kept."""
_ONLY_NUMBERS = bytes(c if c in b"-0123456789" else ord(" ") for c in range(256))


def read_events(path: Path) -> RunEvents:
    """What the event file of a job says; no file is no event."""
    with path.open("rb") if path.exists() else io.BytesIO() as file:
        return parse_events(file)


def parse_events(file: BinaryIO) -> RunEvents:
    """What lines of events say. Of two of one stamp the one that stands first is first.

    Takes some 60 bytes of memory for each inference, and a second for some millions of them.
    """
    pairing = Pairing()
    others: list[Event] = []
    for block in _blocks(file):
        for piece in _PIECE.finditer(block):
            if piece["pairs"] is not None:
                _take_pairs(pairing, piece["pairs"])
            elif piece.end() - piece.start() > MAX_LINE_BYTES:
                continue
            elif piece["ns"] is not None:
                numbers = np.fromstring(piece["ns"], dtype=np.int64, sep=",")
                _take_batch(pairing, int(piece["t"]), int(piece["i"]), numbers)
            else:
                _take_line(pairing, others, piece[0])
    others.sort(key=lambda event: event.t)
    return RunEvents(tuple(others), pairing.paired())


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """The file in blocks of whole lines; the last line gets the end that it may lack."""
    rest, skipping = b"", False
    while block := file.read(_BLOCK_BYTES):
        if skipping:
            _, end, block = block.partition(b"\n")
            skipping = not end
        lines, end, rest = (rest + block).rpartition(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            rest, skipping = b"", True
        yield lines + end
    yield rest + b"\n"


def _take_pairs(pairing: Pairing, lines: bytes) -> None:
    told = lines.replace(b"infer.begin", b"0").replace(b"infer.end", b"1").translate(_ONLY_NUMBERS)
    t, is_end, i = np.fromstring(told, dtype=np.int64, sep=" ").reshape(-1, 3).T
    pairing.add(i, t, is_end != 0)


def _take_batch(pairing: Pairing, t: int, i: int, ns: Int64s) -> None:
    """`ns` is [gap, duration, gap, duration, …], none negative; a batch whose stamps are none is left out."""
    if ns.size % 2 or abs(t) >= _STAMP_END or t + float(ns.sum(dtype=np.float64)) >= _STAMP_END:
        return
    stamps = t + np.cumsum(ns)
    numbers = i + np.arange(ns.size // 2, dtype=np.int64)
    pairing.add_whole(numbers, stamps[0::2], stamps[1::2])


def _take_line(pairing: Pairing, others: list[Event], line: bytes) -> None:
    try:
        event = Event.model_validate_json(line)
    except ValidationError:
        return
    if abs(event.t) >= _STAMP_END:
        return
    if event.ev not in _INFERENCE:
        others.append(event)
    elif (i := whole(event.get("i"))) is None:
        return
    elif event.ev != "infer.batch":
        pairing.add_one(i, event.t, is_end=event.ev in ("infer.end", "step.end"))
        if event.ev.startswith("step."):
            others.append(event)
    elif isinstance(ns := event.get("ns"), list) and all(type(n) is int and 0 <= n < _STAMP_END for n in ns):
        _take_batch(pairing, event.t, i, np.array(ns, dtype=np.int64))
