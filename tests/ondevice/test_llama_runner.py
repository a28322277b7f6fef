"""The llama.cpp runner, built here and driven over real small models: its events, its tokens, its refusals."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from melt import native
from melt.errors import MeltError

tiny_llama = pytest.importorskip("tiny_llama", reason="the llama.cpp runner is NOT tested: the gguf package is missing")

pytestmark = pytest.mark.peer

SOURCES = Path(native.__file__).parents[1] / "ondevice" / "llama_runner"
MANY_CORES = 2
STEP = ["step.begin", "prefill.begin", "prefill.end"]
TEXT_STEP = ["step.begin", "tokenize.begin", "tokenize.end", "prefill.begin", "prefill.end"]

Event = dict[str, Any]


def cpu_flags() -> frozenset[str]:
    words = re.findall(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return frozenset.intersection(*(frozenset(line.split()) for line in words))


def built(level: native.Level) -> Path:
    try:
        return native.build_llama_runner(level)
    except MeltError as error:
        pytest.skip(f"the runner for {level.name} is NOT tested: {error}")


@pytest.fixture(scope="session")
def program() -> Path:
    """The runner as it is delivered to this computer; the first time it takes minutes to compile."""
    try:
        level = native.choose_level(native.host_machine(), cpu_flags())
    except MeltError as error:
        pytest.skip(f"the runner is NOT tested: {error}")
    return built(level)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, each named after what it is for."""
    folder = tmp_path_factory.mktemp("models")
    shape = tiny_llama.Shape
    whole = tiny_llama.write(folder / "tiny.gguf").read_bytes()
    tiny_llama.write(folder / "alien.gguf", shape(architecture="martian"))
    tiny_llama.write(folder / "ends.gguf", shape(favours=tiny_llama.END))
    tiny_llama.write(folder / "letters.gguf", shape(letters=True))
    tiny_llama.write(folder / "merges.gguf", shape(merges=True))
    tiny_llama.write(folder / "closes.gguf", shape(ends=True))
    tiny_llama.write(folder / "slow.gguf", shape(layers=3, embedding=1024, feed_forward=4096, heads=8, kv_heads=8))
    for length in (0, 3, 10, 2000, 10000, len(whole) // 2, len(whole) - 1):
        (folder / f"first-{length}.gguf").write_bytes(whole[:length])
    (folder / "text.gguf").write_bytes(b"This is no model.\n" * 100)
    return folder


@dataclass(frozen=True)
class Bench:
    """The program and the models, with a fresh folder for what a run leaves."""

    program: Path
    models: Path
    folder: Path
    before: tuple[str, ...] = ()

    @property
    def events_file(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def text(self, data: bytes) -> Path:
        path = self.folder / f"text-{len(list(self.folder.iterdir()))}"
        path.write_bytes(data)
        return path

    def argv(self, mode: str, *more: object, model: str = "tiny.gguf", context: int = 256) -> list[str]:
        fixed = ["--model", self.models / model, "--events", self.events_file, "--output", self.output]
        words = [*self.before, self.program, *fixed, "--mode", mode, "--context", context, *more]
        return [str(word) for word in words]

    def run(self, mode: str, *more: object, **how: Any) -> subprocess.CompletedProcess[bytes]:
        self.events_file.unlink(missing_ok=True)
        return subprocess.run(self.argv(mode, *more, **how), capture_output=True, timeout=300, check=False)

    def events(self, mode: str, *more: object, **how: Any) -> list[Event]:
        """The events of a run that must succeed and have nothing to say on stderr."""
        done = self.run(mode, *more, **how)
        assert (done.returncode, done.stderr) == (0, b"")
        events = whole_events(self.events_file)
        stamps = [e["t"] for e in events]
        assert stamps == sorted(stamps)
        return events

    def fixed(self, prompt: int, generate: int, *more: object, **how: Any) -> list[Event]:
        return self.events("fixed", "--prompt-tokens", prompt, "--generate-tokens", generate, *more, **how)

    def error(self, mode: str, *more: object, **how: Any) -> Event:
        """The last event of a run that must fail."""
        done = self.run(mode, *more, **how)
        last = whole_events(self.events_file)[-1]
        assert (done.returncode, last["ev"]) == (3, "error")
        assert done.stderr.startswith(last["kind"].encode())
        return last

    def tokens(self) -> list[list[int]]:
        return [[int(word) for word in line.split(" ")] for line in self.output.read_text().splitlines()]

    def generated(self, *more: object, prompt: int = 20, generate: int = 24) -> list[int]:
        """The one line that a fixed run leaves."""
        self.fixed(prompt, generate, *more)
        (line,) = self.tokens()
        return line


@pytest.fixture
def bench(program: Path, models: Path, tmp_path: Path) -> Bench:
    return Bench(program, models, tmp_path)


def whole_events(file: Path) -> list[Event]:
    data = file.read_bytes()
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def words(events: list[Event]) -> list[str]:
    return [e.get("name", e["ev"]) for e in events]


def mark(events: list[Event], name: str) -> Event:
    (found,) = (e for e in events if e["ev"] == "mark" and e["name"] == name)
    return found


def window(events: list[Event], begin: str, end: str) -> list[Event]:
    names = words(events)
    return events[names.index(begin) + 1 : names.index(end)]


def only(events: list[Event], name: str) -> list[Event]:
    return [e for e in events if e["ev"] == name]


# ------------------------------------------------------------------------------------------------------ fixed counts


def test_a_fixed_run_tells_its_events_in_order(bench: Bench) -> None:
    events = bench.fixed(20, 3, "--warmup-n", "1", "--min-n", "4")
    step = [*STEP, *["token"] * 3, "step.end"]
    assert words(events) == [
        "page_cache", "load.begin", "load.model", "load.end", "engine", "warmup.begin", *step, "measure.begin",
        *step, *step, "measure.end", "memory", "done",
    ]  # fmt: skip
    assert [e["i"] for e in only(events, "step.begin")] == [e["i"] for e in only(events, "step.end")] == [0, 1, 2]
    assert [e["i"] for e in only(events, "token")] == [0, 1, 2] * 3
    assert [(e["n"], e["cached"]) for e in only(events, "prefill.begin")] == [(20, 0)] * 3
    assert [(e["n"], e["stop"]) for e in only(events, "step.end")] == [(3, "length")] * 3


@pytest.mark.parametrize(("prompt", "generate"), [(1, 1), (1, 40), (40, 1), (256, 1), (17, 240)])
def test_counts_are_exact_up_to_the_last_place_of_the_context(bench: Bench, prompt: int, generate: int) -> None:
    events = bench.fixed(prompt, generate)
    assert [e["n"] for e in only(events, "prefill.begin")] == [prompt]
    assert [e["i"] for e in only(events, "token")] == list(range(generate))
    assert [len(line) for line in bench.tokens()] == [generate]


def test_the_end_of_generation_is_ignored_where_counts_are_fixed(bench: Bench) -> None:
    events = bench.fixed(5, 12, model="ends.gguf")
    assert bench.tokens() == [[tiny_llama.END] * 12]
    assert only(events, "step.end")[0]["stop"] == "length"


@pytest.mark.parametrize("least", [1, 8, 9, 30])
def test_steps_go_on_until_they_have_generated_what_was_asked(bench: Bench, least: int) -> None:
    events = bench.fixed(4, 8, "--min-n", least)
    assert len(only(window(events, "measure.begin", "measure.end"), "token")) == -(-least // 8) * 8


def test_a_window_ends_with_the_first_step_that_satisfies_both_rules(bench: Bench) -> None:
    events = bench.fixed(4, 4, "--warmup-s", "0.2", "--min-s", "0.30", "--min-n", "3")
    for begin, end, seconds in (("warmup.begin", "measure.begin", 0.2), ("measure.begin", "measure.end", 0.3)):
        ends = [e["t"] for e in only(window(events, begin, end), "step.end")]
        started = mark(events, begin)["t"]
        assert ends[-2] - started <= seconds * 1e9
        assert mark(events, end)["t"] - started >= seconds * 1e9


def test_a_prompt_larger_than_a_batch_tells_each_batch(bench: Bench) -> None:
    events = bench.fixed(100, 2, "--batch", "32", "--ubatch", "16")
    (begin,), (end,) = only(events, "prefill.begin"), only(events, "prefill.end")
    assert len(end["batch_ns"]) == 4
    assert sum(end["batch_ns"]) == end["t"] - begin["t"]


def test_sampling_and_the_context_are_told_apart_from_evaluating(bench: Bench) -> None:
    (end,) = only(bench.fixed(20, 50), "step.end")
    tokens = [e["t"] for e in only(whole_events(bench.events_file), "token")]
    assert 0 < end["sample_ns"] < tokens[-1] - tokens[0]
    assert 0 < end["kv_ns"] < 1_000_000_000


# ------------------------------------------------------------------------------------------------ the same tokens


def test_greedy_runs_generate_the_same_tokens(bench: Bench) -> None:
    first = bench.generated()
    assert len(first) == 24
    assert len(set(first)) > 4, "a model that repeats itself would show nothing"
    assert bench.generated("--min-n", "100") == first, "one line: every step is equal"
    for threads, batch in ((2, 2), (1, 2), (2, 1)):
        assert bench.generated("--threads", threads, "--threads-batch", batch) == first
    assert bench.generated("--mmap", "0") == first


def test_a_seed_is_a_prompt(bench: Bench) -> None:
    seen = {tuple(bench.generated("--seed", seed)) for seed in (1, 2, 3, 1)}
    assert len(seen) == 3


def test_a_seed_is_a_way_to_draw_too(bench: Bench) -> None:
    text = bench.text(b"the rain")
    drawn = []
    for temperature, seed in ((2, 1), (2, 1), (2, 2), (0, 1), (0, 2)):
        how = ["--text-file", text, "--generate-tokens", 30, "--temperature", temperature, "--seed", seed]
        bench.events("prompt", *how)
        drawn += bench.tokens()
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert drawn[3] == drawn[4]
    assert drawn[3] not in drawn[:3]


# ------------------------------------------------------------------------------------------------------- the engine


def test_the_engine_mark_says_what_is_used(bench: Bench) -> None:
    flags = ["--threads", 1, "--threads-batch", 2, "--batch", 64, "--ubatch", 32, "--kv-k", "q8_0", "--gpu-layers", 9]
    told = mark(bench.fixed(4, 4, *flags, context=300), "engine")
    source = native.llama_source()
    wanted = {
        "llama_commit": source.commit, "n_ctx": 512, "n_ctx_train": 2048, "n_batch": 64, "n_ubatch": 32, "threads": 1,
        "threads_batch": 2, "kv_k": "q8_0", "kv_v": "f16", "flash_attn": "on", "mmap": 1, "mlock": 0, "gpu_layers": 0,
        "n_layer": 2, "n_vocab": tiny_llama.N_VOCAB, "mode": "fixed",
    }  # fmt: skip
    assert {key: told[key] for key in wanted} == wanted
    assert re.fullmatch(r"[0-9a-f]{40}", told["llama_commit"])
    assert told["n_params"] * 4 == told["model_bytes"]
    cells = 2 * 512 * 64  # layers, places, width of the 2 heads
    assert told["kv_bytes"] == cells * 34 // 32 + cells * 2, "8-bit keys in blocks of 32, 16-bit values"
    assert told["level"] in told["system"] or "=" in told["system"]


@pytest.mark.parametrize(
    ("asked", "kv", "used"), [("auto", "f16", "on"), ("on", "f16", "on"), ("off", "f16", "off"), ("auto", "q4_0", "on")]
)
def test_whether_attention_is_fused_is_told(bench: Bench, asked: str, kv: str, used: str) -> None:
    told = mark(bench.fixed(4, 4, "--flash-attn", asked, "--kv-v", kv), "engine")
    assert (told["flash_attn"], told["kv_v"]) == (used, kv)


def test_what_is_asked_and_not_done_is_not_told_as_done(bench: Bench) -> None:
    told = mark(bench.fixed(4, 4, "--mmap", 0, "--mlock", 1, "--flash-attn", "off", "--batch", 4096), "engine")
    assert (told["mmap"], told["mmap_bytes"], told["flash_attn"], told["n_batch"]) == (0, 0, "off", 256)
    assert told["mlock"] == (told["mlock_bytes"] > 0)


def test_memory_is_told_in_kilobytes(bench: Bench) -> None:
    told = mark(bench.fixed(4, 4, "--mmap", 0), "memory")
    weights_kb = (bench.models / "tiny.gguf").stat().st_size // 1024
    assert told["vm_hwm_kb"] >= told["rss_anon_kb"] > weights_kb


def test_it_tells_what_it_is_made_of_before_a_start(bench: Bench) -> None:
    done = subprocess.run([bench.program, "--try"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"llama.cpp {native.llama_source().commit} for ")
    assert "CPU : " in done.stdout


def test_it_is_small_and_needs_nothing_and_names_no_folder_of_this_computer(bench: Bench) -> None:
    data = bench.program.read_bytes()
    assert len(data) <= 6_000_000
    assert b"ld-linux" not in data[:4096], "static"
    assert str(native.llama_source().path).encode() not in data


def test_a_stamp_costs_less_than_five_microseconds(bench: Bench) -> None:
    done = subprocess.run([bench.program, "--stamp-cost"], capture_output=True, text=True, timeout=60, check=True)
    cost = json.loads(done.stdout)
    assert 0 < cost["stamp_ns"] < 5000
    assert 0 < cost["token_event_ns"] < 5000


# ------------------------------------------------------------------------------------------- prompts, conversations


def test_a_prompt_is_tokenised_with_the_beginning_that_the_model_wants(bench: Bench) -> None:
    events = bench.events("prompt", "--text-file", bench.text(b"the rain"), "--generate-tokens", 5)
    assert words(window(events, "measure.begin", "measure.end")) == [*TEXT_STEP, *["token"] * 5, "step.end"]
    n = only(events, "tokenize.end")[0]["n"]
    assert n == only(events, "prefill.begin")[0]["n"] == 1 + len("the rain")
    # a chat template that writes the beginning itself must not double it
    again = bench.events("prompt", "--text-file", bench.text(b"<s>the rain"), "--generate-tokens", 5)
    assert only(again, "tokenize.end")[0]["n"] == n


@pytest.mark.parametrize(
    "text",
    [b"a\0b\x01\x7f\x1b[2J", b"\xff\xfe\xc3(\xed\xa0\x80", b"\n", "漢字 😀".encode()],
    ids=["control", "invalid", "end", "wide"],
)
def test_odd_texts_are_texts(bench: Bench, text: bytes) -> None:
    events = bench.events("prompt", "--text-file", bench.text(text), "--generate-tokens", 2)
    assert only(events, "tokenize.end")[0]["n"] >= 2
    assert only(events, "step.end")[0]["n"] == 2


def test_the_end_of_generation_ends_a_turn_and_is_counted(bench: Bench) -> None:
    events = bench.events("prompt", "--text-file", bench.text(b"x"), "--generate-tokens", 9, model="ends.gguf")
    assert [(e["n"], e["stop"]) for e in only(events, "step.end")] == [(1, "eog")]
    assert bench.tokens() == [[tiny_llama.END]]


def test_a_full_context_ends_a_turn(bench: Bench) -> None:
    events = bench.events("prompt", "--text-file", bench.text(b"x" * 249), "--generate-tokens", 50)
    # 250 places are taken by the prompt, six tokens more are evaluated, and the last evaluation gives one more
    assert [(e["n"], e["stop"]) for e in only(events, "step.end")] == [(7, "context")]


def test_turns_share_the_context(bench: Bench) -> None:
    turns = [b"the rain", b" in spain", b" stays"]
    files = [word for turn in turns for word in ("--text-file", bench.text(turn))]
    events = bench.events("conversation", *files, "--generate-tokens", 4, "--warmup-n", 2)
    assert [e["turn"] for e in only(events, "step.begin")] == [0, 0, 0, 1, 2]
    measured = only(window(events, "measure.begin", "measure.end"), "prefill.begin")
    # the last token of a turn is evaluated with the next one's text
    assert [(e["n"], e["cached"]) for e in measured] == [(9, 0), (10, 12), (7, 25)]
    assert [len(line) for line in bench.tokens()] == [4, 4, 4]


def test_a_fresh_turn_begins_another_conversation(bench: Bench) -> None:
    files = ["--text-file", bench.text(b"the rain"), "--text-file", bench.text(b" in spain")]
    files += ["--fresh-text-file", bench.text(b"the rain"), "--text-file", bench.text(b" in spain")]
    events = bench.events("conversation", *files, "--generate-tokens", 4)
    assert [e["cached"] for e in only(events, "prefill.begin")] == [0, 12, 0, 12]
    lines = bench.tokens()
    assert lines[:2] == lines[2:]


def test_each_prompt_has_an_empty_context(bench: Bench) -> None:
    files = [word for text in (b"the rain", b"in spain") for word in ("--text-file", bench.text(text))]
    events = bench.events("prompt", *files, "--generate-tokens", 4)
    assert [e["cached"] for e in only(events, "prefill.begin")] == [0, 0]
    together = bench.tokens()
    bench.events("prompt", *files[2:], "--generate-tokens", 4)
    assert bench.tokens() == together[1:]


def test_a_turn_continues_what_was_said(bench: Bench) -> None:
    """Two turns give what one prompt of the same tokens gives: the first text, its answer, the second text."""
    first, second = "the rain", " in spain"
    how = ["--generate-tokens", 6]
    files = [word for text in (first, second) for word in ("--text-file", bench.text(text.encode()))]
    bench.events("conversation", *files, *how, model="letters.gguf")
    answer, wanted = bench.tokens()
    said = "".join(tiny_llama.LETTERS[token - tiny_llama.FIRST_LETTER] for token in answer).replace("▁", " ")
    assert len(set(said + "".join(map(str, wanted)))) > 3, "a model that repeats itself would show nothing"
    for text, same in ((first + said + second, True), (first + second, False)):
        bench.events("prompt", "--text-file", bench.text(text.encode()), *how, model="letters.gguf")
        assert (bench.tokens() == [wanted]) == same, "what was said before must matter, and all of it"


def test_an_end_that_the_next_turn_begins_with_is_not_evaluated_twice(bench: Bench) -> None:
    files = ["--text-file", bench.text(b"x"), "--text-file", bench.text(b"</s>y")]
    events = bench.events("conversation", *files, "--generate-tokens", 4, model="ends.gguf")
    assert [(e["n"], e["cached"]) for e in only(events, "prefill.begin")] == [(2, 0), (2, 2)]


# ------------------------------------------------------------------------------------------------------------ bench


def test_bench_times_a_prompt_and_single_tokens_and_samples_nothing(bench: Bench) -> None:
    events = bench.events("bench", "--prompt-tokens", 64, "--generate-tokens", 8, "--warmup-n", 1, "--min-n", 16)
    step = ["step.begin", "bench.pp.begin", "bench.pp.end", "bench.tg.begin", "bench.tg.end", "step.end"]
    assert words(window(events, "measure.begin", "measure.end")) == step * 2
    assert {e["n"] for e in only(events, "bench.pp.begin")} == {64}
    assert {e["n"] for e in only(events, "bench.tg.begin")} == {8}
    assert bench.output.read_bytes() == b""


@pytest.mark.parametrize(("prompt", "generate", "kind"), [(64, 0, "pp"), (0, 8, "tg")])
def test_bench_can_time_one_of_them(bench: Bench, prompt: int, generate: int, kind: str) -> None:
    events = bench.events("bench", "--prompt-tokens", prompt, "--generate-tokens", generate)
    step = ["step.begin", f"bench.{kind}.begin", f"bench.{kind}.end", "step.end"]
    assert words(window(events, "measure.begin", "measure.end")) == step


# --------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("model", "words_"),
    [
        ("text.gguf", "invalid magic"),
        ("first-0.gguf", "load"),
        ("first-3.gguf", "load"),
        ("first-10.gguf", "load"),
        ("first-2000.gguf", "failed to read"),
        ("first-10000.gguf", "load"),
        ("alien.gguf", "unknown model architecture: 'martian'"),
        ("missing.gguf", "No such file"),
    ],
)
def test_what_is_no_model_is_refused_by_name(bench: Bench, model: str, words_: str) -> None:
    last = bench.error("fixed", "--prompt-tokens", 4, "--generate-tokens", 4, model=model)
    assert last["kind"] == "model"
    assert words_ in last["message"]


def test_a_model_that_lacks_its_last_byte_is_refused(bench: Bench) -> None:
    for path in sorted(bench.models.glob("first-*.gguf"), key=lambda path: path.stat().st_size)[-2:]:
        last = bench.error("fixed", "--prompt-tokens", 4, "--generate-tokens", 4, model=path.name)
        assert last["kind"] == "model"
        assert "corrupted or incomplete" in last["message"]


def test_a_prompt_longer_than_the_context_is_refused(bench: Bench) -> None:
    last = bench.error("fixed", "--prompt-tokens", 250, "--generate-tokens", 8)
    assert (last["kind"], "250 prompt and 8 generated" in last["message"]) == ("context", True)
    long = bench.text(b"word " * 100_000)
    last = bench.error("prompt", "--text-file", long, "--generate-tokens", 1)
    assert (last["kind"], "500001 tokens where 256 are left" in last["message"]) == ("context", True)


def test_a_conversation_that_outgrows_the_context_keeps_the_turns_so_far(bench: Bench) -> None:
    files = [word for _ in range(4) for word in ("--text-file", bench.text(b"x" * 80))]
    last = bench.error("conversation", *files, "--generate-tokens", 4)
    assert last["kind"] == "context"
    assert len(only(whole_events(bench.events_file), "step.end")) == 3
    assert len(bench.tokens()) == 3


def test_a_context_larger_than_the_memory_is_refused_before_it_is_made(bench: Bench) -> None:
    how = ["--prompt-tokens", 4, "--generate-tokens", 4, "--kv-k", "f32", "--kv-v", "f32", "--flash-attn", "off"]
    last = bench.error("fixed", *how, model="slow.gguf", context=1 << 24)
    assert last["kind"] == "memory"
    assert "a context of 16777216 tokens takes" in last["message"]


def test_what_the_library_cannot_do_is_a_gap(bench: Bench) -> None:
    how = ["--prompt-tokens", 4, "--generate-tokens", 4, "--kv-v", "q4_0", "--flash-attn", "off"]
    last = bench.error("fixed", *how)
    assert (last["kind"], "flash_attn" in last["message"]) == ("unsupported", True)


def test_a_text_that_cannot_be_read_is_refused_before_the_model_is_loaded(bench: Bench) -> None:
    for path, words_ in (
        (bench.text(b""), "is empty"),
        (bench.folder / "none", "No such file"),
        (bench.folder, "read"),
    ):
        last = bench.error("prompt", "--text-file", path, "--generate-tokens", 4)
        assert (last["kind"], words_ in last["message"]) == ("input", True)
        assert "load.begin" not in words(whole_events(bench.events_file))


@pytest.mark.parametrize(
    "wrong",
    [
        ["--prompt-tokens", "0"], ["--generate-tokens", "0"], ["--generate-tokens", "-1"], ["--threads", "0"],
        ["--seed", "1e3"], ["--seed", "4294967295"], ["--context", "0"], ["--context", "16777217"], ["--kv-k", "q6_k"],
        ["--flash-attn", "maybe"], ["--mode", "score"], ["--mmap", "2"], ["--temperature", "-1"],
        ["--temperature", "nan"], ["--min-n", "0"], ["--warmup-s", "1e9"], ["--text-file", "x"], ["--what", "1"],
        ["--seed"], ["--events", "/nowhere/at/all"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_arguments_are_told_in_a_line_and_leave_nothing(bench: Bench, wrong: list[str]) -> None:
    done = bench.run("fixed", "--prompt-tokens", "4", "--generate-tokens", "4", *wrong)
    assert (done.returncode, done.stdout) == (2, b"")
    assert re.fullmatch(rb"llama_runner: [^\n]+\n", done.stderr)
    assert not bench.events_file.exists()


def test_modes_want_what_they_need(bench: Bench) -> None:
    text = bench.text(b"x")
    for mode, *more in (
        ("prompt", "--generate-tokens", "4"),
        ("prompt", "--text-file", text),
        ("prompt", "--text-file", text, "--prompt-tokens", "4", "--generate-tokens", "4"),
        ("conversation", "--generate-tokens", "4"),
        ("bench",),
        ("score",),
        ("score", "--text-file", text, "--generate-tokens", "4"),
    ):
        assert bench.run(mode, *more).returncode == 2


def test_an_output_that_cannot_be_written_is_said_and_nothing_more(bench: Bench) -> None:
    bench.output.mkdir()
    assert "unknown" in mark(bench.fixed(4, 4), "outputs")


# ------------------------------------------------------------------------------------------------------------ dying


def started(bench: Bench) -> subprocess.Popen[bytes]:
    """A long answer of a slow model; returned when some of its tokens have been told."""
    how = ["--prompt-tokens", 8, "--generate-tokens", 4000]
    process = subprocess.Popen(bench.argv("fixed", *how, model="slow.gguf", context=4096))
    try:
        give_up = time.monotonic() + 120
        while not bench.events_file.exists() or b'"token"' not in bench.events_file.read_bytes():
            assert process.poll() is None
            assert time.monotonic() < give_up, "no token was told"
            time.sleep(0.01)
        time.sleep(1)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_is_killed_keeps_the_tokens_so_far(bench: Bench, number: signal.Signals) -> None:
    process = started(bench)
    killed = time.monotonic_ns()
    process.send_signal(number)
    assert process.wait(timeout=60) == -number
    events = whole_events(bench.events_file)
    tokens = only(events, "token")
    assert [e["i"] for e in tokens] == list(range(len(tokens)))
    assert words(events)[-len(tokens) - 3 : -len(tokens)] == STEP
    per_token = (tokens[-1]["t"] - tokens[0]["t"]) / (len(tokens) - 1)
    if per_token < 5e6:
        pytest.skip(f"tokens of {per_token / 1e6:.1f} ms are NOT told before the step ends: this computer is too fast")
    # a tenth of a second may be held back, and some tokens more on a busy computer
    assert killed - tokens[-1]["t"] < 0.1e9 + 10 * per_token + 0.5e9


# ------------------------------------------------------------------------------------------------- other processors


def test_another_processor_generates_the_same_tokens(bench: Bench) -> None:
    if native.host_machine() != "x86_64":
        pytest.skip("the runner for aarch64 is NOT compared: this computer is no x86_64 one")
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("the runner for aarch64 is NOT tested: there is no qemu-aarch64")
    wanted = bench.generated()
    other = built(native.levels("aarch64")[0])
    emulated = Bench(other, bench.models, bench.folder, (qemu, "-cpu", "cortex-a72"))
    assert emulated.generated() == wanted
    assert emulated.generated("--threads", "2") == wanted
    told = mark(whole_events(bench.events_file), "engine")
    assert (told["level"], "NEON = 1" in told["system"], "DOTPROD" in told["system"]) == ("armv8-a", True, False)


# ---------------------------------------------------------------------------------------------------------- sources


def test_the_sources_compile_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("warnings are NOT looked for: there is no g++")
    source = native.llama_source()
    argv = ["g++", "-std=c++17", "-fsyntax-only", "-O2", "-Wall", "-Wextra", "-Werror", '-DMELT_LEVEL="x"']
    argv += [f"-isystem{source.path / folder}" for folder in ("include", "ggml/include", "src")]
    done = subprocess.run(
        [*argv, SOURCES / "llama_runner.cpp"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
