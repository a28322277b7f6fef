"""Every program that a wheel of melt carries, made on this computer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from melt.native import llama, programs
from melt.native.compilers import MACHINES
from melt.native.levels import LEVELS
from melt.native.shipped import Made, pack

if TYPE_CHECKING:
    from pathlib import Path

    from melt.native.compilers import Say


def build_all(say: Say | None = None) -> dict[Path, str]:
    """Each program for each machine or level, with its path below the package's folder, and the manifest.

    Those that the cache has are not made again. Raises UsageError when one cannot be made, or would need a newer system
    than the oldest that melt knows.
    """
    made = [
        Made(program.name, machine, programs.made_from(program), programs.build(program.name, machine, say=say))
        for program in programs.PROGRAMS.values()
        for machine in MACHINES
    ]
    made += [
        Made(llama.NAME, level.name, llama.made_from(level), llama.build_llama_runner(level, say=say))
        for level in LEVELS
    ]
    return pack(made)
