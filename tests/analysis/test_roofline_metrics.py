"""A roofline's figures, from repetitions of known lengths."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_run import BOOT, S, event, note, told, trace_of

from melt.analysis.events import Asked
from melt.analysis.measured import measure
from melt.analysis.metrics import metrics
from melt.analysis.roofline import METRICS, repetitions, roofline, span
from melt.analysis.verdict import judge
from melt.job import parse_events
from melt.records import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from melt.records import Event, Metric

MS = 1_000_000
EMPTY = pd.DataFrame({"t_ns": [], "channel": [], "value": [], "error": []})
COUNTS = {"read": "bytes", "fp32": "madds", "int8": "madds"}
Point = tuple[str, int, int, list[int]]
"""Kind, threads, work of a repetition, and how long each took in ms."""


def engine(**more: Any) -> Event:
    fields = {"version": "1", "threads": 2, "cpus": 2, "read_bytes": 256 << 20, "cache_bytes": 32 << 20}
    isas = {"read_isa": "avx2", "fp32_isa": "avx2+fma", "int8_isa": "avx2"}
    return event(BOOT + 1, "mark", name="engine", **{**fields, **isas, **more})


def repetition(t: int, what: str, threads: int, i: int, work: int, ms: int, **more: Any) -> list[Event]:
    said = {"what": what, "threads": threads, "i": i, **more}
    return [event(t, "roof.begin", **said), event(t + ms * MS, "roof.end", **said, **{COUNTS[what]: work})]


def run_of(points: Iterable[Point], **of_engine: Any) -> list[Event]:
    """A run that ended well; each point is led in to by a repetition that is far too fast."""
    found = [event(BOOT, "agent.begin"), event(BOOT + 1, "agent.engine.start", pid=7), engine(**of_engine)]
    found.append(event(BOOT + 2, "mark", name="warmup.begin"))
    found += repetition(BOOT + 3, "fp32", 2, 0, 10**15, 1)
    t = BOOT + S
    found.append(event(t, "mark", name="measure.begin"))
    for what, threads, work, lengths in points:
        for i, (ms, more) in enumerate([(1, {"lead": 1}), *((ms, {}) for ms in lengths)]):
            found += repetition(t, what, threads, max(0, i - 1), 1000 * work if more else work, ms, **more)
            t += ms * MS + 1000
    found += [event(t, "mark", name="measure.end"), event(t + 1, "done")]
    return [*found, event(t + S, "agent.engine.end", exit=0, signal=None), event(t + 2 * S, "agent.end")]


WHOLE: list[Point] = [
    ("read", 1, 10**9, [100] * 11),
    ("fp32", 1, 4 * 10**8, [20] * 11),
    ("int8", 1, 10**9, [20] * 11),
    ("read", 2, 10**9, [*[50] * 10, 80, 20, 40]),
    ("fp32", 2, 8 * 10**8, [20] * 11),
    ("int8", 2, 9 * 10**8, [20] * 11),
]


def of(events: Sequence[Event]) -> dict[str, Metric]:
    return metrics(told(events), EMPTY, {}, Asked())


def test_a_point_is_the_median_of_its_repetitions_and_a_ceiling_the_best_point() -> None:
    found = of(run_of(WHOLE))
    values = {name: found[name].value for name in found if name.partition(".")[0] in METRICS.values()}
    assert values == pytest.approx(
        {
            "read_bytes_per_s": 2e10,
            "fp32_madd_per_s": 4e10,
            "int8_madd_per_s": 5e10,
            "read_bytes_per_s.t1": 1e10,
            "read_bytes_per_s.t2": 2e10,
            "fp32_madd_per_s.t1": 2e10,
            "fp32_madd_per_s.t2": 4e10,
            "int8_madd_per_s.t1": 5e10,
            "int8_madd_per_s.t2": 4.5e10,
        }
    )
    assert found["read_bytes_per_s"].n == 13
    assert found["int8_madd_per_s"].note == "best with 1 thread; avx2; the middle half of 11 lies from 5e+10 to 5e+10"


def test_the_note_tells_the_best_number_of_threads_the_instructions_and_the_spread() -> None:
    spread: list[Point] = [("read", 2, 10**9, [100, 100, 100, 80, 80, 80, 80, 80, 50, 50, 50])]
    note = of(run_of(spread))["read_bytes_per_s"].note
    assert note == "best with 2 threads; avx2; the middle half of 11 lies from 1.125e+10 to 1.625e+10"


def test_a_roofline_has_no_figures_of_inference() -> None:
    found = of(run_of(WHOLE))
    for name in ("latency_p50_s", "latency_mean_s", "inferences_per_s", "load_s", "first_inference_s", "ttft_s"):
        assert name not in found
    assert found["j_per_inference"].value is None
    assert found["peak_memory_bytes"].reason, "what is said of every engine is said of this one"


def test_other_engines_have_none_of_these_metrics() -> None:
    events = [
        event(BOOT, "mark", name="engine", version="1.2"),
        event(BOOT + 1, "mark", name="measure.begin"),
        event(BOOT + S, "infer.begin", i=0),
        event(BOOT + 2 * S, "infer.end", i=0),
    ]
    assert roofline(events) == {}
    assert "latency_p50_s" in of(events)


def test_what_warms_up_and_what_leads_in_count_nowhere() -> None:
    events = run_of(WHOLE)
    found = repetitions(events)
    assert len(found) == sum(len(lengths) for *_, lengths in WHOLE)
    assert max(one.per_s for one in found) < 10**12
    assert span(found) == (found[0].begin, found[-1].end)
    assert span([]) is None
    assert repetitions([e for e in events if e.get("name") != "measure.begin"]) == []


def test_more_threads_than_processors_and_a_small_buffer_are_told() -> None:
    found = of(run_of(WHOLE, threads=8, read_bytes=64 << 20))
    assert "8 threads were asked of 2 processors" in str(found["fp32_madd_per_s"].note)
    assert "less than 4 times the last level of cache" in str(found["read_bytes_per_s"].note)
    assert "level of cache" not in str(found["fp32_madd_per_s"].note)
    assert "level of cache" not in str(of(run_of(WHOLE, cache_bytes=None))["read_bytes_per_s"].note)


def test_a_run_that_was_killed_keeps_the_points_it_had() -> None:
    events = run_of(WHOLE)
    cut = next(n for n, e in enumerate(events) if (e.get("what"), e.get("threads"), e.get("i")) == ("fp32", 2, 5))
    found = of(events[: cut + 1])
    assert found["read_bytes_per_s"].value == pytest.approx(2e10)
    assert found["fp32_madd_per_s"].value == pytest.approx(2e10)
    assert str(found["fp32_madd_per_s.t2"].reason).startswith("too_few_samples: p50 needs 11")
    assert "int8_madd_per_s.t2" not in found


def test_a_run_that_died_before_its_first_point_says_so() -> None:
    found = of([event(BOOT, "agent.begin"), engine()])
    assert {name: found[name].reason for name in METRICS.values()} == dict.fromkeys(
        METRICS.values(), "no_measurement: no repetition of it ended in the measured phase"
    )


def test_a_whole_run_gives_no_reason_to_trust_it_less() -> None:
    assert judge(told(run_of(WHOLE)), EMPTY, {}, Asked()) == ()


def test_a_run_whose_engine_was_killed_is_no_good_run() -> None:
    events = [e for e in run_of(WHOLE) if e.ev not in ("done", "agent.engine.end")]
    events.append(event(events[-1].t + 1, "agent.engine.end", exit=None, signal=9))
    assert {reason.code for reason in judge(told(events), EMPTY, {}, Asked())} == {ReasonCode.CRASHED}


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_lines_cut_doubled_swapped_or_odd_never_raise_and_never_give_a_rate_of_nothing(data: st.DataObject) -> None:
    events = run_of([("read", 1, 100, [10] * 12), ("fp32", 2, 100, [10] * 12)])
    kept = data.draw(st.lists(st.sampled_from(events), max_size=len(events)))
    for n in data.draw(st.lists(st.integers(0, max(0, len(kept) - 1)), max_size=4)) if kept else ():
        key = data.draw(st.sampled_from(["what", "threads", "i", "bytes", "madds", "lead", "name", "read_isa", "cpus"]))
        kept[n] = event(kept[n].t, kept[n].ev, **{**(kept[n].model_extra or {}), key: data.draw(ODD)})
    text = b"".join(e.model_dump_json().encode() + b"\n" for e in kept)
    cut = data.draw(st.integers(0, len(text)))
    read = parse_events(io.BytesIO(text[:cut]))
    found = metrics(read, EMPTY, {}, Asked())
    judge(read, EMPTY, {}, Asked())
    rates = {name: metric for name, metric in found.items() if name.partition(".")[0] in METRICS.values()}
    assert all(metric.value is None or metric.value > 0 for metric in rates.values())


def test_a_repetition_stands_in_for_an_inference_where_a_run_is_judged() -> None:
    """Others' load is looked at while a roofline measures, and an error after a repetition is a crash, no refusal."""
    events = run_of(WHOLE)
    measured = measure(told(events), Asked())
    assert (measured.completed, len(measured.kept)) == (sum(len(lengths) for *_, lengths in WHOLE), 0)
    assert measured.window == span(repetitions(events))
    channels = {"engine.cpu_s": lambda s: 2.0 * s, "cpu.busy_s": lambda s: 2.5 * s}
    notes = {name: note("load") for name in channels}
    assert [r.code for r in judge(told(events), trace_of(events, channels), notes, Asked())] == ["foreign_load"]
    cut = next(n for n, e in enumerate(events) if (e.get("what"), e.get("threads"), e.get("i")) == ("fp32", 2, 5))
    died = [*events[:cut], event(events[cut].t, "error", kind="runtime", message="it broke")]
    died += [event(died[-1].t + 1, "agent.engine.end", exit=3, signal=None), event(died[-1].t + 2, "agent.end")]
    assert [reason.code for reason in judge(told(died), EMPTY, {}, Asked())] == [ReasonCode.CRASHED]
