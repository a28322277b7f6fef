"""The power traces of the 2024 study: a Jetson's rails as a monitor logged them, and a Monsoon's CSV.

The log has lines `<ns> <voltage|current|power>_<RAIL>: <value> <unit>` and `<ns> <zone>: <value> <unit>`, the stamp
being the board's own clock. The Monsoon's CSV has rows `seconds, mA, V,`; its seconds count from before the meter
calibrated itself, and `.t_monsoon` is the host's clock after that. Both may be gigabytes: they are read in pieces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from melt.importers.study_files import number, read_small

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from melt.analysis.events import Float64s, Int64s

MAX_BYTES = 8 << 30
_ROWS = 200_000
_SCALE: Mapping[str, tuple[str, float]] = {
    f"{prefix}{symbol}": (kind, scale)
    for kind, symbol in (("power", "W"), ("voltage", "V"), ("current", "A"), ("temperature", "C"))
    for prefix, scale in (("u", 1e-6), ("m", 1e-3), ("", 1.0))
}
_RAIL = re.compile(r"(voltage|current|power)_([A-Za-z0-9_.-]{1,48})")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,48}")
_NOT_CONNECTED = "NC"
_TOGETHER_NS = 50_000_000
"""A voltage and a current further apart than this are not of one reading; nor is a clock that steps back by more."""
_ZONE_STEP_NS = 1_000_000_000
_MOST = 1e12
"""In the unit of a line, of which the smallest is µ."""
_LATEST = "4" + "0" * 18
_DIGITS = len(_LATEST)
"""A stamp (ns) beyond is none, and must not make all that follow it older than the one above them."""
_LONGEST_S = 1e7
"""No trace of a meter lasts four months."""
MEAN_S = 0.01
"""The Monsoon's 5000 values a second are kept as means of this."""
MAX_METER_V = 20.0
"""More than a Monsoon can give: such a column is in another unit."""
START_SPARE_S = 0.05
"""How long after `.t_monsoon` the meter's first sample comes, beyond one read: a small file is written meanwhile."""


@dataclass(frozen=True)
class Track:
    """Values of one channel in time order: stamps (ns since 1970) and values in SI."""

    t: Int64s
    v: Float64s

    def mean_w(self, begin: int, end: int) -> float | None:
        """The mean over a window that it covers, by trapezoids; None where it does not."""
        if len(self.t) < 2 or self.t[0] > begin or self.t[-1] < end or begin >= end:  # noqa: PLR2004
            return None
        since = (self.t - self.t[0]).astype(np.float64)
        inside = (self.t > begin) & (self.t < end)
        edges = np.interp([begin - self.t[0], end - self.t[0]], since, self.v)
        t = np.concatenate(([begin - self.t[0]], since[inside], [end - self.t[0]]))
        v = np.concatenate((edges[:1], self.v[inside], edges[1:]))
        return float(np.trapezoid(v, t) / (end - begin))


@dataclass(frozen=True)
class Logged:
    """What a power file holds: rails (W), zones (°C), and what of it was left out, in words."""

    rails: Mapping[str, Track] = field(default_factory=dict)
    zones: Mapping[str, Track] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    shift_s: float = 0.0
    """By how much the study's own stamps of it lay late."""
    bound_s: float = 0.0
    """To how much its stamps are known on the clock of who wrote it."""


# --------------------------------------------------------------------------------------------------- a Jetson's


def read_log(path: Path) -> Logged:
    """A Jetson's log. Raises OSError or ValueError, whose text says why it cannot be read."""
    pieces: dict[tuple[str, str], list[tuple[Int64s, Float64s]]] = {}
    lost: dict[str, int] = {}
    newest = -1
    for chunk in _chunks(path, " ", ["t", "key", "value", "unit"]):
        newest = _take(chunk, newest, pieces, lost)
    tracks = {key: Track(*(np.concatenate(c) for c in zip(*parts, strict=True))) for key, parts in pieces.items()}
    rails = {name: _power(name, tracks) for name in sorted({name for kind, name in tracks if kind != "temperature"})}
    zones = {name: _thinned(track) for (kind, name), track in sorted(tracks.items()) if kind == "temperature"}
    problems = [f"{count} lines {why}: left out" for why, count in lost.items() if count]
    known = {name: rail for name, rail in rails.items() if rail is not None and len(rail.t)}
    below = {name: middle for name, rail in known.items() if (middle := float(np.median(rail.v))) < 0}
    problems += [f"{name} draws {middle:.3g} W, which no load does: left out" for name, middle in below.items()]
    return Logged({name: rail for name, rail in known.items() if name not in below}, zones, tuple(problems))


