"""From what was read to runs with a place: a device, a cell, a block, a session; and what is there already."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from melt.errors import UsageError
from melt.files.reader import shorten
from melt.importers.reading import slug
from melt.records import NAME, SuiteRef
from melt.store import digest_of, open_session, sessions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from melt.importers.base import ImportedRun

SITTING = dt.timedelta(hours=6)
"""Runs with a longer pause between them belong to two sessions."""
NO_DEVICE = "not-told"
MOST_RUNS = 20_000
"""In one import: each is a folder."""
_SHOWN = 5
MOST_RAW_BYTES = 2 << 30
"""Of the original files of one run, which its folder keeps."""
_NAME, _MARK = 64, 8
"""The longest name, and so many hexadecimal digits tell two of them apart."""
_ONE_FILE = "runs of this cell are in one file: whether each was a process of its own is not told"
_LATEST = dt.datetime.max.replace(tzinfo=dt.UTC)


@dataclass(frozen=True)
class Placed:
    """A run with everything that the store asks for; `began` is None where its source does not tell."""

    run: ImportedRun
    device: str
    cell: str
    block: int
    began: dt.datetime | None
    digest: str
    """`sha256:…` of its first original file."""


@dataclass(frozen=True)
class Sitting:
    """The runs of one session, oldest first."""

    runs: tuple[Placed, ...]

    @property
    def began(self) -> dt.datetime | None:
        return self.runs[0].began


@dataclass(frozen=True)
class Plan:
    """What an import will write below `results`/<suite>; `left_out` says in sentences what it will not, and why."""

    suite: SuiteRef
    sittings: tuple[Sitting, ...]
    left_out: tuple[str, ...]
    seen: frozenset[str] = frozenset()
    """The sessions that the suite had when this was planned, by name."""

    @property
    def runs(self) -> tuple[Placed, ...]:
        return tuple(placed for sitting in self.sittings for placed in sitting.runs)


def plan(
    runs: Sequence[ImportedRun], results: Path, suite: str, *, device: str | None = None, again: bool = False
) -> Plan:
    """Gives each run its place, and leaves out those that the suite has already, unless it is to be `again`.

    Raises UsageError for names that are none, for one device that is several, and for a suite of melt's own runs.
    """
    for what, name in (("suite", suite), ("device", device)):
        if name is not None and not re.fullmatch(NAME, name):
            raise UsageError(f"{what} '{name}': a name is made of a-z, 0-9, '.', '_' and '-', at most 64: choose one")
    ref = SuiteRef(name=suite, sha256=digest_of({"imported": suite}))
    devices = sorted({slug(run.device) for run in runs if run.device})
    if device is not None and len(devices) > 1:
        raise UsageError(
            f"--device {device}: the files are of {len(devices)} devices ({', '.join(devices[:_SHOWN])}): "
            "leave --device out, or import those of each by itself"
        )
    if len(runs) > MOST_RUNS:
        raise UsageError(f"{len(runs)} runs are more than are imported at once ({MOST_RUNS}): name a part of them")
    seen = frozenset(path.name for path in sessions(results / suite))
    known = _known(results / suite, ref)
    left_out: list[str] = []
    wanted: list[tuple[ImportedRun, str]] = []
    paths: dict[str, Path] = {}
    digests: dict[Path, str] = {}
    for run in runs:
        file = next(iter(run.raw.values()), None)
        if file is None:
            left_out.append(f"{run.note.source}: {run.cell or run.workload} has no file that it could be known by")
            continue
        try:
            if sum(path.stat().st_size for path in run.raw.values()) > MOST_RAW_BYTES:
                left_out.append(f"{file}: a run keeps its files, and these are above {MOST_RAW_BYTES >> 30} GiB")
                continue
            digest = digests[file] = digests.get(file) or _digest(file)
        except OSError as error:
            left_out.append(f"{file}: it cannot be read any more: {error.strerror}")
            continue
        if not again and digest in known:
            left_out.append(f"{file} is in session {known[digest]} of {suite} already: --again imports it once more")
        elif paths.setdefault(digest, file) != file:
            left_out.append(f"{file} holds the same as {paths[digest]}: it is one result, and counts once")
        else:
            wanted.append((run, digest))
    placed = _placed(wanted, device)
    return Plan(ref, tuple(_sittings(placed)), tuple(dict.fromkeys(left_out)), seen)


def _known(folder: Path, ref: SuiteRef) -> dict[str, str]:
    """The digest of every original file of the suite's imported runs, and its session."""
    if not folder.is_dir():
        return {}
    known: dict[str, str] = {}
    for path in sessions(folder):
        session = open_session(path)
        if session.record.suite.sha256 != ref.sha256:
            raise UsageError(f"{folder} holds runs of melt's own: give the imported ones another name with --name")
        runs = session.runs()
        if len(runs) < len(session.record.order):
            raise UsageError(f"{path} is an import that was broken off: remove that folder, and import again")
        known |= {digest: path.name for run in runs for digest in run.record.files.values()}
    return known


