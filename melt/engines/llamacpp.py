"""llama.cpp, through melt's own C++ runner, which holds libllama: one program for each level of processor."""

from __future__ import annotations

import hashlib
import reprlib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from melt.engines.base import Command, OutputCheck, Prepared, Request
from melt.errors import UsageError, nearest
from melt.makers import gguf
from melt.native import build_llama_runner, choose_level
from melt.native.source import VERSION
from melt.records import Strict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LEAST_TOKENS = 64
"""A run generates so many at least, however few inferences its protocol asks for."""
_BLOCK_TOKENS = 256
"""A context that is not asked for is rounded up to so many: kernels work on blocks."""
_MAX_OUTPUT_BYTES = 64 << 20
_AS_ASKED = (
    *("prompt_tokens", "generate_tokens", "seed", "threads", "threads_batch", "context", "batch", "ubatch"),
    *("kv_k", "kv_v", "flash_attn", "gpu_layers"),
)
"""Parameters that the runner takes by the same name."""

Tokens = Annotated[int, Field(strict=True, ge=1, le=1 << 20)]
Threads = Annotated[int, Field(strict=True, ge=1, le=512)]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]


class LlamaParams(Strict):
    """`params` of a workload for this engine, with what a request is."""

    mode: Literal["fixed"] = "fixed"
    prompt_tokens: Tokens = 128
    generate_tokens: Tokens = 64
    seed: Annotated[int, Field(strict=True, ge=0, le=4_294_967_294)] = 1
    threads: Threads = 1
    threads_batch: Threads | None = None
    context: Tokens | None = None
    batch: Tokens = 2048
    ubatch: Tokens = 512
    kv_k: CacheType = "f16"
    kv_v: CacheType = "f16"
    flash_attn: Literal["auto", "on", "off"] = "auto"
    mmap: bool = True
    mlock: bool = False
    gpu_layers: Annotated[int, Field(strict=True, ge=0, le=10_000)] = 0

    @property
    def context_tokens(self) -> int:
        """The context as it will be asked for: what a request needs, in whole blocks, unless it is said."""
        need = self.prompt_tokens + self.generate_tokens
        return self.context or -(-need // _BLOCK_TOKENS) * _BLOCK_TOKENS


class LlamaCpp:
    """Runs language models of GGUF files."""

    name = "llama.cpp"

    def prepare(self, request: Request) -> Prepared:
        params = _params(request)
        if not request.model_file.is_file():
            raise UsageError(f"model {request.model_file} does not exist: correct 'path' in the workload")
        told = gguf.info(request.model_file)
        # a program of the person's own is on the device already, whatever it was compiled for
        level = None if request.library else choose_level(request.machine, request.cpu_features)
        need = params.prompt_tokens + params.generate_tokens
        if params.mode == "fixed" and need > params.context_tokens:
            raise UsageError(
                f"workload '{request.name}': {params.prompt_tokens} tokens of prompt and {params.generate_tokens} to "
                f"generate do not fit into params.context of {params.context}: make it {need} at least"
            )
        if told.context_length is not None and params.context_tokens > told.context_length:
            request.say(
                f"workload '{request.name}': a context of {params.context_tokens} tokens is longer than the "
                f"{told.context_length} that {told.name} was made for: its speed is true, its text would not be"
            )
        used = {**params.model_dump(), "context": params.context_tokens}
        used["threads_batch"] = params.threads_batch or params.threads
        identity = {
            "model_sha256": told.sha256,
            "llama_cpp": VERSION,
            "level": level.name if level else "own",
            **{key: value for key, value in used.items() if key not in ("prompt_tokens", "generate_tokens")},
            "prompt_tokens": params.prompt_tokens,
            "generate_tokens": params.generate_tokens,
        }
        files = {"model": request.model_file}
        if level is not None:
            files["program"] = build_llama_runner(level, say=request.say)
        return Prepared(
            request=request, files=files, params=used, synthetic=told.synthetic, identity=identity, detail=told
        )

    def command(self, prepared: Prepared, place: Callable[[str], str], job_dir: str) -> Command:
        params, stop = prepared.params, prepared.request.stop
        argv = [prepared.request.library or place("program"), "--model", place("model"), "--mode", params["mode"]]
        argv += ["--events", f"{job_dir}/events.jsonl", "--output", f"{job_dir}/output.bin"]
        for key in _AS_ASKED:
            argv += [f"--{key.replace('_', '-')}", str(params[key])]
        argv += ["--mmap", str(int(params["mmap"])), "--mlock", str(int(params["mlock"]))]
        # a request takes seconds: one has warmed up what there is, if it took the time that is asked for
        argv += ["--warmup-n", str(min(stop.warmup_n, 1)), "--warmup-s", str(stop.warmup_s)]
        argv += ["--min-n", str(max(stop.min_n, _LEAST_TOKENS)), "--min-s", str(stop.min_s)]
        return Command(tuple(argv))

    def trial(self, prepared: Prepared, place: Callable[[str], str]) -> Command:
        return Command((prepared.request.library or place("program"), "--try"))

    def check(self, prepared: Prepared, output: Path) -> OutputCheck:
        del prepared
        not_compared = "the hash of the tokens generated; nothing on this computer was run beside it"
        try:
            with output.open("rb") as data:
                tokens = data.read(_MAX_OUTPUT_BYTES)
        except OSError:
            return OutputCheck(None, None, None, "the run left no tokens")
        last = tokens.rstrip().rpartition(b"\n")[2]
        if not last:
            return OutputCheck(None, None, None, "the run left no tokens")
        return OutputCheck(hashlib.sha256(last).hexdigest(), None, None, not_compared)


def _params(request: Request) -> LlamaParams:
    try:
        return LlamaParams.model_validate(dict(request.params))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            hint = nearest(key, LlamaParams.model_fields)
            raise UsageError(f"workload '{request.name}': engine llama.cpp has no parameter '{key}': {hint}") from None
        raise UsageError(
            f"workload '{request.name}': params.{key}: {problem['msg']} (it is {reprlib.repr(problem['input'])})"
        ) from None
