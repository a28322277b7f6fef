"""Which runs of one cell may be pooled, and which of these groups a run without a figure belongs to.

Two usable runs are pooled when the hard parts of their fingerprints are the same. A run that failed or was skipped
often ended before its engine told all of it, so it is compared by what it does know: the settings (`params.*`, `cpus`)
and the part of the fingerprint that was set before the engine ran. It stands with the one group that it fits; with
several, with the one of its own session; otherwise in a row of its own. `protocol.*`, `precheck.*` and `limits.*` tell
no groups apart: they decide how long is measured and when it ends, not how fast the device is.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from melt.report.escape import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from melt.records import Resolved, RunRecord
    from melt.store import StoredRun

_SHOWN_KEYS = 2
_LONGEST = 16
_DIGEST = "_sha256"
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "engine": "",
        "engine_version": "engine",
        "provider_nodes": "provider coverage",
        "provider": "provider",
        "cpus": "CPUs",
        "inter_threads": "inter-threads",
        "model_sha256": "model",
        "inputs_sha256": "inputs",
        "workload": "",
    }
)
"""How a key of the fingerprint is called where its own name is no word."""
_PLURAL = ("inputs", "CPUs", "inter-threads", "threads", "provider options")
_OF_THE_RECORD = ("synthetic_model", "simulated", "metric_version")


@dataclass(frozen=True)
class Unstarted:
    """Planned runs of a session that have no record, and their settings."""

    session: str
    resolved: Mapping[str, Resolved]
    count: int


@dataclass
class Variant:
    """Runs of one cell that belong together; `label` is empty where there is but one such group."""

    used: list[StoredRun] = field(default_factory=list)
    rest: list[StoredRun] = field(default_factory=list)
    unstarted: int = 0
    label: str = ""
    known: dict[str, Any] = field(default_factory=dict)
    """What is known of what its runs are: settings, and keys of the hard fingerprint."""
    sessions: set[str] = field(default_factory=set)


def variants(runs: Sequence[StoredRun], unstarted: Sequence[Unstarted] = ()) -> list[Variant]:
    """Every run and planned run of one cell in its place; the groups with figures come first."""
    hard = {key for run in runs for key in run.record.fingerprint.hard} | set(_OF_THE_RECORD)
    groups: dict[str, Variant] = {}
    for run in runs:
        if run.record.usable:
            group = groups.setdefault(_hard(run.record), Variant())
            group.used.append(run)
            _note(group, run.record, hard)
    found = list(groups.values())
    own: list[Variant] = []
    for run in runs:
        if not run.record.usable:
            group = _place(_known(run.record, hard), run.record.session, found, own)
            group.rest.append(run)
            _note(group, run.record, hard)
    found += own
    for planned in unstarted:
        known = {key: value for key, value in _settings(planned.resolved).items() if key in hard}
        fits = [group for group in found if _fit(known, group.known)]
        same = [group for group in fits if planned.session in group.sessions]
        group = (same or fits or [Variant(known=known)])[-1]
        group.unstarted += planned.count
        if group not in found:
            found.append(group)
    _label(found)
    return found


def _place(known: Mapping[str, Any], session: str, groups: Sequence[Variant], own: list[Variant]) -> Variant:
    """The group that a run without figures belongs to; `own` are those that have none, and may get one more."""
    fits = [group for group in groups if _fit(known, group.known)]
    if len(fits) > 1:
        fits = [group for group in fits if session in group.sessions]
    if len(fits) == 1:
        return fits[0]
    among = [group for group in own if _fit(known, group.known)]
    if not among:
        among = [Variant()]
        own += among
    return among[0]


def _note(group: Variant, record: RunRecord, hard: set[str]) -> None:
    group.sessions.add(record.session)
    group.known = {**_known(record, hard), **group.known}


def _settings(resolved: Mapping[str, Resolved]) -> dict[str, Any]:
    return {
        key.removeprefix("params."): setting.value
        for key, setting in resolved.items()
        if key == "cpus" or key.startswith("params.")
    }


def _known(record: RunRecord, hard: set[str]) -> dict[str, Any]:
    """A null of the fingerprint is not known yet, but a null setting is a setting: `cpus: null` pins nothing."""
    told = {key: value for key, value in record.fingerprint.hard.items() if value is not None}
    about: dict[str, Any] = {"simulated": record.simulated, "metric_version": record.metric_version}
    if record.fingerprint.hard.get("synthetic_model", record.synthetic_model) is not None:
        about["synthetic_model"] = record.synthetic_model
    settings = {key: value for key, value in _settings(record.resolved).items() if key in hard}
    return {**settings, **told, **about}


def _fit(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two agree in all that is known of both."""
    return all(_same(one[key]) == _same(other[key]) for key in one.keys() & other.keys())


