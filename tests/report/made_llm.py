"""Runs of language models and of the roofline, made from a seed: requests of prefill and tokens; the device's roof."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from made_runs import Made, S, event

if TYPE_CHECKING:
    import numpy as np

    from melt.records import Event

WEIGHTS = 1_034_512_384
"""Weights that a token of TinyLlama multiplies: all but the table of embeddings."""
BYTES = {"q4_0": 18 / 32, "q8_0": 34 / 32, "f16": 2.0}
PROMPT, ANSWER, REQUESTS = 256, 33, 4


def model(quant: str = "q4_0", decode: float = 25.0, prefill: float = 120.0, **more: Any) -> Made:
    """A run in mode fixed, `decode` and `prefill` in tokens a second."""

    def events(made: Made, random: np.random.Generator) -> list[Event]:
        return _requests(decode, prefill, random)

    reads = WEIGHTS * BYTES[quant]
    figures = {"weight_bytes_per_token": reads, "weight_count_per_token": float(WEIGHTS)}
    figures |= {"decode_read_bytes_per_s": decode * reads, "load_warm_s": more.get("load_s", 0.4), "load_cold_s": None}
    settings = {"params.mode": "fixed", "params.prompt_tokens": PROMPT, "params.generate_tokens": ANSWER}
    settings |= {"params.ubatch": 512, "params.gpu_layers": 0, **more.pop("settings", {})}
    given = {"cell": f"tinyllama-{quant}", "load_s": 0.4, "peak_bytes": reads * 1.1, "engine": "llama.cpp", **more}
    return Made(events=events, settings=settings, figures={**figures, **given.pop("figures", {})}, **given)


def bench(pp: float = 130.0, tg: float = 26.0, **more: Any) -> Made:
    """A run in mode bench."""

    def events(made: Made, random: np.random.Generator) -> list[Event]:
        return _repetitions(pp, tg, random)

    settings = {"params.mode": "bench", "params.prompt_tokens": PROMPT, "params.generate_tokens": ANSWER}
    figures = {"pp_tok_per_s": pp, "tg_tok_per_s": tg}
    given = {"cell": "tinyllama-bench", "engine": "llama.cpp", **more}
    return Made(events=events, settings=settings, figures={**figures, **given.pop("figures", {})}, **given)


def score(perplexity: float = 31_800.0, **more: Any) -> Made:
    given = {"cell": "tinyllama-score", "engine": "llama.cpp", **more}
    return Made(settings={"params.mode": "score"}, figures={"perplexity": perplexity}, events=_nothing, **given)


def roofline(best: float = 20e9, one: float = 13e9, fp32: float | None = 9e10, **more: Any) -> Made:
    """A run of the device's own ceiling; the best read is that of two threads."""
    figures = {"read_bytes_per_s": best, "read_bytes_per_s.t1": one, "read_bytes_per_s.t2": best}
    figures |= {"fp32_madd_per_s": fp32, "int8_madd_per_s": None if fp32 is None else 3 * fp32}
    given = {"cell": "roofline", "engine": "roofline", "synthetic": False, **more}
    return Made(figures={**figures, **given.pop("figures", {})}, events=_nothing, **given)


def blocks(make: Any, count: int = 3, **more: Any) -> list[Made]:
    return [make(block=block, **more) for block in range(count)]


def _requests(decode: float, prefill: float, random: np.random.Generator) -> list[Event]:
    t, told = 0, [event(0, "mark", name="warmup.begin")]
    for i in range(1 + REQUESTS):
        if i == 1:
            told.append(event(t, "mark", name="measure.begin"))
        told += [event(t, "step.begin", i=i, turn=0), event(t + 1000, "prefill.begin", n=PROMPT, cached=0)]
        t += int(PROMPT / prefill * S * (1 + random.normal(0, 0.01)))
        told.append(event(t, "prefill.end"))
        for token in range(ANSWER):
            t += int(S / decode * (1 + random.normal(0, 0.03))) if token else 900_000
            told.append(event(t, "token", i=token))
        told.append(event(t + 2000, "step.end", i=i, n=ANSWER))
        t += 4000
    return [*told, event(t, "mark", name="measure.end")]


def _repetitions(pp: float, tg: float, random: np.random.Generator) -> list[Event]:
    t, told = 0, [event(0, "mark", name="warmup.begin")]
    for i in range(15):
        if i == 1:
            told.append(event(t, "mark", name="measure.begin"))
        told.append(event(t, "step.begin", i=i, turn=0))
        for name, tokens, rate in (("pp", PROMPT, pp), ("tg", ANSWER, tg)):
            told.append(event(t, f"bench.{name}.begin", n=tokens))
            t += int(tokens / rate * S * (1 + random.normal(0, 0.01)))
            told.append(event(t, f"bench.{name}.end"))
        told.append(event(t, "step.end", i=i, n=ANSWER))
    return [*told, event(t, "mark", name="measure.end")]


def _nothing(made: Made, random: np.random.Generator) -> list[Event]:
    del made, random
    return [event(0, "mark", name="measure.begin"), event(2 * S, "mark", name="measure.end")]
