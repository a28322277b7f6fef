"""The result as a table of formatted text, in units for people: what the terminal and report.md show."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from melt.report.across import across
from melt.report.alike import template
from melt.report.escape import one_line
from melt.report.figures import BEFORE, FIGURES
from melt.report.numbers import MISSING, counted, interval, significant, superscript
from melt.report.select import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.report.across import Across
    from melt.report.figures import Figure
    from melt.report.select import Cell, Selection
    from melt.store import StoredRun

_MARK = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_PLAIN_DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


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

    def only(self, columns: Sequence[int]) -> Table:
        """Some of the columns, with the footnotes whose marks stand in them, numbered anew."""
        numbers: dict[int, int] = {}

        def renumbered(mark: re.Match[str]) -> str:
            old = int(mark[0].translate(_PLAIN_DIGITS))
            return superscript(numbers.setdefault(old, len(numbers) + 1))

        rows = tuple(
            Row(
                # words are others' text, in which a ² means nothing
                tuple(_MARK.sub(renumbered, row.cells[i]) if self.columns[i].right else row.cells[i] for i in columns),
                row.notes,
            )
            for row in self.rows
        )
        footnotes = tuple(self.footnotes[number - 1] for number in numbers)
        return Table(tuple(self.columns[i] for i in columns), rows, footnotes)


@dataclass
class _Footnotes:
    """Gives each text a number; texts that differ in their figures alone share one, and so do columns.

    A text says what it is about where that is one column alone: the mark in the cell says it anyway.
    """

    alike: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    """Template, or the text itself, to the texts, and to what they are about."""

    def mark(self, text: str | None, about: str = "", *, exactly: bool = False) -> str:
        """`exactly` keeps a text whose figures are what it is about apart from one with others."""
        if not text:
            return ""
        key = text if exactly else template(text)
        texts, subjects = self.alike.setdefault(key, ([], []))
        texts += [text] if text not in texts else []
        subjects += [about] if about not in subjects else []
        return superscript(list(self.alike).index(key) + 1)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(
            one_line((f"{subjects[0]}: " if subjects[0] and len(subjects) == 1 else "") + _told(texts))
            for texts, subjects in self.alike.values()
        )


def _told(texts: Sequence[str]) -> str:
    return texts[0] + ("; alike elsewhere" if len(texts) > 1 else "")


def summary_tables(runs: Sequence[StoredRun]) -> tuple[Table, ...]:
    """One row a device and cell, from the records alone; each figure is the geometric mean of the runs that count.

    A table for each kind of run that there is.

    The interval is that of Student's t on the logs of the run medians, from 3 runs on; a figure that is not known is
    a dash whose footnote says why. Reads the plan, session.json, beside the runs.
    """
    return tables_of(select(runs))


def tables_of(selection: Selection) -> tuple[Table, ...]:
    """The tables of runs that were already sorted."""
    of_kinds = ((figures, [cell for cell in selection.cells if cell.kind == kind]) for kind, figures in FIGURES.items())
    return tuple(_table(selection, cells, figures) for figures, cells in of_kinds if cells)


def _table(selection: Selection, of: Sequence[Cell], figures: Sequence[Figure]) -> Table:
    footnotes = _Footnotes()
    suite = [Column("suite", right=False)] if len(selection.suites) > 1 else []
    columns = (
        *suite,
        Column("device", right=False),
        Column("workload", right=False),
        Column("runs"),
        *(Column(figure.header, figure.unit) for figure in figures[:BEFORE]),
        Column("verdict", right=False),
        *(Column(figure.header, figure.unit) for figure in figures[BEFORE:]),
    )
    rows = tuple(_row(cell, figures, footnotes, with_suite=bool(suite)) for cell in of)
    return Table(columns, rows, footnotes.texts)


def verdicts(cell: Cell) -> str:
    """`2 valid, 1 partial, 1 invalid, 1 skipped`, naming only what there is.

    `cut short` are those that failed and whose data is true all the same; they make no figures.
    """
    counts: Counter[str] = Counter(run.record.verdict for run in cell.used)
    for run in cell.invalid:
        counts["invalid" if run.record.verdict == "invalid" else "cut short"] += 1
    counts["skipped"] = len(cell.skipped)
    counts["never started"] = cell.never_started
    order = ("valid", "partial", "cut short", "invalid", "skipped", "never started")
    words = [f"{counts[word]} {word}" for word in order]
    return ", ".join(word for word in words if not word.startswith("0 ")) or "no run"


def _row(cell: Cell, shown: Sequence[Figure], footnotes: _Footnotes, *, with_suite: bool) -> Row:
    found = [(figure, across(cell, figure.metric)) for figure in shown]
    planned = "?" if cell.planned is None else str(cell.planned)
    workload = cell.label + (" (synthetic)" if cell.synthetic else "")
    cells = (
        *((cell.suite,) if with_suite else ()),
        cell.device + (" (simulated)" if cell.simulated else ""),
        workload,
        f"{len(cell.used)}/{planned}",
    )
    figures = [_figure(cell, figure, of, footnotes) for figure, of in found]
    figures.insert(BEFORE, verdicts(cell))
    return Row(
        (*(one_line(text) for text in cells), *figures),
        tuple(row_notes(cell, found[0][1])),
    )


def _figure(cell: Cell, figure: Figure, found: Across, footnotes: _Footnotes) -> str:
    name = figure.header.partition(" [")[0]
    summary = found.summary
    value = summary.maximum if figure.highest else summary.centre
    if value is None:
        return f"{MISSING}{footnotes.mark(found.why_missing, name)}"
    shown = significant(value / figure.per_unit)
    why_not = None
    if figure.interval != "none" and summary.low is not None and summary.high is not None:
        centre, low, high = interval(*(v / figure.per_unit for v in (value, summary.low, summary.high)))
        shown = f"{centre} [{low}–{high}]"
    elif figure.interval == "main":
        why_not = f"no interval: {summary.why_not}"
    some = None
    if found.gaps:
        of = len(found.values) + len(found.gaps)
        has = "has" if len(found.values) == 1 else "have"
        some = f"only {len(found.values)} of {counted(of, 'run')} {has} it: {found.why_some_miss}"
    about = [footnotes.mark(text, exactly=True) for text in figure.about(cell, found)]
    told = (*about, footnotes.mark(why_not), footnotes.mark(some, name))
    marks = "˒".join(mark for mark in told if mark)
    return f"{shown}{' ' if marks and ']' not in shown else ''}{marks}"


def row_notes(cell: Cell, main: Across | None = None) -> list[str]:
    """What a reader must know of a cell beside its figures; `main` is the one that its interval is of."""
    main = main or across(cell, FIGURES[cell.kind][0].metric)
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
    if main.summary.n > 0 and main.summary.indicative:
        notes.append(f"indicative: {counted(main.summary.n, 'run')}, of which nothing may be called significant")
    if main.summary.groups_apart is not None:
        apart = significant(100 * main.summary.groups_apart, 2)
        notes.append(f"its runs lie in two groups, {apart} % apart: the interval does not hold what it promises")
    if main.summary.outliers.mad:
        notes.append(f"{counted(len(main.summary.outliers.mad), 'run')} far from the others, kept")
    return notes
