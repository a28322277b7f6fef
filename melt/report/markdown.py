"""report.md: the result for people, with everything that is missing and why. Text of others is escaped."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from melt.report.escape import md_code, md_text
from melt.report.measured import caveats, how_measured
from melt.report.numbers import MISSING, counted, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from melt.records import RunRecord
    from melt.report.pictures import Pictures
    from melt.report.select import Selection
    from melt.report.table import Column, Table
    from melt.store import StoredRun

_FACTS = (
    ("soc", "processor"),
    ("cpus_online", "CPUs"),
    ("core_clusters", "core clusters"),
    ("cpu_quota", "CPU quota"),
    ("memory_total_bytes", "memory"),
    ("os", "system"),
    ("kernel", "kernel"),
    ("governor", "governor"),
    ("hypervisor", "hypervisor"),
)
_MOST_NAMES = 8


def report_md(selection: Selection, title: str, tables: Sequence[Table], pictures: Pictures) -> str:
    """The whole page, GitHub's dialect."""
    parts = [
        [f"# {md_text(title)}", _in_short(selection)],
        ["## Result", *(part for table in tables for part in _table(table))],
        list(_pictures(pictures)),
        ["## What was measured where", *_devices(selection)],
        ["## What is missing and why", *_missing(selection)],
        ["## Runs that do not count", *_not_counted(selection)],
        ["## Warnings and caveats", *_bullets(caveats(selection), "None.")],
        ["## How it was measured", *_bullets(how_measured(selection), "")],
    ]
    return (
        "\n\n".join("\n".join(part) if part[0].startswith("|") else "\n\n".join(part) for part in parts if part) + "\n"
    )


def _in_short(selection: Selection) -> str:
    used, planned = len(selection.used), [cell.planned for cell in selection.cells]
    of = f" of {sum(p or 0 for p in planned)} planned" if None not in planned else ""
    workloads = len({cell.workload for cell in selection.cells})
    cells = len({cell.label for cell in selection.cells})
    of_cells = f" in {cells} cells" if cells != workloads else ""
    said = f"{counted(workloads, 'workload')}{of_cells} on {counted(len(selection.devices), 'device')}; "
    said += f"{used}{of} runs count."
    if any(cell.simulated for cell in selection.cells):
        said += " **Simulated: at least one device is not hardware.**"
    if any(cell.synthetic for cell in selection.cells):
        said += " Synthetic models: their weights are random, made by melt."
    return said


