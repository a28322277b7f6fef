"""The compilers that can build for a machine: this system's, a cross compiler's, and that of the ziglang wheel."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

MACHINES = ("x86_64", "aarch64")
OLDEST_GLIBC = "2.28"

Say = Callable[[str], None]


def host_machine() -> str:
    """This computer's processor in the kernel's words: `x86_64` or `aarch64`."""
    return platform.machine()


def system_compiler(names: tuple[str, ...], cross: str, machine: str) -> list[list[str]]:
    """The first of this system's compilers for its own machine, or the one called MACHINE-linux-gnu-`cross`."""
    wanted = names if machine == host_machine() else (f"{machine}-linux-gnu-{cross}",)
    return [[found] for found in (shutil.which(name) for name in wanted) if found][:1]


def zig_compiler(verb: str, machine: str, libc: str) -> list[list[str]]:
    """The ziglang wheel's `cc` or `c++` for a machine, where it is installed."""
    if importlib.util.find_spec("ziglang") is None:
        return []
    return [[sys.executable, "-m", "ziglang", verb, "-target", f"{machine}-linux-{libc}"]]


def is_zig(compiler: list[str]) -> bool:
    """Whether this is a compiler of the ziglang wheel."""
    return "ziglang" in compiler


def shown(compiler: list[str]) -> str:
    """What a person calls it."""
    return "zig" if is_zig(compiler) else Path(compiler[0]).name


def identity(compiler: list[str]) -> list[str]:
    """Its words for the name of what it makes: zig is the same in every environment that has it."""
    return ["zig", *compiler[3:]] if is_zig(compiler) else compiler


def compiler_stamp(compiler: list[str]) -> str:
    """Tells one compiler from its successor without starting it: a warm start should cost no process."""
    if is_zig(compiler):
        return f"ziglang {importlib.metadata.version('ziglang')}"
    path = Path(compiler[0]).resolve()
    status = path.stat()
    return f"{path.name} {status.st_size} {status.st_mtime_ns}"
