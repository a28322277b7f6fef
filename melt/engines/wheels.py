"""ONNX Runtime's library for another processor, out of the wheel of the version that is installed here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from melt.errors import Unsupported, UsageError
from melt.places import cache_folder, write_whole

_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}
_PLATFORM = "manylinux_2_28"
"""The oldest glibc that melt's runner for another computer needs too."""
_MEMBER = re.compile(r"onnxruntime/capi/libonnxruntime\.so(\.[0-9]+){0,4}")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MAX_BYTES = 256 << 20
"""Ten times what the library takes, and more than what the wheel does."""
_FETCH_LIMIT_S = 600
_OTHERWISE = "name a library that is on the device in its profile, engines.onnxruntime.library"
_NO_CONNECTION = re.compile(r"connection broken|Could not fetch URL|ConnectionError|ReadTimeout")
"""How pip tells that it did not get to ask; its last line says 'no matching distribution' then as well."""

Say = Callable[[str], None]


def onnxruntime_library(machine: str, say: Say | None = None) -> Path:
    """The library for a `machine`, of the version installed here: from the cache, or fetched now with pip.

    Raises UsageError when it cannot be fetched or kept, Unsupported when there is none for that machine.
    """
    if machine not in _ELF_MACHINES:
        raise Unsupported(f"melt has no ONNX Runtime library for {machine}: {_OTHERWISE}")
    try:
        version = importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        raise UsageError("engine onnxruntime needs the package of that name: pip install 'melt[onnx]'") from None
    target = cache_folder("libraries") / f"libonnxruntime-{version}-{machine}.so"
    if target.exists():
        return target
    if importlib.util.find_spec("pip") is None:
        raise UsageError(
            f"the ONNX Runtime library for {machine} is fetched with pip, which is missing here: "
            f"{sys.executable} -m ensurepip, or {_OTHERWISE}"
        )
    if say:
        say(f"fetching onnxruntime {version} for {machine} with pip, once")
    try:
        with tempfile.TemporaryDirectory(prefix="melt-wheel-") as folder:
            write_whole(target, _library_in(_fetched(version, machine, Path(folder)), machine))
    except OSError as error:
        raise UsageError(
            f"the ONNX Runtime library for {machine} cannot be kept as {target}: {error.strerror}: mend that, or name "
            "another cache folder with XDG_CACHE_HOME"
        ) from None
    return target


def _fetched(version: str, machine: str, folder: Path) -> Path:
    """The wheel, fetched into `folder`; nothing of it is run."""
    wheel = f"onnxruntime=={version}"
    # -P: a file pip.py in the person's folder is not pip
    argv = [sys.executable, "-P", "-m", "pip", "download", wheel, "--dest", str(folder), "--no-deps"]
    argv += ["--only-binary=:all:", "--platform", f"{_PLATFORM}_{machine}", "--implementation", "cp"]
    argv += ["--python-version", f"{sys.version_info.major}.{sys.version_info.minor}"]
    argv += ["--quiet", "--no-input", "--progress-bar", "off", "--retries", "2", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_FETCH_LIMIT_S, check=False, cwd=folder
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"pip did not fetch {wheel} for {machine} within {_FETCH_LIMIT_S} s: {_OTHERWISE}") from None
    words = done.stderr.decode(errors="replace")
    if done.returncode:
        _refuse(wheel, machine, words)
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise UsageError(f"pip left {len(found)} wheels for {wheel} and {machine}: {_OTHERWISE}")
    return found[0]


def _refuse(wheel: str, machine: str, words: str) -> NoReturn:
    if _NO_CONNECTION.search(words):
        raise UsageError(
            f"pip cannot reach its package index to fetch {wheel} for {machine}: mend the network or pip's "
            f"configuration, or {_OTHERWISE}"
        )
    if "No matching distribution" in words:
        raise Unsupported(f"there is no wheel of {wheel} for {machine} and {_PLATFORM}: {_OTHERWISE}")
    last = (words.strip().splitlines() or ["it said nothing"])[-1][:200]
    raise UsageError(f"pip does not fetch {wheel} for {machine} ({last}): mend that, or {_OTHERWISE}")


class _Broken(Exception):
    """The wheel is not what it ought to be; in what way."""


def _library_in(wheel: Path, machine: str) -> bytes:
    """The library that the wheel holds, and nothing else of it. Raises UsageError when the wheel is broken."""
    try:
        if wheel.stat().st_size > _MAX_BYTES:
            raise _Broken(f"it is larger than {_MAX_BYTES >> 20} MiB")
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(_member(archive))  # no more than the size that was looked at, and the checksum fits
    except (_Broken, zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise UsageError(f"the wheel {wheel.name} is broken: {error}: {_OTHERWISE}") from None
    # an ELF file of 64 bits, little-endian; the processor stands at 18
    if data[:6] != b"\x7fELF\x02\x01" or int.from_bytes(data[18:20], "little") != _ELF_MACHINES[machine]:
        raise UsageError(f"the wheel {wheel.name} is broken: its library is not one for {machine}: {_OTHERWISE}")
    return data


def _member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    found = sorted((m for m in archive.infolist() if _MEMBER.fullmatch(m.filename)), key=lambda m: m.filename)
    if not found:
        raise _Broken("it has no onnxruntime/capi/libonnxruntime.so")
    member, mode = found[0], found[0].external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _Broken(f"{member.filename} is not a regular file")
    if member.compress_type not in _METHODS:
        raise _Broken(f"{member.filename} is compressed in a way that wheels are not")
    if member.file_size > _MAX_BYTES:
        raise _Broken(f"{member.filename} is larger than {_MAX_BYTES >> 20} MiB")
    return member
