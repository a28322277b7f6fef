"""llama-server: the `timings` of its answers, one JSON a line, or the lines of its log where no answer was kept.

`prompt_ms` runs from the moment a slot takes the prompt up until the first token is sampled, `predicted_ms` from then
until the last one is. So the `predicted_n` tokens of an answer stand on `predicted_n` - 1 gaps, which is melt's rate of
decoding; the server's own `predicted_per_second` counts all n tokens in older versions, and is not used.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from melt.engines.adapters.told import Told, amount, count
from melt.errors import ParseError
from melt.records import Metric, gap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.engines.adapters.told import Printed

_NOT_TOLD = ("itl_p50_s", "itl_p90_s", "itl_p95_s", "itl_p99_s", "itl_p99_9_s")
NAMES = (
    "ttft_s",
    "ttft_text_s",
    "prefill_tok_per_s",
    "decode_tok_per_s",
    *_NOT_TOLD,
    "requests",
    "generated_tokens",
)
_NO_ARRIVAL = "no_sample: the server does not say when a request came in: how long it waited is not known"
_NO_TOKENS = "no_sample: the server tells of whole answers, not of their tokens"
_PREFILL = "the server's prompt_ms, which ends when the first token is sampled"
_DECODE = "n - 1 gaps in the server's predicted_ms, from the first token sampled to the last"
_AMOUNT = r"= *([0-9]{1,12}(?:\.[0-9]{1,6})?) ms / *([0-9]{1,12}) tokens\b"
_LOGGED = re.compile(rf"\b(prompt )?eval time *{_AMOUNT}")
_LIBRARYS_OWN = re.compile(r"\bllama_(?:perf|print)_")
"""Sums over all requests that libllama prints in like words at the end."""


@dataclass(frozen=True)
class _Answer:
    """One answer: tokens and times as the server counts them."""

    prompt_n: int
    prompt_ms: float
    predicted_n: int | None = None
    predicted_ms: float = 0.0
    cached_n: int = 0
    drafted_n: int = 0


def parse(printed: Printed) -> Told:
    """The rates over all answers; of an output that is cut, those of its whole ones. Raises ParseError without any."""
    answers, broken = _of_answers(printed.told)
    if not answers:
        answers = _of_log(printed.stderr.decode(errors="replace")) or _of_log(printed.told)
    if not answers:
        raise ParseError(
            "it holds no timings of llama-server: print its answers, one JSON a line, or let its log stand on stderr",
            printed.told,
        )
    cut = sum(answer.predicted_n is None for answer in answers) + broken
    wrong = f"{cut} of its answers are cut: {len(answers) + broken - cut} are whole" if cut else None
    return Told(_metrics(answers), wrong=wrong)


def _metrics(answers: Sequence[_Answer]) -> dict[str, Metric]:
    whole = [a for a in answers if a.predicted_n is not None]
    cached, drafted = sum(a.cached_n for a in answers), sum(a.drafted_n for a in answers)
    in_cache = f"; {cached} tokens were in the cache already and do not count" if cached else ""
    guessed = f"; {drafted} tokens were drafted, so they came in groups" if drafted else ""
    prefills = [(a.prompt_n, a.prompt_ms) for a in answers if a.prompt_n and a.prompt_ms]
    counted = [(a.predicted_n or 0, a.predicted_ms) for a in whole]
    decodes = [(n - 1, ms) for n, ms in counted if n > 1 and ms]
    return {
        "ttft_s": gap(_NO_ARRIVAL),
        "ttft_text_s": gap(_NO_ARRIVAL),
        "prefill_tok_per_s": _rate(prefills, "no_measurement: no prompt was evaluated", _PREFILL + in_cache),
        "decode_tok_per_s": _rate(
            decodes, "too_few_samples: the rate stands on the gap between two tokens", _DECODE + guessed
        ),
        **dict.fromkeys(_NOT_TOLD, gap(_NO_TOKENS)),
        "requests": Metric(value=float(len(whole))),
        "generated_tokens": Metric(value=float(sum(n for n, _ in counted))),
    }


def _rate(parts: Sequence[tuple[int, float]], why_not: str, note: str) -> Metric:
    """Tokens ÷ time over all answers, `parts` being (tokens, ms)."""
    tokens, ms = sum(n for n, _ in parts), sum(ms for _, ms in parts)
    return Metric(value=tokens / (ms * 1e-3), n=tokens, note=note) if parts else gap(why_not)


def _of_answers(text: str) -> tuple[list[_Answer], int]:
    """The answers among the lines, a stream's events included, and how many of them are broken."""
    found, broken = [], 0
    for line in text.splitlines():
        told = line.removeprefix("data:").lstrip()
        if not told.startswith("{"):
            continue
        try:
            one = json.loads(told)
        except (ValueError, RecursionError):
            broken += 1
            continue
        if isinstance(one, dict) and isinstance(one.get("timings"), dict) and not _goes_on(one):
            answer = _answer(one["timings"])
            found += [answer] if answer else []
            broken += answer is None
    return found, broken


def _goes_on(answer: dict[str, Any]) -> bool:
    """Whether it is a part of a stream: with `timings_per_token` each of them repeats the sums so far."""
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return answer.get("stop") is False or (isinstance(first, dict) and first.get("finish_reason", "") is None)


def _answer(timings: dict[str, Any]) -> _Answer | None:
    prompt_n, predicted_n = count(timings.get("prompt_n")), count(timings.get("predicted_n"))
    prompt_ms, predicted_ms = amount(timings.get("prompt_ms")), amount(timings.get("predicted_ms"))
    if prompt_n is None or predicted_n is None or prompt_ms is None or predicted_ms is None:
        return None
    cached, drafted = count(timings.get("cache_n")) or 0, count(timings.get("draft_n")) or 0
    return _Answer(prompt_n, prompt_ms, predicted_n, predicted_ms, cached, drafted)


def _of_log(text: str) -> list[_Answer]:
    """The answers that a log tells of: a line of the prompt, and the next of the same kind or of the generation."""
    found: list[_Answer] = []
    for line in text.splitlines():
        if _LIBRARYS_OWN.search(line) or not (told := _LOGGED.search(line)):
            continue
        ms, tokens = float(told[2]), int(told[3])
        if told[1]:
            found.append(_Answer(tokens, ms))
        elif found and found[-1].predicted_n is None:
            found[-1] = _Answer(found[-1].prompt_n, found[-1].prompt_ms, tokens, ms)
    return found
