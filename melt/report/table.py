"""The result as a table of formatted text, in units for people: what the terminal and report.md show."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from melt.report.across import Across, across
from melt.report.escape import one_line
from melt.report.numbers import MISSING, counted, interval, significant, superscript
from melt.report.select import select

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from melt.report.select import Cell, Selection
    from melt.store import StoredRun


@dataclass(frozen=True)
class Column:
    """`unit` is empty where the cells are words; numbers are aligned to the right."""

    header: str
    unit: str = ""
    right: bool = True


@dataclass(frozen=True)
class Row:
    """One text a column, and what a reader must know of the row beside its numbers."""

    cells: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Texts are on one line and not escaped for any markup. `footnotes[0]` belongs to the mark ¹ in a cell."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...] = ()


@dataclass
class _Footnotes:
    """Gives each text a number; texts that differ in their figures alone share one."""

    alike: dict[str, list[str]] = field(default_factory=dict)

    def mark(self, text: str | None) -> str:
        if not text:
            return ""
        same = re.sub(r"(?<![A-Za-z0-9.])[0-9]+(\.[0-9]+)?", "#", text)
        found = self.alike.setdefault(same, [])
        if text not in found:
            found.append(text)
        return superscript(list(self.alike).index(same) + 1)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(found[0] + ("; alike elsewhere" if len(found) > 1 else "") for found in self.alike.values())

    def marks(self, *texts: str | None) -> str:
        return "˒".join(mark for text in texts if (mark := self.mark(text)))


@dataclass(frozen=True)
class _Figure:
    """A column that shows a metric: `per_unit` SI units make one of what is shown."""

    metric: str
    header: str
    unit: str
    per_unit: float
    about: Callable[[Across], str | None] = lambda _: None
    with_interval: bool = False
    highest: bool = False


def _boundary(found: Across) -> str | None:
    """Energy is never shown without where it was measured and how."""
    told = list(dict.fromkeys(note.partition(";")[0] for note in found.notes))
    return f"energy: {' / '.join(told)}" if told and found.values else None


_LATENCY = _Figure("latency_p50_s", "p50 [95 % interval]", "ms", 1e-3, with_interval=True)
_FIGURES = (
    _LATENCY,
    _Figure("latency_p90_s", "p90", "ms", 1e-3),
    _Figure("inferences_per_s", "rate", "1/s", 1),
    _Figure("load_s", "load", "s", 1),
    _Figure("first_inference_s", "first inference", "ms", 1e-3),
    _Figure("peak_memory_bytes", "peak memory", "MB", 1e6),
    _Figure("j_per_inference", "energy / inference", "mJ", 1e-3, about=_boundary),
    _Figure("temperature_max_c", "hottest", "°C", 1, highest=True),
)
_BEFORE = 3
"""So many figures stand before the verdict: a narrow terminal shows the first columns only."""


def summary_table(runs: Sequence[StoredRun]) -> Table:
    """One row a device and cell, from the records alone; each figure is the geometric mean of the runs that count.

    The interval is that of Student's t on the logs of the run medians, from 3 runs on; a figure that is not known is
    a dash whose footnote says why. Reads the plan, session.json, beside the runs.
    """
    return table_of(select(runs))


def table_of(selection: Selection) -> Table:
    """The table of runs that were already sorted."""
    footnotes = _Footnotes()
    suite = [Column("suite", right=False)] if len(selection.suites) > 1 else []
    columns = (
        *suite,
        Column("device", right=False),
        Column("workload", right=False),
        Column("runs"),
        *(Column(figure.header, figure.unit) for figure in _FIGURES[:_BEFORE]),
        Column("verdict", right=False),
        *(Column(figure.header, figure.unit) for figure in _FIGURES[_BEFORE:]),
    )
    rows = tuple(_row(cell, footnotes, with_suite=bool(suite)) for cell in selection.cells)
    return Table(columns, rows, footnotes.texts)


def verdicts(cell: Cell) -> str:
    """`2 valid, 1 partial, 1 invalid, 1 skipped`, naming only what there is."""
    counts: Counter[str] = Counter(run.record.verdict for run in cell.used)
    counts["invalid"] += len(cell.invalid)
    counts["skipped"] = len(cell.skipped)
    counts["never started"] = cell.never_started
    words = [f"{counts[word]} {word}" for word in ("valid", "partial", "invalid", "skipped", "never started")]
    return ", ".join(word for word in words if not word.startswith("0 ")) or "no run"


def _row(cell: Cell, footnotes: _Footnotes, *, with_suite: bool) -> Row:
    found = [(figure, across(cell, figure.metric)) for figure in _FIGURES]
    planned = "?" if cell.planned is None else str(cell.planned)
    workload = cell.label + (" (synthetic)" if cell.synthetic else "")
    cells = (
        *((cell.suite,) if with_suite else ()),
        cell.device + (" (simulated)" if cell.simulated else ""),
        workload,
        f"{len(cell.used)}/{planned}",
    )
    figures = [_figure(figure, of, footnotes) for figure, of in found]
    figures.insert(_BEFORE, verdicts(cell))
    return Row(
        (*(one_line(text) for text in cells), *figures),
        tuple(_notes(cell, found[0][1])),
    )


def _figure(figure: _Figure, found: Across, footnotes: _Footnotes) -> str:
    summary = found.summary
    value = summary.maximum if figure.highest else summary.centre
    if value is None:
        return f"{MISSING}{footnotes.mark(_sentence(figure.header, found.why_missing))}"
    shown = significant(value / figure.per_unit)
    why_not = None
    if figure.with_interval and summary.low is not None and summary.high is not None:
        centre, low, high = interval(*(v / figure.per_unit for v in (value, summary.low, summary.high)))
        shown = f"{centre} [{low}–{high}]"
    elif figure.with_interval:
        why_not = f"no interval: {summary.why_not}"
    some = None
    if found.gaps:
        of = len(found.values) + len(found.gaps)
        has = "has" if len(found.values) == 1 else "have"
        told = f"only {len(found.values)} of {counted(of, 'run')} {has} it: {found.why_some_miss}"
        some = _sentence(figure.header, told)
    marks = footnotes.marks(figure.about(found), why_not, some)
    return f"{shown}{' ' if marks and ']' not in shown else ''}{marks}"


def _sentence(header: str, reason: str | None) -> str:
    return one_line(f"{header.partition(' [')[0]}: {reason}") if reason else ""


def _notes(cell: Cell, latency: Across) -> list[str]:
    notes = []
    if cell.synthetic:
        notes.append("synthetic weights: made by melt; speed and memory are those of the shapes, energy is not")
    if cell.simulated:
        notes.append("simulated device: nothing here was measured on hardware")
    if cell.records and not all(record.profile_verified for record in cell.records):
        names = sorted({record.profile for record in cell.records if not record.profile_verified})
        notes.append(f"profile {', '.join(map(one_line, names))} is not verified on the hardware")
    if cell.partial:
        codes = sorted(
            {r.code.value for run in cell.used if run.record.verdict == "partial" for r in run.record.reasons}
        )
        notes.append(f"{counted(cell.partial, 'partial run')} included ({', '.join(codes)})")
    sessions = {run.record.session for run in cell.used}
    if len(sessions) > 1:
        notes.append(f"runs of {len(sessions)} sessions together: the interval does not know what differs between them")
    if latency.summary.n > 0 and latency.summary.indicative:
        notes.append(f"indicative: {counted(latency.summary.n, 'run')}, of which nothing may be called significant")
    if latency.summary.outliers.mad:
        notes.append(f"{counted(len(latency.summary.outliers.mad), 'run')} far from the others, kept")
    return notes
