"""What a workload may say to llama.cpp, and what becomes of what it leaves open."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from melt.errors import UsageError, nearest
from melt.records import Strict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.engines.base import Request

BLOCK_TOKENS = 256
"""A context that is not asked for is rounded up to so many: kernels work on blocks."""
_TOKENS: Mapping[str, tuple[int, int]] = {
    "fixed": (128, 64),
    "bench": (512, 128),
    "prompt": (0, 256),
    "conversation": (0, 256),
    "score": (0, 0),
}
"""Tokens of prompt and to generate, of each mode, where they are not said; bench's are llama-bench's own."""
_BY_TEXT = ("prompt", "conversation", "score")

Tokens = Annotated[int, Field(strict=True, ge=1, le=1 << 20)]
Threads = Annotated[int, Field(strict=True, ge=1, le=512)]
CacheType = Literal["f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1"]


class LlamaParams(Strict):
    """`params` of a workload for this engine, with what a request is."""

    mode: Literal["fixed", "prompt", "conversation", "bench", "score"] = "fixed"
    prompt_tokens: Annotated[int, Field(strict=True, ge=0, le=1 << 20)] | None = None
    generate_tokens: Annotated[int, Field(strict=True, ge=0, le=1 << 20)] | None = None
    prompt: str | None = None
    """Which texts: SET or SET/NAME. The engine is given them read."""
    chat: Literal["template", "plain"] = "template"
    """Whether what is said stands in the model's own chat template, if it has one."""
    temperature: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    """0 is greedy; else tokens are drawn with `seed`."""
    seed: Annotated[int, Field(strict=True, ge=0, le=4_294_967_294)] = 1
    threads: Threads = 1
    threads_batch: Threads | None = None
    context: Tokens | None = None
    batch: Tokens = 2048
    ubatch: Tokens = 512
    kv_k: CacheType = "f16"
    kv_v: CacheType = "f16"
    flash_attn: Literal["auto", "on", "off"] = "auto"
    load: Literal["warm", "cold"] = "warm"
    """Whether the model's file lies in memory before it is loaded."""
    mmap: bool = True
    mlock: bool = False
    gpu_layers: Annotated[int, Field(strict=True, ge=0, le=10_000)] = 0

    @property
    def by_text(self) -> bool:
        return self.mode in _BY_TEXT

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of prompt, and to generate; none of prompt where a text says them."""
        prompt, generate = _TOKENS[self.mode]
        return (
            prompt if self.prompt_tokens is None else self.prompt_tokens,
            generate if self.generate_tokens is None else self.generate_tokens,
        )


def read_params(request: Request) -> LlamaParams:
    """The parameters of a request, each by itself and all together right. Raises UsageError."""
    try:
        params = LlamaParams.model_validate(dict(request.params))
    except ValidationError as error:
        raise UsageError(f"workload '{request.name}': {_problem(error.errors(include_url=False)[0])}") from None
    wrong = _contradiction(params)
    if wrong is not None:
        raise UsageError(f"workload '{request.name}': {wrong}")
    return params


def _problem(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"engine llama.cpp has no parameter '{key}': {nearest(key, LlamaParams.model_fields)}"
    return f"params.{key}: {problem['msg']} (it is {reprlib.repr(problem['input'])})"


def _contradiction(params: LlamaParams) -> str | None:
    """What the mode and the other parameters say against each other."""
    mode, (prompt, generate) = params.mode, params.tokens
    if params.by_text and params.prompt is None:
        return f"mode {mode} needs a text: say 'prompt: SET/NAME' ('melt prompts list' shows what there is)"
    if params.by_text and params.prompt_tokens is not None:
        return f"in mode {mode} the text says how long the prompt is: leave prompt_tokens out, or use mode fixed"
    if not params.by_text and params.prompt is not None:
        return f"mode {mode} makes its own tokens and takes no 'prompt': use mode prompt or conversation"
    if mode == "score" and params.generate_tokens is not None:
        return "mode score generates nothing: leave generate_tokens out"
    if mode == "bench" and prompt + generate == 0:
        return "prompt_tokens and generate_tokens are both 0, so nothing would be measured: raise one"
    if mode == "fixed" and prompt == 0:
        return "a prompt of 0 tokens has no first token: make prompt_tokens 1 or more"
    if mode in ("fixed", "prompt", "conversation") and generate == 0:
        return "0 tokens to generate leave nothing to measure: make generate_tokens 1 or more, or use mode bench"
    if params.temperature and mode in ("bench", "score"):
        return f"mode {mode} draws no tokens: leave temperature out"
    return None
