"""The index of a suite: made from its run folders, which are the truth, and brought up to date before it is read."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.history.copies import copies
from melt.history.file import Kept, alone, load, save
from melt.history.folders import Level, level_of, listing, shown
from melt.history.rows import Rows, beyond, compact, identities, joined, only, stamps, together
from melt.history.table import COLUMNS, INDEX
from melt.store import StoredRun, Unreadable, open_session, read_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

    from melt.history.file import Damage
    from melt.history.folders import Listing, RunFolder

_BATCH = 2000
"""Runs that are gathered before they become a table."""
_WORTH_TELLING = 2000


@dataclass(frozen=True)
class Index:
    """Every run at or below a folder, a row a run and metric: `frame` has the columns of `melt.history.table.COLUMNS`.

    A run that is there twice, as copies of a folder leave it, is in it once. Words are categoricals. `unreadable` are
    the runs that are in no row, and analyses that were not applied to theirs.
    """

    frame: pd.DataFrame
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    kept: bool = True
    """Whether these rows lie in index.parquet too, and not in memory alone."""


def refresh(suite: Path, *, say: Callable[[str], None] | None = None) -> Index:
    """Brings a suite's index.parquet up to date, and gives it.

    Only run folders that are new, or whose records changed, are read. What cannot be written is a note, and the rows
    are right all the same. Raises UsageError for a folder that cannot be listed.
    """
    return _index([_current(suite, say)])


def rebuild(suite: Path, *, say: Callable[[str], None] | None = None) -> Index:
    """Makes a suite's index.parquet from its run folders alone, and gives it. Raises as `refresh` does."""
    return _index([_written(suite, say, anew=True)])


def after_session(suite: Path) -> tuple[str, ...]:
    """Brings the index up to date when a session has ended; whatever goes wrong is a note, for the runs are kept."""
    try:
        return refresh(suite).notes
    except Exception as error:  # noqa: BLE001 - no measurement fails because its table could not be written
        return (f"{suite / INDEX} was not brought up to date: {error}; 'melt index {suite}' makes it anew",)


def read(path: Path, *, say: Callable[[str], None] | None = None) -> Index:
    """Every run of a folder of results, a suite's, a session's or a run's; the suites' indexes are refreshed.

    Raises UsageError for a folder without results.
    """
    level = _level(path)
    if level in ("session", "run"):
        return _index([_part(path.resolve(), level, say)])
    return _index([_current(suite, say) for suite in suites(path)], _closed(path) if level == "results" else [])


def suites(path: Path) -> list[Path]:
    """The suites' folders below a folder of results, or the one that it is or lies in. Raises UsageError."""
    level = _level(path)
    if level == "results":
        return [one for one in _folders(path) if level_of(one) == "suite"]
    above = path.resolve()
    return [{"suite": path, "session": above.parent, "run": above.parent.parent}[level]]


def _level(path: Path) -> Level:
    level = level_of(path) if path.is_dir() else None
    if level is None:
        raise UsageError(f"{path} holds no results: name a folder that 'melt run' wrote, such as results/demo")
    return level


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))


def _closed(path: Path) -> list[str]:
    """Of each folder of the results that may not be looked into, that it is not among them."""
    closed = [one for one in _folders(path) if not os.access(one, os.R_OK | os.X_OK)]
    return [f"{one} may not be read by this user: what it holds is left out" for one in closed]


@dataclass(frozen=True)
class _State:
    """What is known of a suite."""

    kept: Kept
    suite: Path
    unreadable: tuple[Unreadable, ...] = ()
    notes: tuple[str, ...] = ()
    written: bool = True

    def below(self, parts: Sequence[str]) -> _State:
        """Of a session, or of one run: the parts of its path below the suite's."""
        path, folder = self.suite.joinpath(*parts), "/".join(map(shown, parts))

        def inside(name: str) -> bool:
            return name == folder or name.startswith(f"{folder}/")

        # which runs count is found over the session alone: the runs of a copy that is asked for by name are no copies
        session = joined([only(self.kept.table, lambda name: name.startswith(f"{shown(parts[0])}/"))])
        damaged = {name: found for name, found in self.kept.damaged.items() if inside(name)}
        here = tuple(one for one in self.unreadable if one.path == path or path in one.path.parents)
        return replace(self, kept=Kept(compact(only(session, inside)), damaged), unreadable=here)


def _current(suite: Path, say: Callable[[str], None] | None) -> _State:
    """Of the index where it is up to date, which takes no lock; else it is written."""
    found, listed = load(suite), _listing(suite)
    if isinstance(found, Kept):
        known = stamps(found.table)
        fresh = _fresh(listed, known)
        unchanged = len(listed.runs) - len(fresh) == len(known)
        # what is listed and cannot be read is no reason to write, and is looked at again each time
        if unchanged and all(isinstance(_run(one), Unreadable | None) for one in fresh):
            return _updated(suite, listed, found, None)
    return _written(suite, say)


def _written(suite: Path, say: Callable[[str], None] | None, *, anew: bool = False) -> _State:
    """Of the index after it was brought up to date; of the same rows where it cannot be written."""
    with alone(suite) as why_not:
        found = None if anew else load(suite)  # another writer may have been here since it was last read
        state = _updated(suite, _listing(suite), found if isinstance(found, Kept) else None, say)
        notes = [f"{found}: it is made anew"] if isinstance(found, str) else []
        failed = why_not
        if failed is None and state.kept is not found:
            try:
                save(suite, state.kept)
            except OSError as error:
                failed = f"{suite} cannot be written ({error.strerror})"
        if failed is not None:
            notes.append(f"index.parquet was not brought up to date, the rows read now are: {failed}")
        return replace(state, notes=tuple(notes), written=failed is None)


