"""The source of llama.cpp, as the source archive of llama-cpp-python carries it, unpacked once into melt's cache."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.places import cache_folder

if TYPE_CHECKING:
    from melt.native.compilers import Say

VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
"""Of the archive. The host's llama-cpp-python must be of the same version, then it is of the same llama.cpp."""
_ROOT = "vendor/llama.cpp/"
_COMMIT = ".git/modules/vendor/llama.cpp/HEAD"
_WANTED = frozenset(["CMakeLists.txt", "LICENSE", "cmake", "common", "ggml", "include", "src", "tools", "vendor"])
"""What its libraries and llama-bench are built from: 45 of 174 MB."""
_NEEDED = ("CMakeLists.txt", "include/llama.h", "src/llama-ext.h", "ggml/include/ggml.h")
_MAX_BYTES = 256 << 20
_MAX_FILES = 20_000
_MAX_COMMIT_BYTES = 100
_FETCH_LIMIT_S = 900
_NO_CONNECTION = re.compile(r"connection broken|Could not fetch URL|ConnectionError|ReadTimeout")


@dataclass(frozen=True)
class LlamaSource:
    """The folder with llama.cpp's CMakeLists.txt, the version of llama-cpp-python that brought it, and its commit."""

    path: Path
    version: str
    commit: str


def llama_source(say: Say | None = None) -> LlamaSource:
    """The source, from the cache or fetched now with pip (77 MB) and unpacked.

    Raises UsageError when it cannot be fetched or kept, or is not what it ought to be.
    """
    target = cache_folder("llama.cpp") / f"source-{VERSION}"
    if not target.is_dir():
        if say:
            say(f"fetching the source of llama.cpp with pip, once: llama-cpp-python {VERSION}, 77 MB")
        with tempfile.TemporaryDirectory(prefix="melt-llama-") as folder:
            unpack(_fetched(Path(folder)), target)
    return LlamaSource(target, VERSION, (target / "COMMIT").read_text().strip())


def _fetched(folder: Path) -> Path:
    """The archive, whose hash pip has compared."""
    if importlib.util.find_spec("pip") is None:
        raise UsageError(
            f"the source of llama.cpp is fetched with pip, which is missing here: {sys.executable} -m ensurepip"
        )
    name = f"llama-cpp-python=={VERSION}"
    (folder / "wanted.txt").write_text(f"{name} --hash=sha256:{SHA256}\n")
    # -P: a file pip.py in the person's folder is not pip
    argv = [sys.executable, "-P", "-m", "pip", "download", "--requirement", "wanted.txt", "--dest", str(folder)]
    argv += ["--no-deps", "--no-binary=llama-cpp-python", "--quiet", "--no-input", "--progress-bar", "off"]
    argv += ["--retries", "2", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_FETCH_LIMIT_S, check=False, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise UsageError(
            f"pip did not fetch {name} within {_FETCH_LIMIT_S} s: mend the network, then try again"
        ) from None
    words = done.stderr.decode(errors="replace")
    if done.returncode and _NO_CONNECTION.search(words):
        raise UsageError(f"pip cannot reach its package index to fetch {name}: mend the network or pip's configuration")
    if "DO NOT MATCH THE HASHES" in words:
        raise UsageError(
            f"the source archive of {name} that pip was given is not the one that melt knows: nothing is used"
        )
    if done.returncode:
        last = (words.strip().splitlines() or ["it said nothing"])[-1][:200]
        raise UsageError(f"pip does not fetch the source of {name} ({last}): mend that, then try again")
    found = list(folder.glob("*.tar.gz"))
    if len(found) != 1:
        raise UsageError(f"pip left {len(found)} source archives for {name}")
    return found[0]


class _Broken(Exception):
    """The archive is not what it ought to be; in what way."""


def unpack(archive: Path, target: Path) -> None:
    """Makes the folder `target` of llama.cpp's part of an archive, whole or not at all.

    Nothing else of it is written, no link is followed or made, no file is executable. Raises UsageError.
    """
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        with tarfile.open(archive, "r:gz") as tar:
            commit = _unpacked(tar, scratch)
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise _Broken(f"it does not tell the commit of llama.cpp in {_COMMIT}")
        for needed in _NEEDED:
            if not (scratch / needed).is_file():
                raise _Broken(f"it has no {_ROOT}{needed}")
        (scratch / "COMMIT").write_text(f"{commit}\n")
        scratch.chmod(0o755)
        if not target.is_dir():
            scratch.rename(target)
    except (_Broken, tarfile.TarError, zlib.error, EOFError) as error:
        raise UsageError(f"the source archive {archive.name} is broken: {error}") from None
    except OSError as error:
        if not target.is_dir():  # else another melt was faster
            raise UsageError(f"the source of llama.cpp cannot be kept as {target}: {error.strerror}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpacked(tar: tarfile.TarFile, folder: Path) -> str:
    """Unpacks what is wanted, and tells the commit."""
    commit, total, files = "", 0, 0
    for member in tar:
        files += 1
        total += member.size
        if files > _MAX_FILES or total > 4 * _MAX_BYTES:
            raise _Broken("it holds more than a source archive of llama-cpp-python does")
        path = member.name.partition("/")[2]
        if path == _COMMIT and member.isreg() and member.size < _MAX_COMMIT_BYTES:
            commit = _content(tar, member).decode(errors="replace").strip()
        if not path.startswith(_ROOT):
            continue
        parts = path[len(_ROOT) :].split("/")
        if parts[0] not in _WANTED or member.isdir():
            continue
        if not member.isreg() or any(part in ("", ".", "..") for part in parts):
            raise _Broken(f"{member.name} is not a plain file in its folder")
        if member.size > _MAX_BYTES:
            raise _Broken(f"{member.name} is larger than {_MAX_BYTES >> 20} MiB")
        file = folder.joinpath(*parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_content(tar, member))
    return commit


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()
