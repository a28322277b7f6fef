"""The language-model runner compiled on a device by its own cmake: with CUDA on a Jetson, say.

A build that was cut is gone on with where it was, and one that is done is found again.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.errors import DeviceError
from melt.native import handed
from melt.native.ninja import telling_line
from melt.native.shipped import digest
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.device.device import Device, Say

_LIMIT_S = 3 * 3600.0
"""CUDA's kernels take a Jetson an hour and more."""
_SAY_EVERY_S = 10.0
_STEP_S = 600.0
_KEPT_BYTES = 1 << 20
_BYTES_PER_JOB = 1 << 30
"""The largest of llama.cpp's files takes a compiler that much memory."""
_COMPILERS = ("c++", "g++", "clang++")
_OWN_COMPILER = re.compile(r"-DCMAKE_(CXX_COMPILER|TOOLCHAIN_FILE)(:\w+)?=")
_PROGRESS = re.compile(rb"\[ *([0-9]{1,5})(%|/([0-9]{1,5}))\]")


@dataclass(frozen=True)
class BuiltThere:
    """The program's path on the device, and what it says it is made of."""

    path: str
    says: str


def build_llama_on(device: Device, arguments: Sequence[str], say: Say) -> BuiltThere:
    """Compiles the runner on a device, for its own processor, with more definitions for its cmake.

    Raises UsageError for words that are none, DeviceError when the device lacks what that needs, is measuring, or
    its compiler fails; TransportError when the link is lost: call again to go on.
    """
    words = handed.checked_arguments(arguments)
    generator = _generator(device, words)
    files = {"llama.cpp": handed.llama_archive(say), "runner": handed.runner_archive()}
    there = device.blobs.deliver(files, say=say, on_moved=lambda _: None)
    key = digest((there["llama.cpp"].rpartition("/")[2], *generator, *words))[:16]
    folder = f"{device.root}/built/llama.cpp-{key}"
    program, done = f"{folder}/build/llama_runner", f"{folder}/done-{handed.runner_digest()[:16]}"
    if device.run(["test", "-f", done]).ok and (found := device.run([program, "--try"])).ok:
        return BuiltThere(program, found.stdout.decode(errors="replace").strip())
    _step(device, ["mkdir", "-p", f"{folder}/llama.cpp", f"{folder}/runner"])
    _step(device, ["tar", "-xzf", there["llama.cpp"], "-C", f"{folder}/llama.cpp"])
    # as new files: those that changed since an earlier melt are older than what was made of them
    _step(device, ["tar", "-xzmf", there["runner"], "-C", f"{folder}/runner"])
    held = _held(device, say)
    say(f"{device.name}: compiling llama.cpp there, once: this takes minutes, with CUDA an hour or more")
    end = Deadline.after(_LIMIT_S)
    configure = ["cmake", "-S", f"{folder}/runner/llama_runner", "-B", f"{folder}/build", *generator]
    _compile(device, [*held, *configure, f"-DLLAMA_CPP={folder}/llama.cpp", *words], end, say)
    build = ["cmake", "--build", f"{folder}/build", "--target", "llama_runner", "--parallel", str(_jobs(device))]
    _compile(device, [*held, *build], end, say)
    tried = device.run([program, "--try"])
    if not tried.ok:
        raise DeviceError(f"{device.name}: {program} was compiled there and does not run: {tried.complaint}")
    _step(device, ["touch", done])
    return BuiltThere(program, tried.stdout.decode(errors="replace").strip())


def _generator(device: Device, words: Sequence[str]) -> tuple[str, ...]:
    """How cmake is told to build there. Raises DeviceError, naming what is missing, before anything is sent."""
    for program in ("cmake", "tar"):
        if not device.run([program, "--version"]).ok:
            raise _missing(device, program)
    if not any(map(_OWN_COMPILER.match, words)) and not any(device.run([c, "--version"]).ok for c in _COMPILERS):
        raise _missing(device, "a C++ compiler")
    if device.run(["ninja", "--version"]).ok:
        return ("-G", "Ninja")
    if not device.run(["make", "--version"]).ok:
        raise _missing(device, "make")
    return ("-G", "Unix Makefiles")


def _missing(device: Device, what: str) -> DeviceError:
    return DeviceError(
        f"{device.name} cannot build llama.cpp: {what} is missing there (Debian: apt install cmake g++ make); or build "
        "it here: melt build llama.cpp --profile NAME"
    )


def _step(device: Device, argv: Sequence[str]) -> None:
    done = device.run(argv, _STEP_S)
    if not done.ok:
        raise DeviceError(f"{device.name}: llama.cpp's source cannot be unpacked there: {done.complaint}")


def _held(device: Device, say: Say) -> tuple[str, ...]:
    """Words before a command that keep the device from being measured meanwhile. Raises DeviceError when it is now."""
    asked = device.run(["flock", "-n", device.lock, "true"])
    if asked.ok:
        return ("flock", "-n", device.lock)
    if asked.code == 1:
        raise DeviceError(f"{device.name} is busy with a job or a build: wait for its end, then call again")
    say(f"{device.name} has no 'flock': do not measure there while it compiles")
    return ()


def _jobs(device: Device) -> int:
    """Compilers at once: one for each core that the device has the memory for."""
    words = device.run(["nproc"]).stdout.split()
    cores = int(words[0]) if words and words[0].isdigit() else 1
    memory = device.fact("memory_total_bytes")
    return max(1, min(cores, int(memory) // _BYTES_PER_JOB)) if isinstance(memory, int | float) else cores


def _compile(device: Device, argv: Sequence[str], end: Deadline, say: Say) -> None:
    """Runs cmake to its end and tells how far it is. Raises DeviceError with the compiler's first error."""
    process = device.transport.start(argv)
    output, said_at = b"", time.monotonic()
    try:
        while block := process.read(end):
            output = (output + block)[-_KEPT_BYTES:]
            steps = _PROGRESS.findall(block)
            if steps and time.monotonic() >= said_at + _SAY_EVERY_S:
                said_at = time.monotonic()
                n, percent, total = (part.decode() for part in steps[-1])
                say(f"{device.name}: compiling llama.cpp: {n}{percent if percent == '%' else f' of {total} files'}")
        done = process.wait(end)
    finally:
        process.close()
    if not done.ok:
        text = (output + b"\n" + done.stderr).decode(errors="replace")
        raise DeviceError(
            f"{device.name}: llama.cpp does not compile there: {telling_line(text) or f'cmake ended with {done.code}'}"
        )
