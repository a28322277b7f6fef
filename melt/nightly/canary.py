"""A device's canary: a frozen workload. Where it changes, the device did, and not what is tested on it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from melt.nightly.result import Judged, Quarantine

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def quarantines(judged: Iterable[Judged]) -> list[Quarantine]:
    """The devices that a canary of theirs tells on, with what it shows."""
    drifted: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        if one.canary and one.outside:
            drifted[one.series.device].append(one)
    return [Quarantine(device, "; ".join(map(_shown, found))) for device, found in sorted(drifted.items())]


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
    change = "" if one.finding.change is None else f" by {one.finding.change:+.1%}"
    since = f" since night {one.finding.since}" if one.finding.since else ""
    return f"canary {one.series.cell} changed in {one.series.metric}{change}{since} ({one.finding.found})"
