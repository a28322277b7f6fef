"""What other programs print of themselves: captured whole, cut at every byte, damaged, and made up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.engines.adapters import ADAPTERS, Printed, Told
from melt.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Callable

CAPTURED = Path(__file__).parent / "captured"
BENCH, SERVER, PERF = (ADAPTERS[name].parse for name in ("llama-bench", "llama-server", "onnxruntime-perf-test"))


def captured(name: str) -> bytes:
    return (CAPTURED / name).read_bytes()


def value(told: Told, name: str) -> float:
    metric = told.metrics[name]
    assert metric.value is not None, metric.reason
    return metric.value


def parsed(name: str, printed: Printed) -> Told | None:
    try:
        return ADAPTERS[name].parse(printed)
    except ParseError:
        return None


def rates_of(test: dict[str, Any]) -> list[float]:
    return [(test["n_prompt"] + test["n_gen"]) / ns * 1e9 for ns in test["samples_ns"]]


# ------------------------------------------------------------------------------------------------- llama-bench


@pytest.mark.parametrize("name", ["llama-bench.json", "llama-bench.jsonl"])
def test_llama_benchs_rates_are_computed_again_from_its_samples(name: str) -> None:
    text = captured(name)
    told = BENCH(Printed(stdout=text))
    tests = json.loads(text) if name.endswith("json") else [json.loads(line) for line in text.splitlines()]
    for test, metric in zip(tests, ("pp_tok_per_s", "tg_tok_per_s"), strict=True):
        assert value(told, metric) == pytest.approx(test["avg_ts"], rel=1e-6)
        assert told.metrics[metric].n == 3
        assert told.metrics[metric].note == (
            f"llama-bench's definition, {metric[:2]}{test['n_prompt'] + test['n_gen']}; "
            f"deviation {test['stddev_ts']:.3g}"
        )
    assert told.wrong is None
    assert told.engine["version"] == told.engine["build_commit"] == tests[0]["build_commit"]
    kept = ("model_type", "n_threads", "n_batch", "n_ubatch", "type_k", "type_v", "flash_attn")
    assert {key: told.engine[key] for key in kept} == {key: tests[0][key] for key in kept}
    assert "model_filename" not in told.engine, "a path of one device"


def test_a_deviation_that_overflowed_is_not_believed() -> None:
    (test,) = json.loads(captured("llama-bench-overflow.json"))
    assert abs(test["stddev_ns"] / np.std(test["samples_ns"], ddof=1) - 1) > 0.5, "the capture shows the fault"
    told = BENCH(Printed(stdout=captured("llama-bench-overflow.json")))
    deviation = float(str(told.metrics["pp_tok_per_s"].note).rpartition(" ")[2])
    assert deviation == pytest.approx(np.std(rates_of(test), ddof=1), rel=0.01)
    assert told.metrics["tg_tok_per_s"].reason == "no_measurement: llama-bench told of no tg test"


def test_the_result_file_is_read_where_there_is_one() -> None:
    told = BENCH(Printed(stdout=b"chatter\n", result=captured("llama-bench.json")))
    assert value(told, "pp_tok_per_s")


def test_a_prompt_and_its_answer_together_are_a_figure_of_their_own() -> None:
    told = BENCH(Printed(stdout=captured("llama-bench-pg.json")))
    assert "pg32+16" in str(told.metrics["pg_tok_per_s"].note)
    assert told.metrics["pp_tok_per_s"].value is told.metrics["tg_tok_per_s"].value is None


def test_two_tests_of_a_kind_are_refused_with_what_to_do_and_the_other_kind_is_kept() -> None:
    told = BENCH(Printed(stdout=captured("llama-bench-sweep.jsonl")))
    assert told.wrong is not None
    assert "2 pp tests (pp32, pp64): ask for one a run, and let a suite sweep" in told.wrong
    assert told.metrics["pp_tok_per_s"].reason == f"several_tests: {told.wrong}"
    assert value(told, "tg_tok_per_s")


def test_what_is_not_a_number_in_c_does_not_cost_the_rest() -> None:
    text = re.sub(rb'"stddev_(ts|ns)": [0-9.]+', rb'"stddev_\1": -nan', captured("llama-bench.json"))
    assert b"-nan" in text
    assert BENCH(Printed(stdout=text)) == BENCH(Printed(stdout=captured("llama-bench.json")))


@pytest.mark.parametrize("name", ["llama-bench-no-model.json", "README.md", "perf-test.csv"])
def test_an_output_without_a_test_says_what_to_do(name: str) -> None:
    with pytest.raises(ParseError, match="-o json"):
        BENCH(Printed(stdout=captured(name)))


@pytest.mark.parametrize(
    "change",
    [
        lambda test: test.pop("samples_ns"),
        lambda test: test.update(samples_ns=[]),
        lambda test: test.update(samples_ns=[0, 5]),
        lambda test: test.update(samples_ns=[1, "2"]),
        lambda test: test.update(samples_ns=[-1]),
        lambda test: test.update(samples_ns=[2**70]),
        lambda test: test.update(n_prompt=0, n_gen=0),
        lambda test: test.update(n_prompt=True),
        lambda test: test.update(n_gen="16"),
        lambda test: test.pop("n_prompt"),
    ],
)
def test_a_test_that_cannot_be_is_left_out_and_told(change: Callable[[dict[str, Any]], object]) -> None:
    tests = json.loads(captured("llama-bench.json"))
    change(tests[0])
    told = BENCH(Printed(stdout=("[\n" + json.dumps(tests)[1:]).encode()))
    assert told.wrong == "it is cut or damaged after 1 whole tests"
    assert told.metrics["pp_tok_per_s"].value is None
    assert value(told, "tg_tok_per_s")


@pytest.mark.parametrize("name", ["llama-bench.json", "llama-bench.jsonl"])
def test_cut_at_any_byte_the_whole_tests_are_kept_and_the_rest_is_told(name: str) -> None:
    text = captured(name)
    whole = BENCH(Printed(stdout=text))
    seen = set()
    for end in range(len(text)):
        try:
            told = BENCH(Printed(stdout=text[:end]))
        except ParseError:
            seen.add("none")
            continue
        known = {key for key, metric in told.metrics.items() if metric.value is not None}
        assert all(told.metrics[key] == whole.metrics[key] for key in known)
        assert known, "else it would have been an error"
        lines_end = name.endswith("l") and text[:end].rstrip().endswith(b"}")
        assert told.wrong is not None or lines_end or text[:end].rstrip().endswith(b"]")
        seen.add(f"{len(known)}")
    assert seen >= {"none", "1", "2"}


# ------------------------------------------------------------------------------------------------ llama-server


def test_an_answer_of_llama_server_stands_on_the_gaps_between_its_tokens() -> None:
    text = captured("llama-server.jsonl")
    timings = [json.loads(line)["timings"] for line in text.splitlines()]
    assert len(timings) > 1
    told = SERVER(Printed(stdout=text))
    n, ms = sum(t["predicted_n"] - 1 for t in timings), sum(t["predicted_ms"] for t in timings)
    assert value(told, "decode_tok_per_s") == pytest.approx(n / ms * 1e3)
    assert told.metrics["decode_tok_per_s"].n == n
    prompt = sum(t["prompt_n"] for t in timings) / sum(t["prompt_ms"] for t in timings) * 1e3
    assert value(told, "prefill_tok_per_s") == pytest.approx(prompt)
    assert "first token is sampled" in str(told.metrics["prefill_tok_per_s"].note)
    cached = sum(t["cache_n"] for t in timings)
    assert cached > 0
    assert f"{cached} tokens were in the cache already" in str(told.metrics["prefill_tok_per_s"].note)
    assert value(told, "requests") == len(timings)
    assert value(told, "generated_tokens") == n + len(timings)
    assert "does not say when a request came in" in str(told.metrics["ttft_s"].reason)
    assert set(ADAPTERS["llama-server"].names) == set(told.metrics)
    assert told.wrong is None


def test_the_log_tells_the_same_where_no_answer_was_kept() -> None:
    answers = SERVER(Printed(stdout=captured("llama-server.jsonl")))
    for logged in (Printed(stderr=captured("llama-server.log")), Printed(stdout=captured("llama-server.log"))):
        told = SERVER(logged)
        for name in ("prefill_tok_per_s", "decode_tok_per_s"):
            assert value(told, name) == pytest.approx(value(answers, name), rel=0.01), "the log has two decimals"
        assert value(told, "requests") == value(answers, "requests")
    both = SERVER(Printed(stdout=captured("llama-server.jsonl"), stderr=captured("llama-server.log")))
    assert both == answers, "no answer is counted twice"


def test_an_older_log_is_read_and_the_librarys_own_sums_are_not() -> None:
    told = SERVER(Printed(stderr=captured("llama-server-older.log")))
    assert value(told, "requests") == 1
    assert value(told, "decode_tok_per_s") == pytest.approx((512 - 1) / 9.1204)
    assert value(told, "prefill_tok_per_s") == pytest.approx(96 / 0.18725)
    with pytest.raises(ParseError, match="one JSON a line"):
        SERVER(Printed(stderr=b"llama_perf_context_print: prompt eval time = 6294.68 ms /   271 tokens\n"))


@pytest.mark.parametrize("name", ["llama-server-stream.txt", "llama-server-chat-stream.txt"])
def test_the_parts_of_a_stream_that_repeat_the_sums_so_far_do_not_count(name: str) -> None:
    text = captured(name)
    parts = [json.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: {")]
    assert sum("timings" in part for part in parts) > 2, "the capture has timings in many parts"
    told = SERVER(Printed(stdout=text))
    assert value(told, "requests") == 1
    assert value(told, "generated_tokens") == parts[-1]["timings"]["predicted_n"]


@pytest.mark.parametrize(
    "timings",
    [
        {"prompt_n": 1, "prompt_ms": 1.0, "predicted_n": 1},
        {"prompt_n": -1, "prompt_ms": 1.0, "predicted_n": 1, "predicted_ms": 1.0},
        {"prompt_n": 1, "prompt_ms": "1", "predicted_n": 1, "predicted_ms": 1.0},
        {"prompt_n": 1, "prompt_ms": 1.0, "predicted_n": 1.5, "predicted_ms": 1.0},
        {"prompt_n": 1, "prompt_ms": 1.0, "predicted_n": True, "predicted_ms": 1.0},
        {"prompt_n": 1, "prompt_ms": 1e308, "predicted_n": 1, "predicted_ms": 1.0},
    ],
)
def test_an_answer_that_cannot_be_is_told_and_the_others_count(timings: dict[str, Any]) -> None:
    good = captured("llama-server.jsonl").splitlines()[0]
    told = SERVER(Printed(stdout=good + b"\n" + json.dumps({"timings": timings}).encode()))
    assert value(told, "requests") == 1
    assert told.wrong == "1 of its answers are cut: 1 are whole"


def test_one_token_has_no_rate_and_no_time_is_no_division() -> None:
    lines = [
        {"timings": {"prompt_n": 0, "prompt_ms": 0, "predicted_n": 1, "predicted_ms": 0.001}},
        {"timings": {"prompt_n": 5, "prompt_ms": 0, "predicted_n": 9, "predicted_ms": 0}},
    ]
    told = SERVER(Printed(stdout="\n".join(map(json.dumps, lines)).encode()))
    assert told.metrics["decode_tok_per_s"].value is told.metrics["prefill_tok_per_s"].value is None


def test_a_server_that_died_keeps_its_whole_answers() -> None:
    answers, log = captured("llama-server.jsonl"), captured("llama-server.log")
    for end in range(len(answers)):
        told = parsed("llama-server", Printed(stdout=answers[:end]))
        whole = sum(line.endswith(b"}}") for line in answers[:end].splitlines())
        assert (told is not None) is (whole > 0)
        if told is not None:
            assert value(told, "requests") == whole
            assert (told.wrong is None) is answers[:end].endswith((b"\n", b"}}"))
    for end in range(len(log)):
        told = parsed("llama-server", Printed(stderr=log[:end]))
        prompts = len(re.findall(rb"prompt eval time = .* tokens\b", log[:end]))
        whole = len(re.findall(rb"\|        eval time = .* tokens\b", log[:end]))
        assert (told is not None) is (prompts > 0)
        if told is not None:
            assert value(told, "requests") == whole
            assert told.wrong == (f"1 of its answers are cut: {whole} are whole" if prompts > whole else None)


# --------------------------------------------------------------------------------------- onnxruntime_perf_test


def perf(table: str = "perf-test.csv", stdout: str = "perf-test.stdout") -> Printed:
    return Printed(stdout=captured(stdout), result=captured(table))


def test_latencies_follow_melts_own_rules() -> None:
    told = PERF(perf())
    rows = [line.split(b",") for line in captured("perf-test.csv").splitlines() if line.startswith(b"blobs")]
    seconds = np.array([float(row[1]) for row in rows])
    discarded = int(value(told, "warmup_discarded"))
    assert 8 <= discarded < 40, "the slow ones at the head are warm-up"
    assert value(told, "latency_p50_s") == pytest.approx(float(np.median(seconds[discarded:])))
    assert told.metrics["latency_p50_s"].n == len(rows) - discarded
    assert value(told, "latency_mean_s") == pytest.approx(float(seconds[discarded:].mean()))
    assert str(told.metrics["latency_p99_9_s"].reason).startswith("too_few_samples: p99.9 needs 6636")
    assert value(told, "load_s") == 0.0428736
    assert value(told, "first_inference_s") == 0.017
    assert value(told, "inferences_per_s") == pytest.approx(200 / (seconds.sum() + 0.0004), rel=1e-4)
    assert told.metrics["inferences_per_s"].note is None
    assert set(told.metrics) == set(ADAPTERS["onnxruntime-perf-test"].names)
    assert told.wrong is None


def test_of_two_times_the_whole_one_is_taken() -> None:
    two = PERF(Printed(result=captured("perf-test-two-times.csv")))
    one = captured("perf-test.csv").splitlines()[:30]
    assert two.metrics["latency_p50_s"] == PERF(Printed(result=b"\n".join(one) + b"\n")).metrics["latency_p50_s"]
    assert two.metrics["load_s"].reason == "no_sample: onnxruntime_perf_test did not tell"


def test_the_words_of_v_stand_for_the_table_and_requests_beside_each_other_are_noted() -> None:
    told = PERF(Printed(stdout=captured("perf-test-verbose.stdout")))
    assert told.metrics["latency_p50_s"].n == 30
    assert "beside each other" in str(told.metrics["inferences_per_s"].note)
    assert told.metrics["first_inference_s"].value is None
    assert told.wrong is None


def test_lines_that_are_lost_or_of_another_run_are_told() -> None:
    table, end, _ = captured("perf-test.csv").partition(b"\n\n")
    lines = (table + end[:1]).splitlines(keepends=True)
    lost = PERF(Printed(result=b"".join(lines[:50] + lines[60:])))
    assert "do not follow each other" in str(lost.wrong)
    twice = PERF(Printed(result=b"".join(lines + lines)))
    assert "more than one run" in str(twice.wrong)
    fewer = PERF(Printed(stdout=captured("perf-test.stdout"), result=b"".join(lines[:50])))
    assert fewer.wrong == "it tells of 200 inferences and has the times of 50"
    damaged = PERF(Printed(result=b"".join(lines) + b"blobs,abc,1,2,200\n"))
    assert damaged.wrong == "1 of its lines are cut or damaged: 200 inferences are whole"
    headed = PERF(Printed(result=b"model,time,memory,cpu,run\n" + b"".join(lines)))
    assert headed.wrong is None


def test_cut_at_any_byte_the_whole_lines_are_kept() -> None:
    text = captured("perf-test.csv").split(b"\n\n")[0][:1500]
    for end in range(len(text)):
        whole = text[:end].count(b"\n")
        try:
            told = PERF(Printed(result=text[:end]))
        except ParseError:
            assert whole == 0
            continue
        assert told.metrics["warmup_discarded"].n == whole
        assert (told.wrong is None) is text[:end].endswith(b"\n")


@pytest.mark.parametrize(
    "table", [b"", b"\n", b"a,b\n", b"blobs,1e999,5,5,0\n", b"blobs,nan,5,5,0\n", b"blobs,-1,5,5,0\n"]
)
def test_a_table_without_an_inference_says_what_to_do(table: bytes) -> None:
    with pytest.raises(ParseError, match="result"):
        PERF(Printed(result=table))


# --------------------------------------------------------------------------------------------- whatever it holds

PIECES = st.sampled_from(
    [
        *(captured(name)[:3000] for name in ("llama-bench.json", "llama-bench.jsonl", "llama-server.jsonl")),
        *(captured(name)[-3000:] for name in ("llama-server.log", "perf-test.csv", "perf-test.stdout")),
        *(b"[\n", b"[" * 5000, b'{"timings":', b'{"timings": {}}\n', b"data: ", b"\n", b"]", b"\xff\0", b"1e999"),
        *(b'{"samples_ns": [1e400], "n_prompt": 1', b"9" * 5000, b"iteration:1,time_cost:0\n", b"a,0,0,0,0\n"),
    ]
)
ANY = st.one_of(st.binary(max_size=300), st.lists(st.one_of(PIECES, st.binary(max_size=5)), max_size=6).map(b"".join))


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("head", [b"[\n", b"", b'{"timings":', b"{"])
def test_what_is_nested_deeper_than_a_parser_goes_is_damaged_and_no_more(name: str, head: bytes) -> None:
    deep = head + b"[" * 200_000
    for printed in (Printed(stdout=deep), Printed(stderr=deep), Printed(result=deep)):
        assert parsed(name, printed) is None


@pytest.mark.parametrize("name", ADAPTERS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_nothing_but_a_parse_error_comes_out_of_garbage(name: str, data: st.DataObject) -> None:
    told = parsed(name, Printed(*(data.draw(ANY) for _ in range(3))))
    if told is not None:
        assert set(ADAPTERS[name].names) <= set(told.metrics)
        json.dumps(dict(told.engine), allow_nan=False)


@pytest.mark.parametrize("name", ADAPTERS)
@given(at=st.integers(0, 5000), to=st.binary(max_size=8), which=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_nothing_but_a_parse_error_comes_out_of_a_damaged_capture(name: str, at: int, to: bytes, which: int) -> None:
    files = sorted(path for path in CAPTURED.iterdir() if path.suffix != ".md")
    text = files[which % len(files)].read_bytes()
    damaged = text[: at % len(text)] + to + text[at % len(text) + len(to) :]
    for printed in (Printed(stdout=damaged), Printed(stderr=damaged), Printed(result=damaged)):
        parsed(name, printed)
