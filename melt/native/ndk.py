"""The runner compiled with Android's own compilers and C library, of an NDK that the person has.

melt's static programs run on Android's kernel without it; this is for what opens the phone's own libraries, a driver of
its graphics processor say. Unproven: no phone has run one.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.native import ninja, source
from melt.native.handed import checked_arguments, cmake_project, runner_digest
from melt.native.llama import NAME
from melt.native.shipped import digest
from melt.places import appearing, cache_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from melt.native.compilers import Say
    from melt.native.levels import Level

_API = 26
"""Android 8: the oldest that melt reaches over adb."""
_ABIS = {"aarch64": "arm64-v8a", "x86_64": "x86_64"}
_TOOLCHAIN = "build/cmake/android.toolchain.cmake"
_COMPILERS = "toolchains/llvm/prebuilt"


def build_with_ndk(ndk: Path, level: Level, arguments: Sequence[str] = (), say: Say | None = None) -> Path:
    """The runner for a level against Android's C library, from the cache or compiled now.

    Raises UsageError when `ndk` is no NDK, a word for cmake is none, something is missing, or its compiler fails.
    """
    words = checked_arguments(arguments)
    compiler = _compiler(ndk, level)
    key = digest((_identity(ndk), str(ndk.resolve()), source.SHA256, level.name, level.gcc, runner_digest(), *words))
    target = cache_folder("native") / key[:32] / NAME
    if target.exists():
        return target
    for program in ("cmake", "ninja"):
        ninja.build_program(program)
    llama = source.llama_source(say)
    folder = cache_folder("llama.cpp") / f"build-{key[:32]}"
    what = f"llama.cpp for Android, {level.name}, with {compiler.name}"
    with ninja.locked(folder.with_suffix(".lock"), what, say) as lock:
        if target.exists():
            return target
        if say:
            say(f"compiling {what}, once: this takes minutes")
        try:
            folder.mkdir(exist_ok=True)
            ninja.configure([*_configuration(ndk, level, folder), f"-DLLAMA_CPP={llama.path}", *words], lock)
            ninja.compile_all(folder, (NAME,), lock, what, say)
            target.parent.mkdir(exist_ok=True)
            with appearing(target) as temporary:
                shutil.copy2(folder / NAME, temporary)
        except (ninja.BuildFailed, OSError) as failed:
            raise UsageError(f"{NAME} does not compile with the NDK {ndk}: {failed}") from None
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _compiler(ndk: Path, level: Level) -> Path:
    """The NDK's compiler for a level, asked for before minutes are spent. Raises UsageError."""
    if not (ndk / _TOOLCHAIN).is_file():
        raise UsageError(f"{ndk} is no Android NDK: it has no {_TOOLCHAIN}")
    name = f"{level.machine}-linux-android{_API}-clang++"
    found = sorted((ndk / _COMPILERS).glob(f"*/bin/{name}"))
    if not found:
        raise UsageError(
            f"the NDK {ndk} has no {_COMPILERS}/*/bin/{name}: install release 25 or later for this computer"
        )
    return found[0]


def _identity(ndk: Path) -> str:
    """What tells one release of the NDK from another."""
    try:
        return (ndk / "source.properties").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _configuration(ndk: Path, level: Level, folder: Path) -> list[str]:
    argv = [ninja.build_program("cmake"), "-S", str(cmake_project()), "-B", str(folder), "-G", "Ninja"]
    argv += [f"-DCMAKE_MAKE_PROGRAM={ninja.build_program('ninja')}", f"-DCMAKE_TOOLCHAIN_FILE={ndk / _TOOLCHAIN}"]
    argv += [f"-DANDROID_ABI={_ABIS[level.machine]}", f"-DANDROID_PLATFORM=android-{_API}", "-DANDROID_STL=c++_static"]
    # the level's own flag says it all, to every file
    argv += ["-DGGML_NATIVE=OFF", f"-DCMAKE_C_FLAGS={level.gcc}", f"-DCMAKE_CXX_FLAGS={level.gcc}"]
    return [*argv, "-DCMAKE_EXE_LINKER_FLAGS=-s", f"-DMELT_LEVEL={level.name}"]
