"""A device's canary: a frozen workload. Where it changes, the device did, and not what is tested on it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from melt.history.order import listed
from melt.nightly.result import Judged, Quarantine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


FALSE_NIGHTS = 0.01
"""In so many nights a device that stands still may be quarantined by chance, by all figures of its canaries."""
_SHOWN = 3


def quarantines(judged: Iterable[Judged]) -> list[Quarantine]:
    """The devices that a canary of theirs tells on, with what it shows.

    A figure of a canary tells where its change is confirmed, or less likely by chance than `FALSE_NIGHTS` over the
    number of figures that the device's canaries have (Bonferroni).
    """
    return [
        Quarantine(device, _told([one for one in mine if one.outside]))
        for device, mine in sorted(_canaries(judged).items())
        if any(_tells(one, mine) for one in mine)
    ]


def only_odd(judged: Iterable[Judged]) -> list[str]:
    """A sentence that names the devices of which a canary is outside its limits by no more than chance may do."""
    odd = [
        device
        for device, mine in sorted(_canaries(judged).items())
        if any(one.outside for one in mine) and not any(_tells(one, mine) for one in mine)
    ]
    why = "a figure of the canary is outside its limits, by no more than chance gives: not quarantined"
    return [f"{listed(odd)}: {why}"] if odd else []


def _canaries(judged: Iterable[Judged]) -> dict[str, list[Judged]]:
    """The series of canaries that have a limit, by device."""
    found: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        if one.canary and one.finding.p is not None:
            found[one.series.device].append(one)
    return found


def _tells(one: Judged, mine: Sequence[Judged]) -> bool:
    p = one.finding.p
    return one.outside and (one.state == "confirmed" or (p is not None and p <= FALSE_NIGHTS / len(mine)))


def _told(outside: Sequence[Judged]) -> str:
    """What is outside of a device's canaries, the least likely first."""
    ranked = sorted(outside, key=lambda one: (one.finding.p or 0.0, one.series.cell, one.series.metric))
    more = [f"and {len(ranked) - _SHOWN} more of its figures"] if len(ranked) > _SHOWN else []
    return "; ".join([*map(_shown, ranked[:_SHOWN]), *more])


def quarantined(judged: Sequence[Judged], devices: Iterable[Quarantine]) -> list[Judged]:
    """The same findings, those that are outside on such a device set apart."""
    drifted = {one.device for one in devices}
    return [
        replace(one, state="quarantined") if one.outside and not one.canary and one.series.device in drifted else one
        for one in judged
    ]


def useless(judged: Iterable[Judged]) -> list[str]:
    """What is named as a canary and is none, since it is not what it was."""
    of_device: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for one in judged:
        if one.canary:
            of_device[one.series.device, one.series.cell].append(one)
    told = []
    for (device, cell), mine in sorted(of_device.items()):
        if all(one.state == "no_verdict" for one in mine):
            cut = next((one.series.cut for one in mine if one.series.cut), None)
            why = cut or f"it has too few nights yet ({mine[0].finding.rule})"
            told.append(f"{device}: {cell} is no canary tonight, nothing vouches for the device by it: {why}")
    return told


def _shown(one: Judged) -> str:
    change = "" if one.finding.change is None else f" by {100 * one.finding.change:+.1f} %"
    since = f" since night {one.finding.since}" if one.finding.since else ""
    return f"canary {one.series.cell} changed in {one.series.metric}{change}{since} ({one.finding.found})"