def _same(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _hard(record: RunRecord) -> str:
    return _same([dict(record.fingerprint.hard), *(getattr(record, key) for key in _OF_THE_RECORD)])


def _label(groups: Sequence[Variant]) -> None:
    """Gives each group a few words that set it apart from the others: where it differs from what most of them have."""
    if len(groups) < 2:  # noqa: PLR2004 - one alone is apart from nothing
        return
    keys = dict.fromkeys(key for group in groups for key in group.known)
    unlike = sorted((key for key in keys if len(_told(key, groups)) > 1), key=lambda key: _length(key, groups))
    most = {key: _told(key, groups).most_common(1)[0][0] for key in unlike}
    labels = []
    for group in groups:
        own = [key for key in unlike if _value(key, group) not in (None, most[key])]
        if own:
            more = f" and {len(own) - _SHOWN_KEYS} more" if len(own) > _SHOWN_KEYS else ""
        else:  # as most: what the others differ in first; or not even known
            own, more = [key for key in unlike if _value(key, group) is None] or unlike, ""
        labels.append(", ".join(_words(key, group.known) for key in own[:_SHOWN_KEYS]) + more)
    for number, (group, label) in enumerate(zip(groups, labels, strict=True), 1):
        alone = label and labels.count(label) == 1
        group.label = label if alone else ", ".join(word for word in (f"variant {number}", label) if word)


def _told(key: str, groups: Sequence[Variant]) -> Counter[str]:
    """The values of a key, and how many groups have each; that a run failed before it was told is no value."""
    return Counter(value for group in groups if (value := _value(key, group)) is not None)


def _value(key: str, group: Variant) -> str | None:
    """The value as text; None where no run of the group lived to tell."""
    return _same(group.known.get(key)) if group.used or key in group.known else None


def _length(key: str, groups: Sequence[Variant]) -> int:
    """0 for what is shown whole, 1 for what is shown in part, 2 for what only differs: a row shows the first few."""
    values = [group.known.get(key) for group in groups]
    return 0 if all(map(_is_short, values)) else 1 if key.endswith(_DIGEST) else 2


def _is_short(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST)


def _words(key: str, known: Mapping[str, Any]) -> str:
    """`threads 2`, `engine 1.31.1`; what is no short word only differs."""
    name = one_line(_WORDS.get(key, key.removesuffix(_DIGEST).replace("_", " ")), 24)
    if key not in known:
        return f"{name or key} not known"
    value = known[key]
    if isinstance(value, bool):
        said = {"synthetic_model": ("real weights", "synthetic"), "simulated": ("hardware", "simulated")}
        off, on = said.get(key, (f"{name} off", f"{name} on"))
        return on if value else off
    if value is None:
        return "any CPU" if key == "cpus" else f"{name or key} not set"
    if _is_short(value):
        return f"{name} {one_line(value, _LONGEST)}".strip()
    if key.endswith(_DIGEST) and isinstance(value, str):
        return f"{name} {one_line(value)[:8]}"
    return f"{name or key} {'differ' if name in _PLURAL else 'differs'}"