def _part(path: Path, level: Level, say: Callable[[str], None] | None) -> _State:
    """Of a session or a run; no index is written beside one that does not lie in its suite's folder."""
    suite = path.parent if level == "session" else path.parent.parent
    parts = path.relative_to(suite).parts
    if _at_home(suite / parts[0], suite):
        return _current(suite, say).below(parts)
    return replace(_updated(suite, _listing(suite, parts), None, say), written=False)


def _at_home(session: Path, suite: Path) -> bool:
    try:
        return open_session(session).record.suite.name == suite.name
    except UsageError:
        return False


def _listing(suite: Path, parts: Sequence[str] = ()) -> Listing:
    try:
        return listing(suite, parts)
    except OSError as error:
        raise UsageError(f"{suite} cannot be listed: {error.strerror}: mend that and call again") from None


def _updated(suite: Path, listed: Listing, kept: Kept | None, say: Callable[[str], None] | None) -> _State:
    """With the rows of every run that is listed: those kept whose stamp is still the same, and the others read.

    The state holds `kept` itself where that has nothing to be changed.
    """
    known = stamps(kept.table) if kept is not None else {}
    fresh = _fresh(listed, known)
    same = listed.runs.keys() - {run.name for run in fresh}
    read_now, damaged, unreadable = _read(fresh, say if len(fresh) >= _WORTH_TELLING else None)
    broken = (*listed.unreadable, *unreadable)
    if kept is not None:
        if not read_now and len(same) == len(known):
            return _State(kept, suite, broken)
        damaged |= {name: found for name, found in kept.damaged.items() if name in same}
        read_now = [only(kept.table, same.__contains__), *read_now]
    return _State(Kept(joined([COLUMNS.empty_table(), *read_now]), damaged), suite, broken)


def _fresh(listed: Listing, known: Mapping[str, str]) -> list[RunFolder]:
    """What is listed and not known as it now is."""
    return [run for name, run in listed.runs.items() if known.get(name) != run.stamp]


def _read(
    folders: Sequence[RunFolder], say: Callable[[str], None] | None
) -> tuple[list[pa.Table], dict[str, tuple[Damage, ...]], list[Unreadable]]:
    """The rows of some runs, analyses that are not applied to them, and the runs that cannot be read."""
    tables: list[pa.Table] = []
    damaged: dict[str, tuple[Damage, ...]] = {}
    unreadable: list[Unreadable] = []
    for begin in range(0, len(folders), _BATCH):
        rows = Rows()
        for folder in folders[begin : begin + _BATCH]:
            run = _run(folder)
            if isinstance(run, Unreadable):
                unreadable.append(run)
            elif run is not None:
                rows.add(folder.name, folder.stamp, run.record)
                if run.damaged:
                    damaged[folder.name] = tuple((one.path.name, one.why) for one in run.damaged)
        if len(rows):
            tables.append(rows.table())
        if say is not None:
            say(f"reading runs into the index: {min(begin + _BATCH, len(folders))} of {len(folders)}")
    return tables, damaged, unreadable


def _run(folder: RunFolder) -> StoredRun | Unreadable | None:
    """The run of a folder; None where the folder is gone since it was listed."""
    run = read_run(folder.path)
    if isinstance(run, Unreadable):
        return run if folder.path.exists() else None
    too_large = beyond(run.record)
    return run if too_large is None else Unreadable(run.path, too_large)


def _index(states: Sequence[_State], notes: Sequence[str] = ()) -> Index:
    tables, copied = _each_once(states)
    table = tables[0] if len(tables) == 1 else together(tables)
    unreadable = [one for state in states for one in (*state.unreadable, *_not_applied(state))]
    told = [note for state in states for note in (*state.notes, *_contents(state.kept.table))]
    return Index(table.to_pandas(), tuple(unreadable), (*notes, *told, *copied), all(state.written for state in states))


def _each_once(states: Sequence[_State]) -> tuple[list[pa.Table], list[str]]:
    """The states' tables without copies of runs, and notes that say which are left out."""
    found = [(state.suite, identities(state.kept.table)) for state in states]
    left_out, notes = copies(found)
    tables = [state.kept.table for state in states]
    for at, (suite, runs) in enumerate(found):
        if suite in left_out:
            tables[at] = compact(only(tables[at], (runs.keys() - left_out[suite]).__contains__))
    return tables, notes


def _not_applied(state: _State) -> list[Unreadable]:
    found = state.kept.damaged.items()
    return [Unreadable(state.suite / folder / name, why) for folder, damage in found for name, why in damage]


def _contents(table: pa.Table) -> list[str]:
    """A note on suites of one name whose files were not the same."""
    pairs = table.select(["suite", "suite_sha256"]).group_by(["suite", "suite_sha256"]).aggregate([]).to_pylist()
    digests: dict[str, list[str]] = {}
    for pair in pairs:
        digests.setdefault(pair["suite"], []).append(pair["suite_sha256"][:12])
    return [
        f"suite {suite}: {len(found)} contents bear that name here (sha256 {_some(found)}), and the index holds the "
        "runs of them all; the fingerprints tell what differs"
        for suite, found in digests.items()
        if len(found) > 1
    ]


def _some(words: Sequence[str], most: int = 4) -> str:
    return ", ".join(sorted(words)[:most]) + (", …" if len(words) > most else "")
