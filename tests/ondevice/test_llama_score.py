"""The runner's mode "score", and whether a model is loaded cold or warm: over real small models."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from test_llama_runner import (  # noqa: F401 - fixtures are used by their names
    Bench,
    bench,
    mark,
    models,
    only,
    program,
    window,
    words,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.peer

SCORED = ["step.begin", "score.begin", "score.end", "step.end"]


def scores(bench: Bench, *texts: bytes, **how: object) -> list[dict[str, float]]:
    """What each text, or pair of a text and its continuation after a tab, is held for."""
    files: list[object] = []
    for text in texts:
        given, tab, continuation = text.partition(b"\t")
        files += ["--fresh-text-file", bench.text(given), *(["--text-file", bench.text(continuation)] if tab else [])]
    events = bench.events("score", *files, **how)  # type: ignore[arg-type]
    assert words(window(events, "measure.begin", "measure.end")) == SCORED * len(texts)
    return only(events, "score.end")


def test_a_text_is_scored_token_by_token(bench: Bench) -> None:
    (told,) = scores(bench, b"the rain in spain")
    assert told["n"] == len("the rain in spain")  # after the beginning of text
    assert told["logprob"] < 0
    assert 0 <= told["greedy"] <= told["n"]


def test_a_text_is_as_likely_as_its_parts_one_after_the_other(bench: Bench) -> None:
    whole, first, rest = scores(bench, b"the rain in spain", b"the rain", b"the rain\t in spain")
    assert whole["n"] == first["n"] + rest["n"]
    assert whole["logprob"] == pytest.approx(first["logprob"] + rest["logprob"], rel=1e-5)
    assert whole["greedy"] == first["greedy"] + rest["greedy"]


def test_what_may_follow_is_certain_in_all_but_for_what_no_text_makes(bench: Bench) -> None:
    """Bytes, letters and special tokens; the bytes that are letters too are said by no text."""
    following = [*(bytes([byte]) for byte in range(256) if byte != 9), b"<s>", b"</s>", b"<unk>"]
    told = scores(bench, *(b"x\t" + text for text in following))
    assert all(one["n"] == 1 for one in told)
    assert 0.5 < sum(math.exp(one["logprob"]) for one in told) < 1
    assert sum(one["greedy"] for one in told) <= 1


def test_a_token_across_the_boundary_is_scored(bench: Bench) -> None:
    """A space that ends a text and the t that begins what follows are one token of this vocabulary."""
    whole, first = scores(bench, b"x to", b"x", model="merges.gguf")
    assert whole["n"] - first["n"] == 2  # " t", "o"
    for given, continuation, n in ((b"x ", b"to", 2), (b"x ", b"t", 1), (b"x", b" to", 2)):
        (told,) = scores(bench, given + b"\t" + continuation, model="merges.gguf")
        assert told["n"] == n, (given, continuation)
    (told,) = scores(bench, b"x \tto", model="merges.gguf")
    assert told["logprob"] == pytest.approx(whole["logprob"] - first["logprob"], rel=1e-5)


def test_an_end_that_the_vocabulary_adds_is_neither_scored_nor_evaluated(bench: Bench) -> None:
    (told,) = scores(bench, b"the rain", model="closes.gguf")
    (plain,) = scores(bench, b"the rain")
    assert told["n"] == plain["n"] == len("the rain")
    assert told["logprob"] == pytest.approx(plain["logprob"], rel=1e-6)


def test_what_a_model_always_says_is_certain(bench: Bench) -> None:
    (told,) = scores(bench, b"x\t</s>", model="ends.gguf")
    (other,) = scores(bench, b"x\ty", model="ends.gguf")
    assert (told["n"], told["greedy"]) == (1, 1)
    assert (other["n"], other["greedy"]) == (1, 0)
    assert other["logprob"] < told["logprob"] <= 0


@pytest.mark.parametrize("context", [256, 512, 2048])
def test_a_text_longer_than_the_context_is_scored_in_windows_each_token_once(bench: Bench, context: int) -> None:
    text = bytes(33 + i * 7 % 90 for i in range(900))
    (told,) = scores(bench, text, context=context)
    (whole,) = scores(bench, text, context=1024)
    assert told["n"] == whole["n"]
    assert told["logprob"] == pytest.approx(whole["logprob"], rel=0.02)
    if context > 1024:
        assert told["logprob"] == pytest.approx(whole["logprob"], rel=1e-6)


def test_batches_do_not_change_a_score(bench: Bench) -> None:
    text = bytes(33 + i * 7 % 90 for i in range(700))
    (whole,) = scores(bench, text, context=1024)
    file = bench.text(text)
    (parts,) = only(bench.events("score", "--text-file", file, "--batch", "100", context=1024), "score.end")
    assert parts["logprob"] == pytest.approx(whole["logprob"], rel=1e-4)


def test_a_text_without_a_token_to_score_is_refused(bench: Bench) -> None:
    empty = bench.error("score", "--text-file", bench.text(b"<s>"))
    assert empty["kind"] == "input"
    two = [word for text in (b"a", b"b", b"c") for word in ("--text-file", bench.text(text))]
    assert "more than one continuation" in bench.error("score", *two)["message"]


# ---------------------------------------------------------------------------------------------------- cold and warm


def test_a_warm_model_lies_in_memory_before_it_is_loaded(bench: Bench) -> None:
    told = mark(bench.fixed(4, 4), "page_cache")
    assert told["bytes"] == told["resident_bytes"] == (bench.models / "tiny.gguf").stat().st_size


def test_a_cold_model_does_not(bench: Bench, cold_folder: Path) -> None:
    copy = cold_folder / "tiny.gguf"
    copy.write_bytes((bench.models / "tiny.gguf").read_bytes())
    told = mark(bench.fixed(4, 4, "--cold", "1", model=str(copy)), "page_cache")
    assert told["resident_bytes"] < told["bytes"] / 20
    told = mark(bench.fixed(4, 4, model=str(copy)), "page_cache")
    assert told["resident_bytes"] == told["bytes"]


@pytest.fixture
def cold_folder(tmp_path: Path) -> Path:
    """A folder whose file system has a disk below it: what lies in memory alone cannot be cold."""
    for line in (tmp_path / "/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split(" ")
        if kind == "tmpfs" and tmp_path.is_relative_to(place) and place != "/":
            pytest.skip(f"a cold load is NOT tested: {place} lies in memory")
    return tmp_path