def _digest(path: Path) -> str:
    with path.open("rb") as data:
        return f"sha256:{hashlib.file_digest(data, 'sha256').hexdigest()}"


def _placed(wanted: Iterable[tuple[ImportedRun, str]], device: str | None) -> list[Placed]:
    """The runs in the order in which they began, those whose time is not told at the end, in their own order."""
    found = [
        Placed(run, device or slug(run.device or NO_DEVICE), run.cell or run.workload, 0, _moment(run), digest)
        for run, digest in wanted
    ]
    found.sort(key=lambda placed: placed.began or _LATEST)
    return _of_one_file(_swept(_apart(found)))


def _apart(found: Sequence[Placed]) -> list[Placed]:
    """Workloads that share a name without being one, as `BM_F<int>/8` and `BM_F<int*>/8` do, by names of their own."""
    called: dict[tuple[str, str], set[str]] = defaultdict(set)
    for placed in found:
        called[placed.device, placed.cell].add(_called(placed))
    return [
        _renamed(placed, _called(placed)) if len(called[placed.device, placed.cell]) > 1 else placed for placed in found
    ]


def _called(placed: Placed) -> str:
    """What its source calls the workload."""
    return str(placed.run.fingerprint.hard.get("workload"))


def _renamed(placed: Placed, called: str) -> Placed:
    mark = hashlib.sha256(called.encode(errors="replace")).hexdigest()[:_MARK]
    workload = f"{placed.run.workload[: _NAME - _MARK - 1]}-{mark}"
    cell = f"{workload}{placed.cell.removeprefix(placed.run.workload)}"
    return replace(placed, cell=cell, run=replace(placed.run, workload=workload))


def _of_one_file(found: Sequence[Placed]) -> list[Placed]:
    """With a caveat where one file holds several runs of a cell: that each was a process is not told."""
    several = Counter((placed.device, placed.cell, placed.digest) for placed in found)
    return [
        placed
        if (many := several[placed.device, placed.cell, placed.digest]) == 1
        else replace(placed, run=replace(placed.run, caveats=(*placed.run.caveats, f"one_file: {many} {_ONE_FILE}")))
        for placed in found
    ]


def _moment(run: ImportedRun) -> dt.datetime | None:
    if run.started_utc is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(run.started_utc)
    except ValueError:
        return None
    return moment.astimezone(dt.UTC) if moment.tzinfo else None


def _swept(found: Sequence[Placed]) -> list[Placed]:
    """The parameters in which the runs of one cell differ become part of its name, as in a suite that sweeps them."""
    of_cell: dict[tuple[str, str], list[Placed]] = defaultdict(list)
    for placed in found:
        of_cell[placed.device, placed.cell].append(placed)
    swept = {key: _differing(mine) for key, mine in of_cell.items()}
    return [
        replace(
            placed, cell=_with(placed.cell, {key: _value(placed, key) for key in swept[placed.device, placed.cell]})
        )
        for placed in found
    ]


def _differing(mine: Sequence[Placed]) -> list[str]:
    keys = dict.fromkeys(key for placed in mine for key in placed.run.resolved if key.startswith("params."))
    return [key for key in keys if len({json.dumps(_value(placed, key), default=str) for placed in mine}) > 1]


def _value(placed: Placed, key: str) -> Any:
    resolved = placed.run.resolved.get(key)
    return resolved.value if resolved else None


def _with(cell: str, point: dict[str, Any]) -> str:
    words = ",".join(f"{key.removeprefix('params.')}={shorten(value)}" for key, value in point.items())
    if not words:
        return cell
    return f"{cell[:-1]},{words}]" if cell.endswith("]") else f"{cell}[{words}]"


def _sittings(placed: Sequence[Placed]) -> Iterable[Sitting]:
    """Runs that began less than `SITTING` after one another, and those whose time is not told, in one session each."""
    groups: list[list[Placed]] = []
    for one in placed:
        last = groups[-1][-1].began if groups else None
        same = groups and (one.began is last if one.began is None or last is None else one.began - last < SITTING)
        if same:
            groups[-1].append(one)
        else:
            groups.append([one])
    for group in groups:
        yield Sitting(tuple(_numbered(group)))


def _numbered(group: Sequence[Placed]) -> Iterable[Placed]:
    """Blocks as the source counts them, where it does and none stands twice in a cell; else in the order of time."""
    told: dict[tuple[str, str], list[int | None]] = defaultdict(list)
    for one in group:
        told[one.device, one.cell].append(one.run.block)
    own = {
        key: None not in blocks and len(set(blocks)) == len(blocks) and min(b for b in blocks if b is not None) >= 0
        for key, blocks in told.items()
    }
    seen: Counter[tuple[str, str]] = Counter()
    for one in group:
        key = (one.device, one.cell)
        block = one.run.block if own[key] and one.run.block is not None else seen[key]
        seen[key] += 1
        yield replace(one, block=block)
