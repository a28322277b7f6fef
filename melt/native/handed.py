"""What another compiler needs to make the runner: llama.cpp's source and melt's own, and the words for its cmake."""

from __future__ import annotations

import gzip
import re
import tarfile
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.native import source
from melt.native.llama import NAME, runner_texts
from melt.native.shipped import digest
from melt.places import appearing, cache_folder, ondevice_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from melt.native.compilers import Say

_PARTS = ("CMakeLists.txt", "COMMIT", "LICENSE", "cmake", "ggml", "include", "src", "vendor")
"""Of llama.cpp, what its library is made of, for every kind of accelerator; its cmake wants `vendor` to be there."""
_DEFINITION = re.compile(r"-D[A-Za-z_][A-Za-z0-9_]*(:[A-Z]+)?=[^\x00-\x1f]*")
_STAMP_S = 1_600_000_000
"""The one time stamp of every file: the same files are the same archive, and older than what is made of them."""


def checked_arguments(words: Sequence[str]) -> tuple[str, ...]:
    """Words of a person's for cmake. Raises UsageError for one that is no definition: nothing else is handed on."""
    for word in words:
        if not _DEFINITION.fullmatch(word):
            raise UsageError(f"--cmake-arg '{word}' is not of the form -DNAME=VALUE, such as -DGGML_CUDA=ON")
    return tuple(words)


def cmake_project() -> Path:
    """The folder whose CMakeLists.txt makes the runner."""
    return ondevice_sources() / NAME


def runner_digest() -> str:
    """The hash of the runner's source and of how cmake makes it."""
    return digest((*runner_texts(), (cmake_project() / "CMakeLists.txt").read_bytes()))


def llama_archive(say: Say | None = None) -> Path:
    """llama.cpp's source as one archive, from the cache or packed now. Raises UsageError when it cannot be had."""
    llama = source.llama_source(say)
    parts = (llama.path / part for part in _PARTS)
    files = [file for part in parts for file in ([part] if part.is_file() else part.rglob("*")) if file.is_file()]
    name = f"source-{source.VERSION}-{digest((source.SHA256, *_PARTS))[:16]}.tar.gz"
    return _packed(cache_folder("llama.cpp") / name, {str(file.relative_to(llama.path)): file for file in files})


def runner_archive() -> Path:
    """The runner's source with its CMakeLists.txt as one archive."""
    root = ondevice_sources()
    files = [root / "events.h", *(file for file in cmake_project().iterdir() if file.is_file())]
    target = cache_folder("native") / runner_digest()[:32] / f"{NAME}.tar.gz"
    target.parent.mkdir(exist_ok=True)
    return _packed(target, {str(file.relative_to(root)): file for file in files})


def _packed(target: Path, files: dict[str, Path]) -> Path:
    if target.exists():
        return target
    try:
        with (
            appearing(target) as temporary,
            gzip.GzipFile(temporary, "wb", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            _add_all(tar, sorted(files.items()))
    except OSError as error:
        raise UsageError(f"the archive {target} cannot be made: {error.strerror}") from None
    return target


def _add_all(tar: tarfile.TarFile, files: Iterable[tuple[str, Path]]) -> None:
    for name, file in files:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = file.stat().st_size, 0o644, _STAMP_S
        with file.open("rb") as data:
            tar.addfile(member, data)