def _take(
    chunk: pd.DataFrame,
    newest: int,
    pieces: dict[tuple[str, str], list[tuple[Int64s, Float64s]]],
    lost: dict[str, int],
) -> int:
    """Sorts a piece of the log by channel; gives the newest stamp so far."""
    lines = chunk[chunk["key"].notna() & chunk["t"].str.fullmatch(r"[0-9]{1,19}", na=False)]
    late = lines["t"].str.len().eq(_DIGITS) & (lines["t"] > _LATEST)
    cut = lines["unit"].isna() | ~lines["key"].str.endswith(":", na=False) | late
    _count(lost, "are cut or no reading", int(cut.sum()))
    lines = lines[~cut]
    if not len(lines):
        return newest
    values = pd.to_numeric(lines["value"], errors="coerce").to_numpy(dtype=np.float64)
    t = lines["t"].astype("uint64").clip(upper=1 << 62).astype("int64").to_numpy()
    seen = np.maximum.accumulate(np.concatenate(([newest], t)))
    back = t < seen[:-1] - _TOGETHER_NS
    _count(lost, "have a stamp before the one above them, so the clock went back", int(back.sum()))
    finite = np.isfinite(values)
    _count(lost, "hold no finite number", int((~finite & ~back).sum()))
    small = np.abs(values) <= _MOST
    _count(lost, "hold more than any rail has", int((finite & ~small & ~back).sum()))
    fit = small & ~back
    labels = (lines["key"].str[:-1] + " " + lines["unit"].str.strip()).to_numpy()
    for label in pd.unique(labels[fit]):
        here = fit & (labels == label)
        key = _channel(str(label))
        if key is None:
            _count(lost, "are in a unit or of a kind that melt does not know", int(here.sum()))
            continue
        kind, name, scale = key
        pieces.setdefault((kind, name), []).append((t[here], values[here] * scale))
    return int(seen[-1])


def _channel(label: str) -> tuple[str, str, float] | None:
    """Kind, name and scale to SI of a line's key and unit; None where they do not fit each other."""
    key, _, unit = label.rpartition(" ")
    if unit not in _SCALE:
        return None
    kind, scale = _SCALE[unit]
    rail = _RAIL.fullmatch(key)
    if rail is not None:
        return (kind, rail[2], scale) if rail[1] == kind else None
    return (kind, key, scale) if kind == "temperature" and _ZONE.fullmatch(key) else None


def _power(name: str, tracks: Mapping[tuple[str, str], Track]) -> Track | None:
    """A rail's power: as logged, else voltage × current of one reading.

    Each line holds one of the three: they are brought together by their stamps, and none is thrown away because its
    neighbour holds another.
    """
    if name == _NOT_CONNECTED:
        return None
    if ("power", name) in tracks:
        return _in_order(tracks["power", name])
    volts, amperes = tracks.get(("voltage", name)), tracks.get(("current", name))
    if volts is None or amperes is None:
        return None
    volts, amperes = _in_order(volts), _in_order(amperes)
    at = np.clip(np.searchsorted(volts.t, amperes.t), 1, max(len(volts.t) - 1, 1))
    before = np.maximum(at - 1, 0)
    at = np.minimum(at, len(volts.t) - 1)
    nearest = np.where(np.abs(volts.t[at] - amperes.t) < np.abs(volts.t[before] - amperes.t), at, before)
    near = np.abs(volts.t[nearest] - amperes.t) <= _TOGETHER_NS
    return Track(amperes.t[near], amperes.v[near] * volts.v[nearest][near])


def _in_order(track: Track) -> Track:
    """One value a stamp: of pieces in other units the stamps are sorted anew."""
    t, first = np.unique(track.t, return_index=True)
    return Track(t, track.v[first])


