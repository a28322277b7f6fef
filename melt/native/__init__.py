"""The native programs that run on a device: compiled once for each source, target and compiler."""

from melt.native.compilers import MACHINES, OLDEST_GLIBC, host_machine
from melt.native.levels import LEVELS, Level, choose_level, levels, named_level
from melt.native.llama import build_llama_runner
from melt.native.programs import PROGRAMS, Program, build
from melt.native.source import LlamaSource, llama_source

__all__ = [
    "LEVELS",
    "MACHINES",
    "OLDEST_GLIBC",
    "PROGRAMS",
    "Level",
    "LlamaSource",
    "Program",
    "build",
    "build_llama_runner",
    "choose_level",
    "host_machine",
    "levels",
    "llama_source",
    "named_level",
]
