"""What huggingface-hub is asked for: what a file is, and its bytes, from where an earlier download was broken off.

Its own `hf_hub_download` begins again after an interruption; its `http_get` goes on where it is told to.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from melt.errors import Interrupted, MeltError, TransportError, UsageError, nearest
from melt.makers.hub_part import megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from melt.makers.hub import Reference
    from melt.makers.hub_part import Part, Say

_ASK_LIMIT_S = 10.0
_ADDRESS = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Remote:
    """What the hub says of a file."""

    commit: str
    """What the revision stands for."""
    sha256: str | None
    """None for a small file, of which hubs tell git's hash only."""
    size_bytes: int


def need_hub() -> None:
    """Makes huggingface-hub ready: quiet, and without telling its maker anything. Raises UsageError if it is absent."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if endpoint is not None and not _is_address(endpoint):
        raise UsageError("HF_ENDPOINT is set and is no address of a hub: make it https://HOST, or unset it")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # it is read once, when the library is imported
    try:
        from huggingface_hub.utils import disable_progress_bars, logging  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        msg = "fetching a model from a hub needs the huggingface-hub package: pip install 'melt[hub]'"
        raise UsageError(msg) from error
    disable_progress_bars()
    logging.set_verbosity_error()


def ask(reference: Reference, cached: tuple[str, ...]) -> Remote:
    """What the hub says of the file; `cached` are commits of it that are here, named when the hub cannot be reached.

    Raises UsageError where the hub has no such thing, or not for this person, TransportError.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415 - an optional extra

    with _blame(reference, cached):
        url = hf_hub_url(reference.repo, reference.file, revision=reference.revision)
        told = get_hf_file_metadata(url, timeout=_ASK_LIMIT_S, library_name="melt")
    commit, etag = told.commit_hash or "", told.etag or ""
    if not _COMMIT.fullmatch(commit) or told.size is None or told.size < 0:
        raise TransportError(
            f"{_hub()} answers, but not as a hub does: no commit or no size of {reference}; look at HF_ENDPOINT"
        )
    if reference.is_commit and commit != reference.revision:
        raise TransportError(f"{_hub()} answers with commit {commit} for {reference}: nothing is fetched")
    return Remote(commit, etag if _SHA256.fullmatch(etag) else None, told.size)


def download(reference: Reference, remote: Remote, part: Part, say: Say) -> str:
    """Fetches what `part` lacks; the sha256 of the whole, checked against the hub's.

    What came is left in the part when the line breaks or a person interrupts; what is not the hub's file is removed.
    Raises UsageError, TransportError, Interrupted.
    """
    from huggingface_hub import constants, hf_hub_url  # noqa: PLC0415 - an optional extra
    from huggingface_hub.file_download import http_get  # noqa: PLC0415
    from huggingface_hub.utils import build_hf_headers  # noqa: PLC0415

    size_bytes, done = remote.size_bytes, part.size_bytes()
    if done > size_bytes:
        part.truncate(0)
        done = 0
    if size_bytes > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise UsageError(
            f"{reference} has {size_bytes} bytes, more than hubs send as one file: "
            f"fetch it with 'hf download {reference.repo} {reference.file}', then name its path"
        )
    _check_space(part, size_bytes - done)
    begins = f", going on from {megabytes(done)}" if done else ""
    say(f"fetching {reference} from {_hub()}, once: {megabytes(size_bytes)}{begins}")
    url = hf_hub_url(reference.repo, reference.file, revision=remote.commit)
    headers = {**build_hf_headers(library_name="melt"), "Accept-Encoding": "identity"}
    part.watched(reference.file, size_bytes, say)
    part.seek(done)
    try:
        with _blame(reference, (), part):
            http_get(url, part, resume_size=done, headers=headers, expected_size=size_bytes)
    except (TransportError, Interrupted, KeyboardInterrupt):
        if part.exists() and part.size_bytes():
            say(f"{megabytes(part.size_bytes())} of {reference.file} are kept: the same command goes on from there")
        raise
    if part.size_bytes() != size_bytes:
        raise part.refused(f"{_hub()} sent {part.size_bytes()} bytes of {reference} and had said {size_bytes}")
    os.fsync(part.fileno())
    part.seek(0)
    sha256 = hashlib.file_digest(part, "sha256").hexdigest()
    if remote.sha256 is None:
        say(f"{_hub()} tells no sha256 of {reference.file}: it is noted, and compared with nothing")
    elif sha256 != remote.sha256:
        raise part.refused(f"what {_hub()} sent of {reference} has sha256 {sha256} and had to have {remote.sha256}")
    return sha256


