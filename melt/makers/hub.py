"""Models of a hub: what a reference names, where its file is kept, and the note beside it that says what it is."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationError

from melt.errors import MeltError, UsageError
from melt.makers.hub_part import alone
from melt.places import appearing, cache_folder, write_whole
from melt.records import Strict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from melt.makers.hub_part import Say

MAX_LENGTH = 512
"""Of a reference, in characters."""
SCHEME = "hf:"
NOTE_SUFFIX = ".hub.json"
_NOTE_MAX_BYTES = 64 << 10
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
"""Of an organisation, a person or a repository, as hubs allow it."""
_FILE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=,-]{0,199}")
"""It never begins with a dot, so the parts of downloads, which do, are never taken for a file."""
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,199}")


@dataclass(frozen=True)
class Reference:
    """One file of one repository of a hub, at a branch, a tag or a commit."""

    repo: str
    """ORG/REPO."""
    file: str
    """Its path in the repository."""
    revision: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}/{self.file}@{self.revision}"

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a whole commit, so that the file can never become another one."""
        return _COMMIT.fullmatch(self.revision) is not None


class Provenance(Strict):
    """The note beside a file that was fetched."""

    source: Annotated[str, Field(max_length=MAX_LENGTH + len(f"{SCHEME}@main"))]
    """hf:ORG/REPO/FILE@REVISION, as it was first asked for."""
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """What the revision stood for then."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]

    def is_of(self, reference: Reference, commit: str) -> bool:
        """Whether it is about this file of this commit, whatever the revision was called."""
        name = f"{SCHEME}{reference.repo}/{reference.file}"
        return self.commit == commit and self.source.partition("@")[0] == name


@dataclass(frozen=True)
class Fetched:
    """A file of a hub on this computer."""

    path: Path
    provenance: Provenance


def parse_reference(text: str) -> Reference:
    """The reference `ORG/REPO/FILE@REVISION`, with or without `hf:`; `main` where no revision is said.

    Raises UsageError for what is none, whatever it is.
    """
    shown = text if len(text) <= MAX_LENGTH else f"{text[:60]}…"

    def wrong(what: str) -> UsageError:
        return UsageError(f"'{shown}' names no file of a hub: {what}; write hf:ORG/REPO/FILE@REVISION")

    plain = text.removeprefix(SCHEME)
    if len(plain) > MAX_LENGTH:
        raise wrong(f"it is longer than {MAX_LENGTH} characters")
    path, at, revision = plain.partition("@")
    organisation, _, rest = path.partition("/")
    repo, _, file = rest.partition("/")
    for what, name in (("organisation", organisation), ("repository", repo)):
        if not _NAME.fullmatch(name) or ".." in name or "--" in name or name.endswith(".git"):
            raise wrong(f"'{name[:100]}' is no name of {'an' if what[0] == 'o' else 'a'} {what}")
    for part in file.split("/"):
        if not _FILE_PART.fullmatch(part) or ".." in part:
            raise wrong(f"'{part[:100]}' is no part of a file's name" if file else "the file is missing")
    if file.endswith(NOTE_SUFFIX):
        raise wrong(f"a name that ends in {NOTE_SUFFIX} is one of melt's own notes")
    revision = revision if at else "main"
    if not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision or revision.endswith("/"):
        raise wrong(f"'{revision[:100]}' is no branch, tag or commit")
    return Reference(f"{organisation}/{repo}", file, revision)


def note_path(path: Path) -> Path:
    """Where the note of a file that was fetched lies: beside it."""
    return path.with_name(path.name + NOTE_SUFFIX)


def provenance(path: Path) -> Provenance | None:
    """What the note beside a file says; None where there is none that can be read."""
    try:
        with note_path(path).open("rb") as file:
            return Provenance.model_validate_json(file.read(_NOTE_MAX_BYTES))
    except (OSError, ValidationError):
        return None


def get(
    reference: Reference, say: Say, *, out: Path | None = None, cancelled: Callable[[], bool] = lambda: False
) -> Fetched:
    """The file of a reference: at `out`, or in melt's cache; without a network if it is there and the commit is said.

    It appears whole and with the hash that the hub tells, or not at all; a download that was broken off goes on from
    what came. Raises UsageError for what the person can correct, TransportError when the hub cannot be reached or
    sends something else than it says, Interrupted when `cancelled`.
    """
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"model {out}: the folder {out.parent} does not exist; make it first")
    if out is not None and out.is_dir():
        raise UsageError(f"model {out}: is a folder; name a file in it")
    try:
        return _get(reference, say, out, cancelled)
    except MeltError:
        raise
    except OSError as error:
        where = out or _folder(reference)
        raise UsageError(
            f"model {where}: {reference} cannot be kept there ({error.strerror or error}); "
            "choose a folder that has space and that you may write to"
        ) from error


def _get(reference: Reference, say: Say, out: Path | None, cancelled: Callable[[], bool]) -> Fetched:
    kept = _kept(reference, reference.revision, out) if reference.is_commit else None
    if kept is not None:
        return kept
    from melt.makers import hub_download  # noqa: PLC0415 - needs huggingface-hub

    hub_download.need_hub()
    remote = hub_download.ask(reference, _commits(reference))
    kept = _kept(reference, remote.commit, out, remote.sha256)
    if kept is not None:
        return kept
    target = out or _place(reference, remote.commit)
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(f"{reference.repo}/{reference.file}@{remote.commit}".encode()).hexdigest()
    part = target.with_name(f".{target.name[:64]}.{digest[:16]}.part")
    with alone(part, say, cancelled) as file:
        kept = _kept(reference, remote.commit, out, remote.sha256)
        if kept is not None:  # another melt fetched it while this one waited
            part.unlink()
            return kept
        sha256 = hub_download.download(reference, remote, file, say)
        size_bytes = os.fstat(file.fileno()).st_size
        note = Provenance(source=str(reference), commit=remote.commit, sha256=sha256, size_bytes=size_bytes)
        _write_note(target, note)  # first: a file without a note would be fetched again
        part.replace(target)
    return Fetched(target, note)


def _folder(reference: Reference) -> Path:
    return cache_folder("models") / "hub" / reference.repo


def _place(reference: Reference, commit: str) -> Path:
    """Where the cache has the file: its own name stays the last part, so that files of a set lie beside each other."""
    return _folder(reference) / commit / reference.file


def _commits(reference: Reference) -> tuple[str, ...]:
    """The commits whose file is in the cache, the last fetched first."""
    folder = _folder(reference)
    found = [path for path in folder.glob("*") if _COMMIT.fullmatch(path.name) and _noted(path / reference.file)]
    return tuple(path.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True))


def _noted(path: Path) -> Fetched | None:
    """The file, if it is there as its note says, by its size."""
    note = provenance(path)
    if note is None or not path.is_file() or path.stat().st_size != note.size_bytes:
        return None
    return Fetched(path, note)


def _kept(reference: Reference, commit: str, out: Path | None, sha256: str | None = None) -> Fetched | None:
    """The file of a commit, if it need not be fetched: at `out`, in the cache, or there under another commit."""
    there = _noted(out) if out else None
    if there is not None and there.provenance.is_of(reference, commit) and _is_unchanged(there):
        return there
    cached = _noted(_place(reference, commit)) or (_linked(reference, commit, sha256) if sha256 else None)
    if out is None or cached is None:
        return cached
    with appearing(out) as temporary:
        shutil.copyfile(cached.path, temporary)
        _write_note(out, cached.provenance)
    return Fetched(out, cached.provenance)


def _is_unchanged(there: Fetched) -> bool:
    """Read again, because a file outside the cache is a person's own, and may be another of the same size."""
    with there.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == there.provenance.sha256


def _linked(reference: Reference, commit: str, sha256: str) -> Fetched | None:
    """The file of another commit that is the same, under this one too: a branch moves on, its weights seldom do."""
    for other in _commits(reference):
        twin = _noted(_place(reference, other))
        if twin is None or twin.provenance.sha256 != sha256:
            continue
        target = _place(reference, commit)
        note = twin.provenance.model_copy(update={"source": str(reference), "commit": commit})
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_note(target, note)
            target.hardlink_to(twin.path)
        except OSError:  # no such links here, or another melt was faster: fetched or found there later
            return None
        return Fetched(target, note)
    return None


def _write_note(path: Path, note: Provenance) -> None:
    write_whole(note_path(path), f"{note.model_dump_json(indent=1)}\n".encode())
