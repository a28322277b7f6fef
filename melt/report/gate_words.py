"""A night's findings in words that the terminal, Markdown and XML share. Nothing is escaped here."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from melt.analysis.gate import HISTORY
from melt.report.numbers import counted, seconds, significant, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.nightly import Judged, Missing, NightResult

_NAMED = 4
MOST = 20
"""So many findings of a kind are listed for people; the JSON and the XML have all."""


def headline(result: NightResult) -> str:
    """The one line to read: the word, and what stands behind it."""
    failed = [one for one in result.judged if one.trips]
    outside = result.of("suspect", "provisional")
    word = result.overall
    if word == "nothing judged":
        return "nothing could be judged: tonight no series of the suite has a usable value"
    told = {
        "fail": f"{counted(len(failed), 'confirmed change')} ({_directions(failed)})",
        "incomplete": _lacking(result),
        "suspect": _outside(result, outside),
        "no verdict yet": f"night {result.nights} of the suite; a series needs 5 nights before the one that is judged",
        "pass": f"{sum(one.state == 'ok' for one in result.judged)} series judged{_young(result)}",
    }
    said = f"{word}: {told[word]}"
    if word == "fail" and _lacking(result):
        said += f"; and incomplete: {_lacking(result)}"
    if word == "incomplete" and outside:
        said += f"; {_outside(result, outside)}"
    return said


def _outside(result: NightResult, outside: Sequence[Judged]) -> str:
    said = f"{len(outside)} of {len(result.judged)} series outside, none of them confirmed"
    suspects, more = len(result.of("suspect")), sum(one.notable for one in result.judged)
    return said if suspects == more else f"{said}; {suspects - more} suspects are no more than chance gives"


def change_of(one: Judged) -> str:
    """What changed, by how much, and since when: `ttft_s 11.6 ms, baseline 10.1 ms (+14.4 %; limit ±4 %)`."""
    series, finding = one.series, one.finding
    said = f"{series.metric} {'none' if finding.value is None else quantity(finding.value, series.unit)}"
    if finding.baseline is not None and finding.change is not None and finding.limit is not None:
        said += (
            f", baseline {quantity(finding.baseline, series.unit)} "
            f"({100 * finding.change:+.1f} %; limit ±{100 * finding.limit:.1f} %)"
        )
    if series.total:
        said += f", {series.total}"
    if finding.since is not None:
        said += f"; began in night {finding.since}"
    if one.confirmed_by is not None:
        said += f"; confirmed by session {one.confirmed_by}"
        said += " of the same night (weaker)" if finding.weaker else ""
    return said


def quantity(value: float, unit: str) -> str:
    """A figure with its unit, as people read it: 11.6 ms, 62.1 MB, 12.1 tok/s."""
    if unit in ("s", "bytes"):
        return seconds(value) if unit == "s" else size(value)
    return significant(value, 4) + (f" {unit}" if unit not in ("", "1") else "")


def steps_of(one: Judged) -> str:
    """Where the level of the series changed before; empty where it did not."""
    if not one.steps:
        return ""
    told = ", ".join(f"{100 * step.change:+.1f} % in night {step.night}" for step in one.steps)
    return f"steps in its history: {told}"


def correlation(judged: Sequence[Judged]) -> str | None:
    """How alike two sessions of one night are, over the series that tell."""
    known = [one.finding.day_correlation for one in judged if one.finding.day_correlation is not None]
    if not known:
        return None
    return (
        f"two sessions of one night correlate by {median(known):.2f} (over {len(known)} series): the more, the less a "
        "rerun without a reboot confirms"
    )


def still(session: str) -> str:
    """That a session of the night goes on."""
    return f"session {session} is still being carried out: this is what its runs say so far"


def about_the_night(result: NightResult) -> list[str]:
    """What bears on the whole night: another that is due, sessions that go on, plans that cannot be read."""
    late = [result.late] if result.late else []
    return [*late, *map(still, result.running), *result.unplanned]


def missing_lines(missing: Sequence[Missing]) -> list[str]:
    """What is missing, a line for each device and reason."""
    by_reason: dict[tuple[str, str], list[Missing]] = {}
    for one in missing:
        by_reason.setdefault((one.device, one.why), []).append(one)
    return [f"{_names(mine)}: {why}" for (_, why), mine in by_reason.items()]


def _names(mine: Sequence[Missing]) -> str:
    if len(mine) == 1:
        return mine[0].name
    names = [" ".join(part for part in (one.cell, one.metric) if part is not None) for one in mine]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{mine[0].device}, {len(names)} missing: {', '.join(names[:_NAMED])}{more}"


def _directions(failed: Sequence[Judged]) -> str:
    numbers = {word: sum(one.direction == word for one in failed) for word in ("worse", "better", "changed")}
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number)


def _young(result: NightResult) -> str:
    """How many series passed by the rule for a short history."""
    young = sum(one.finding.nights < HISTORY for one in result.judged if one.state == "ok")
    said = f", {young} of them provisionally, by fewer than {HISTORY} nights" if young else ""
    without = len(result.of("no_verdict"))
    return said + (f", {without} without a verdict" if without else "")


def _lacking(result: NightResult) -> str:
    told = []
    if result.late:
        told.append("no night since")
    if result.running:
        told.append(f"{counted(len(result.running), 'session')} still running")
    if result.missing:
        told.append(f"{len(result.missing)} missing")
    if result.quarantined:
        told.append(f"{counted(len(result.quarantined), 'device')} quarantined")
    if result.unplanned:
        told.append(f"{counted(len(result.unplanned), 'plan')} unreadable")
    if result.anew:
        told.append(f"{len(result.anew)} series began anew")
    return ", ".join(told)
