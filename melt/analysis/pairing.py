"""Begins and ends of inferences, put together without an object for each: a small model leaves millions.

Almost every inference is a begin with its own end right behind it, and is paired where it stands. What is left over
(an engine that runs several at once, a doubled number, a begin without an end) is paired by number and time.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.events import Inferences

if TYPE_CHECKING:
    from melt.analysis.events import Bools, Int64s

_PARTS = 4096


class Pairing:
    """Takes the events of inferences in the order of their file; `paired` gives what they say together."""

    def __init__(self) -> None:
        self._whole = _Columns(3)  # i, begin, end
        self._loose = _Columns(4)  # i, t, is it an end, how many whole ones stand before it
        self._held: tuple[int, int] | None = None  # a begin, the last so far: its end may come with what is added next
        self._singles = array("q")  # of three: a list of tuples would be walked by the garbage collector

    def add_one(self, i: int, t: int, *, is_end: bool) -> None:
        self._singles.extend((i, t, is_end))

    def add(self, i: Int64s, t: Int64s, is_end: Bools) -> None:
        """Begins and ends as they stand in the file, three arrays of one length."""
        self._take_singles()
        self._add(i, t, is_end)

    def add_whole(self, i: Int64s, begin: Int64s, end: Int64s) -> None:
        """Inferences that are complete, no end before its begin."""
        self._take_singles()
        self._let_go()
        self._whole.add(i, begin, end)

    def paired(self) -> Inferences:
        """All that was added: each begin with the first end of its number at or after it, in the order of the begins.

        Events count in the order of their stamps, those of one stamp in that of the file. A begin that is followed
        by another of its number is forgotten, an end without a begin is left out.
        """
        self._take_singles()
        self._let_go()
        i, begin, end = self._whole.taken()
        loose = self._loose.taken()
        died_in = 0
        contested = np.unique(np.concatenate((loose[0], _doubled(i))))
        if contested.size:
            apart = np.isin(i, contested)
            at = np.flatnonzero(apart)
            found, died_in = _by_number(loose, at, i[at], begin[at], end[at])
            i, begin, end = (
                np.concatenate((column[~apart], more)) for column, more in zip((i, begin, end), found, strict=True)
            )
        if np.any(begin[1:] < begin[:-1]):
            order = np.argsort(begin, kind="stable")
            i, begin, end = i[order], begin[order], end[order]
        return Inferences(i, begin, end, died_in)

    def _take_singles(self) -> None:
        if self._singles:
            i, t, is_end = np.array(self._singles, dtype=np.int64).reshape(-1, 3).T
            self._singles = array("q")
            self._add(i, t, is_end != 0)

    def _let_go(self) -> None:
        if self._held is not None:
            i, t = self._held
            self._held = None
            self._loose.add(*(np.array([value], dtype=np.int64) for value in (i, t, 0, len(self._whole))))

    def _add(self, i: Int64s, t: Int64s, is_end: Bools) -> None:
        if self._held is not None:
            i, t = np.concatenate(([self._held[0]], i)), np.concatenate(([self._held[1]], t))
            is_end = np.concatenate(([False], is_end))
            self._held = None
        if i.size and not is_end[-1]:
            self._held = int(i[-1]), int(t[-1])
            i, t, is_end = i[:-1], t[:-1], is_end[:-1]
        at = np.flatnonzero(~is_end[:-1] & is_end[1:] & (i[:-1] == i[1:]) & (t[:-1] <= t[1:]))
        if 2 * at.size < i.size:
            alone = np.ones(i.size, dtype=np.bool_)
            alone[at] = alone[at + 1] = False
            rest = np.flatnonzero(alone)
            before = len(self._whole) + np.searchsorted(at, rest)
            self._loose.add(i[rest], t[rest], is_end[rest].astype(np.int64), before)
        self._whole.add(i[at], t[at], t[at + 1])


class _Columns:
    """Arrays of one length that grow at their ends. Small additions are joined, or each would cost a hundred bytes."""

    def __init__(self, count: int) -> None:
        self._large: list[tuple[Int64s, ...]] = [(np.empty(0, dtype=np.int64),) * count]
        self._small: list[tuple[Int64s, ...]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, *columns: Int64s) -> None:
        self._length += columns[0].size
        self._small.append(columns)
        if len(self._small) == _PARTS:
            self._join()

    def taken(self) -> tuple[Int64s, ...]:
        """Everything, a column at a time; nothing is left here."""
        self._join()
        parts = [list(column) for column in zip(*self._large, strict=True)]
        self._large = []
        joined = []
        while parts:
            joined.append(np.concatenate(parts.pop(0)))
        return tuple(joined)

    def _join(self) -> None:
        if self._small:
            self._large.append(tuple(np.concatenate(column) for column in zip(*self._small, strict=True)))
            self._small = []


def _doubled(i: Int64s) -> Int64s:
    """The numbers that more than one inference has."""
    if np.all(i[1:] > i[:-1]):
        return i[:0]
    ordered = np.sort(i)
    again: Bools = ordered[1:] == ordered[:-1]
    return ordered[1:][again]


def _by_number(
    loose: tuple[Int64s, ...], at: Int64s, i: Int64s, begin: Int64s, end: Int64s
) -> tuple[tuple[Int64s, Int64s, Int64s], int]:
    """Pairs loose events and whole inferences (at the places `at`) of the same numbers; also how many never ended."""
    numbers = np.concatenate((loose[0], np.repeat(i, 2)))
    stamps = np.concatenate((loose[1], np.column_stack((begin, end)).ravel()))
    is_end = np.concatenate((loose[2], np.tile([0, 1], at.size))) != 0
    place = np.concatenate((2 * loose[3], np.repeat(2 * at + 1, 2)))
    order = np.argsort(place, kind="stable")  # as in the file
    order = order[np.lexsort((stamps[order], numbers[order]))]
    numbers, stamps, is_end = numbers[order], stamps[order], is_end[order]
    last = np.append(numbers[1:] != numbers[:-1], True)
    pair = np.flatnonzero(~is_end[:-1] & is_end[1:] & ~last[:-1])
    return (numbers[pair], stamps[pair], stamps[pair + 1]), int(np.count_nonzero(last & ~is_end))
