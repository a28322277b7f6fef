"""Compiles llama.cpp's libraries once for each level and compiler, and melt's runner against them.

The libraries take minutes and change with the version of llama.cpp; the runner takes seconds and changes with its own
source. Both are static, so a device needs nothing of its own, and both are kept under a hash of all that made them.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from melt.errors import UsageError
from melt.native import ninja, source
from melt.native.compilers import (
    compiler_stamp,
    host_machine,
    identity,
    is_zig,
    shown,
    system_compiler,
    zig_compiler,
)
from melt.native.shipped import digest, shipped_program
from melt.places import appearing, cache_folder, ondevice_sources

if TYPE_CHECKING:
    from melt.native.compilers import Say
    from melt.native.levels import Level

NAME = "llama_runner"
_TARGETS = ("llama", "ggml")
_ARCHIVES = ("src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a")
"""In the order that a linker wants."""
_INCLUDES = ("include", "ggml/include", "src")
_RUNNER_LIMIT_S = 600
# Position-independent, so that a shared library can be linked from the same archives.
_COMPILE = ("-fPIC", "-ffunction-sections", "-fdata-sections")
_ZIG_COMPILE = ("-g0",)
"""zig writes six times as much otherwise, for a debugger."""
# What computes is compiled for speed, as llama.cpp does it; the rest, which is most of it, for size as well.
_SMALLER = "-O2 -fno-align-functions -fno-align-loops -fno-align-jumps -DNDEBUG"
_GGML = 'set(CMAKE_C_FLAGS_RELEASE "-O3 -DNDEBUG")\nset(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")\n'
_SWITCHES = (
    "-DCMAKE_BUILD_TYPE=Release",
    f"-DCMAKE_C_FLAGS_RELEASE={_SMALLER}",
    f"-DCMAKE_CXX_FLAGS_RELEASE={_SMALLER}",
    "-DBUILD_SHARED_LIBS=OFF",
    # the level's own flag says it all, to every file
    *(f"-DGGML_{name}=OFF" for name in ("NATIVE", "SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C")),
    # a thread pool of ggml's own does as well, and every compiler can link it statically
    "-DGGML_OPENMP=OFF",
    "-DGGML_CCACHE=OFF",
    *(f"-DLLAMA_BUILD_{name}=OFF" for name in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER", "APP", "UI")),
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    # the commit is told, not asked of a repository that the cache may happen to lie in
    "-DCMAKE_DISABLE_FIND_PACKAGE_Git=ON",
    "-DGIT_EXE=",
    "-DGIT_EXECUTABLE=",
)
_LINK = ("-std=c++17", "-O2", "-g0", "-s", "-static", "-Wl,--gc-sections", "-pthread")
_MUSL_STACK = "-Wl,-z,stack-size=8388608"
"""musl gives threads 128 kB otherwise."""


def build_llama_runner(level: Level, *, say: Say | None = None) -> Path:
    """The language-model runner for a level: the one that came with melt, or from the cache, or compiled now.

    `say` is told how far that is. Raises UsageError when cmake, ninja or a compiler is missing or fails, or the source
    cannot be had.
    """
    came_along = shipped_program(NAME, level.name, made_from(level))
    if came_along is not None:
        return came_along
    failures: list[str] = []
    for compiler in compilers(level.machine):
        target = cache_folder("native") / _runner_key(level, compiler) / NAME
        if target.exists():
            return target
        if say and failures:
            say(f"{failures[-1]}: trying {shown(compiler)}")
        error = _links_static(compiler, level)
        if error is None:
            try:
                _compile_runner(level, compiler, target, say)
            except ninja.BuildFailed as failed:
                error = str(failed)
            else:
                return target
        failures.append(f"{shown(compiler)}: {error}")
    if failures:
        raise UsageError(f"{NAME} for {level.name} does not compile: {failures[-1]}")
    wanted = "g++ and libc6-dev" if level.machine == host_machine() else f"g++-{level.machine}-linux-gnu"
    raise UsageError(f"no compiler can build {NAME} for {level.name}: install {wanted}, or pip install 'melt[zig]'")


def compilers(machine: str) -> list[list[str]]:
    """C++ compilers to try, best first."""
    return system_compiler(("g++", "c++", "clang++"), "g++", machine) + zig_compiler("c++", machine, "musl")


def _level_flag(level: Level, compiler: list[str]) -> str:
    return level.zig if is_zig(compiler) else level.gcc


def _compile_flags(level: Level, compiler: list[str]) -> tuple[str, ...]:
    return (_level_flag(level, compiler), *_COMPILE, *(_ZIG_COMPILE if is_zig(compiler) else ()))


def _links_static(compiler: list[str], level: Level) -> str | None:
    """Why a program cannot be linked, asked before minutes are spent on what goes into it."""
    with tempfile.TemporaryDirectory(prefix="melt-probe-") as folder:
        probe = Path(folder) / "probe.cpp"
        probe.write_text("#include <thread>\nint main() { std::thread([] {}).join(); }\n")
        argv = [*compiler, _level_flag(level, compiler), *_LINK, str(probe), "-o", str(probe.with_suffix(""))]
        return last_error(argv)


def last_error(argv: list[str]) -> str | None:
    """Runs a compiler or a linker; the telling line of its words when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_RUNNER_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"it took longer than {_RUNNER_LIMIT_S} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    return ninja.telling_line(done.stderr.decode(errors="replace")) or f"it ended with {done.returncode}"


