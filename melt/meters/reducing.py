"""Samples reduced on the way: a meter with more than a thousand of them in a second is kept as means of a millisecond.

A mean that lacks more than a tenth of its samples is a gap, and so is what a meter has lost: nothing is interpolated.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from melt.meters.base import Block

if TYPE_CHECKING:
    from collections.abc import Callable

    from melt.analysis.events import Float64s

KEPT_HZ = 1000.0
_ENOUGH = 0.9
_LONG = 1 << 18
"""Samples that are worked on at once."""


class Reducer:
    """Takes blocks in order and gives blocks of means; counts what the meter has lost in between.

    Samples with stamps of their own pass as they are: they need not be evenly apart.
    """

    def __init__(self, rate_hz: float, kept_hz: float = KEPT_HZ) -> None:
        self.factor = max(1, math.ceil(rate_hz / kept_hz - 1e-9))
        self.lost = 0
        """Samples that are missing between the first and the last one."""
        self._next: int | None = None
        self._bin = -1
        self._n = 0
        self._sums = np.zeros(3)
        self._out: list[tuple[int, float, float, float]] = []

    def take(self, block: Block) -> tuple[Block, ...]:
        """The means that are complete by now; a meter of up to a thousand samples in a second passes as it is."""
        if not len(block):
            return ()
        if self._next is not None and block.first_index < self._next:
            block = _from(block, self._next)
            if not len(block):
                return ()
        self.lost += 0 if self._next is None else block.first_index - self._next
        self._next = block.first_index + len(block)
        if self.factor == 1 or block.own_s is not None:
            return (block,)
        for begin in range(0, len(block), _LONG):
            self._add(_part(block, begin, begin + _LONG))
        return self._given(block)

    def _add(self, block: Block) -> None:
        bins = block.index // self.factor
        starts = np.flatnonzero(np.concatenate(([True], np.diff(bins) > 0)))
        counts = np.diff(np.concatenate((starts, [bins.size])))
        nothing = np.full(len(block), np.nan)
        values = [block.power_w, *(nothing if v is None else v for v in (block.current_a, block.voltage_v))]
        sums = np.stack([np.add.reduceat(v, starts) for v in values], axis=1)
        if int(bins[0]) != self._bin:
            self._close_bin()
            self._bin = int(bins[0])
        for number, n, three in zip(bins[starts].tolist(), counts.tolist(), sums, strict=True):
            if number != self._bin:
                self._close_bin()
                self._bin = number
            self._n += n
            self._sums = self._sums + three
        if self._n == self.factor:
            self._close_bin()

    def _close_bin(self) -> None:
        if self._n >= _ENOUGH * self.factor:
            power, current, voltage = (self._sums / self._n).tolist()
            self._out.append((self._bin, power, current, voltage))
        self._n, self._sums = 0, np.zeros(3)

    def _given(self, like: Block) -> tuple[Block, ...]:
        out, self._out = self._out, []
        if not out:
            return ()
        index = np.array([row[0] for row in out], dtype=np.int64)
        rows = np.array([row[1:] for row in out])
        cuts = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(out)]
        return tuple(
            Block(
                first_index=int(index[a]),
                rate_hz=like.rate_hz / self.factor,
                power_w=rows[a:b, 0],
                host_ns=like.host_ns,
                current_a=None if like.current_a is None else rows[a:b, 1],
                voltage_v=None if like.voltage_v is None else rows[a:b, 2],
            )
            for a, b in pairwise(cuts)
        )


def _from(block: Block, index: int) -> Block:
    return _part(block, index - block.first_index, len(block))


def _part(block: Block, begin: int, end: int) -> Block:
    cut: Callable[[Float64s | None], Float64s | None] = lambda v: None if v is None else v[begin:end]  # noqa: E731
    return Block(
        first_index=block.first_index + begin,
        rate_hz=block.rate_hz,
        power_w=block.power_w[begin:end],
        host_ns=block.host_ns,
        current_a=cut(block.current_a),
        voltage_v=cut(block.voltage_v),
        own_s=cut(block.own_s),
    )
