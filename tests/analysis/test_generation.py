"""A language model's figures, from tokens stamped at known times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest
from raw_run import BOOT, S, event, told

from melt.analysis.events import Asked
from melt.analysis.generation import ITL
from melt.analysis.metrics import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melt.records import Event, Metric

MS = 1_000_000
EMPTY = pd.DataFrame({"t_ns": [], "channel": [], "value": [], "error": []})


def request(
    t: int,
    i: int,
    *,
    prompt: int = 100,
    prefill_ms: int = 200,
    gaps_ms: Sequence[int] = (),
    text_ms: int = 0,
    cached: int = 0,
) -> tuple[list[Event], int]:
    """A request that begins at `t`; its first token comes 1 ms after the prefill. Its events, and when it ended."""
    found = [event(t, "step.begin", i=i)]
    if text_ms:
        found += [event(t, "tokenize.begin"), event(t + text_ms * MS, "tokenize.end", n=prompt)]
        t += text_ms * MS
    found += [event(t, "prefill.begin", n=prompt, cached=cached), event(t + prefill_ms * MS, "prefill.end")]
    t += (prefill_ms + 1) * MS
    found.append(event(t, "token", i=0))
    for number, gap_ms in enumerate(gaps_ms, 1):
        t += gap_ms * MS
        found.append(event(t, "token", i=number))
    return [*found, event(t, "step.end", i=i, n=len(gaps_ms) + 1)], t


def run_of(*made: tuple[list[Event], int], warm: int = 0) -> list[Event]:
    found = [event(BOOT, "agent.begin"), event(BOOT + 1, "load.begin"), event(BOOT + S, "load.end")]
    found.append(event(BOOT + S, "mark", name="engine", kv_bytes=4096))
    for number, (events, _) in enumerate(made):
        if number == warm:
            found.append(event(events[0].t, "mark", name="measure.begin"))
        found += events
    return [*found, event(made[-1][1], "mark", name="measure.end"), event(made[-1][1] + 1, "done")]


def of(events: list[Event]) -> dict[str, Metric]:
    return metrics(told(events), EMPTY, {}, Asked())


def test_the_definitions_hold_on_one_request() -> None:
    found = of(run_of(request(BOOT + 2 * S, 0, gaps_ms=[10] * 20 + [30])))
    assert found["ttft_s"].value == pytest.approx(0.201)
    assert found["prefill_tok_per_s"].value == pytest.approx(100 / 0.2)
    assert found["decode_tok_per_s"].value == pytest.approx(21 / 0.230)
    assert found["itl_p50_s"].value == pytest.approx(0.010)
    assert found["generated_tokens"].value == 22
    assert found["requests"].value == 1
    assert found["kv_bytes"].value == 4096
    assert found["ttft_text_s"].reason == "no_text: the prompt was given as tokens"


def test_the_time_from_the_text_holds_the_tokenizer() -> None:
    found = of(run_of(request(BOOT + 2 * S, 0, gaps_ms=[10], text_ms=5)))
    assert found["ttft_text_s"].value == pytest.approx(0.206)
    assert found["ttft_s"].value == pytest.approx(0.201)


def test_no_gap_spans_two_requests_and_long_requests_weigh_more() -> None:
    first = request(BOOT + 2 * S, 0, gaps_ms=[10] * 10)
    second = request(first[1] + S, 1, gaps_ms=[20] * 30)
    found = of(run_of(first, second))
    assert found["decode_tok_per_s"].value == pytest.approx(40 / (0.1 + 0.6))
    assert found["itl_p50_s"].n == 40
    assert found["itl_p50_s"].value == pytest.approx(0.020)
    assert found["ttft_s"].n == 2


def test_warm_up_requests_count_nowhere() -> None:
    warm = request(BOOT + 2 * S, 0, prefill_ms=9000, gaps_ms=[900] * 20)
    steady = request(warm[1] + S, 1, gaps_ms=[10] * 20)
    found = of(run_of(warm, steady, warm=1))
    assert found["ttft_s"].value == pytest.approx(0.201)
    assert found["decode_tok_per_s"].value == pytest.approx(100)
    assert found["first_inference_s"].value == pytest.approx(9.001 + 18)


def test_tokens_that_were_cached_are_told_and_not_counted() -> None:
    found = of(run_of(request(BOOT + 2 * S, 0, prompt=30, cached=70, gaps_ms=[10])))
    assert found["prefill_tok_per_s"].value == pytest.approx(30 / 0.2)
    assert "70 tokens" in str(found["prefill_tok_per_s"].note)


def test_a_request_that_died_keeps_its_tokens() -> None:
    whole = request(BOOT + 2 * S, 0, gaps_ms=[10] * 20)
    cut, end = request(whole[1] + S, 1, gaps_ms=[10] * 20)
    events = [e for e in run_of(whole, (cut, end)) if not (e.ev in ("done", "step.end") and e.t >= end)]
    events = [e for e in events if e.get("name") != "measure.end"]
    found = of(events)
    assert found["generated_tokens"].value == 42
    assert found["decode_tok_per_s"].value == pytest.approx(100)


def test_one_token_has_no_rate_and_a_run_without_tokens_says_so() -> None:
    found = of(run_of(request(BOOT + 2 * S, 0)))
    assert "gap between two tokens" in str(found["decode_tok_per_s"].reason)
    events = [e for e in run_of(request(BOOT + 2 * S, 0)) if e.ev != "token"]
    none = of(events)
    assert none["ttft_s"].value is None
    assert all(none[name].value is None for name in ITL.values())


def test_other_engines_have_none_of_these_metrics() -> None:
    events = [
        event(BOOT, "mark", name="measure.begin"),
        event(BOOT + S, "infer.begin", i=0),
        event(BOOT + 2 * S, "infer.end", i=0),
    ]
    assert "ttft_s" not in of(events)


@pytest.mark.parametrize("n", [None, 0, -5, "100", True, 1 << 70])
def test_a_prompt_of_no_length_is_left_out(n: object) -> None:
    events = [
        e if e.ev != "prefill.begin" else event(e.t, e.ev, n=n) for e in run_of(request(BOOT + 2 * S, 0, gaps_ms=[10]))
    ]
    of(events)
