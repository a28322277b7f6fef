"""llama.cpp for this computer's own Python: one shared library, from the very archives that the runner is linked from.

The package llama-cpp-python brings the Python side of the same version. It is installed without its own copy of
llama.cpp, which would be compiled a second time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.native import llama, ninja
from melt.native.compilers import OLDEST_GLIBC, host_machine, shown, system_compiler, zig_compiler
from melt.native.levels import choose_level
from melt.native.source import VERSION
from melt.places import appearing, cache_folder

if TYPE_CHECKING:
    from melt.native.compilers import Say
    from melt.native.levels import Level

PACKAGE = "llama-cpp-python"
INSTALL = f"pip install --no-cache-dir --config-settings=wheel.cmake=false {PACKAGE}=={VERSION}"
"""Seconds: nothing is compiled. Without --no-cache-dir pip would give the same to whoever asks for a compiled one."""
PLACE_VARIABLE = "LLAMA_CPP_LIB_PATH"
"""Where the package looks, while it is imported, for the folder with its library."""
LIBRARY = "libllama.so"
"""The one file in it that it opens; another, for pictures, would be opened by what melt never calls."""
_LINK = ("-shared", "-s", "-pthread", "-Wl,--no-undefined", f"-Wl,-soname,{LIBRARY}")
_LIBRARIES = ("-ldl", "-lm")


def need_package() -> None:
    """Raise UsageError when llama-cpp-python is absent, or of another version than the runner's llama.cpp."""
    try:
        found = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(
            f"{PACKAGE} is missing, which reads a language model's vocabulary on this computer and quantises: {INSTALL}"
        ) from None
    if found != VERSION:
        raise UsageError(f"{PACKAGE} is {found}, and the llama.cpp that melt measures is that of {VERSION}: {INSTALL}")


def host_library(say: Say | None = None) -> Path:
    """The folder with llama.cpp as a shared library for this computer, from the cache or made now.

    Raises UsageError when there is no compiler or it fails, or the source cannot be had; Unsupported for a processor
    that the runner would not run on either.
    """
    level = choose_level(host_machine(), cpu_flags(Path("/proc/cpuinfo")))
    failures = []
    for compiler in _compilers():
        try:
            return _linked(level, compiler, say)
        except ninja.BuildFailed as failed:
            failures.append(f"{shown(compiler)}: {failed}")
    if failures:
        raise UsageError(f"llama.cpp as a library for this computer does not compile: {failures[-1]}")
    raise UsageError(
        "no compiler can build llama.cpp as a library for this computer: install g++ and libc6-dev, "
        "or pip install 'melt[zig]'"
    )


def cpu_flags(cpuinfo: Path) -> frozenset[str]:
    """What every core of this computer can do, in the kernel's words; nothing when the file does not tell."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    cores = [frozenset(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))]
    return frozenset.intersection(*cores) if cores else frozenset()


def _compilers() -> list[list[str]]:
    """The runner's own, so that nothing is compiled twice; else zig with this system's libc, which musl's is not."""
    machine = host_machine()
    return system_compiler(("g++", "c++", "clang++"), "g++", machine) + zig_compiler(
        "c++", machine, f"gnu.{OLDEST_GLIBC}"
    )


def _linked(level: Level, compiler: list[str], say: Say | None) -> Path:
    """The folder with the linked library. Raises BuildFailed, and UsageError."""
    archives = llama.build_archives(level, compiler, say)
    words = "\0".join((archives[0].parent.name, *_LINK, *_LIBRARIES))
    target = cache_folder("llama.cpp") / f"host-{hashlib.sha256(words.encode()).hexdigest()[:32]}" / LIBRARY
    if target.exists():
        return target.parent
    # whole archives: what the package calls is known to the package
    files = ["-Wl,--whole-archive", *map(str, archives), "-Wl,--no-whole-archive"]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with appearing(target) as temporary:
            error = llama.last_error([*compiler, *_LINK, *files, *_LIBRARIES, "-o", str(temporary)])
            if error is not None:
                raise ninja.BuildFailed(error)
    except OSError as error:
        raise ninja.BuildFailed(str(error)) from None
    return target.parent
