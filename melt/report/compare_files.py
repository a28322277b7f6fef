"""A comparison as files: CSV and JSON for programs, Markdown for a paper or a pull request, and its forest plot."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any

import melt
from melt.analysis.contrast import FALSE_DISCOVERY_RATE, POWER
from melt.report.compare_table import delta_lines, headed_tables, how_many, in_short, overall_lines, title
from melt.report.escape import csv_text, md_text
from melt.report.folder import fill, refuse_a_runs_own
from melt.report.pictures import HOW_TO_GET

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from melt.compare import Comparison, Verdict
    from melt.report.table import Table

COMPARE_SCHEMA = 1
METHOD = (
    "The run is the replicate. Runs of one block are compared by the log of their ratio, Student's t; others as two "
    "groups of logs, Welch's t. p is adjusted over all cells and metrics of the comparison (Benjamini and Hochberg, "
    f"q = {FALSE_DISCOVERY_RATE:g}). 'equivalent': the whole 95 % interval lies within ±δ, symmetric in logs. A "
    "difference is named where p is at most q and the ratio itself lies outside ±δ. "
    f"'detectable': the smallest change that gets a name with as many runs as noisy as these in {POWER:.0%} of cases."
)
COLUMNS = (
    *("a_side", "b_side", "axis", "device", "cell", "metric", "unit", "a", "b", "ratio", "low", "high", "p"),
    *("p_adjusted", "verdict", "why", "refused", "n_a", "n_b", "paired", "detectable", "delta", "delta_from"),
    *("energy_of", "labels", "caveats", "allowed_unlike"),
)


def write_comparison(comparison: Comparison, folder: Path) -> tuple[Path, ...]:
    """Writes compare.md, compare.csv, compare.json and the pictures to `folder`, each replaced whole.

    Without matplotlib there are no pictures, and the Markdown says how to get them. Raises UsageError when the folder
    is a run's own or cannot be written.
    """
    refuse_a_runs_own(folder)
    pictures, notes = _pictures(comparison)
    texts = {
        "compare.md": compare_md(comparison, list(pictures), notes),
        "compare.csv": compare_csv(comparison),
        "compare.json": json.dumps(compare_data(comparison), indent=1, allow_nan=False) + "\n",
    }
    files = {**{name: text.encode() for name, text in texts.items()}, **pictures}
    return fill(folder, files, "comparison", ("compare",))


def _pictures(comparison: Comparison) -> tuple[dict[str, bytes], tuple[str, ...]]:
    try:
        # here and not above: an optional extra, and its import takes longer than a comparison
        from melt.report.compare_picture import forest_pages  # noqa: PLC0415
    except ImportError:
        return {}, (HOW_TO_GET,)
    pages = forest_pages(comparison)
    files: dict[str, bytes] = {}
    for number, (png, pdf) in enumerate(pages.pages, 1):
        stem = "compare" if number == 1 else f"compare-{number}"
        files |= {f"{stem}.png": png, f"{stem}.pdf": pdf}
    return files, pages.notes


# -------------------------------------------------------------------------------------------------------------- JSON


def compare_data(comparison: Comparison) -> dict[str, Any]:
    """Everything for a program: a figure that is not known is null, and `why` or `refused` says why."""
    return {
        "schema": COMPARE_SCHEMA,
        "melt": melt.__version__,
        "comparable": True,
        "a": comparison.a,
        "b": comparison.b,
        "axis": comparison.axis,
        "base": comparison.base,
        "base_why": comparison.base_why or None,
        "method": METHOD,
        "labels": list(comparison.labels),
        "allowed_unlike": dict(comparison.allowed),
        "stamps": list(comparison.stamps),
        "verdicts": how_many(comparison),
        "contrasts": [_contrast(one) for one in comparison.verdicts],
        "over_all_cells": [dataclasses.asdict(one) for one in comparison.overall],
        "cells": [_matched(one) for one in comparison.matched],
        "only_on_one_side": [dataclasses.asdict(one) for one in comparison.unmatched],
        "caveats": list(comparison.caveats),
        "notes": list(comparison.notes),
    }


def _contrast(one: Verdict) -> dict[str, Any]:
    found = one.found
    names = ("ratio", "low", "high", "p", "n_a", "n_b", "paired", "detectable")
    return {
        **{name: getattr(one, name) for name in ("a_side", "b_side", "device", "cell", "metric", "unit", "a", "b")},
        **{name: getattr(found, name) if found else None for name in names},
        "p_adjusted": one.p_adjusted,
        "verdict": one.word,
        "why": one.why,
        "refused": one.refused,
        "no_interval": found.why_not if found else None,
        "delta": one.delta,
        "delta_from": one.delta_from,
        "energy_of": one.total,
        "notes": list(found.notes) if found else [],
        "caveats": list(one.caveats),
    }


def _matched(one: Any) -> dict[str, Any]:
    differs = [{"key": d.key, "a": d.a, "b": d.b, "hard": d.hard, "source": d.source} for d in one.differs]
    names = ("a_side", "b_side", "device", "cell", "runs_a", "runs_b", "caveats")
    found = {**{name: getattr(one, name) for name in names}, "differs": differs}
    # keys of a fingerprint are of any kind; infinity in one must not end in a file that no reader takes
    return dict(json.loads(json.dumps(found, default=str), parse_constant=str))


# --------------------------------------------------------------------------------------------------------------- CSV


def compare_csv(comparison: Comparison) -> str:
    """One line a cell and metric, in SI; every caveat and stamp stands in each line that it holds for."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    of_cell = {(m.a_side, m.b_side, m.device, m.cell): m.caveats for m in comparison.matched}
    for one in comparison.verdicts:
        found, about = one.found, of_cell.get((one.a_side, one.b_side, one.device, one.cell), ())
        numbers = [getattr(found, name) if found else None for name in ("ratio", "low", "high", "p")]
        counts = [getattr(found, name) if found else None for name in ("n_a", "n_b", "paired", "detectable")]
        notes = (*one.caveats, *about, *(found.notes if found else ()))
        fields = [
            *(one.a_side, one.b_side, comparison.axis, one.device, one.cell, one.metric, one.unit, one.a, one.b),
            *(*numbers, one.p_adjusted, one.word, one.why, one.refused, *counts, one.delta, one.delta_from, one.total),
            *("; ".join(comparison.labels), "; ".join(notes), "; ".join(comparison.stamps)),
        ]
        writer.writerow([_field(value) for value in fields])
    return out.getvalue()