def _library_key(level: Level, compiler: list[str]) -> str:
    words = (source.SHA256, level.name, *identity(compiler), compiler_stamp(compiler))
    return _digest(*words, *_compile_flags(level, compiler), _GGML, *_SWITCHES)


def _runner_key(level: Level, compiler: list[str]) -> str:
    return _digest(_library_key(level, compiler), *_LINK, _MUSL_STACK, *runner_texts())


def made_from(level: Level) -> str:
    """The hash of all that makes the runner but the compiler."""
    how = (source.SHA256, level.name, level.gcc, level.zig, *_COMPILE, *_ZIG_COMPILE, _GGML, *_SWITCHES)
    return digest((*how, *_LINK, _MUSL_STACK, *runner_texts()))


def runner_texts() -> list[str]:
    """Each file of the runner's own source, by name and content."""
    root = ondevice_sources()
    files = [root / "events.h", *sorted((root / NAME).iterdir())]
    return [f"{path.name}\n{path.read_text(encoding='utf-8')}" for path in files if path.suffix in (".cpp", ".h")]


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


def _compile_runner(level: Level, compiler: list[str], target: Path, say: Say | None) -> None:
    """Compiles into `target`. Raises BuildFailed, and UsageError."""
    archives = build_archives(level, compiler, say)
    llama = source.llama_source(say)
    argv = [
        *compiler,
        _level_flag(level, compiler),
        *_LINK,
        f'-DMELT_LEVEL="{level.name}"',
        f"-ffile-prefix-map={llama.path}=llama.cpp",
    ]
    argv += [f"-I{llama.path / folder}" for folder in _INCLUDES]
    argv += [str(ondevice_sources() / NAME / f"{NAME}.cpp"), *map(str, archives)]
    argv += [_MUSL_STACK] if is_zig(compiler) else []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with appearing(target) as temporary:
            error = last_error([*argv, "-ldl", "-lm", "-o", str(temporary)])
            if error is not None:
                raise ninja.BuildFailed(error)
            temporary.chmod(0o755)
    except OSError as error:
        raise ninja.BuildFailed(str(error)) from None


