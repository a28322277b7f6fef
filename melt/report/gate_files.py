"""What `melt gate` leaves behind: everything as JSON, and a summary in Markdown for a pull request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from melt.errors import UsageError
from melt.places import write_whole
from melt.report.escape import md_code, md_text, one_line
from melt.report.gate_words import MOST, about_the_night, correlation, headline, missing_lines, quantity, steps_of
from melt.report.numbers import MISSING, counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from melt.nightly import Judged, NightResult, State

_STATES: tuple[State, ...] = ("ok", "suspect", "confirmed", "provisional", "no_verdict", "quarantined")
_COLUMNS = ("device", "cell", "metric", "tonight", "baseline", "change", "limit", "since night", "")
_RIGHT = frozenset({"tonight", "baseline", "change", "limit"})


def gate_data(result: NightResult, *, strict: bool = False) -> dict[str, Any]:
    """Everything that is known of the night, for a program; what is not known is null."""
    return {
        "suite": result.suite,
        "night": result.night,
        "sessions": list(result.sessions),
        "nights": result.nights,
        "history": result.history,
        "axis": result.axis,
        "overall": result.overall,
        "exit_code": result.exit_code(strict=strict),
        "headline": headline(result),
        "counts": {state: len(result.of(state)) for state in _STATES},
        "canaries": sum(one.canary for one in result.judged),
        "series": [_series(one) for one in result.judged],
        "missing": [
            {"device": one.device, "cell": one.cell, "metric": one.metric, "why": one.why} for one in result.missing
        ],
        "quarantined": [{"device": one.device, "why": one.why} for one in result.quarantined],
        "unplanned": list(result.unplanned),
        "running": list(result.running),
        "late": result.late,
        "warnings": list(result.warnings),
        "confirm": result.confirm,
    }


def _series(one: Judged) -> dict[str, Any]:
    series, finding = one.series, one.finding
    return {
        "device": series.device,
        "cell": series.cell,
        "workload": series.workload,
        "metric": series.metric,
        "unit": series.unit,
        "total": series.total,
        "state": one.state,
        "found": finding.found,
        "direction": one.direction,
        "canary": one.canary,
        "trips": one.trips,
        "notable": one.notable,
        "value": _number(finding.value),
        "baseline": _number(finding.baseline),
        "change": _number(finding.change),
        "limit": _number(finding.limit),
        "p": _number(finding.p),
        "nights": finding.nights,
        "since": finding.since,
        "confirmed_by": one.confirmed_by,
        "weaker": finding.weaker,
        "rule": finding.rule,
        "day_correlation": _number(finding.day_correlation),
        "steps": [{"night": step.night, "change": _number(step.change)} for step in one.steps],
        "notes": list(series.notes),
    }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def gate_md(result: NightResult) -> str:
    """A short summary, GitHub's dialect; the text of others is escaped."""
    about = f"Suite {md_code(result.suite)}, night {md_code(result.night)}, {counted(result.nights, 'night')}."
    if result.axis:
        about += f" {md_code(result.axis)} may change from night to night."
    parts = [f"## melt gate: {md_text(headline(result))}", about]
    parts += _findings("Confirmed", result.of("confirmed"))
    parts += _findings("Suspect", result.of("suspect"))
    if result.confirm:
        parts.append(f"To confirm tonight, run again (better after a reboot): {md_code(result.confirm, 600)}")
    parts += _findings("Provisional: fewer than 14 nights", result.of("provisional"))
    parts += _findings("Quarantined: the device drifted", result.of("quarantined"))
    parts += _list("Missing", map(md_text, missing_lines(result.missing)))
    drifted = (f"{md_text(one.device)} is quarantined: {md_text(one.why)}" for one in result.quarantined)
    parts += _list("Warnings", (*drifted, *map(md_text, (*about_the_night(result), *result.warnings))))
    told = correlation(result.judged)
    parts += [f"{told[0].upper()}{told[1:]}."] if told else []
    return "\n\n".join(parts) + "\n"


def _findings(title: str, found: Sequence[Judged]) -> Iterator[str]:
    if not found:
        return
    yield f"### {title} ({len(found)})"
    lines = [_COLUMNS, ["--:" if name in _RIGHT else ":--" for name in _COLUMNS], *map(_row, found[:MOST])]
    yield "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if len(found) > MOST:
        yield f"and {len(found) - MOST} more, in the JSON and the XML."


def _row(one: Judged) -> list[str]:
    series, finding = one.series, one.finding
    said = [str(one.direction)]
    if one.confirmed_by is not None:
        said.append(f"confirmed by {md_code(one.confirmed_by)}{' (weaker: same night)' if finding.weaker else ''}")
    said += [md_text(text) for text in (series.total or "", steps_of(one)) if text]
    return [
        md_text(series.device),
        md_text(series.cell),
        md_code(series.metric),
        MISSING if finding.value is None else md_text(quantity(finding.value, series.unit)),
        MISSING if finding.baseline is None else md_text(quantity(finding.baseline, series.unit)),
        MISSING if finding.change is None else f"{100 * finding.change:+.1f} %",
        MISSING if finding.limit is None else f"±{100 * finding.limit:.1f} %",
        MISSING if finding.since is None else md_code(finding.since),
        ", ".join(said),
    ]


def _list(title: str, lines: Iterable[str]) -> Iterator[str]:
    listed = list(lines)
    if listed:
        yield f"### {title} ({len(listed)})"
        more = [f"- and {len(listed) - MOST} more"] if len(listed) > MOST else []
        yield "\n".join([*(f"- {line}" for line in listed[:MOST]), *more])


def write_files(files: Mapping[Path, bytes]) -> tuple[Path, ...]:
    """Writes each file, whole or not at all, and makes its folder. Raises UsageError when it cannot."""
    for path, data in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            raise UsageError(
                f"{one_line(path)} cannot be written: {error.strerror}: name another file or folder"
            ) from None
    return tuple(files)
