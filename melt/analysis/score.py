"""How likely a model holds texts: perplexity, and what it took to find out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melt.analysis.events import mark_t, whole
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.analysis.measured import Measured
    from melt.records import Event


@dataclass(frozen=True)
class Scored:
    """One text, scored: `n` of its tokens, whose probabilities' natural logarithms add up to `logprob`."""

    item: int
    n: int
    logprob: float
    greedy: int
    """How many of them were what the model held for the likeliest."""
    evaluated: int
    """Tokens that were computed for it, those of overlapping windows twice."""
    seconds: float


def scored(events: Sequence[Event]) -> list[Scored]:
    """The texts scored in the measured phase, in order; one that is cut is left out, and one that is not finite."""
    begin, end = mark_t(events, "measure.begin"), mark_t(events, "measure.end")
    found: list[Scored] = []
    started: Event | None = None
    for event in events:
        if event.ev == "score.begin":
            started = event
        elif event.ev == "score.end" and started is not None:
            one = _one(started, event)
            if one is not None and begin is not None and begin <= started.t and (end is None or event.t <= end):
                found.append(one)
            started = None
    return found


def _one(begin: Event, end: Event) -> Scored | None:
    item, evaluated = whole(begin.get("i")), whole(begin.get("evaluated"))
    n, greedy, logprob = whole(end.get("n")), whole(end.get("greedy")), _finite(end.get("logprob"))
    if item is None or evaluated is None or n is None or n <= 0 or greedy is None or logprob is None:
        return None
    return Scored(item, n, logprob, greedy, evaluated, (end.t - begin.t) * 1e-9) if end.t > begin.t else None


def _without_a_number(events: Sequence[Event]) -> int:
    """How many texts of the measured phase were scored and gave no finite likelihood."""
    begin = mark_t(events, "measure.begin")
    ends = (event for event in events if event.ev == "score.end" and begin is not None and event.t >= begin)
    return sum(_finite(event.get("logprob")) is None for event in ends)


def _finite(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def score(measured: Measured) -> dict[str, Metric]:
    """`perplexity`, `greedy_share` and `score_tok_per_s`; none for a run that scored nothing.

    Perplexity is exp(−Σ logprob ÷ Σ n) over all texts, each counted once however often it was scored: `n` is the
    number of tokens. A text longer than the context is scored in windows that overlap by half, which is not how
    llama-perplexity does it.
    """
    if not any(event.ev == "score.begin" for event in measured.landmarks):
        return {}
    found = scored(measured.landmarks)
    names = ("perplexity", "greedy_share", "score_tok_per_s")
    if not found:
        return dict.fromkeys(names, gap("no_measurement: no text of the measured phase was scored to its end"))
    if bad := _without_a_number(measured.landmarks):
        # without them the model would seem better than it is
        return {**dict.fromkeys(names, gap(f"out_of_range: {bad} scorings gave no finite likelihood"))}
    once = {one.item: one for one in found}
    n = sum(one.n for one in once.values())
    seconds = sum(one.seconds for one in found)
    evaluated = sum(one.evaluated for one in found)
    exponent = -sum(one.logprob for one in once.values()) / n
    too_large = gap("out_of_range: the text is all but impossible to the model")
    return {
        "perplexity": Metric(value=math.exp(exponent), n=n) if exponent < 700 else too_large,  # noqa: PLR2004
        "greedy_share": Metric(value=sum(one.greedy for one in once.values()) / n, n=n),
        "score_tok_per_s": Metric(value=evaluated / seconds, n=evaluated),
    }
