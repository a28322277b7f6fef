"""A history as files: a table, the data, and pictures where matplotlib is installed."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import melt
from melt.analysis.summary import CONFIDENCE, MIN_RUNS
from melt.report.escape import csv_text
from melt.report.folder import fill, refuse_a_runs_own
from melt.report.pictures import HOW_TO_GET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from melt.report.history_table import History, NightShown, Slot

HISTORY_SCHEMA = 1
COLUMNS = (
    "suite",
    "device",
    "workload",
    "cell",
    "metric",
    "unit",
    "total",
    "simulated",
    "imported",
    "night",
    "runs",
    "median",
    "low",
    "high",
    "minimum",
    "maximum",
    "reruns",
    "step",
    "reason",
)
NO_VALUE = "no usable value in this night"
_METHOD = "Student's t on the logs of one value a run (linear where a value is not positive); the run is the replicate"


@dataclass(frozen=True)
class Written:
    """The files, and what is not drawn and why."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def write_history(histories: Sequence[History], folder: Path, title: str, notes: Sequence[str]) -> Written:
    """Writes history.csv, .json, and .png and .pdf by pages, each replaced whole. Raises UsageError when it cannot."""
    refuse_a_runs_own(folder)
    try:
        # here and not above: an optional extra, and half a second
        from melt.report.history_picture import history_pages  # noqa: PLC0415
    except ImportError:
        pictures: dict[str, bytes] = {}
        left_out: tuple[str, ...] = (HOW_TO_GET,)
    else:
        pages = history_pages(histories, title)
        names = ["history" if number == 1 else f"history-{number}" for number in range(1, len(pages.pages) + 1)]
        of = zip(names, pages.pages, strict=True)
        pictures = {
            f"{name}.{kind}": data for name, page in of for kind, data in zip(("png", "pdf"), page, strict=True)
        }
        left_out = pages.notes
    data = json.dumps(history_data(histories, title, [*notes, *left_out]), indent=1, allow_nan=False) + "\n"
    files = {**pictures, "history.csv": history_csv(histories).encode(), "history.json": data.encode()}
    return Written(fill(folder, files, "history", ("history",)), left_out)


def history_csv(histories: Sequence[History]) -> str:
    """A line a night, in SI; a night without a value has its reason."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for history in histories:
        of = history.series
        words = (of.suite, of.device, of.workload, of.cell, of.metric, of.unit, of.total or "")
        about = [csv_text(word) for word in words]
        about += [str(history.simulated).lower(), csv_text(" ".join(history.imported))]
        writer.writerows([*about, csv_text(slot.name), *_fields(slot)] for slot in history.slots)
    return out.getvalue()


def _fields(slot: Slot) -> Iterator[str]:
    one = slot.shown
    if one is None:
        yield from ("0", *[""] * 7, NO_VALUE)
        return
    s = one.summary
    yield str(s.n)
    yield from ("" if value is None else repr(value) for value in (s.median, s.low, s.high, s.minimum, s.maximum))
    yield str(len(one.night.sessions) - 1)
    yield "" if one.step is None else repr(one.step.change)
    yield csv_text(s.why_not or "")


def history_data(histories: Sequence[History], title: str, notes: Sequence[str]) -> dict[str, Any]:
    """The same for programs, with the value of every run; what is not known is null beside its reason."""
    return {
        "schema": HISTORY_SCHEMA,
        "title": title,
        "melt": melt.__version__,
        "intervals": {"method": _METHOD, "confidence": CONFIDENCE, "least_runs": MIN_RUNS},
        "series": [_series(history) for history in histories],
        "notes": list(notes),
    }


def _series(history: History) -> dict[str, Any]:
    of = history.series
    return {
        "suite": of.suite,
        "device": of.device,
        "workload": of.workload,
        "cell": of.cell,
        "metric": of.metric,
        "unit": of.unit,
        "total": of.total,
        "simulated": history.simulated,
        "imported": list(history.imported),
        "nights": [_night(slot.shown) if slot.shown else {"night": slot.name, **_GAP} for slot in history.slots],
        "steps": [{"night": one.name, "change": _change(one)} for one in history.steps],
        "notes": list(of.notes),
    }


_GAP: Mapping[str, Any] = MappingProxyType({"median": None, "reason": NO_VALUE, "sessions": []})


def _night(one: NightShown) -> dict[str, Any]:
    summary = one.summary
    told: dict[str, Any] = {
        "night": one.name,
        "median": summary.median,
        "low": summary.low,
        "high": summary.high,
        "sessions": [
            {"session": session.session, "independent": session.independent, "values": list(session.values)}
            for session in one.night.sessions
        ],
    }
    return told if summary.why_not is None else {**told, "why_no_interval": summary.why_not}


def _change(one: NightShown) -> float | None:
    """The change of level as a share; None from a level of 0, of which nothing is a share."""
    return None if one.step is None or not math.isfinite(one.step.change) else one.step.change
