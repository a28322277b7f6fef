"""The levels of processor that the language-model runner is compiled for, and the choice among them."""

from __future__ import annotations

from dataclasses import dataclass

from melt.errors import Unsupported, UsageError, nearest

_AVX2 = frozenset(["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "sse4_2", "popcnt"])
_AVX512 = frozenset(["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])
_ARM = frozenset(["fp", "asimd"])
_ARM_2 = frozenset(["atomics", "crc32", "asimdrdm", "fphp", "asimdhp", "asimddp"])


@dataclass(frozen=True)
class Level:
    """One set of instructions: what a processor must have, in the kernel's words, and how each compiler is told."""

    name: str
    machine: str
    needs: frozenset[str]
    gcc: str
    zig: str


LEVELS = (
    Level("x86-64-v3", "x86_64", _AVX2, "-march=x86-64-v3", "-mcpu=x86_64_v3"),
    Level("x86-64-v4", "x86_64", _AVX2 | _AVX512, "-march=x86-64-v4", "-mcpu=x86_64_v4"),
    Level("armv8-a", "aarch64", _ARM, "-march=armv8-a", "-mcpu=generic"),
    Level(
        "armv8.2-a+dotprod+fp16",
        "aarch64",
        _ARM | _ARM_2,
        "-march=armv8.2-a+dotprod+fp16",
        "-mcpu=generic+v8_2a+dotprod+fullfp16",
    ),
    # not armv8.6-a, which would ask for more than the phones have that multiply matrices of bytes
    Level(
        "armv8.2-a+dotprod+fp16+i8mm",
        "aarch64",
        _ARM | _ARM_2 | {"i8mm"},
        "-march=armv8.2-a+dotprod+fp16+i8mm",
        "-mcpu=generic+v8_2a+dotprod+fullfp16+i8mm",
    ),
)
"""For each machine from the one that most processors have to the one that is fastest."""


def levels(machine: str) -> tuple[Level, ...]:
    """The levels of a machine, the least first. Raises Unsupported for a machine that has none."""
    found = tuple(level for level in LEVELS if level.machine == machine)
    if not found:
        known = " and ".join(sorted({level.machine for level in LEVELS}))
        raise Unsupported(f"melt's language-model runner exists for {known}, not for '{machine}'")
    return found


def named_level(name: str) -> Level:
    """The level of that name. Raises UsageError with the nearest one."""
    known = {level.name: level for level in LEVELS}
    if name not in known:
        raise UsageError(f"'{name}' is no level of processor: {nearest(name, known)}")
    return known[name]


def choose_level(machine: str, cpu_flags: frozenset[str]) -> Level:
    """The best level for a processor with these flags: those that /proc/cpuinfo gives for every one of its cores.

    Raises Unsupported when it has less than the least: the runner would end there with an illegal instruction.
    """
    known = levels(machine)
    for level in reversed(known):
        if level.needs <= cpu_flags:
            return level
    lacking = ", ".join(sorted(known[0].needs - cpu_flags))
    raise Unsupported(
        f"the processor lacks {lacking}: melt's language-model runner for {machine} needs {known[0].name} at least; "
        "name a program of your own that runs there in the device's profile"
    )
