"""llama.cpp's own llama-bench, compiled from the very source, by the compiler and with the flags of the runner."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from typing import TYPE_CHECKING

from melt.native import llama, llama_source, ninja
from melt.places import appearing, cache_folder

if TYPE_CHECKING:
    from pathlib import Path

    from melt.native import Level

_TOOLS = ("-DLLAMA_BUILD_COMMON=ON", "-DLLAMA_BUILD_TOOLS=ON", "-DCMAKE_EXE_LINKER_FLAGS=-static -pthread")
_TARGET = "llama-bench"
_LIMIT_S = 300


def build_llama_bench(level: Level) -> Path:
    """The program, from the cache or compiled now, which takes minutes. Raises BuildFailed and UsageError."""
    compiler = llama.compilers(level.machine)[0]
    source = llama_source()
    key = hashlib.sha256("\0".join([str(source.commit), level.name, *compiler, *_TOOLS]).encode()).hexdigest()[:32]
    target = cache_folder("peers") / f"{_TARGET}-{key}"
    if target.exists():
        return target
    folder = target.with_name(f"{target.name}.build")
    with ninja.locked(folder.with_suffix(".lock"), _TARGET, None) as lock:
        folder.mkdir(exist_ok=True)
        ninja.configure([*llama.configuration(level, compiler, source, folder), *_TOOLS], lock)
        ninja.compile_all(folder, (_TARGET,), lock, _TARGET, None)
        with appearing(target) as temporary:
            temporary.write_bytes((folder / "bin" / _TARGET).read_bytes())
            temporary.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
    return target


def rates(program: Path, model: Path, prompt_tokens: int, generate_tokens: int, repetitions: int) -> list[float]:
    """Tokens a second of each repetition, one thread; one of the two counts is 0. Raises what subprocess does."""
    argv = [program, "-m", model, "-p", prompt_tokens, "-n", generate_tokens, "-r", repetitions, "-t", 1, "-o", "json"]
    done = subprocess.run([str(word) for word in argv], capture_output=True, timeout=_LIMIT_S, check=True)
    (told,) = json.loads(done.stdout)
    return [(prompt_tokens + generate_tokens) / (ns * 1e-9) for ns in told["samples_ns"]]
