"""llama.cpp, through melt's own C++ runner, which holds libllama: one program for each level of processor."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from melt.engines.base import Command, OutputCheck, Prepared, Request, decimal
from melt.engines.llama_params import BLOCK_TOKENS, read_params
from melt.engines.llama_texts import Texts, texts_of
from melt.errors import UsageError
from melt.makers import gguf
from melt.native import build_llama_runner, choose_level
from melt.native.source import VERSION
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from melt.engines.llama_params import LlamaParams

_LEAST_TOKENS = 64
"""A run generates so many at least, however few inferences its protocol asks for."""
_MAX_OUTPUT_BYTES = 64 << 20
_MOST_TURNS = 1500
"""Of a cycle: each is a file on the device, and an argument of the runner."""
_AS_ASKED = (
    *("prompt_tokens", "generate_tokens", "seed", "temperature", "threads", "threads_batch", "context", "batch"),
    *("ubatch", "kv_k", "kv_v", "flash_attn", "gpu_layers"),
)
"""Parameters that the runner takes by the same name."""
_NOT_COMPARED = {
    "bench": "mode bench draws its tokens and generates none",
    "score": "mode score generates nothing; what it scored is in the events",
}


@dataclass(frozen=True)
class _Detail:
    model: gguf.GgufInfo
    texts: Texts | None

    @property
    def turns(self) -> int:
        """How many steps are a cycle."""
        return len(self.texts.turns) if self.texts else 1


class LlamaCpp:
    """Runs language models of GGUF files."""

    name = "llama.cpp"

    def prepare(self, request: Request) -> Prepared:
        params = read_params(request)
        if not request.model_file.is_file():
            raise UsageError(f"model {request.model_file} does not exist: correct 'path' in the workload")
        model = gguf.info(request.model_file)
        # a program of the person's own is on the device already, whatever it was compiled for
        level = None if request.library else choose_level(request.machine, request.cpu_features)
        texts = texts_of(request, params) if params.by_text else None
        if texts and len(texts.turns) > _MOST_TURNS:
            raise UsageError(
                f"workload '{request.name}': {len(texts.turns)} turns are more than a run takes ({_MOST_TURNS}): name "
                "fewer prompts"
            )
        prompt_tokens, generate_tokens = params.tokens
        used = {
            **params.model_dump(),
            "prompt_tokens": prompt_tokens,
            "generate_tokens": generate_tokens,
            "context": _context(request, params, model, texts),
            "threads_batch": params.threads_batch or params.threads,
            "chat": "template" if texts and texts.templated else "plain",
        }
        identity = {
            "model_sha256": model.sha256,
            # of a person's own program nothing is known but where it is, until it has run
            "llama_cpp": VERSION if level else None,
            "level": level.name if level else "own",
            "program": request.library,
            **{key: value for key, value in used.items() if key not in ("prompt", "load")},
            "texts_sha256": texts.sha256 if texts else None,
        }
        files = {"model": request.model_file}
        files |= {_role(n): text.path for n, text in enumerate(texts.turns if texts else ())}
        if level is not None:
            files["program"] = build_llama_runner(level, say=request.say)
        return Prepared(
            request=request,
            files=files,
            params=used,
            synthetic=model.synthetic,
            identity=identity,
            known=_weights(model),
            caveats=_caveats(request, used["threads"], used["threads_batch"]),
            detail=_Detail(model, texts),
        )

    def command(self, prepared: Prepared, place: Callable[[str], str], job_dir: str) -> Command:
        params, stop = prepared.params, prepared.request.stop
        argv = [prepared.request.library or place("program"), "--model", place("model"), "--mode", params["mode"]]
        argv += ["--events", f"{job_dir}/events.jsonl", "--output", f"{job_dir}/output.bin"]
        for key in _AS_ASKED:
            argv += [f"--{key.replace('_', '-')}", _word(params[key])]
        argv += ["--mmap", str(int(params["mmap"])), "--mlock", str(int(params["mlock"]))]
        argv += ["--cold", str(int(params["load"] == "cold"))]
        texts: Texts | None = prepared.detail.texts
        for n, text in enumerate(texts.turns if texts else ()):
            argv += ["--fresh-text-file" if text.fresh else "--text-file", place(_role(n))]
        # a request takes seconds: one has warmed up what there is, if it took the time that is asked for
        argv += ["--warmup-n", str(min(stop.warmup_n, 1)), "--warmup-s", _word(stop.warmup_s)]
        argv += ["--min-n", str(max(stop.min_n, _LEAST_TOKENS)), "--min-s", _word(stop.min_s)]
        return Command(tuple(argv))

    def trial(self, prepared: Prepared, place: Callable[[str], str]) -> Command:
        return Command((prepared.request.library or place("program"), "--try"))

    def adopt(self, prepared: Prepared, folder: Path) -> Mapping[str, Metric]:
        del prepared, folder
        return {}  # its runner writes nothing but events

    def check(self, prepared: Prepared, output: Path) -> OutputCheck:
        if prepared.params["mode"] in _NOT_COMPARED:
            return OutputCheck(None, None, None, _NOT_COMPARED[prepared.params["mode"]])
        try:
            with output.open("rb") as data:
                tokens = data.read(_MAX_OUTPUT_BYTES)
        except OSError:
            return OutputCheck(None, None, None, "the run left no tokens")
        lines, turns = tokens.rstrip().split(b"\n"), prepared.detail.turns
        whole = lines[: len(lines) // turns * turns]  # one that died may have left a part of a cycle
        last = b"\n".join(whole[-turns:])
        if not last:
            return OutputCheck(None, None, None, "the run left no tokens of a whole cycle")
        drawn = "the hash of the tokens generated; nothing on this computer was run beside it"
        return OutputCheck(hashlib.sha256(last).hexdigest(), None, None, drawn)


def _weights(model: gguf.GgufInfo) -> Mapping[str, Metric]:
    """What a token reads of the weights, and how many those are."""
    read, count = model.weight_bytes_per_token, model.weight_count_per_token
    unknown = gap(f"not_stated: {model.weight_bytes_per_token_reason}")
    return {
        "weight_bytes_per_token": unknown if read is None else Metric(value=float(read)),
        "weight_count_per_token": unknown if count is None else Metric(value=float(count)),
    }


def _word(value: object) -> str:
    """A number as the runner reads it: without an exponent."""
    return decimal(value) if isinstance(value, float) else str(value)


def _role(turn: int) -> str:
    return f"text.{turn}"


def _context(request: Request, params: LlamaParams, model: gguf.GgufInfo, texts: Texts | None) -> int:
    """The context as it will be asked for: what is needed, in whole blocks, unless it is said. Raises UsageError."""
    prompt, generate = params.tokens
    need = texts.need_tokens if texts else max(prompt, generate) if params.mode == "bench" else prompt + generate
    trained, name = model.context_length, f"workload '{request.name}'"
    if params.mode == "score":  # a text that is longer is scored in windows
        return params.context or min(_blocks(need), trained or _blocks(need))
    what = f"{prompt} tokens of prompt and {generate} to generate do"
    if texts:
        what = f"prompt '{texts.need_of}' and its answers take {need} tokens and do"
    if params.context is not None and need > params.context:
        raise UsageError(f"{name}: {what} not fit into params.context of {params.context}: make it {need} at least")
    context = params.context or _blocks(need)
    if trained is None or context <= trained:
        return context
    if texts and params.context is None and need > trained:
        raise UsageError(
            f"{name}: {what} not fit into the context of {trained} that {model.name} was made for: shorten the text or "
            f"lower generate_tokens; params.context: {need} runs it all the same"
        )
    if texts and params.context is None:
        return trained
    request.say(
        f"{name}: a context of {context} tokens is longer than the {trained} that {model.name} was made for: its speed "
        "is true, its text would not be"
    )
    return context


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS


def _caveats(request: Request, threads: int, threads_batch: int) -> tuple[str, ...]:
    most = max(threads, threads_batch)
    if request.cpus is None or most <= request.cpus:
        return ()
    caveat = f"threads: {most} threads share {request.cpus} processors, which makes rates swing"
    request.say(f"workload '{request.name}': {caveat}")
    return (caveat,)
