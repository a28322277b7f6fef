"""Language models: what the stamps of a run's tokens say. A request is one prompt and its answer.

Every token carries one stamp, taken when it is known. So the first token belongs to the time to first token, and the
rate of decoding stands on the gaps between tokens: (n - 1) ÷ (t_n - t_1), the inverse of LoadGen's time per output
token. A request that died keeps the tokens it had.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from melt.analysis.events import Inferences, mark, mark_t, whole
from melt.analysis.percentiles import percentiles
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from melt.analysis.events import Int64s
    from melt.analysis.measured import Measured
    from melt.records import Event

NO_REQUEST = "no_measurement: no request of the measured phase gave a token"
NO_TEXT = "no_text: the prompt was given as tokens"
ITL: Mapping[float, str] = {50: "itl_p50_s", 90: "itl_p90_s", 95: "itl_p95_s", 99: "itl_p99_s", 99.9: "itl_p99_9_s"}


@dataclass
class Request:
    """Stamps (ns) of one request; `prompt_tokens` are those evaluated, `cached_tokens` those that were already."""

    prefill_begin: int
    prompt_tokens: int
    cached_tokens: int = 0
    tokenize_begin: int | None = None
    prefill_end: int | None = None
    tokens: list[int] = field(default_factory=list)

    @property
    def stamps(self) -> Int64s:
        return np.array(self.tokens, dtype=np.int64)


def requests(events: Iterable[Event]) -> list[Request]:
    """The requests of a run, in order; one that died is as far as it came."""
    found: list[Request] = []
    tokenize_begin: int | None = None
    for event in events:
        if event.ev == "tokenize.begin":
            tokenize_begin = event.t
        elif event.ev == "prefill.begin":
            evaluated, cached = whole(event.get("n")), whole(event.get("cached")) or 0
            if evaluated is not None and evaluated > 0:
                found.append(Request(event.t, evaluated, cached, tokenize_begin))
            tokenize_begin = None
        elif found and event.ev == "prefill.end" and found[-1].prefill_end is None:
            found[-1].prefill_end = event.t
        elif found and event.ev == "token":
            found[-1].tokens.append(event.t)
    return found


def generation(measured: Measured) -> dict[str, Metric]:
    """The metrics of a language model by name; none for a run whose engine wrote no prompt."""
    made = requests(measured.landmarks)
    if not made:
        return {}
    begin, end = mark_t(measured.landmarks, "measure.begin"), mark_t(measured.landmarks, "measure.end")
    kept = [
        r
        for r in made
        if begin is not None and begin <= r.prefill_begin and (end is None or r.prefill_begin <= end) and r.tokens
    ]
    return {**_first_tokens(kept), **_rates(kept), **_gaps(kept), **_sizes(measured.landmarks, kept)}


def _first_tokens(kept: Sequence[Request]) -> dict[str, Metric]:
    """Means over the requests: a run has too few of them for a percentile."""
    from_tokens = [r.tokens[0] - r.prefill_begin for r in kept]
    from_text = [r.tokens[0] - r.tokenize_begin for r in kept if r.tokenize_begin is not None]
    why_no_text = NO_TEXT if kept else NO_REQUEST
    return {"ttft_s": _mean_s(from_tokens, NO_REQUEST), "ttft_text_s": _mean_s(from_text, why_no_text)}


def _mean_s(spans_ns: Sequence[int], why_not: str) -> Metric:
    return Metric(value=float(np.mean(spans_ns)) * 1e-9, n=len(spans_ns)) if spans_ns else gap(why_not)


def _rates(kept: Sequence[Request]) -> dict[str, Metric]:
    prefills = [(r.prompt_tokens, r.prefill_end - r.prefill_begin) for r in kept if r.prefill_end is not None]
    decodes = [(len(r.tokens) - 1, r.tokens[-1] - r.tokens[0]) for r in kept if len(r.tokens) > 1]
    cached = sum(r.cached_tokens for r in kept)
    note = f"{cached} tokens were in the cache already and do not count" if cached else None
    return {
        "prefill_tok_per_s": _rate(prefills, "no_measurement: no prompt was evaluated to its end", note),
        "decode_tok_per_s": _rate(decodes, "too_few_samples: the rate stands on the gap between two tokens", None),
    }


def _rate(parts: Sequence[tuple[int, int]], why_not: str, note: str | None) -> Metric:
    """Tokens ÷ time over all requests, `parts` being (tokens, ns)."""
    tokens, ns = (sum(column) for column in zip(*parts, strict=True)) if parts else (0, 0)
    return Metric(value=tokens / (ns * 1e-9), n=tokens, note=note) if ns > 0 else gap(why_not)


def _gaps(kept: Sequence[Request]) -> dict[str, Metric]:
    """Inter-token latencies, pooled inside the run."""
    return {ITL[p]: metric for p, metric in percentiles(gaps(kept).seconds).items()}


def gaps(made: Sequence[Request]) -> Inferences:
    """The gaps between tokens as if each were an inference, from one token to the next; none spans two requests."""
    stamps = [r.stamps for r in made if len(r.tokens) > 1]
    begin = np.concatenate([s[:-1] for s in stamps]) if stamps else np.zeros(0, dtype=np.int64)
    end = np.concatenate([s[1:] for s in stamps]) if stamps else np.zeros(0, dtype=np.int64)
    return Inferences(np.arange(begin.size, dtype=np.int64), begin, end, 0)


def _sizes(events: Sequence[Event], kept: Sequence[Request]) -> dict[str, Metric]:
    said = mark(events, "engine")
    kv_bytes = None if said is None else whole(said.get("kv_bytes"))
    return {
        "requests": Metric(value=float(len(kept))),
        "generated_tokens": Metric(value=float(sum(len(r.tokens) for r in kept))),
        "kv_bytes": gap("no_sample: the engine did not say") if kv_bytes is None else Metric(value=float(kv_bytes)),
    }


def weights_read(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """`decode_read_bytes_per_s`: the weights that decoding reads in a second, from its rate and what a token reads.

    Neither the cache of keys and values nor activations are in it. None where no token was decoded.
    """
    rate, per_token = metrics.get("decode_tok_per_s"), metrics.get("weight_bytes_per_token")
    if rate is None or per_token is None:
        return {}
    if rate.value is None or per_token.value is None:
        return {"decode_read_bytes_per_s": gap((rate if rate.value is None else per_token).reason or "not known")}
    return {"decode_read_bytes_per_s": Metric(value=rate.value * per_token.value, n=rate.n, note="weights alone")}