def _field(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "" if value is None else csv_text(value)


# ---------------------------------------------------------------------------------------------------------- Markdown


def compare_md(comparison: Comparison, pictures: Sequence[str], notes: Iterable[str] = ()) -> str:
    """The comparison for people, GitHub's dialect; text of others is escaped."""
    parts = [f"# {md_text(title(comparison))}", md_text(in_short(comparison))]
    parts += [f"> **{md_text(stamp, 2000)}**" for stamp in comparison.stamps]
    for heading, table in headed_tables(comparison):
        parts += [f"## {md_text(heading)}", _table(table)]
        if table.footnotes:
            parts.append("  \n".join(f"<sup>{n}</sup> {md_text(text)}" for n, text in enumerate(table.footnotes, 1)))
    shown = [name for name in pictures if name.endswith(".png")]
    parts += [f"![Ratio of both sides for each cell and metric, with its 95 % interval]({name})" for name in shown]
    parts += [md_text(note) for note in notes]
    parts += _section("Over all cells", overall_lines(comparison), "Nothing has a ratio.")
    alone = (
        f"only in {one.side}: {one.device} {one.cell} ({one.runs} runs): {one.why}" for one in comparison.unmatched
    )
    parts += _section("Cells that one side alone holds", alone, "None.")
    parts += _section("Caveats", (*comparison.labels, *comparison.caveats, *_of_figures(comparison)), "None.")
    parts += _section("Notes", (*comparison.notes, *delta_lines(comparison)), "None.")
    parts += ["## Method", md_text(METHOD, len(METHOD))]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    header = [f"{column.header}, {column.unit}" if column.unit else column.header for column in table.columns]
    align = ["--:" if column.right else ":--" for column in table.columns]
    rows = [
        [text if column.right else md_text(text) for text, column in zip(row.cells, table.columns, strict=True)]
        for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, align, *rows))


def _section(heading: str, lines: Iterable[str], none: str) -> Iterator[str]:
    told = [f"- {md_text(line, 600)}" for line in lines]
    yield f"## {heading}"
    yield "\n".join(told) or none


def _of_figures(comparison: Comparison) -> list[str]:
    """Caveats and refusals of single figures, each once with the metrics that it is about."""
    about: dict[str, list[str]] = {}
    for one in comparison.verdicts:
        for text in (*one.caveats, *(one.found.notes if one.found else ()), *([one.refused] if one.refused else ())):
            about.setdefault(text, []).append(f"{one.device} {one.cell} {one.metric}")
    return [f"{_whom(names, len(comparison.verdicts))}{text}" for text, names in about.items()]


def _whom(names: Sequence[str], of: int) -> str:
    if len(names) == of:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""  # noqa: PLR2004 - so many are named
    return f"{', '.join(names[:3])}{more}: "


def refusal_data(message: str, rows: Sequence[tuple[str, str, str, str, str]]) -> Mapping[str, Any]:
    """A comparison that was refused, for a program."""
    names = ("cell", "key", "a", "b", "source")
    return {
        "schema": COMPARE_SCHEMA,
        "melt": melt.__version__,
        "comparable": False,
        "why": message,
        "differences": [dict(zip(names, row, strict=True)) for row in rows],
    }
