"""`melt report`: CSV, JSON, Markdown and pictures of the runs of a folder, with everything that is missing and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.report.ceilings import with_shares
from melt.report.csvfile import runs_csv
from melt.report.folder import fill, refuse_a_runs_own
from melt.report.jsonfile import report_json
from melt.report.markdown import report_md
from melt.report.pictures import Pictures, draw
from melt.report.select import select
from melt.report.table import Column, Row, Table, summary_tables, tables_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.store import StoredRun, Unreadable

__all__ = ["Column", "Report", "Row", "Table", "summary_tables", "with_shares", "write_report"]


@dataclass(frozen=True)
class Report:
    """What was written; `tables` are the result for the terminal, `notes` what is not drawn and why."""

    folder: Path
    files: tuple[Path, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


def write_report(
    runs: Sequence[StoredRun],
    unreadable: Sequence[Unreadable],
    folder: Path,
    title: str,
    *,
    with_pictures: bool = True,
) -> Report:
    """Writes report.md, runs.csv, report.json and the pictures to `folder`, each replaced whole.

    Without matplotlib there are no pictures, and the report says how to get them. The same runs give the same bytes.
    Raises UsageError when there is no run, when the folder is a run's own, or when it cannot be written.
    """
    refuse_a_runs_own(folder)
    if not runs:
        more = f", and {len(unreadable)} that cannot be read: {unreadable[0].path}" if unreadable else ""
        raise UsageError(f"there is no run to report on{more}: name a folder of results, such as results/demo")
    selection = select(runs, unreadable)
    tables = tables_of(selection)
    pictures = draw(selection, title) if with_pictures else Pictures(notes=("No pictures were asked for.",))
    about = {"files": list(pictures.files), "notes": list(pictures.notes)}
    texts = {
        "report.md": report_md(selection, title, tables, pictures),
        "runs.csv": runs_csv(selection),
        "report.json": report_json(selection, title, about),
    }
    files = {**{name: text.encode() for name, text in texts.items()}, **pictures.files}
    return Report(folder, fill(folder, files), tables, pictures.notes)
