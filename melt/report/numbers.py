"""How numbers are shown to people. Files keep SI; only display is scaled."""

from __future__ import annotations

import math

MISSING = "–"
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def significant(value: float, digits: int = 3) -> str:
    """`digits` significant digits without an exponent: 0.0523, 12.3, 1234, 12,300."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return _fixed(value, digits - 1 - math.floor(math.log10(abs(value))))


def interval(centre: float, low: float, high: float) -> tuple[str, str, str]:
    """The three with the same decimals: as many as show the interval's half width to two digits, centre to three."""
    half = max((high - low) / 2, abs(centre) * 1e-5)
    by_width = 1 - math.floor(math.log10(half)) if half > 0 else 0
    by_size = 2 - math.floor(math.log10(abs(centre))) if centre else 0
    decimals = max(min(by_width, by_size + 1), by_size)
    return _fixed(centre, decimals), _fixed(low, decimals), _fixed(high, decimals)


def seconds(value_s: float) -> str:
    """A duration in the unit that suits it: 850 µs, 12.3 ms, 3.01 s."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value_s) >= scale:
            return f"{significant(value_s / scale)} {unit}"
    return "0 s" if value_s == 0 else f"{significant(value_s * 1e9)} ns"


def size(value_bytes: float) -> str:
    """Bytes in powers of ten: 4.21 GB, 37.5 MB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value_bytes) >= scale:
            return f"{significant(value_bytes / scale)} {unit}"
    return f"{value_bytes:.0f} bytes"


def superscript(number: int) -> str:
    """¹ for 1."""
    return str(number).translate(_SUPERSCRIPTS)


def counted(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _fixed(value: float, decimals: int) -> str:
    shown = round(value, decimals) if decimals < 0 else value
    return f"{shown:,.{min(max(decimals, 0), 9)}f}"
