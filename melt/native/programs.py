"""Compiles the small native programs that run on a device, once for each source text, target and compiler.

A static program (the agent) is built by the system's compiler where it can, else by the ziglang wheel. A dynamic
one (the ONNX Runtime runner: a static program cannot open a library) is built against this computer's glibc for this
computer, and for glibc 2.28 by ziglang for any other.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import Unsupported, UsageError, nearest
from melt.native.compilers import (
    MACHINES,
    OLDEST_GLIBC,
    Say,
    compiler_stamp,
    host_machine,
    identity,
    shown,
    system_compiler,
    zig_compiler,
)
from melt.native.shipped import digest, shipped_program
from melt.places import appearing, cache_folder, ondevice_sources

if TYPE_CHECKING:
    from pathlib import Path

_BUILD_LIMIT_S = 600
_COMPILE = ("-std=gnu11", "-O2", "-g0", "-s", "-Wall", "-Wextra", "-Wno-format-truncation")


@dataclass(frozen=True)
class Program:
    """What is compiled: its C files (a glob below melt/ondevice), how it is linked, and what for."""

    name: str
    sources: str
    static: bool
    flags: tuple[str, ...]
    about: str


PROGRAMS = {
    "agent": Program(
        "agent",
        "agent/*.c",
        static=True,
        flags=("-pthread",),
        about="samples sensors and watches the engine",
    ),
    "ort_runner": Program(
        "ort_runner",
        "ort_runner.c",
        static=False,
        flags=("-ldl",),
        about="runs a model with ONNX Runtime",
    ),
    "roofline": Program(
        "roofline",
        "roofline/*.c",
        static=True,
        flags=("-pthread",),
        about="measures what the device can do at most",
    ),
}


def build(name: str, machine: str, *, here: bool = False, say: Say | None = None) -> Path:
    """The program `name` for a `machine`: the one that came with melt, or from the cache, or compiled now.

    `here` says that only this computer will run it.

    Raises UsageError when there is no compiler or it fails, Unsupported for a machine melt has no programs for.
    """
    if name not in PROGRAMS:
        raise UsageError(f"melt has no native program '{name}': {nearest(name, PROGRAMS)}")
    if machine not in MACHINES:
        raise Unsupported(f"melt's native programs exist for {' and '.join(MACHINES)}, not for '{machine}'")
    program = PROGRAMS[name]
    came_along = shipped_program(name, machine, made_from(program))
    if came_along is not None:
        return came_along
    root = ondevice_sources()
    sources = sorted(root.glob(program.sources))
    failures: list[str] = []
    for compiler in _compilers(program, machine, here=here):
        argv = [*compiler, *_COMPILE]
        argv += ["-static"] if program.static else []
        target = cache_folder("native") / _key(argv, program, sources, root) / name
        if target.exists():
            return target
        if say:
            say(f"compiling {name} for {machine} with {shown(compiler)}, once")
        error = _compile(argv, program, sources, target)
        if error is None:
            return target
        failures.append(error)
    if failures:
        raise UsageError(f"{name} for {machine} does not compile: {failures[-1]}")
    wanted = "gcc and libc6-dev" if machine == host_machine() else f"gcc-{machine.replace('_', '-')}-linux-gnu"
    raise UsageError(
        f"no compiler can build {name} for {machine}: install {wanted}, or pip install 'melt[zig]'",
    )


def _compilers(program: Program, machine: str, *, here: bool) -> list[list[str]]:
    """Compilers to try, best first."""
    zig = zig_compiler("cc", machine, "musl" if program.static else f"gnu.{OLDEST_GLIBC}")
    system = system_compiler(("cc", "gcc", "clang"), "gcc", machine)
    # A dynamic program from the system's compiler needs the system's own glibc or a newer one.
    return zig + system if not (program.static or here) else system + zig


def made_from(program: Program) -> str:
    """The hash of all that makes a program but the compiler."""
    root = ondevice_sources()
    how = (*_COMPILE, "-static" if program.static else "", *program.flags)
    return digest((*how, *_texts(sorted(root.glob(program.sources)), root)))


def _key(argv: list[str], program: Program, sources: list[Path], root: Path) -> str:
    how = (*identity(argv), *program.flags, compiler_stamp(argv))
    return digest((*how, *_texts(sources, root)))[:32]


def _texts(sources: list[Path], root: Path) -> list[str | bytes]:
    """Each file that a program is compiled from, by name and content."""
    headers = sorted({*root.glob("*.h"), *(h for s in sources for h in s.parent.glob("*.h"))})
    return [part for path in (*sources, *headers) for part in (path.relative_to(root).as_posix(), path.read_bytes())]


class _Broken(Exception):
    """The compiler failed; its last words."""


def _compile(argv: list[str], program: Program, sources: list[Path], target: Path) -> str | None:
    """Compiles into `target`; the end of the compiler's words when it fails."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with appearing(target) as temporary:
            done = subprocess.run(
                [*argv, *map(str, sources), "-o", str(temporary), *program.flags],
                capture_output=True,
                timeout=_BUILD_LIMIT_S,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            if done.returncode != 0:
                words = done.stderr.decode(errors="replace").strip().splitlines()
                raise _Broken(words[-1] if words else f"{argv[0]} ended with {done.returncode}")
            temporary.chmod(0o755)
    except subprocess.TimeoutExpired:
        return f"{argv[0]} took longer than {_BUILD_LIMIT_S} s"
    except (_Broken, OSError) as error:
        return str(error)
    return None