def _check_space(part: Part, more_bytes: int) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if free < more_bytes:
        raise _full(part, f"{more_bytes} more bytes are to come and {free} are free")


def _full(part: Part, why: str) -> UsageError:
    there = part.size_bytes()
    kept = f"; {megabytes(there)} are kept, and the same command goes on from there" if there else ""
    return UsageError(f"folder {part.path.parent} has no space for the model: {why}: make room{kept}")


@contextlib.contextmanager
def _blame(reference: Reference, cached: tuple[str, ...], part: Part | None = None) -> Iterator[None]:
    """Makes one sentence of whatever huggingface-hub and the libraries below it raise."""
    from huggingface_hub import errors  # noqa: PLC0415 - an optional extra

    try:
        yield
    except MeltError:
        raise
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{reference.repo} is for those who agreed to its terms: agree on its page at {_hub()}, then set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{_hub()} has no repository {reference.repo}, or not for you: correct the name, or set HF_TOKEN to a "
            "token that may read it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(
            f"{reference.repo} has no revision '{reference.revision}': name a branch, a tag or a commit after the @"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise UsageError(
            f"{reference.repo} has no file '{reference.file}' at '{reference.revision}': {_nearest_file(reference)}"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refusal(reference, error.response.status_code, part) from error
    except errors.OfflineModeIsEnabled as error:
        raise UsageError(f"{reference} is not here, and HF_HUB_OFFLINE is set: unset it{_offline(cached)}") from error
    except errors.HTTPError as error:  # httpx's or httpx2's, whichever the library stands on
        what = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise TransportError(
            f"{_hub()} cannot be reached, or broke off ({what}): mend the network, or set HF_ENDPOINT{_offline(cached)}"
        ) from error
    except OSError as error:
        if part is None:
            raise TransportError(f"{_hub()} cannot be reached ({error}): mend the network{_offline(cached)}") from error
        if error.errno in _FULL:
            raise _full(part, str(error.strerror).lower()) from error
        if error.errno is None:  # its sentence on a body of another length than was said
            raise part.refused(
                f"{_hub()} sent {part.tell()} bytes of {reference}, which is not what it had said"
            ) from error
        raise
    except ValueError as error:
        what = str(error).splitlines()[0][:200]
        raise UsageError(f"{reference} cannot be asked for ({what}): look at HF_TOKEN and HF_ENDPOINT") from error


def _refusal(reference: Reference, status: int, part: Part | None) -> MeltError:
    """What a hub's answer means that is none of its own kinds of refusal."""
    if status == 416 and part is not None:  # noqa: PLR2004 - what came is longer than what there is
        return part.refused(f"{_hub()} has no more bytes of {reference} than came")
    if status in (401, 403):
        return UsageError(
            f"{_hub()} refuses {reference} ({status}): set HF_TOKEN to a token that may read it, or correct the name"
        )
    return TransportError(f"{_hub()} answers {status} when asked for {reference}: try again later")


def _is_address(text: str) -> bool:
    try:
        return _ADDRESS.fullmatch(text) is not None and bool(urlsplit(text).hostname) and urlsplit(text).port != 0
    except ValueError:
        return False


def _nearest_file(reference: Reference) -> str:
    """The repository's file that may have been meant, if the hub lists them."""
    from huggingface_hub import HfApi  # noqa: PLC0415 - an optional extra

    try:
        told = HfApi(library_name="melt").model_info(reference.repo, revision=reference.revision, timeout=_ASK_LIMIT_S)
        files = [one.rfilename for one in told.siblings or ()]
    except Exception:  # noqa: BLE001 - a hint: whatever it fails of, the file still is not there
        files = []
    alike = [file for file in files if Path(file).suffix == Path(reference.file).suffix]
    return nearest(reference.file, alike or files) if files else "correct its name"


def _offline(cached: tuple[str, ...]) -> str:
    return f"; the file of commit {cached[0]} is here: name that after the @" if cached else ""


def _hub() -> str:
    """The hub's name for a person, without a password that its address may hold."""
    from huggingface_hub import constants  # noqa: PLC0415 - an optional extra

    return urlsplit(str(constants.ENDPOINT)).netloc.rpartition("@")[2]
