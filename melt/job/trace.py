"""The trace of a job, read tolerantly: an agent that died leaves a truncated last line, and nothing else is wrong."""

from __future__ import annotations

import csv
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from melt.errors import ParseError
from melt.records import Channel, Quantity, Sensor, SensorNote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COLUMNS = ("t_ns", "due_ns", "read_ns", "sensor", "channel", "value", "error")
_ESCAPE = re.compile(rb"\\(n|\\|x[0-9a-f]{2})")
_STAMP = re.compile(r"-?[0-9]{1,18}")
_FIELDS = 6


def _word_after(key: str, scale: float) -> Channel:
    """A channel of the agent's own line about the engine: `hwm_kb 1644 anon_kb 112 …`."""
    names: Mapping[str, tuple[str, Quantity]] = {
        "hwm_kb": ("engine.vm_hwm", "memory"),
        "anon_kb": ("engine.rss_anon", "memory"),
        "file_kb": ("engine.rss_file", "memory"),
        "shmem_kb": ("engine.rss_shmem", "memory"),
        "swap_kb": ("engine.vm_swap", "memory"),
        "majflt": ("engine.majflt", "count"),
        "cpu_ticks": ("engine.cpu_s", "count"),
    }

    def parse(raw: bytes) -> float:
        words = raw.split()
        pairs = dict(zip(words[::2], words[1::2], strict=False))
        try:
            value = float(pairs[key.encode()]) * scale
            return value / float(pairs[b"hz"]) if key == "cpu_ticks" else value
        except (KeyError, ValueError, ZeroDivisionError):
            raise ParseError(f"the agent's line about the engine lacks {key}", raw) from None

    name, quantity = names[key]
    return Channel(name, quantity, parse)


ENGINE_SENSOR = Sensor(
    name="engine",
    channels=(
        *(_word_after(key, 1024) for key in ("hwm_kb", "anon_kb", "file_kb", "shmem_kb", "swap_kb")),
        *(_word_after(key, 1) for key in ("majflt", "cpu_ticks")),
    ),
    period_s=0.1,
    path="/proc/ENGINE/status and /proc/ENGINE/stat",
)
"""What the agent samples of the engine's process by itself."""


def notes(sensors: Sequence[Sensor]) -> dict[str, SensorNote]:
    """What each channel of the trace is, by its name."""
    return {
        channel.name: SensorNote(
            sensor=sensor.name,
            quantity=channel.quantity,
            unit=channel.unit,
            source=sensor.source,
            period_s=sensor.period_s,
            boundary=channel.boundary,
            provenance=channel.provenance,
            wraps_at=channel.wraps_at,
            label=channel.label,
            response=channel.response,
            not_for_energy=channel.not_for_energy,
        )
        for sensor in sensors
        for channel in sensor.channels
    }


def read_trace(path: Path, sensors: Sequence[Sensor]) -> pd.DataFrame:
    """trace.csv as one row a channel and sample, values in the channel's unit, sorted by time; `COLUMNS` names them.

    A text that a channel's parser cannot read is a row with `error` "garbage" and no value.
    """
    by_name = {sensor.name: sensor for sensor in sensors}
    rows: list[tuple[int, int, int, str, str, float, str | None]] = []
    text = path.read_bytes().decode("latin-1") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # the last line may have been cut
    for line in whole.split("\n")[1:]:
        try:
            fields = next(csv.reader((line,)), [])  # by line: a stray quote must not swallow the rows after it
            if len(fields) != _FIELDS or fields[3] not in by_name:
                continue
            due_ns, t_ns, read_ns = map(_stamp, fields[:3])
        except (ValueError, csv.Error):
            continue
        raw = unescape(fields[5].encode("latin-1"))
        for channel in by_name[fields[3]].channels:
            value, error = float("nan"), fields[4] or None
            if error is None:
                try:
                    value = channel.parse(raw)
                except ParseError:
                    error = "garbage"
                if not math.isfinite(value):
                    value, error = float("nan"), "garbage"
            rows.append((t_ns, due_ns, read_ns, fields[3], channel.name, value, error))
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    types = {"t_ns": np.int64, "due_ns": np.int64, "read_ns": np.int64, "value": np.float64}
    return frame.astype(types).sort_values("t_ns", kind="stable", ignore_index=True)


def _stamp(text: str) -> int:
    """A stamp in ns. Raises ValueError for what is none, or does not fit in 64 bits."""
    if not _STAMP.fullmatch(text):
        raise ValueError(f"{text!r} is not a stamp")
    return int(text)


def unescape(text: bytes) -> bytes:
    """The bytes that the agent read, from its one-line form."""

    def one(match: re.Match[bytes]) -> bytes:
        word = match.group(1)
        return b"\n" if word == b"n" else b"\\" if word == b"\\" else bytes([int(word[1:], 16)])

    return _ESCAPE.sub(one, text)