def build_archives(level: Level, compiler: list[str], say: Say | None = None) -> tuple[Path, ...]:
    """llama.cpp's static libraries in the order that a linker wants, from the cache or compiled now.

    Their folder's name tells all that made them. Raises BuildFailed, and UsageError.
    """
    library = cache_folder("llama.cpp") / f"library-{_library_key(level, compiler)}"
    if not library.is_dir():
        for program in ("cmake", "ninja"):
            ninja.build_program(program)  # asked before anything is fetched
        _build_library(library, level, compiler, source.llama_source(say), say)
    return tuple(library / Path(name).name for name in _ARCHIVES)


def _build_library(
    library: Path, level: Level, compiler: list[str], llama: source.LlamaSource, say: Say | None
) -> None:
    """Makes the folder with the archives. A build that was ended is taken up where it was; two at once become one."""
    if library.is_dir():
        return
    what = f"llama.cpp for {level.name} with {shown(compiler)}"
    folder = library.with_name(library.name.replace("library-", "build-"))
    with ninja.locked(folder.with_suffix(".lock"), what, say) as lock:
        if library.is_dir():
            return
        if say:
            say(f"compiling {what}, once: this takes minutes")
        try:
            folder.mkdir(exist_ok=True)
            ninja.configure(configuration(level, compiler, llama, folder), lock)
            ninja.compile_all(folder, _TARGETS, lock, what, say)
            _collect(folder, library)
        except OSError as error:
            raise ninja.BuildFailed(str(error)) from None
        shutil.rmtree(folder, ignore_errors=True)


def _collect(folder: Path, library: Path) -> None:
    """The archives of a finished build, as a folder that appears whole."""
    done = folder / "done"
    shutil.rmtree(done, ignore_errors=True)
    done.mkdir()
    for name in _ARCHIVES:
        shutil.copy2(folder / name, done)
    done.rename(library)


def configuration(level: Level, compiler: list[str], llama: source.LlamaSource, folder: Path) -> list[str]:
    """cmake's words for a build in `folder`, and the small files beside it that they name."""
    rule = folder / "ggml.cmake"
    rule.write_text(_GGML)
    flags = " ".join((*_compile_flags(level, compiler), f"-ffile-prefix-map={llama.path}=llama.cpp"))
    argv = [ninja.build_program("cmake"), "-S", str(llama.path), "-B", str(folder), "-G", "Ninja", *_SWITCHES]
    argv += [f"-DCMAKE_MAKE_PROGRAM={ninja.build_program('ninja')}", f"-DCMAKE_PROJECT_ggml_INCLUDE={rule}"]
    argv += [f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}", f"-DLLAMA_BUILD_COMMIT={llama.commit}"]
    argv += ["-DLLAMA_BUILD_NUMBER=0"]
    if is_zig(compiler):
        tools = {"C_COMPILER": ["cc", *compiler[4:]], "CXX_COMPILER": ["c++", *compiler[4:]], "AR": ["ar"]}
        tools["RANLIB"] = ["ranlib"]
        argv += [f"-DCMAKE_{name}={_wrapped(folder, compiler[:3], words)}" for name, words in tools.items()]
    else:
        argv += [f"-DCMAKE_C_COMPILER={_c_compiler(compiler[0])}", f"-DCMAKE_CXX_COMPILER={compiler[0]}"]
    if level.machine != host_machine() or is_zig(compiler):
        argv += ["-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={level.machine}"]
    return argv


def _c_compiler(cxx: str) -> str:
    """The C compiler that came with a C++ compiler: gcc with g++, clang with clang++, cc with c++."""
    path = Path(cxx)
    return str(path.with_name(path.name.replace("clang++", "clang").replace("g++", "gcc").replace("c++", "cc")))


def _wrapped(folder: Path, zig: list[str], words: list[str]) -> Path:
    """A program that starts zig with these words: cmake wants each tool to be one file."""
    tool = folder / f"zig-{words[0]}"
    tool.write_text(f'#!/bin/sh\nexec {shlex.join([*zig, *words])} "$@"\n')
    tool.chmod(0o755)
    return tool
