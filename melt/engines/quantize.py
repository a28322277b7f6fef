"""A language model's file in another quantisation, by llama.cpp's own quantiser."""

from __future__ import annotations

import re
import shutil
import time
from typing import TYPE_CHECKING, Any

from melt.engines.llama_process import Ended, LlamaProcess, Refused, llama_process
from melt.errors import UsageError, nearest
from melt.makers import gguf
from melt.places import appearing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Say = Callable[[str], None]

FILE_TYPES: Mapping[str, int] = {
    "f32": 0, "f16": 1, "bf16": 32, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q4_0": 2, "q4_1": 3,
    "q6_k": 18, "q5_k": 17, "q5_k_s": 16, "q5_k_m": 17, "q4_k": 15, "q4_k_s": 14, "q4_k_m": 15,
    "q3_k": 12, "q3_k_s": 11, "q3_k_m": 12, "q3_k_l": 13, "q2_k": 10,
    "iq4_nl": 25, "iq4_xs": 30, "iq3_m": 27, "iq3_s": 26, "tq1_0": 36, "tq2_0": 37,
}  # fmt: skip
"""llama.cpp's names, in small letters, and its numbers (`LLAMA_FTYPE_…`): those that need no importance matrix."""
_LIMIT_S = 24 * 3600
_SAY_EVERY_S = 10
_LEFT_BYTES = 1 << 20
"""A file system with less than this left is full."""
_PROGRESS = re.compile(r"\[ *(\d+)/ *(\d+)\]")
_SIZE = re.compile(r"quant size += +([\d.]+) MiB")
_NO_MEMORY = re.compile(r"bad_alloc|Cannot allocate memory")
_AGAIN = re.compile(r"requantizing from type (\S+) is disabled")


def quantize(source: Path, target: Path, to: str, *, say: Say) -> gguf.GgufInfo:
    """Writes the GGUF file `source` to `target` in the type `to`, one of FILE_TYPES: whole, or not at all.

    What else `source` states stays as it is, so a model made by melt stays labelled synthetic. `say` is told how far
    that is. Takes some 500 MB of memory whatever the size of the model.

    Raises UsageError for an unknown type, a source that llama.cpp does not quantise, such as one that is quantised
    already, a target that is there, a folder that is full or cannot be written, and when llama-cpp-python is missing.
    """
    if to not in FILE_TYPES:
        raise UsageError(f"llama.cpp quantises to no type '{to}': {nearest(to, FILE_TYPES)}")
    before = gguf.info(source)
    try:
        if target.is_symlink() or target.exists():
            raise UsageError(f"model {target} is there already: remove it or name another --out")
        if not target.parent.is_dir():
            raise UsageError(f"model {target}: the folder {target.parent} does not exist; make it first")
        with llama_process(say) as process:
            after = _quantized(process, before, target, to, say)
    except OSError as error:
        raise UsageError(
            f"model {target}: cannot be written ({error.strerror}); "
            "choose a folder that has space and that you may write to"
        ) from None
    if {kind: share.tensors for kind, share in after.types.items()} == {
        kind: share.tensors for kind, share in before.types.items()
    }:
        say(f"{source} was {to} already: {target} holds the same weights")
    return after.model_copy(update={"path": target})


def _quantized(process: LlamaProcess, before: gguf.GgufInfo, target: Path, to: str, say: Say) -> gguf.GgufInfo:
    """What was written. Raises OSError, and UsageError."""
    needed, free = _needed_bytes(process, before, to), shutil.disk_usage(target.parent).free
    if needed > free:
        raise UsageError(
            f"model {target}: takes {needed:,} bytes, and {target.parent} has {free:,} free; "
            "make room there or choose another folder"
        )
    say(f"quantising {before.path} to {to}: {before.size_bytes:,} bytes become some {needed:,}")
    with appearing(target) as part:
        part.touch()  # what cannot be written is told before anything is computed
        _run(process, before, to, target, say, write=part)
        return _whole(part, target)


def _needed_bytes(process: LlamaProcess, before: gguf.GgufInfo, to: str) -> int:
    """What the file will take, as llama.cpp says without writing one: to some 5 kB, and never too little."""
    sizes: list[float] = []

    def tell(line: str) -> None:
        if found := _SIZE.search(line):
            sizes.append(float(found[1]))

    _ask(process, before, to, tell, dry_run=True)
    header = before.size_bytes - before.weight_bytes
    return int((sizes[-1] + 0.01) * (1 << 20)) + header if sizes else 0


def _run(process: LlamaProcess, before: gguf.GgufInfo, to: str, target: Path, say: Say, *, write: Path) -> None:
    said = time.monotonic()

    def tell(line: str) -> None:
        nonlocal said
        found, now = _PROGRESS.match(line), time.monotonic()
        if found and now >= said + _SAY_EVERY_S:
            said = now
            say(f"quantising {before.path} to {to}: {found[1]} of {found[2]} tensors")

    try:
        _ask(process, before, to, tell, target=str(write))
    except UsageError:
        _raise_if_full(target)
        raise


def _ask(process: LlamaProcess, before: gguf.GgufInfo, to: str, tell: Say, **values: Any) -> None:
    model = before.path
    try:
        process.ask("quantize", limit_s=_LIMIT_S, tell=tell, source=str(model), file_type=FILE_TYPES[to], **values)
    except Refused as refused:
        if again := _AGAIN.search(str(refused)):
            raise UsageError(
                f"model {model} is quantised already ({again[1]}), and llama.cpp does not quantise it again, "
                "as that would lose twice: start from its f16 or f32 file"
            ) from None
        why = str(refused).removeprefix("failed to quantize: ") or "it does not say why"
        if _NO_MEMORY.search(why):
            raise UsageError(f"model {model}: there is not enough memory to quantise it: end other programs") from None
        raise UsageError(f"model {model}: llama.cpp does not quantise it to {to} ({why})") from None
    except Ended as ended:
        raise UsageError(f"model {model}: llama.cpp {ended} while it quantised it to {to}") from None


def _whole(part: Path, target: Path) -> gguf.GgufInfo:
    """What was written: llama.cpp does not look whether its last bytes came to the disk. Raises UsageError."""
    try:
        return gguf.info(part)
    except UsageError:
        _raise_if_full(target)
        raise UsageError(f"model {target}: what llama.cpp wrote is no whole model; look at the disk") from None


def _raise_if_full(target: Path) -> None:
    if shutil.disk_usage(target.parent).free < _LEFT_BYTES:
        raise UsageError(
            f"model {target}: the disk became full while it was written, and nothing is left of it; "
            f"make room in {target.parent} or choose another folder"
        )
