"""The figures of the modes that are no requests, and of cold and warm loads, from events with a known truth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from raw_run import BOOT, S, event, told

from melt.analysis.events import Asked
from melt.analysis.generation import weights_read
from melt.analysis.metrics import metrics
from melt.analysis.verdict import judge
from melt.records import Metric, gap

if TYPE_CHECKING:
    from melt.records import Event

MS = 1_000_000
EMPTY = pd.DataFrame({"t_ns": [], "channel": [], "value": [], "error": []})


def of(events: list[Event]) -> dict[str, Metric]:
    return metrics(told(events), EMPTY, {}, Asked())


def steps(*made: tuple[str, int, dict[str, Any], dict[str, Any]], warm: int = 0) -> list[Event]:
    """Steps of (kind, ms, fields of begin, fields of end), back to back; the first `warm` are before the window."""
    t = BOOT + S
    found = [event(BOOT, "load.begin"), event(t, "load.end"), event(t, "mark", name="warmup.begin")]
    for number, (kind, ms, begin, end) in enumerate(made):
        if number == warm:
            found.append(event(t, "mark", name="measure.begin"))
        found += [event(t, "step.begin", i=number), event(t, f"{kind}.begin", **begin)]
        t += ms * MS
        found += [event(t, f"{kind}.end", **end), event(t, "step.end", n=1)]
    return [*found, event(t, "mark", name="measure.end"), event(t + 1, "done")]


# ------------------------------------------------------------------------------------------------------------ bench


def test_the_rate_of_a_repetition_is_its_tokens_by_its_time_and_the_figure_their_mean() -> None:
    pp = [("bench.pp", ms, {"n": 512}, {}) for ms in (9_999, 1000, 2000)]
    tg = [("bench.tg", ms, {"n": 128}, {}) for ms in (9_999, 4000, 2000)]
    found = of(steps(pp[0], tg[0], pp[1], tg[1], pp[2], tg[2], warm=2))
    assert found["pp_tok_per_s"].value == pytest.approx((512 + 256) / 2)
    assert found["tg_tok_per_s"].value == pytest.approx((32 + 64) / 2)
    assert found["pp_tok_per_s"].n == 2
    assert "llama-bench" in (found["tg_tok_per_s"].note or "")


def test_what_was_not_timed_is_no_figure_and_what_never_ended_is_a_gap() -> None:
    one = of(steps(("bench.tg", 1000, {"n": 8}, {})))
    assert "pp_tok_per_s" not in one
    assert one["tg_tok_per_s"].value == pytest.approx(8)
    cut = steps(("bench.pp", 1000, {"n": 512}, {}))[:-4]
    assert of(cut)["pp_tok_per_s"].value is None
    assert "decode_tok_per_s" not in of(cut)


@pytest.mark.parametrize("n", [0, -1, None, "8", 1 << 70, 0.5, True])
def test_a_count_that_is_none_makes_no_rate(n: Any) -> None:
    assert of(steps(("bench.pp", 1000, {"n": n}, {})))["pp_tok_per_s"].value is None


# ------------------------------------------------------------------------------------------------------------ score


def scored(item: int, n: int, logprob: Any, greedy: int = 0, ms: int = 100) -> Any:
    return ("score", ms, {"i": item, "evaluated": n + 1}, {"n": n, "logprob": logprob, "greedy": greedy})


def test_perplexity_is_of_all_tokens_and_each_text_counts_once() -> None:
    halves, quarters = 10 * math.log(0.5), 30 * math.log(0.25)
    found = of(steps(scored(0, 10, halves, 5), scored(1, 30, quarters, 3), scored(0, 10, halves, 5)))
    assert found["perplexity"].value == pytest.approx(math.exp(-(halves + quarters) / 40))
    assert found["perplexity"].n == 40
    assert found["greedy_share"].value == pytest.approx(8 / 40)
    assert found["score_tok_per_s"].value == pytest.approx((11 + 31 + 11) / 0.3)


@pytest.mark.parametrize("logprob", [None, "x", True, "nan"])
def test_a_text_without_a_likelihood_makes_no_perplexity_of_the_others(logprob: Any) -> None:
    found = of(steps(scored(0, 10, -5.0), scored(1, 10, logprob)))
    assert found["perplexity"].value is found["greedy_share"].value is None
    assert "1 scorings gave no finite likelihood" in (found["perplexity"].reason or "")
    assert of(steps(scored(0, 10, logprob)))["perplexity"].value is None


def test_a_text_that_is_cut_is_not_counted() -> None:
    events = steps(scored(0, 10, -5.0), scored(1, 10, -9.0))
    cut = events[: next(i for i, e in enumerate(events) if e.ev == "score.begin" and e.get("i") == 1) + 1]
    assert of(cut)["perplexity"].value == pytest.approx(math.exp(0.5))


def test_what_is_all_but_impossible_is_told_and_no_infinity() -> None:
    assert of(steps(scored(0, 1, -1e9)))["perplexity"].value is None


# ---------------------------------------------------------------------------------------------------- cold and warm


@pytest.mark.parametrize(
    ("resident", "cold", "warm"),
    [(0, True, False), (50, True, False), (51, False, False), (949, False, False), (950, False, True)],
)
def test_a_load_is_cold_or_warm_by_what_lay_in_memory_before(resident: int, *, cold: bool, warm: bool) -> None:
    page_cache = event(BOOT - 1, "mark", name="page_cache", bytes=1000, resident_bytes=resident)
    found = of([page_cache, *steps(scored(0, 1, -1.0))])
    assert (found["load_cold_s"].value, found["load_warm_s"].value) == (1.0 if cold else None, 1.0 if warm else None)
    assert found["load_s"].value == 1.0


def test_a_system_that_does_not_tell_leaves_both_open() -> None:
    found = of([event(BOOT - 1, "mark", name="page_cache", bytes=1000), *steps(scored(0, 1, -1.0))])
    assert found["load_cold_s"].value is found["load_warm_s"].value is None
    assert "load_cold_s" not in of(steps(scored(0, 1, -1.0)))


# ---------------------------------------------------------------------------------------------------- weights read


def test_what_decoding_reads_is_its_rate_times_what_a_token_reads() -> None:
    found = {"decode_tok_per_s": Metric(value=12.5, n=131), "weight_bytes_per_token": Metric(value=6e8)}
    assert weights_read(found)["decode_read_bytes_per_s"].value == pytest.approx(7.5e9)
    assert weights_read(found)["decode_read_bytes_per_s"].n == 131
    for key in found:
        one = weights_read({**found, key: gap("why not")})["decode_read_bytes_per_s"]
        assert (one.value, one.reason) == (None, "why not")
    assert weights_read({}) == {}


# --------------------------------------------------------------------------------------------- requests that differ


@pytest.mark.parametrize(("turns", "judged"), [(1, True), (4, False)])
def test_requests_that_are_asked_different_things_are_not_judged_by_their_times(turns: int, *, judged: bool) -> None:
    """Each slower than the one before: the same request would have slowed and never been warm, turns may."""
    t = BOOT + S
    found = [event(BOOT, "load.begin"), event(t, "load.end"), event(t, "mark", name="measure.begin")]
    for i in range(400):
        found.append(event(t, "step.begin", i=i, turn=i % turns))
        t += (10 + i) * MS
        found.append(event(t, "step.end", i=i))
    end = [event(t, "mark", name="measure.end"), event(t, "done")]
    agent = [event(BOOT - 1, "agent.engine.start"), event(t + 1, "agent.engine.end", exit=0), event(t + 2, "agent.end")]
    run = told([agent[0], *found, *end, *agent[1:]])
    codes = {reason.code.value for reason in judge(run, EMPTY, {}, Asked())}
    assert bool(codes & {"slowed", "not_steady"}) == judged
    assert (metrics(run, EMPTY, {}, Asked())["warmup_discarded"].value == 0) != judged