def _thinned(track: Track) -> Track:
    """One value a second: a zone is no faster."""
    ordered = _in_order(track)
    _, first = np.unique(ordered.t // _ZONE_STEP_NS, return_index=True)
    return Track(ordered.t[first], ordered.v[first])


# -------------------------------------------------------------------------------------------------- a Monsoon's


def read_monsoon(path: Path, epoch: Path) -> Logged:
    """A Monsoon's CSV on the clock of its host. Raises OSError or ValueError, whose text says why not.

    The first row was taken right after the stamp in `.t_monsoon`, whatever its own seconds say: those hold the time
    that the meter took to calibrate itself, and the study added them once more.
    """
    start_s = number(read_small(epoch).strip())
    if start_s is None or not 0 < start_s < 4e9:  # noqa: PLR2004
        raise ValueError(f"{epoch.name} holds no time")
    sums: dict[int, list[Float64s]] = {}
    first_s, newest_s, read_s = None, -1.0, 0.0
    lost: dict[str, int] = {}
    scale_a = scale_v = None
    for chunk in _chunks(path, ",", ["t", "ma", "v", "rest"]):
        if scale_a is None or scale_v is None:
            scale_a, scale_v = _of_header(chunk)
        raw = chunk[["t", "ma", "v"]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
        words = chunk["t"].astype(str).str.contains("Time", regex=False).to_numpy()
        finite = np.isfinite(raw).all(axis=1)
        _count(lost, "hold no finite number", int((~finite & ~words).sum()))
        raw = raw[finite]
        # before it is asked whether the clock went back: a single time that is none would take all that follow with it
        far = (np.abs(raw[:, 0]) > _LONGEST_S) | (np.abs(raw[:, 1:]) > _MOST).any(axis=1)
        _count(lost, "hold a time or a value that is no meter's", int(far.sum()))
        raw = raw[~far]
        seen = np.maximum.accumulate(np.concatenate(([newest_s], raw[:, 0])))
        back = raw[:, 0] < seen[:-1]
        _count(lost, "have a time before the one above them, so the clock went back", int(back.sum()))
        raw, newest_s = raw[~back], float(seen[-1])
        if not len(raw):
            continue
        if first_s is None:
            first_s = float(raw[0, 0])
            soon = raw[raw[:, 0] <= first_s + 1, 0]
            read_s = float(np.diff(soon).max()) if len(soon) > 1 else 0.0
        _bin(sums, raw, first_s, scale_a, scale_v)
    if first_s is None:
        raise ValueError("it holds no sample")
    bins = np.array(sorted(sums), dtype=np.int64)
    n, watts, volts = (np.array([sums[int(b)][i] for b in bins]) for i in range(3))
    middle_v = float(np.median(volts / n))
    if not 0 < middle_v <= MAX_METER_V:
        raise ValueError(f"its voltage is {middle_v:.4g} V, which no Monsoon gives: the unit of a column is another")
    middle_w = float(np.median(watts / n))
    if middle_w < 0:
        raise ValueError(
            f"it says {middle_w:.3g} W, and no device draws less than nothing: is it connected the other way?"
        )
    # a mean carries the stamp of its interval's end
    t = round(start_s * 1e9) + (bins + 1) * round(MEAN_S * 1e9)
    problems = tuple(f"{count} lines {why}: left out" for why, count in lost.items() if count)
    return Logged({"monsoon": Track(t, watts / n)}, {}, problems, first_s, START_SPARE_S + read_s)


def _of_header(chunk: pd.DataFrame) -> tuple[float, float]:
    """How many amperes and volts a unit of the columns is: by the header where there is one, else mA and V."""
    words = [str(word) for word in chunk.iloc[0]] if len(chunk) else []
    scales = {"ma": 1e-3, "v": 1.0}
    for column, at in (("ma", 1), ("v", 2)):
        unit = re.search(r"\((\w+)\)", words[at]) if len(words) > at else None
        if unit is not None and unit[1] in _SCALE:
            scales[column] = _SCALE[unit[1]][1]
    return scales["ma"], scales["v"]


def _bin(sums: dict[int, list[Float64s]], raw: Any, first_s: float, scale_a: float, scale_v: float) -> None:
    """Adds samples to the sums of their bins: how many, watts, volts."""
    volts = raw[:, 2] * scale_v
    which = ((raw[:, 0] - first_s) / MEAN_S).astype(np.int64)
    bins, inverse = np.unique(which, return_inverse=True)
    added = [
        np.bincount(inverse, weights=weights) for weights in (np.ones(len(raw)), raw[:, 1] * scale_a * volts, volts)
    ]
    for at, number_of in enumerate(bins):
        held = sums.setdefault(int(number_of), [np.float64(0), np.float64(0), np.float64(0)])  # type: ignore[list-item]
        for i in range(3):
            held[i] = held[i] + added[i][at]


# ------------------------------------------------------------------------------------------------------- pieces


def _chunks(path: Path, separator: str, names: list[str]) -> Iterator[pd.DataFrame]:
    """A table of words in pieces; a line with more of them than names is none of it."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is no ordinary file")
    size = path.stat().st_size
    if size == 0 or size > MAX_BYTES:
        raise ValueError("it is empty" if size == 0 else f"it is {size} bytes long, more than {MAX_BYTES}")
    with pd.read_csv(
        path,
        sep=separator,
        names=names,
        header=None,
        dtype=str,
        quoting=3,
        chunksize=_ROWS,
        on_bad_lines="skip",
        encoding_errors="replace",
        index_col=False,
    ) as pieces:
        yield from pieces


def _count(lost: dict[str, int], why: str, more: int) -> None:
    lost[why] = lost.get(why, 0) + more