def _rows(header: Sequence[str], align: Sequence[bool], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["--:" if right else ":--" for right in align], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(table: Table) -> Iterator[str]:
    header = [f"{c.header}, {c.unit}" if c.unit else c.header for c in table.columns]
    yield _rows(
        header,
        [column.right for column in table.columns],
        [[_cell(text, column) for text, column in zip(row.cells, table.columns, strict=True)] for row in table.rows],
    )
    if table.footnotes:
        yield "  \n".join(f"<sup>{number}</sup> {md_text(text)}" for number, text in enumerate(table.footnotes, 1))


def _cell(text: str, column: Column) -> str:
    """Numbers are melt's own text, and readable as it is; words are others'."""
    return text if column.right else md_text(text)


def _pictures(pictures: Pictures) -> Iterator[str]:
    for name in pictures.shown:
        yield f"![{md_text(pictures.alt(name))}]({name})"
    yield from (md_text(note) for note in pictures.notes)


def _devices(selection: Selection) -> Iterator[str]:
    newest: dict[str, RunRecord | None] = {}
    for device in selection.devices:
        records = [record for cell in selection.on(device) for record in cell.records]
        newest[device] = max(records, key=lambda record: record.run_id, default=None)
    unknown: dict[str, list[str]] = defaultdict(list)
    rows = [["profile", *(_profile(record) for record in newest.values())]]
    for fact, shown in _FACTS:
        values = [_fact(record, fact) for record in newest.values()]
        if any(value for value, _ in values):
            rows.append([shown, *(md_text(value, 80) if value else MISSING for value, _ in values)])
        for device, (value, reason) in zip(newest, values, strict=True):
            if not value:
                unknown[f"{shown}: {reason}"].append(device)
    yield _rows(["device", *(md_text(device) for device in newest)], [False] * (len(newest) + 1), rows)
    if unknown:
        told = [f"{md_text(text)} ({', '.join(md_text(d, 64) for d in devices)})" for text, devices in unknown.items()]
        yield "Not known: " + "; ".join(told) + "."


def _profile(record: RunRecord | None) -> str:
    if record is None:
        return MISSING
    simulated = ", **simulated**" if record.simulated else ""
    return md_text(record.profile) + ("" if record.profile_verified else " (not verified on the hardware)") + simulated


def _fact(record: RunRecord | None, name: str) -> tuple[str, str]:
    """The fact as text, or empty and the reason."""
    if record is None:
        return "", "no run has a record"
    found: Any = record.facts.get(name)
    reason = "the record does not have it"
    if isinstance(found, dict):
        reason = str(found.get("reason") or reason)
        found = found.get("value")
    if found is None:
        return "", reason
    if name.endswith("_bytes") and isinstance(found, (int, float)):
        return size(found), ""
    if name == "core_clusters":
        return re.sub(r":([0-9]{7,11})\b", lambda m: f" up to {int(m[1]) / 1e9:.2f} GHz", str(found)), ""
    return str(found), ""


def _missing(selection: Selection) -> Iterator[str]:
    lines = []
    for device in selection.devices:
        absent: dict[str, str] = {}
        for cell in selection.on(device):
            for record in cell.records:
                absent |= record.absent_sensors
        lines += [f"**{md_text(device)}** has no {md_text(kind)}: {md_text(why)}" for kind, why in absent.items()]
    lines += _gaps(selection.used)
    yield from _bullets(lines, "Nothing: every metric of every run that counts has a value.", escaped=True)


def _gaps(used: Sequence[StoredRun]) -> Iterator[str]:
    """Every gap of the runs that count; those whose reasons differ in their figures alone are told once."""
    wordings: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for run in used:
        for name, metric in run.record.metrics.items():
            if metric.reason is not None:
                same = re.sub(r"[0-9]+(\.[0-9]+)?", "#", metric.reason)
                wordings[name, same][run.record.run_id] = metric.reason
    alike: dict[tuple[str, frozenset[str]], list[str]] = defaultdict(list)
    for (name, same), by_run in wordings.items():
        alike[same, frozenset(by_run)].append(name)
    for (same, runs), names in alike.items():
        reasons = {reason: None for name in names for reason in wordings[name, same].values()}
        shown = ", ".join(md_code(name) for name in names[:_MOST_NAMES])
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        such = ", such as" if len(reasons) > 1 else ""
        yield f"{shown}{more} in {len(runs)} of {counted(len(used), 'run')}{such}: {md_text(next(iter(reasons)))}"


def _not_counted(selection: Selection) -> Iterator[str]:
    told: list[tuple[StoredRun, str]] = []
    told += [(run, _reasons(run.record)) for cell in selection.cells for run in cell.invalid]
    told += [(run, f"not run: {_reasons(run.record)}") for cell in selection.cells for run in cell.skipped]
    told += [(run, f"not run at first, run later: {_reasons(run.record)}") for run in selection.retried]
    told += [(run, "a newer record of the same planned run counts") for run in selection.superseded]
    if told:
        yield _rows(
            ["run", "device", "cell", "status", "why"],
            [False] * 5,
            [
                [md_code(r.record.run_id), *map(md_text, (r.record.device, r.record.cell, r.record.status, why))]
                for r, why in told
            ],
        )
    lines = [f"{md_code(one.path.name)} cannot be read: {md_text(one.why)}" for one in selection.unreadable]
    lines += [
        f"{md_text(cell.device)}, {md_text(cell.label)}: {counted(cell.never_started, 'planned run')} never started; "
        "melt run --resume goes on"
        for cell in selection.cells
        if cell.never_started
    ]
    if lines or not told:
        yield from _bullets(lines, "None: every run counts.", escaped=True)


def _reasons(record: RunRecord) -> str:
    return (
        "; ".join(f"{reason.code}: {reason.detail}" for reason in record.reasons)
        or f"{record.status}, without a reason"
    )


def _bullets(lines: Iterable[str], otherwise: str, *, escaped: bool = False) -> Iterator[str]:
    listed = list(lines)
    yield "\n".join(f"- {line if escaped else md_text(line)}" for line in listed) if listed else otherwise
